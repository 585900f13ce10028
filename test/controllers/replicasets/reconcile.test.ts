/**
 * Plans for ReplicaSets, as a table, and the order of deletion as a property.
 */
import fc from 'fast-check';
import t from 'tap';
import type { ReplicaSet } from '../../../api-schemas/types/apps-v1.ts';
import type { Pod } from '../../../api-schemas/types/core-v1.ts';
import { inDeletionOrder } from '../../../controllers/replicasets/deletion-order.ts';
import type { Observed } from '../../../controllers/replicasets/observe.ts';
import { isActive } from '../../../controllers/replicasets/pod-state.ts';
import { BURST, reconcile } from '../../../controllers/replicasets/reconcile.ts';
import { type ApiAction, timestamp } from '../../../sdk/index.ts';

const NOW = Date.UTC(2030, 0, 1);
const ago = (seconds: number): string => timestamp(NOW - seconds * 1000);

function set(replicas: number, options: { spec?: object; metadata?: object; status?: object } = {}): ReplicaSet {
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: 'web', namespace: 'shop', uid: 'set', resourceVersion: '7', generation: 3, ...options.metadata },
    spec: {
      replicas,
      selector: { matchLabels: { app: 'web' } },
      template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
      ...options.spec,
    },
    status: { replicas: 0, ...options.status },
  } as ReplicaSet;
}

interface PodOptions {
  readonly owner?: string | undefined;
  readonly labels?: Record<string, string>;
  readonly phase?: string;
  readonly readyFor?: number;
  readonly going?: boolean;
  readonly node?: string;
  readonly cost?: string;
  readonly age?: number;
  readonly restarts?: number;
}

function pod(name: string, options: PodOptions = {}): Pod {
  const {
    owner = 'set',
    labels = { app: 'web' },
    phase = 'Running',
    readyFor,
    going,
    node = 'n1',
    cost,
    age = 100,
    restarts = 0,
  } = options;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'shop',
      uid: `uid-${name}`,
      resourceVersion: '5',
      creationTimestamp: ago(age),
      labels,
      ...(going && { deletionTimestamp: ago(1) }),
      ...(cost && { annotations: { 'controller.kubernetes.io/pod-deletion-cost': cost } }),
      ...(owner !== '' && {
        ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: owner, controller: true }],
      }),
    },
    spec: { containers: [], ...(node && { nodeName: node }) },
    status: {
      phase,
      ...(readyFor !== undefined && {
        conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: ago(readyFor) }],
      }),
      containerStatuses: [{ name: 'c', image: 'i', imageID: '', ready: true, restartCount: restarts }],
    },
  } as unknown as Pod;
}

const observed = (pods: Pod[], more: Partial<Observed> = {}): Observed => ({
  pods,
  relatedPods: pods,
  nowMs: NOW,
  ...more,
});
const brief = (actions: readonly ApiAction[]): string[] =>
  actions.map((action) => {
    if (action.verb === 'create' || action.verb === 'update') return action.verb;
    return action.verb === 'event' ? `event ${action.reason}` : `${action.verb} ${action.name}`;
  });

