/**
 * Judges a node by its heartbeat: one that has fallen silent is not ready, and after a while its pods are wanted elsewhere. Pure; called by the SDK's loop.
 * https://kubernetes.io/docs/concepts/architecture/nodes/#heartbeats and .../scheduling-eviction/taint-and-toleration/
 */
import type { Node, NodeCondition, Pod, Taint } from '../../api-schemas/types/core-v1.ts';
import {
  conditionHolds,
  conditionOf,
  milliseconds,
  sameJson,
  timestamp,
  type ApiAction,
  type ApiObject,
  type Plan,
} from '../../sdk/index.ts';

export type NodeObject = Node & ApiObject;
export type PodObject = Pod & ApiObject;

export interface Observed {
  /** For how long the heartbeat has been seen to stand still; undefined while nobody can tell. */
  readonly silentMs: number | undefined;
  /** Pods bound to the node. */
  readonly pods: readonly PodObject[];
  readonly nowMs: number;
}

export const NODES = { group: '', version: 'v1', resource: 'nodes' };
export const PODS = { group: '', version: 'v1', resource: 'pods' };
/** As in Kubernetes (`--node-monitor-grace-period`). */
export const GRACE_MS = 40_000;
const UNREACHABLE = 'node.kubernetes.io/unreachable';
const NOT_READY = 'node.kubernetes.io/not-ready';
const UNSCHEDULABLE = 'node.kubernetes.io/unschedulable';
/** Conditions under which a node gets no more pods, and what says so. */
const PRESSURES: Readonly<Record<string, string>> = {
  DiskPressure: 'node.kubernetes.io/disk-pressure',
  MemoryPressure: 'node.kubernetes.io/memory-pressure',
  NetworkUnavailable: 'node.kubernetes.io/network-unavailable',
  PIDPressure: 'node.kubernetes.io/pid-pressure',
};
const OURS: ReadonlySet<string> = new Set([UNREACHABLE, NOT_READY, UNSCHEDULABLE, ...Object.values(PRESSURES)]);
const SILENT = {
  status: 'Unknown',
  reason: 'NodeStatusUnknown',
  message: 'Kubelet stopped posting node status.',
} as const;

export function reconcile(node: NodeObject, observed: Observed): Plan<ApiAction> {
  const { silentMs, nowMs } = observed;
  const silent = silentMs !== undefined && silentMs >= GRACE_MS;
  const conditions = silent ? unknownConditions(node.status?.conditions ?? [], nowMs) : (node.status?.conditions ?? []);
  const taints = rightTaints(node, conditions, nowMs);
  // Whoever has not seen the silence itself drives nobody away: after a long sleep of everything, the node's agent is only just waking up.
  const driving = taints.filter(({ key, effect }) => effect === 'NoExecute' && (key !== UNREACHABLE || silent));
  const actions = [
    ...taintActions(node, conditions, taints),
    ...(silent ? notReady(observed) : []),
    ...evictions(node, observed, driving),
  ];
  const waits = [
    ...(silentMs === undefined || silent ? [] : [GRACE_MS - silentMs]),
    ...nextEvictions(observed, driving),
  ];
  return {
    actions,
    ...(silent && { status: { ...node.status, conditions } }),
    ...(waits.length > 0 && { requeueAfterMs: Math.max(1_000, Math.min(...waits)) }),
  };
}

/** Nobody knows any longer what the node last said of itself. */
function unknownConditions(conditions: readonly NodeCondition[], nowMs: number): NodeCondition[] {
  const known = conditionOf(conditions, 'Ready')
    ? conditions
    : [...conditions, { type: 'Ready', status: 'True' } as NodeCondition];
  return known.map((condition) =>
    condition.status === 'Unknown' ? condition : { ...condition, ...SILENT, lastTransitionTime: timestamp(nowMs) },
  );
}

type TaintName = Pick<Taint, 'key' | 'effect'>;

/** The taints that the node's state calls for. */
function calledFor({ spec }: NodeObject, conditions: readonly NodeCondition[]): TaintName[] {
  const ready = conditionOf(conditions, 'Ready')?.status;
  // A node that has only just registered has not said yet how it is.
  const key = ready === undefined || ready === 'True' ? undefined : ready === 'Unknown' ? UNREACHABLE : NOT_READY;
  const pressures = conditions.flatMap(({ type, status }) => (status === 'True' ? (PRESSURES[type] ?? []) : []));
  const keys = [...(spec?.unschedulable ? [UNSCHEDULABLE] : []), ...pressures];
  return [
    ...keys.map((one) => ({ key: one, effect: 'NoSchedule' as const })),
    ...(key === undefined ? [] : (['NoSchedule', 'NoExecute'] as const).map((effect) => ({ key, effect }))),
  ];
}

const isSame = (a: TaintName, b: TaintName): boolean => a.key === b.key && a.effect === b.effect;

