/**
 * Keys that wait to be reconciled, as in controller-runtime: a key stands in the queue at most once, is worked on by at most one worker, backs off after failures (capped, with jitter) and
 * may ask to come again later. The queue is bounded by the number of objects. Used by `controller-loop.ts`.
 */
import { MAX_CAUSES, type ObjectKey } from '../event-log/event-log.ts';
import { meterQueue, type QueueMeter } from './metrics.ts';
import { keyText } from './object-store.ts';

const FIRST_BACK_OFF_MS = 5;
export const MAX_BACK_OFF_MS = 5 * 60_000;
const MAX_TIMER_MS = 2 ** 31 - 1;
/** Of the log. */
export const FIRST_SEQUENCE = 1;

export interface Work {
  readonly key: ObjectKey;
  /** The sequences of the newest changes that brought the key here; at most MAX_CAUSES. */
  readonly triggers: readonly number[];
  /** Failures in a row before this attempt. */
  readonly failures: number;
}

export type Outcome =
  | { readonly kind: 'done'; readonly requeueAfterMs?: number | undefined }
  /** At once, and not as a failure: the world moved on while the key was worked on. */
  | { readonly kind: 'again' }
  | { readonly kind: 'failed'; readonly maxBackOffMs?: number };

/** How much of what brought keys here has been answered. */
export interface Progress {
  /** The oldest sequence that brought a key which has not been worked on since with success; absent: there is none. */
  readonly owes?: number;
  /** Keys that failed when they were last tried. */
  readonly failing: number;
}

interface Entry {
  readonly key: ObjectKey;
  triggers: number[];
  /** The oldest sequence that brought the key since its last attempt began; infinite: none did. */
  owes: number;
  /** The same, of what the attempt that runs is to answer. */
  owesAtWork: number;
  waiting: boolean;
  running: boolean;
  failures: number;
  /** What the last failure cost; 0 after success. */
  backOffMs: number;
  timer: NodeJS.Timeout | undefined;
  /** On the monotonic clock: since when it has been waiting, and then worked on. */
  sinceMs: number;
}

export interface WorkQueueOptions {
  /** Under which it is measured; absent: it is not. */
  readonly name?: string;
  readonly concurrency: number;
  /** Must not reject. */
  readonly work: (work: Work) => Promise<Outcome>;
  /** In [0, 1); for tests. */
  readonly random?: () => number;
}

const secondsSince = (ms: number): number => (performance.now() - ms) / 1000;

export class WorkQueue {
  readonly #options: WorkQueueOptions;
  readonly #meter: QueueMeter | undefined;
  readonly #busy = new Set<Entry>();
  readonly #entries = new Map<string, Entry>();
  #line: Entry[] = [];
  #head = 0;
  #stopped = false;
  #idle: (() => void)[] = [];

