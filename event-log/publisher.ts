/**
 * Brings a group of writes to the log: one publish or one atomic batch, tried again while the log says 'not now', divided when a batch is refused. Afterwards each write is
 * settled, or its outcome is unknown and it is given back to the queue. Used by `group-commit.ts`.
 */
import { GuardError, LogUnavailableError, TooLargeError } from './event-log.ts';
import { ERROR, JetStreamError, NoAnswerError, NoResponderError, describe, parseAnswer } from './answers.ts';
import type { LogConnection } from './connection.ts';
import type { PendingWrite } from './pending-write.ts';
import { messageHeaders } from './record.ts';
import type { Outgoing } from './record.ts';
import type { Settle } from './settle.ts';
import { sleep } from './sleep.ts';
import type { Unacknowledged } from './unacknowledged.ts';

const SPLIT_WAYS = 8;
const RETRY_MS = 20;
const COMPLAIN_EVERY_MS = 5_000;
/** How long one publish may stay unanswered before it counts as unknown. */
const ATTEMPT_TIMEOUT_MS = 4_000;

interface PublishAnswer {
  readonly seq: number;
}

export interface PublisherContext {
  readonly connection: LogConnection;
  readonly unacknowledged: Unacknowledged;
  readonly settle: Settle;
  readonly newId: () => string;
}

export class Publisher {
  readonly #context: PublisherContext;
  #complainedAt = -Infinity;

  constructor(context: PublisherContext) {
    this.#context = context;
  }

  /** Returns those whose outcome is unknown; the others are settled. Never rejects. The writes must be of different objects. */
  async send(group: readonly PendingWrite[]): Promise<readonly PendingWrite[]> {
    try {
      const [first] = group;
      if (first && group.length === 1 && !first.transaction) await this.#sendSingle(first);
      else await this.#sendBatch(group);
    } catch (error) {
      for (const entry of group) entry.fail(error);
    }
    return group.filter((entry) => !entry.settled);
  }

  async #sendSingle(entry: PendingWrite): Promise<void> {
    const outgoing = entry.members[0] as Outgoing;
    for (;;) {
      try {
        const answer = await this.#publish(outgoing, entry.deadline);
        entry.succeed([answer.seq]);
        return;
      } catch (error) {
        if (!(await this.#mayTryAgain([entry], error))) return;
      }
    }
  }

  async #sendBatch(entries: readonly PendingWrite[]): Promise<void> {
    const members = entries.flatMap((entry) => entry.members);
    for (;;) {
      const deadline = Math.min(...entries.map((entry) => entry.deadline));
      for (const entry of entries) this.#withhold(entry);
      try {
        const answer = await this.#publishBatch(members, deadline);
        let next = answer.seq - members.length + 1;
        for (const entry of entries) entry.succeed(entry.members.map(() => next++));
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
  async #divide(entries: readonly PendingWrite[]): Promise<void> {
    const size = Math.ceil(entries.length / SPLIT_WAYS);
    const parts: Promise<void>[] = [];
    for (let start = 0; start < entries.length; start += size) {
      const part = entries.slice(start, start + size).filter((entry) => !entry.settled);
      const [first] = part;
      if (first) parts.push(part.length === 1 ? this.#sendSingle(first) : this.#sendBatch(part));
    }
    await Promise.all(parts);
  }

  /** False when there is nothing more to be done here: settled, or for the queue to send anew. */
  async #mayTryAgain(entries: readonly PendingWrite[], error: unknown): Promise<boolean> {
    if (error instanceof NoAnswerError) {
      for (const entry of entries) entry.unsure = true;
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
      for (const entry of entries) entry.fail(new TooLargeError(error.message));
      return false;
    }
    if (error instanceof JetStreamError || error instanceof NoResponderError) {
      const busy =
        error instanceof JetStreamError &&
        (error.errCode === ERROR.inFlight || error.errCode === ERROR.batchIncomplete);
      if (!busy) this.#complain(error);
      await sleep(RETRY_MS * (0.5 + Math.random()));
      return this.#context.connection.connected && !entries.some((entry) => entry.settled);
    }
    for (const entry of entries) entry.fail(error);
    return false;
  }

  /** Every write meets the same trouble, again and again: once in a while is enough. */
  #complain(error: Error): void {
    const now = performance.now();
    if (now - this.#complainedAt < COMPLAIN_EVERY_MS) return;
    this.#complainedAt = now;
    this.#context.connection.logger.warn({ err: describe(error) }, 'the log takes no writes just now');
  }

  /** Wrong last sequence. If an earlier attempt got no answer, that one may have been what moved the guard. */
  async #refused(entry: PendingWrite): Promise<void> {
    const { settle } = this.#context;
    try {
      const sequences = entry.unsure ? await settle.outcome(entry.members, entry.deadline) : undefined;
      if (sequences) entry.succeed(sequences);
      else {
        const place = entry.transaction ? await settle.firstRefused(entry.members, entry.deadline) : 1;
        entry.fail(new GuardError((entry.members[place - 1] as Outgoing).key, place));
      }
    } catch (cause) {
      // In time it may be tried once more: the queue has it back.
      if (cause instanceof LogUnavailableError && Date.now() < entry.deadline) return;
      entry.fail(new LogUnavailableError('the outcome of the write could not be settled', { cause }));
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
    for (const member of members) {
      if (!connection.connected) break;
      sequence += 1;
      const headers = messageHeaders(member, { id, sequence, commit: sequence === last });
      if (sequence === last)
        return connection
          .request(member.subject, member.payload, { timeoutMs, headers })
          .then(parseAnswer<PublishAnswer>);
      connection.publish(member.subject, member.payload, { headers });
    }
    return Promise.reject(new NoResponderError('not connected to NATS'));
  }

  /** JetStream shows a batch to consumers before it is durable; our own follower waits for the acknowledgement. */
  #withhold(entry: PendingWrite): void {
    this.#context.unacknowledged.add(
      entry.members.map((member) => member.writeId),
      entry.outcome,
    );
  }
}
