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
  timer?: NodeJS.Timeout;
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
    const unread: Unread = { sinceMs: Date.now() };
    this.#byId.set(id, unread);
    this.#giveWord(id, unread, FIRST_WORD_MS);
    void this.#retry(id, unread);
  }

  /** It has answered, or is gone. */
  settle(id: string): void {
    clearTimeout(this.#byId.get(id)?.timer);
    this.#byId.delete(id);
  }

  #giveWord(id: string, unread: Unread, afterMs: number): void {
    unread.timer = setTimeout(() => {
      if (this.#signal.aborted) return;
      this.#tell(id, unread.sinceMs);
      if (this.#byId.get(id) === unread)
        this.#giveWord(id, unread, Math.min(LAST_WORD_MS, Date.now() - unread.sinceMs));
    }, afterMs).unref();
  }

  async #retry(id: string, unread: Unread): Promise<void> {
    for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(LAST_RETRY_MS, waitMs * 2)) {
      await new Promise((resolve) => setTimeout(resolve, waitMs).unref());
      if (this.#byId.get(id) !== unread || this.#signal.aborted) return;
      await this.#read(id);
    }
  }
}
