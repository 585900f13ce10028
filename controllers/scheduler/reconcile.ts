/**
 * Chooses a node for one pod, from what the nodes have left: the emptiest that fits, replicas spread. A pod that fits nowhere is told why, node by node. Pure; called by the SDK's loop.
 */
import { dataStateOf } from '../../api-schemas/docker-volumes.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod, PodCondition } from '../../api-schemas/types/core-v1.ts';
import { conditionOf, matchesNodeSelectorTerm, type ApiAction, type Plan } from '../../sdk/index.ts';
import { reasonsAgainst, reluctance, type Candidate } from './fit.ts';
import { judgeNeighbours, type Neighbourhood } from './neighbours.ts';
import { podRequests, type Amounts } from './requests.ts';

/** Bind: an action of our own, so that the choice counts at once for the pods that follow. */
export interface BindAction {
  readonly verb: 'bind';
  readonly pod: Pod & ApiObject;
  readonly nodeName: string;
  readonly because: string;
}

/** A claim that the pod mounts, and how its volume comes about. */
export interface Claim {
  readonly name: string;
  readonly claim: (PersistentVolumeClaim & ApiObject) | undefined;
  readonly volume: PersistentVolume | undefined;
  readonly waitsForConsumer: boolean;
  /** One pod at a time may have it (ReadWriteOncePod), and another one has. */
  readonly isTaken: boolean;
}

export interface Observed {
  readonly candidates: readonly Candidate[];
  readonly claims: readonly Claim[];
  readonly neighbourhood: Neighbourhood;
  /** The node of an earlier binding whose outcome is not known. */
  readonly preferredNode?: string | undefined;
  /** RFC 3339, whole seconds. */
  readonly now: string;
}

type Action = ApiAction | BindAction;

export const SELECTED_NODE = 'volume.kubernetes.io/selected-node';
const CLAIMS = { group: '', version: 'v1', resource: 'persistentvolumeclaims' };

export function reconcile(pod: Pod & ApiObject, observed: Observed): Plan<Action> {
  if (pod.spec?.nodeName || pod.metadata.deletionTimestamp) return { actions: [] };
  if ((pod.spec?.schedulingGates ?? []).length > 0) return gated(pod, observed);
  const { candidates, claims } = observed;
  if (candidates.length === 0) return unschedulable(pod, observed, 'no nodes available to schedule pods');
  const claimFault = claims.map(faultOf).find((fault) => fault !== undefined);
  if (claimFault) return unschedulable(pod, observed, `0/${candidates.length} nodes are available: ${claimFault}.`);

  const selected = selectedNode(observed);
  const requests = podRequests(pod.spec);
  const judged = judge(pod, requests, observed, selected);
  const best = judged
    .filter(({ reasons }) => reasons.length === 0)
    .map(({ candidate }) => ({ node: candidate.node, score: score(candidate, requests, pod, observed) }))
    .sort((a, b) => b.score - a.score || (a.node.metadata.name < b.node.metadata.name ? -1 : 1))[0];
  if (!best) {
    const why = summary(judged.map(({ reasons }) => reasons));
    return unschedulable(pod, observed, `0/${candidates.length} nodes are available: ${why}.`);
  }

  const nodeName = best.node.metadata.name;
  const waiting = claims.flatMap(({ claim, volume, waitsForConsumer }) =>
    !volume && waitsForConsumer && claim ? [claim] : [],
  );
  if (waiting.length > 0) {
    const unselected = waiting.filter(({ metadata }) => metadata.annotations?.[SELECTED_NODE] !== nodeName);
    return { actions: unselected.map((claim) => selectNode(claim, nodeName)) };
  }
  const fitting = judged.filter(({ reasons }) => reasons.length === 0).length;
  return {
    actions: bind(pod, nodeName, `it has the most room of the ${fitting} nodes that fit (of ${candidates.length})`),
  };
}

function judge(pod: Pod, requests: Amounts, observed: Observed, selected: string | undefined) {
  const { candidates, claims, neighbourhood } = observed;
  const volumes = claims.flatMap(({ volume }) => (volume ? [volume] : []));
  const neighbours = judgeNeighbours(pod, neighbourhood, candidates);
  const isTaken = claims.some((claim) => claim.isTaken);
  return candidates.map((candidate) => {
    const reasons = reasonsAgainst(pod, requests, candidate, volumes);
    if (selected !== undefined && candidate.node.metadata.name !== selected)
      reasons.push("node(s) didn't find available persistent volumes to bind");
    if (isTaken)
      reasons.push('node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode');
    reasons.push(...neighbours(candidate.node));
    return { candidate, reasons };
  });
}

