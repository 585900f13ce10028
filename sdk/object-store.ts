/**
 * The objects of one stream in memory, indexed by name, namespace, uid and owner. Filled and read by `log-world.ts`.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import type { ObjectKey } from '../event-log/event-log.ts';
import { matchesSelector } from './label-selector.ts';
import type { ListOptions } from './world.ts';

export interface StoredObject {
  readonly key: ObjectKey;
  readonly object: ApiObject;
  readonly sequence: number;
  readonly desiredSequence: number;
}

/** One line for a key; parts cannot hold a slash. */
export const keyText = (key: ObjectKey): string => `${key.group}/${key.resource}/${key.namespace}/${key.name}`;

const resourceText = (resource: { readonly group: string; readonly resource: string }): string =>
  `${resource.group}/${resource.resource}`;

export class ObjectStore {
  readonly #resources = new Map<string, Map<string, Map<string, StoredObject>>>();
  readonly #byUid = new Map<string, StoredObject>();
  readonly #byOwner = new Map<string, Set<StoredObject>>();

  get(key: ObjectKey): StoredObject | undefined {
    return this.#resources.get(resourceText(key))?.get(key.namespace)?.get(key.name);
  }

  byUid(uid: string): StoredObject | undefined {
    return this.#byUid.get(uid);
  }

  /** Replaces the object of that name. */
  put(stored: StoredObject): void {
    this.remove(stored.key);
    const { key, object } = stored;
    const namespaces = this.#resources.get(resourceText(key)) ?? new Map<string, Map<string, StoredObject>>();
    this.#resources.set(resourceText(key), namespaces);
    const names = namespaces.get(key.namespace) ?? new Map<string, StoredObject>();
    namespaces.set(key.namespace, names);
    names.set(key.name, stored);
    if (object.metadata.uid) this.#byUid.set(object.metadata.uid, stored);
    for (const owner of object.metadata.ownerReferences ?? []) {
      const owned = this.#byOwner.get(owner.uid) ?? new Set<StoredObject>();
      this.#byOwner.set(owner.uid, owned.add(stored));
    }
  }

  remove(key: ObjectKey): StoredObject | undefined {
    const namespaces = this.#resources.get(resourceText(key));
    const names = namespaces?.get(key.namespace);
    const stored = names?.get(key.name);
    if (!namespaces || !names || !stored) return undefined;
    names.delete(key.name);
    if (names.size === 0) namespaces.delete(key.namespace);
    const { uid, ownerReferences } = stored.object.metadata;
    if (uid && this.#byUid.get(uid) === stored) this.#byUid.delete(uid);
    for (const owner of ownerReferences ?? []) {
      const owned = this.#byOwner.get(owner.uid);
      owned?.delete(stored);
      if (owned?.size === 0) this.#byOwner.delete(owner.uid);
    }
    return stored;
  }

  /** `resource` absent: every resource. */
  *select(
    resource: { readonly group: string; readonly resource: string } | undefined,
    options: ListOptions = {},
  ): Iterable<StoredObject> {
    for (const stored of this.#candidates(resource, options)) {
      if (resource && (stored.key.resource !== resource.resource || stored.key.group !== resource.group)) continue;
      if (options.namespace !== undefined && stored.key.namespace !== options.namespace) continue;
      if (options.selector && !matchesSelector(options.selector, stored.object.metadata.labels)) continue;
      yield stored;
    }
  }

  *#candidates(
    resource: { readonly group: string; readonly resource: string } | undefined,
    options: ListOptions,
  ): Iterable<StoredObject> {
    if (options.ownerUid !== undefined) {
      yield* this.#byOwner.get(options.ownerUid) ?? [];
      return;
    }
    const resources = resource ? [this.#resources.get(resourceText(resource))] : this.#resources.values();
    for (const namespaces of resources) {
      if (!namespaces) continue;
      const chosen = options.namespace === undefined ? namespaces.values() : [namespaces.get(options.namespace)];
      for (const names of chosen) if (names) yield* names.values();
    }
  }
}
