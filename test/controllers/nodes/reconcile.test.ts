/** What follows from a node's silence and state: conditions, taints, and pods that must leave. */
import fc from 'fast-check';
import t from 'tap';
import type { Taint, Toleration } from '../../../api-schemas/types/core-v1.ts';
import { GRACE_MS, type NodeObject, type PodObject, reconcile } from '../../../controllers/nodes/reconcile.ts';
import { timestamp } from '../../../sdk/index.ts';
import { mergePatch } from '../deployments/simulated-rollout.ts';

const START = Date.UTC(2030, 0, 1);
const nodeOf = (ready: string | undefined, spec: object = {}, conditions: object[] = []): NodeObject =>
  ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n', uid: 'n', resourceVersion: '1' },
    spec,
    status: { conditions: [...(ready ? [{ type: 'Ready', status: ready }] : []), ...conditions] },
  }) as unknown as NodeObject;
const podOf = (name: string, tolerations: Toleration[] = [], extra: object = {}): PodObject =>
  ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop', uid: name, ...extra },
    spec: { nodeName: 'n', tolerations },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  }) as unknown as PodObject;
const five = (key: string): Toleration => ({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 });

/** Plans, until nothing is left to do; what was done to the node, and which pods had to leave. */
function settle(node: NodeObject, options: { silentMs?: number; pods?: PodObject[]; nowMs?: number } = {}) {
  let current = node;
  let pods = options.pods ?? [];
  const left: string[] = [];
  for (let round = 0; round < 5; round++) {
    const plan = reconcile(current, { silentMs: options.silentMs, pods, nowMs: options.nowMs ?? START });
    if (plan.actions.length === 0 && round > 0)
      return { node: current, pods, left, requeueAfterMs: plan.requeueAfterMs };
    for (const action of plan.actions) {
      if (action.verb === 'delete') {
        left.push(action.name);
        pods = pods.filter(({ metadata }) => metadata.name !== action.name);
      } else if (action.verb === 'patch' && action.resource.resource === 'nodes')
        current = mergePatch(current, action.patch) as NodeObject;
      else if (action.verb === 'patch')
        pods = pods.map((pod) =>
          pod.metadata.name === action.name ? (mergePatch(pod, action.patch) as PodObject) : pod,
        );
    }
    if (plan.status) current = { ...current, status: plan.status } as NodeObject;
  }
  throw new Error('it does not converge');
}
const taints = ({ spec }: NodeObject) =>
  (spec?.taints ?? []).map(({ key, effect }) => `${key.replace('node.kubernetes.io/', '')}:${effect}`).sort();

t.test('taints are exactly what the state calls for', async (t) => {
  const own: Taint = { key: 'mine', effect: 'NoSchedule', value: 'v' };
  const old = {
    taints: [
      own,
      { key: 'node.kubernetes.io/unreachable', effect: 'NoSchedule' },
      { key: 'node.kubernetes.io/unreachable', effect: 'NoExecute' },
    ],
  };
  const cases: [string, NodeObject, number | undefined, string[]][] = [
    ['ready', nodeOf('True'), 0, []],
    ['not ready', nodeOf('False'), 0, ['not-ready:NoExecute', 'not-ready:NoSchedule']],
    ['unknown', nodeOf('Unknown'), undefined, ['unreachable:NoExecute', 'unreachable:NoSchedule']],
    ['silent', nodeOf('True'), GRACE_MS, ['unreachable:NoExecute', 'unreachable:NoSchedule']],
    ['not silent for long enough', nodeOf('True'), GRACE_MS - 1, []],
    ['nobody can tell', nodeOf('True'), undefined, []],
    ['just registered', nodeOf(undefined), 0, []],
    ['back again', nodeOf('True', old), 0, ['mine:NoSchedule']],
    [
      'from one to the other',
      nodeOf('False', old),
      0,
      ['mine:NoSchedule', 'not-ready:NoExecute', 'not-ready:NoSchedule'],
    ],
    ['cordoned', nodeOf('True', { unschedulable: true }), 0, ['unschedulable:NoSchedule']],
    [
      'under pressure',
      nodeOf('True', {}, [
        { type: 'DiskPressure', status: 'True' },
        { type: 'MemoryPressure', status: 'False' },
      ]),
      0,
      ['disk-pressure:NoSchedule'],
    ],
  ];
  for (const [what, node, silentMs, expected] of cases) {
    const settled = settle(node, silentMs === undefined ? {} : { silentMs });
    t.strictSame(taints(settled.node), expected, what);
    const ready = settled.node.status?.conditions?.find(({ type }) => type === 'Ready');
    if (what === 'silent')
      t.match(ready, { status: 'Unknown', reason: 'NodeStatusUnknown', lastTransitionTime: timestamp(START) });
  }
  t.strictSame(settle(nodeOf('True', old)).node.spec?.taints, [own], 'others’ taints are as they were');
  t.equal(
    settle(nodeOf('True'), { silentMs: 1_000 }).requeueAfterMs,
    GRACE_MS - 1_000,
    'looked at again when the grace is over',
  );
});

