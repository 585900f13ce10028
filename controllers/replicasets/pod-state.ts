/**
 * What a Pod's status says about it: whether it counts, is ready, is available. As in Kubernetes' `pkg/api/v1/pod` and `controller_utils`. Used by the planners of replicasets and
 * deployments.
 */
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import { conditionHolds, conditionOf, milliseconds } from '../../sdk/index.ts';

/** Neither finished nor on its way out: only these count towards `replicas`. */
export function isActive(pod: Pod): boolean {
  const phase = pod.status?.phase;
  return phase !== 'Succeeded' && phase !== 'Failed' && pod.metadata.deletionTimestamp === undefined;
}

export const isReady = (pod: Pod): boolean => conditionHolds(pod.status?.conditions, 'Ready');

/** Since when it has been ready, in milliseconds since the epoch; undefined while it is not. */
export const readySinceMs = (pod: Pod): number | undefined =>
  isReady(pod) ? milliseconds(conditionOf(pod.status?.conditions, 'Ready')?.lastTransitionTime) : undefined;

/** When a ready pod will have been ready for long enough: 0 is now. Undefined while it is not ready. */
export function availableInMs(pod: Pod, minReadySeconds: number, nowMs: number): number | undefined {
  if (!isReady(pod)) return undefined;
  if (minReadySeconds === 0) return 0;
  const since = readySinceMs(pod);
  return since === undefined ? minReadySeconds * 1000 : Math.max(0, since + minReadySeconds * 1000 - nowMs);
}

export const isAvailable = (pod: Pod, minReadySeconds: number, nowMs: number): boolean =>
  availableInMs(pod, minReadySeconds, nowMs) === 0;

export const restarts = (pod: Pod): number =>
  Math.max(0, ...(pod.status?.containerStatuses ?? []).map((status) => status.restartCount ?? 0));
