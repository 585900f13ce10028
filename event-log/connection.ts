/**
 * One connection to NATS that is never given up: connects again for ever, and tells at once (not by a time-out) that what was in flight has an unknown outcome.
 * Requests go through one inbox of our own. Used by every other file of this room; nothing outside the room sees it.
 *
 * The client library's own reconnecting is not used: after a server that hung it may keep two sockets at a time, both read by one parser, and take the end of the one for the end of the other.
 */
import { createInbox } from 'nats';
import type { Msg, MsgHdrs, NatsConnection, PublishOptions, Subscription, SubscriptionOptions } from 'nats';
import { LogUnavailableError } from './event-log.ts';
import { JetStreamError, NoAnswerError, NoResponderError, describe, isPassing, parseAnswer } from './answers.ts';
import { OldServerError, inboxPrefixOf, openTimeoutOf, refuseOldServer, silentLogger } from './connection-settings.ts';
import type { ConnectionSettings, LogLogger } from './connection-settings.ts';
import { dial } from './dial.ts';
import { sleep } from './sleep.ts';

const SWEEP_MS = 50;
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
  readonly logger: LogLogger;
  readonly #settings: ConnectionSettings;
  #nats: NatsConnection;
  #connected = true;
  #closed = false;
  #epoch = 0;
  readonly #pending = new Map<string, Pending>();
  readonly #inboxPrefix: string;
  readonly #inbox: string;
  readonly #listeners = new Set<(connected: boolean) => void>();
  readonly #sweeper: NodeJS.Timeout;
  /** Servers of which others of their cluster have told, as `host:port`. */
  readonly #cluster = new Set<string>();
  #token = 0;

  private constructor(nats: NatsConnection, settings: ConnectionSettings) {
    this.#settings = settings;
    this.logger = settings.logger ?? silentLogger;
    this.#inboxPrefix = inboxPrefixOf(settings);
    this.#inbox = this.newInbox();
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#sweeper.unref();
    this.#nats = nats;
    this.#use(nats);
  }

  static async open(settings: ConnectionSettings): Promise<LogConnection> {
    const logger = settings.logger ?? silentLogger;
    const deadline = Date.now() + openTimeoutOf(settings);
    for (;;) {
      try {
        const nats = await dial(settings);
        try {
          refuseOldServer(nats);
        } catch (error) {
          await nats.close();
          throw error;
        }
        return new LogConnection(nats, settings);
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
    return this.#nats.info?.max_payload ?? 1024 * 1024;
  }

  /** Under a prefix of the user's own (`_INBOX.<user>`), so that permissions can keep one user from listening to another's answers. */
  newInbox(): string {
    return createInbox(this.#inboxPrefix);
  }

  /** Ends with the present connection. Throws where there is none. */
  subscribe(subject: string, options: SubscriptionOptions): Subscription {
    return this.#nats.subscribe(subject, options);
  }

  /** Listens over this connection and every one after it. Returns how to stop. */
  serve(subject: string, options: SubscriptionOptions): () => void {
    let subscription: Subscription | undefined;
    const listen = (): void => {
      if (this.connected && !this.#nats.isClosed()) subscription = this.#nats.subscribe(subject, options);
    };
    listen();
    const stop = this.onChange(listen);
    return () => {
      stop();
      subscription?.unsubscribe();
    };
  }

  /** Nothing where there is no connection: as well lost on the way. */
  publish(subject: string, payload?: Uint8Array | string, options?: PublishOptions): void {
    if (this.connected && !this.#nats.isClosed()) this.#nats.publish(subject, payload, options);
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
      if (!this.connected || this.#nats.isClosed()) {
        reject(new NoResponderError('not connected to NATS'));
        return;
      }
      const token = (this.#token++).toString(36);
      this.#pending.set(token, { deadline: Date.now() + options.timeoutMs, resolve, reject });
      try {
        this.#nats.publish(subject, payload, {
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
    this.#failPending('the log is closed');
    this.#tell(false);
    await this.#nats.close();
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

  #use(nats: NatsConnection): void {
    this.#nats = nats;
    for (const host of nats.info?.connect_urls ?? []) this.#cluster.add(host);
    nats.subscribe(`${this.#inbox}.*`, { callback: (error, message) => this.#answer(error, message) });
    void nats.closed().then(() => this.#lost(nats));
    void this.#watch(nats);
  }

  async #watch(nats: NatsConnection): Promise<void> {
    for await (const status of nats.status()) {
      // The client closes a stale connection only once all that it has written has left; that may never be.
      if (status.type === 'disconnect' || status.type === 'staleConnection') this.#lost(nats);
      else if (status.type === 'error')
        this.logger.warn({ err: String(status.data), permission: status.permissionContext }, 'NATS reported an error');
    }
  }

  #lost(nats: NatsConnection): void {
    if (this.#closed || !this.#connected || nats !== this.#nats) return;
    this.#connected = false;
    this.#epoch += 1;
    this.logger.warn({}, 'the connection to NATS is lost');
    this.#failPending('the connection to NATS is lost');
    this.#tell(false);
    void nats.close();
    void this.#connectAgain();
  }

  async #connectAgain(): Promise<void> {
    for (;;) {
      await sleep(RECONNECT_WAIT_MS * (1 + Math.random()));
      if (this.#closed) return;
      try {
        const nats = await dial(this.#settings, this.#cluster);
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- closed meanwhile
        if (this.#closed) return void nats.close();
        this.#use(nats);
        break;
      } catch {
        // Not yet.
      }
    }
    this.#connected = true;
    this.logger.info({}, 'connected to NATS again');
    this.#tell(true);
  }

  #tell(connected: boolean): void {
    for (const listener of [...this.#listeners]) listener(connected);
  }
}

const OPEN_RETRY_MS = 250;
const RECONNECT_WAIT_MS = 100;
