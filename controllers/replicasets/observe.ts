/**
 * Reads what a ReplicaSet's plan is made from: its pods, those that its selector matches, and their neighbours. Called by the SDK's loop.
 */
import type { ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import {
  type ActionFailure,
  type ApiObject,
  controllerKeys,
  controllerOf,
  keyIn,
  matchesSelector,
  type ObjectKey,
  type Observation,
  type ResourceRef,
  type World,
} from '../../sdk/index.ts';

export const REPLICA_SETS: ResourceRef = { group: 'apps', version: 'v1', resource: 'replicasets' };
export const PODS: ResourceRef = { group: '', version: 'v1', resource: 'pods' };

export interface Observed {
  /** Every pod that the selector matches or that names the set as its controller, whatever its state. */
  readonly pods: readonly Pod[];
  /** The pods of all sets of the same owner, for spreading what is removed. */
  readonly relatedPods: readonly Pod[];
  readonly nowMs: number;
  readonly lastFailure?: ActionFailure | undefined;
}

export function observe(
  key: ObjectKey,
  world: World,
  nowMs: number,
  lastFailure?: ActionFailure,
): Observation<ReplicaSet, Observed> | undefined {
  const desired = world.get<ReplicaSet>(REPLICA_SETS, key.namespace, key.name);
  if (!desired) return undefined;
  const { uid = '', namespace = '' } = desired.metadata;
  const owned = world.list<Pod>(PODS, { ownerUid: uid });
  const matching = world.list<Pod>(PODS, { namespace, selector: desired.spec.selector });
  return {
    desired,
    observed: {
      pods: [...new Set([...owned, ...matching])],
      relatedPods: relatedPods(desired, owned, world),
      nowMs,
      lastFailure,
    },
  };
}

function relatedPods(desired: ReplicaSet, owned: readonly Pod[], world: World): readonly Pod[] {
  const owner = controllerOf(desired);
  if (!owner) return owned;
  return world
    .list<ReplicaSet>(REPLICA_SETS, { ownerUid: owner.uid })
    .flatMap((sibling) => world.list<Pod>(PODS, { ownerUid: sibling.metadata.uid ?? '' }));
}

/** A pod concerns its controller; an orphan concerns every set that could adopt it. */
export function keysForPod(object: ApiObject, previous: ApiObject | undefined, world: World): ObjectKey[] {
  const keys = controllerKeys({ resource: REPLICA_SETS, kind: 'ReplicaSet' }, object, previous);
  if (controllerOf(object)) return keys;
  for (const set of world.list<ReplicaSet>(REPLICA_SETS, { namespace: object.metadata.namespace ?? '' })) {
    if (matchesSelector(set.spec.selector, object.metadata.labels))
      keys.push(keyIn(REPLICA_SETS, set.metadata.namespace, set.metadata.name));
  }
  return keys;
}
