/**
 * Whether a pod can run on a node, and if not, why not in the words Kubernetes uses. Each check is one function; all of them are asked, so that a person learns every reason at once. What
 * depends on other pods' places stands in `neighbours.ts`.
 */
import type { Node, PersistentVolume, Pod, Taint, Toleration } from '../../api-schemas/types/core-v1.ts';
import { conditionHolds, matchesNodeSelector } from '../../sdk/index.ts';
import { hostPorts, portsConflict, type Amounts, type HostPort } from './requests.ts';

/** What stands on a node already. */
export interface Load {
  readonly requested: Amounts;
  readonly hostPorts: readonly HostPort[];
  /** Pods per controlling owner uid, to spread replicas. */
  readonly replicas: ReadonlyMap<string, number>;
}

export interface Candidate extends Load {
  readonly node: Node;
  readonly allocatable: Amounts;
}

const UNSCHEDULABLE = 'node.kubernetes.io/unschedulable';
const NOT_READY = 'node.kubernetes.io/not-ready';
const UNREACHABLE = 'node.kubernetes.io/unreachable';

function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (toleration.key && toleration.key !== taint.key) return false;
  if (toleration.operator === 'Exists') return true;
  return Boolean(toleration.key) && (toleration.value ?? '') === (taint.value ?? '');
}

const isTolerated = (pod: Pod, taint: Taint): boolean =>
  (pod.spec?.tolerations ?? []).some((toleration) => tolerates(toleration, taint));

/** Taints that nobody has put on yet, though the node's state calls for them. */
function virtualTaints({ spec, status }: Node): Taint[] {
  const judged = spec?.taints?.some(({ key }) => key === NOT_READY || key === UNREACHABLE);
  return judged || conditionHolds(status?.conditions, 'Ready') ? [] : [{ key: NOT_READY, effect: 'NoSchedule' }];
}

function taintReasons(pod: Pod, node: Node): string[] {
  if (node.spec?.unschedulable && !isTolerated(pod, { key: UNSCHEDULABLE, effect: 'NoSchedule' }))
    return ['node(s) were unschedulable'];
  const taints = [...(node.spec?.taints ?? []), ...virtualTaints(node)];
  const open = taints.find(
    ({ effect, ...taint }) => effect !== 'PreferNoSchedule' && !isTolerated(pod, { effect, ...taint }),
  );
  return open ? [`node(s) had untolerated taint {${open.key}: ${open.value ?? ''}}`] : [];
}

/** How many taints a pod would rather keep away from. */
export const reluctance = (pod: Pod, node: Node): number =>
  (node.spec?.taints ?? []).filter((taint) => taint.effect === 'PreferNoSchedule' && !isTolerated(pod, taint)).length;

export function matchesNodeAffinity(pod: Pod, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  const required = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const selected = Object.entries(pod.spec?.nodeSelector ?? {}).every(([key, value]) => labels[key] === value);
  return selected && (!required || matchesNodeSelector(required.nodeSelectorTerms, node));
}

function resourceReasons(requests: Amounts, { allocatable, requested }: Candidate): string[] {
  const short = Object.entries(requests).filter(
    ([name, amount]) => amount > 0n && (requested[name] ?? 0n) + amount > (allocatable[name] ?? 0n),
  );
  return short.map(([name]) => (name === 'pods' ? 'Too many pods' : `Insufficient ${name}`));
}

/** Reasons against; none when the pod fits. */
export function reasonsAgainst(
  pod: Pod,
  requests: Amounts,
  candidate: Candidate,
  volumes: readonly PersistentVolume[],
): string[] {
  const { node } = candidate;
  const reasons = taintReasons(pod, node);
  if (!matchesNodeAffinity(pod, node)) reasons.push("node(s) didn't match Pod's node affinity/selector");
  const wanted = hostPorts(pod);
  if (candidate.hostPorts.some((taken) => wanted.some((port) => portsConflict(taken, port))))
    reasons.push("node(s) didn't have free ports for the requested pod ports");
  // A node that has not yet said what it has is short of everything; where that is so for another reason, it is not worth saying.
  const isNew = Object.keys(candidate.allocatable).length === 0;
  if (!isNew || reasons.length === 0) reasons.push(...resourceReasons(requests, candidate));
  const elsewhere = volumes.some(
    ({ spec }) =>
      spec?.nodeAffinity?.required && !matchesNodeSelector(spec.nodeAffinity.required.nodeSelectorTerms, node),
  );
  if (elsewhere) reasons.push('node(s) had volume node affinity conflict');
  return reasons;
}
