/**
 * The one way into a stream: a bounded queue that publishes singly while few writes wait and in atomic batches when more do, one write per object in each. Every
 * write settles within its time: appended, refused by its guard, or unknown. Used by `jetstream.ts` for both `append` and `transaction`.
 */
import { GuardError, LogUnavailableError, TooLargeError } from './event-log.ts';
import type { Appended } from './event-log.ts';
import { ERROR, JetStreamError, NoAnswerError, NoResponderError, describe, parseAnswer, sleep } from './connection.ts';
import type { LogConnection } from './connection.ts';
import { messageHeaders } from './record.ts';
import type { Outgoing } from './record.ts';
import type { Settle } from './settle.ts';
import type { Unacknowledged } from './unacknowledged.ts';

/** JetStream's own limit of an atomic batch (ADR-50). */
export const MAX_TRANSACTION = 1_000;
const MAX_BATCH = 500;
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
const MAX_QUEUED = 10_000;
const MAX_QUEUED_BYTES = 256 * 1024 * 1024;
const SPLIT_WAYS = 8;
const RETRY_MS = 20;
const SWEEP_MS = 50;
/** How long one publish may stay unanswered before it counts as unknown. */
const ATTEMPT_TIMEOUT_MS = 4_000;

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

interface Entry {
  readonly members: readonly Outgoing[];
  readonly transaction: boolean;
  readonly deadline: number;
  readonly sizeBytes: number;
  readonly resolve: (sequences: readonly Appended[]) => void;
  readonly reject: (error: Error) => void;
  /** An attempt ended without an answer: it may stand. */
  unsure: boolean;
  settled: boolean;
  /** When it is settled. */
  readonly done: Promise<void>;
  readonly markDone: () => void;
}

interface PublishAnswer {
  readonly seq: number;
}

export interface GroupCommitContext {
  readonly connection: LogConnection;
  readonly unacknowledged: Unacknowledged;
  readonly settle: Settle;
  readonly timeoutMs: number;
  readonly tuning: GroupCommitTuning;
  readonly newId: () => string;
}

