/**
 * Retention: every record for a window, the newest record of every live object for ever. A run appends a *floor* record first, then deletes what is superseded, then (one
 * run later, so that nobody who began a snapshot in between sees a deleted object again) expired tombstones. Run by one process at a time, from time to time.
 */
import { LogUnavailableError } from './event-log.ts';
import { ERROR, JetStreamError, describe, parseAnswer } from './answers.ts';
import { LogConnection } from './connection.ts';
import { openTimeoutOf, type ConnectionSettings } from './connection-settings.ts';
import { MIN_RETENTION_MS } from './follow.ts';
import { removeLaggards } from './durables.ts';
import type { Doomed } from './durables.ts';
import { PullConsumer } from './pull-consumer.ts';
import type { Delivery } from './pull-consumer.ts';
import { StreamReader } from './reader.ts';
import type { Floor } from './reader.ts';
import { HEADER } from './record.ts';
import { awaitStream } from './streams.ts';
import { filterSubjects, floorSubject, objectTokens, parseSubject, streamNames } from './subjects.ts';
import type { StreamNames } from './subjects.ts';

export const DEFAULT_RETENTION_MS = 7 * 24 * 60 * 60 * 1_000;
const DELETE_CONCURRENCY = 64;

export interface TrimOptions extends ConnectionSettings {
  readonly prefix?: string;
  /** Records younger than this stay; default 7 days, at least `MIN_RETENTION_MS`. */
  readonly retentionMs?: number;
  /** Records above this sequence stay whatever their age: the projection's cursor. */
  readonly keepAfter: number;
  readonly signal?: AbortSignal;
  /** For tests only: permits a shorter window than followers rely on. */
  readonly unsafeWindow?: boolean;
}

export interface TrimReport {
  readonly floor: number;
  readonly superseded: number;
  readonly tombstones: number;
}

/** One run. Idempotent: killed at any point, the next run finishes it. Rejects with LogUnavailableError. */
export async function trim(options: TrimOptions): Promise<TrimReport> {
  const names = streamNames(options.prefix);
  const connection = await LogConnection.open(options);
  try {
    await awaitStream(connection, names.log, openTimeoutOf(options));
    return await new Trimmer(connection, names, options).run();
  } catch (cause) {
    if (cause instanceof LogUnavailableError) throw cause;
    throw new LogUnavailableError(`the log could not be trimmed: ${describe(cause)}`, { cause });
  } finally {
    await connection.close();
  }
}

interface Newest {
  readonly sequence: number;
  readonly deleted: boolean;
}

class Trimmer {
  readonly #connection: LogConnection;
  readonly #names: StreamNames;
  readonly #reader: StreamReader;
  readonly #options: TrimOptions;
  readonly #signal: AbortSignal;

  constructor(connection: LogConnection, names: StreamNames, options: TrimOptions) {
    this.#connection = connection;
    this.#names = names;
    this.#reader = new StreamReader(connection, names, 'log');
    this.#options = options;
    this.#signal = options.signal ?? new AbortController().signal;
  }

  async run(): Promise<TrimReport> {
    const retentionMs = this.#options.unsafeWindow
      ? (this.#options.retentionMs ?? DEFAULT_RETENTION_MS)
      : Math.max(MIN_RETENTION_MS, this.#options.retentionMs ?? DEFAULT_RETENTION_MS);
    const before = await this.#reader.floor();
    const newest = await this.#newestOfEach();
    const doomed = await this.#doomed(newest, { retentionMs, previousFloor: before.floor });
    if (doomed.floor > before.floor) await this.#raiseFloor({ floor: doomed.floor, previous: before.floor });
    const removed = await removeLaggards(this.#connection, this.#names.log, [
      ...doomed.superseded,
      ...doomed.tombstones,
    ]);
    if (removed.length > 0)
      this.#connection.logger.warn({ durables: removed }, 'retention has passed consumers: they must begin afresh');
    const superseded = await this.#delete(doomed.superseded);
    const tombstones = await this.#delete(doomed.tombstones);
    return { floor: Math.max(before.floor, doomed.floor), superseded, tombstones };
  }

  /** The greater sequence of both planes is the object. Whatever is appended later only supersedes more. */
  async #newestOfEach(): Promise<Map<string, Newest>> {
    const newest = new Map<string, Newest>();
    for await (const message of this.#scan('last_per_subject')) {
      const object = this.#objectOf(message);
      if (object !== undefined && message.sequence > (newest.get(object)?.sequence ?? 0)) {
        newest.set(object, { sequence: message.sequence, deleted: message.header(HEADER.verb) === 'delete' });
      }
    }
    return newest;
  }

