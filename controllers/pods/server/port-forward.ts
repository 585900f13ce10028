/**
 * `kubectl port-forward`, at the pod's end: connections to ports of the pod, over SPDY streams (plain, or tunnelled through a WebSocket), or over the channels of a WebSocket for clients that speak those. Called by
 * upgrades.ts. https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets
 */
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { WebSocket } from 'ws';
import type { Logger } from '../../../sdk/logger.ts';
import { Channels } from './channels.ts';
import { ServerError } from './find-container.ts';
import type { PodDialer } from './pod-dialer.ts';
import { SpdySession, type SpdyStream } from './spdy/session.ts';

/** How Kubernetes calls SPDY inside a WebSocket, and what is spoken in its streams. */
export const TUNNEL_PROTOCOL = 'SPDY/3.1+portforward.k8s.io';
export const STREAM_PROTOCOL = 'portforward.k8s.io';

/** A connection comes as two streams; the second within this time. */
const PAIR_TIMEOUT_MS = 30_000;
const MAX_PORTS = 64;

export interface Forwarding {
  readonly dialer: PodDialer;
  readonly logger: Logger;
}

/** What the client reads in its error stream. */
function describe({ dialer }: Forwarding, port: number, error: unknown): string {
  const why = error instanceof Error ? error.message : String(error);
  let holder = '';
  try {
    holder = dialer.holder().id;
  } catch {
    // It ended meanwhile; the reason says so.
  }
  return `error forwarding port ${port} to pod ${holder}, uid : ${why}`;
}

/** Both ways, each with an end of its own. Resolves when both have ended; rejects with DialError when nobody listens. */
async function connectTo(forwarding: Forwarding, port: number, client: Duplex): Promise<void> {
  const socket = await forwarding.dialer.dial(port);
  if (client.destroyed) {
    socket.destroy();
    return;
  }
  socket.setNoDelay(true);
  client.once('close', () => socket.destroy());
  // A connection that breaks is told by its end; there is nobody to complain to.
  await pipeline(socket, client, socket).catch(() => undefined);
}

/** Streams of one connection find each other by the number that the client gave them. */
export function forwardStreams(connection: Duplex, forwarding: Forwarding): Promise<void> {
  const halves = new Map<string, { data?: SpdyStream; error?: SpdyStream; timer: NodeJS.Timeout }>();
  const session = new SpdySession(connection, (stream) => {
    const type = stream.headers.get('streamtype');
    const port = portNumber(stream.headers.get('port'));
    if (type !== 'data' && type !== 'error') throw new Error(`invalid stream type "${type}"`);
    const id = stream.headers.get('requestid') ?? '';
    let pair = halves.get(id);
    if (!pair) {
      const timer = setTimeout(() => {
        halves.delete(id);
        stream.destroy();
      }, PAIR_TIMEOUT_MS);
      halves.set(id, (pair = { timer }));
    }
    pair[type] = stream;
    const { data, error, timer } = pair;
    if (!data || !error) return;
    clearTimeout(timer);
    halves.delete(id);
    void forwardPair(forwarding, port, { data, error });
  });
  return session.run().finally(() => {
    for (const { timer } of halves.values()) clearTimeout(timer);
  });
}

async function forwardPair(
  forwarding: Forwarding,
  port: number,
  { data, error }: { data: SpdyStream; error: SpdyStream },
): Promise<void> {
  error.resume();
  try {
    await connectTo(forwarding, port, data);
    error.end();
  } catch (problem) {
    const message = describe(forwarding, port, problem);
    forwarding.logger.info({ port }, message);
    error.end(message);
    data.resume().end();
  }
}

/** Throws ServerError. */
export function portsOf(query: URLSearchParams): readonly number[] {
  const ports = query.getAll('ports').flatMap((list) => list.split(','));
  if (ports.length === 0 || ports.length > MAX_PORTS)
    throw new ServerError(400, 'BadRequest', `query parameter "ports" must name 1 to ${MAX_PORTS} ports`);
  return ports.map(portNumber);
}

/** Channel 2n is the connection to the nth port, 2n+1 what is wrong with it; each begins with its port's number. */
export async function forwardChannels(
  webSocket: WebSocket,
  ports: readonly number[],
  forwarding: Forwarding,
): Promise<void> {
  const channels = new Channels(webSocket, 2 * ports.length);
  await Promise.all(
    ports.map(async (port, index) => {
      const data = channels.of(2 * index);
      const error = channels.of(2 * index + 1);
      const greeting = Buffer.from([port & 0xff, port >> 8]);
      data.write(greeting);
      error.write(greeting);
      error.resume();
      try {
        await connectTo(forwarding, port, data);
        error.end();
      } catch (problem) {
        error.end(describe(forwarding, port, problem));
        data.resume().end();
      }
    }),
  );
  webSocket.close(1000);
}

function portNumber(text: string | undefined): number {
  const port = Number(text);
  if (!text || !Number.isInteger(port) || port < 1 || port > 65_535)
    throw new ServerError(400, 'BadRequest', `a port must be a number from 1 to 65535, and is "${text ?? ''}"`);
  return port;
}
