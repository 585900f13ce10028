/**
 * Requests to the agent that take over their connection: exec, attach and port-forward, each over a WebSocket or over SPDY as the client asks, and plain connections to a pod for the API server's proxy. Called by
 * server.ts.
 */
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createWebSocketStream, WebSocketServer, type WebSocket } from 'ws';
import type { Logger } from '../../../sdk/logger.ts';
import type { AgentContext } from '../agent-context.ts';
import { CHANNEL_PROTOCOLS } from './channels.ts';
import { findContainer, ServerError } from './find-container.ts';
import { addressOf, PodDialer, type PodPlace } from './pod-dialer.ts';
import {
  forwardChannels,
  forwardStreams,
  portsOf,
  STREAM_PROTOCOL,
  TUNNEL_PROTOCOL,
  type Forwarding,
} from './port-forward.ts';
import { COMMAND_PROTOCOL, runOverChannels, runOverSpdy, type RemoteCommand } from './remote-command.ts';

/** Some clients send all of a command's input as one message. */
const MAX_MESSAGE_BYTES = 32 << 20;
/** A client that is gone without a word is noticed by writing to it. */
const PING_MS = 30_000;
const DIAL_TIMEOUT_MS = 10_000;

export interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly head: Buffer;
}

type Spoken =
  | {
      readonly kind: 'websocket';
      readonly protocols: readonly string[];
      readonly serve: (webSocket: WebSocket) => Promise<void>;
    }
  | { readonly kind: 'spdy'; readonly protocol: string; readonly serve: (connection: Duplex) => Promise<void> };

export class Upgrades {
  readonly #agent: AgentContext;
  readonly #logger: Logger;
  readonly #open = new Set<Duplex>();

  constructor(agent: AgentContext, logger: Logger) {
    this.#agent = agent;
    this.#logger = logger;
  }

