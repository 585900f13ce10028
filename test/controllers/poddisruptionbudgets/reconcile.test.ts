/** What a budget says of its pods: as a table, and driven by what happens around it. */
import t from 'tap';
import { controller } from '../../../controllers/poddisruptionbudgets/index.ts';
import type { Budget, PodObject } from '../../../controllers/poddisruptionbudgets/observe.ts';
import { DELETION_TIMEOUT_MS } from '../../../controllers/poddisruptionbudgets/reconcile.ts';
import type { ApiObject } from '../../../sdk/index.ts';
import { SmallWorld } from '../small-world.ts';

const apps = (resource: string) => ({ group: 'apps', version: 'v1', resource });
const core = (resource: string) => ({ group: '', version: 'v1', resource });
const KINDS = {
  PodDisruptionBudget: { group: 'policy', version: 'v1', resource: 'poddisruptionbudgets' },
  Pod: core('pods'),
  Deployment: apps('deployments'),
  ReplicaSet: apps('replicasets'),
  StatefulSet: apps('statefulsets'),
};

const owner = (kind: string, name: string) => ({ apiVersion: 'apps/v1', kind, name, uid: name, controller: true });
const workload = (kind: string, name: string, replicas: number, above?: object) =>
  ({
    apiVersion: 'apps/v1',
    kind,
    metadata: { name, namespace: 'shop', uid: name, ...(above && { ownerReferences: [above] }) },
    spec: { replicas, template: { metadata: { labels: { app: 'web' } } } },
  }) as unknown as ApiObject;
const podOf = (name: string, ready: boolean, by?: object, metadata: object = {}) =>
  ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'shop',
      uid: name,
      labels: { app: 'web' },
      ...(by && { ownerReferences: [by] }),
      ...metadata,
    },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
  }) as unknown as PodObject;
const budgetOf = (spec: object, status: object = {}) =>
  ({
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: { name: 'web', namespace: 'shop', uid: 'web-budget', generation: 3 },
    spec: { selector: { matchLabels: { app: 'web' } }, ...spec },
    status,
  }) as unknown as Budget;

async function worldOf(budget: Budget, objects: readonly ApiObject[]) {
  const world = new SmallWorld(KINDS);
  for (const object of [...objects, budget]) world.create(object);
  world.deliver();
  const [driver] = world.run(controller);
  await world.settle();
  return { world, driver, status: () => world.standing<Budget>(budget)?.status };
}

const set = (replicas: number) => workload('ReplicaSet', 'rs', replicas);
const many = (count: number, ready: number, by: object = owner('ReplicaSet', 'rs')) =>
  Array.from({ length: count }, (_, index) => podOf(`p${index}`, index < ready, by));
const numbers = (currentHealthy: number, desiredHealthy: number, expectedPods: number, disruptionsAllowed: number) => ({
  currentHealthy,
  desiredHealthy,
  expectedPods,
  disruptionsAllowed,
  observedGeneration: 3,
  conditions: [{ type: 'DisruptionAllowed', status: disruptionsAllowed > 0 ? 'True' : 'False' }],
});

for (const [name, spec, objects, expected] of [
  [
    'a number that must stay counts the pods there are',
    { minAvailable: 2 },
    [set(9), ...many(4, 3)],
    numbers(3, 2, 4, 1),
  ],
  [
    'a share that must stay counts the pods there are to be',
    { minAvailable: '50%' },
    [set(5), ...many(4, 4)],
    numbers(4, 3, 5, 1),
  ],
  ['a number that may be missing', { maxUnavailable: 1 }, [set(3), ...many(3, 3)], numbers(3, 2, 3, 1)],
  ['what is missing already uses it up', { maxUnavailable: 1 }, [set(3), ...many(3, 2)], numbers(2, 2, 3, 0)],
  [
    'a share that may be missing is rounded up',
    { maxUnavailable: '30%' },
    [set(4), ...many(4, 4)],
    numbers(4, 2, 4, 2),
  ],
  ['more may be missing than there are', { maxUnavailable: 9 }, [set(3), ...many(3, 3)], numbers(3, 0, 3, 3)],
  ['no pods, no allowance', { minAvailable: 0 }, [set(3)], numbers(0, 0, 0, 0)],
  [
    'a Deployment is counted once, whatever sets it has',
    { maxUnavailable: 1 },
    [
      workload('Deployment', 'web', 4),
      workload('ReplicaSet', 'old', 1, owner('Deployment', 'web')),
      workload('ReplicaSet', 'new', 4, owner('Deployment', 'web')),
      podOf('a', true, owner('ReplicaSet', 'old')),
      ...many(4, 4, owner('ReplicaSet', 'new')),
    ],
    numbers(5, 3, 4, 2),
  ],
  [
    'several workloads together',
    { maxUnavailable: '50%' },
    [set(2), ...many(2, 2), workload('StatefulSet', 'db', 3), podOf('db-0', true, owner('StatefulSet', 'db'))],
    numbers(3, 2, 5, 1),
  ],
] as const) {
  t.test(name, async (t) => {
    const { status } = await worldOf(budgetOf(spec), objects);
    t.match(status(), expected);
  });
}

t.test('who cannot count allows nothing, and says why', async (t) => {
  const before = {
    disruptionsAllowed: 4,
    currentHealthy: 4,
    desiredHealthy: 0,
    expectedPods: 4,
    observedGeneration: 2,
  };
  const { driver, status } = await worldOf(budgetOf({ maxUnavailable: 4 }, before), many(4, 4));
  t.match(status(), {
    disruptionsAllowed: 0,
    observedGeneration: 3,
    conditions: [{ status: 'False', reason: 'SyncFailed', message: /found no controllers for pod "p/ }],
  });
  t.match(driver?.events, [/^CalculateExpectedPodCountFailed web: /], 'it says so once');
});

t.test('evicted pods are not healthy until they are gone, or it is clear that they stay', async (t) => {
  const now = new Date(Date.UTC(2030, 0, 1)).toISOString();
  const noted = { disruptedPods: { p0: now, p1: now, long: now }, observedGeneration: 3 };
  const going = podOf('p1', true, owner('ReplicaSet', 'rs'), { deletionTimestamp: now });
  const pods = [...many(4, 4).filter(({ metadata }) => metadata.name !== 'p1'), going];
  const { world, driver, status } = await worldOf(budgetOf({ minAvailable: 2 }, noted), [set(4), ...pods]);
  t.match(status(), numbers(2, 2, 4, 0));
  t.strictSame(Object.keys(status()?.disruptedPods ?? {}), ['p0'], 'what is going, or gone, is noted no longer');
  world.nowMs += DELETION_TIMEOUT_MS;
  driver?.restart();
  await world.settle();
  t.match(status(), numbers(3, 2, 4, 1), 'it stayed after all');
  t.notOk(status()?.disruptedPods);
  t.match(driver?.events, [/^NotDeleted web: Pod p0 /]);
});

t.test('a workload of another size is another budget', async (t) => {
  const { world, status } = await worldOf(budgetOf({ maxUnavailable: 1 }), [set(3), ...many(3, 3)]);
  t.match(status(), numbers(3, 2, 3, 1));
  world.edit(set(2), (standing) => Object.assign(standing['spec'] as object, { replicas: 2 }));
  await world.settle();
  t.match(status(), numbers(3, 1, 2, 2));
});
