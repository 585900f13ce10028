/**
 * What became of a write whose answer was lost, once a repetition of it has been refused: the *first* record of the object after the guard is ours or someone else's,
 * and that decides. (The last record may be someone else's though ours stands before it.) The refusal also proves that the stream has dealt with whatever came before it.
 */
import { LogUnavailableError } from './event-log.ts';
import { HEADER } from './record.ts';
import type { Outgoing } from './record.ts';
import type { StreamReader } from './reader.ts';

const READ_TIMEOUT_MS = 3_000;

export class Settle {
  readonly #reader: StreamReader;

  constructor(reader: StreamReader) {
    this.#reader = reader;
  }

  /** The sequences under which the members stand, or undefined when none of them does. Rejects with LogUnavailableError where that cannot be told. */
  async outcome(members: readonly Outgoing[], deadline: number): Promise<readonly number[] | undefined> {
    const [first] = members;
    const last = members.at(-1);
    if (!first || !last) return [];
    const sequence =
      this.#reader.kind === 'log' ? await this.#inLog(first, deadline) : await this.#inEphemeral(first, deadline);
    if (sequence === undefined) return undefined;
    if (last !== first) {
      const end = await this.#reader.message({ seq: sequence + members.length - 1 }, remaining(deadline));
      if (end && end.header(HEADER.write) !== last.writeId) throw new Error(`the transaction at ${sequence} is torn`);
    }
    return members.map((_, index) => sequence + index);
  }

  /** The place, from 1, of the first member whose object has a newer record than its guard. */
  async firstRefused(members: readonly Outgoing[], deadline: number): Promise<number> {
    for (const [index, member] of members.entries()) {
      const newest = await this.#reader.message({ last_by_subj: member.guardSubject }, remaining(deadline));
      if ((newest?.sequence ?? 0) !== member.guard) return index + 1;
    }
    return 1;
  }

  async #inLog(outgoing: Outgoing, deadline: number): Promise<number | undefined> {
    const message = await this.#reader.message(
      { seq: outgoing.guard + 1, next_by_subj: outgoing.guardSubject },
      remaining(deadline),
    );
    return message?.header(HEADER.write) === outgoing.writeId ? message.sequence : undefined;
  }

  /** Only the newest record is left there; but each says which one it came after. */
  async #inEphemeral(outgoing: Outgoing, deadline: number): Promise<number | undefined> {
    const message = await this.#reader.message({ last_by_subj: outgoing.guardSubject }, remaining(deadline));
    if (message?.header(HEADER.write) === outgoing.writeId) return message.sequence;
    if (message === undefined || message.sequence <= outgoing.guard) return undefined;
    if (message.header(HEADER.guard) === String(outgoing.guard)) return undefined;
    throw new UndecidableError('the object has been written again since, so that the outcome cannot be told');
  }
}

class UndecidableError extends Error {
  override readonly name = 'UndecidableError';
}

function remaining(deadline: number): number {
  const timeoutMs = Math.min(READ_TIMEOUT_MS, deadline - Date.now());
  if (timeoutMs <= 0) throw new LogUnavailableError('the time for the write is up');
  return timeoutMs;
}
