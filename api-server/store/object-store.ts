/**
 * Reads and writes of API objects, over the two streams. The verbs call this and nothing below it: where a kind is stored, sealing, guards, time-outs and what the log's refusals mean
 * are settled here.
 */
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import { GuardError, LogUnavailableError, TooLargeError } from '../../event-log/event-log.ts';
import type { EventLog, ObjectKey, Plane, Reason, Verb, Write } from '../../event-log/event-log.ts';
import { internal, tooLarge, unavailable } from '../errors.ts';
import { allocationLockKey, lockWrite } from './allocation.ts';
import { entryId, makeEntry, type Entry } from './entry.ts';
import type { ResourceCache } from './resource-cache.ts';
import type { Sealer } from './seal.ts';
import type { StreamCache } from './stream-cache.ts';

/** The largest object that is stored, as in Kubernetes. */
export const MAX_OBJECT_BYTES = 1.5 * 1024 * 1024;

/** Who writes, on whose behalf and in answer to what. */
export interface Provenance {
  readonly actor: string;
  readonly requestId: string;
  readonly causes: readonly number[];
  readonly reason?: Reason;
}

export interface Change extends Provenance {
  readonly definition: ResourceDefinition;
  readonly key: ObjectKey;
  readonly verb: Verb;
  readonly plane: Plane;
  /** The sequence that the change was computed on. */
  readonly guard: number;
  readonly object: ApiObject;
  /** The object takes numbers that no other may have: it stands only if nobody else has taken any since. */
  readonly allocates?: boolean;
  /** Changes to objects of the event log that stand or fall with this one, and come before it. */
  readonly alongside?: readonly Change[];
}

interface Shelf {
  readonly stream: StreamCache;
  readonly log: EventLog;
}

export interface ObjectStoreOptions {
  readonly log: Shelf;
  readonly ephemeral: Shelf;
  readonly sealer: Sealer;
  /** Told of each append that was made, how long it took. */
  readonly appended?: (milliseconds: number) => void;
  /** Seconds after which a record of an ephemeral kind expires; undefined for those that do not. */
  readonly ttlSeconds: (definition: ResourceDefinition) => number | undefined;
}

/** What the verbs need of it, and a transaction puts something else in the place of. */
export type Store = Pick<ObjectStore, keyof ObjectStore>;

export class ObjectStore {
  readonly #options: ObjectStoreOptions;

  constructor(options: ObjectStoreOptions) {
    this.#options = options;
  }

