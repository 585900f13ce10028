/**
 * The World over the event log: one per process, shared by all controllers in it. `run.ts` opens it with the union of what they follow.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import type { FollowerName, LogReader, ObjectKey } from '../event-log/event-log.ts';
import type { ResourceRef } from './controller.ts';
import type { Logger } from './logger.ts';
import type { StoredObject } from './object-store.ts';
import { type Change, StreamView } from './stream-view.ts';
import { EVERY_RESOURCE, type ListOptions, type World } from './world.ts';

export type { Change } from './stream-view.ts';

type GroupResource = Pick<ResourceRef, 'group' | 'resource'>;

export interface LogWorldOptions {
  readonly log: LogReader;
  /** Needed only where Leases or Events are followed. */
  readonly ephemeralLog?: LogReader | undefined;
  /** What to follow. */
  readonly resources: readonly GroupResource[];
  /** As which the process is shown among the log's followers. */
  readonly follower?: FollowerName;
  readonly logger: Logger;
}

const EPHEMERAL = new Set(['coordination.k8s.io/leases', '/events', 'events.k8s.io/events']);

/** Whether a resource lives in the second stream, whose sequences are its own. */
export const isEphemeral = (resource: GroupResource): boolean =>
  EPHEMERAL.has(`${resource.group}/${resource.resource}`);

const isEvery = (resource: GroupResource): boolean =>
  resource.resource === EVERY_RESOURCE.resource && resource.group === EVERY_RESOURCE.group;

export class LogWorld implements World {
  readonly #followed: ReadonlySet<string>;
  readonly #followsEverything: boolean;
  readonly #main: StreamView | undefined;
  readonly #ephemeral: StreamView | undefined;
  readonly #listeners = new Set<(changes: readonly Change[]) => void>();
  readonly #stored = new WeakMap<ApiObject, StoredObject>();
  readonly #stop = new AbortController();
  readonly #following: readonly Promise<void>[];

  constructor(options: LogWorldOptions) {
    const resources = options.resources;
    this.#followsEverything = resources.some(isEvery);
    this.#followed = new Set(resources.map((resource) => `${resource.group}/${resource.resource}`));
    const onChanges = (changes: readonly Change[]): void => {
      for (const { key, object, sequence, desiredSequence } of changes)
        this.#stored.set(object, { key, object, sequence, desiredSequence });
      for (const listener of this.#listeners) listener(changes);
    };
    const filtersOf = (wanted: readonly GroupResource[]): { group: string; resource: string }[] => {
      const distinct = new Map(wanted.map(({ group, resource }) => [`${group}/${resource}`, { group, resource }]));
      return [...distinct.values()];
    };
    const main = resources.filter((resource) => !isEphemeral(resource));
    const ephemeral = resources.filter(isEphemeral);
    if (main.length > 0) {
      const filters = this.#followsEverything ? undefined : filtersOf(main);
      const { log, follower, logger } = options;
      this.#main = new StreamView({ log, follower, ...(filters && { filters }), logger, onChanges });
    }
    if (ephemeral.length > 0) {
      if (!options.ephemeralLog)
        throw new Error('a controller follows Leases or Events, but the ephemeral stream was not opened');
      this.#ephemeral = new StreamView({
        log: options.ephemeralLog,
        filters: filtersOf(ephemeral),
        logger: options.logger,
        onChanges,
      });
    }
    this.#following = this.#views().map((view) => view.follow(this.#stop.signal));
  }

  /** Resolves when the first snapshot of everything followed is in. */
  async filled(): Promise<void> {
    await Promise.all(this.#views().map((view) => view.filled));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#following);
  }

  /** Called after each delivery, in log order. Returns how to stop. */
  onChanges(listener: (changes: readonly Change[]) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  follows(resource: GroupResource): boolean {
    return (
      this.#followed.has(`${resource.group}/${resource.resource}`) ||
      (this.#followsEverything && !isEphemeral(resource))
    );
  }

  /** Resolves to true once everything of the resource's stream up to the sequence is in; to false after the time-out. */
  waitFor(resource: GroupResource, sequence: number, timeoutMs: number): Promise<boolean> {
    return this.#viewOf(resource).waitFor(sequence, timeoutMs);
  }

  /** How far the resource's stream has been followed. */
  positionOf(resource: GroupResource): number {
    return this.#viewOf(resource).position;
  }

  get position(): number {
    return this.#main?.position ?? 0;
  }

  get<T extends ApiObject = ApiObject>(resource: GroupResource, namespace: string, name: string): T | undefined {
    const stored = this.#viewOf(resource).store.get({
      group: resource.group,
      resource: resource.resource,
      namespace,
      name,
    });
    return stored && (this.#remember(stored) as T);
  }

  list<T extends ApiObject = ApiObject>(resource: GroupResource, options: ListOptions = {}): readonly T[] {
    const objects: T[] = [];
    const every = isEvery(resource);
    for (const stored of this.#viewOf(resource).store.select(every ? undefined : resource, options))
      objects.push(this.#remember(stored) as T);
    return objects;
  }

  byUid<T extends ApiObject = ApiObject>(uid: string): T | undefined {
    for (const view of this.#views()) {
      const stored = view.store.byUid(uid);
      if (stored) return this.#remember(stored) as T;
    }
    return undefined;
  }

  keyOf(object: ApiObject): ObjectKey {
    const stored = this.#stored.get(object);
    if (!stored) throw new Error(`${object.kind} ${object.metadata.name} was not read from this World`);
    return stored.key;
  }

  desiredSequence(object: ApiObject): number {
    return this.#stored.get(object)?.desiredSequence || Number(object.metadata.resourceVersion ?? 0);
  }

  #views(): StreamView[] {
    return [this.#main, this.#ephemeral].filter((view) => view !== undefined);
  }

  #viewOf(resource: GroupResource): StreamView {
    const view = isEphemeral(resource) ? this.#ephemeral : this.#main;
    if (!view || !(isEvery(resource) ? this.#followsEverything : this.follows(resource))) {
      throw new Error(
        `no controller of this process follows ${resource.resource} of group '${resource.group}': name it in watches`,
      );
    }
    return view;
  }

  #remember(stored: StoredObject): ApiObject {
    this.#stored.set(stored.object, stored);
    return stored.object;
  }
}
