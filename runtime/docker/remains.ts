/**
 * Processes of a container that its engine has lost sight of: they are found where the kernel keeps them, in the container's control group, which is gone once a container has properly ended. Used by
 * docker-runtime.ts.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

const CGROUPS = '/sys/fs/cgroup';
/** Where Docker puts a container's group, below the root of each hierarchy: without systemd, and with it. */
const placesOf = (id: string): readonly string[] => [`docker/${id}`, `system.slice/docker-${id}.scope`];

export async function killRemains(id: string): Promise<number> {
  const pids = await processesOf(id);
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      // One that has just ended is what was wanted.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
  return pids.size;
}

async function processesOf(id: string): Promise<ReadonlySet<number>> {
  // One hierarchy for all (version 2), or one for each controller (version 1), of which `pids` and `cpu` hold every process too.
  const roots = [CGROUPS, ...(await hierarchies())];
  const lists = roots.flatMap((root) => placesOf(id).map((place) => path.join(root, place, 'cgroup.procs')));
  const texts = await Promise.all(lists.map((file) => readFile(file, 'utf8').catch(() => '')));
  return new Set(texts.flatMap((text) => text.split('\n').filter(Boolean).map(Number)));
}

async function hierarchies(): Promise<readonly string[]> {
  const entries = await readdir(CGROUPS, { withFileTypes: true }).catch(() => []);
  const names = new Set(entries.filter((entry) => entry.isDirectory()).map(({ name }) => name));
  return ['pids', 'cpu', 'memory', 'systemd'].filter((name) => names.has(name)).map((name) => path.join(CGROUPS, name));
}
