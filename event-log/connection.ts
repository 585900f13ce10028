/**
 * One connection to NATS that is never given up: reconnects for ever, and tells at once (not by a time-out) that what was in flight has an unknown outcome.
 * Requests go through one inbox of our own. Used by every other file of this room; nothing outside the room sees it.
 */
import { connect, createInbox } from 'nats';
import type { ConnectionOptions, Msg, MsgHdrs, NatsConnection, Subscription } from 'nats';
import { LogUnavailableError } from './event-log.ts';
import { escapeToken } from './subjects.ts';

/** pino's shape. */
export interface LogLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export const silentLogger: LogLogger = { info: () => undefined, warn: () => undefined, error: () => undefined };

export interface ConnectionSettings {
  /** One or several, comma-separated: `nats://127.0.0.1:4222`. Credentials in the URL are honoured. */
  readonly url: string;
  readonly user?: string;
  readonly password?: string;
  /** Shown by NATS' own monitoring. */
  readonly clientName?: string;
  readonly logger?: LogLogger;
  /** How long opening may take, streams included. */
  readonly openTimeoutMs?: number;
}

/** JetStream answered, with an error: the request was understood and nothing came of it. */
export class JetStreamError extends Error {
  override readonly name = 'JetStreamError';
  readonly code: number;
  readonly errCode: number;
  constructor(code: number, errCode: number, description: string) {
    super(`${description} (${errCode})`);
    this.code = code;
    this.errCode = errCode;
  }
}

/** No answer came: a time-out, or the connection was cut. What was asked may or may not have been done. */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError';
}

/** Nobody listens on the subject (JetStream is not up yet, or has no such stream): surely nothing was done. */
export class NoResponderError extends Error {
  override readonly name = 'NoResponderError';
}

const DEFAULT_OPEN_TIMEOUT_MS = 30_000;
const SWEEP_MS = 50;
const MINIMUM_VERSION = [2, 15, 1] as const;
export const API_TIMEOUT_MS = 5_000;

interface Pending {
  readonly deadline: number;
  readonly resolve: (message: Msg) => void;
  readonly reject: (error: Error) => void;
}

export interface RequestOptions {
  readonly timeoutMs: number;
  readonly headers?: MsgHdrs;
}

export class LogConnection {
  readonly nats: NatsConnection;
  readonly logger: LogLogger;
  #connected = true;
  #closed = false;
  #epoch = 0;
  readonly #pending = new Map<string, Pending>();
  readonly #inboxPrefix: string;
  readonly #inbox: string;
  readonly #subscription: Subscription;
  readonly #listeners = new Set<(connected: boolean) => void>();
  readonly #sweeper: NodeJS.Timeout;
  #token = 0;

