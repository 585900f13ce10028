/**
 * Scaling a Deployment, in mid-roll too: then every active replica set grows or shrinks in proportion, so that no risk is added to the rollout
 * (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#proportional-scaling). Called by `reconcile.ts`.
 */
import type { Deployment, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import type { ApiAction } from '../../sdk/index.ts';
import { byCreation, DESIRED_REPLICAS, MAX_REPLICAS } from './revisions.ts';
import { emptyOld } from './rolling-update.ts';
import { isActiveSet, resize, type Scene, sizeOf } from './scene.ts';
import { specReplicas } from './status.ts';
import { allowance, isRecreate, wantedReplicas } from './surge.ts';

/** Whether the wanted count has changed since the active sets were last sized. */
export function isScaling({ deployment, all }: Scene): boolean {
  return all.some(
    (set) =>
      isActiveSet(set) &&
      set.metadata.annotations?.[DESIRED_REPLICAS] !== undefined &&
      Number(set.metadata.annotations[DESIRED_REPLICAS]) !== wantedReplicas(deployment),
  );
}

export function scale(scene: Scene): ApiAction[] {
  const { deployment, newSet } = scene;
  const wanted = wantedReplicas(deployment);
  const because = `Deployment ${deployment.metadata.name} wants ${wanted} replicas`;
  const only = onlyActiveOrLatest(scene);
  if (only) return resize(deployment, only, wanted, because);
  if (newSet && isSaturated(deployment, newSet))
    return emptyOld(scene, `${newSet.metadata.name} has all ${wanted} replicas available`);
  if (isRecreate(deployment)) return [];
  const sizes = proportionalSizes(scene);
  return [...sizes].flatMap(([set, size]) =>
    resize(deployment, set, size, `${because}; its sets share the change in proportion while it rolls out`),
  );
}

function onlyActiveOrLatest({ newSet, oldSets, all }: Scene): ReplicaSet | undefined {
  const active = all.filter(isActiveSet);
  if (active.length === 1) return active[0];
  if (active.length > 1) return undefined;
  return newSet ?? [...oldSets].sort(byCreation).at(-1);
}

function isSaturated(deployment: Deployment, newSet: ReplicaSet): boolean {
  const wanted = wantedReplicas(deployment);
  return (
    sizeOf(newSet) === wanted &&
    Number(newSet.metadata.annotations?.[DESIRED_REPLICAS]) === wanted &&
    (newSet.status?.availableReplicas ?? 0) === wanted
  );
}

function proportionalSizes({ deployment, all }: Scene): Map<ReplicaSet, number> {
  const wanted = wantedReplicas(deployment);
  const active = all.filter(isActiveSet);
  const allowed = wanted > 0 ? wanted + allowance(deployment).maxSurge : 0;
  const toAdd = allowed - specReplicas(active);
  // The largest set bears the rounding; among equals the newest grows and the oldest shrinks.
  active.sort(
    (left, right) => sizeOf(right) - sizeOf(left) || (toAdd > 0 ? byCreation(right, left) : byCreation(left, right)),
  );
  const sizes = new Map<ReplicaSet, number>();
  let added = 0;
  for (const set of active) {
    const share = toAdd === 0 ? 0 : shareOf(deployment, set, toAdd, added);
    sizes.set(set, sizeOf(set) + share);
    added += share;
  }
  const [largest] = active;
  if (largest && toAdd !== 0) sizes.set(largest, Math.max(0, (sizes.get(largest) ?? 0) + toAdd - added));
  return sizes;
}

/** Never more than is left to add or remove. */
function shareOf(deployment: Deployment, set: ReplicaSet, toAdd: number, added: number): number {
  const left = toAdd - added;
  const fraction = fractionOf(deployment, set);
  return toAdd > 0 ? Math.min(fraction, left) : Math.max(fraction, left);
}

function fractionOf(deployment: Deployment, set: ReplicaSet): number {
  const wanted = wantedReplicas(deployment);
  const size = sizeOf(set);
  if (wanted === 0) return -size;
  const before = Number(set.metadata.annotations?.[MAX_REPLICAS]) || (deployment.status?.replicas ?? 0);
  if (before === 0) return 0;
  return Math.round((size * (wanted + allowance(deployment).maxSurge)) / before) - size;
}
