/**
 * Keeps the members of a transaction together: what the follower adds comes out again as far as the last transaction end, never further. Pure.
 * A filter, or the trimmer, may have taken some of the members; the end is known from place and count, because members are contiguous.
 */
import type { LogRecord } from './event-log.ts';

export class TransactionAssembly {
  #ready: LogRecord[] = [];
  #held: LogRecord[] = [];
  #end = 0;
  #through = 0;
  readonly #report: (sequence: number, reason: string) => void;

  constructor(report: (sequence: number, reason: string) => void) {
    this.#report = report;
  }

  /** A transaction has begun and not ended. */
  get open(): boolean {
    return this.#held.length > 0;
  }

  /** Where the open transaction ends. */
  get end(): number {
    return this.#end;
  }

  /** The last sequence known to be no middle of a transaction. */
  get through(): number {
    return this.#through;
  }

  /** In order; `record` is undefined for a message that is no readable record. */
  add(sequence: number, record: LogRecord | undefined): void {
    if (this.open && sequence > this.#end) this.#close(this.#end);
    const { transaction } = record ?? {};
    if (this.open && record && transaction?.id !== this.#held[0]?.transaction?.id) {
      this.#report(sequence, `a transaction was torn: its members end before ${sequence}`);
      this.#close(sequence - 1);
    }
    if (record && (this.open || (transaction && transaction.place < transaction.count))) {
      if (!this.open && transaction) this.#end = sequence + transaction.count - transaction.place;
      this.#held.push(record);
      if (sequence >= this.#end) this.#close(sequence);
      return;
    }
    if (record) this.#ready.push(record);
    if (!this.open) this.#through = sequence;
    else if (sequence >= this.#end) this.#close(sequence);
  }

  /** Nothing more comes up to and including `sequence`. */
  closeAt(sequence: number): void {
    if (this.open && sequence < this.#end) return;
    this.#close(Math.max(this.#through, sequence));
  }

  take(): LogRecord[] {
    const ready = this.#ready;
    this.#ready = [];
    return ready;
  }

  #close(through: number): void {
    for (const record of this.#held) this.#ready.push(record);
    this.#held = [];
    this.#through = Math.max(this.#through, through);
  }
}
