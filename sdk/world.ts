/**
 * What a controller sees: the objects of the resources that it follows, kept current from the event log. Implemented by `log-world.ts`; handed to `observe` and to the `keysFor` of
 * watches. Objects are shared and must not be changed (clone before building on one).
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import type { ResourceRef } from './controller.ts';

export interface ListOptions {
  readonly namespace?: string;
  /** As in `spec.selector`: both parts must match. */
  readonly selector?: LabelSelector;
  /** Only objects with an owner reference to this uid. Indexed. */
  readonly ownerUid?: string;
}

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] }[];
}

export interface World {
  /** Undefined when there is none. `metadata.resourceVersion` is set. */
  get<T extends ApiObject = ApiObject>(resource: ResourceRef, namespace: string, name: string): T | undefined;
  list<T extends ApiObject = ApiObject>(resource: ResourceRef, options?: ListOptions): readonly T[];
  /** Every record of the followed resources up to this sequence is in. */
  readonly position: number;
  /** The sequence of the object's newest `desired` record: what an action that answers to the object names as its cause. */
  desiredSequence(object: ApiObject): number;
}
