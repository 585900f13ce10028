/**
 * Whether a pod can run on a node, and if not, why not in the words Kubernetes uses. Each check is one function; all of them are asked, so that a person learns every reason at once.
 */
import type {
  Node,
  NodeSelectorRequirement,
  NodeSelectorTerm,
  PersistentVolume,
  Pod,
  Taint,
  Toleration,
} from '../../api-schemas/types/core-v1.ts';
import { amounts, hostPorts, type Amounts } from './requests.ts';

/** A node with what stands on it already. */
export interface Candidate {
  readonly node: Node;
  readonly requested: Amounts;
  readonly hostPorts: ReadonlySet<string>;
  /** Pods per controlling owner uid, to spread replicas. */
  readonly replicas: Readonly<Record<string, number>>;
}

function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (toleration.key && toleration.key !== taint.key) return false;
  if (toleration.operator === 'Exists') return true;
  return toleration.key !== undefined && (toleration.value ?? '') === (taint.value ?? '');
}

function matches(requirement: NodeSelectorRequirement, values: Readonly<Record<string, string>>): boolean {
  const value = values[requirement.key];
  const listed = requirement.values ?? [];
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && listed.includes(value);
    case 'NotIn':
      return value === undefined || !listed.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return value !== undefined && Number(value) > Number(listed[0]);
    case 'Lt':
      return value !== undefined && Number(value) < Number(listed[0]);
    default:
      return false;
  }
}

/** Terms are alternatives; the requirements of one term must all hold. */
export function matchesTerms(terms: readonly NodeSelectorTerm[], node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  const fields = { 'metadata.name': node.metadata.name ?? '' };
  return terms.some(
    ({ matchExpressions = [], matchFields = [] }) =>
      matchExpressions.length + matchFields.length > 0 &&
      matchExpressions.every((one) => matches(one, labels)) &&
      matchFields.every((one) => matches(one, fields)),
  );
}

function taintReasons(pod: Pod, node: Node): string[] {
  const taints = (node.spec?.taints ?? []).filter(({ effect }) => effect !== 'PreferNoSchedule');
  const tolerations = pod.spec?.tolerations ?? [];
  const open = taints.filter((taint) => !tolerations.some((toleration) => tolerates(toleration, taint)));
  return open.slice(0, 1).map(({ key, value }) => `node(s) had untolerated taint {${key}: ${value ?? ''}}`);
}

function resourceReasons(requests: Amounts, { node, requested }: Candidate): string[] {
  const allocatable = amounts(node.status?.allocatable);
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
  const reasons: string[] = [];
  const labels = node.metadata.labels ?? {};
  const required = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const selected = Object.entries(pod.spec?.nodeSelector ?? {}).every(([key, value]) => labels[key] === value);
  if (!selected || (required && !matchesTerms(required.nodeSelectorTerms, node)))
    reasons.push("node(s) didn't match Pod's node affinity/selector");
  const toleratesCordon = (pod.spec?.tolerations ?? []).some((toleration) =>
    tolerates(toleration, { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }),
  );
  if (node.spec?.unschedulable && !toleratesCordon) reasons.push('node(s) were unschedulable');
  else reasons.push(...taintReasons(pod, node));
  if (node.status?.conditions?.find(({ type }) => type === 'Ready')?.status !== 'True' && reasons.length === 0)
    reasons.push('node(s) were not ready');
  reasons.push(...resourceReasons(requests, candidate));
  if (hostPorts(pod).some((port) => candidate.hostPorts.has(port)))
    reasons.push("node(s) didn't have free ports for the requested pod ports");
  const elsewhere = volumes.some(
    (volume) =>
      volume.spec?.nodeAffinity?.required && !matchesTerms(volume.spec.nodeAffinity.required.nodeSelectorTerms, node),
  );
  if (elsewhere) reasons.push('node(s) had volume node affinity conflict');
  return reasons;
}
