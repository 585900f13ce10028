/**
 * A nats-server of one's own: on a free port, with a store folder of its own and synchronous persistence, that a test may kill, pause and start again. Also used by
 * bench/event-log.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { natsServer } from '../../cli/set-up/nats-server.ts';
import { cacheFolder } from '../../cli/set-up/set-up.ts';
import { pauseProcess } from '../harness/pausing.ts';

export interface NatsChild {
  readonly url: string;
  readonly port: number;
  readonly folder: string;
  start(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGTERM. */
  stop(): Promise<void>;
  /** SIGSTOP; resolves when it stands. */
  pause(): Promise<void>;
  resume(): void;
  /** Kills it and removes its data. */
  remove(): Promise<void>;
}

const READY_TIMEOUT_MS = 20_000;

export async function startNatsChild(configuration: object = {}): Promise<NatsChild> {
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-event-log-'));
  const port = await freePort();
  const program = await findNatsServer();
  const file = path.join(folder, 'nats-server.conf');
  await writeFile(
    file,
    JSON.stringify({
      listen: `127.0.0.1:${port}`,
      max_payload: 8 * 1024 * 1024,
      jetstream: { store_dir: path.join(folder, 'jetstream'), sync_interval: 'always' },
      ...configuration,
    }),
  );
  let child: ChildProcess | undefined;
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    // A paused process takes a SIGTERM only when it goes on.
    child.kill('SIGCONT');
    await exited;
  };
  const start = async (): Promise<void> => {
    child = spawn(program, ['--config', file], { stdio: 'ignore' });
    await untilListening(port);
  };
  await start();
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    folder,
    start,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    pause: async () => {
      if (child?.pid !== undefined) await pauseProcess(child.pid);
    },
    resume: () => void child?.kill('SIGCONT'),
    remove: async () => {
      await end('SIGKILL');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function findNatsServer(): Promise<string> {
  const context = { cacheFolder: cacheFolder(), say: () => undefined };
  const found = await natsServer.find(context);
  if (found) return found.path;
  await natsServer.install?.(context);
  const brought = await natsServer.find(context);
  if (!brought) throw new Error(natsServer.otherwise);
  return brought.path;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** The server speaks first, and listens only once its streams are recovered. */
async function untilListening(port: number): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    const greeted = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: '127.0.0.1', port });
      socket.once('data', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('close', () => resolve(false));
      setTimeout(() => socket.destroy(), 1_000).unref();
    });
    if (greeted) return;
    if (Date.now() > deadline) throw new Error('nats-server did not start');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
