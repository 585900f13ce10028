/**
 * The agent's own HTTPS server: logs of containers, commands in them, attachments to them, connections to their ports. Only the API server may call it (mutual TLS by the instance's authority); it has already decided who may do
 * what. Started by index.ts; the paths are the kubelet's.
 */
import https from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Logger } from '../../../sdk/logger.ts';
import type { AgentContext } from '../agent-context.ts';
import { ServerError } from './find-container.ts';
import { sendLogs } from './logs.ts';
import { Upgrades } from './upgrades.ts';

export interface AgentServerOptions {
  readonly agent: AgentContext;
  /** PEM. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly port: number;
  readonly logger: Logger;
}

const CALLER = 'system:apiserver';
const RETRY_LISTEN_MS = 500;
const RETRY_LISTEN_TIMES = 40;

export class AgentServer {
  readonly #options: AgentServerOptions;
  readonly #server: https.Server;
  readonly #upgrades: Upgrades;

  constructor(options: AgentServerOptions) {
    this.#options = options;
    this.#upgrades = new Upgrades(options.agent, options.logger);
    const { ca, cert, key } = options.tls;
    this.#server = https.createServer({
      ca,
      cert,
      key,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
    });
    this.#server.on('request', (request, response) => void this.#answer(request, response));
    this.#server.on('upgrade', (request, socket, head) => void this.#upgrade(request, socket, head));
    this.#server.requestTimeout = 0;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** A predecessor that is just ending may hold the port for a moment. */
  async listen(): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await new Promise<void>((resolve, reject) => {
          this.#server.once('error', reject);
          this.#server.listen(this.#options.port, () => {
            this.#server.off('error', reject);
            resolve();
          });
        });
        return;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || tries >= RETRY_LISTEN_TIMES) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_LISTEN_MS));
      }
    }
  }

  async close(): Promise<void> {
    this.#upgrades.close();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      checkCaller(request);
      const url = new URL(request.url ?? '/', 'https://agent');
      const [route, namespace, pod, container, ...rest] = url.pathname
        .split('/')
        .filter(Boolean)
        .map(decodeURIComponent);
      if (request.method === 'GET' && route === 'healthz') {
        response.end('ok');
        return;
      }
      if (
        request.method !== 'GET' ||
        route !== 'containerLogs' ||
        namespace === undefined ||
        pod === undefined ||
        container === undefined ||
        rest.length > 0
      ) {
        throw new ServerError(404, 'NotFound', 'the agent has no such path');
      }
      await sendLogs(this.#options.agent, { namespace, pod, container, query: url.searchParams, response });
    } catch (error) {
      this.#refuse(error, response);
    }
  }

  #refuse(error: unknown, response: ServerResponse): void {
    const { status } = serverError(error);
    if (!(error instanceof ServerError)) this.#options.logger.warn({ err: error }, 'a request to the agent failed');
    if (response.headersSent) response.destroy();
    else response.writeHead(status.code, { 'content-type': 'application/json' }).end(JSON.stringify(status));
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    try {
      checkCaller(request);
      await this.#upgrades.serve({ request, socket, head });
    } catch (error) {
      if (!(error instanceof ServerError)) {
        this.#options.logger.warn({ err: error }, 'a stream broke off');
        socket.destroy();
        return;
      }
      const { status } = error;
      const body = JSON.stringify(status);
      socket.end(
        `HTTP/1.1 ${status.code} ${status.reason}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
      );
    }
  }
}

function serverError(error: unknown): ServerError {
  return error instanceof ServerError
    ? error
    : new ServerError(500, 'InternalError', error instanceof Error ? error.message : String(error));
}

function checkCaller(request: IncomingMessage): void {
  const certificate = (request.socket as TLSSocket).getPeerCertificate();
  if (certificate?.subject?.CN !== CALLER)
    throw new ServerError(403, 'Forbidden', 'only the API server may call the agent');
}
