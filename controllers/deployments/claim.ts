/**
 * Which replica sets are the deployment's: orphans that its selector matches are adopted, sets that it no longer matches are released. Called by `reconcile.ts`.
 */
import type { Deployment, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import { type ApiAction, controllerOf, controllerReference, matchesSelector } from '../../sdk/index.ts';
import { REPLICA_SETS } from './observe.ts';

export function claimReplicaSets(
  deployment: Deployment,
  candidates: readonly ReplicaSet[],
): { owned: ReplicaSet[]; actions: ApiAction[] } {
  const owned: ReplicaSet[] = [];
  const actions: ApiAction[] = [];
  const going = deployment.metadata.deletionTimestamp !== undefined;
  for (const set of candidates) {
    const matches = matchesSelector(deployment.spec.selector, set.metadata.labels);
    const isOurs = controllerOf(set)?.uid === deployment.metadata.uid;
    if (isOurs && matches) owned.push(set);
    else if (isOurs && !going) {
      const others = (set.metadata.ownerReferences ?? []).filter((owner) => owner.uid !== deployment.metadata.uid);
      actions.push(
        reown(set, others, `its labels no longer match the selector of Deployment ${deployment.metadata.name}`),
      );
    } else if (!isOurs && matches && !going && set.metadata.deletionTimestamp === undefined && !controllerOf(set)) {
      owned.push(set);
      actions.push(
        reown(
          set,
          [...(set.metadata.ownerReferences ?? []), controllerReference(deployment)],
          `it has no controller and matches the selector of Deployment ${deployment.metadata.name}`,
        ),
      );
    }
  }
  return { owned, actions };
}

/** Replaces the whole list, so only if the set is as it was seen. */
function reown(set: ReplicaSet, ownerReferences: readonly object[], because: string): ApiAction {
  const { name, namespace = '', uid, resourceVersion } = set.metadata;
  return {
    verb: 'patch',
    resource: REPLICA_SETS,
    namespace,
    name,
    patch: { metadata: { uid, resourceVersion, ownerReferences: ownerReferences.length > 0 ? ownerReferences : null } },
    because,
  };
}
