/**
 * Plans for Deployments, as tables: bounds, sizes, revisions, conditions.
 */
import t from 'tap';
import type { Deployment, ReplicaSet } from '../../../api-schemas/types/apps-v1.ts';
import type { Observed } from '../../../controllers/deployments/observe.ts';
import { reconcile } from '../../../controllers/deployments/reconcile.ts';
import { templateHash } from '../../../controllers/deployments/revisions.ts';
import { allowance } from '../../../controllers/deployments/surge.ts';
import { type ApiAction, timestamp } from '../../../sdk/index.ts';

const NOW = Date.UTC(2030, 0, 1);
const ago = (seconds: number): string => timestamp(NOW - seconds * 1000);
const REVISION = 'deployment.kubernetes.io/revision';

const templateOf = (image: string) => ({
  metadata: { labels: { app: 'web' } },
  spec: { containers: [{ name: 'c', image }] },
});

function deployment(
  replicas: number,
  options: { spec?: object; metadata?: object; status?: object; image?: string } = {},
): Deployment {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: {
      name: 'web',
      namespace: 'shop',
      uid: 'deployment',
      resourceVersion: '7',
      generation: 2,
      annotations: { [REVISION]: '1' },
      ...options.metadata,
    },
    spec: {
      replicas,
      selector: { matchLabels: { app: 'web' } },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      progressDeadlineSeconds: 600,
      revisionHistoryLimit: 10,
      template: templateOf(options.image ?? 'new'),
      ...options.spec,
    },
    status: { observedGeneration: 2, ...options.status },
  } as Deployment;
}

interface SetOptions {
  readonly image: string;
  readonly size: number;
  readonly available?: number;
  readonly actual?: number;
  readonly revision?: number;
  readonly desired?: number;
  readonly max?: number;
  readonly owner?: string;
  readonly age?: number;
}

function set(name: string, options: SetOptions): ReplicaSet {
  const {
    image,
    size,
    actual = size,
    available = actual,
    revision = 1,
    desired,
    max,
    owner = 'deployment',
    age = 100,
  } = options;
  const template = templateOf(image);
  const annotations: Record<string, string> = { [REVISION]: String(revision) };
  if (desired !== undefined) annotations['deployment.kubernetes.io/desired-replicas'] = String(desired);
  if (max !== undefined) annotations['deployment.kubernetes.io/max-replicas'] = String(max);
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name,
      namespace: 'shop',
      uid: `uid-${name}`,
      resourceVersion: '5',
      generation: 1,
      creationTimestamp: ago(age),
      annotations,
      labels: { app: 'web', 'pod-template-hash': name },
      ...(owner && {
        ownerReferences: [{ apiVersion: 'apps/v1', kind: 'Deployment', name: 'web', uid: owner, controller: true }],
      }),
    },
    spec: {
      replicas: size,
      selector: { matchLabels: { app: 'web' } },
      template: { ...template, metadata: { labels: { app: 'web', 'pod-template-hash': name } } },
    },
    status: { replicas: actual, readyReplicas: available, availableReplicas: available, observedGeneration: 1 },
  } as ReplicaSet;
}

const observed = (replicaSets: ReplicaSet[], more: Partial<Observed> = {}): Observed => ({
  replicaSets,
  takenNames: new Set(),
  pods: [],
  nowMs: NOW,
  ...more,
});

function brief(actions: readonly ApiAction[]): string[] {
  return actions.map((action) => {
    if (action.verb === 'create') return `create ${String((action.object['spec'] as { replicas: number }).replicas)}`;
    if (action.verb === 'patch')
      return `${action.name} ${JSON.stringify((action.patch['spec'] as { replicas?: number } | undefined)?.replicas ?? 'annotations')}`;
    if (action.verb === 'update') return `update ${action.object.metadata.name}`;
    return action.verb === 'event' ? `event ${action.reason}` : `${action.verb} ${action.name}`;
  });
}

const conditionOf = (status: Record<string, unknown> | undefined, type: string) =>
  (status?.['conditions'] as { type: string; reason: string; status: string; message: string }[] | undefined)?.find(
    (condition) => condition.type === type,
  );

