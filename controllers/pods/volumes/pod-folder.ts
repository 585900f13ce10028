/**
 * The files of a pod on its node: one folder for each pod, `<home>/pods/<uid>`, with its volumes, its `resolv.conf` and what its containers leave as they end. Also finds what
 * is left of pods that are gone. Used by the agent's operations.
 */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { PodIdentity } from '../labels.ts';

const run = promisify(execFile);

export class PodFolders {
  readonly #root: string;

  constructor(home: string) {
    this.#root = join(home, 'pods');
  }

  of(uid: string): string {
    return join(this.#root, uid);
  }

  volume(uid: string, name: string): string {
    return join(this.of(uid), 'volumes', name);
  }

  /** Where a container finds its name servers. */
  resolverFile(uid: string): string {
    return join(this.of(uid), 'resolv.conf');
  }

  terminationFile(uid: string, container: string, attempt: number): string {
    return join(this.of(uid), 'containers', container, `${attempt}.termination`);
  }

  /** Makes the folder, and notes in it whose it is. */
  async ensure(pod: PodIdentity): Promise<void> {
    await mkdir(this.of(pod.uid), { recursive: true, mode: 0o711 });
    await writeFile(join(this.of(pod.uid), 'pod.json'), JSON.stringify(pod));
  }

  /** Every pod that has a folder here. */
  async list(): Promise<readonly PodIdentity[]> {
    const found: PodIdentity[] = [];
    for (const uid of await readdir(this.#root).catch(() => [])) {
      try {
        found.push(JSON.parse(await readFile(join(this.#root, uid, 'pod.json'), 'utf8')) as PodIdentity);
      } catch {
        // Left by a start that was cut off before anything ran in it.
        await this.remove(uid);
      }
    }
    return found;
  }

  /** Removes the folder; what is mounted in it is let go first, never emptied. */
  async remove(uid: string): Promise<void> {
    const folder = this.of(uid);
    const mounts = await readFile('/proc/self/mounts', 'utf8').catch(() => '');
    for (const line of mounts.split('\n')) {
      const target = (line.split(' ')[1] ?? '').replaceAll('\\040', ' ');
      if (target.startsWith(`${folder}/`)) await run('umount', [target]);
    }
    await rm(folder, { recursive: true, force: true });
  }

  /** Memory that shows as a folder; mounted once. */
  async mountMemory(uid: string, name: string, sizeBytes: number | undefined): Promise<void> {
    const target = this.volume(uid, name);
    const mounts = await readFile('/proc/self/mounts', 'utf8').catch(() => '');
    if (mounts.includes(` ${target} tmpfs `)) return;
    await run('mount', [
      '-t',
      'tmpfs',
      '-o',
      `mode=0777${sizeBytes === undefined ? '' : `,size=${sizeBytes}`}`,
      'tmpfs',
      target,
    ]);
  }
}
