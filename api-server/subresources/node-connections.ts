/**
 * How the API server reaches the agent of a node: over TLS, with the server's own certificate, at the address and port that the Node object gives. Used by `log`, `exec` and their kin.
 */
import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Node } from '../../api-schemas/types/core-v1.ts';
import type { Call } from '../call.ts';
import { badRequest, unavailable } from '../errors.ts';
import { decode, entryId } from '../store/entry.ts';

export interface NodeTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const CONNECT_TIMEOUT_MS = 10_000;

export interface NodeAddress {
  readonly host: string;
  readonly port: number;
}

export class NodeConnections {
  readonly #tls: NodeTls;
  readonly #agent: Agent;

  constructor(tls: NodeTls) {
    this.#tls = tls;
    this.#agent = new Agent({ keepAlive: true, ...tls });
  }

  /** Throws BadRequest while the node is unknown or has not said where its agent listens. */
  addressOf(call: Call, nodeName: string): NodeAddress {
    const nodes = call.services.registry.byResource('', 'v1', 'nodes');
    const entry = nodes && call.services.store.cache(nodes).get(entryId({ namespace: '', name: nodeName }));
    const status = entry && (decode(entry) as unknown as Node).status;
    const host = status?.addresses?.find(({ type }) => type === 'InternalIP')?.address;
    const port = status?.daemonEndpoints?.kubeletEndpoint?.Port;
    if (!host || !port)
      throw badRequest(
        `the agent of node ${JSON.stringify(nodeName)} cannot be reached: the node has reported no address`,
      );
    return { host, port };
  }

  /** A plain request; resolves with the response as soon as its headers are in. */
  get(address: NodeAddress, path: string, signal: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const outgoing = httpsRequest({
        ...address,
        path,
        agent: this.#agent,
        timeout: CONNECT_TIMEOUT_MS,
        servername: '',
        checkServerIdentity: () => undefined,
        signal,
      });
      outgoing.on('response', (response) => {
        outgoing.setTimeout(0);
        resolve(response);
      });
      outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${CONNECT_TIMEOUT_MS} ms`)));
      outgoing.on('error', (error) =>
        reject(unavailable(`the node's agent did not answer: ${error.message}`, { cause: error })),
      );
      outgoing.end();
    });
  }

  /** Hands an upgraded connection over to the node's agent and joins the two ends. Resolves when both are closed. */
  upgrade(
    address: NodeAddress,
    path: string,
    client: { request: IncomingMessage; socket: Duplex; head: Buffer },
  ): Promise<void> {
    const { request, socket, head } = client;
    return new Promise((resolve, reject) => {
      const outgoing = httpsRequest({
        ...address,
        ...this.#tls,
        path,
        agent: false,
        timeout: CONNECT_TIMEOUT_MS,
        checkServerIdentity: () => undefined,
        headers: upgradeHeaders(request),
      });
      outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${CONNECT_TIMEOUT_MS} ms`)));
      outgoing.on('error', (error) =>
        reject(unavailable(`the node's agent did not answer: ${error.message}`, { cause: error })),
      );
      outgoing.on('response', (response) => {
        socket.write(rawHead(response));
        response.pipe(socket);
        response.on('end', resolve);
      });
      outgoing.on('upgrade', (response, upstream, upstreamHead) => {
        upstream.setTimeout(0);
        socket.write(rawHead(response));
        if (upstreamHead.length > 0) socket.write(upstreamHead);
        if (head.length > 0) upstream.write(head);
        upstream.pipe(socket).pipe(upstream);
        const close = () => {
          upstream.destroy();
          socket.destroy();
          resolve();
        };
        for (const end of [upstream, socket]) end.on('error', close).on('close', close);
      });
      outgoing.end();
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** The client's own WebSocket handshake, without what belongs to the hop. */
function upgradeHeaders(request: IncomingMessage): Record<string, string> {
  const kept: Record<string, string> = { connection: 'Upgrade' };
  for (const name of [
    'upgrade',
    'sec-websocket-key',
    'sec-websocket-version',
    'sec-websocket-protocol',
    'sec-websocket-extensions',
  ]) {
    const value = request.headers[name];
    if (typeof value === 'string') kept[name] = value;
  }
  return kept;
}

function rawHead(response: IncomingMessage): string {
  const lines = [`HTTP/1.1 ${response.statusCode} ${response.statusMessage}`];
  for (let index = 0; index < response.rawHeaders.length; index += 2)
    lines.push(`${response.rawHeaders[index]}: ${response.rawHeaders[index + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}