t.test('surge rounds up, unavailability down, and something can always move', async (t) => {
  const cases: [
    replicas: number,
    surge: number | string | undefined,
    unavailable: number | string | undefined,
    maxSurge: number,
    maxUnavailable: number,
  ][] = [
    [4, undefined, undefined, 1, 1],
    [3, '25%', '25%', 1, 0],
    [10, '25%', '25%', 3, 2],
    [10, 3, 2, 3, 2],
    [1, '100%', '100%', 1, 1],
    [3, 0, 0, 0, 1],
    [1, '0%', '25%', 0, 1],
    [100, '29%', '29%', 29, 29],
    [2, 1, 5, 1, 2],
    [0, 0, 0, 0, 0],
  ];
  for (const [replicas, maxSurge, maxUnavailable, surge, unavailable] of cases) {
    const rollingUpdate = {
      ...(maxSurge !== undefined && { maxSurge }),
      ...(maxUnavailable !== undefined && { maxUnavailable }),
    };
    t.same(
      allowance(deployment(replicas, { spec: { strategy: { type: 'RollingUpdate', rollingUpdate } } })),
      { maxSurge: surge, maxUnavailable: unavailable },
      `${replicas} replicas, surge ${maxSurge}, unavailable ${maxUnavailable}`,
    );
  }
});

t.test('steps of a rollout', async (t) => {
  const recreate = { strategy: { type: 'Recreate' } };
  const cases: {
    name: string;
    deployment: Deployment;
    sets: ReplicaSet[];
    more?: Partial<Observed>;
    actions: string[];
    reason?: string;
  }[] = [
    {
      name: 'the first set gets all',
      deployment: deployment(3),
      sets: [],
      actions: ['create 3'],
      reason: 'NewReplicaSetCreated',
    },
    {
      name: 'a new template: a set of as many as surge allows',
      deployment: deployment(3),
      sets: [set('old', { image: 'old', size: 3, desired: 3, max: 4 })],
      actions: ['create 1'],
    },
    {
      name: 'waits for the new pod',
      deployment: deployment(3, { metadata: { annotations: { [REVISION]: '2' } } }),
      sets: [set('old', { image: 'old', size: 3 }), set('new', { image: 'new', size: 1, available: 0, revision: 2 })],
      actions: [],
    },
    {
      name: 'one is available: one old goes',
      deployment: deployment(3, { metadata: { annotations: { [REVISION]: '2' } } }),
      sets: [set('old', { image: 'old', size: 3 }), set('new', { image: 'new', size: 1, revision: 2 })],
      actions: ['old 2'],
    },
    {
      name: 'the old one still holds its pod: no surge above surge',
      deployment: deployment(3, { metadata: { annotations: { [REVISION]: '2' } } }),
      sets: [set('old', { image: 'old', size: 2, actual: 3 }), set('new', { image: 'new', size: 1, revision: 2 })],
      actions: [],
    },
    {
      name: 'it is gone: one more',
      deployment: deployment(3, { metadata: { annotations: { [REVISION]: '2' } } }),
      sets: [set('old', { image: 'old', size: 2 }), set('new', { image: 'new', size: 1, revision: 2 })],
      actions: ['new 2'],
    },
    {
      name: 'old pods that are not available go at once',
      deployment: deployment(3, {
        spec: { strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } } },
        metadata: { annotations: { [REVISION]: '2' } },
      }),
      sets: [set('old', { image: 'old', size: 3, available: 2 }), set('new', { image: 'new', size: 0, revision: 2 })],
      actions: ['old 2'],
    },
    {
      name: 'Recreate: down first',
      deployment: deployment(3, { spec: recreate }),
      sets: [set('old', { image: 'old', size: 3 })],
      actions: ['old 0'],
    },
    {
      name: 'Recreate: not before the old pods are gone',
      deployment: deployment(3, { spec: recreate }),
      sets: [set('old', { image: 'old', size: 0, actual: 1 })],
      actions: [],
    },
    {
      name: 'Recreate: then up',
      deployment: deployment(3, { spec: recreate }),
      sets: [set('old', { image: 'old', size: 0 })],
      actions: ['create 3'],
    },
    {
      name: 'paused: no new set',
      deployment: deployment(3, { spec: { paused: true } }),
      sets: [set('old', { image: 'old', size: 3, desired: 3, max: 4 })],
      actions: [],
      reason: 'DeploymentPaused',
    },
    {
      name: 'paused: scaled all the same',
      deployment: deployment(5, { spec: { paused: true } }),
      sets: [set('old', { image: 'old', size: 3, desired: 3, max: 4 })],
      actions: ['old 5'],
    },
    {
      name: 'an orphan is adopted',
      deployment: deployment(3),
      sets: [set('new', { image: 'new', size: 3, owner: '', desired: 3, max: 4 })],
      actions: ['new "annotations"'],
      reason: 'NewReplicaSetAvailable',
    },
    {
      name: 'a deployment on its way out does nothing',
      deployment: deployment(3, { metadata: { deletionTimestamp: ago(1) } }),
      sets: [],
      actions: [],
    },
    {
      name: 'an empty selector is refused',
      deployment: deployment(3, { spec: { selector: {} }, status: { observedGeneration: 1 } }),
      sets: [],
      actions: ['event SelectingAll'],
    },
    {
      name: 'a set that could not be made is told and tried again',
      deployment: deployment(3),
      sets: [],
      more: { lastFailure: { verb: 'create', reason: 'Forbidden', message: 'quota' } },
      actions: ['event ReplicaSetCreateError', 'create 3'],
      reason: 'ReplicaSetCreateError',
    },
  ];
  for (const { name, deployment, sets, more, actions, reason } of cases) {
    const plan = reconcile(deployment, observed(sets, more));
    t.same(brief(plan.actions), actions, name);
    if (reason) t.equal(conditionOf(plan.status, 'Progressing')?.reason, reason, `${name}: reason`);
    t.ok(
      plan.actions.every((action) => action.because.length > 10),
      `${name}: every action says why`,
    );
  }
});

