/**
 * What the agent does to containers and why, on its way into the database, where `reckon why` reads it days later: a container that is stopped says itself only that it ended. Noted by `operations.ts`, written by
 * `recorder.ts`; while PostgreSQL is away the newest are kept.
 */
import { StateUnavailableError } from '../../state/errors.ts';
import type { RuntimeEvent } from '../../state/runtime-facts.ts';

export type Note = Omit<RuntimeEvent, 'id' | 'time' | 'node'>;

const MAX_KEPT = 1_000;

export class Notes {
  #kept: Note[] = [];

  add(note: Note): void {
    this.#kept.push(note);
    if (this.#kept.length > MAX_KEPT) this.#kept.shift();
  }

  get isEmpty(): boolean {
    return this.#kept.length === 0;
  }

  /** Oldest first; each is let go once it has been written, or cannot be. Rejects with StateUnavailableError. */
  async write(one: (note: Note) => Promise<void>): Promise<void> {
    for (let note = this.#kept[0]; note; note = this.#kept[0]) {
      try {
        await one(note);
      } catch (error) {
        if (error instanceof StateUnavailableError) throw error;
        // What cannot be stored must not hold up what can.
      }
      if (this.#kept[0] === note) this.#kept.shift();
    }
  }
}
