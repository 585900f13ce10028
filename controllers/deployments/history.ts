/**
 * Removes the oldest empty replica sets beyond `revisionHistoryLimit` (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#clean-up-policy). Called by `reconcile.ts` when a
 * rollout is complete, or paused.
 */
import type { ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import type { ApiAction } from '../../sdk/index.ts';
import { REPLICA_SETS } from './observe.ts';
import { byCreation, revisionOf } from './revisions.ts';
import { type Scene, sizeOf } from './scene.ts';

export function cleanUpHistory({ deployment, oldSets }: Scene): ApiAction[] {
  const limit = deployment.spec.revisionHistoryLimit;
  if (limit === undefined) return [];
  const standing = oldSets
    .filter((set) => set.metadata.deletionTimestamp === undefined)
    .sort((left, right) => revisionOf(left) - revisionOf(right) || byCreation(left, right));
  return standing
    .slice(0, Math.max(0, standing.length - limit))
    .filter(isEmpty)
    .map((set) => ({
      verb: 'delete',
      resource: REPLICA_SETS,
      namespace: set.metadata.namespace ?? '',
      name: set.metadata.name,
      uid: set.metadata.uid ?? '',
      propagationPolicy: 'Background',
      because: `Deployment ${deployment.metadata.name} keeps ${limit} old replica sets`,
    }));
}

const isEmpty = (set: ReplicaSet): boolean =>
  sizeOf(set) === 0 &&
  (set.status?.replicas ?? 0) === 0 &&
  (set.metadata.generation ?? 0) <= (set.status?.observedGeneration ?? 0);
