/**
 * The HTTPS server: who is asking, what for, and which verb answers. One request is one call of `#serve`; whatever goes wrong below it becomes a Status here and nowhere else.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { createServer as createListener, type AddressInfo, type Server as Listener } from 'node:net';
import type { Duplex } from 'node:stream';
import { GuardError } from '../event-log/event-log.ts';
import { authenticate } from './authentication/authenticator.ts';
import type { Identity } from './authentication/identity.ts';
import { impersonate } from './authentication/impersonation.ts';
import { attributesOf } from './authorization/attributes.ts';
import { warn } from './body.ts';
import type { Call, Services } from './call.ts';
import { knowsResource } from './custom-resources/definitions.ts';
import { ApiDocuments } from './documents.ts';
import { badRequest, internal, methodNotAllowed, noSuchPath, staleWrite, StatusError } from './errors.ts';
import type { Fairness } from './fairness/levels.ts';
import { isLongRunning } from './fairness/levels.ts';
import { answerHealth, healthChecks, type Checks } from './health.ts';
import type { Metrics } from './metrics.ts';
import { questionOf } from './memory/questions.ts';
import { conversionOf, storedDefinition, storedQuery } from './conversion/conversions.ts';
import { checkOptions } from './request-options.ts';
import { causesOf, reasonOf } from './request-provenance.ts';
import { parseResourceRequest, type ResourceRequest } from './request.ts';
import { sendBytes, sendStatus } from './respond.ts';
import { subresources, upgrades } from './subresources/index.ts';
import { verbs } from './verbs/index.ts';

export interface ServerOptions {
  readonly services: Services;
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Whether the server can answer: its caches are full and the log answers. */
  readonly readiness: Checks;
  readonly fairness: Fairness;
  readonly metrics: Metrics;
}

interface Admission {
  readonly request: IncomingMessage;
  readonly url: URL;
  readonly target: ResourceRequest | undefined;
  readonly requestId: string;
}

/** Clients keep connections for a while; longer than any sensible idle time-out of theirs. */
const KEEP_ALIVE_MS = 90_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const HEADERS_TIMEOUT_MS = 10_000;
/** How often connections are held against these; Node's own half a minute would be several times as long. */
const TIMEOUT_LOOK_MS = 2_000;
/** For a request with its body to arrive; the answer may take as long as it wants. */
const REQUEST_TIMEOUT_MS = 120_000;
/** How long a stop waits for requests in flight, and how often it looks for connections that have none any more. */
const STOP_MS = 5_000;
const IDLE_LOOK_MS = 50;
const LISTEN_AGAIN_MS = 1_000;
/** Selectors in a URL can be long. */
const MAX_HEADER_BYTES = 256 * 1024;

