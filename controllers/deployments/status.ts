/**
 * The status of a Deployment, summed from its replica sets. Called by `reconcile.ts`.
 */
import type { Deployment, DeploymentStatus, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import { conditionOf } from '../../sdk/index.ts';
import { availableCondition, type Conditions, progressConditions, withCondition, without } from './conditions.ts';

const sum = (sets: readonly ReplicaSet[], count: (set: ReplicaSet) => number | undefined): number =>
  sets.reduce((total, set) => total + (count(set) ?? 0), 0);

/** What the sets are told to run. */
export const specReplicas = (sets: readonly ReplicaSet[]): number => sum(sets, (set) => set.spec.replicas ?? 1);

/** What they report to run. */
export const actualReplicas = (sets: readonly ReplicaSet[]): number => sum(sets, (set) => set.status?.replicas);

export const availableReplicas = (sets: readonly ReplicaSet[]): number =>
  sum(sets, (set) => set.status?.availableReplicas);

export interface StatusOptions {
  readonly deployment: Deployment;
  readonly all: readonly ReplicaSet[];
  readonly newSet: ReplicaSet | undefined;
  /** As they are so far in this plan. */
  readonly conditions: Conditions;
  readonly collisionCount: number | undefined;
  readonly nowMs: number;
  /** Whether a rollout is under way that may progress or time out: not while paused. */
  readonly rollout: boolean;
}

export function sumStatus(options: StatusOptions): DeploymentStatus {
  const { deployment, all, newSet, collisionCount, nowMs } = options;
  const available = availableReplicas(all);
  const unavailable = Math.max(0, specReplicas(all) - available);
  const replicas = actualReplicas(all);
  const updated = newSet ? actualReplicas([newSet]) : 0;
  const ready = sum(all, (set) => set.status?.readyReplicas);
  const counts: DeploymentStatus = {
    ...(deployment.metadata.generation !== undefined && { observedGeneration: deployment.metadata.generation }),
    ...(replicas > 0 && { replicas }),
    ...(updated > 0 && { updatedReplicas: updated }),
    ...(ready > 0 && { readyReplicas: ready }),
    ...(available > 0 && { availableReplicas: available }),
    ...(unavailable > 0 && { unavailableReplicas: unavailable }),
    ...(collisionCount !== undefined && { collisionCount }),
  };
  let conditions = availableCondition(deployment, options.conditions, available, nowMs);
  if (options.rollout) {
    conditions = progressConditions({ deployment, status: counts, conditions, newSet, nowMs });
    conditions = failureCondition(conditions, all, newSet, nowMs);
  }
  return { ...counts, ...(conditions.length > 0 && { conditions: [...conditions] }) };
}

/** The new set's failure to make pods is the deployment's; an older one's only where the new one has none. */
function failureCondition(
  conditions: Conditions,
  all: readonly ReplicaSet[],
  newSet: ReplicaSet | undefined,
  nowMs: number,
): Conditions {
  const sets = newSet ? [newSet, ...all.filter((set) => set !== newSet)] : all;
  for (const set of sets) {
    const failure = conditionOf(set.status?.conditions, 'ReplicaFailure');
    if (failure)
      return withCondition(
        conditions,
        {
          type: 'ReplicaFailure',
          status: failure.status,
          reason: failure.reason ?? '',
          message: failure.message ?? '',
        },
        nowMs,
      );
  }
  return without(conditions, 'ReplicaFailure');
}
