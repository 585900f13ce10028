/**
 * Reads what a Deployment's plan is made from: its replica sets, those that its selector matches, and, where the strategy is Recreate, the pods that still run. Called by the SDK's loop.
 */
import type { Deployment, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
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

export const DEPLOYMENTS: ResourceRef = { group: 'apps', version: 'v1', resource: 'deployments' };
export const REPLICA_SETS: ResourceRef = { group: 'apps', version: 'v1', resource: 'replicasets' };
export const PODS: ResourceRef = { group: '', version: 'v1', resource: 'pods' };

export interface Observed {
  /** Every replica set that the selector matches or that names the deployment as its controller. */
  readonly replicaSets: readonly ReplicaSet[];
  /** The names of all other replica sets of the namespace: a new one cannot be called so. */
  readonly takenNames: ReadonlySet<string>;
  /** Only for Recreate: the pods of the deployment's replica sets, on their way out or not. */
  readonly pods: readonly Pod[];
  readonly nowMs: number;
  readonly lastFailure?: ActionFailure | undefined;
}

export function observe(
  key: ObjectKey,
  world: World,
  nowMs: number,
  lastFailure?: ActionFailure,
): Observation<Deployment, Observed> | undefined {
  const desired = world.get<Deployment>(DEPLOYMENTS, key.namespace, key.name);
  if (!desired) return undefined;
  const uid = desired.metadata.uid;
  const namespace = key.namespace;
  const replicaSets: ReplicaSet[] = [];
  const takenNames = new Set<string>();
  for (const set of world.list<ReplicaSet>(REPLICA_SETS, { namespace })) {
    const controller = controllerOf(set);
    if (controller ? controller.uid === uid : matchesSelector(desired.spec.selector, set.metadata.labels))
      replicaSets.push(set);
    else takenNames.add(set.metadata.name);
  }
  const isRecreate = desired.spec.strategy?.type === 'Recreate';
  const pods = isRecreate
    ? replicaSets.flatMap((set) => world.list<Pod>(PODS, { ownerUid: set.metadata.uid ?? '' }))
    : [];
  return { desired, observed: { replicaSets, takenNames, pods, nowMs, lastFailure } };
}

/** A replica set concerns its controller; an orphan concerns every deployment that could adopt it. */
export function keysForReplicaSet(object: ApiObject, previous: ApiObject | undefined, world: World): ObjectKey[] {
  const keys = controllerKeys({ resource: DEPLOYMENTS, kind: 'Deployment' }, object, previous);
  if (controllerOf(object)) return keys;
  for (const deployment of world.list<Deployment>(DEPLOYMENTS, { namespace: object.metadata.namespace ?? '' })) {
    if (matchesSelector(deployment.spec.selector, object.metadata.labels))
      keys.push(keyIn(DEPLOYMENTS, deployment.metadata.namespace, deployment.metadata.name));
  }
  return keys;
}

/** Pods matter only to deployments that wait for the old ones to be gone. */
export function keysForPod(object: ApiObject, _previous: ApiObject | undefined, world: World): ObjectKey[] {
  const set = world.byUid<ReplicaSet>(controllerOf(object)?.uid ?? '');
  const owner = set && controllerOf(set);
  if (!set || owner?.kind !== 'Deployment') return [];
  const deployment = world.get<Deployment>(DEPLOYMENTS, set.metadata.namespace ?? '', owner.name);
  return deployment?.spec.strategy?.type === 'Recreate' ? [keyIn(DEPLOYMENTS, set.metadata.namespace, owner.name)] : [];
}
