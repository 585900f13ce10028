/**
 * Pods that nobody ends any more: those of nodes that are gone, those that were to go before they had a node, and the oldest of those that have ended, once there are too many. Pure; called by the SDK's loop.
 * https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection
 */
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import { timestamp, type ApiAction, type ApiObject, type Plan } from '../../sdk/index.ts';

export type PodObject = Pod & ApiObject;

export const PODS = { group: '', version: 'v1', resource: 'pods' };
export const NODES = { group: '', version: 'v1', resource: 'nodes' };

export interface Observed {
  readonly nowMs: number;
  /** When a pod is given up whose node is not there: a node that registers anew gets its pods back, if it comes in time. Undefined when it is there, or the pod has none. */
  readonly givesUpAtMs: number | undefined;
  /** The pod's node is down, and somebody has said that it stays so. */
  readonly isNodeOutOfService: boolean;
  /** It is among the ended pods that are too many. */
  readonly isSuperfluous: boolean;
}

const isOver = ({ status }: PodObject): boolean => status?.phase === 'Succeeded' || status?.phase === 'Failed';

export function reconcile(pod: PodObject, observed: Observed): Plan<ApiAction> {
  const { nowMs, givesUpAtMs, isNodeOutOfService, isSuperfluous } = observed;
  if (givesUpAtMs !== undefined) {
    if (givesUpAtMs > nowMs) return { actions: [], requeueAfterMs: givesUpAtMs - nowMs };
    return { actions: end(pod, nowMs, 'PodGC: node no longer exists') };
  }
  const isLeaving = pod.metadata.deletionTimestamp !== undefined;
  if (isLeaving && !pod.spec?.nodeName)
    return { actions: [remove(pod, 'it is to go, and has no node that would end it')] };
  if (isLeaving && isNodeOutOfService) return { actions: end(pod, nowMs, 'PodGC: node is out of service') };
  return { actions: isSuperfluous ? [remove(pod, 'it has ended, and more pods have ended than are kept')] : [] };
}

/** Whoever counts the pod is told first that it has failed. */
function end(pod: PodObject, nowMs: number, message: string): ApiAction[] {
  const because = message.replace('PodGC: ', 'its ');
  if (isOver(pod)) return [remove(pod, because)];
  const { name, namespace, uid } = pod.metadata;
  const target = {
    type: 'DisruptionTarget',
    status: 'True',
    reason: 'DeletionByPodGC',
    message,
    lastTransitionTime: timestamp(nowMs),
  };
  const others = (pod.status?.conditions ?? []).filter(({ type }) => type !== target.type);
  const failed: ApiAction = {
    verb: 'patch',
    resource: PODS,
    ...(namespace && { namespace }),
    name,
    subresource: 'status',
    patch: { metadata: { uid }, status: { phase: 'Failed', conditions: [...others, target] } },
    because,
  };
  return [failed, remove(pod, because)];
}

function remove({ metadata }: PodObject, because: string): ApiAction {
  const { name, namespace, uid = '' } = metadata;
  return { verb: 'delete', resource: PODS, ...(namespace && { namespace }), name, uid, gracePeriodSeconds: 0, because };
}
