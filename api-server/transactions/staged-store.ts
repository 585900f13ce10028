/**
 * The store as the members of a transaction see it: what stands, with the changes of the members before them on top. A verb prepares its write on it as ever; what it would append is kept here, and
 * nothing is written until `transaction.ts` hands it all to the log at once.
 */
import type { ResourceDefinition } from '../../api-schemas/schema.ts';
import type { ObjectKey } from '../../event-log/event-log.ts';
import { entryId, makeEntry, type Entry } from '../store/entry.ts';
import type { Change, Store } from '../store/object-store.ts';
import { ResourceCache } from '../store/resource-cache.ts';
import type { StreamCache } from '../store/stream-cache.ts';

export class StagedStore implements Store {
  readonly #base: Store;
  readonly #caches = new Map<string, StagedCache>();
  readonly #changes = new Map<string, Change>();

  /** The base must be as new as the log when the first member is prepared. */
  constructor(base: Store) {
    this.#base = base;
  }

  /** In the order in which they were staged, each object once. */
  get changes(): readonly Change[] {
    return [...this.#changes.values()];
  }

  get maxTransaction(): number {
    return this.#base.maxTransaction;
  }

  stream(definition: ResourceDefinition): StreamCache {
    return this.#base.stream(definition);
  }

  cache(definition: ResourceDefinition): StagedCache {
    const { group, resource } = definition;
    const id = `${group}/${resource}`;
    let cache = this.#caches.get(id);
    if (!cache) this.#caches.set(id, (cache = new StagedCache(this.#base.cache(definition))));
    return cache;
  }

  hasUid(uid: string): boolean {
    return this.#base.hasUid(uid);
  }

  /** The base is new enough; should it not be, the log refuses the whole. */
  async refreshGuard(): Promise<void> {}

  async current(): Promise<void> {}

  /** Keeps the change, and those that go with it, for the whole. */
  async append(change: Change): Promise<Entry> {
    for (const other of change.alongside ?? []) this.#stage(other);
    return this.#stage(change);
  }

  async transaction(changes: readonly Change[]): Promise<readonly Entry[]> {
    return changes.map((change) => this.#stage(change));
  }

  /** A second change to an object, such as a quota that several members count against, takes the place of the first and stands on what that one stood on. */
  #stage(change: Change): Entry {
    const { definition, key, object } = change;
    const first = this.#changes.get(changeId(key));
    const { alongside: _, ...alone } = change;
    const merged: Change = first
      ? {
          ...alone,
          guard: first.guard,
          verb: first.verb === 'create' && change.verb !== 'delete' ? 'create' : change.verb,
          plane: first.plane === 'desired' ? 'desired' : change.plane,
          allocates: (first.allocates ?? false) || (change.allocates ?? false),
        }
      : alone;
    this.#changes.set(changeId(key), merged);
    const { guard: sequence } = merged;
    const entry = makeEntry({ key, sequence, object, selectableFields: definition.selectableFields });
    if (change.verb === 'delete') this.cache(definition).unset(entry.id);
    else this.cache(definition).set(entry);
    return entry;
  }
}

export const changeId = (key: Pick<ObjectKey, 'group' | 'resource' | 'namespace' | 'name'>): string =>
  `${key.group}/${key.resource}/${entryId(key)}`;

/** The objects of one resource, staged ones in the place of those that stand. Only to read from: nobody watches it. */
export class StagedCache extends ResourceCache {
  readonly #base: ResourceCache;
  /** Undefined: deleted here. */
  readonly #staged = new Map<string, Entry | undefined>();

  constructor(base: ResourceCache) {
    super();
    this.#base = base;
  }

  set(entry: Entry): void {
    this.#staged.set(entry.id, entry);
  }

  unset(id: string): void {
    this.#staged.set(id, undefined);
  }

  override get(id: string): Entry | undefined {
    return this.#staged.has(id) ? this.#staged.get(id) : this.#base.get(id);
  }

  /** What the log has to say of the object does not change before the whole is written. */
  override guard(id: string): number {
    return this.#base.guard(id);
  }

  override list(): readonly Entry[] {
    if (this.#staged.size === 0) return this.#base.list();
    return this.#merged(this.#base.list()).sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  }

  override inNamespace(namespace: string): Entry[] {
    return this.#merged(this.#base.inNamespace(namespace)).filter(({ key }) => key.namespace === namespace);
  }

  override get size(): number {
    return this.list().length;
  }

  #merged(standing: readonly Entry[]): Entry[] {
    const kept = standing.filter(({ id }) => !this.#staged.has(id));
    return [...kept, ...[...this.#staged.values()].filter((entry) => entry !== undefined)];
  }
}
