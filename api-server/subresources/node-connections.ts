/**
 * How the API server reaches the agent of a node: over TLS, with the server's own certificate, at the address and port that the Node object gives. Used by `log`, `exec` and their kin.
 */
import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { Node } from '../../api-schemas/types/core-v1.ts';
import type { Services } from '../call.ts';
import { badRequest, unavailable } from '../errors.ts';
import { decode, entryId } from '../store/entry.ts';
import { join } from './join.ts';

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
  addressOf({ registry, store }: Pick<Services, 'registry' | 'store'>, nodeName: string): NodeAddress {
    const nodes = registry.byResource('', 'v1', 'nodes');
    const entry = nodes && store.cache(nodes).get(entryId({ namespace: '', name: nodeName }));
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
  async upgrade(
    address: NodeAddress,
    path: string,
    client: { request: IncomingMessage; socket: Duplex; head: Buffer },
  ): Promise<void> {
    const { request, socket, head } = client;
    const answer = await this.#switch(address, path, {
      method: request.method ?? 'GET',
      headers: upgradeHeaders(request),
    });
    socket.write(rawHead(answer.response));
    if (answer.head.length > 0) socket.write(answer.head);
    if (!answer.upstream) {
      answer.response.pipe(socket);
      return;
    }
    if (head.length > 0) answer.upstream.write(head);
    await join(answer.upstream, socket);
  }

  /** A plain connection that the node's agent makes to one of its pods. Rejects with what the agent says against it. */
  async connect(address: NodeAddress, path: string): Promise<Duplex> {
    const headers = { connection: 'Upgrade', upgrade: 'tcp' };
    const { upstream, head, response } = await this.#switch(address, path, { method: 'GET', headers });
    if (!upstream) throw unavailable(await messageIn(response));
    if (head.length > 0) upstream.unshift(head);
    return upstream;
  }

  /** A connection to the agent itself, known to it as this server. */
  open({ host, port }: NodeAddress): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const socket = connectTls({
        host,
        port,
        ...this.#tls,
        timeout: CONNECT_TIMEOUT_MS,
        checkServerIdentity: () => undefined,
      });
      socket.once('secureConnect', () => resolve(socket.setTimeout(0)));
      socket.once('timeout', () => socket.destroy(new Error(`no answer within ${CONNECT_TIMEOUT_MS} ms`)));
      socket.once('error', reject);
    });
  }

  /** Without `upstream`, the agent has refused: the response says why. */
  #switch(
    address: NodeAddress,
    path: string,
    asked: { method: string; headers: Record<string, string> },
  ): Promise<{ response: IncomingMessage; upstream?: Duplex; head: Buffer }> {
    return new Promise((resolve, reject) => {
      const outgoing = httpsRequest({
        ...address,
        ...this.#tls,
        ...asked,
        path,
        agent: false,
        timeout: CONNECT_TIMEOUT_MS,
        checkServerIdentity: () => undefined,
      });
      outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${CONNECT_TIMEOUT_MS} ms`)));
      outgoing.on('error', (error) =>
        reject(unavailable(`the node's agent did not answer: ${error.message}`, { cause: error })),
      );
      outgoing.on('response', (response) => resolve({ response, head: Buffer.alloc(0) }));
      outgoing.on('upgrade', (response, upstream, head) => {
        upstream.setTimeout(0);
        upstream.on('error', () => upstream.destroy());
        resolve({ response, upstream, head });
      });
      outgoing.end();
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** The client's own handshake, of WebSocket or SPDY, without what belongs to the hop. */
function upgradeHeaders(request: IncomingMessage): Record<string, string> {
  const kept: Record<string, string> = { connection: 'Upgrade' };
  for (const name of [
    'upgrade',
    'sec-websocket-key',
    'sec-websocket-version',
    'sec-websocket-protocol',
    'sec-websocket-extensions',
    'x-stream-protocol-version',
  ]) {
    const value = request.headers[name];
    if (typeof value === 'string') kept[name] = value;
  }
  return kept;
}

const MAX_REFUSAL_BYTES = 16 * 1024;

/** The message of the Status that the agent refuses with. */
async function messageIn(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of response) if (text.length < MAX_REFUSAL_BYTES) text += String(chunk);
  try {
    return (JSON.parse(text) as { message: string }).message;
  } catch {
    return text;
  }
}

function rawHead(response: IncomingMessage): string {
  const lines = [`HTTP/1.1 ${response.statusCode} ${response.statusMessage}`];
  for (let index = 0; index < response.rawHeaders.length; index += 2)
    lines.push(`${response.rawHeaders[index]}: ${response.rawHeaders[index + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}
