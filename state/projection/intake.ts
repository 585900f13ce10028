/**
 * Stands between the log's follower and the projection's writer: while one batch is being committed the next gathers here, so that a busy log is written in large transactions and a quiet one at
 * once. A transaction's members always come within one batch, because batches are cut only where the follower stood.
 */
import type { Followed, LogRecord } from '../../event-log/event-log.ts';

export interface Batch {
  readonly records: readonly LogRecord[];
  readonly position: number;
}

const MAX_GATHERED_RECORDS = 2_000;
const MAX_GATHERED_BYTES = 16 * 1024 * 1024;

export class Intake {
  /** Settles (never rejects) when the follower has been left. */
  readonly closed: Promise<void>;
  readonly #onGathered: (position: number) => void;
  #gathered: Followed[] = [];
  #records = 0;
  #bytes = 0;
  #end: { readonly error?: unknown } | 'reset' | undefined;
  #wakeReader: () => void = () => undefined;
  #wakeFollower: () => void = () => undefined;

  constructor(source: AsyncIterable<Followed>, signal: AbortSignal, onGathered: (position: number) => void) {
    this.#onGathered = onGathered;
    this.closed = this.#gather(source, signal);
  }

  /** What has gathered, as soon as there is anything; `idle` after `idleMs` of nothing; `reset` and `ended` when that is all that is left. Rejects with what the follower threw. */
  async next(idleMs: number): Promise<Batch | 'idle' | 'reset' | 'ended'> {
    if (this.#gathered.length === 0 && this.#end === undefined) {
      const woken = await new Promise<boolean>((resolve) => {
        const timer = setTimeout(() => resolve(false), idleMs);
        this.#wakeReader = () => {
          clearTimeout(timer);
          resolve(true);
        };
      });
      this.#wakeReader = () => undefined;
      if (!woken) return 'idle';
    }
    const gathered = this.#gathered;
    const last = gathered.at(-1);
    if (last === undefined) {
      if (this.#end === 'reset') return 'reset';
      if (this.#end !== undefined && 'error' in this.#end) throw this.#end.error;
      return 'ended';
    }
    this.#gathered = [];
    this.#records = 0;
    this.#bytes = 0;
    this.#wakeFollower();
    return { records: gathered.flatMap((followed) => followed.records), position: last.position };
  }

  async #gather(source: AsyncIterable<Followed>, signal: AbortSignal): Promise<void> {
    try {
      for await (const followed of source) {
        if (followed.kind === 'reset') {
          this.#end = 'reset';
          break;
        }
        this.#gathered.push(followed);
        this.#onGathered(followed.position);
        this.#records += followed.records.length;
        for (const record of followed.records) this.#bytes += record.object.byteLength;
        this.#wakeReader();
        while ((this.#records >= MAX_GATHERED_RECORDS || this.#bytes >= MAX_GATHERED_BYTES) && !signal.aborted)
          await this.#drained(signal);
        if (signal.aborted) break;
      }
      this.#end ??= {};
    } catch (error) {
      this.#end = signal.aborted ? {} : { error };
    } finally {
      this.#wakeReader();
    }
  }

  #drained(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#wakeFollower = wake;
      signal.addEventListener('abort', wake, { once: true });
    });
  }
}