/** The node that a volume is being made on already; a node that is gone by now does not count. */
function selectedNode({ claims, candidates }: Observed): string | undefined {
  return claims
    .flatMap(({ claim, volume }) => (volume ? [] : (claim?.metadata.annotations?.[SELECTED_NODE] ?? [])))
    .find((name) => candidates.some(({ node }) => node.metadata.name === name));
}

function faultOf({ name, claim, volume, waitsForConsumer }: Claim): string | undefined {
  if (!claim) return `persistentvolumeclaim "${name}" not found`;
  if (claim.metadata.deletionTimestamp) return `persistentvolumeclaim "${name}" is being deleted`;
  if (claim.status?.phase === 'Lost')
    return volume && dataStateOf(volume) === 'lost'
      ? `persistentvolumeclaim "${name}" has lost the data of its persistentvolume "${volume.metadata.name}"`
      : `persistentvolumeclaim "${name}" bound to non-existent persistentvolume "${claim.spec?.volumeName ?? ''}"`;
  if (!volume && !waitsForConsumer) return 'pod has unbound immediate PersistentVolumeClaims';
  return undefined;
}

/** How many nodes each reason rules out, ordered as Kubernetes orders them: `1 Insufficient cpu, 2 node(s) were unschedulable`. */
function summary(reasons: readonly (readonly string[])[]): string {
  const counts = new Map<string, number>();
  for (const one of reasons.flat()) counts.set(one, (counts.get(one) ?? 0) + 1);
  return [...counts]
    .map(([reason, count]) => `${count} ${reason}`)
    .sort()
    .join(', ');
}

/** Share of processor and memory that stays free, moved by what the pod would rather have; less for nodes that already run replicas of the same owner. */
function score(candidate: Candidate, requests: Amounts, pod: Pod, { preferredNode }: Observed): number {
  const { node, allocatable, requested, replicas } = candidate;
  if (node.metadata.name === preferredNode) return Infinity;
  const free = ['cpu', 'memory'].map((name) => {
    const total = Number(allocatable[name] ?? 0n);
    return total === 0 ? 0 : (total - Number((requested[name] ?? 0n) + (requests[name] ?? 0n))) / total;
  });
  const preferences = pod.spec?.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  const preferred = preferences
    .filter(({ preference }) => matchesNodeSelectorTerm(preference, node))
    .reduce((sum, { weight }) => sum + weight / 10, 0);
  const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller)?.uid;
  const spread = owner === undefined ? 0 : (replicas.get(owner) ?? 0);
  return free.reduce((sum, share) => sum + share, 0) / free.length + preferred - spread - 10 * reluctance(pod, node);
}

function bind(pod: Pod & ApiObject, nodeName: string, because: string): Action[] {
  const { namespace, name } = pod.metadata;
  const message = `Successfully assigned ${namespace}/${name} to ${nodeName}`;
  return [
    { verb: 'bind', pod, nodeName, because },
    { verb: 'event', about: pod, type: 'Normal', reason: 'Scheduled', message, because },
  ];
}

function selectNode(claim: PersistentVolumeClaim & ApiObject, nodeName: string): ApiAction {
  const { name, namespace, uid, resourceVersion } = claim.metadata;
  return {
    verb: 'patch',
    resource: CLAIMS,
    ...(namespace && { namespace }),
    name,
    patch: { metadata: { uid, resourceVersion, annotations: { [SELECTED_NODE]: nodeName } } },
    because: `the first pod that uses the claim fits on node ${nodeName}`,
  };
}

/** Says so in the pod's status, and in an Event when the reasons have changed. */
function unschedulable(pod: Pod & ApiObject, observed: Observed, message: string): Plan<Action> {
  const plan = told(pod, observed, 'Unschedulable', message);
  if (!plan.status) return plan;
  return {
    ...plan,
    actions: [{ verb: 'event', about: pod, type: 'Warning', reason: 'FailedScheduling', message, because: message }],
  };
}

const gated = (pod: Pod & ApiObject, observed: Observed): Plan<Action> =>
  told(pod, observed, 'SchedulingGated', 'Scheduling is blocked due to non-empty scheduling gates');

/** Nothing where the condition stands already. */
function told(pod: Pod & ApiObject, { now }: Observed, reason: string, message: string): Plan<Action> {
  const conditions = pod.status?.conditions ?? [];
  const standing = conditionOf(conditions, 'PodScheduled');
  if (standing?.status === 'False' && standing.reason === reason && standing.message === message)
    return { actions: [] };
  const lastTransitionTime = standing?.status === 'False' ? (standing.lastTransitionTime ?? now) : now;
  const condition: PodCondition = { type: 'PodScheduled', status: 'False', reason, message, lastTransitionTime };
  const rest = conditions.filter(({ type }) => type !== 'PodScheduled');
  return { actions: [], status: { ...pod.status, conditions: [...rest, condition] } };
}
