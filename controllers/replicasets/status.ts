/**
 * The status of a ReplicaSet, counted from its pods (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/replica-set-v1/#ReplicaSetStatus). Called by `reconcile.ts`.
 */
import type { ReplicaSet, ReplicaSetCondition, ReplicaSetStatus } from '../../api-schemas/types/apps-v1.ts';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import { type ActionFailure, timestamp } from '../../sdk/index.ts';
import { availableInMs, isReady } from './pod-state.ts';

export interface CountedStatus {
  readonly status: ReplicaSetStatus;
  /** When the next ready pod becomes available, if one will. */
  readonly requeueAfterMs: number | undefined;
}

export function countStatus(options: {
  set: ReplicaSet;
  active: readonly Pod[];
  nowMs: number;
  lastFailure: ActionFailure | undefined;
}): CountedStatus {
  const { set, active, nowMs, lastFailure } = options;
  const templateLabels = Object.entries(set.spec.template.metadata?.labels ?? {});
  const fullyLabeled = active.filter((pod) =>
    templateLabels.every(([label, value]) => pod.metadata.labels?.[label] === value),
  ).length;
  const ready = active.filter(isReady).length;
  const waits = active.map((pod) => availableInMs(pod, set.spec.minReadySeconds ?? 0, nowMs));
  const available = waits.filter((wait) => wait === 0).length;
  const upcoming = waits.filter((wait) => wait !== undefined && wait > 0) as number[];
  const conditions = conditionsOf(set, active.length, lastFailure, nowMs);
  // A count of zero is left out, as Kubernetes leaves it out.
  const status: ReplicaSetStatus = {
    replicas: active.length,
    ...(fullyLabeled > 0 && { fullyLabeledReplicas: fullyLabeled }),
    ...(ready > 0 && { readyReplicas: ready }),
    ...(available > 0 && { availableReplicas: available }),
    ...(set.metadata.generation !== undefined && { observedGeneration: set.metadata.generation }),
    ...(conditions.length > 0 && { conditions }),
  };
  return { status, requeueAfterMs: upcoming.length > 0 ? Math.min(...upcoming) : undefined };
}

function conditionsOf(
  set: ReplicaSet,
  count: number,
  lastFailure: ActionFailure | undefined,
  nowMs: number,
): ReplicaSetCondition[] {
  const standing = set.status?.conditions ?? [];
  const others = standing.filter((condition) => condition.type !== 'ReplicaFailure');
  const difference = (set.spec.replicas ?? 1) - count;
  if (!lastFailure || difference === 0 || (lastFailure.verb !== 'create' && lastFailure.verb !== 'delete'))
    return others;
  const known = standing.find((condition) => condition.type === 'ReplicaFailure');
  if (known) return [...others, known];
  const reason = difference > 0 ? 'FailedCreate' : 'FailedDelete';
  return [
    ...others,
    {
      type: 'ReplicaFailure',
      status: 'True',
      reason,
      message: lastFailure.message,
      lastTransitionTime: timestamp(nowMs),
    },
  ];
}
