/**
 * One exec or attach: the streams of a client joined with those of a command, whichever way they came (channels.ts, spdy/session.ts), and how it ended. Called by upgrades.ts.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { WebSocket } from 'ws';
import type { ContainerRuntime, Session } from '../../../runtime/container-runtime.ts';
import { Channels } from './channels.ts';
import { SpdySession, type SpdyStream } from './spdy/session.ts';

/** Of commands over SPDY: the one that also tells the exit code. */
export const COMMAND_PROTOCOL = 'v4.channel.k8s.io';

const STREAMS = ['stdin', 'stdout', 'stderr', 'error', 'resize'] as const;
type StreamName = (typeof STREAMS)[number];
/** In which the client has to open all of its SPDY streams. */
const STREAMS_TIMEOUT_MS = 30_000;
/** A terminal's size is a short JSON object. */
const MAX_SIZE_TEXT = 1_024;
/** Half a minute in all: a busy engine may take seconds to begin a command. */
const RESIZE_TRIES = 80;
const RESIZE_PAUSE_MS = 20;
const LAST_RESIZE_PAUSE_MS = 500;

export interface RemoteCommand {
  readonly runtime: ContainerRuntime;
  readonly kind: 'exec' | 'attach';
  readonly containerId: string;
  readonly query: URLSearchParams;
}

/** `error` takes a Status at the end; the others are there where they were asked for. */
interface ClientStreams {
  readonly stdin?: Readable;
  readonly stdout?: Writable;
  readonly stderr?: Writable;
  readonly error: Writable;
  readonly resize?: Readable;
}

/** Which streams the request asks for; with a terminal, errors come with the output. */
function asked(query: URLSearchParams) {
  const isTrue = (name: string): boolean => query.get(name) === 'true' || query.get(name) === '1';
  const tty = isTrue('tty');
  return { tty, stdin: isTrue('stdin'), stdout: isTrue('stdout'), stderr: isTrue('stderr') && !tty };
}

/** What a client says on the other streams is thrown away: left unread, it would hold up the connection. */
const isHeard = (name: StreamName, wanted: { readonly stdin: boolean; readonly tty: boolean }): boolean =>
  (name === 'stdin' && wanted.stdin) || (name === 'resize' && wanted.tty);

/** The first channels of a WebSocket are the streams, in the order of their names. */
export async function runOverChannels(webSocket: WebSocket, command: RemoteCommand): Promise<void> {
  const channels = new Channels(webSocket, STREAMS.length);
  const wanted = asked(command.query);
  const of = (name: StreamName): Duplex => channels.of(STREAMS.indexOf(name));
  // The client waits for the first message to know that it is connected.
  const first: StreamName = wanted.stdout ? 'stdout' : wanted.stderr ? 'stderr' : 'error';
  webSocket.send(Buffer.from([STREAMS.indexOf(first)]));
  for (const name of STREAMS) if (!isHeard(name, wanted)) of(name).resume();
  await run(command, {
    error: of('error'),
    ...(wanted.stdin && { stdin: of('stdin') }),
    ...(wanted.stdout && { stdout: of('stdout') }),
    ...(wanted.stderr && { stderr: of('stderr') }),
    ...(wanted.tty && { resize: of('resize') }),
  });
  webSocket.close(1000);
}

/** Each stream is opened by the client and says in a header which it is. */
export async function runOverSpdy(connection: Duplex, command: RemoteCommand): Promise<void> {
  const wanted = asked(command.query);
  const names: StreamName[] = STREAMS.filter((name) =>
    name === 'error' ? true : name === 'resize' ? wanted.tty : wanted[name],
  );
  const streams = new Map<StreamName, SpdyStream>();
  let complete: () => void;
  const all = new Promise<void>((resolve) => (complete = resolve));
  const session = new SpdySession(connection, (stream) => {
    const name = names.find((each) => each === stream.headers.get('streamtype'));
    if (!name || streams.has(name)) throw new Error('a stream that was not asked for');
    streams.set(name, stream);
    if (!isHeard(name, wanted)) stream.resume();
    if (streams.size === names.length) complete();
  });
  const ended = session.run();
  const timer = setTimeout(() => session.close(), STREAMS_TIMEOUT_MS);
  await Promise.race([all, ended]).finally(() => clearTimeout(timer));
  const error = streams.get('error');
  if (streams.size === names.length && error) {
    await run(command, { ...Object.fromEntries(streams), error });
    session.close();
  }
  await ended;
}