  /** What may go, in sequence order, and the floor that must be announced before it goes. */
  async #doomed(newest: ReadonlyMap<string, Newest>, limits: { retentionMs: number; previousFloor: number }) {
    const superseded: Doomed[] = [];
    const tombstones: Doomed[] = [];
    let floor = 1;
    // The server's clock throughout: ours may be off.
    const cutoffMs = (await this.#serverNowMs()) - limits.retentionMs;
    for await (const message of this.#scan({ from: 1 })) {
      if (message.sequence > this.#options.keepAfter || message.storedAtMs >= cutoffMs) break;
      floor = message.sequence + 1;
      const object = this.#objectOf(message);
      // A record that cannot be read, or an object first written after the scan above: not ours to judge.
      const last = object === undefined ? undefined : newest.get(object);
      if (!last) continue;
      if (message.sequence < last.sequence) superseded.push({ sequence: message.sequence, subject: message.subject });
      else if (last.deleted && message.sequence < limits.previousFloor)
        tombstones.push({ sequence: message.sequence, subject: message.subject });
    }
    return { floor, superseded, tombstones };
  }

  #objectOf(message: Delivery): string | undefined {
    const parsed = parseSubject(this.#names.prefix, message.subject);
    return parsed && objectTokens(parsed.key);
  }

  async #serverNowMs(): Promise<number> {
    const info = await this.#connection.read<{ ts?: string }>(`STREAM.INFO.${this.#names.log}`);
    return info.ts === undefined ? Date.now() : Date.parse(info.ts);
  }

  async #raiseFloor(floor: Floor): Promise<void> {
    const message = await this.#connection.request(floorSubject(this.#names.prefix), JSON.stringify(floor), {
      timeoutMs: 10_000,
    });
    parseAnswer(message);
  }

  /** Headers only, up to what is there now. */
  async *#scan(deliver: 'last_per_subject' | { from: number }): AsyncGenerator<Delivery> {
    const consumer = new PullConsumer(this.#connection, this.#names.log);
    const subjects = filterSubjects(this.#names.prefix, ['desired', 'observed'], undefined);
    await consumer.open({ deliver, filterSubjects: subjects, headersOnly: true });
    try {
      let left = consumer.pendingAtStart;
      while (left > 0) {
        const pulled = await consumer.next(this.#signal);
        if (this.#signal.aborted) throw new LogUnavailableError('trimming was stopped');
        if (pulled.kind === 'lost')
          throw new LogUnavailableError(`the scan of the log was cut short: ${pulled.reason}`);
        if (pulled.kind !== 'deliveries') return;
        for (const delivery of pulled.deliveries) {
          yield delivery;
          left -= 1;
        }
        if (pulled.deliveries.at(-1)?.pending === 0) return;
      }
    } finally {
      consumer.close();
    }
  }

  /** In order, a few at a time. */
  async #delete(doomed: readonly Doomed[]): Promise<number> {
    let deleted = 0;
    for (let start = 0; start < doomed.length; start += DELETE_CONCURRENCY) {
      if (this.#signal.aborted) throw new LogUnavailableError('trimming was stopped');
      const outcomes = await Promise.all(
        doomed.slice(start, start + DELETE_CONCURRENCY).map(({ sequence }) => this.#deleteOne(sequence)),
      );
      deleted += outcomes.filter(Boolean).length;
    }
    return deleted;
  }

  async #deleteOne(sequence: number): Promise<boolean> {
    try {
      await this.#connection.read(`STREAM.MSG.DELETE.${this.#names.log}`, { seq: sequence, no_erase: true }, 10_000);
      return true;
    } catch (error) {
      if (error instanceof JetStreamError && NO_SUCH_MESSAGE.has(error.errCode)) return false;
      throw error;
    }
  }
}

/** Another trimmer, or an earlier run, was faster. */
const NO_SUCH_MESSAGE: ReadonlySet<number> = new Set([ERROR.noMessage, ERROR.messageDeleteFailed]);
