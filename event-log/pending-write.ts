/**
 * One caller's write, or transaction, between its arrival and its outcome. Made by the queue (`group-commit.ts`), settled by it (deadline) or by `publisher.ts` (the log's answer), whichever is first.
 */
import type { Appended } from './event-log.ts';
import type { Outgoing } from './record.ts';

export class PendingWrite {
  readonly members: readonly Outgoing[];
  readonly transaction: boolean;
  /** Milliseconds since 1970. */
  readonly deadline: number;
  readonly sizeBytes: number;
  readonly outcome: Promise<readonly Appended[]>;
  /** An attempt ended without an answer: it may stand. */
  unsure = false;
  #settled = false;
  #resolve: (appended: readonly Appended[]) => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;

  constructor(members: readonly Outgoing[], options: { transaction: boolean; deadline: number }) {
    this.members = members;
    this.transaction = options.transaction;
    this.deadline = options.deadline;
    this.sizeBytes = members.reduce((sum, member) => sum + member.sizeBytes, 0);
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get settled(): boolean {
    return this.#settled;
  }

  /** Nothing happens where it is settled already. */
  succeed(sequences: readonly number[]): void {
    this.#settled = true;
    this.#resolve(sequences.map((sequence) => ({ sequence })));
  }

  fail(error: unknown): void {
    this.#settled = true;
    this.#reject(error instanceof Error ? error : new Error(String(error)));
  }
}
