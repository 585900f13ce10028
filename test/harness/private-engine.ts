/**
 * A Docker engine of a test's own, beside the machine's: with its own data, socket and containerd, so that it can be killed and started again without anybody else noticing. Its containers outlive
 * it (`--live-restore`), unless it is told otherwise.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runCommand } from '../../cli/set-up/command.ts';
import { docker } from './docker-cleaning.ts';
import type { Teardown } from './servers.ts';

export interface PrivateEngine {
  /** As DOCKER_HOST has it. */
  readonly host: string;
  /** As a power switch does; its containers go on where they outlive it. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
}

const startLimitMs = 60_000;
const pollMs = 100;

export async function startPrivateEngine(t: Teardown, options: { liveRestore: boolean }): Promise<PrivateEngine> {
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-engine-'));
  const host = `unix://${folder}/docker.sock`;
  const flags = [
    ...['--host', host, '--data-root', `${folder}/data`, '--exec-root', `${folder}/exec`],
    ...['--pidfile', `${folder}/docker.pid`, '--bridge', 'none', '--iptables=false'],
    ...(options.liveRestore ? ['--live-restore'] : []),
    // Where a containerd of the machine runs, it is shared: under a name of our own.
    ...[
      '--containerd-namespace',
      path.basename(folder),
      '--containerd-plugins-namespace',
      `${path.basename(folder)}-plugins`,
    ],
  ];
  let child: ChildProcess | undefined;
  const start = async (): Promise<void> => {
    const log = createWriteStream(path.join(folder, 'dockerd.log'), { flags: 'a' });
    const running = spawn('dockerd', flags, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    running.stdout.pipe(log, { end: false });
    running.stderr.pipe(log, { end: false });
    child = running;
    const untilMs = Date.now() + startLimitMs;
    for (;;) {
      if ((await docker(host, 'GET', '/version').catch(() => undefined)) !== undefined) return;
      if (running.exitCode !== null || Date.now() > untilMs)
        throw new Error(
          `dockerd did not start: ${(await readFile(path.join(folder, 'dockerd.log'), 'utf8')).slice(-2000)}`,
        );
      await sleep(pollMs);
    }
  };
  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  };
  t.teardown(async () => {
    const left = ((await docker(host, 'GET', '/containers/json?all=1').catch(() => [])) ?? []) as { Id: string }[];
    for (const { Id } of left) await docker(host, 'DELETE', `/containers/${Id}?force=1&v=1`).catch(() => undefined);
    await kill('SIGTERM');
    await endContainerd(folder);
    await unmount(folder);
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  await start();
  return { host, kill, start };
}

/** dockerd killed outright leaves its containerd behind. */
async function endContainerd(folder: string): Promise<void> {
  const pid = Number(await readFile(path.join(folder, 'exec', 'containerd', 'containerd.pid'), 'utf8').catch(() => ''));
  if (!pid) return;
  try {
    process.kill(pid, 'SIGTERM');
  } catch {
    return;
  }
  for (let i = 0; i < 50 && (await readdir(`/proc/${pid}`).catch(() => [])).length > 0; i++) await sleep(pollMs);
}

async function unmount(folder: string): Promise<void> {
  const mounts = (await readFile('/proc/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '');
  for (const mount of mounts.filter((place) => place.startsWith(`${folder}/`)).toReversed())
    await runCommand('umount', ['-l', mount]);
}
