/**
 * What a controller sees: the objects of the resources that it follows, kept current from the event log. Implemented by `log-world.ts`; handed to `observe` and to the `keysFor` of
 * watches. Objects are shared and must not be changed (clone before building on one).
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import type { ObjectKey } from '../event-log/event-log.ts';
import type { ResourceRef } from './controller.ts';

/**
 * Stands for every resource of the main log (all but Leases and Events, which must be named): as a controller's own resource, every object becomes a key; as a list's, it spans them all.
 * For the few controllers that concern objects of any kind: garbage collection, namespaces.
 */
export const EVERY_RESOURCE: ResourceRef = { group: '*', version: '*', resource: '*' };

export interface ListOptions {
  readonly namespace?: string;
  /** As in `spec.selector`: both parts must match. */
  readonly selector?: LabelSelector;
  /** Only objects with an owner reference to this uid. Indexed. */
  readonly ownerUid?: string;
}

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

export interface World {
  /** Undefined when there is none. `metadata.resourceVersion` is set. Throws for a resource that no controller of this process follows. */
  get<T extends ApiObject = ApiObject>(
    resource: Pick<ResourceRef, 'group' | 'resource'>,
    namespace: string,
    name: string,
  ): T | undefined;
  list<T extends ApiObject = ApiObject>(
    resource: Pick<ResourceRef, 'group' | 'resource'>,
    options?: ListOptions,
  ): readonly T[];
  /** The object with this uid, of whatever followed resource. */
  byUid<T extends ApiObject = ApiObject>(uid: string): T | undefined;
  /** What an object of this World is called in the log: its group, plural, namespace and name. */
  keyOf(object: ApiObject): ObjectKey;
  /** Every record of the followed resources up to this sequence is in. */
  readonly position: number;
  /** The sequence of the object's newest `desired` record: what an action that answers to the object names as its cause. */
  desiredSequence(object: ApiObject): number;
}
