/** Work that runs beside the plans: at most one at a time for a key, its last failure remembered, and word given when it ends. Used by the agent's operations. */
import type { Attempted } from './observation.ts';

const IDLE: Attempted = { inFlight: false };

/** Work that failed, with the reason that a status shows. */
export class WorkError extends Error {
  override readonly name = 'WorkError';
  readonly reason: string;
  constructor(reason: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

export class Attempts {
  readonly #byKey = new Map<string, Attempted>();
  readonly #onEnd: (key: string, error: unknown) => void;
  readonly #now: () => number;
  readonly #running = new Set<Promise<void>>();

  /** `onEnd` is called after the outcome is noted. */
  constructor(now: () => number, onEnd: (key: string, error: unknown) => void) {
    this.#now = now;
    this.#onEnd = onEnd;
  }

  of(key: string): Attempted {
    return this.#byKey.get(key) ?? IDLE;
  }

  /** Begins unless the same is under way. */
  begin(key: string, context: string, work: () => Promise<void>): void {
    const before = this.of(key);
    if (before.inFlight) return;
    this.#byKey.set(key, { ...before, inFlight: true });
    const running = work().then(
      () => {
        this.#byKey.delete(key);
        this.#onEnd(context, undefined);
      },
      (error: unknown) => {
        const message = error instanceof Error ? error.message : String(error);
        const reason = error instanceof WorkError ? error.reason : 'Error';
        this.#byKey.set(key, {
          inFlight: false,
          failure: { reason, message, count: (before.failure?.count ?? 0) + 1, atMs: this.#now() },
        });
        this.#onEnd(context, error);
      },
    );
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  forget(key: string): void {
    if (!this.of(key).inFlight) this.#byKey.delete(key);
  }

  forgetPrefix(prefix: string): void {
    for (const key of this.#byKey.keys()) if (key.startsWith(prefix)) this.forget(key);
  }
}

/** Who holds a place of a gate for so long has hung, and holds it no longer. */
const HOLD_MS = 15_000;

/** Lets so many through at once, in order of asking. */
export class Gate {
  #free: number;
  readonly #holdMs: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number, holdMs = HOLD_MS) {
    this.#free = places;
    this.#holdMs = holdMs;
  }

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    let holds = true;
    const leave = (): void => {
      if (!holds) return;
      holds = false;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    };
    const impatience = setTimeout(leave, this.#holdMs);
    try {
      return await work();
    } finally {
      clearTimeout(impatience);
      leave();
    }
  }
}