export class GroupCommit {
  readonly #context: GroupCommitContext;
  #queue: Entry[] = [];
  /** Everything not settled yet, for the deadline. */
  readonly #open = new Set<Entry>();
  #openBytes = 0;
  /** Objects with a write under way, and who waits for each. */
  readonly #busy = new Map<string, Entry[]>();
  /** Members of groups under way whose outcome is unknown: they go back to the queue with the release of the group. */
  readonly #returning = new Set<Entry>();
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
    return new Promise((resolve, reject) => {
      const sizeBytes = members.reduce((sum, member) => sum + member.sizeBytes, 0);
      const deadline = Date.now() + this.#context.timeoutMs;
      const { promise: done, resolve: markDone } = deferred();
      const entry: Entry = {
        members,
        transaction,
        deadline,
        sizeBytes,
        resolve,
        reject,
        unsure: false,
        settled: false,
        done,
        markDone,
      };
      this.#open.add(entry);
      this.#openBytes += sizeBytes;
      this.#queue.push(entry);
      this.#schedule();
    });
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#sweeper);
    this.#stopListening();
    for (const entry of [...this.#open]) this.#fail(entry, new LogUnavailableError('the log is closed'));
    this.#queue = [];
  }

  #refusal(members: readonly Outgoing[]): Error | undefined {
    if (this.#closed) return new LogUnavailableError('the log is closed');
    if (members.length > MAX_TRANSACTION) {
      return new TooLargeError(
        `a transaction may have ${MAX_TRANSACTION} members at most, this one has ${members.length}`,
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
  #takeGroup(): Entry[] {
    const group: Entry[] = [];
    let sizeBytes = 0;
    let index = 0;
    for (; index < this.#queue.length; index += 1) {
      const entry = this.#queue[index] as Entry;
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

  #park(entry: Entry): boolean {
    for (const member of entry.members) {
      const waiting = this.#busy.get(member.object);
      if (!waiting) continue;
      waiting.push(entry);
      return true;
    }
    return false;
  }

  #launch(group: readonly Entry[]): void {
    this.#inFlight += 1;
    let counted = true;
    const stalled = setTimeout(() => {
      if (this.#stalled >= MAX_STALLED) return;
      counted = false;
      this.#stalled += 1;
      this.#inFlight -= 1;
      this.#schedule();
    }, STALLED_MS);
    void this.#send(group).finally(() => {
      clearTimeout(stalled);
      if (counted) this.#inFlight -= 1;
      else this.#stalled -= 1;
      this.#schedule();
    });
  }

  /** Sends until every entry of the group is settled, or back in the queue because its outcome is unknown. */
  async #send(group: readonly Entry[]): Promise<void> {
    const [first] = group;
    try {
      if (first && group.length === 1 && !first.transaction) await this.#sendSingle(first);
      else await this.#sendBatch(group);
    } catch (error) {
      for (const entry of group) this.#fail(entry, error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#release(group);
    }
  }

  async #sendSingle(entry: Entry): Promise<void> {
    const outgoing = entry.members[0] as Outgoing;
    for (;;) {
      try {
        const answer = await this.#publish(outgoing, entry.deadline);
        this.#succeed(entry, answer.seq);
        return;
      } catch (error) {
        if (!(await this.#mayTryAgain([entry], error))) return;
      }
    }
  }

  async #sendBatch(entries: readonly Entry[]): Promise<void> {
    const members = entries.flatMap((entry) => entry.members);
    for (;;) {
      const deadline = Math.min(...entries.map((entry) => entry.deadline));
      for (const entry of entries) this.#withhold(entry);
      try {
        const answer = await this.#publishBatch(members, deadline);
        let sequence = answer.seq - members.length + 1;
        for (const entry of entries) {
          this.#succeed(entry, sequence);
          sequence += entry.members.length;
        }
        return;
      } catch (error) {
        const refused = error instanceof JetStreamError && error.errCode === ERROR.wrongLastSequence;
        if (refused && entries.length > 1) {
          await this.#divide(entries);
          return;
        }
        if (!(await this.#mayTryAgain(entries, error))) return;
      }
    }
  }

  /** A batch of unrelated writes was refused because of some: the others must not suffer. A few are sent member by member, many in smaller batches. */
  async #divide(entries: readonly Entry[]): Promise<void> {
    const size = Math.ceil(entries.length / SPLIT_WAYS);
    const parts: Promise<void>[] = [];
    for (let start = 0; start < entries.length; start += size) {
      const part = entries.slice(start, start + size).filter((entry) => !entry.settled);
      const [first] = part;
      if (first) parts.push(part.length === 1 ? this.#sendSingle(first) : this.#sendBatch(part));
    }
    await Promise.all(parts);
  }

  /** False when every entry is settled, or has been put back. */
  async #mayTryAgain(entries: readonly Entry[], error: unknown): Promise<boolean> {
    if (error instanceof NoAnswerError) {
      for (const entry of entries) entry.unsure = true;
      this.#putBack(entries);
      return false;
    }
    if (error instanceof JetStreamError && error.errCode === ERROR.wrongLastSequence) {
      for (const entry of entries) await this.#refused(entry);
      return false;
    }
    if (
      error instanceof JetStreamError &&
      (error.errCode === ERROR.messageTooLarge || error.errCode === ERROR.batchTooLarge)
    ) {
      for (const entry of entries) this.#fail(entry, new TooLargeError(error.message));
      return false;
    }
    if (error instanceof JetStreamError || error instanceof NoResponderError) {
      const busy =
        error instanceof JetStreamError &&
        (error.errCode === ERROR.inFlight || error.errCode === ERROR.batchIncomplete);
      if (!busy) this.#context.connection.logger.warn({ err: describe(error) }, 'the log refuses a write just now');
      await sleep(RETRY_MS * (0.5 + Math.random()));
      if (!this.#context.connection.connected || entries.some((entry) => entry.settled)) {
        this.#putBack(entries);
        return false;
      }
      return true;
    }
    for (const entry of entries) this.#fail(entry, error instanceof Error ? error : new Error(String(error)));
    return false;
  }

  /** Wrong last sequence. If an earlier attempt got no answer, that one may have been what moved the guard. */
  async #refused(entry: Entry): Promise<void> {
    const { settle } = this.#context;
    try {
      const sequences = entry.unsure ? await settle.outcome(entry.members, entry.deadline) : undefined;
      if (sequences) this.#succeedAll(entry, sequences);
      else {
        const place = entry.transaction ? await settle.firstRefused(entry.members, entry.deadline) : 1;
        this.#fail(entry, new GuardError((entry.members[place - 1] as Outgoing).key, place));
      }
    } catch (cause) {
      if (cause instanceof LogUnavailableError && Date.now() < entry.deadline) this.#putBack([entry]);
      else this.#fail(entry, new LogUnavailableError('the outcome of the write could not be settled', { cause }));
    }
  }

  async #publish(outgoing: Outgoing, deadline: number): Promise<PublishAnswer> {
    const timeoutMs = Math.max(1, Math.min(ATTEMPT_TIMEOUT_MS, deadline - Date.now()));
    const message = await this.#context.connection.request(outgoing.subject, outgoing.payload, {
      timeoutMs,
      headers: messageHeaders(outgoing),
    });
    return parseAnswer<PublishAnswer>(message);
  }

  #publishBatch(members: readonly Outgoing[], deadline: number): Promise<PublishAnswer> {
    const { connection } = this.#context;
    const timeoutMs = Math.max(1, Math.min(ATTEMPT_TIMEOUT_MS, deadline - Date.now()));
    const id = this.#context.newId();
    const last = members.length;
    let sequence = 0;
    let commit: Promise<PublishAnswer> = Promise.reject(new NoResponderError('not connected to NATS'));
    commit.catch(() => undefined);
    if (!connection.connected) return commit;
    for (const member of members) {
      sequence += 1;
      const headers = messageHeaders(member, { id, sequence, commit: sequence === last });
      if (sequence === last)
        commit = connection
          .request(member.subject, member.payload, { timeoutMs, headers })
          .then(parseAnswer<PublishAnswer>);
      else connection.nats.publish(member.subject, member.payload, { headers });
    }
    return commit;
  }

  /** JetStream shows a batch to consumers before it is durable; our own follower waits for the acknowledgement. */
  #withhold(entry: Entry): void {
    this.#context.unacknowledged.add(
      entry.members.map((member) => member.writeId),
      entry.done,
    );
  }

  #succeed(entry: Entry, first: number): void {
    this.#succeedAll(
      entry,
      entry.members.map((_, index) => first + index),
    );
  }

  #succeedAll(entry: Entry, sequences: readonly number[]): void {
    if (this.#finish(entry)) entry.resolve(sequences.map((sequence) => ({ sequence })));
  }

  #fail(entry: Entry, error: Error): void {
    if (this.#finish(entry)) entry.reject(error);
  }

  #finish(entry: Entry): boolean {
    if (entry.settled) return false;
    entry.settled = true;
    entry.markDone();
    this.#open.delete(entry);
    this.#openBytes -= entry.sizeBytes;
    return true;
  }

  /** To the head of the queue. Its object is released with the group and taken again before anyone who is parked there. */
  #putBack(entries: readonly Entry[]): void {
    for (const entry of entries) this.#returning.add(entry);
  }

  #release(group: readonly Entry[]): void {
    const freed: Entry[] = [];
    const returning = group.filter((entry) => this.#returning.delete(entry) && !entry.settled);
    for (const entry of group) {
      for (const member of entry.members) {
        freed.push(...(this.#busy.get(member.object) ?? []));
        this.#busy.delete(member.object);
      }
    }
    if (returning.length > 0 || freed.length > 0) this.#queue = [...returning, ...freed, ...this.#queue];
    this.#schedule();
  }

  #sweep(): void {
    const now = Date.now();
    for (const entry of this.#open) {
      if (entry.deadline > now) return;
      const sent = entry.unsure ? 'its outcome is unknown' : 'it was not answered in time';
      this.#fail(entry, new LogUnavailableError(`the log could not take the write: ${sent}`));
    }
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}
