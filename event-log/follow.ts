/**
 * Following a stream for ever: a snapshot or a resumed cursor first, then what comes, in order, each record once. Survives reconnects, restarts and lost consumers by
 * resuming after what was yielded; says `reset` and begins with a fresh snapshot where that cannot be done without a gap. `jetstream.ts` gives it to the outside.
 */
import type { Followed, FollowOptions, LogRecord } from './event-log.ts';
import { describe } from './answers.ts';
import { followerMetadata } from './followers.ts';
import { sleep } from './sleep.ts';
import { PullConsumer } from './pull-consumer.ts';
import type { Delivery } from './pull-consumer.ts';
import type { Floor, StreamReader } from './reader.ts';
import { EPHEMERAL_TOMBSTONE_SECONDS, HEADER, toRecord } from './record.ts';
import type { StreamInfo } from './streams.ts';
import { filterSubjects, floorSubject } from './subjects.ts';
import { TransactionAssembly } from './transaction-assembly.ts';
import type { Unacknowledged } from './unacknowledged.ts';

/** Beyond this many undelivered messages a follower no longer calls itself caught up. */
const FAR_BEHIND = 1_000;
/** The trimmer leaves everything alone that is younger (see trim.ts), so a follower that had nothing pending this recently has missed nothing. */
export const MIN_RETENTION_MS = 60_000;
const RECENT_MS = MIN_RETENTION_MS / 2;
/** How long the rest of a transaction, delivered in the same breath as its beginning, is awaited before the server is asked. */
const TRANSACTION_WAIT_MS = 20;
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 2_000;
const HEALTHY_MS = 10_000;

export interface FollowSource {
  readonly reader: StreamReader;
  readonly unacknowledged: Unacknowledged;
}

export async function* follow(source: FollowSource, options: FollowOptions): AsyncGenerator<Followed, void, undefined> {
  const follower = new Follower(source, options);
  while (!options.signal.aborted) {
    const consumer = await follower.open();
    if (!consumer) return;
    try {
      yield* follower.drain(consumer);
    } finally {
      consumer.close();
    }
  }
}

class Follower {
  readonly #reader: StreamReader;
  readonly #unacknowledged: Unacknowledged;
  readonly #options: FollowOptions;
  readonly #subjects: readonly string[];
  #phase: 'snapshot' | 'resume';
  #position: number;
  #kind: Followed['kind'] = 'records';
  /** Something of the present snapshot has been yielded. */
  #begun = false;
  #last: { readonly sequence: number; readonly writeId: string } | undefined;
  #created: string | undefined;
  #floor: Floor = { floor: 1, previous: 1 };
  /** The stream's last sequence, read before the present consumer was made. */
  #lastAtOpen = 0;
  /** When (monotonic) nothing was pending for the last time. */
  #freshAt: number | undefined;
  #caughtUp = false;
  #backoffMs = 0;
  #openedAt = 0;

