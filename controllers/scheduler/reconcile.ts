/**
 * Chooses a node for one pod, from what the nodes have left: the emptiest that fits, replicas spread. A pod that fits nowhere is told why, node by node. Pure; called by the SDK's loop.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod, PodCondition } from '../../api-schemas/types/core-v1.ts';
import type { ApiAction, Plan } from '../../sdk/controller.ts';
import { reasonsAgainst, type Candidate } from './fit.ts';
import { amounts, podRequests, type Amounts } from './requests.ts';

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
}

export interface Observed {
  readonly candidates: readonly Candidate[];
  readonly claims: readonly Claim[];
  /** RFC 3339, whole seconds. */
  readonly now: string;
}

export const SELECTED_NODE = 'volume.kubernetes.io/selected-node';
const CLAIMS = { group: '', version: 'v1', resource: 'persistentvolumeclaims' };

export function reconcile(pod: Pod & ApiObject, observed: Observed): Plan<ApiAction | BindAction> {
  if (pod.spec?.nodeName || pod.metadata.deletionTimestamp || (pod.spec?.schedulingGates ?? []).length > 0)
    return { actions: [] };
  const { candidates, claims } = observed;
  const claimFault = claims.map(faultOf).find((fault) => fault !== undefined);
  if (claimFault) return unschedulable(pod, observed, `${availability(0, candidates.length)}: ${claimFault}.`);

  const volumes = claims.flatMap(({ volume }) => (volume ? [volume] : []));
  const selected = claims
    .map(({ claim }) => claim?.metadata.annotations?.[SELECTED_NODE])
    .find((name) => name !== undefined);
  const requests = podRequests(pod.spec);
  const judged = candidates.map((candidate) => ({
    candidate,
    reasons: reasonsAgainst(pod, requests, candidate, volumes),
  }));
  const fitting = judged.filter(
    ({ reasons, candidate }) =>
      reasons.length === 0 && (selected === undefined || candidate.node.metadata.name === selected),
  );
  const best = fitting
    .map(({ candidate }) => candidate)
    .sort((a, b) => score(b, requests, pod) - score(a, requests, pod) || compare(a, b))[0];
  if (!best)
    return unschedulable(
      pod,
      observed,
      `${availability(0, candidates.length)}: ${summary(judged.map(({ reasons }) => reasons))}`,
    );

  const nodeName = best.node.metadata.name ?? '';
  const because = `it has the most room of the ${fitting.length} nodes that fit (of ${candidates.length})`;
  const waiting = claims.filter(({ claim, volume, waitsForConsumer }) => claim && !volume && waitsForConsumer);
  if (waiting.length > 0)
    return {
      actions: waiting.flatMap(({ claim }) => (claim && selected === undefined ? [selectNode(claim, nodeName)] : [])),
    };
  return { actions: [{ verb: 'bind', pod, nodeName, because }] };
}

const availability = (available: number, total: number): string => `${available}/${total} nodes are available`;

function faultOf({ name, claim, volume, waitsForConsumer }: Claim): string | undefined {
  if (!claim) return `persistentvolumeclaim "${name}" not found`;
  if (claim.metadata.deletionTimestamp) return `persistentvolumeclaim "${name}" is being deleted`;
  if (!volume && !waitsForConsumer) return 'pod has unbound immediate PersistentVolumeClaims';
  return undefined;
}

/** How many nodes each reason rules out, most first, as in `1 Insufficient cpu, 2 node(s) were unschedulable.` */
function summary(reasons: readonly (readonly string[])[]): string {
  const counts = new Map<string, number>();
  for (const one of reasons.flat()) counts.set(one, (counts.get(one) ?? 0) + 1);
  if (counts.size === 0) return 'no nodes are registered.';
  return `${[...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([reason, count]) => `${count} ${reason}`)
    .join(', ')}.`;
}

/** Share of processor and memory that stays free, less for nodes that already run replicas of the same owner. Between 0 and 1, minus the spread. */
function score({ node, requested, replicas }: Candidate, requests: Amounts, pod: Pod): number {
  const allocatable = amounts(node.status?.allocatable);
  const free = ['cpu', 'memory'].map((name) => {
    const total = Number(allocatable[name] ?? 0n);
    return total === 0 ? 0 : (total - Number((requested[name] ?? 0n) + (requests[name] ?? 0n))) / total;
  });
  const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller)?.uid;
  return free.reduce((sum, share) => sum + share, 0) / free.length - (owner === undefined ? 0 : (replicas[owner] ?? 0));
}

const compare = (a: Candidate, b: Candidate): number =>
  (a.node.metadata.name ?? '') < (b.node.metadata.name ?? '') ? -1 : 1;

function selectNode(claim: PersistentVolumeClaim & ApiObject, nodeName: string): ApiAction {
  const { name, namespace, uid } = claim.metadata;
  return {
    verb: 'patch',
    resource: CLAIMS,
    ...(namespace && { namespace }),
    name,
    patch: { metadata: { uid, annotations: { [SELECTED_NODE]: nodeName } } },
    because: `the first pod that uses the claim fits on node ${nodeName}`,
  };
}

/** Says so in the pod's status, and in an Event when the reasons have changed. */
function unschedulable(pod: Pod & ApiObject, { now }: Observed, message: string): Plan<ApiAction> {
  const conditions = pod.status?.conditions ?? [];
  const standing = conditions.find(({ type }) => type === 'PodScheduled');
  if (standing?.status === 'False' && standing.message === message) return { actions: [] };
  const condition: PodCondition = {
    type: 'PodScheduled',
    status: 'False',
    reason: 'Unschedulable',
    message,
    lastTransitionTime: standing?.status === 'False' ? (standing.lastTransitionTime ?? now) : now,
  };
  return {
    actions: [{ verb: 'event', about: pod, type: 'Warning', reason: 'FailedScheduling', message, because: message }],
    status: { ...pod.status, conditions: [...conditions.filter(({ type }) => type !== 'PodScheduled'), condition] },
  };
}
