/** Exec, attach and logs on a Docker engine: the calls whose answer is a stream. Used by docker-runtime.ts. */
import type Docker from 'dockerode';
import { Writable, type Duplex, type Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { RuntimeCallError, type ExecOptions, type LogOptions, type Session } from '../container-runtime.ts';
import { call } from './calls.ts';
import { mergedOutput, splitOutput } from './frames.ts';

/** How often, and for how long, a finished exec is asked for its exit code. */
const EXIT_CODE_POLL_MS = 20;
const EXIT_CODE_POLLS = 100;

export async function openExec(docker: Docker, id: string, options: ExecOptions): Promise<Session> {
  const exec = await call('exec', (abortSignal) =>
    docker.getContainer(id).exec({
      Cmd: [...options.command],
      Tty: options.tty ?? false,
      AttachStdin: options.stdin ?? false,
      AttachStdout: options.stdout ?? true,
      AttachStderr: options.tty === true ? false : (options.stderr ?? true),
      abortSignal,
    }),
  );
  const socket = (await call('exec', () =>
    exec.start({ hijack: true, stdin: true, Tty: options.tty ?? false }),
  )) as Duplex;
  return session(socket, {
    tty: options.tty ?? false,
    stdin: options.stdin ?? false,
    resize: (width, height) => call('exec', (abortSignal) => exec.resize({ h: height, w: width, abortSignal })),
    exitCode: async () => {
      for (let poll = 0; poll < EXIT_CODE_POLLS; poll++) {
        const { Running: running, ExitCode: exitCode } = await call('exec', (abortSignal) =>
          exec.inspect({ abortSignal }),
        );
        if (!running && exitCode !== null) return exitCode;
        await new Promise((resolve) => setTimeout(resolve, EXIT_CODE_POLL_MS * Math.min(poll + 1, 10)));
      }
      throw new RuntimeCallError('failed', 'the command closed its output and runs on');
    },
  });
}

export async function openAttachment(
  docker: Docker,
  id: string,
  options: Omit<ExecOptions, 'command'>,
): Promise<Session> {
  const container = docker.getContainer(id);
  const { Tty: tty, StdinOnce: stdinOnce } = (await call('attach', (abortSignal) => container.inspect({ abortSignal })))
    .Config;
  const socket = (await call('attach', () =>
    container.attach({
      stream: true,
      hijack: true,
      stdin: options.stdin ?? false,
      stdout: options.stdout ?? true,
      stderr: options.stderr ?? true,
    }),
  )) as Duplex;
  // To one that has ended in the meantime the engine attaches too, and waits for its next start; who is attached to one that runs hears how that ends.
  const { State: state } = await call('attach', (abortSignal) => container.inspect({ abortSignal })).catch(
    (error: unknown) => {
      socket.destroy();
      throw error;
    },
  );
  if (!state.Running) {
    socket.destroy();
    throw new RuntimeCallError('conflict', `container ${id} is not running`);
  }
  return session(socket, {
    tty,
    stdin: options.stdin ?? false,
    keepsInputOpen: !stdinOnce,
    resize: (width, height) => call('attach', (abortSignal) => container.resize({ h: height, w: width, abortSignal })),
    exitCode: async () => (await call('attach', (abortSignal) => container.inspect({ abortSignal }))).State.ExitCode,
  });
}

function session(
  socket: Duplex,
  options: {
    readonly tty: boolean;
    readonly stdin: boolean;
    readonly keepsInputOpen?: boolean;
    readonly resize: (width: number, height: number) => Promise<unknown>;
    readonly exitCode: () => Promise<number>;
  },
): Session {
  const { stdout, stderr } = splitOutput(socket, options.tty);
  const ended = finished(socket, { writable: false }).catch(() => undefined);
  socket.on('error', () => socket.destroy());
  return {
    stdin: options.stdin ? (options.keepsInputOpen ? withoutEnd(socket) : socket) : undefined,
    stdout,
    stderr,
    resize: async (width, height) => void (await options.resize(width, height)),
    exitCode: ended.then(options.exitCode),
    close: () => void socket.destroy(),
  };
}

/** A container whose input outlasts its first client does not hear of the end of one; the engine would even cut off the output there. */
const withoutEnd = (socket: Duplex): Writable =>
  new Writable({ write: (chunk: Buffer, encoding, done) => void socket.write(chunk, encoding, done) });

/** dockerode answers a buffer unless it follows, so this goes to its transport. */
export async function openLogs(docker: Docker, id: string, options: LogOptions): Promise<Readable> {
  const { Config: config } = await call('logs', (abortSignal) => docker.getContainer(id).inspect({ abortSignal }));
  const query = new URLSearchParams({
    stdout: String(options.stdout ?? true),
    stderr: String(options.stderr ?? true),
    follow: String(options.follow ?? false),
    timestamps: String(options.timestamps ?? false),
    tail: options.tailLines === undefined ? 'all' : String(options.tailLines),
  });
  if (options.sinceMs !== undefined) query.set('since', (options.sinceMs / 1000).toFixed(3));
  const stream = await call(
    'logs',
    () =>
      new Promise<Readable>((resolve, reject) => {
        docker.modem.dial(
          {
            path: `/containers/${encodeURIComponent(id)}/logs?${query.toString()}&`,
            method: 'GET',
            isStream: true,
            statusCodes: { 200: true, 404: 'no such container', 409: 'conflict', 500: 'server error' },
          },
          (error: unknown, response: unknown) =>
            error === null || error === undefined ? resolve(response as Readable) : reject(error as Error),
        );
      }),
  );
  options.signal?.addEventListener('abort', () => stream.destroy(), { once: true });
  stream.on('error', () => undefined);
  return mergedOutput(stream, config.Tty);
}
