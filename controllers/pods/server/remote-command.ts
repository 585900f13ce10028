/**
 * One exec or attach over a WebSocket, in the framing of Kubernetes' remote commands: the first byte of each message is its channel. v5 can also close a channel, which is how a client says that its input has
 * ended. https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets
 */
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { WebSocket } from 'ws';
import type { ContainerRuntime, Session } from '../../../runtime/container-runtime.ts';

/** Best first. */
export const SUBPROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'] as const;

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const ERROR = 3;
const RESIZE = 4;
const CLOSE = 255;

/** The reader is slower than the command: the command waits. */
const HIGH_WATER_BYTES = 1 << 20;
const DRAIN_POLL_MS = 20;

export async function runRemoteCommand(
  runtime: ContainerRuntime,
  options: { webSocket: WebSocket; kind: 'exec' | 'attach'; containerId: string; query: URLSearchParams },
): Promise<void> {
  const { webSocket, kind, containerId, query } = options;
  const asked = (name: string): boolean => query.get(name) === 'true' || query.get(name) === '1';
  const tty = asked('tty');
  const streams = { tty, stdin: asked('stdin'), stdout: asked('stdout'), stderr: asked('stderr') && !tty };
  const waiting: Buffer[] = [];
  let deliver = (message: Buffer): void => void waiting.push(message);
  webSocket.on('message', (data: Buffer) => deliver(Buffer.from(data)));
  // The client waits for the first message to know that it is connected.
  webSocket.send(Buffer.from([streams.stdout ? STDOUT : streams.stderr ? STDERR : ERROR]));

  let session: Session;
  try {
    session =
      kind === 'exec'
        ? await runtime.exec(containerId, { command: query.getAll('command'), ...streams })
        : await runtime.attach(containerId, streams);
  } catch (error) {
    finish(
      webSocket,
      failure(
        'InternalError',
        `error executing command in container: ${error instanceof Error ? error.message : String(error)}`,
      ),
    );
    return;
  }
  webSocket.on('close', () => {
    session.stdin?.end();
    session.close();
  });
  deliver = (message) => receive(session, message);
  for (const message of waiting) deliver(message);
  await Promise.all([forward(webSocket, STDOUT, session.stdout), forward(webSocket, STDERR, session.stderr)]);
  try {
    const exitCode = await session.exitCode;
    finish(
      webSocket,
      kind === 'attach' || exitCode === 0 ? { metadata: {}, status: 'Success' } : nonZeroExit(exitCode),
    );
  } catch (error) {
    finish(webSocket, failure('InternalError', error instanceof Error ? error.message : String(error)));
  }
}

function receive(session: Session, message: Buffer): void {
  const payload = message.subarray(1);
  switch (message[0]) {
    case STDIN:
      if (payload.length > 0 && session.stdin?.writable === true) session.stdin.write(payload);
      return;
    case RESIZE: {
      const size = parseSize(payload);
      if (size !== undefined) void session.resize(size.width, size.height).catch(() => undefined);
      return;
    }
    case CLOSE:
      if (payload[0] === STDIN) session.stdin?.end();
      return;
    default:
  }
}

function parseSize(payload: Buffer): { width: number; height: number } | undefined {
  try {
    const { Width: width, Height: height } = JSON.parse(payload.toString('utf8')) as {
      Width?: unknown;
      Height?: unknown;
    };
    return Number.isInteger(width) && Number.isInteger(height)
      ? { width: Number(width), height: Number(height) }
      : undefined;
  } catch {
    return undefined;
  }
}

async function forward(webSocket: WebSocket, channel: number, source: Readable): Promise<void> {
  const mark = Buffer.from([channel]);
  source.on('data', (chunk: Buffer) => {
    if (webSocket.readyState !== webSocket.OPEN) return;
    webSocket.send(Buffer.concat([mark, chunk]));
    if (webSocket.bufferedAmount < HIGH_WATER_BYTES) return;
    source.pause();
    const drained = setInterval(() => {
      if (webSocket.bufferedAmount >= HIGH_WATER_BYTES && webSocket.readyState === webSocket.OPEN) return;
      clearInterval(drained);
      source.resume();
    }, DRAIN_POLL_MS);
  });
  await finished(source).catch(() => undefined);
}

function failure(reason: string, message: string): object {
  return { metadata: {}, status: 'Failure', reason, message, code: 500 };
}

/** How kubectl learns a command's exit code. */
function nonZeroExit(exitCode: number): object {
  return {
    metadata: {},
    status: 'Failure',
    reason: 'NonZeroExitCode',
    message: `command terminated with non-zero exit code: exit status ${exitCode}`,
    details: { causes: [{ reason: 'ExitCode', message: String(exitCode) }] },
  };
}

function finish(webSocket: WebSocket, status: object): void {
  if (webSocket.readyState !== webSocket.OPEN) return;
  webSocket.send(Buffer.concat([Buffer.from([ERROR]), Buffer.from(JSON.stringify(status), 'utf8')]));
  webSocket.close(1000);
}
