/**
 * The containers over which the engine hangs: each is asked after again, later and later, until the engine has answered, and word is given of it in between. Kept by the runtime cache; everything else goes on
 * meanwhile with what was last known.
 */
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;
/** Word is given when it has lasted so long, then when it has lasted twice as long, and at last every five minutes. */
const FIRST_WORD_MS = 10_000;
const LAST_WORD_MS = 300_000;

interface Unread {
  readonly sinceMs: number;
  retryMs: number;
  wordAtMs: number;
  wordMs: number;
}

export class UnreadContainers {
  readonly #byId = new Map<string, Unread>();
  readonly #read: (id: string) => Promise<void>;
  readonly #tell: (id: string, sinceMs: number) => void;
  readonly #signal: AbortSignal;

  /** `read` reads the container anew, and ends in `add` or `settle`. */
  constructor(options: {
    readonly read: (id: string) => Promise<void>;
    readonly tell: (id: string, sinceMs: number) => void;
    readonly signal: AbortSignal;
  }) {
    this.#read = options.read;
    this.#tell = options.tell;
    this.#signal = options.signal;
  }

  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** It has not answered. */
  add(id: string): void {
    if (this.#byId.has(id)) return;
    const now = Date.now();
    this.#byId.set(id, { sinceMs: now, retryMs: FIRST_RETRY_MS, wordAtMs: now + FIRST_WORD_MS, wordMs: FIRST_WORD_MS });
    void this.#follow(id);
  }

  /** It has answered, or is gone. */
  settle(id: string): void {
    this.#byId.delete(id);
  }

  async #follow(id: string): Promise<void> {
    for (;;) {
      const unread = this.#byId.get(id);
      if (unread === undefined || this.#signal.aborted) return;
      if (Date.now() >= unread.wordAtMs) {
        this.#tell(id, unread.sinceMs);
        unread.wordAtMs = Date.now() + unread.wordMs;
        unread.wordMs = Math.min(LAST_WORD_MS, unread.wordMs * 2);
      }
      await new Promise((resolve) => setTimeout(resolve, unread.retryMs).unref());
      unread.retryMs = Math.min(LAST_RETRY_MS, unread.retryMs * 2);
      if (this.#byId.get(id) === unread && !this.#signal.aborted) await this.#read(id);
    }
  }
}
