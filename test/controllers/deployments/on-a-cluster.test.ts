/**
 * Deployments and replica sets on a real log and API server; the test plays the node.
 */
import t from 'tap';
import type { Deployment, ReplicaSet } from '../../../api-schemas/types/apps-v1.ts';
import type { Pod } from '../../../api-schemas/types/core-v1.ts';
import { controller as deployments } from '../../../controllers/deployments/index.ts';
import { controller as replicasets } from '../../../controllers/replicasets/index.ts';
import type { ApiObject } from '../../../sdk/index.ts';
import { eventually, PODS, setPodReady, startCluster } from '../../sdk/cluster.ts';

t.setTimeout(600_000);

const DEPLOYMENTS = { group: 'apps', version: 'v1', resource: 'deployments' };
const REPLICA_SETS = { group: 'apps', version: 'v1', resource: 'replicasets' };
const EVENTS = { group: '', version: 'v1', resource: 'events' };
const namespace = 'default';

const cluster = await startCluster();
const { admin } = cluster;
t.teardown(() => cluster.remove());
await cluster.run([deployments, replicasets]);

const web = (name: string, replicas: number, extra: Record<string, unknown> = {}): ApiObject => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, namespace },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'web', image: 'web:1' }] } },
    ...extra,
  },
});

const get = (name: string) => admin.get<Deployment>({ resource: DEPLOYMENTS, namespace, name });
const setsOf = async (app: string) =>
  (await admin.list<ReplicaSet>(REPLICA_SETS, { namespace, labelSelector: `app=${app}` })).items;
const podsOf = async (app: string) =>
  (await admin.list<Pod>(PODS, { namespace, labelSelector: `app=${app}` })).items.filter(
    (pod) => !pod.metadata.deletionTimestamp,
  );
const conditionOf = (deployment: Deployment, type: string) =>
  deployment.status.conditions?.find((condition) => condition.type === type);

/** Makes every pod ready, as a node would, until the rollout is complete. */
async function rollOut(name: string): Promise<Deployment> {
  return eventually(
    async () => {
      for (const pod of await podsOf(name)) if (!pod.status.conditions) await setPodReady(admin, pod);
      return get(name);
    },
    ({ metadata, spec, status }) =>
      status.observedGeneration === metadata.generation &&
      (status.updatedReplicas ?? 0) === spec.replicas &&
      (status.replicas ?? 0) === spec.replicas &&
      (status.availableReplicas ?? 0) === spec.replicas,
  );
}

t.test('a deployment becomes pods, and says so', async (t) => {
  await admin.create(DEPLOYMENTS, web('hello', 3));
  const pending = await eventually(
    () => podsOf('hello'),
    (pods) => pods.length === 3,
  );
  const before = await get('hello');
  t.equal(conditionOf(before, 'Available')?.status, 'False');
  const [set] = await setsOf('hello');
  t.match(set?.metadata.name, /^hello-[bcdfghjklmnpqrstvwxz2456789]{10}$/);
  for (const pod of pending) {
    t.match(pod.metadata.name, new RegExp(`^${set?.metadata.name}-[bcdfghjklmnpqrstvwxz2456789]{5}$`));
    t.equal(pod.metadata.labels?.['pod-template-hash'], set?.metadata.labels?.['pod-template-hash']);
  }
  const done = await rollOut('hello');
  t.equal(conditionOf(done, 'Available')?.reason, 'MinimumReplicasAvailable');
  t.match(
    await eventually(
      async () => conditionOf(await get('hello'), 'Progressing'),
      (condition) => condition?.reason === 'NewReplicaSetAvailable',
    ),
    { status: 'True', message: `ReplicaSet "${set?.metadata.name}" has successfully progressed.` },
  );
  t.equal((await get('hello')).metadata.annotations?.['deployment.kubernetes.io/revision'], '1');
  const events = await eventually(
    async () =>
      (await admin.list(EVENTS, { namespace })).items.map(
        (event) => `${(event['involvedObject'] as { name: string }).name}: ${String(event['message'])}`,
      ),
    (lines) => lines.length >= 4,
  );
  const sources = (await admin.list(EVENTS, { namespace })).items.map(
    (event) => (event['source'] as { component: string }).component,
  );
  t.same([...new Set(sources)].toSorted(), ['deployment-controller', 'replicaset-controller'], 'each says who it is');
  t.ok(events.includes(`hello: Scaled up replica set ${set?.metadata.name} from 0 to 3`), 'the scaling is an event');
  t.equal(events.filter((line) => line.includes('Created pod: ')).length, 3, 'and so is every pod');
});

