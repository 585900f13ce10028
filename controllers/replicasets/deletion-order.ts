/**
 * Which pods go first when there are too many: those whose loss hurts least, in Kubernetes' order
 * (https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset). Called by `reconcile.ts`.
 */
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import { milliseconds } from '../../sdk/index.ts';
import { isReady, readySinceMs, restarts } from './pod-state.ts';

const DELETION_COST = 'controller.kubernetes.io/pod-deletion-cost';
const PHASE_RANK: Readonly<Record<string, number>> = { Pending: 0, Unknown: 1, Running: 2 };

/** The pods sorted, first to go first. `related` are the pods of all replica sets of the same owner: a node with more of them gives one up earlier. */
export function inDeletionOrder(pods: readonly Pod[], related: readonly Pod[]): Pod[] {
  const perNode = new Map<string, number>();
  for (const pod of related) {
    const node = pod.spec.nodeName ?? '';
    perNode.set(node, (perNode.get(node) ?? 0) + 1);
  }
  return [...pods].sort((left, right) => compare(left, right, perNode));
}

function compare(left: Pod, right: Pod, perNode: ReadonlyMap<string, number>): number {
  const crowd = (pod: Pod): number => perNode.get(pod.spec.nodeName ?? '') ?? 0;
  return (
    flag(left.spec.nodeName) - flag(right.spec.nodeName) ||
    phaseRank(left) - phaseRank(right) ||
    Number(isReady(left)) - Number(isReady(right)) ||
    deletionCost(left) - deletionCost(right) ||
    crowd(right) - crowd(left) ||
    newestFirst(readySinceMs(left), readySinceMs(right)) ||
    restarts(right) - restarts(left) ||
    newestFirst(milliseconds(left.metadata.creationTimestamp), milliseconds(right.metadata.creationTimestamp)) ||
    (left.metadata.name < right.metadata.name ? -1 : 1)
  );
}

const flag = (text: string | undefined): number => (text ? 1 : 0);

const phaseRank = (pod: Pod): number => PHASE_RANK[pod.status?.phase ?? 'Pending'] ?? 0;

/** A whole number as an annotation; anything else counts as 0, as in Kubernetes. */
function deletionCost(pod: Pod): number {
  const cost = pod.metadata.annotations?.[DELETION_COST];
  return cost !== undefined && /^-?\d{1,10}$/.test(cost) ? Number(cost) : 0;
}

/** An unknown time counts as the newest. */
function newestFirst(left: number | undefined, right: number | undefined): number {
  if (left === right) return 0;
  if (left === undefined) return -1;
  if (right === undefined) return 1;
  return right - left;
}
