/**
 * Wrapped data keys of Secrets, by the Secret's uid, in a stream of their own. The API server seals and opens with them; destroying a key (overwritten on disk by the
 * server) makes every sealed record of that Secret unreadable for ever, wherever copies of the log may be.
 */
import { randomBytes } from 'node:crypto';
import { headers as natsHeaders } from 'nats';
import { LogUnavailableError } from './event-log.ts';
import { ERROR, JetStreamError, NoAnswerError, NoResponderError, describe, isPassing, parseAnswer } from './answers.ts';
import type { LogConnection } from './connection.ts';
import { sleep } from './sleep.ts';
import type { ConnectionSettings } from './connection-settings.ts';
import { openWithStreams } from './open.ts';
import { PullConsumer } from './pull-consumer.ts';
import { HEADER } from './record.ts';
import { keySubject, streamNames, unescapeToken } from './subjects.ts';
import type { StreamNames } from './subjects.ts';
import type { Closable } from './jetstream.ts';

export interface OpenKeysOptions extends ConnectionSettings {
  readonly prefix?: string;
  readonly replicas?: number;
  /** A call settles within this; default 10 s. */
  readonly timeoutMs?: number;
}

export interface SecretKeys {
  /** Durable when it resolves. The key of a uid never changes: if there is one already, that one is returned. Rejects with LogUnavailableError. */
  put(uid: string, wrapped: Uint8Array): Promise<Uint8Array>;
  get(uid: string): Promise<Uint8Array | undefined>;
  /** Overwritten on disk; no error when there is none. */
  destroy(uid: string): Promise<void>;
  /** Every key, for a cache. */
  all(): Promise<ReadonlyMap<string, Uint8Array>>;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const ATTEMPT_TIMEOUT_MS = 3_000;
const RETRY_MS = 100;

export async function openSecretKeys(options: OpenKeysOptions): Promise<SecretKeys & Closable> {
  const names = streamNames(options.prefix);
  return new StreamKeys(await openWithStreams(options), names, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
}

interface KeyMessage {
  readonly message: { readonly seq: number; readonly data?: string; readonly hdrs?: string };
}

class StreamKeys implements SecretKeys, Closable {
  readonly #connection: LogConnection;
  readonly #names: StreamNames;
  readonly #timeoutMs: number;

  constructor(connection: LogConnection, names: StreamNames, timeoutMs: number) {
    this.#connection = connection;
    this.#names = names;
    this.#timeoutMs = timeoutMs;
  }

  get connected(): boolean {
    return this.#connection.connected;
  }

  async put(uid: string, wrapped: Uint8Array): Promise<Uint8Array> {
    const subject = keySubject(this.#names.prefix, uid);
    const writeId = randomBytes(12).toString('base64url');
    return this.#persist(async () => {
      const headers = natsHeaders();
      headers.set(HEADER.guard, '0');
      headers.set(HEADER.write, writeId);
      try {
        parseAnswer(await this.#connection.request(subject, wrapped, { timeoutMs: ATTEMPT_TIMEOUT_MS, headers }));
        return wrapped;
      } catch (error) {
        if (!(error instanceof JetStreamError) || error.errCode !== ERROR.wrongLastSequence) throw error;
        // Ours, from an attempt that got no answer, or another server's: either way the key that stands is the key.
        const standing = (await this.#newest(subject))?.data;
        if (standing === undefined) throw new NoAnswerError('the key was destroyed meanwhile');
        return Buffer.from(standing, 'base64');
      }
    });
  }

  async get(uid: string): Promise<Uint8Array | undefined> {
    return this.#persist(async () => {
      const data = (await this.#newest(keySubject(this.#names.prefix, uid)))?.data;
      return data === undefined ? undefined : Buffer.from(data, 'base64');
    });
  }

  async destroy(uid: string): Promise<void> {
    await this.#persist(async () => {
      for (;;) {
        const message = await this.#newest(keySubject(this.#names.prefix, uid));
        if (!message) return;
        try {
          await this.#connection.api(`STREAM.MSG.DELETE.${this.#names.keys}`, { seq: message.seq, no_erase: false });
        } catch (error) {
          if (!(error instanceof JetStreamError) || error.errCode !== ERROR.messageDeleteFailed) throw error;
        }
      }
    });
  }

  all(): Promise<ReadonlyMap<string, Uint8Array>> {
    return this.#persist(async () => {
      const keys = new Map<string, Uint8Array>();
      const consumer = new PullConsumer(this.#connection, this.#names.keys);
      const lead = `${this.#names.prefix}.keys.`;
      await consumer.open({ deliver: { from: 1 }, filterSubjects: [`${lead}>`] });
      try {
        let left = consumer.pendingAtStart;
        while (left > 0) {
          const pulled = await consumer.next(NEVER);
          if (pulled.kind === 'lost') throw new NoAnswerError(pulled.reason);
          if (pulled.kind !== 'deliveries') break;
          for (const delivery of pulled.deliveries)
            keys.set(unescapeToken(delivery.subject.slice(lead.length)), new Uint8Array(delivery.data));
          left -= pulled.deliveries.length;
        }
      } finally {
        consumer.close();
      }
      return keys;
    });
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  async #newest(subject: string): Promise<KeyMessage['message'] | undefined> {
    try {
      return (
        await this.#connection.api<KeyMessage>(
          `STREAM.MSG.GET.${this.#names.keys}`,
          { last_by_subj: subject },
          ATTEMPT_TIMEOUT_MS,
        )
      ).message;
    } catch (error) {
      if (error instanceof JetStreamError && error.errCode === ERROR.noMessage) return undefined;
      throw error;
    }
  }

  /** Every call here may be repeated. */
  async #persist<Value>(attempt: () => Promise<Value>): Promise<Value> {
    const deadline = Date.now() + this.#timeoutMs;
    for (;;) {
      try {
        await this.#connection.untilConnected(deadline);
        return await attempt();
      } catch (cause) {
        const passing =
          cause instanceof NoAnswerError ||
          cause instanceof NoResponderError ||
          (cause instanceof JetStreamError && isPassing(cause));
        if (!passing) throw cause;
        if (Date.now() > deadline || this.#connection.closed)
          throw new LogUnavailableError(`the keys cannot be reached: ${describe(cause)}`, { cause });
        await sleep(RETRY_MS);
      }
    }
  }
}

const NEVER = new AbortController().signal;
