/**
 * One stream, followed into memory: a ResourceCache for every resource that has records, and the position up to which all of them are complete. The API server has two: the event
 * log and the ephemeral stream (Leases, Events). Records of sealed kinds are opened here, on their way in.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { LogUnavailableError } from '../../event-log/event-log.ts';
import type { Followed, Follower, FollowerName, LogReader, LogRecord } from '../../event-log/event-log.ts';
import { unavailable } from '../errors.ts';
import { entryId, makeEntry, type Entry } from './entry.ts';
import { ResourceCache } from './resource-cache.ts';

/** What the cache must know of a resource to index its objects. */
export interface Indexing {
  readonly selectableFields: readonly string[];
  readonly sealed: readonly string[];
}

export interface StreamCacheOptions {
  readonly log: LogReader;
  /** As which the cache is shown among the log's followers. */
  readonly follower?: FollowerName;
  readonly indexing: (group: string, resource: string) => Indexing;
  /** Opens the sealed fields of an object, in place. */
  readonly unseal: (object: ApiObject, fields: readonly string[]) => Promise<void>;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/** How long a read waits for the follower to reach a sequence before it answers 503. */
const WAIT_MS = 10_000;
const UNSEAL_RETRY_MS = 500;

interface Waiter {
  readonly position: number;
  readonly resolve: () => void;
}

export class StreamCache {
  readonly #options: StreamCacheOptions;
  readonly #resources = new Map<string, ResourceCache>();
  readonly #positionListeners = new Set<(position: number) => void>();
  #waiters: Waiter[] = [];
  #position = 0;
  /** Events after this one have been seen by whoever is in memory; a resource that nobody has asked for yet has had none. */
  #historyFrom = Number.MAX_SAFE_INTEGER;
  #complete = false;
  #ready: Promise<void> | undefined;

  constructor(options: StreamCacheOptions) {
    this.#options = options;
  }

  /** Everything up to here is in, and here is no middle of a transaction. */
  get position(): number {
    return this.#position;
  }

  get complete(): boolean {
    return this.#complete;
  }

  resource(group: string, resource: string): ResourceCache {
    const id = `${group}/${resource}`;
    let cache = this.#resources.get(id);
    if (!cache) {
      cache = new ResourceCache();
      cache.beginHistory(this.#historyFrom);
      this.#resources.set(id, cache);
    }
    return cache;
  }

  resources(): Iterable<[string, ResourceCache]> {
    return this.#resources;
  }

  /** Follows until the signal; resolves once the first snapshot is complete. */
  start(): Promise<void> {
    this.#ready ??= new Promise((resolve, reject) => void this.#follow(resolve).catch(reject));
    return this.#ready;
  }

  async #follow(ready: () => void): Promise<void> {
    const { log, follower, signal, logger } = this.#options;
    const onUnreadable = (sequence: number, reason: string) =>
      logger.error({ sequence, reason }, 'record is unreadable and was passed over');
    if (follower) {
      const { names, process } = follower;
      const stop = log.answerFollowers(process, () => names.map((name) => ({ name, seen: this.#position })));
      signal.addEventListener('abort', stop, { once: true });
    }
    for await (const followed of log.follow({ from: 'snapshot', follower, signal, onUnreadable })) {
      if (followed.kind === 'reset') this.#reset();
      await this.#apply(followed);
      if (followed.caughtUp && !this.#complete) {
        this.#complete = true;
        this.#historyFrom = this.#position;
        for (const cache of this.#resources.values()) cache.beginHistory(this.#historyFrom);
        this.#wake();
        ready();
      }
    }
  }

  /** The follower begins again from a snapshot: watches end, and their clients list again. */
  #reset(): void {
    this.#options.logger.warn('the log was trimmed beyond the cursor; filling the cache again');
    for (const cache of this.#resources.values()) cache.clear();
    this.#complete = false;
    this.#position = 0;
    this.#historyFrom = Number.MAX_SAFE_INTEGER;
  }

  async #apply(followed: Followed): Promise<void> {
    const opened = await Promise.all(followed.records.map((record) => this.#open(record)));
    followed.records.forEach((record, index) => {
      try {
        this.#put(record, opened[index]);
      } catch (error) {
        this.#report(record, error);
      }
    });
    if (followed.position > this.#position) this.#advance(followed.position);
  }

  async #open(record: LogRecord): Promise<ApiObject | undefined> {
    if (record.object.length === 0) return undefined;
    let object: ApiObject;
    try {
      object = JSON.parse(
        Buffer.from(record.object.buffer, record.object.byteOffset, record.object.byteLength).toString(),
      ) as ApiObject;
    } catch (error) {
      this.#report(record, error);
      return undefined;
    }
    const { sealed } = this.#options.indexing(record.key.group, record.key.resource);
    return sealed.length === 0 ? object : this.#unsealed(record, object, sealed);
  }

  /** While the keys cannot be reached the follower waits: an object must not be lost to an outage. */
  async #unsealed(record: LogRecord, object: ApiObject, sealed: readonly string[]): Promise<ApiObject | undefined> {
    const { logger, signal, unseal } = this.#options;
    while (!signal.aborted) {
      try {
        await unseal(object, sealed);
        return object;
      } catch (error) {
        if (!(error instanceof LogUnavailableError)) {
          this.#report(record, error);
          return undefined;
        }
        logger.warn({ sequence: record.sequence, err: error }, 'the key of a record cannot be had just now');
        await sleep(UNSEAL_RETRY_MS);
      }
    }
    return undefined;
  }

  #report(record: LogRecord, error: unknown): void {
    this.#options.logger.error({ sequence: record.sequence, err: error }, 'record is unreadable and was passed over');
  }

  #put(record: LogRecord, object: ApiObject | undefined): void {
    const { key, sequence } = record;
    const cache = this.resource(key.group, key.resource);
    const { selectableFields } = this.#options.indexing(key.group, key.resource);
    const asEntry = (): Entry | undefined => object && makeEntry({ key, sequence, object, selectableFields });
    if (record.verb === 'delete') {
      cache.remove(entryId(key), sequence, (previous) => asEntry() ?? { ...previous, sequence }, this.#complete);
      return;
    }
    const entry = asEntry();
    if (entry) cache.put(entry, this.#complete);
  }

  #advance(position: number): void {
    this.#position = position;
    this.#wake();
    for (const listener of this.#positionListeners) listener(position);
  }

  #wake(): void {
    if (this.#waiters.length === 0 || !this.#complete) return;
    const due = this.#waiters.filter((waiter) => waiter.position <= this.#position);
    this.#waiters = this.#waiters.filter((waiter) => waiter.position > this.#position);
    for (const waiter of due) waiter.resolve();
  }

  onPosition(listener: (position: number) => void): () => void {
    this.#positionListeners.add(listener);
    return () => this.#positionListeners.delete(listener);
  }

  /** Resolves once the cache is complete and has reached `position`. Rejects with 503 after `WAIT_MS`. */
  reached(position: number): Promise<void> {
    if (this.#complete && position <= this.#position) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        position,
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        reject(unavailable(`the event log has not been followed up to revision ${position} in time; try again`));
      }, WAIT_MS);
      this.#waiters.push(waiter);
    });
  }

  /** Who else follows the stream. Rejects with LogUnavailableError. */
  followers(): Promise<readonly Follower[]> {
    return this.#options.log.followers();
  }

  /** Waits until a read that begins now sees every write that was acknowledged before it, by whichever API server. */
  async current(): Promise<void> {
    await this.reached(await this.#options.log.lastSequence());
  }
}
