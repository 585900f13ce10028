/**
 * A Docker engine of a test's own, beside the machine's: with its own data, socket and containerd, so that it can be killed and started again without anybody else noticing. Its containers outlive
 * it (`--live-restore`), unless it is told otherwise.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
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
  /** As it was told at first, unless told otherwise now: whether its containers outlive it. */
  start(options?: { readonly liveRestore: boolean }): Promise<void>;
}

const startLimitMs = 60_000;
const pollMs = 100;

export async function startPrivateEngine(t: Teardown, options: { liveRestore: boolean }): Promise<PrivateEngine> {
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-engine-'));
  const host = `unix://${folder}/docker.sock`;
  const containerd = await startContainerd(folder);
  const flags = [
    ...['--host', host, '--data-root', `${folder}/data`, '--exec-root', `${folder}/exec`],
    // It shares docker0, on which nothing of it runs: with `--bridge none` dockerd would remove that of the machine's engine.
    ...['--pidfile', `${folder}/docker.pid`, '--iptables=false'],
    ...['--containerd', containerd.address],
  ];
  let child: ChildProcess | undefined;
  const start: PrivateEngine['start'] = async ({ liveRestore } = options) => {
    const log = createWriteStream(path.join(folder, 'dockerd.log'), { flags: 'a' });
    const running = spawn('dockerd', liveRestore ? [...flags, '--live-restore'] : flags, {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
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
    await containerd.stop();
    await unmount(folder);
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  await start();
  return { host, kill, start };
}

/** A service of its own, as packages install it: it and the containers outlive a dockerd that is killed outright. */
async function startContainerd(folder: string): Promise<{ address: string; stop(): Promise<void> }> {
  const address = `${folder}/containerd.sock`;
  const configuration = [
    'version = 2',
    `root = '${folder}/containerd'`,
    `state = '${folder}/containerd-state'`,
    "disabled_plugins = ['io.containerd.grpc.v1.cri']",
    '[grpc]',
    `address = '${address}'`,
  ];
  const file = path.join(folder, 'containerd.toml');
  await writeFile(file, configuration.join('\n'));
  const child = spawn('containerd', ['--config', file], { stdio: 'ignore', detached: true });
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  };
  const untilMs = Date.now() + startLimitMs;
  while (!existsSync(address)) {
    if (child.exitCode !== null || Date.now() > untilMs) throw new Error('containerd did not start');
    await sleep(pollMs);
  }
  return { address, stop };
}

async function unmount(folder: string): Promise<void> {
  const mounts = (await readFile('/proc/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '');
  for (const mount of mounts.filter((place) => place.startsWith(`${folder}/`)).toReversed())
    await runCommand('umount', ['-l', mount]);
}