  close(): void {
    for (const socket of this.#open) socket.destroy();
  }

  /** Throws ServerError before anything is agreed upon. Resolves when the connection has ended. */
  async serve(upgrade: Upgrade): Promise<void> {
    const { request, socket } = upgrade;
    const url = new URL(request.url ?? '/', 'https://agent');
    const [route, namespace, pod, uid, what, ...rest] = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
    if (namespace === undefined || pod === undefined || uid === undefined || rest.length > 0) throw noSuchPath();
    const place: PodPlace = { namespace, pod, uid };
    const query = url.searchParams;
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    if ((route === 'exec' || route === 'attach') && what !== undefined)
      return this.#command(upgrade, this.#commandOf(route, place, { container: what, query }));
    if (route === 'portForward' && what === undefined) return this.#forward(upgrade, place, query);
    if (route === 'connect' && what !== undefined) return this.#connect(upgrade, place, Number(what));
    throw noSuchPath();
  }

  #commandOf(
    kind: 'exec' | 'attach',
    place: PodPlace,
    { container, query }: { container: string; query: URLSearchParams },
  ): RemoteCommand {
    const found = findContainer(this.#agent, { ...place, container });
    if (found.state !== 'running') throw new ServerError(400, 'BadRequest', `container ${container} is not running`);
    return { runtime: this.#agent.runtime, kind, containerId: found.id, query };
  }

  #command(upgrade: Upgrade, command: RemoteCommand): Promise<void> {
    return agree(upgrade, [
      { kind: 'websocket', protocols: CHANNEL_PROTOCOLS, serve: (webSocket) => runOverChannels(webSocket, command) },
      { kind: 'spdy', protocol: COMMAND_PROTOCOL, serve: (connection) => runOverSpdy(connection, command) },
    ]);
  }

  async #forward(upgrade: Upgrade, place: PodPlace, query: URLSearchParams): Promise<void> {
    const dialer = new PodDialer(this.#agent, place, this.#logger);
    const forwarding: Forwarding = { dialer, logger: this.#logger };
    const { headers } = upgrade.request;
    const isTunnel = (headers['sec-websocket-protocol'] ?? '').split(/\s*,\s*/).includes(TUNNEL_PROTOCOL);
    const ports = headers.upgrade?.toLowerCase() === 'websocket' && !isTunnel ? portsOf(query) : [];
    try {
      await agree(upgrade, [
        {
          kind: 'websocket',
          protocols: [TUNNEL_PROTOCOL, ...CHANNEL_PROTOCOLS],
          serve: (webSocket) =>
            webSocket.protocol === TUNNEL_PROTOCOL
              ? forwardStreams(createWebSocketStream(webSocket), forwarding)
              : forwardChannels(webSocket, ports, forwarding),
        },
        { kind: 'spdy', protocol: STREAM_PROTOCOL, serve: (connection) => forwardStreams(connection, forwarding) },
      ]);
    } finally {
      dialer.close();
    }
  }

  /** To the pod's own address, as every other client of the pod sees it. */
  async #connect({ socket, head }: Upgrade, place: PodPlace, port: number): Promise<void> {
    const host = addressOf(this.#agent, place);
    if (host === undefined || !Number.isInteger(port) || port < 1 || port > 65_535)
      throw new ServerError(400, 'BadRequest', 'address not allowed');
    const target = connect({ host, port, allowHalfOpen: true, timeout: DIAL_TIMEOUT_MS });
    await new Promise<void>((resolve, reject) => {
      const fail = (message: string) => reject(new ServerError(503, 'ServiceUnavailable', message));
      target.once('connect', resolve);
      target.once('error', ({ code, message }: NodeJS.ErrnoException) =>
        fail(`dial tcp ${host}:${port}: ${code === 'ECONNREFUSED' ? 'connect: connection refused' : message}`),
      );
      target.once('timeout', () => {
        target.destroy();
        fail(`dial tcp ${host}:${port}: i/o timeout`);
      });
    });
    target.setTimeout(0).setNoDelay(true);
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
    if (head.length > 0) target.write(head);
    // An end that breaks breaks the other; there is nobody to complain to.
    await pipeline(target, socket, target).catch(() => undefined);
  }
}

const noSuchPath = () => new ServerError(404, 'NotFound', 'the agent has no such path');

/** The first way of speaking that the client offers too. Throws ServerError where there is none. */
async function agree({ request, socket, head }: Upgrade, ways: readonly Spoken[]): Promise<void> {
  const asked = (request.headers.upgrade ?? '').toLowerCase();
  const way = ways.find(({ kind }) => (kind === 'spdy' ? asked === 'spdy/3.1' : asked === kind));
  if (!way) throw new ServerError(400, 'BadRequest', `the connection cannot be upgraded to ${JSON.stringify(asked)}`);
  if (way.kind === 'websocket') {
    const webSocket = await acceptWebSocket({ request, socket, head }, way.protocols);
    const pinging = setInterval(() => webSocket.ping(), PING_MS);
    webSocket.once('close', () => clearInterval(pinging));
    webSocket.on('error', () => webSocket.terminate());
    try {
      return await way.serve(webSocket);
    } catch (error) {
      webSocket.close(1011);
      throw error;
    }
  }
  const offered = String(request.headers['x-stream-protocol-version'] ?? '').split(/\s*,\s*/);
  if (!offered.includes(way.protocol))
    throw new ServerError(
      403,
      'Forbidden',
      `unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${way.protocol}]`,
    );
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: SPDY/3.1'];
  socket.write(`${[...lines, `X-Stream-Protocol-Version: ${way.protocol}`].join('\r\n')}\r\n\r\n`);
  if (head.length > 0) socket.unshift(head);
  return way.serve(socket);
}

/** The library holds protocols to be tokens, which a slash is not in: it is shown them without. */
const asToken = (protocol: string): string => protocol.replaceAll('/', '.');

function acceptWebSocket({ request, socket, head }: Upgrade, protocols: readonly string[]): Promise<WebSocket> {
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: (offered) => protocols.find((protocol) => offered.has(asToken(protocol))) ?? false,
  });
  const offered = request.headers['sec-websocket-protocol'];
  if (offered !== undefined) request.headers['sec-websocket-protocol'] = asToken(offered);
  return new Promise((resolve, reject) => {
    server.on('wsClientError', reject);
    server.handleUpgrade(request, socket, head, resolve);
  });
}