  #shelf(definition: ResourceDefinition): Shelf {
    if (definition.storage === 'none') throw internal(`${definition.resource} are not stored`);
    return definition.storage === 'ephemeral' ? this.#options.ephemeral : this.#options.log;
  }

  get maxTransaction(): number {
    return this.#options.log.log.maxTransaction;
  }

  stream(definition: ResourceDefinition): StreamCache {
    return this.#shelf(definition).stream;
  }

  cache(definition: ResourceDefinition): ResourceCache {
    return this.stream(definition).resource(definition.group, definition.resource);
  }

  /** Whether any stored object has this uid. Looks at every object: for rare questions. */
  hasUid(uid: string): boolean {
    for (const { stream } of [this.#options.log, this.#options.ephemeral]) {
      for (const [, cache] of stream.resources()) if (cache.list().some((entry) => entry.uid === uid)) return true;
    }
    return false;
  }

  /**
   * Learns the guard of an object that is not there from the log itself: the tombstone that the cache remembers may have been trimmed meanwhile, and then the guard is 0 again.
   */
  async refreshGuard(definition: ResourceDefinition, key: ObjectKey): Promise<void> {
    await this.current(definition);
    try {
      const newest = await this.#shelf(definition).log.newest(key);
      if (!newest) this.cache(definition).forgetTombstone(entryId(key));
    } catch (error) {
      throw translate(error);
    }
  }

  /** Makes the cache of this kind as new as the log itself was when the call began. Rejects with 503. */
  async current(definition: ResourceDefinition): Promise<void> {
    try {
      await this.stream(definition).current();
    } catch (error) {
      throw translate(error);
    }
  }

  /**
   * Durable, and visible to reads on this server, when it resolves; the entry is the object as it was written. Rejects with GuardError when the object has moved on, and with
   * a StatusError for everything that is the log's fault or limit.
   */
  async append(change: Change): Promise<Entry> {
    const { definition, key, object } = change;
    const { stream, log } = this.#shelf(definition);
    const began = performance.now();
    try {
      const [write, ...others] = await Promise.all(
        [change, ...(change.alongside ?? [])].map((one) => this.#write(one)),
      );
      if (!write) throw internal('there is nothing to write');
      const before = change.allocates ? [this.#lock(write), ...others] : others;
      const sequence =
        before.length === 0
          ? (await log.append(write)).sequence
          : ((await log.transaction([...before, write])).at(-1)?.sequence ?? 0);
      await stream.reached(sequence);
      this.#options.appended?.(performance.now() - began);
      const entry = this.cache(definition).get(entryId(key));
      if (entry?.sequence === sequence) return entry;
      return makeEntry({ key, sequence, object, selectableFields: definition.selectableFields });
    } catch (error) {
      throw translate(error);
    }
  }

  /** Comes before what it locks, so that the object's own sequence is the transaction's end. */
  #lock(write: Write): Write {
    const lock = allocationLockKey(write.key.resource);
    const guard = this.#options.log.stream.resource(lock.group, lock.resource).guard(entryId(lock));
    return lockWrite(write, guard);
  }

  /** All or none; every change of a kind in the event log, each of an object of its own. */
  async transaction(changes: readonly Change[]): Promise<readonly Entry[]> {
    const { stream, log } = this.#options.log;
    try {
      const writes = await Promise.all(changes.map((change) => this.#write(change)));
      const allocating = writes.filter((_, index) => changes[index]?.allocates);
      // One lock of a resource holds for all of its changes.
      const locks = [...new Map(allocating.map((write) => [write.key.resource, this.#lock(write)])).values()];
      const appended = await log.transaction([...locks, ...writes]);
      await stream.reached(appended.at(-1)?.sequence ?? 0);
      return changes.map(({ key, object, definition }, index) =>
        makeEntry({
          key,
          sequence: appended[locks.length + index]?.sequence ?? 0,
          object,
          selectableFields: definition.selectableFields,
        }),
      );
    } catch (error) {
      throw translate(error);
    }
  }

  async #write(change: Change): Promise<Write> {
    const { definition, key, verb, plane, guard, actor, requestId, causes, reason } = change;
    const object = withoutVersion(change.object);
    const stored = definition.sealed.length > 0 ? await this.#options.sealer.seal(object, definition.sealed) : object;
    const json = JSON.stringify(stored);
    if (json.length > MAX_OBJECT_BYTES / 4 && Buffer.byteLength(json) > MAX_OBJECT_BYTES) {
      throw tooLarge(`the object is ${Buffer.byteLength(json)} bytes long, the limit is ${MAX_OBJECT_BYTES}`);
    }
    const ttlSeconds = this.#options.ttlSeconds(definition);
    return {
      key,
      plane: definition.storage === 'ephemeral' ? 'desired' : plane,
      verb,
      uid: object.metadata.uid ?? '',
      guard,
      object: json,
      actor,
      requestId,
      time: new Date().toISOString(),
      causes,
      ...(reason && { reason }),
      ...(ttlSeconds !== undefined && { ttlSeconds }),
    };
  }
}

/** The object as it stands in the log: `apiVersion`, `kind` and `metadata` first, no resourceVersion. */
function withoutVersion(object: ApiObject): ApiObject {
  const { apiVersion, kind, metadata, ...rest } = object;
  const { resourceVersion: _, ...kept } = metadata;
  return { apiVersion, kind, metadata: kept as ApiObject['metadata'], ...rest };
}

function translate(error: unknown): unknown {
  if (error instanceof GuardError) return error;
  if (error instanceof LogUnavailableError)
    return unavailable(
      'the event log did not answer in time; the write may or may not have been made, read before you repeat it',
      { cause: error },
    );
  if (error instanceof TooLargeError) return tooLarge(error.message);
  return error;
}
