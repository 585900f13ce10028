/**
 * The conditions of a Deployment, with the reasons and messages that Kubernetes gives and kubectl reads (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status).
 * Used by the planner.
 */
import type { Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import { conditionOf, milliseconds, timestamp } from '../../sdk/index.ts';
import { allowance, wantedReplicas } from './surge.ts';

export type Conditions = readonly DeploymentCondition[];

/** Kubernetes' way to say that there is no deadline. */
const NO_DEADLINE = 2 ** 31 - 1;

export interface ConditionChange {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

export const without = (conditions: Conditions, type: string): Conditions =>
  conditions.filter((condition) => condition.type !== type);

/** Leaves a condition of the same status and reason as it is; keeps the transition time where the status is the same. */
export function withCondition(conditions: Conditions, change: ConditionChange, nowMs: number): Conditions {
  const current = conditionOf(conditions, change.type);
  if (current?.status === change.status && current.reason === change.reason) return conditions;
  const now = timestamp(nowMs);
  const lastTransitionTime = (current?.status === change.status && current.lastTransitionTime) || now;
  return [...without(conditions, change.type), { ...change, lastUpdateTime: now, lastTransitionTime }];
}

export const hasDeadline = (deployment: Deployment): boolean =>
  deployment.spec.progressDeadlineSeconds !== undefined && deployment.spec.progressDeadlineSeconds !== NO_DEADLINE;

/** The clock of the progress deadline rests while a deployment is paused. */
export function pausedConditions(deployment: Deployment, conditions: Conditions, nowMs: number): Conditions {
  const current = conditionOf(conditions, 'Progressing');
  if (!hasDeadline(deployment) || current?.reason === 'ProgressDeadlineExceeded') return conditions;
  const saysPaused = current?.reason === 'DeploymentPaused';
  if (deployment.spec.paused && !saysPaused)
    return withCondition(
      conditions,
      { type: 'Progressing', status: 'Unknown', reason: 'DeploymentPaused', message: 'Deployment is paused' },
      nowMs,
    );
  if (!deployment.spec.paused && saysPaused)
    return withCondition(
      conditions,
      { type: 'Progressing', status: 'Unknown', reason: 'DeploymentResumed', message: 'Deployment is resumed' },
      nowMs,
    );
  return conditions;
}

export function availableCondition(
  deployment: Deployment,
  conditions: Conditions,
  available: number,
  nowMs: number,
): Conditions {
  const enough = available >= wantedReplicas(deployment) - allowance(deployment).maxUnavailable;
  return withCondition(
    conditions,
    enough
      ? {
          type: 'Available',
          status: 'True',
          reason: 'MinimumReplicasAvailable',
          message: 'Deployment has minimum availability.',
        }
      : {
          type: 'Available',
          status: 'False',
          reason: 'MinimumReplicasUnavailable',
          message: 'Deployment does not have minimum availability.',
        },
    nowMs,
  );
}

/** Everything wanted is updated and available, and nothing old is left. */
export function isComplete(deployment: Deployment, status: DeploymentStatus): boolean {
  const wanted = wantedReplicas(deployment);
  return (
    (status.updatedReplicas ?? 0) === wanted &&
    (status.replicas ?? 0) === wanted &&
    (status.availableReplicas ?? 0) === wanted &&
    (status.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
  );
}

/** More is new, less is old, or more is ready than the last status said. */
function hasProgressed(before: DeploymentStatus, after: DeploymentStatus): boolean {
  const old = (status: DeploymentStatus): number => (status.replicas ?? 0) - (status.updatedReplicas ?? 0);
  return (
    (after.updatedReplicas ?? 0) > (before.updatedReplicas ?? 0) ||
    old(after) < old(before) ||
    (after.readyReplicas ?? 0) > (before.readyReplicas ?? 0) ||
    (after.availableReplicas ?? 0) > (before.availableReplicas ?? 0)
  );
}

/** The Progressing condition after a look at the rollout. `status` is the new status, `conditions` what they are so far. */
export function progressConditions(options: {
  readonly deployment: Deployment;
  readonly status: DeploymentStatus;
  readonly conditions: Conditions;
  readonly newSet: ReplicaSet | undefined;
  readonly nowMs: number;
}): Conditions {
  const { deployment, status, conditions, newSet, nowMs } = options;
  if (!hasDeadline(deployment)) return without(conditions, 'Progressing');
  const current = conditionOf(conditions, 'Progressing');
  if (status.replicas === status.updatedReplicas && current?.reason === 'NewReplicaSetAvailable') return conditions;
  const subject = newSet ? `ReplicaSet "${newSet.metadata.name}"` : `Deployment "${deployment.metadata.name}"`;
  if (isComplete(deployment, status)) {
    return withCondition(
      conditions,
      {
        type: 'Progressing',
        status: 'True',
        reason: 'NewReplicaSetAvailable',
        message: `${subject} has successfully progressed.`,
      },
      nowMs,
    );
  }
  if (hasProgressed(deployment.status ?? {}, status)) {
    const progressing: DeploymentCondition = {
      type: 'Progressing',
      status: 'True',
      reason: 'ReplicaSetUpdated',
      message: `${subject} is progressing.`,
      lastUpdateTime: timestamp(nowMs),
      lastTransitionTime: (current?.status === 'True' && current.lastTransitionTime) || timestamp(nowMs),
    };
    return [...without(conditions, 'Progressing'), progressing];
  }
  if (isOverdue(deployment, current, nowMs)) {
    return withCondition(
      conditions,
      {
        type: 'Progressing',
        status: 'False',
        reason: 'ProgressDeadlineExceeded',
        message: `${subject} has timed out progressing.`,
      },
      nowMs,
    );
  }
  return conditions;
}

function isOverdue(deployment: Deployment, current: DeploymentCondition | undefined, nowMs: number): boolean {
  if (!current || current.reason === 'NewReplicaSetAvailable') return false;
  if (current.reason === 'ProgressDeadlineExceeded') return true;
  return (
    nowMs > (milliseconds(current.lastUpdateTime) ?? nowMs) + (deployment.spec.progressDeadlineSeconds ?? 0) * 1000
  );
}

/** When the deadline is to be looked at again, though nothing may change until then. */
export function deadlineInMs(deployment: Deployment, status: DeploymentStatus, nowMs: number): number | undefined {
  const current = conditionOf(status.conditions ?? [], 'Progressing');
  if (!hasDeadline(deployment) || deployment.spec.paused || !current || isComplete(deployment, status))
    return undefined;
  if (current.reason === 'ProgressDeadlineExceeded' || current.reason === 'NewReplicaSetAvailable') return undefined;
  const deadline =
    (milliseconds(current.lastUpdateTime) ?? nowMs) + (deployment.spec.progressDeadlineSeconds ?? 0) * 1000;
  return Math.max(0, deadline - nowMs) + 1000;
}
