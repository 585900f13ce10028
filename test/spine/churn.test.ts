/** Much comes and goes again: nothing is left in the engine, the log has a tombstone for each object, and PostgreSQL agrees with it. Reads the log and the database as a stranger would. */
import t, { type Test } from 'tap';
import { databaseUrl, natsUrl } from '../../cli/instance.ts';
import type { LogRecord } from '../../event-log/event-log.ts';
import { openLogReader } from '../../event-log/jetstream.ts';
import { openHistory } from '../../state/history.ts';
import { openRuntimeState } from '../../state/runtime-state.ts';
import { runs } from '../harness/runs.ts';
import { configMap, deployment, pod, service } from './manifests.ts';
import { isReady, startStage, until, type Json, type Space } from './stage.ts';

/** `npm run prove` takes 200 and 50. */
const CONFIG_MAPS = runs(40);
const PODS = runs(10);
const ROOT_CA = 'kube-root-ca.crt';

const stage = await startStage(t);
const { instance } = stage.reckon;
const log = await openLogReader({ url: natsUrl(instance, 'reader'), stream: 'log' });
const history = openHistory(databaseUrl(instance, 'reader'));
const runtimeState = openRuntimeState(databaseUrl(instance, 'reader'));
t.teardown(async () => {
  await Promise.all([log.close(), history.close(), runtimeState.close()]);
});

/** Everything that the log holds of one namespace's objects. */
async function recordsOf(space: Space, resource: string): Promise<LogRecord[]> {
  const last = await log.lastSequence();
  const ending = new AbortController();
  const records: LogRecord[] = [];
  const filters = [{ group: '', resource, namespace: space.namespace }];
  for await (const followed of log.follow({ from: { after: 0 }, filters, signal: ending.signal })) {
    // Every namespace has this one from the beginning, whoever deletes it.
    records.push(...followed.records.filter(({ key }) => key.name !== ROOT_CA));
    if (followed.caughtUp || followed.position >= last) ending.abort();
  }
  return records;
}

async function untilEmpty(space: Space): Promise<void> {
  let left: unknown[] = [];
  const ask = async (): Promise<boolean> => {
    left = (await space.containers()).map(({ name, state, exitCode }) => ({ name, state, exitCode }));
    return left.length === 0;
  };
  await until('the engine to be empty', ask, { seen: () => left });
}

async function assertGone(t: Test, space: Space, resource: string, count: number): Promise<void> {
  const records = await recordsOf(space, resource);
  const born = new Set(records.filter(({ verb }) => verb !== 'delete').map(({ uid }) => uid));
  const tombstones = records.filter(({ verb }) => verb === 'delete');
  t.equal(born.size, count, `${resource}: the log knows of each`);
  t.equal(tombstones.length, count, `${resource}: and of each one's end, once`);
  t.same(new Set(tombstones.map(({ uid }) => uid)), born);
  t.ok(
    tombstones.every(({ object }) => JSON.parse(Buffer.from(object).toString()).metadata.namespace === space.namespace),
    'a tombstone carries the final object',
  );
  const last = await log.lastSequence();
  await history.reach(last, 20_000);
  const filter = { group: '', resource, namespace: space.namespace };
  const listed = (await history.listAt(filter, last, { limit: 1000 })).items;
  t.same(
    listed.filter(({ key }) => key.name !== ROOT_CA),
    [],
    `${resource}: PostgreSQL has none now`,
  );
  const recorded = await history.changes(filter, 0, last, 1000);
  const more = recorded.complete ? [] : (await history.changes(filter, recorded.position, last, 1000)).changes;
  const sequences = [...recorded.changes, ...more]
    .filter(({ key }) => key.name !== ROOT_CA)
    .map(({ sequence }) => sequence);
  t.same(
    sequences,
    records.map(({ sequence }) => sequence),
    `${resource}: and every record of the log`,
  );
}

const labelled = (object: Json): Json => ({ ...object, metadata: { ...object.metadata, labels: { kind: 'churn' } } });

t.test('many ConfigMaps and pods, applied and removed', async (t) => {
  const space = await stage.space('churn');
  const objects = [
    ...Array.from({ length: CONFIG_MAPS }, (_, index) => labelled(configMap(`map-${index}`, { index: String(index) }))),
    ...Array.from({ length: PODS }, (_, index) => pod(`pod-${index}`, { labels: { kind: 'churn' } })),
  ];
  const startedMs = Date.now();
  const note = (what: string): void => {
    t.comment(`${what} after ${((Date.now() - startedMs) / 1000).toFixed(1)} s`);
  };
  const applied = await space.kubectl('apply -f -', {
    input: { apiVersion: 'v1', kind: 'List', items: objects },
    timeoutMs: 120_000,
  });
  note('applied');
  t.equal(applied.trim().split('\n').length, CONFIG_MAPS + PODS);
  const ready = async (): Promise<boolean> => (await space.list('pods')).filter(isReady).length === PODS;
  await until('every pod to be ready', ready, { timeoutMs: 300_000, everyMs: 500 });
  note('ready');
  const addresses = (await space.list('pods')).map((one: Json) => one.status.podIP);
  t.equal(new Set(addresses).size, PODS, 'each has an address of its own');
  t.equal((await space.containers()).length, PODS);
  const node = instance.settings.nodeName;
  const known = async (): Promise<number> =>
    (await runtimeState.containersOfNode(node)).filter(({ podNamespace }) => podNamespace === space.namespace).length;
  await until('PostgreSQL to know of the containers', async () => (await known()) === PODS);

  // As one request: by itself kubectl sends five a second.
  await space.kubectl(`delete --raw /api/v1/namespaces/${space.namespace}/configmaps?labelSelector=kind%3Dchurn`);
  note('ConfigMaps deleted');
  await space.kubectl('delete pods --all', { timeoutMs: 120_000 });
  note('deleted');
  t.equal((await space.list('pods')).length, 0);
  await untilEmpty(space);
  await until('PostgreSQL to forget the containers', async () => (await known()) === 0);
  await assertGone(t, space, 'configmaps', CONFIG_MAPS);
  await assertGone(t, space, 'pods', PODS);
});

t.test('a namespace with 50 objects is deleted with all that is in it', async (t) => {
  const space = await stage.space('emptied');
  await space.apply(
    deployment('web', { replicas: 3 }),
    service('web'),
    ...Array.from({ length: 30 }, (_, index) => configMap(`map-${index}`, {})),
    ...Array.from({ length: 13 }, (_, index) => ({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: `secret-${index}` },
      stringData: { index: String(index) },
    })),
    pod('alone'),
    ...['a', 'b', 'c', 'd'].map((name) => ({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } })),
  );
  await space.untilRolledOut('web');
  await space.untilReady('alone');
  const begun = stage.reckon.kubectl(`delete namespace ${space.namespace}`);
  await until('the namespace to be ending', async () => {
    const found = await space.get('namespaces', space.namespace);
    return found === undefined || found.status.phase === 'Terminating';
  });
  const refused = await space.tryKubectl('create configmap late');
  t.match(refused, { code: 1, stderr: /being terminated|not found/ }, 'nothing new begins in it');
  await begun;
  t.equal(await space.get('namespaces', space.namespace), undefined);
  for (const resource of ['configmaps', 'secrets', 'services', 'deployments', 'replicasets', 'pods'] as const)
    t.same(await space.list(resource), [], resource);
  t.same(await space.containers(), []);
});