t.test('a pod that goes is replaced under a new name; pods are adopted and released by label', async (t) => {
  const before = await podsOf('hello');
  const [victim, runaway] = before;
  if (!victim || !runaway) throw new Error('there are no pods');
  await admin.delete({ resource: PODS, namespace, name: victim.metadata.name }, { gracePeriodSeconds: 0 });
  const after = await eventually(
    () => podsOf('hello'),
    (pods) => pods.length === 3,
  );
  t.notOk(after.some((pod) => pod.metadata.name === victim.metadata.name));
  await admin.patch(
    { resource: PODS, namespace, name: runaway.metadata.name },
    { metadata: { labels: { app: 'quarantine' } } },
  );
  await eventually(
    () => podsOf('hello'),
    (pods) => pods.length === 3 && !pods.some((pod) => pod.metadata.name === runaway.metadata.name),
  );
  const released = await eventually(
    () => admin.get({ resource: PODS, namespace, name: runaway.metadata.name }),
    (pod) => !pod.metadata.ownerReferences?.length,
  );
  t.notOk(released.metadata.ownerReferences?.length, "the pod that was relabelled is nobody's");
  await admin.patch(
    { resource: PODS, namespace, name: runaway.metadata.name },
    { metadata: { labels: { app: 'hello' } } },
  );
  const adopted = await eventually(
    () => podsOf('hello'),
    (pods) => pods.length === 3 && pods.every((pod) => pod.metadata.ownerReferences?.length === 1),
  );
  const owners = new Set(adopted.map((pod) => pod.metadata.ownerReferences?.[0]?.uid));
  t.same([...owners], [before[0]?.metadata.ownerReferences?.[0]?.uid], 'adopted by the same set; one too many went');
  await rollOut('hello');
});

t.test('a new image rolls out within its bounds; undo takes the old set back', async (t) => {
  const bounds = { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } } };
  await admin.create(DEPLOYMENTS, web('roll', 3, bounds));
  await rollOut('roll');
  const [first] = await setsOf('roll');
  const setImage = (image: string) =>
    admin.patch(
      { resource: DEPLOYMENTS, namespace, name: 'roll' },
      {
        metadata: { annotations: { 'kubernetes.io/change-cause': `set ${image}` } },
        spec: { template: { spec: { containers: [{ name: 'web', image }] } } },
      },
    );
  await setImage('web:2');
  let most = 0;
  let least = Number.POSITIVE_INFINITY;
  await eventually(
    async () => {
      const pods = await podsOf('roll');
      most = Math.max(most, pods.length);
      least = Math.min(least, pods.filter((pod) => pod.status.conditions).length);
      for (const pod of pods) if (!pod.status.conditions) await setPodReady(admin, pod);
      return get('roll');
    },
    ({ status }) =>
      conditionOf({ status } as Deployment, 'Progressing')?.reason === 'NewReplicaSetAvailable' &&
      status.updatedReplicas === 3 &&
      status.replicas === 3,
  );
  t.ok(most <= 4, `at most 4 pods at once, seen ${most}`);
  t.ok(least >= 3, `at least 3 ready at any time, seen ${least}`);
  const sets = await setsOf('roll');
  t.equal(sets.length, 2);
  t.equal(
    sets.find((set) => set.metadata.name !== first?.metadata.name)?.metadata.annotations?.[
      'kubernetes.io/change-cause'
    ],
    'set web:2',
  );
  await setImage('web:1');
  await rollOut('roll');
  const back = (await setsOf('roll')).find((set) => set.metadata.name === first?.metadata.name);
  t.equal(back?.spec.replicas, 3, 'the first set is back');
  t.match(back?.metadata.annotations, {
    'deployment.kubernetes.io/revision': '3',
    'deployment.kubernetes.io/revision-history': '1',
  });
  await eventually(
    () => get('roll'),
    ({ metadata }) => metadata.annotations?.['deployment.kubernetes.io/revision'] === '3',
  );
});

