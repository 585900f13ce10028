/**
 * The one way into a stream: a bounded queue that publishes singly while few writes wait and in atomic batches when more do, one write per object in each. Every
 * write settles within its time: appended, refused by its guard, or unknown. Used by `jetstream.ts` for both `append` and `transaction`.
 */
import { LogUnavailableError, TooLargeError } from './event-log.ts';
import type { Appended } from './event-log.ts';
import type { LogConnection } from './connection.ts';
import { PendingWrite } from './pending-write.ts';
import type { Publisher } from './publisher.ts';
import type { Outgoing } from './record.ts';

const MAX_BATCH = 500;
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
const MAX_QUEUED = 10_000;
const MAX_QUEUED_BYTES = 256 * 1024 * 1024;
const SWEEP_MS = 50;

export interface GroupCommitTuning {
  /** Up to so many waiting writes are published singly. */
  readonly singles: number;
  /** So many publishes, single or batch, may be under way at once. */
  readonly inFlight: number;
}

/** Measured by bench/event-log/append.ts: one at a time gathers the largest groups, and each costs one fsync whatever its size. */
export const DEFAULT_TUNING: GroupCommitTuning = { singles: 1, inFlight: 1 };
/** One that is under way for longer does not hold the others up. */
const STALLED_MS = 500;
const MAX_STALLED = 8;

export interface GroupCommitContext {
  readonly connection: LogConnection;
  readonly publisher: Publisher;
  readonly timeoutMs: number;
  readonly maxTransaction: number;
  readonly tuning: GroupCommitTuning;
}

export class GroupCommit {
  readonly #context: GroupCommitContext;
  #queue: PendingWrite[] = [];
  /** Everything not settled yet, for the deadline. */
  readonly #open = new Set<PendingWrite>();
  #openBytes = 0;
  /** Objects with a write under way, and who waits for each. */
  readonly #busy = new Map<string, PendingWrite[]>();
  #inFlight = 0;
  #stalled = 0;
  #scheduled = false;
  #closed = false;
  readonly #sweeper: NodeJS.Timeout;
  readonly #stopListening: () => void;

  constructor(context: GroupCommitContext) {
    this.#context = context;
    this.#stopListening = context.connection.onChange((connected) => connected && this.#schedule());
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#sweeper.unref();
  }

  /** Resolves with a sequence for each member. */
  enqueue(members: readonly Outgoing[], transaction: boolean): Promise<readonly Appended[]> {
    const refusal = this.#refusal(members);
    if (refusal) return Promise.reject(refusal);
    const entry = new PendingWrite(members, { transaction, deadline: Date.now() + this.#context.timeoutMs });
    this.#open.add(entry);
    this.#openBytes += entry.sizeBytes;
    const leave = () => {
      this.#open.delete(entry);
      this.#openBytes -= entry.sizeBytes;
    };
    entry.outcome.then(leave, leave);
    this.#queue.push(entry);
    this.#schedule();
    return entry.outcome;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#sweeper);
    this.#stopListening();
    for (const entry of this.#open) entry.fail(new LogUnavailableError('the log is closed'));
    this.#queue = [];
  }

  #refusal(members: readonly Outgoing[]): Error | undefined {
    if (this.#closed) return new LogUnavailableError('the log is closed');
    const { maxTransaction } = this.#context;
    if (members.length > maxTransaction) {
      return new TooLargeError(
        `a transaction may have ${maxTransaction} members at most, this one has ${members.length}`,
      );
    }
    const limit = this.#context.connection.maxPayloadBytes;
    const largest = Math.max(...members.map((member) => member.sizeBytes));
    if (largest > limit)
      return new TooLargeError(`the record has ${largest} bytes with its headers, the log takes ${limit} at most`);
    if (this.#open.size >= MAX_QUEUED || this.#openBytes >= MAX_QUEUED_BYTES)
      return new LogUnavailableError('too many writes are waiting for the log');
    return undefined;
  }

  /** Once a turn of the event loop, so that writes which arrive together go together. */
  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#dispatch();
    });
  }

  #dispatch(): void {
    const { connection, tuning } = this.#context;
    while (this.#queue.length > 0 && this.#inFlight < tuning.inFlight && connection.connected && !this.#closed) {
      const group = this.#takeGroup();
      if (group.length === 0) return;
      if (group.length <= tuning.singles && group.every((entry) => !entry.transaction)) {
        for (const entry of group) this.#launch([entry]);
      } else {
        this.#launch(group);
      }
    }
  }

  /** From the head of the queue: one transaction, or as many single writes as fit a batch. Takes the objects; who finds its object taken is parked there. */
  #takeGroup(): PendingWrite[] {
    const group: PendingWrite[] = [];
    let sizeBytes = 0;
    let index = 0;
    for (; index < this.#queue.length; index += 1) {
      const entry = this.#queue[index] as PendingWrite;
      if (entry.settled || this.#park(entry)) continue;
      const full = group.length >= MAX_BATCH || (group.length > 0 && sizeBytes + entry.sizeBytes > MAX_BATCH_BYTES);
      if (group.length > 0 && (entry.transaction || full)) break;
      for (const member of entry.members) this.#busy.set(member.object, []);
      group.push(entry);
      sizeBytes += entry.sizeBytes;
      if (entry.transaction) {
        index += 1;
        break;
      }
    }
    this.#queue.splice(0, index);
    return group;
  }

  #park(entry: PendingWrite): boolean {
    for (const member of entry.members) {
      const waiting = this.#busy.get(member.object);
      if (!waiting) continue;
      waiting.push(entry);
      return true;
    }
    return false;
  }

  #launch(group: readonly PendingWrite[]): void {
    this.#inFlight += 1;
    let counted = true;
    const stalled = setTimeout(() => {
      if (this.#stalled >= MAX_STALLED) return;
      counted = false;
      this.#stalled += 1;
      this.#inFlight -= 1;
      this.#schedule();
    }, STALLED_MS);
    void this.#context.publisher.send(group).then((unknown) => {
      clearTimeout(stalled);
      if (counted) this.#inFlight -= 1;
      else this.#stalled -= 1;
      this.#release(group, unknown);
      this.#schedule();
    });
  }

  /** What is to be sent anew comes first, then who waited for one of the objects, then everybody else. */
  #release(group: readonly PendingWrite[], unknown: readonly PendingWrite[]): void {
    const freed: PendingWrite[] = [];
    for (const { members } of group) {
      for (const { object } of members) {
        freed.push(...(this.#busy.get(object) ?? []));
        this.#busy.delete(object);
      }
    }
    if (unknown.length > 0 || freed.length > 0) this.#queue = [...unknown, ...freed, ...this.#queue];
  }

  #sweep(): void {
    const now = Date.now();
    for (const entry of this.#open) {
      if (entry.deadline > now) return;
      const what = entry.unsure ? 'its outcome is unknown' : 'it was not answered in time';
      entry.fail(new LogUnavailableError(`the log could not take the write: ${what}`));
    }
  }
}