async function run(command: RemoteCommand, client: ClientStreams): Promise<void> {
  const { runtime, kind, containerId, query } = command;
  const streams = asked(query);
  let session: Session;
  try {
    session =
      kind === 'exec'
        ? await runtime.exec(containerId, { command: query.getAll('command'), ...streams })
        : await runtime.attach(containerId, streams);
  } catch (error) {
    const what = kind === 'exec' ? 'executing command in' : 'attaching to';
    const message = `error ${what} container: ${error instanceof Error ? error.message : String(error)}`;
    return finish(client, failure(message));
  }
  const letGo = (): void => {
    session.stdin?.end();
    session.close();
  };
  client.error.once('close', letGo);
  if (client.error.destroyed) letGo();
  // A command may end without having read all that is said to it.
  if (client.stdin && session.stdin) void pipeline(client.stdin, session.stdin).catch(() => undefined);
  const over = new AbortController();
  if (client.resize) void resizeAsAsked(client.resize, session, over.signal).catch(() => undefined);
  await Promise.all([forward(session.stdout, client.stdout), forward(session.stderr, client.stderr)]);
  over.abort();
  try {
    const exitCode = await session.exitCode;
    await finish(client, kind === 'attach' || exitCode === 0 ? SUCCESS : nonZeroExit(exitCode));
  } catch (error) {
    await finish(client, failure(error instanceof Error ? error.message : String(error)));
  }
}

/** The command waits while its reader is slower; a client that has gone is no fault of the command. */
async function forward(source: Readable, target: Writable | undefined): Promise<void> {
  if (target) await pipeline(source, target).catch(() => undefined);
  else source.resume();
}

/** Follows the sizes that a client says, in whatever pieces they come, until `over`; what is no size is passed over. */
export async function resizeAsAsked(
  source: Readable,
  session: Pick<Session, 'resize'>,
  over?: AbortSignal,
): Promise<void> {
  let text = '';
  for await (const chunk of source) {
    text = (text + String(chunk)).slice(-MAX_SIZE_TEXT);
    const sizes = (text.match(/\{[^{}]*\}/g) ?? []).flatMap((each) => parseSize(each) ?? []);
    text = text.slice(text.lastIndexOf('}') + 1);
    const size = sizes.at(-1);
    if (size) await resize(session, size, over);
  }
}

/** The first size comes with the command itself, which the engine may still be starting; one that has ended has no size any more. */
async function resize(
  session: Pick<Session, 'resize'>,
  { width, height }: { width: number; height: number },
  over: AbortSignal | undefined,
): Promise<void> {
  for (let tries = 1; tries <= RESIZE_TRIES && !over?.aborted; tries++) {
    try {
      return await session.resize(width, height);
    } catch {
      await new Promise((go) => setTimeout(go, Math.min(RESIZE_PAUSE_MS * tries, LAST_RESIZE_PAUSE_MS)));
    }
  }
}

function parseSize(text: string): { width: number; height: number } | undefined {
  try {
    // Go, for which clients are written, reads the names of fields in upper and lower case alike.
    const fields = Object.entries(JSON.parse(text) as object).map(
      ([name, value]) => [name.toLowerCase(), value] as const,
    );
    const { width, height } = Object.fromEntries(fields) as { width?: unknown; height?: unknown };
    const sane = (value: unknown) => Number.isInteger(value) && Number(value) > 0 && Number(value) <= 0xffff;
    return sane(width) && sane(height) ? { width: Number(width), height: Number(height) } : undefined;
  } catch {
    return undefined;
  }
}

const SUCCESS = { metadata: {}, status: 'Success' };

const failure = (message: string): object => ({
  metadata: {},
  status: 'Failure',
  reason: 'InternalError',
  message,
  code: 500,
});

/** How kubectl learns a command's exit code. */
const nonZeroExit = (exitCode: number): object => ({
  metadata: {},
  status: 'Failure',
  reason: 'NonZeroExitCode',
  message: `command terminated with non-zero exit code: exit status ${exitCode}`,
  details: { causes: [{ reason: 'ExitCode', message: String(exitCode) }] },
});

/** Resolves when the client has been told, or has gone. */
function finish({ error, stdout, stderr }: ClientStreams, status: object): Promise<void> {
  stdout?.end();
  stderr?.end();
  return new Promise((resolve) => {
    error.once('close', resolve);
    error.end(JSON.stringify(status), () => resolve());
  });
}
