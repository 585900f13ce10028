/**
 * One step of a rolling update: the new set grows as far as surge allows, the old ones shrink as far as availability allows
 * (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment). Called by `reconcile.ts`.
 */
import type { Deployment, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import type { ApiAction } from '../../sdk/index.ts';
import { byCreation } from './revisions.ts';
import { isActiveSet, resize, type Scene, sizeOf } from './scene.ts';
import { specReplicas } from './status.ts';
import { allowance, isRecreate, wantedReplicas } from './surge.ts';

/** The size that the new set may have now. */
export function newSetSize(deployment: Deployment, all: readonly ReplicaSet[], newSet: ReplicaSet | undefined): number {
  const wanted = wantedReplicas(deployment);
  if (isRecreate(deployment)) return wanted;
  const size = newSet ? sizeOf(newSet) : 0;
  // What an old set holds is known once its last resizing has been seen to.
  if (all.some((set) => set !== newSet && !isObserved(set))) return size;
  const room = wanted + allowance(deployment).maxSurge - occupied(all);
  return room <= 0 ? size : size + Math.min(room, wanted - size);
}

/** A set that was told to shrink still holds what it reports: Kubernetes forgets that, and may run above its surge for a moment. */
const occupied = (sets: readonly ReplicaSet[]): number =>
  sets.reduce((total, set) => total + Math.max(sizeOf(set), set.status?.replicas ?? 0), 0);

const isObserved = (set: ReplicaSet): boolean =>
  (set.status?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0);

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
  const dropped = dropUnavailable(sizes, mayGo);
  dropAvailable(sizes, Math.min(mayGo - dropped, surelyAvailable(all) - minAvailable));
  const because = `Deployment ${deployment.metadata.name} keeps at least ${minAvailable} pods available while it rolls out`;
  return [...sizes].flatMap(([set, size]) => (size === sizeOf(set) ? [] : resize(deployment, set, size, because)));
}

/** A set that was told to shrink may still report pods that are about to go: they do not count. Kubernetes counts them, and may take one pod too many when it looks at that moment. */
const surelyAvailable = (sets: readonly ReplicaSet[]): number =>
  sets.reduce((total, set) => total + Math.min(sizeOf(set), set.status?.availableReplicas ?? 0), 0);

/** Pods of old sets that are not available are no loss: they go first. Returns how many went. */
function dropUnavailable(sizes: Map<ReplicaSet, number>, limit: number): number {
  let left = limit;
  for (const [set, size] of sizes) {
    const drop = Math.max(0, Math.min(left, size - (set.status?.availableReplicas ?? 0)));
    sizes.set(set, size - drop);
    left -= drop;
  }
  return limit - left;
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
