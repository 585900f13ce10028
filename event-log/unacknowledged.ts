/**
 * The writes of this process that JetStream may already show to consumers though it has not yet made them durable: members of atomic batches between their
 * sending and their acknowledgement. The group commit enters and removes them; the follower of the same log withholds them meanwhile.
 */
export class Unacknowledged {
  readonly #writes = new Map<string, Promise<void>>();

  /** Until the outcome is known, whatever it is. */
  add(writeIds: readonly string[], outcome: Promise<unknown>): void {
    if (this.#writes.has(writeIds[0] ?? '')) return;
    const forget = () => {
      for (const writeId of writeIds) this.#writes.delete(writeId);
    };
    const settled = outcome.then(forget, forget);
    for (const writeId of writeIds) this.#writes.set(writeId, settled);
  }

  /** Undefined where the record may be shown at once. */
  outcome(writeId: string): Promise<void> | undefined {
    return this.#writes.get(writeId);
  }
}
