/**
 * Judges a node by its heartbeat: one that has fallen silent is not ready, and after a while its pods are wanted elsewhere. Pure; called by the SDK's loop.
 * https://kubernetes.io/docs/concepts/architecture/nodes/#heartbeats and .../scheduling-eviction/taint-and-toleration/
 */
import type { Node, NodeCondition, Pod, Taint } from '../../api-schemas/types/core-v1.ts';
import { milliseconds, timestamp, type ApiAction, type ApiObject, type Plan } from '../../sdk/index.ts';

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
const OURS = [UNREACHABLE, NOT_READY];
const SILENT = {
  status: 'Unknown',
  reason: 'NodeStatusUnknown',
  message: 'Kubelet stopped posting node status.',
} as const;

export function reconcile(node: NodeObject, observed: Observed): Plan<ApiAction> {
  const { silentMs, nowMs } = observed;
  const silent = silentMs !== undefined && silentMs >= GRACE_MS;
  const conditions = silent ? unknownConditions(node.status?.conditions ?? [], nowMs) : (node.status?.conditions ?? []);
  const ready = conditions.find(({ type }) => type === 'Ready')?.status;
  const taint = ready === 'True' ? undefined : ready === 'Unknown' ? UNREACHABLE : NOT_READY;
  const actions = [
    // A node that has only just registered has not said yet how it is.
    ...(ready === undefined ? [] : taintActions(node, taint, nowMs)),
    ...(silent ? notReady(observed) : []),
    ...evictions(node, observed),
  ];
  const waits = [...(silentMs === undefined || silent ? [] : [GRACE_MS - silentMs]), ...nextEvictions(node, observed)];
  return {
    actions,
    ...(silent && { status: { ...node.status, conditions } }),
    ...(waits.length > 0 && { requeueAfterMs: Math.max(1_000, Math.min(...waits)) }),
  };
}

/** Nobody knows any longer what the node last said of itself. */
function unknownConditions(conditions: readonly NodeCondition[], nowMs: number): NodeCondition[] {
  const known = conditions.some(({ type }) => type === 'Ready')
    ? conditions
    : [...conditions, { type: 'Ready', status: 'True' } as NodeCondition];
  return known.map((condition) =>
    condition.status === 'Unknown' ? condition : { ...condition, ...SILENT, lastTransitionTime: timestamp(nowMs) },
  );
}

/** Exactly the taints of ours that the node's state calls for; everybody else's are left alone. */
function taintActions(node: NodeObject, wanted: string | undefined, nowMs: number): ApiAction[] {
  const taints = node.spec?.taints ?? [];
  const standing = taints.filter(({ key }) => OURS.includes(key));
  const right =
    wanted === undefined ? standing.length === 0 : standing.length === 2 && standing.every(({ key }) => key === wanted);
  if (right) return [];
  const effects = ['NoSchedule', 'NoExecute'] as const;
  const added: Taint[] =
    wanted === undefined ? [] : effects.map((effect) => ({ key: wanted, effect, timeAdded: timestamp(nowMs) }));
  const { name, uid, resourceVersion } = node.metadata;
  const all = [...taints.filter(({ key }) => !OURS.includes(key)), ...added];
  const because =
    wanted === undefined
      ? `node ${name} is ready`
      : `node ${name} is ${wanted === UNREACHABLE ? 'silent' : 'not ready'}`;
  return [
    {
      verb: 'patch',
      resource: NODES,
      name,
      patch: { metadata: { uid, resourceVersion }, spec: { taints: all.length > 0 ? all : null } },
      because,
    },
  ];
}

/** The pods of a silent node get no traffic: nobody can say that they are ready. */
function notReady({ pods, nowMs }: Observed): ApiAction[] {
  return pods.flatMap((pod) => {
    const conditions = pod.status?.conditions ?? [];
    if (conditions.find(({ type }) => type === 'Ready')?.status !== 'True') return [];
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

/** When a pod must leave because of the node's NoExecute taints, in milliseconds since the epoch; undefined when it may stay. */
function leavesAt(pod: PodObject, node: NodeObject): number | undefined {
  const times = (node.spec?.taints ?? [])
    .filter(({ effect }) => effect === 'NoExecute')
    .flatMap(({ key, value, timeAdded }) => {
      const tolerating = (pod.spec?.tolerations ?? []).filter(
        (toleration) =>
          (!toleration.effect || toleration.effect === 'NoExecute') &&
          (!toleration.key || toleration.key === key) &&
          (toleration.operator === 'Exists' || (toleration.value ?? '') === (value ?? '')),
      );
      const added = milliseconds(timeAdded) ?? 0;
      if (tolerating.length === 0) return [added];
      const seconds = tolerating.flatMap(({ tolerationSeconds }) =>
        tolerationSeconds === undefined ? [] : [tolerationSeconds],
      );
      return seconds.length === 0 ? [] : [added + Math.max(0, Math.min(...seconds)) * 1000];
    });
  return times.length === 0 ? undefined : Math.min(...times);
}

const staying = ({ pods }: Observed): readonly PodObject[] =>
  pods.filter(
    ({ metadata, status }) =>
      !metadata.deletionTimestamp && status?.phase !== 'Succeeded' && status?.phase !== 'Failed',
  );

function evictions(node: NodeObject, observed: Observed): ApiAction[] {
  const due = staying(observed).filter((pod) => (leavesAt(pod, node) ?? Infinity) <= observed.nowMs);
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

const nextEvictions = (node: NodeObject, observed: Observed): number[] =>
  staying(observed).flatMap((pod) => {
    const at = leavesAt(pod, node);
    return at === undefined || at <= observed.nowMs ? [] : [at - observed.nowMs];
  });