t.test('pods of a silent node', async (t) => {
  const pods = [
    podOf('plain'),
    podOf('five', [five('node.kubernetes.io/unreachable')]),
    podOf('forever', [{ operator: 'Exists' }]),
    podOf('going', [], { deletionTimestamp: timestamp(START) }),
  ];
  const first = settle(nodeOf('True'), { silentMs: GRACE_MS, pods });
  t.strictSame(first.left, ['plain'], 'who does not tolerate it leaves at once');
  t.ok(
    first.pods.every(({ status }) => status?.conditions?.every(({ status: ready }) => ready === 'False')),
    'none is taken for ready',
  );
  t.equal(first.requeueAfterMs, 300_000);
  t.strictSame(settle(first.node, { pods: first.pods, silentMs: GRACE_MS, nowMs: START + 299_000 }).left, []);
  t.strictSame(settle(first.node, { pods: first.pods, silentMs: GRACE_MS, nowMs: START + 300_000 }).left, ['five']);
  t.strictSame(
    settle(first.node, { pods: first.pods, silentMs: 0, nowMs: START + 900_000 }).left,
    [],
    'who has not seen the silence itself drives nobody away',
  );
  const back = { ...first.node, status: nodeOf('True').status } as NodeObject;
  t.strictSame(
    settle(back, { pods: first.pods, silentMs: 0, nowMs: START + 400_000 }).left,
    [],
    'a node that is back in time keeps them',
  );
});

t.test('a NoExecute taint that a person sets', async (t) => {
  const node = nodeOf('True', { taints: [{ key: 'drain', effect: 'NoExecute' }] });
  const pods = [
    podOf('plain'),
    podOf('five', [five('drain')]),
    podOf('value', [{ key: 'drain', operator: 'Equal', value: 'x' }]),
  ];
  const first = settle(node, { pods, silentMs: 0 });
  t.strictSame(first.left, ['plain', 'value']);
  t.equal(first.node.spec?.taints?.[0]?.timeAdded, timestamp(START), 'the time runs from when it was seen');
  t.strictSame(settle(first.node, { pods: first.pods, nowMs: START + 300_000 }).left, ['five']);
});

t.test('whatever the state, a plan that was carried out leaves nothing to do', async () => {
  const taint = fc.record({
    key: fc.constantFrom(
      'mine',
      'node.kubernetes.io/unreachable',
      'node.kubernetes.io/not-ready',
      'node.kubernetes.io/unschedulable',
    ),
    effect: fc.constantFrom('NoSchedule' as const, 'NoExecute' as const),
  });
  const condition = fc.record({
    type: fc.constantFrom('DiskPressure', 'MemoryPressure', 'PIDPressure'),
    status: fc.constantFrom('True', 'False', 'Unknown'),
  });
  fc.assert(
    fc.property(
      fc.option(fc.constantFrom('True', 'False', 'Unknown')),
      fc.boolean(),
      fc.uniqueArray(taint, { selector: ({ key, effect }) => `${key}${effect}` }),
      fc.uniqueArray(condition, { selector: ({ type }) => type }),
      fc.nat(60_000),
      (ready, unschedulable, taints, conditions, silentMs) => {
        const settled = settle(nodeOf(ready ?? undefined, { unschedulable, taints }, conditions), {
          silentMs,
          pods: [podOf('p', [{ operator: 'Exists' }])],
        });
        const keys = settled.node.spec?.taints?.map(({ key }) => key) ?? [];
        if (keys.includes('node.kubernetes.io/unschedulable') !== unschedulable)
          throw new Error('cordon and taint differ');
        if (keys.includes('node.kubernetes.io/unreachable') && keys.includes('node.kubernetes.io/not-ready'))
          throw new Error('both unreachable and not ready');
        if (keys.filter((key) => key === 'mine').length !== taints.filter(({ key }) => key === 'mine').length)
          throw new Error('a taint of somebody else was touched');
        if (settled.left.length > 0) throw new Error('a pod that tolerates everything had to leave');
      },
    ),
    { numRuns: 300 },
  );
});
