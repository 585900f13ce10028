/** Reads what a budget's status is made from: the pods that it selects, and how many of them their workloads want. Called by the SDK's loop. */
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import type { PodDisruptionBudget } from '../../api-schemas/types/policy-v1.ts';
import {
  type ApiObject,
  controllerOf,
  keyIn,
  matchesSelector,
  type ObjectKey,
  type Observation,
  type ResourceRef,
  type World,
} from '../../sdk/index.ts';

export type Budget = PodDisruptionBudget & ApiObject;
export type PodObject = Pod & ApiObject;

export const BUDGETS: ResourceRef = { group: 'policy', version: 'v1', resource: 'poddisruptionbudgets' };
export const PODS: ResourceRef = { group: '', version: 'v1', resource: 'pods' };
const apps = (resource: string): ResourceRef => ({ group: 'apps', version: 'v1', resource });
/** Whatever has replicas and controls pods, directly or by what it controls. */
export const WORKLOADS: readonly ResourceRef[] = [
  apps('deployments'),
  apps('replicasets'),
  apps('statefulsets'),
  { group: '', version: 'v1', resource: 'replicationcontrollers' },
];

/** The workload that says how many pods there are to be. */
export interface Scale {
  readonly uid: string;
  readonly replicas: number;
}

/** `unmanaged`: nobody replaces the pod. `unknown`: its controller is gone, or is of a kind that says no number. */
export interface CoveredPod {
  readonly pod: PodObject;
  readonly scale: Scale | 'unmanaged' | 'unknown';
}

export interface Observed {
  readonly pods: readonly CoveredPod[];
  readonly nowMs: number;
}

export function observe(key: ObjectKey, world: World, nowMs: number): Observation<Budget, Observed> | undefined {
  const desired = world.get<Budget>(BUDGETS, key.namespace, key.name);
  if (!desired) return undefined;
  const { selector } = desired.spec;
  const selected = selector ? world.list<PodObject>(PODS, { namespace: key.namespace, selector }) : [];
  return { desired, observed: { pods: selected.map((pod) => ({ pod, scale: scaleOf(pod, world) })), nowMs } };
}

function scaleOf(pod: PodObject, world: World): CoveredPod['scale'] {
  const reference = controllerOf(pod);
  if (!reference) return 'unmanaged';
  let workload = world.byUid(reference.uid);
  const above = workload?.kind === 'ReplicaSet' ? controllerOf(workload) : undefined;
  if (above?.kind === 'Deployment') workload = world.byUid(above.uid);
  const replicas = (workload?.['spec'] as { replicas?: number } | undefined)?.replicas;
  return workload && replicas !== undefined ? { uid: workload.metadata.uid ?? '', replicas } : 'unknown';
}

function keysFor(labels: readonly (ApiObject['metadata']['labels'] | undefined)[], namespace = '', world: World) {
  return world
    .list<Budget>(BUDGETS, { namespace })
    .filter(({ spec }) => labels.some((each) => each && matchesSelector(spec.selector, each)))
    .map(({ metadata }) => keyIn(BUDGETS, metadata.namespace, metadata.name));
}

/** Of the budgets that cover the pod, or did before it changed. */
export const keysForPod = (object: ApiObject, previous: ApiObject | undefined, world: World): ObjectKey[] =>
  keysFor(
    [object.metadata.labels ?? {}, previous && (previous.metadata.labels ?? {})],
    object.metadata.namespace,
    world,
  );

interface Replicated {
  readonly spec?: { readonly replicas?: number; readonly template?: { readonly metadata?: ApiObject['metadata'] } };
}

/** Of the budgets that cover its pods, when it wants another number of them. */
export function keysForWorkload(object: ApiObject, previous: ApiObject | undefined, world: World): ObjectKey[] {
  const { spec } = object as Replicated;
  if (previous && (previous as Replicated).spec?.replicas === spec?.replicas) return [];
  return keysFor([spec?.template?.metadata?.labels ?? {}], object.metadata.namespace, world);
}
