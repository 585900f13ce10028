/**
 * One step of a rolling update: the new set grows as far as surge allows, the old ones shrink as far as availability allows
 * (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment). Called by `reconcile.ts`.
 */
import type { Deployment, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import type { ApiAction } from '../../sdk/index.ts';
import { byCreation } from './revisions.ts';
import { isActiveSet, resize, type Scene, sizeOf } from './scene.ts';
import { availableReplicas, specReplicas } from './status.ts';
import { allowance, isRecreate, wantedReplicas } from './surge.ts';

/** The size that the new set may have now. */
export function newSetSize(deployment: Deployment, all: readonly ReplicaSet[], newSet: ReplicaSet | undefined): number {
  const wanted = wantedReplicas(deployment);
  if (isRecreate(deployment)) return wanted;
  const size = newSet ? sizeOf(newSet) : 0;
  const room = wanted + allowance(deployment).maxSurge - specReplicas(all);
  return room <= 0 ? size : size + Math.min(room, wanted - size);
}

export function rollingUpdate(scene: Scene): ApiAction[] {
  const grown = resizeNew(scene);
  return grown.length > 0 ? grown : shrinkOld(scene);
}

function resizeNew({ deployment, newSet, all }: Scene): ApiAction[] {
  if (!newSet) return [];
  const wanted = wantedReplicas(deployment);
  const size = sizeOf(newSet);
  if (size === wanted) return [];
  if (size > wanted)
    return resize(deployment, newSet, wanted, `Deployment ${deployment.metadata.name} wants ${wanted} replicas`);
  const allowed = newSetSize(deployment, all, newSet);
  if (allowed === size) return [];
  return resize(
    deployment,
    newSet,
    allowed,
    `Deployment ${deployment.metadata.name} wants ${wanted} replicas of its present template and at most ${wanted + allowance(deployment).maxSurge} pods`,
  );
}

function shrinkOld({ deployment, newSet, oldSets, all }: Scene): ApiAction[] {
  if (specReplicas(oldSets) === 0) return [];
  const minAvailable = wantedReplicas(deployment) - allowance(deployment).maxUnavailable;
  const newUnavailable = newSet ? Math.max(0, sizeOf(newSet) - (newSet.status?.availableReplicas ?? 0)) : 0;
  const mayGo = specReplicas(all) - minAvailable - newUnavailable;
  if (mayGo <= 0) return [];
  const sizes = new Map([...oldSets].sort(byCreation).map((set) => [set, sizeOf(set)]));
  dropUnavailable(sizes, mayGo);
  dropAvailable(sizes, availableReplicas(all) - minAvailable);
  const because = `Deployment ${deployment.metadata.name} keeps at least ${minAvailable} pods available while it rolls out`;
  return [...sizes].flatMap(([set, size]) => (size === sizeOf(set) ? [] : resize(deployment, set, size, because)));
}

/** Pods of old sets that are not available are no loss: they go first. */
function dropUnavailable(sizes: Map<ReplicaSet, number>, limit: number): void {
  let left = limit;
  for (const [set, size] of sizes) {
    const drop = Math.min(left, size - (set.status?.availableReplicas ?? 0));
    if (left <= 0) return;
    if (drop <= 0) continue;
    sizes.set(set, size - drop);
    left -= drop;
  }
}

function dropAvailable(sizes: Map<ReplicaSet, number>, limit: number): void {
  let left = limit;
  for (const [set, size] of sizes) {
    if (left <= 0) return;
    const drop = Math.min(left, size);
    sizes.set(set, size - drop);
    left -= drop;
  }
}

/** Old sets shrink to nothing. */
export function emptyOld({ deployment, oldSets }: Scene, because: string): ApiAction[] {
  return oldSets.filter(isActiveSet).flatMap((set) => resize(deployment, set, 0, because));
}
