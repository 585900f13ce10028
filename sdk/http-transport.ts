/**
 * One request to the API server over node:https: keep-alive, the caller's TLS identity, a deadline, and honest failures: an ApiError when the server answered, ApiUnreachableError when it
 * did not. `http-client.ts` builds the verbs on it.
 */
import http from 'node:http';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError, ApiUnreachableError } from './client.ts';
import type { ApiAccess } from './kubeconfig.ts';

export interface Call {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
  /** Where that is sooner than usual. */
  readonly timeoutMs?: number | undefined;
}

export interface Answer {
  readonly code: number;
  readonly body: unknown;
  /** The sequence at which a write stands. */
  readonly revision: number | undefined;
}

export interface TransportOptions {
  readonly access: ApiAccess;
  readonly userAgent: string;
  readonly timeoutMs?: number;
  readonly maxSockets?: number;
  /** Told of each request when it is over; `code` is undefined where no answer came. */
  readonly onEnd?: (end: RequestEnd) => void;
}

export interface RequestEnd {
  readonly method: string;
  readonly host: string;
  readonly code: number | undefined;
  readonly seconds: number;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const MAX_RESPONSE_BYTES = 256 * 1024 * 1024;
/** How often a request that surely changed nothing is tried again before its failure is the caller's. */
const MAX_ATTEMPTS = 4;
const MAX_RETRY_AFTER_MS = 10_000;

export class Transport {
  readonly #options: TransportOptions;
  readonly #agent: http.Agent;
  readonly #base: URL;

  constructor(options: TransportOptions) {
    const { ca, cert, key, server } = options.access;
    this.#options = options;
    this.#base = new URL(server);
    const agentOptions = { keepAlive: true, maxSockets: options.maxSockets ?? 32, scheduling: 'lifo' as const };
    this.#agent =
      this.#base.protocol === 'http:'
        ? new http.Agent(agentOptions)
        : new https.Agent({ ...agentOptions, ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) });
  }

  close(): void {
    this.#agent.destroy();
  }

  /**
   * Tried again where nothing can have happened: any read that failed on the way or met 503, any request refused with 429. A write that met 503 or no answer is never repeated here, since
   * it may stand: its caller must look again.
   */
  async call(call: Call): Promise<Answer> {
    const isRead = call.method === 'GET';
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(call);
      } catch (error) {
        const refused = error instanceof ApiError && (error.code === 429 || (isRead && error.code === 503));
        const lost = isRead && error instanceof ApiUnreachableError;
        if (attempt >= MAX_ATTEMPTS || call.signal?.aborted || !(refused || lost)) throw error;
        const asked = error instanceof ApiError ? error.retryAfterMs : undefined;
        await sleep(Math.min(asked ?? 50 * 2 ** attempt, MAX_RETRY_AFTER_MS), undefined, {
          signal: call.signal ?? undefined,
        }).catch(() => undefined);
      }
    }
  }

  #once(call: Call): Promise<Answer> {
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const headers: Record<string, string> = {
      accept: 'application/json',
      'user-agent': this.#options.userAgent,
      ...(this.#options.access.token && { authorization: `Bearer ${this.#options.access.token}` }),
      ...(body && { 'content-type': 'application/json', 'content-length': String(body.length) }),
      ...call.headers,
    };
    return new Promise((resolve, reject) => {
      const lost = (error: Error): void =>
        reject(new ApiUnreachableError(`no answer to ${call.method} ${call.path}: ${error.message}`, { cause: error }));
      const send = this.#base.protocol === 'http:' ? http.request : https.request;
      const request = send(new URL(call.path, this.#base), {
        method: call.method,
        headers,
        agent: this.#agent,
        ...(call.signal && { signal: call.signal }),
      });
      const timeoutMs = Math.min(call.timeoutMs ?? Infinity, this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
      const deadline = setTimeout(() => request.destroy(new Error(`nothing within ${timeoutMs} ms`)), timeoutMs);
      request.once('error', lost);
      const beganMs = performance.now();
      let code: number | undefined;
      request.once('close', () => {
        clearTimeout(deadline);
        const seconds = (performance.now() - beganMs) / 1000;
        this.#options.onEnd?.({ method: call.method, host: this.#base.host, code, seconds });
      });
      request.once('response', (response) => {
        code = response.statusCode;
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > MAX_RESPONSE_BYTES)
            request.destroy(new Error(`the answer is larger than ${MAX_RESPONSE_BYTES} bytes`));
          chunks.push(chunk);
        });
        response.once('error', lost);
        response.once('end', () => {
          try {
            resolve(readAnswer(response, Buffer.concat(chunks)));
          } catch (error) {
            reject(error as Error);
          }
        });
      });
      request.end(body);
    });
  }
}

function readAnswer(response: http.IncomingMessage, bytes: Buffer): Answer {
  const code = response.statusCode ?? 0;
  const body = parseJson(bytes);
  if (code >= 200 && code < 300) {
    const revision = Number(response.headers['reckon-revision'] ?? Number.NaN);
    return { code, body, revision: Number.isSafeInteger(revision) ? revision : undefined };
  }
  const status = (typeof body === 'object' && body !== null ? body : {}) as {
    reason?: string;
    message?: string;
    details?: Record<string, unknown>;
  };
  const retryAfterSeconds = Number(response.headers['retry-after'] ?? Number.NaN);
  throw new ApiError({
    code,
    reason: status.reason ?? 'Unknown',
    message: status.message ?? `the API server answered ${code}`,
    ...(status.details && { details: status.details }),
    ...(Number.isFinite(retryAfterSeconds) && { retryAfterMs: retryAfterSeconds * 1000 }),
  });
}

function parseJson(bytes: Buffer): unknown {
  if (bytes.length === 0) return undefined;
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
