/**
 * The followed part of one stream, kept current in memory: fills from a snapshot, applies records as whole transactions, starts afresh when the log says `reset`. `log-world.ts` puts one
 * of these on the main log and, where Leases or Events are followed, another on the ephemeral stream.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiObject } from '../api-schemas/schema.ts';
import type { FollowerName, FollowFilter, LogReader, LogRecord, ObjectKey } from '../event-log/event-log.ts';
import type { Logger } from './logger.ts';
import { ObjectStore, type StoredObject } from './object-store.ts';

/** What happened to one object. For a deletion `object` is the final object. */
export interface Change {
  readonly key: ObjectKey;
  readonly object: ApiObject;
  readonly previous: ApiObject | undefined;
  readonly deleted: boolean;
  readonly sequence: number;
  readonly desiredSequence: number;
}

export interface StreamViewOptions {
  readonly log: LogReader;
  /** As which it is shown among the log's followers. */
  readonly follower?: FollowerName | undefined;
  /** Absent: everything in the stream. */
  readonly filters?: readonly FollowFilter[];
  readonly logger: Logger;
  /** Called once per delivery, after the store is current. Not called while the first snapshot fills. */
  readonly onChanges: (changes: readonly Change[]) => void;
}

interface Waiter {
  readonly sequence: number;
  readonly resolve: (reached: boolean) => void;
}

const FOLLOW_AGAIN_AFTER_MS = 1000;

export class StreamView {
  store = new ObjectStore();
  position = 0;
  /** Resolves when the first snapshot is in. */
  readonly filled: Promise<void>;
  readonly #options: StreamViewOptions;
  #resolveFilled!: () => void;
  #isFilled = false;
  /** A snapshot in the making; the store stays as it was until it is complete. */
  #filling: ObjectStore | undefined = new ObjectStore();
  /** Delivered, but beyond the position: perhaps the first half of a transaction. */
  #held: LogRecord[] = [];
  #waiters: Waiter[] = [];

  constructor(options: StreamViewOptions) {
    this.#options = options;
    this.filled = new Promise((resolve) => (this.#resolveFilled = resolve));
  }

  /** Endless, until the signal. */
  async follow(signal: AbortSignal): Promise<void> {
    const { log, filters, follower, logger } = this.#options;
    while (!signal.aborted) {
      try {
        const onUnreadable = (sequence: number, reason: string): void =>
          logger.error({ sequence, reason }, 'a record could not be read and is passed over');
        for await (const followed of log.follow({
          from: 'snapshot',
          ...(filters && { filters }),
          follower,
          signal,
          onUnreadable,
        })) {
          if (followed.kind === 'reset') this.#startAfresh();
          this.#receive(followed.records, followed.position, followed.caughtUp);
        }
      } catch (error) {
        if (!signal.aborted)
          logger.error({ err: error }, 'following the log failed; it is followed again from a snapshot');
      }
      this.#startAfresh();
      if (!signal.aborted) await sleep(FOLLOW_AGAIN_AFTER_MS, undefined, { signal }).catch(() => undefined);
    }
    for (const waiter of this.#waiters.splice(0)) waiter.resolve(false);
  }

  /** Resolves to true once everything up to the sequence is in, to false when that took too long. */
  waitFor(sequence: number, timeoutMs: number): Promise<boolean> {
    if (this.position >= sequence) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        resolve(false);
      }, timeoutMs);
      const waiter: Waiter = {
        sequence,
        resolve: (reached) => {
          clearTimeout(timer);
          resolve(reached);
        },
      };
      this.#waiters.push(waiter);
    });
  }

  #startAfresh(): void {
    this.#filling = new ObjectStore();
    this.#held = [];
  }

  #receive(records: readonly LogRecord[], position: number, caughtUp: boolean): void {
    const store = this.#filling ?? this.store;
    const due = this.#held.length > 0 ? [...this.#held, ...records] : records;
    this.#held = [];
    const changes: Change[] = [];
    for (const record of due) {
      if (record.sequence > position) this.#held.push(record);
      else {
        const change = this.#applyRecord(store, record);
        if (change) changes.push(change);
      }
    }
    if (this.#filling) {
      if (caughtUp) this.#swapIn(this.#filling, position);
      return;
    }
    this.position = Math.max(this.position, position);
    this.#wake();
    if (changes.length > 0) this.#options.onChanges(changes);
  }

  /** The greater sequence of the two planes is the object. */
  #applyRecord(store: ObjectStore, record: LogRecord): Change | undefined {
    const { key, sequence } = record;
    const standing = store.get(key);
    if (standing && standing.sequence >= sequence) return undefined;
    const previous = standing?.object;
    const object = this.#decode(record);
    if (record.verb === 'delete' || record.object.length === 0) {
      if (!standing) return undefined;
      store.remove(key);
      return { key, object: object ?? standing.object, previous, deleted: true, sequence, desiredSequence: sequence };
    }
    if (!object) return undefined;
    const sameObject = standing && standing.object.metadata.uid === object.metadata.uid;
    const desiredSequence = record.plane === 'desired' ? sequence : sameObject ? standing.desiredSequence : 0;
    store.put({ key, object, sequence, desiredSequence });
    return { key, object, previous, deleted: false, sequence, desiredSequence };
  }

  #decode(record: LogRecord): ApiObject | undefined {
    if (record.object.length === 0) return undefined;
    try {
      const object = JSON.parse(
        Buffer.from(record.object.buffer, record.object.byteOffset, record.object.byteLength).toString('utf8'),
      ) as ApiObject;
      object.metadata.resourceVersion = String(record.sequence);
      return object;
    } catch (error) {
      this.#options.logger.error(
        { sequence: record.sequence, key: record.key, err: error },
        'a record holds no object and is passed over',
      );
      return undefined;
    }
  }

  /** Puts a complete snapshot in place of what stood, and tells what differs. */
  #swapIn(filled: ObjectStore, position: number): void {
    const before = this.store;
    const first = !this.#isFilled;
    this.store = filled;
    this.#filling = undefined;
    this.position = position;
    this.#isFilled = true;
    this.#resolveFilled();
    this.#wake();
    const changes = first ? [] : differences(before, filled, position);
    if (changes.length > 0) this.#options.onChanges(changes);
  }

  #wake(): void {
    const reached = this.#waiters.filter((waiter) => waiter.sequence <= this.position);
    if (reached.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => waiter.sequence > this.position);
    for (const waiter of reached) waiter.resolve(true);
  }
}

function differences(before: ObjectStore, after: ObjectStore, position: number): Change[] {
  const changes: Change[] = [];
  for (const { key, object, sequence, desiredSequence } of after.select(undefined)) {
    const previous: StoredObject | undefined = before.get(key);
    if (previous?.sequence !== sequence)
      changes.push({ key, object, previous: previous?.object, deleted: false, sequence, desiredSequence });
  }
  for (const { key, object, desiredSequence } of before.select(undefined)) {
    if (!after.get(key))
      changes.push({ key, object, previous: object, deleted: true, sequence: position, desiredSequence });
  }
  return changes;
}