t.test('proportional scaling, as in the example of the Kubernetes documentation', async (t) => {
  const bounds = { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 3, maxUnavailable: 2 } } };
  const sets = [
    set('old', { image: 'old', size: 8, desired: 10, max: 13 }),
    set('new', { image: 'new', size: 5, available: 0, revision: 2, desired: 10, max: 13, age: 5 }),
  ];
  const { actions } = reconcile(
    deployment(15, { spec: bounds, metadata: { annotations: { [REVISION]: '2' } } }),
    observed(sets),
  );
  t.same(brief(actions).sort(), ['new 7', 'old 11']);
  t.match(actions[0], {
    patch: {
      metadata: {
        annotations: {
          'deployment.kubernetes.io/desired-replicas': '15',
          'deployment.kubernetes.io/max-replicas': '18',
        },
      },
    },
  });
  const down = reconcile(
    deployment(5, { spec: bounds, metadata: { annotations: { [REVISION]: '2' } } }),
    observed(sets),
  );
  const sizes = brief(down.actions).map((line) => Number(line.split(' ')[1]));
  t.equal(
    sizes.reduce((sum, size) => sum + size, 0),
    8,
    'five and a surge of three, shared out',
  );
  t.same(
    brief(
      reconcile(deployment(0, { spec: bounds, metadata: { annotations: { [REVISION]: '2' } } }), observed(sets))
        .actions,
    ).sort(),
    ['new 0', 'old 0'],
  );
});

t.test('revisions and history', async (t) => {
  const annotated = deployment(1, {
    image: 'first',
    metadata: {
      annotations: {
        [REVISION]: '2',
        'kubernetes.io/change-cause': 'undo',
        'kubectl.kubernetes.io/last-applied-configuration': '{}',
      },
    },
  });
  const sets = [
    set('first', { image: 'first', size: 0, revision: 1 }),
    set('second', { image: 'second', size: 1, revision: 2, desired: 1, max: 2 }),
  ];
  const [revise] = reconcile(annotated, observed(sets)).actions;
  t.match(revise, {
    verb: 'patch',
    name: 'first',
    patch: {
      metadata: {
        annotations: {
          [REVISION]: '3',
          'deployment.kubernetes.io/revision-history': '1',
          'kubernetes.io/change-cause': 'undo',
        },
      },
    },
  });
  t.notOk(
    JSON.stringify(revise).includes('last-applied'),
    'what was applied to the deployment was not applied to the set',
  );

  const after = reconcile(
    deployment(1, { image: 'first' }),
    observed([
      set('first', { image: 'first', size: 1, revision: 3 }),
      set('second', { image: 'second', size: 0, revision: 2 }),
    ]),
  );
  t.match(after.actions.at(-1), {
    verb: 'patch',
    resource: { resource: 'deployments' },
    patch: { metadata: { annotations: { [REVISION]: '3' } } },
  });
  t.equal(after.status, undefined, 'the status is left to the next plan, for this one changes the object');

  const done = { updatedReplicas: 1, replicas: 1, availableReplicas: 1, readyReplicas: 1, observedGeneration: 2 };
  const many = [1, 2, 3, 4].map((revision) => set(`r${revision}`, { image: `i${revision}`, size: 0, revision }));
  const busy = set('r0', { image: 'i0', size: 0, actual: 1, revision: 0 });
  const cleaning = reconcile(
    deployment(1, { spec: { revisionHistoryLimit: 2 }, status: done, metadata: { annotations: { [REVISION]: '5' } } }),
    observed([...many, busy, set('new', { image: 'new', size: 1, revision: 5 })]),
  );
  t.same(brief(cleaning.actions), ['delete r1', 'delete r2'], 'the oldest go, but none that still has pods');
});