t.test('a table of plans', async (t) => {
  const cases: {
    name: string;
    set: ReplicaSet;
    pods: Pod[];
    more?: Partial<Observed>;
    actions: string[];
    status?: object;
    requeueAfterMs?: number;
  }[] = [
    {
      name: 'nothing there: all are made',
      set: set(2),
      pods: [],
      actions: ['create', 'create'],
      status: { replicas: 0, observedGeneration: 3 },
    },
    {
      name: 'as many as wanted: nothing to do',
      set: set(1),
      pods: [pod('a', { readyFor: 5 })],
      actions: [],
      status: { replicas: 1, fullyLabeledReplicas: 1, readyReplicas: 1, availableReplicas: 1, observedGeneration: 3 },
    },
    {
      name: 'finished and going pods do not count',
      set: set(2),
      pods: [
        pod('failed', { phase: 'Failed' }),
        pod('done', { phase: 'Succeeded' }),
        pod('going', { going: true }),
        pod('a'),
      ],
      actions: ['create'],
    },
    {
      name: 'one too many: the one that is not ready goes',
      set: set(1),
      pods: [pod('a', { readyFor: 50 }), pod('b')],
      actions: ['delete b'],
    },
    {
      name: 'an orphan that matches is adopted, and counts',
      set: set(1),
      pods: [pod('orphan', { owner: '' })],
      actions: ['patch orphan'],
    },
    {
      name: "another's pod is left alone",
      set: set(1),
      pods: [pod('other', { owner: 'another' })],
      actions: ['create'],
    },
    {
      name: 'a pod that no longer matches is released and replaced',
      set: set(1),
      pods: [pod('a', { labels: { app: 'debug' } })],
      actions: ['patch a', 'create'],
    },
    {
      name: 'a set on its way out neither adopts nor makes',
      set: set(2, { metadata: { deletionTimestamp: ago(1) } }),
      pods: [pod('orphan', { owner: '' })],
      actions: [],
    },
    {
      name: 'an empty selector selects nobody',
      set: set(2, { spec: { selector: {} } }),
      pods: [pod('a')],
      actions: [],
    },
    { name: 'no replicas said: one', set: set(1, { spec: { replicas: undefined } }), pods: [], actions: ['create'] },
    {
      name: 'ready, but not for long enough: looked at again when it is',
      set: set(2, { spec: { minReadySeconds: 30 } }),
      pods: [pod('a', { readyFor: 40 }), pod('b', { readyFor: 10 })],
      actions: [],
      status: { replicas: 2, fullyLabeledReplicas: 2, readyReplicas: 2, availableReplicas: 1, observedGeneration: 3 },
      requeueAfterMs: 20_000,
    },
    {
      name: 'a pod without all of the template labels is not fully labelled',
      set: set(1, {
        spec: { template: { metadata: { labels: { app: 'web', tier: 'x' } }, spec: { containers: [] } } },
      }),
      pods: [pod('a')],
      actions: [],
      status: { replicas: 1, observedGeneration: 3 },
    },
    {
      name: 'a failed create is tried again, told as an event and as a condition',
      set: set(1),
      pods: [],
      more: { lastFailure: { verb: 'create', reason: 'Forbidden', message: 'exceeded quota' } },
      actions: ['event FailedCreate', 'create'],
      status: {
        replicas: 0,
        observedGeneration: 3,
        conditions: [
          {
            type: 'ReplicaFailure',
            status: 'True',
            reason: 'FailedCreate',
            message: 'exceeded quota',
            lastTransitionTime: timestamp(NOW),
          },
        ],
      },
    },
    {
      name: 'once it has worked, the condition goes',
      set: set(1, {
        status: {
          conditions: [{ type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', lastTransitionTime: ago(60) }],
        },
      }),
      pods: [pod('a')],
      actions: [],
      status: { replicas: 1, fullyLabeledReplicas: 1, observedGeneration: 3 },
    },
  ];
  for (const { name, set, pods, more, actions, status, requeueAfterMs } of cases) {
    const plan = reconcile(set, observed(pods, more));
    t.same(brief(plan.actions), actions, name);
    if (status) t.same(plan.status, status, `${name}: status`);
    t.equal(plan.requeueAfterMs, requeueAfterMs, `${name}: requeue`);
    t.ok(
      plan.actions.every((action) => action.because.length > 10),
      `${name}: every action says why`,
    );
  }
});

t.test('names', async (t) => {
  const name = (action: ApiAction | undefined): string =>
    action?.verb === 'create' ? action.object.metadata.name : '';
  const first = reconcile(set(3), observed([])).actions.map(name);
  t.same(
    reconcile(set(3), observed([])).actions.map(name),
    first,
    'the same look gives the same names, so that a create can be repeated',
  );
  t.equal(new Set(first).size, 3);
  const after = reconcile(set(3), observed([pod(first[0] ?? ''), pod(first[1] ?? '', { going: true })])).actions.map(
    name,
  );
  t.equal(after.length, 2);
  t.notOk(
    after.includes(first[0] ?? '') || after.includes(first[1] ?? ''),
    'a name that is still taken is passed over',
  );
  t.not(reconcile(set(1, { metadata: { resourceVersion: '8' } }), observed([])).actions.map(name)[0], first[0]);
  const long = reconcile(set(1, { metadata: { name: 'x'.repeat(200) } }), observed([])).actions.map(name)[0] ?? '';
  t.equal(long.length, 63);
  t.equal(reconcile(set(2000), observed([])).actions.length, BURST, 'bounded');
});

t.test('adoption and release hold only for the pod as it was seen', async (t) => {
  const [adopt] = reconcile(set(1), observed([pod('orphan', { owner: '' })])).actions;
  t.match(adopt, {
    verb: 'patch',
    patch: {
      metadata: {
        uid: 'uid-orphan',
        resourceVersion: '5',
        ownerReferences: [{ kind: 'ReplicaSet', uid: 'set', controller: true }],
      },
    },
  });
  const [release] = reconcile(set(0), observed([pod('a', { labels: {} })])).actions;
  t.match(release, {
    verb: 'patch',
    patch: { metadata: { uid: 'uid-a', resourceVersion: '5', ownerReferences: null } },
  });
});

t.test('who goes first', async (t) => {
  const pairs: [string, Pod, Pod][] = [
    ['unassigned before assigned', pod('z', { node: '', phase: 'Pending' }), pod('a', { phase: 'Pending' })],
    ['pending before running', pod('z', { phase: 'Pending' }), pod('a')],
    ['not ready before ready', pod('z'), pod('a', { readyFor: 1 })],
    ['cheaper before dearer', pod('z', { readyFor: 9, cost: '-5' }), pod('a', { readyFor: 1 })],
    [
      'on the fuller node before on the emptier',
      pod('z', { readyFor: 9, node: 'full' }),
      pod('a', { readyFor: 1, node: 'empty' }),
    ],
    ['ready for shorter before ready for longer', pod('z', { readyFor: 1 }), pod('a', { readyFor: 9 })],
    ['more restarts before fewer', pod('z', { restarts: 3 }), pod('a')],
    ['younger before older', pod('z', { age: 1 }), pod('a', { age: 50 })],
  ];
  const crowd = [pod('c1', { node: 'full' }), pod('c2', { node: 'full' })];
  for (const [name, first, second] of pairs) {
    t.same(
      inDeletionOrder([second, first], [first, second, ...crowd]).map((each) => each.metadata.name),
      ['z', 'a'],
      name,
    );
  }
  const anyPod = fc.record({
    name: fc.uuid(),
    phase: fc.constantFrom('Pending', 'Running', 'Unknown'),
    readyFor: fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined }),
    node: fc.constantFrom('', 'n1', 'n2'),
    cost: fc.constantFrom('', '3', '-1', 'x'),
    age: fc.integer({ min: 0, max: 5 }),
    restarts: fc.integer({ min: 0, max: 2 }),
  });
  fc.assert(
    fc.property(
      fc.uniqueArray(anyPod, { selector: ({ name }) => name, maxLength: 12 }),
      fc.integer({ min: 0, max: 12 }),
      (drawn, replicas) => {
        const pods = drawn.map(({ name, readyFor, ...options }) =>
          pod(name, { ...options, ...(readyFor !== undefined && { readyFor }) }),
        );
        const order = inDeletionOrder(pods, pods).map((each) => each.metadata.name);
        const again = inDeletionOrder([...pods].reverse(), pods).map((each) => each.metadata.name);
        if (order.join() !== again.join()) throw new Error('the order depends on the order of arrival');
        const plan = reconcile(set(replicas), observed(pods));
        const removed = plan.actions.flatMap((action) => (action.verb === 'delete' ? [action.name] : []));
        if (removed.length !== Math.max(0, pods.filter(isActive).length - replicas))
          throw new Error('a wrong number goes');
        const isReadyPod = (name: string) =>
          pods.find((each) => each.metadata.name === name)?.status.conditions !== undefined;
        const kept = order.filter((name) => !removed.includes(name));
        const assigned = (name: string) =>
          pods.find((each) => each.metadata.name === name)?.spec.nodeName !== undefined;
        const running = (name: string) => pods.find((each) => each.metadata.name === name)?.status.phase === 'Running';
        const healthy = (name: string) => assigned(name) && running(name) && isReadyPod(name);
        if (removed.some(healthy) && kept.some((name) => !healthy(name)))
          throw new Error('a healthy pod goes while an unhealthy one stays');
      },
    ),
  );
});