t.test('scaling, pausing and scaling to nothing', async (t) => {
  const target = { resource: DEPLOYMENTS, namespace, name: 'hello' };
  await admin.patch(target, { spec: { replicas: 6 } });
  await rollOut('hello');
  await admin.patch(target, { spec: { paused: true } });
  await eventually(
    async () => conditionOf(await get('hello'), 'Progressing'),
    (condition) => condition?.reason === 'DeploymentPaused',
  );
  await admin.patch(target, { spec: { replicas: 1, template: { metadata: { labels: { tier: 'new' } } } } });
  await eventually(
    () => podsOf('hello'),
    (pods) => pods.length === 1,
  );
  t.equal((await setsOf('hello')).length, 1, 'no new set while it is paused, though it scales');
  await admin.patch(target, { spec: { paused: false } });
  await rollOut('hello');
  t.equal((await setsOf('hello')).length, 2);
  await admin.patch(target, { spec: { replicas: 0 } });
  await eventually(
    () => podsOf('hello'),
    (pods) => pods.length === 0,
  );
  const done = await rollOut('hello');
  t.equal(done.status.unavailableReplicas, undefined);
});

t.test('Recreate, and a rollout that is stuck', async (t) => {
  await admin.create(DEPLOYMENTS, web('stuck', 2, { strategy: { type: 'Recreate' }, progressDeadlineSeconds: 1 }));
  await rollOut('stuck');
  await admin.patch(
    { resource: DEPLOYMENTS, namespace, name: 'stuck' },
    { spec: { template: { spec: { containers: [{ name: 'web', image: 'web:broken' }] } } } },
  );
  const seen = await eventually(
    () => podsOf('stuck'),
    (pods) => pods.length === 2 && pods.every((pod) => pod.spec.containers[0]?.image === 'web:broken'),
  );
  t.equal(seen.length, 2);
  const overdue = await eventually(
    async () => conditionOf(await get('stuck'), 'Progressing'),
    (condition) => condition?.reason === 'ProgressDeadlineExceeded',
  );
  t.match(overdue, { status: 'False', message: /has timed out progressing/ });
  await rollOut('stuck');
  await eventually(
    async () => conditionOf(await get('stuck'), 'Progressing'),
    (condition) => condition?.reason === 'NewReplicaSetAvailable',
  );
});

t.test('an API server that comes and goes leaves exact counts', async (t) => {
  await admin.create(DEPLOYMENTS, web('outage', 5));
  await eventually(
    () => setsOf('outage'),
    (sets) => sets.length === 1,
  );
  await cluster.stopApiServer();
  await new Promise((resolve) => setTimeout(resolve, 500));
  await cluster.startApiServer();
  await rollOut('outage');
  t.equal((await podsOf('outage')).length, 5);
  await cluster.nats.kill();
  await cluster.nats.start();
  await eventually(
    async () => {
      await admin
        .patch({ resource: DEPLOYMENTS, namespace, name: 'outage' }, { spec: { replicas: 8 } })
        .catch(() => undefined);
      return get('outage').catch(() => undefined);
    },
    (deployment) => deployment?.spec.replicas === 8,
  );
  await rollOut('outage');
  t.equal((await podsOf('outage')).length, 8);
});
