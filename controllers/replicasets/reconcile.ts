/**
 * Plans for one ReplicaSet: adopt and release pods by selector, then bring their number to `spec.replicas`. Pure; called by the SDK's loop and by tests.
 */
import type { ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import {
  type ActionEvent,
  type ApiAction,
  type ApiObject,
  controllerOf,
  controllerReference,
  deterministicName,
  isEmptySelector,
  matchesSelector,
  type Plan,
} from '../../sdk/index.ts';
import { inDeletionOrder } from './deletion-order.ts';
import { type Observed, PODS } from './observe.ts';
import { isActive } from './pod-state.ts';
import { countStatus } from './status.ts';

/** At most this many creates or deletes in one plan, as in Kubernetes; the rest follows once these are seen. */
export const BURST = 500;

export function reconcile(set: ReplicaSet, observed: Observed): Plan<ApiAction> {
  const { nowMs, lastFailure } = observed;
  const claim = isEmptySelector(set.spec.selector) ? { owned: [], actions: [] } : claimPods(set, observed.pods);
  const { status, requeueAfterMs } = countStatus({ set, active: claim.owned, nowMs, lastFailure });
  const scaling =
    set.metadata.deletionTimestamp === undefined && !isEmptySelector(set.spec.selector)
      ? scale(set, claim.owned, observed)
      : [];
  return {
    actions: [...claim.actions, ...scaling],
    status: { ...status },
    ...(requeueAfterMs !== undefined && { requeueAfterMs }),
  };
}

/** The active pods that are the set's, or will be once the actions are done (https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#non-template-pod-acquisitions). */
function claimPods(set: ReplicaSet, pods: readonly Pod[]): { owned: Pod[]; actions: ApiAction[] } {
  const owned: Pod[] = [];
  const actions: ApiAction[] = [];
  const going = set.metadata.deletionTimestamp !== undefined;
  for (const pod of pods) {
    if (!isActive(pod)) continue;
    const controller = controllerOf(pod);
    const matches = matchesSelector(set.spec.selector, pod.metadata.labels);
    if (controller?.uid === set.metadata.uid) {
      if (matches) owned.push(pod);
      else if (!going)
        actions.push(
          reown(
            pod,
            (pod.metadata.ownerReferences ?? []).filter((owner) => owner.uid !== set.metadata.uid),
            'its labels no longer match the selector of ReplicaSet ' + set.metadata.name,
          ),
        );
    } else if (!controller && matches && !going) {
      owned.push(pod);
      actions.push(
        reown(
          pod,
          [...(pod.metadata.ownerReferences ?? []), controllerReference(set)],
          `it has no controller and matches the selector of ReplicaSet ${set.metadata.name}`,
        ),
      );
    }
  }
  return { owned, actions };
}

/** Replaces the whole list, so only if the pod is as it was seen. */
function reown(pod: Pod, ownerReferences: readonly object[], because: string): ApiAction {
  const { name, namespace = '', uid, resourceVersion } = pod.metadata;
  return {
    verb: 'patch',
    resource: PODS,
    namespace,
    name,
    patch: { metadata: { uid, resourceVersion, ownerReferences: ownerReferences.length > 0 ? ownerReferences : null } },
    because,
  };
}

function scale(set: ReplicaSet, owned: readonly Pod[], observed: Observed): ApiAction[] {
  const wanted = set.spec.replicas ?? 1;
  const missing = wanted - owned.length;
  if (missing > 0)
    return [...failureEvent(set, observed), ...create(set, Math.min(missing, BURST), observed, owned.length)];
  if (missing < 0) return remove(set, owned, Math.min(-missing, BURST), observed);
  return [];
}

function failureEvent(set: ReplicaSet, { lastFailure }: Observed): ApiAction[] {
  if (lastFailure?.verb !== 'create') return [];
  const event: ActionEvent = {
    about: set,
    type: 'Warning',
    reason: 'FailedCreate',
    message: `Error creating: ${lastFailure.message}`,
  };
  return [{ verb: 'event', ...event, because: 'a pod could not be created' }];
}

/** Names follow from what was observed, so that a create is repeated under its name; a name that is still taken is passed over. */
function create(set: ReplicaSet, count: number, observed: Observed, present: number): ApiAction[] {
  const { metadata, spec } = set.spec.template;
  const taken = new Set(observed.pods.map((pod) => pod.metadata.name));
  const because = `ReplicaSet ${set.metadata.name} wants ${set.spec.replicas ?? 1} pods and has ${present}`;
  const actions: ApiAction[] = [];
  for (let index = 0; actions.length < count; index++) {
    const name = deterministicName(`${set.metadata.name}-`, [
      set.metadata.uid ?? '',
      set.metadata.resourceVersion ?? '',
      index,
    ]);
    if (taken.has(name)) continue;
    taken.add(name);
    const pod: ApiObject = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        ...(set.metadata.namespace && { namespace: set.metadata.namespace }),
        ...(metadata?.labels && { labels: metadata.labels }),
        ...(metadata?.annotations && { annotations: metadata.annotations }),
        ...(metadata?.finalizers && { finalizers: metadata.finalizers }),
        ownerReferences: [controllerReference(set)],
      },
      spec,
    };
    actions.push({
      verb: 'create',
      resource: PODS,
      object: pod,
      because,
      event: { about: set, type: 'Normal', reason: 'SuccessfulCreate', message: `Created pod: ${name}` },
    });
  }
  return actions;
}

function remove(set: ReplicaSet, owned: readonly Pod[], count: number, observed: Observed): ApiAction[] {
  const because = `ReplicaSet ${set.metadata.name} wants ${set.spec.replicas ?? 1} pods and has ${owned.length}`;
  return inDeletionOrder(owned, observed.relatedPods.filter(isActive))
    .slice(0, count)
    .map((pod) => ({
      verb: 'delete',
      resource: PODS,
      namespace: pod.metadata.namespace ?? '',
      name: pod.metadata.name,
      uid: pod.metadata.uid ?? '',
      because,
      event: { about: set, type: 'Normal', reason: 'SuccessfulDelete', message: `Deleted pod: ${pod.metadata.name}` },
    }));
}