  constructor(source: FollowSource, options: FollowOptions) {
    this.#reader = source.reader;
    this.#unacknowledged = source.unacknowledged;
    this.#options = options;
    const { names, kind } = source.reader;
    this.#subjects = filterSubjects(
      names.prefix,
      kind === 'ephemeral' ? ['ephemeral'] : ['desired', 'observed'],
      options.filters,
    );
    this.#phase = options.from === 'snapshot' ? 'snapshot' : 'resume';
    this.#position = options.from === 'snapshot' ? 0 : options.from.after;
  }

  /** Tries until there is a consumer; undefined when the signal fired. */
  async open(): Promise<PullConsumer | undefined> {
    const { signal } = this.#options;
    const { connection, stream } = this.#reader;
    if (performance.now() - this.#openedAt > HEALTHY_MS) this.#backoffMs = 0;
    for (;;) {
      if (this.#backoffMs > 0) await sleep(this.#backoffMs, signal);
      this.#backoffMs = Math.min(RETRY_MAX_MS, Math.max(RETRY_MIN_MS, 2 * this.#backoffMs));
      while (!connection.connected) {
        if (signal.aborted || connection.closed) return undefined;
        await connection.untilChange(signal);
        this.#backoffMs = RETRY_MIN_MS;
      }
      if (signal.aborted) return undefined;
      const consumer = new PullConsumer(connection, stream);
      try {
        const info = await this.#reader.info();
        const floor = await this.#reader.floor();
        const reason = await this.#cannotResume(info, floor);
        if (reason !== undefined) this.#reset(reason);
        await consumer.open({
          deliver: this.#phase === 'snapshot' ? 'last_per_subject' : { from: this.#position + 1 },
          filterSubjects: this.#subjects,
          ...(this.#options.follower && { metadata: followerMetadata(this.#options.follower) }),
        });
        this.#created = info.created;
        this.#floor = floor;
        this.#lastAtOpen = info.state.last_seq;
        this.#openedAt = performance.now();
        return consumer;
      } catch (error) {
        consumer.close();
        connection.logger.warn({ stream, err: describe(error) }, 'cannot follow the log just now');
      }
    }
  }

  async *drain(consumer: PullConsumer): AsyncGenerator<Followed, void, undefined> {
    const { signal } = this.#options;
    const assembly = new TransactionAssembly((sequence, reason) => this.#report(sequence, reason));
    let received = 0;
    if (consumer.pendingAtStart === 0) yield* this.#yield(assembly, this.#lastAtOpen, true);
    while (!signal.aborted) {
      const pulled = await consumer.next(signal, assembly.open ? TRANSACTION_WAIT_MS : undefined);
      if (signal.aborted) return;
      if (pulled.kind === 'lost') {
        this.#reader.connection.logger.info(
          { stream: this.#reader.stream, reason: pulled.reason, position: this.#position },
          'follows the log anew',
        );
        return;
      }
      if (pulled.kind !== 'deliveries') {
        if (assembly.open && (await this.#nothingFollows(consumer, assembly.end))) assembly.closeAt(assembly.end);
        if (pulled.kind === 'quiet') {
          this.#freshAt = performance.now();
          // What lies between the last record and here was trimmed, has expired, or is not for this follower.
          assembly.closeAt(pulled.through);
        }
        yield* this.#yield(assembly, assembly.through, this.#caughtUp || pulled.kind === 'quiet');
        continue;
      }
      if (!(await this.#isWhole())) return;
      received += pulled.deliveries.length;
      for (const delivery of pulled.deliveries) {
        const record = this.#decode(delivery);
        const outcome = record && this.#unacknowledged.outcome(record.writeId);
        if (outcome) {
          yield* this.#yield(assembly, assembly.through, this.#caughtUp);
          await settledOrAborted(outcome, signal);
          if (signal.aborted) return;
        }
        assembly.add(delivery.sequence, record);
      }
      const pending = pulled.deliveries.at(-1)?.pending ?? 0;
      const nothingPending = pending === 0 || received >= consumer.pendingAtStart;
      if (nothingPending) assembly.closeAt(this.#lastAtOpen);
      if (pending === 0) this.#freshAt = performance.now();
      const caughtUp = pending <= FAR_BEHIND && (nothingPending || this.#caughtUp);
      yield* this.#yield(assembly, assembly.through, caughtUp);
    }
  }

  /** Undefined for what is no record: floor records, and what cannot be read (reported). */
  #decode(delivery: Delivery): LogRecord | undefined {
    const { prefix } = this.#reader.names;
    if (delivery.subject === floorSubject(prefix)) return undefined;
    const record = toRecord(prefix, delivery);
    if (typeof record !== 'string') return record;
    this.#report(delivery.sequence, record);
    return undefined;
  }

  *#yield(assembly: TransactionAssembly, through: number, caughtUp: boolean): Generator<Followed, void, undefined> {
    const records = assembly.take();
    const position = Math.max(this.#position, through);
    if (records.length === 0 && position === this.#position && caughtUp === this.#caughtUp && this.#begun) return;
    const last = records.at(-1);
    if (last) this.#last = { sequence: last.sequence, writeId: last.writeId };
    const kind = this.#kind;
    this.#kind = 'records';
    this.#begun = true;
    this.#position = position;
    this.#caughtUp = caughtUp;
    if (caughtUp) this.#phase = 'resume';
    yield { kind, records, position, caughtUp };
  }

  /** Why the cursor no longer fits the stream; undefined when it does. */
  async #cannotResume(info: StreamInfo, floor: Floor): Promise<string | undefined> {
    if (this.#phase === 'snapshot') return this.#begun ? 'the snapshot was cut short' : undefined;
    if (this.#created !== undefined && this.#created !== info.created) return 'the stream is another one';
    if (this.#position > info.state.last_seq) return 'the stream ends before the cursor';
    if (floor.floor > this.#position + 1) return 'the cursor lies below the floor';
    if (this.#last && (await this.#isReplaced(this.#last, floor)))
      return 'the stream has another record where the cursor is';
    if (this.#reader.kind === 'ephemeral' && (await this.#mayHaveMissedExpiry(info)))
      return 'deletions may have been forgotten since';
    return undefined;
  }

  async #isReplaced(last: { sequence: number; writeId: string }, floor: Floor): Promise<boolean> {
    const message = await this.#reader.message({ seq: last.sequence });
    if (message) return (message.header(HEADER.write) ?? '') !== last.writeId;
    return this.#reader.kind === 'log' && last.sequence >= floor.floor;
  }

  /** In the ephemeral stream a tombstone is gone after a while; who was away for longer cannot know what went meanwhile. */
  async #mayHaveMissedExpiry(info: StreamInfo): Promise<boolean> {
    const halfMs = (EPHEMERAL_TOMBSTONE_SECONDS * 1_000) / 2;
    if (this.#position === info.state.last_seq) return false;
    if (this.#freshAt !== undefined && performance.now() - this.#freshAt < halfMs) return false;
    const message = this.#position > 0 ? await this.#reader.message({ seq: this.#position }) : undefined;
    return !message || Date.now() - message.storedAtMs > halfMs;
  }

  /** False where the trimmer may have taken something from under what is about to be yielded; then the next consumer begins afresh. */
  async #isWhole(): Promise<boolean> {
    if (this.#reader.kind === 'ephemeral') return true;
    if (this.#phase === 'resume' && this.#freshAt !== undefined && performance.now() - this.#freshAt < RECENT_MS)
      return true;
    let floor: Floor;
    try {
      floor = await this.#reader.floor();
    } catch {
      return false;
    }
    if (this.#phase === 'resume') return floor.floor <= this.#position + 1;
    return floor.floor === this.#floor.floor;
  }

  async #nothingFollows(consumer: PullConsumer, end: number): Promise<boolean> {
    try {
      return (await this.#reader.lastSequence()) >= end && (await consumer.drained());
    } catch {
      return false;
    }
  }

  #reset(reason: string): void {
    this.#reader.connection.logger.warn(
      { stream: this.#reader.stream, position: this.#position, reason },
      'begins with a fresh snapshot',
    );
    this.#phase = 'snapshot';
    this.#kind = 'reset';
    this.#position = 0;
    this.#begun = false;
    this.#last = undefined;
    this.#caughtUp = false;
    this.#freshAt = undefined;
  }

  #report(sequence: number, reason: string): void {
    this.#reader.connection.logger.error(
      { stream: this.#reader.stream, sequence, reason },
      'passes over a record that cannot be read',
    );
    this.#options.onUnreadable?.(sequence, reason);
  }
}

/** Returns at once when the signal fires; leaves no listener behind. */
function settledOrAborted(outcome: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      signal.removeEventListener('abort', finish);
      resolve();
    };
    signal.addEventListener('abort', finish, { once: true });
    if (signal.aborted) finish();
    void outcome.then(finish);
  });
}