export class ApiServer {
  readonly #options: ServerOptions;
  readonly #documents: ApiDocuments;
  readonly #server: Server;
  /** Beside the server's own; tried again until the address is there. */
  #also: Listener | undefined;
  #alsoAgain: NodeJS.Timeout | undefined;
  readonly #stopping = new AbortController();
  readonly #health: ReadonlyMap<string, Checks>;
  /** Of each request that is being answered. */
  readonly #open = new Set<Departure>();
  /** Connections that have been taken over, or ask to be. */
  readonly #upgraded = new Set<Duplex>();

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#documents = new ApiDocuments(options.services.registry);
    this.#health = healthChecks(options.readiness, () => this.#stopping.signal.aborted);
    this.#server = createServer({
      ...options.tls,
      requestCert: true,
      rejectUnauthorized: false,
      keepAliveTimeout: KEEP_ALIVE_MS,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_LOOK_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
    });
    this.#server.on(
      'request',
      (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response),
    );
    this.#server.on(
      'upgrade',
      (request: IncomingMessage, socket: Duplex, head: Buffer) => void this.#upgrade(request, socket, head),
    );
    this.#server.on('tlsClientError', (error, socket) => {
      options.services.logger.debug({ err: error }, 'a client failed the TLS handshake');
      socket.destroy();
    });
  }

  /** Resolves with the port once the server listens. Rejects when the port is taken. */
  listen(): Promise<number> {
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => resolve((this.#server.address() as AddressInfo).port));
    });
  }

  /** Serves on another address too, as soon as that is there: the network that it belongs to may not be made yet. */
  listenAlso(host: string, port: number): void {
    const { logger } = this.#options.services;
    const listener = createListener((socket) => this.#server.emit('connection', socket));
    this.#also = listener;
    listener.on('error', (error: NodeJS.ErrnoException) => {
      listener.close();
      if (this.#stopping.signal.aborted) return;
      if (error.code !== 'EADDRNOTAVAIL') logger.warn({ err: error, host, port }, 'cannot listen there; trying again');
      this.#alsoAgain = setTimeout(() => this.listenAlso(host, port), LISTEN_AGAIN_MS).unref();
    });
    listener.listen(port, host, () => logger.info({ host, port }, 'serving there too'));
  }

  /** Ends watches, lets requests in flight finish, then closes. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#alsoAgain);
    this.#also?.close();
    for (const request of this.#open) request.abort();
    for (const socket of this.#upgraded) socket.destroy();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    // A connection whose last answer has only now been taken becomes idle after the first look.
    const idle = setInterval(() => this.#server.closeIdleConnections(), IDLE_LOOK_MS);
    const force = setTimeout(() => this.#server.closeAllConnections(), STOP_MS);
    await closed;
    clearInterval(idle);
    clearTimeout(force);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const requestId = headerOf(request, 'audit-id') ?? randomUUID();
    response.setHeader('Audit-Id', requestId);
    response.setHeader('Cache-Control', 'no-cache, private');
    response.on('error', () => response.destroy());
    try {
      await this.#route(request, response, requestId);
    } catch (error) {
      this.#refuse(response, asStatusError(error), error, requestId);
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse, requestId: string): Promise<void> {
    const url = parseUrl(request);
    const asked = parseTarget(request, url);
    const question = asked && questionOf(asked, this.#options.services.registry);
    const target = question?.target ?? asked;
    this.#options.metrics.count(response, target);
    const identity = await this.#admitAtLast({ request, url, target: question?.admits ?? target, requestId });
    if (!target) return this.#answerDocument(request, response, url);
    const entered = this.#options.fairness.enter(identity, target, response);
    const release = typeof entered === 'function' ? entered : await entered;
    const stays = isLongRunning(target);
    if (stays) response.once('close', release);
    try {
      if (!(await knowsResource(this.#options.services, target))) throw noSuchPath();
      const call = this.#callOf({ request, response, url, target, identity, requestId });
      await (question ? question.answer(call) : this.#dispatch(call));
    } finally {
      if (!stays) release();
    }
  }

  /** A refusal is believed only on what is newest: whoever follows the log itself may know of a role or a binding before this server does. */
  async #admitAtLast(parts: Admission): Promise<Identity> {
    try {
      return this.#admit(parts);
    } catch (refusal) {
      const { registry, store } = this.#options.services;
      const pods = registry.byResource('', 'v1', 'pods');
      if (!pods || !(refusal instanceof StatusError) || refusal.reason !== 'Forbidden') throw refusal;
      await store.current(pods).catch(() => Promise.reject(refusal));
      return this.#admit(parts);
    }
  }

  /** Who asks, once it is known that he may. Throws Unauthorized and Forbidden. */
  #admit(parts: Admission): Identity {
    const { request, url, target, requestId } = parts;
    const { authorizer, tokens, logger } = this.#options.services;
    const identity = impersonate(authenticate(request, tokens), request, authorizer);
    const attributes = attributesOf(request, url, target);
    if (identity.impersonator !== undefined) {
      const { user, impersonator } = identity;
      logger.info({ user, impersonator, ...attributes, requestId }, 'request in the name of another');
    }
    authorizer.require(identity, attributes);
    return identity;
  }

  #callOf(parts: {
    request: IncomingMessage;
    response: ServerResponse;
    url: URL;
    target: ResourceRequest;
    identity: Identity;
    requestId: string;
  }): Call {
    const { request, response, url, target, identity, requestId } = parts;
    const { services } = this.#options;
    const spoken = services.registry.byResource(target.group, target.version, target.resource);
    if (!spoken) throw noSuchPath();
    const conversion = conversionOf(spoken);
    const definition = storedDefinition(spoken, services.registry);
    if (definition.custom?.deprecation !== undefined) warn({ response }, definition.custom.deprecation);
    const reason = reasonOf(request);
    const gone = new Departure();
    this.#open.add(gone);
    response.once('close', () => {
      this.#open.delete(gone);
      // After a complete answer nobody is left to hear it.
      if (!response.writableFinished) gone.abort();
    });
    return {
      services,
      request,
      response,
      query: conversion ? storedQuery(url.searchParams, conversion) : url.searchParams,
      target,
      definition,
      ...(conversion && { spoken }),
      identity,
      requestId,
      causes: causesOf(request),
      ...(reason && { reason }),
      get signal() {
        return gone.signal;
      },
    };
  }

  async #dispatch(call: Call): Promise<void> {
    const { definition, target, request } = call;
    checkShape(call);
    if (target.subresource !== 'proxy') checkOptions(call);
    if (target.subresource !== '') {
      const declared = definition.subresources.find(({ name }) => name === target.subresource);
      const handler = declared && subresources[target.subresource];
      if (!handler) throw noSuchPath();
      if (!declared.verbs.includes(target.verb)) throw methodNotAllowed(request.method ?? '');
      return handler(call);
    }
    if (!definition.verbs.includes(target.verb)) throw methodNotAllowed(request.method ?? '');
    return verbs[target.verb](call);
  }

  async #answerDocument(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    if (request.method !== 'GET' && request.method !== 'HEAD') throw methodNotAllowed(request.method ?? '');
    const health = await answerHealth(url, this.#health);
    if (health) return sendBytes({ response }, health.code, Buffer.from(health.text), 'text/plain; charset=utf-8');
    const { metrics } = this.#options;
    if (url.pathname === '/metrics')
      return sendBytes({ response }, 200, Buffer.from(await metrics.text()), metrics.contentType);
    const issuer = this.#options.services.tokens.document(url.pathname);
    if (issuer) return sendBytes({ response }, 200, Buffer.from(JSON.stringify(issuer.value)), issuer.contentType);
    const document = this.#documents.get(url.pathname, request.headers.accept);
    if (!document) throw noSuchPath();
    if (document.etag) {
      response.setHeader('ETag', document.etag);
      if (isKnown(request.headers['if-none-match'], document.etag)) return void response.writeHead(304).end();
    }
    sendBytes({ response }, 200, document.body, document.contentType);
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    this.#upgraded.add(socket);
    socket.once('close', () => this.#upgraded.delete(socket));
    const requestId = randomUUID();
    try {
      const url = parseUrl(request);
      const target = parseTarget(request, url);
      const identity = await this.#admitAtLast({ request, url, target, requestId });
      const handler = target && upgrades.get(target.subresource);
      if (!target || !handler) throw badRequest('this path cannot be upgraded');
      socket.once('close', this.#options.fairness.stayOpen(identity.impersonator ?? identity.user));
      const { services } = this.#options;
      const definition = services.registry.byResource(target.group, target.version, target.resource);
      if (!definition?.subresources.some(({ name }) => name === target.subresource)) throw noSuchPath();
      // Such streams leave no record: this line is what tells who was in which pod.
      const { resource, subresource, namespace, name } = target;
      const { user } = identity;
      services.logger.info({ user, resource, subresource, namespace, name, requestId }, 'connection taken over');
      const call = {
        services,
        request,
        query: url.searchParams,
        target: { ...target, verb: 'get' as const },
        definition,
        identity,
        requestId,
        causes: [],
        signal: this.#stopping.signal,
      };
      await handler(call as unknown as Call, { socket, head });
    } catch (error) {
      const body = JSON.stringify(asStatusError(error).status());
      const { code } = asStatusError(error);
      socket.end(
        `HTTP/1.1 ${code} Refused\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
      );
    }
  }

  #refuse(response: ServerResponse, refusal: StatusError, error: unknown, requestId: string): void {
    if (refusal.reason === 'InternalError' && !hasLeft(error))
      this.#options.services.logger.error({ err: error, requestId }, 'request failed');
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    sendStatus({ response, services: this.#options.services }, refusal.status());
  }
}

/** Whether the client has said that it holds the document already. */
const isKnown = (held: string | undefined, etag: string): boolean =>
  held?.split(',').some((each) => each.trim().replace(/^W\//, '') === etag) ?? false;

/** That the client has gone or the server stops, for who asks: a signal costs as much as a small answer, and most requests are over before anybody wants one. */
class Departure {
  #controller: AbortController | undefined;
  #aborted = false;

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#aborted) this.#controller.abort();
    return this.#controller.signal;
  }

  abort(): void {
    this.#aborted = true;
    this.#controller?.abort();
  }
}

/** Which methods make sense on a collection, on an object, and where. Throws NotFound or MethodNotAllowed. */
function checkShape({ definition, target, request }: Call): void {
  const { namespaced } = definition;
  if (!namespaced && target.namespace !== '') throw noSuchPath();
  const everywhere = namespaced && target.namespace === '';
  const { name, subresource, verb } = target;
  const onObject = name !== '';
  const allowed =
    verb === 'list' || verb === 'watch'
      ? true
      : verb === 'create'
        ? !everywhere && onObject === (subresource !== '')
        : verb === 'deletecollection'
          ? !everywhere
          : onObject && !everywhere;
  if (!allowed) throw methodNotAllowed(request.method ?? '');
}

const headerOf = (request: IncomingMessage, name: string): string | undefined => {
  const value = request.headers[name];
  return typeof value === 'string' && value.length > 0 && value.length <= 128 ? value : undefined;
};

function parseUrl(request: IncomingMessage): URL {
  try {
    return new URL(request.url ?? '/', 'https://reckon');
  } catch (cause) {
    throw badRequest('the URL cannot be parsed', { cause });
  }
}

function parseTarget(request: IncomingMessage, url: URL): ResourceRequest | undefined {
  try {
    return parseResourceRequest(request.method ?? '', url);
  } catch (cause) {
    throw badRequest(`the path ${JSON.stringify(url.pathname)} holds a malformed escape`, { cause });
  }
}

/** The client went away before its body was complete: nobody is there to be answered, and nothing is wrong here. */
const hasLeft = (error: unknown): boolean => (error as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET';

function asStatusError(error: unknown): StatusError {
  if (error instanceof StatusError) return error;
  if (error instanceof GuardError) return staleWrite(error.key, error.key.name);
  return internal(error instanceof Error ? error.message : String(error), { cause: error });
}