  constructor(options: WorkQueueOptions) {
    this.#options = options;
    const { name, concurrency } = options;
    if (name === undefined) return;
    this.#meter = meterQueue(name, () => ({
      depth: this.#line.length - this.#head,
      underWaySeconds: [...this.#busy].map(({ sinceMs }) => secondsSince(sinceMs)),
      concurrency,
    }));
  }

  add(key: ObjectKey, trigger?: number): void {
    if (this.#stopped) return;
    const entry = this.#entry(key);
    if (trigger !== undefined) {
      entry.owes = Math.min(entry.owes, trigger);
      if (!entry.triggers.includes(trigger)) entry.triggers.push(trigger);
      if (entry.triggers.length > MAX_CAUSES) entry.triggers.shift();
    }
    this.#enqueue(entry);
  }

  /** For a key of which nobody here knows what has been answered: everything is owed. */
  addUnknown(key: ObjectKey): void {
    if (this.#stopped) return;
    const entry = this.#entry(key);
    entry.owes = FIRST_SEQUENCE;
    this.#enqueue(entry);
  }

  /** Takes no more work; resolves when what runs has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const entry of this.#entries.values()) clearTimeout(entry.timer);
    this.#entries.clear();
    this.#line = [];
    if (this.#busy.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    this.#meter?.end();
  }

  /** How many keys wait or run. */
  get size(): number {
    return this.#line.length - this.#head + this.#busy.size;
  }

  /** Looks at every key that waits, runs or is to come again. */
  progress(): Progress {
    let owes = Infinity;
    let failing = 0;
    for (const entry of this.#entries.values()) {
      owes = Math.min(owes, entry.owes, entry.owesAtWork);
      if (entry.failures > 0) failing++;
    }
    return { ...(owes !== Infinity && { owes }), failing };
  }

  #entry(key: ObjectKey): Entry {
    const id = keyText(key);
    const known = this.#entries.get(id);
    if (known) return known;
    const entry: Entry = {
      key,
      triggers: [],
      owes: Infinity,
      owesAtWork: Infinity,
      waiting: false,
      running: false,
      failures: 0,
      backOffMs: 0,
      timer: undefined,
      sinceMs: 0,
    };
    this.#entries.set(id, entry);
    return entry;
  }

  #enqueue(entry: Entry): void {
    clearTimeout(entry.timer);
    entry.timer = undefined;
    if (entry.waiting) return;
    entry.waiting = true;
    this.#meter?.added();
    // A key that changes while it is worked on waits for its worker.
    if (!entry.running) this.#stand(entry);
    this.#pump();
  }

  #stand(entry: Entry): void {
    entry.sinceMs = performance.now();
    this.#line.push(entry);
  }

  #later(entry: Entry, delayMs: number): void {
    this.#meter?.retried();
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => this.#enqueue(entry), Math.min(delayMs, MAX_TIMER_MS));
  }

  #pump(): void {
    while (!this.#stopped && this.#busy.size < this.#options.concurrency && this.#head < this.#line.length) {
      const entry = this.#line[this.#head++];
      if (this.#head > 1024 && this.#head * 2 > this.#line.length) {
        this.#line = this.#line.slice(this.#head);
        this.#head = 0;
      }
      if (entry) void this.#work(entry);
    }
    if (this.#head === this.#line.length && this.#head > 0) {
      this.#line = [];
      this.#head = 0;
    }
  }

  async #work(entry: Entry): Promise<void> {
    this.#busy.add(entry);
    this.#meter?.waited(secondsSince(entry.sinceMs));
    entry.sinceMs = performance.now();
    entry.running = true;
    entry.waiting = false;
    clearTimeout(entry.timer);
    entry.timer = undefined;
    const triggers = entry.triggers;
    entry.triggers = [];
    entry.owesAtWork = entry.owes;
    entry.owes = Infinity;
    const outcome = await this.#options.work({ key: entry.key, triggers, failures: entry.failures });
    this.#busy.delete(entry);
    this.#meter?.worked(secondsSince(entry.sinceMs));
    entry.running = false;
    if (this.#stopped) {
      if (this.#busy.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    // What led here is still unanswered.
    if (outcome.kind !== 'done') {
      entry.triggers = [...new Set([...triggers, ...entry.triggers])].slice(-MAX_CAUSES);
      entry.owes = Math.min(entry.owes, entry.owesAtWork);
    }
    entry.owesAtWork = Infinity;
    if (outcome.kind === 'failed') {
      entry.failures++;
      // Doubled from what the last failure cost, not from how many there were: who waited out an outage in short steps does not wait for minutes over the first error after it.
      entry.backOffMs = Math.min(
        Math.max(FIRST_BACK_OFF_MS, 2 * entry.backOffMs),
        outcome.maxBackOffMs ?? MAX_BACK_OFF_MS,
      );
    }
    if (outcome.kind === 'done') {
      entry.failures = 0;
      entry.backOffMs = 0;
    }
    if (entry.waiting) this.#stand(entry);
    else if (outcome.kind === 'again') this.#enqueue(entry);
    else if (outcome.kind === 'failed') this.#later(entry, this.#jittered(entry.backOffMs));
    else if (outcome.requeueAfterMs !== undefined) this.#later(entry, outcome.requeueAfterMs);
    else this.#entries.delete(keyText(entry.key));
    this.#pump();
  }

  /** Between half and the whole. */
  #jittered(backOffMs: number): number {
    return backOffMs * (0.5 + (this.#options.random ?? Math.random)() / 2);
  }
}
