/**
 * One request to the API server over node:https: keep-alive, the caller's TLS identity, a deadline, and honest failures: an ApiError when the server answered, ApiUnreachableError when it
 * did not. `http-client.ts` builds the verbs on it.
 */
import http from 'node:http';
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError, ApiUnreachableError } from './client.ts';
import { type Credential, ExecCredentials } from './exec-credentials.ts';
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
  /** A person is there, who may be asked by a program that gives credentials. Default: standard input is a terminal. */
  readonly interactive?: boolean;
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
  readonly #base: URL;
  readonly #credentials: ExecCredentials | undefined;
  #agent: { readonly cert: string | Buffer | undefined; readonly agent: http.Agent };

  constructor(options: TransportOptions) {
    const { access, interactive = process.stdin.isTTY === true } = options;
    this.#options = options;
    this.#base = new URL(access.server);
    // As in kubectl, a token that is written down goes before a program.
    if (access.exec && !access.token) this.#credentials = new ExecCredentials(access.exec, interactive);
    this.#agent = { cert: access.cert, agent: this.#newAgent(access) };
  }

  #newAgent({ cert, key }: { readonly cert: string | Buffer | undefined; readonly key: string | Buffer | undefined }) {
    const { maxSockets = 32, access } = this.#options;
    const agentOptions = { keepAlive: true, maxSockets, scheduling: 'lifo' as const };
    if (this.#base.protocol === 'http:') return new http.Agent(agentOptions);
    const { ca, serverName, insecure } = access;
    return new https.Agent({
      ...agentOptions,
      ...(ca && { ca }),
      ...(cert && { cert }),
      ...(key && { key }),
      ...(serverName && { servername: serverName }),
      ...(insecure && { rejectUnauthorized: false }),
    });
  }

  /** Connections are made with the certificate that holds now. Those with another one are left to what is under way on them, and to the server to close. */
  #agentFor(credential: Credential | undefined): http.Agent {
    const { cert, key } = credential?.cert === undefined ? this.#options.access : credential;
    if (this.#agent.cert !== cert) {
      this.#agent = { cert, agent: this.#newAgent({ cert, key }) };
    }
    return this.#agent.agent;
  }

  close(): void {
    this.#agent.agent.destroy();
  }

  /**
   * Tried again where nothing can have happened: any read that failed on the way or met 503, any request refused with 429. A write that met 503 or no answer is never repeated here, since
   * it may stand: its caller must look again.
   */
  async call(call: Call): Promise<Answer> {
    const isRead = call.method === 'GET';
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#known(call);
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

  /** Whoever a program's credentials make known; where they are refused, once more with new ones: what was refused has changed nothing. */
  async #known(call: Call): Promise<Answer> {
    if (!this.#credentials) return this.#once(call, undefined);
    const credential = await this.#credentials.get();
    try {
      return await this.#once(call, credential);
    } catch (error) {
      if (!(error instanceof ApiError && error.code === 401)) throw error;
      this.#credentials.refused(credential);
      return this.#once(call, await this.#credentials.get());
    }
  }

  #once(call: Call, credential: Credential | undefined): Promise<Answer> {
    const token = this.#options.access.token ?? credential?.token;
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const headers: http.OutgoingHttpHeaders = {
      accept: 'application/json',
      'user-agent': this.#options.userAgent,
      ...(token && { authorization: `Bearer ${token}` }),
      ...this.#options.access.headers,
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
        agent: this.#agentFor(credential),
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
