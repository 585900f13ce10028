/**
 * How the API server calls a webhook: HTTPS to a URL, or to one of the pods behind a Service, over connections that are kept and few. Used by `conversion-webhook.ts`.
 * https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#contacting-the-webhook
 */
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { connect as connectTls } from 'node:tls';
import { callbackify } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { ServiceReference, WebhookClientConfig } from '../../api-schemas/types/apiextensions-v1.ts';
import type { Service } from '../../api-schemas/types/core-v1.ts';
import { decode, entryId } from '../store/entry.ts';
import { hostOf, serviceEndpoint, type Reach } from '../subresources/service-endpoint.ts';

/** Beyond it calls wait; together with their wait they have `timeoutMs`. */
const MAX_CONNECTIONS = 8;
const IDLE_MS = 10_000;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const MAX_SHOWN_CHARACTERS = 256;
/** A kept connection may end just as it is used again. */
const MAX_ATTEMPTS = 3;
const HTTPS_PORT = 443;

export interface WebhookClient {
  /** Rejects with an Error whose message begins with what was called. */
  post(body: Buffer): Promise<Buffer>;
}

export interface WebhookClientOptions {
  readonly config: WebhookClientConfig;
  readonly reach: Reach;
  /** For a call as a whole. */
  readonly timeoutMs: number;
}

export function webhookClient({ config, reach, timeoutMs }: WebhookClientOptions): WebhookClient {
  const { url, service, caBundle } = config;
  // What the definition names is trusted in the place of the machine's own authorities.
  const trust = caBundle ? { ca: Buffer.from(caBundle, 'base64') } : {};
  const agent = new Agent({ keepAlive: true, timeout: IDLE_MS, maxSockets: MAX_CONNECTIONS, ...trust });
  if (service) dialService(agent, { service, reach, trust });
  const asked = `${service ? urlOf(service) : url}?timeout=${timeoutMs / 1000}s`;
  const target = new URL(asked);
  return {
    async post(body) {
      const signal = AbortSignal.timeout(timeoutMs);
      for (let attempt = 1; ; attempt++) {
        try {
          return await send({ target, agent, body, signal });
        } catch (error) {
          if (error instanceof KeptConnectionError && attempt < MAX_ATTEMPTS) continue;
          const why = signal.aborted ? 'context deadline exceeded' : causeOf(error, target);
          throw new Error(`Post "${asked}": ${why}`, { cause: error });
        }
      }
    },
  };
}

const urlOf = ({ name, namespace, port = HTTPS_PORT, path = '/' }: ServiceReference): string =>
  `https://${name}.${namespace}.svc:${port}${path}`;

/** Connections of this agent go to whichever pod is behind the Service when they are made, and ask it for the Service's name. */
function dialService(
  agent: Agent,
  { service, reach, trust }: { service: ServiceReference; reach: Reach; trust: { ca?: Buffer } },
): void {
  const { name, namespace, port = HTTPS_PORT } = service;
  const open = async () => {
    const services = reach.registry.byResource('', 'v1', 'services');
    const entry = services && reach.store.cache(services).get(entryId({ namespace, name }));
    if (!entry) throw new Error(`service ${JSON.stringify(name)} not found`);
    const endpoint = serviceEndpoint(reach, {
      service: decode(entry) as Service & ApiObject,
      port: String(port),
      as: name,
    });
    const socket = await endpoint.dial();
    return new Promise((resolve, reject) => {
      const secure = connectTls({ socket, servername: `${name}.${namespace}.svc`, ...trust });
      secure.once('secureConnect', () => resolve(secure));
      secure.once('error', reject);
    });
  };
  const openFor = callbackify(open);
  const createConnection = (_: unknown, done: Parameters<typeof openFor>[0]): void => openFor(done);
  Object.assign(agent, { createConnection });
}

/** The call can be made again: it never reached anybody. */
class KeptConnectionError extends Error {}

interface Sending {
  readonly target: URL;
  readonly agent: Agent;
  readonly body: Buffer;
  readonly signal: AbortSignal;
}

function send({ target, agent, body, signal }: Sending): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      accept: 'application/json',
      'content-length': body.length,
      'user-agent': 'reckon-api-server',
    };
    const outgoing = httpsRequest(target, { method: 'POST', agent, headers, signal });
    outgoing.once('response', (response) => answerOf(response).then(resolve, reject));
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      const kept = outgoing.reusedSocket && error.code === 'ECONNRESET' && !signal.aborted;
      reject(kept ? new KeptConnectionError(error.message, { cause: error }) : error);
    });
    outgoing.end(body);
  });
}

async function answerOf(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) throw new Error(`the answer is longer than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  const { statusCode = 0, statusMessage = '' } = response;
  if (statusCode >= 200 && statusCode < 300) return body;
  const said = body.subarray(0, MAX_SHOWN_CHARACTERS).toString().trim();
  throw new Error(`the webhook answered ${`${statusCode} ${statusMessage}`.trim()}${said === '' ? '' : `: ${said}`}`);
}

/** As Go says it, where people know the sentence. */
function causeOf(error: unknown, { hostname, port }: URL): string {
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : error;
  const { code, message } = first as NodeJS.ErrnoException;
  if (code === 'ECONNREFUSED')
    return `dial tcp ${hostOf(hostname.replace(/^\[|\]$/g, ''), Number(port || HTTPS_PORT))}: connect: connection refused`;
  if (code === 'ENOTFOUND') return `dial tcp: lookup ${hostname}: no such host`;
  return message;
}