  private constructor(nats: NatsConnection, logger: LogLogger, inboxPrefix: string) {
    this.nats = nats;
    this.logger = logger;
    this.#inboxPrefix = inboxPrefix;
    this.#inbox = this.newInbox();
    this.#subscription = nats.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => this.#answer(error, message),
    });
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#sweeper.unref();
    void this.#watch();
  }

  static async open(settings: ConnectionSettings): Promise<LogConnection> {
    const logger = settings.logger ?? silentLogger;
    const deadline = Date.now() + (settings.openTimeoutMs ?? DEFAULT_OPEN_TIMEOUT_MS);
    for (;;) {
      try {
        const nats = await connect(natsOptions(settings));
        try {
          refuseOldServer(nats);
        } catch (error) {
          await nats.close();
          throw error;
        }
        return new LogConnection(nats, logger, inboxPrefixOf(settings));
      } catch (cause) {
        if (cause instanceof OldServerError) throw cause;
        if (Date.now() > deadline)
          throw new LogUnavailableError(`cannot connect to NATS: ${describe(cause)}`, { cause });
        logger.info({ err: describe(cause) }, 'waiting for NATS');
        await sleep(OPEN_RETRY_MS);
      }
    }
  }

  get connected(): boolean {
    return this.#connected && !this.#closed;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Rises with every disconnect. */
  get epoch(): number {
    return this.#epoch;
  }

  /** The largest message, headers included, that the server takes. */
  get maxPayloadBytes(): number {
    return this.nats.info?.max_payload ?? 1024 * 1024;
  }

  /** Under a prefix of the user's own (`_INBOX.<user>`), so that permissions can keep one user from listening to another's answers. */
  newInbox(): string {
    return createInbox(this.#inboxPrefix);
  }

  onChange(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves at once when connected; rejects with LogUnavailableError at the deadline (milliseconds since 1970). */
  async untilConnected(deadline: number): Promise<void> {
    if (this.connected) return;
    if (this.#closed) throw new LogUnavailableError('the log is closed');
    await new Promise<void>((resolve, reject) => {
      const finish = (error?: Error) => {
        clearTimeout(timer);
        stop();
        if (error) reject(error);
        else resolve();
      };
      const timer = setTimeout(
        () => finish(new LogUnavailableError('not connected to NATS')),
        Math.max(0, deadline - Date.now()),
      );
      const stop = this.onChange((connected) => {
        if (connected) finish();
        else if (this.#closed) finish(new LogUnavailableError('the log is closed'));
      });
    });
  }

  /** Resolves when something about the connection changes, or the signal fires. */
  untilChange(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        stop();
        signal.removeEventListener('abort', finish);
        resolve();
      };
      const stop = this.onChange(finish);
      signal.addEventListener('abort', finish, { once: true });
      if (signal.aborted || this.#closed) finish();
    });
  }

  /** Rejects with NoAnswerError or NoResponderError. */
  request(subject: string, payload: Uint8Array | string, options: RequestOptions): Promise<Msg> {
    return new Promise((resolve, reject) => {
      if (!this.connected) {
        reject(new NoResponderError('not connected to NATS'));
        return;
      }
      const token = (this.#token++).toString(36);
      this.#pending.set(token, { deadline: Date.now() + options.timeoutMs, resolve, reject });
      try {
        this.nats.publish(subject, payload, {
          reply: `${this.#inbox}.${token}`,
          ...(options.headers && { headers: options.headers }),
        });
      } catch (error) {
        this.#pending.delete(token);
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  /** A request to JetStream's API; rejects with JetStreamError where the answer is one. */
  async api<Answer>(subject: string, body?: object, timeoutMs: number = API_TIMEOUT_MS): Promise<Answer> {
    const message = await this.request(`$JS.API.${subject}`, body === undefined ? '' : JSON.stringify(body), {
      timeoutMs,
    });
    return parseAnswer<Answer>(message);
  }

  /** As `api`, with everything that means 'not now' as LogUnavailableError. */
  async read<Answer>(subject: string, body?: object, timeoutMs: number = API_TIMEOUT_MS): Promise<Answer> {
    try {
      await this.untilConnected(Date.now() + timeoutMs);
      return await this.api<Answer>(subject, body, timeoutMs);
    } catch (cause) {
      if (cause instanceof NoAnswerError || cause instanceof NoResponderError) {
        throw new LogUnavailableError(`the log did not answer: ${cause.message}`, { cause });
      }
      if (cause instanceof JetStreamError && isPassing(cause))
        throw new LogUnavailableError(`the log is not ready: ${cause.message}`, { cause });
      throw cause;
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#sweeper);
    this.#subscription.unsubscribe();
    this.#failPending('the log is closed');
    this.#tell(false);
    await this.nats.close();
  }

  #answer(error: Error | null, message: Msg): void {
    if (error) return;
    const token = message.subject.slice(this.#inbox.length + 1);
    const pending = this.#pending.get(token);
    if (!pending) return;
    this.#pending.delete(token);
    if (message.headers?.code === 503 && message.data.byteLength === 0)
      pending.reject(new NoResponderError('nobody answers on this subject'));
    else pending.resolve(message);
  }

  #sweep(): void {
    const now = Date.now();
    for (const [token, pending] of this.#pending) {
      if (pending.deadline > now) continue;
      this.#pending.delete(token);
      pending.reject(new NoAnswerError('no answer in time'));
    }
  }

  #failPending(reason: string): void {
    const all = [...this.#pending.values()];
    this.#pending.clear();
    for (const pending of all) pending.reject(new NoAnswerError(reason));
  }

  async #watch(): Promise<void> {
    for await (const status of this.nats.status()) {
      if (this.#closed) return;
      if (status.type === 'disconnect') {
        this.#epoch += 1;
        if (this.#connected) this.logger.warn({}, 'the connection to NATS is lost');
        this.#connected = false;
        this.#failPending('the connection to NATS is lost');
        this.#tell(false);
      } else if (status.type === 'reconnect') {
        this.#connected = true;
        this.logger.info({}, 'connected to NATS again');
        this.#tell(true);
      } else if (status.type === 'error') {
        this.logger.warn({ err: String(status.data), permission: status.permissionContext }, 'NATS reported an error');
      }
    }
  }

  #tell(connected: boolean): void {
    for (const listener of [...this.#listeners]) listener(connected);
  }
}

const OPEN_RETRY_MS = 250;

function serverUrls(settings: ConnectionSettings): URL[] {
  return settings.url.split(',').map((text) => new URL(text.includes('://') ? text.trim() : `nats://${text.trim()}`));
}

function loginOf(settings: ConnectionSettings): { user: string; pass: string } {
  const [url] = serverUrls(settings);
  return {
    user: settings.user ?? decodeURIComponent(url?.username ?? ''),
    pass: settings.password ?? decodeURIComponent(url?.password ?? ''),
  };
}

function inboxPrefixOf(settings: ConnectionSettings): string {
  const { user } = loginOf(settings);
  return user === '' ? '_INBOX' : `_INBOX.${escapeToken(user)}`;
}

function natsOptions(settings: ConnectionSettings): ConnectionOptions {
  const urls = serverUrls(settings);
  const login = loginOf(settings);
  return {
    servers: urls.map((url) => url.host),
    name: settings.clientName ?? 'reckon',
    inboxPrefix: inboxPrefixOf(settings),
    ...(login.user !== '' && login),
    ...(urls.some((url) => url.protocol === 'tls:') && { tls: {} }),
    timeout: 3_000,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
    reconnectJitter: 100,
    ignoreAuthErrorAbort: true,
    pingInterval: 3_000,
    maxPingOut: 2,
    noAsyncTraces: true,
  };
}

class OldServerError extends Error {
  override readonly name = 'OldServerError';
}

function refuseOldServer(nats: NatsConnection): void {
  const version = nats.info?.version ?? 'unknown';
  if (atLeast(version, MINIMUM_VERSION)) {
    if (nats.info?.jetstream !== true)
      throw new OldServerError(
        'this nats-server runs without JetStream: start it with a `jetstream {}` block in its configuration',
      );
    return;
  }
  throw new OldServerError(
    `nats-server ${version} is too old: Reckon needs ${MINIMUM_VERSION.join('.')} or newer (atomic batches). ` +
      'Get it from https://github.com/nats-io/nats-server/releases, or unset NATS_URL and let `npm start` bring its own.',
  );
}

export function atLeast(version: string, minimum: readonly number[]): boolean {
  const parts = /^(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1).map(Number);
  if (!parts) return false;
  for (const [index, least] of minimum.entries()) {
    const part = parts[index] ?? 0;
    if (part !== least) return part > least;
  }
  return true;
}

export function parseAnswer<Answer>(message: Msg): Answer {
  const answer = message.json<Answer & { error?: { code?: number; err_code?: number; description?: string } }>();
  if (answer.error)
    throw new JetStreamError(
      answer.error.code ?? 500,
      answer.error.err_code ?? 0,
      answer.error.description ?? 'JetStream error',
    );
  return answer;
}

/** Errors that go away by waiting: no leader yet, a stream that is being recovered, a server that is starting or has no room. */
export function isPassing(error: JetStreamError): boolean {
  return error.code === 503 || error.errCode === ERROR.insufficientResources || error.errCode === ERROR.streamOffline;
}

/** JetStream's own numbers (server/errors.json). */
export const ERROR = {
  wrongLastSequence: 10071,
  /** Another write to the subject is being stored at this moment: not a conflict. */
  inFlight: 10164,
  batchIncomplete: 10176,
  batchTooLarge: 10199,
  messageTooLarge: 10054,
  noMessage: 10037,
  messageDeleteFailed: 10057,
  streamNotFound: 10059,
  consumerNotFound: 10014,
  insufficientResources: 10023,
  streamOffline: 10118,
} as const;

export function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const finish = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal?.addEventListener('abort', finish, { once: true });
  });
}