t.test('a name that is taken counts the collision', async (t) => {
  const wanted = deployment(1);
  const taken = `web-${templateHash(wanted.spec.template, 0)}`;
  const plan = reconcile(wanted, observed([], { takenNames: new Set([taken]) }));
  t.same(plan.actions, []);
  t.equal(plan.status?.['collisionCount'], 1);
  const [create] = reconcile(
    { ...wanted, status: { ...wanted.status, collisionCount: 1 } },
    observed([], { takenNames: new Set([taken]) }),
  ).actions;
  t.ok(create?.verb === 'create' && create.object.metadata.name !== taken);
});

t.test('conditions', async (t) => {
  const progressing = (reason: string, secondsAgo: number, status = 'True') => [
    { type: 'Progressing', status, reason, message: '', lastUpdateTime: ago(secondsAgo), lastTransitionTime: ago(900) },
  ];
  const standing = { metadata: { annotations: { [REVISION]: '2' } }, spec: { progressDeadlineSeconds: 60 } };
  const stuck = [
    set('old', { image: 'old', size: 3 }),
    set('new', { image: 'new', size: 1, available: 0, revision: 2 }),
  ];
  const counts = {
    replicas: 4,
    updatedReplicas: 1,
    readyReplicas: 3,
    availableReplicas: 3,
    unavailableReplicas: 1,
    observedGeneration: 2,
  };

  const waiting = reconcile(
    deployment(3, { ...standing, status: { ...counts, conditions: progressing('ReplicaSetUpdated', 20) } }),
    observed(stuck),
  );
  t.equal(conditionOf(waiting.status, 'Progressing')?.reason, 'ReplicaSetUpdated');
  t.equal(waiting.requeueAfterMs, 41_000, 'it is looked at again when the deadline has passed');
  t.match(conditionOf(waiting.status, 'Available'), { status: 'True', reason: 'MinimumReplicasAvailable' });
  t.match(waiting.status, counts);

  const overdue = reconcile(
    deployment(3, { ...standing, status: { ...counts, conditions: progressing('ReplicaSetUpdated', 61) } }),
    observed(stuck),
  );
  t.match(conditionOf(overdue.status, 'Progressing'), {
    status: 'False',
    reason: 'ProgressDeadlineExceeded',
    message: 'ReplicaSet "new" has timed out progressing.',
  });
  t.equal(overdue.requeueAfterMs, undefined);

  const moving = reconcile(
    deployment(3, {
      ...standing,
      status: { ...counts, updatedReplicas: 0, conditions: progressing('ProgressDeadlineExceeded', 100, 'False') },
    }),
    observed(stuck),
  );
  t.match(
    conditionOf(moving.status, 'Progressing'),
    { status: 'True', reason: 'ReplicaSetUpdated', lastTransitionTime: timestamp(NOW) },
    'progress ends the failure',
  );

  const resumed = reconcile(
    deployment(3, { ...standing, status: { ...counts, conditions: progressing('DeploymentPaused', 500, 'Unknown') } }),
    observed(stuck),
  );
  t.match(conditionOf(resumed.status, 'Progressing'), { status: 'Unknown', reason: 'DeploymentResumed' });

  const unlimited = reconcile(
    deployment(3, {
      ...standing,
      spec: { progressDeadlineSeconds: 2 ** 31 - 1 },
      status: { ...counts, conditions: progressing('ReplicaSetUpdated', 20) },
    }),
    observed(stuck),
  );
  t.equal(conditionOf(unlimited.status, 'Progressing'), undefined, 'no deadline, no such condition');

  const failing = set('new', { image: 'new', size: 3, actual: 0, revision: 2 });
  failing.status.conditions = [{ type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message: 'quota' }];
  const failed = reconcile(deployment(3, standing), observed([failing]));
  t.match(conditionOf(failed.status, 'ReplicaFailure'), { status: 'True', reason: 'FailedCreate', message: 'quota' });
  t.match(conditionOf(failed.status, 'Available'), { status: 'False', reason: 'MinimumReplicasUnavailable' });
});