/** Exactly the taints of ours that the node's state calls for; everybody else's are left alone, but for the time since when they drive pods away. */
function rightTaints(node: NodeObject, conditions: readonly NodeCondition[], nowMs: number): Taint[] {
  const standing = node.spec?.taints ?? [];
  const wanted = calledFor(node, conditions);
  const timeAdded = timestamp(nowMs);
  const kept = standing
    .filter((taint) => !OURS.has(taint.key) || wanted.some((one) => isSame(one, taint)))
    .map((taint) => (taint.effect === 'NoExecute' && !taint.timeAdded ? { ...taint, timeAdded } : taint));
  const added = wanted
    .filter((one) => !standing.some((taint) => isSame(one, taint)))
    .map((one): Taint => ({ ...one, timeAdded }));
  return [...kept, ...added];
}

function taintActions(node: NodeObject, conditions: readonly NodeCondition[], taints: readonly Taint[]): ApiAction[] {
  if (sameJson(taints, node.spec?.taints ?? [])) return [];
  const { name, uid, resourceVersion } = node.metadata;
  const patch = { metadata: { uid, resourceVersion }, spec: { taints: taints.length > 0 ? taints : null } };
  const because = `node ${name} is ${stateOf(node, calledFor(node, conditions))}`;
  return [{ verb: 'patch', resource: NODES, name, patch, because }];
}

function stateOf({ spec }: NodeObject, wanted: readonly TaintName[]): string {
  if (wanted.some(({ key }) => key === UNREACHABLE)) return 'silent';
  if (wanted.some(({ key }) => key === NOT_READY)) return 'not ready';
  return spec?.unschedulable ? 'cordoned' : wanted.length > 0 ? 'under pressure' : 'ready';
}

/** The pods of a silent node get no traffic: nobody can say that they are ready. */
function notReady({ pods, nowMs }: Observed): ApiAction[] {
  return pods.flatMap((pod) => {
    const conditions = pod.status?.conditions ?? [];
    if (!conditionHolds(conditions, 'Ready')) return [];
    const { name, namespace, uid, resourceVersion } = pod.metadata;
    const told = conditions.map((condition) =>
      condition.type === 'Ready' ? { ...condition, status: 'False', lastTransitionTime: timestamp(nowMs) } : condition,
    );
    const patch = { metadata: { uid, resourceVersion }, status: { conditions: told } };
    return [
      {
        verb: 'patch' as const,
        resource: PODS,
        ...(namespace && { namespace }),
        name,
        subresource: 'status',
        patch,
        because: 'its node is silent',
      },
    ];
  });
}

/** When a pod must leave because of these taints, in milliseconds since the epoch; undefined when it may stay. */
function leavesAt(pod: PodObject, driving: readonly Taint[]): number | undefined {
  const times = driving.flatMap(({ key, value, timeAdded }) => {
    const tolerating = (pod.spec?.tolerations ?? []).filter(
      (toleration) =>
        (!toleration.effect || toleration.effect === 'NoExecute') &&
        (!toleration.key || toleration.key === key) &&
        (toleration.operator === 'Exists' || (toleration.value ?? '') === (value ?? '')),
    );
    const added = milliseconds(timeAdded);
    if (tolerating.length === 0) return [added ?? 0];
    const seconds = tolerating.flatMap(({ tolerationSeconds }) =>
      tolerationSeconds === undefined ? [] : [tolerationSeconds],
    );
    // Until the taint has been given its time, nobody's runs out.
    return seconds.length === 0 || added === undefined ? [] : [added + Math.max(0, Math.min(...seconds)) * 1000];
  });
  return times.length === 0 ? undefined : Math.min(...times);
}

const staying = ({ pods }: Observed): readonly PodObject[] =>
  pods.filter(
    ({ metadata, status }) =>
      !metadata.deletionTimestamp && status?.phase !== 'Succeeded' && status?.phase !== 'Failed',
  );

function evictions(node: NodeObject, observed: Observed, driving: readonly Taint[]): ApiAction[] {
  const due = staying(observed).filter((pod) => (leavesAt(pod, driving) ?? Infinity) <= observed.nowMs);
  return due.map((pod) => {
    const { name, namespace, uid = '' } = pod.metadata;
    const because = `the pod does not tolerate the taints of node ${node.metadata.name} any longer`;
    const event = {
      about: pod,
      type: 'Normal' as const,
      reason: 'TaintManagerEviction',
      message: `Marking for deletion Pod ${namespace}/${name}`,
    };
    return { verb: 'delete', resource: PODS, ...(namespace && { namespace }), name, uid, because, event };
  });
}

const nextEvictions = (observed: Observed, driving: readonly Taint[]): number[] =>
  staying(observed).flatMap((pod) => {
    const at = leavesAt(pod, driving);
    return at === undefined || at <= observed.nowMs ? [] : [at - observed.nowMs];
  });
