/**
 * The supervisor of containers beneath dockerd, as a process of its own: a dockerd that starts its own takes it along when it is killed outright, and then loses sight of containers that still
 * run. Called by `docker-engine.ts` where no init starts services; packages of Docker do the same by systemd.
 */
import { spawn } from 'node:child_process';
import { mkdir, open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram, runCommand } from './command.ts';
import { SetUpError } from './requirement.ts';

export const containerdAddress = '/run/containerd/containerd.sock';
const logFile = '/var/log/reckon-containerd.log';
const startLimitMs = 30_000;
const pollMs = 200;

/** Starts one unless one answers at the usual place. */
export async function ensureContainerd(prefix: readonly string[]): Promise<void> {
  if (await answers(prefix)) return;
  if ((await findProgram('containerd')) === undefined)
    throw new SetUpError('dockerd is there, but containerd, which it runs containers with, is not: install it.');
  await startDetached([...prefix, 'containerd'], logFile);
  const untilMs = Date.now() + startLimitMs;
  while (!(await answers(prefix))) {
    if (Date.now() > untilMs)
      throw new SetUpError(
        `containerd was started but does not answer at ${containerdAddress}; its log is ${logFile}.`,
      );
    await sleep(pollMs);
  }
}

/** A socket that a dead one left behind does not answer. */
async function answers(prefix: readonly string[]): Promise<boolean> {
  const [command = '', ...args] = [
    ...prefix,
    'ctr',
    '--address',
    containerdAddress,
    '--connect-timeout',
    '2s',
    'version',
  ];
  return (await runCommand(command, args)).code === 0;
}

/** A process that outlives this one, with what it says in a file where that can be written. */
export async function startDetached(words: readonly string[], log: string): Promise<void> {
  await mkdir(path.dirname(log), { recursive: true }).catch(() => undefined);
  const file = await open(log, 'a').catch(() => undefined);
  const [command = '', ...args] = words;
  const child = spawn(command, args, {
    detached: true,
    stdio: ['ignore', file?.fd ?? 'ignore', file?.fd ?? 'ignore'],
    cwd: '/',
  });
  child.on('error', () => undefined);
  child.unref();
  await file?.close();
}
