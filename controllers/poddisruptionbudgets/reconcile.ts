/** What a budget's status is to say, from its pods and the sizes of their workloads. Pure; called by the SDK's loop. */
import type { Condition } from '../../api-schemas/types/meta-v1.ts';
import type { PodDisruptionBudgetStatus } from '../../api-schemas/types/policy-v1.ts';
import { conditionHolds, conditionOf, type ApiAction, milliseconds, type Plan, timestamp } from '../../sdk/index.ts';
import type { Budget, CoveredPod, Observed, PodObject, Scale } from './observe.ts';

/** An evicted pod that is not even being deleted by then stays after all. */
export const DELETION_TIMEOUT_MS = 120_000;

export function reconcile(budget: Budget, { pods, nowMs }: Observed): Plan<ApiAction> {
  const { generation = 0 } = budget.metadata;
  const before: Partial<PodDisruptionBudgetStatus> = budget.status ?? {};
  const event = (type: 'Normal' | 'Warning', reason: string, message: string): ApiAction => ({
    verb: 'event',
    about: budget,
    type,
    reason,
    message,
    because: message,
  });
  const isNew = before.observedGeneration !== generation;
  const actions: ApiAction[] = [];
  if (pods.length === 0 && (isNew || (before.expectedPods ?? 0) > 0))
    actions.push(event('Normal', 'NoPods', 'No matching pods found'));
  const demand = demandOf(budget, pods);
  if ('problem' in demand) {
    const { problem } = demand;
    const last = conditionOf(before.conditions, 'DisruptionAllowed');
    if (isNew || last?.message !== problem)
      actions.push(
        event(
          'Warning',
          'CalculateExpectedPodCountFailed',
          `Failed to calculate the number of expected pods: ${problem}`,
        ),
      );
    // Who cannot count allows nothing.
    return { actions, status: statusOf(budget, { disruptionsAllowed: 0 }, { problem, nowMs }) };
  }
  if (demand.unmanaged && isNew) {
    const message = `Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set ".spec.minAvailable" field of the PDB to an integer value.`;
    actions.push(event('Warning', 'UnmanagedPods', message));
  }
  const { kept, overdue, lookAgainAtMs } = disruptedPods(budget, pods, nowMs);
  for (const name of overdue)
    actions.push(
      event(
        'Warning',
        'NotDeleted',
        `Pod ${name} was expected by this PodDisruptionBudget to be deleted but it wasn't`,
      ),
    );
  const currentHealthy = pods.filter(
    ({ pod }) =>
      !isGoing(pod) && kept[pod.metadata.name] === undefined && conditionHolds(pod.status?.conditions, 'Ready'),
  ).length;
  const { expectedPods, desiredHealthy } = demand;
  // A budget that covers nothing yet allows nothing either: its first pods may have come since.
  const disruptionsAllowed = expectedPods <= 0 ? 0 : Math.max(0, currentHealthy - desiredHealthy);
  const counted = { currentHealthy, desiredHealthy, expectedPods, disruptionsAllowed, disruptedPods: kept };
  return {
    actions,
    status: statusOf(budget, counted, { nowMs }),
    ...(lookAgainAtMs !== undefined && { requeueAfterMs: Math.max(1, lookAgainAtMs - nowMs) }),
  };
}

type Demand = { readonly expectedPods: number; readonly desiredHealthy: number; readonly unmanaged: boolean };

function demandOf({ spec }: Budget, pods: readonly CoveredPod[]): Demand | { readonly problem: string } {
  const { maxUnavailable, minAvailable } = spec;
  if (maxUnavailable === undefined && typeof minAvailable === 'number')
    return { expectedPods: pods.length, desiredHealthy: minAvailable, unmanaged: false };
  if (maxUnavailable === undefined && minAvailable === undefined)
    return { expectedPods: 0, desiredHealthy: 0, unmanaged: false };
  const lost = pods.find(({ scale }) => scale === 'unknown');
  if (lost) return { problem: `found no controllers for pod "${lost.pod.metadata.name}"` };
  const scales = pods.map(({ scale }) => scale).filter((scale): scale is Scale => typeof scale === 'object');
  const replicas = new Map(scales.map(({ uid, replicas }) => [uid, replicas]));
  const expectedPods = [...replicas.values()].reduce((sum, each) => sum + each, 0);
  const desiredHealthy =
    maxUnavailable === undefined
      ? scaled(minAvailable ?? 0, expectedPods)
      : Math.max(0, expectedPods - scaled(maxUnavailable, expectedPods));
  return { expectedPods, desiredHealthy, unmanaged: pods.some(({ scale }) => scale === 'unmanaged') };
}

/** A number, or a percentage of the whole, rounded up. */
const scaled = (value: number | string, whole: number): number =>
  typeof value === 'number' ? value : Math.ceil((Number(value.replace('%', '')) * whole) / 100);

/** The evictions that are still to be seen: their pods are neither gone nor on their way. */
function disruptedPods(budget: Budget, pods: readonly CoveredPod[], nowMs: number) {
  const noted = budget.status?.disruptedPods ?? {};
  const kept: Record<string, string> = {};
  const overdue: string[] = [];
  let lookAgainAtMs: number | undefined;
  for (const { pod } of pods) {
    const time = Object.hasOwn(noted, pod.metadata.name) ? noted[pod.metadata.name] : undefined;
    if (time === undefined || isGoing(pod)) continue;
    const deadlineMs = (milliseconds(time) ?? 0) + DELETION_TIMEOUT_MS;
    if (deadlineMs <= nowMs) overdue.push(pod.metadata.name);
    else {
      kept[pod.metadata.name] = time;
      lookAgainAtMs = Math.min(lookAgainAtMs ?? deadlineMs, deadlineMs);
    }
  }
  return { kept, overdue, lookAgainAtMs };
}

const isGoing = (pod: PodObject): boolean => pod.metadata.deletionTimestamp !== undefined;

function statusOf(
  budget: Budget,
  counted: Partial<PodDisruptionBudgetStatus>,
  { problem, nowMs }: { problem?: string; nowMs: number },
): Record<string, unknown> {
  const { generation = 0 } = budget.metadata;
  const { disruptedPods: noted, conditions = [], ...before } = budget.status ?? {};
  const { disruptedPods: kept = noted, ...numbers } = counted;
  const allowed = (counted.disruptionsAllowed ?? 0) > 0;
  const old = conditionOf(conditions, 'DisruptionAllowed');
  const status = allowed ? 'True' : 'False';
  const condition: Condition = {
    type: 'DisruptionAllowed',
    status,
    observedGeneration: generation,
    lastTransitionTime: old?.status === status ? old.lastTransitionTime : timestamp(nowMs),
    reason: problem !== undefined ? 'SyncFailed' : allowed ? 'SufficientPods' : 'InsufficientPods',
    message: problem ?? '',
  };
  return {
    ...before,
    ...numbers,
    ...(kept && Object.keys(kept).length > 0 && { disruptedPods: kept }),
    conditions: [...conditions.filter(({ type }) => type !== 'DisruptionAllowed'), condition],
    observedGeneration: generation,
  };
}
