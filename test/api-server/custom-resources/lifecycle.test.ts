/**
 * Custom kinds beyond the one API server: the past of their objects, namespaces and owners that end, servers that start later.
 */
import pino from 'pino';
import t from 'tap';
import { controller as definitions } from '../../../controllers/customresourcedefinitions/index.ts';
import { controller as garbageCollector } from '../../../controllers/garbagecollector/index.ts';
import { controller as namespaces } from '../../../controllers/namespaces/index.ts';
import { openLogReader } from '../../../event-log/jetstream.ts';
import { rebuildProjection } from '../../../state/rebuild.ts';
import { startWithPast } from '../../memory/stage.ts';
import { configMap, type Json } from '../api.ts';
import { conditionOf, CRDS, establish, runOn, until } from './custom-cluster.ts';
import { crd, GROUP, object, version } from './custom-kinds.ts';

t.setTimeout(600_000);

const { api, servers } = await startWithPast(t);
await runOn(t, api, [definitions, garbageCollector, namespaces]);

const v1 = object({ size: { type: 'integer' } });
const v2 = object({ size: { type: 'integer' }, shape: { type: 'string', default: 'round' } });
const gadgets = (served: { v1: boolean; v2: boolean }, storage: 'v1' | 'v2') =>
  crd({
    plural: 'gadgets',
    kind: 'Gadget',
    names: { shortNames: ['gd'] },
    versions: [
      { ...version('v1', { spec: v1 }, storage === 'v1'), served: served.v1 },
      { ...version('v2', { spec: v2 }, storage === 'v2'), served: served.v2 },
    ],
  });
const path = (v: string, name = '', namespace = 'default') =>
  `/apis/${GROUP}/${v}/namespaces/${namespace}/gadgets${name && `/${name}`}`;
const gadget = (v: string, name: string, spec: object, metadata: object = {}): Json => ({
  apiVersion: `${GROUP}/${v}`,
  kind: 'Gadget',
  metadata: { name, ...metadata },
  spec,
});
const isGone = async (target: string) =>
  void (await until(
    async () => (await api.get(target)).status,
    (status) => status === 404,
  ));

t.test('the past stays readable when a version is served no longer, and after a rebuild', async (t) => {
  await establish(api, gadgets({ v1: true, v2: false }, 'v1'));
  const made = await api.post(path('v1'), gadget('v1', 'one', { size: 1 }));
  const first = Number(made.headers['reckon-revision']);
  await api.patch(path('v1', 'one'), 'merge', { spec: { size: 2 } });
  const changed = await api.patch(`${CRDS}/gadgets.${GROUP}`, 'merge', {
    spec: gadgets({ v1: false, v2: true }, 'v2').spec,
  });
  t.equal(changed.status, 200);
  await until(
    async () => (await api.get(path('v1'))).status,
    (status) => status === 404,
  );
  await api.patch(path('v2', 'one'), 'merge', { spec: { shape: 'square' } });
  const past = async () => {
    const history = await api.get(`/apis/log.reckon.dev/v1/namespaces/default/history/${GROUP}/gadgets/one`);
    t.match(history.body.object, { kind: 'Gadget', resource: 'gadgets', name: 'one' });
    t.strictSame(
      history.body.items.map(({ verb, changes }: Json) => [verb, changes.map((each: Json) => each.path)]),
      [
        ['patch', ['apiVersion', 'spec.shape']],
        ['patch', ['spec.size']],
        ['create', []],
      ],
    );
    const then = await api.get(`${path('v2', 'one')}?at=${first}`);
    t.strictSame(then.body.spec, { size: 1 }, 'as it stood, without defaults that came later');
    const list = await api.get(`${path('v2')}?at=${first}`, { accept: 'application/json;as=Table;g=meta.k8s.io;v=v1' });
    t.equal(list.body.rows[0].cells[0], 'one');
    t.equal((await api.get(`/apis/log.reckon.dev/v1/namespaces/default/why/${GROUP}/gadgets/one`)).status, 200);
    const watch = await api.watch(`${path('v2')}?watch=true&resourceVersion=${first - 1}`);
    const events = await watch.until(3);
    t.strictSame(
      events.map(({ type, object: { apiVersion, spec } }) => [type, apiVersion, spec.size]),
      [
        ['ADDED', `${GROUP}/v2`, 1],
        ['MODIFIED', `${GROUP}/v2`, 2],
        ['MODIFIED', `${GROUP}/v2`, 2],
      ],
      'a watch from before the new version tells it all in the new version',
    );
    watch.stop();
  };
  await past();
  const logger = pino({ level: 'silent' });
  const log = await openLogReader({ url: api.natsUrl, prefix: api.prefix, stream: 'log', logger });
  const { signal } = new AbortController();
  await rebuildProjection({ databaseUrl: servers.databaseUrlAs('reckon_projection'), log, signal, logger });
  await log.close();
  await past();
});

t.test('an API server that starts later knows what is established', async (t) => {
  const later = await api.another();
  t.same((await later.get(path('v2', 'one'))).body.spec, { size: 2, shape: 'square' });
  t.match(await later.kubectl('get gd'), /one/);
  await later.stop();
});

t.test('a namespace and owners that end', async (t) => {
  await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  // Stored in a version that is served no longer.
  await api.patch(`${CRDS}/gadgets.${GROUP}`, 'merge', { spec: gadgets({ v1: true, v2: true }, 'v1').spec });
  await until(
    async () => (await api.post(path('v1', '', 'shop'), gadget('v1', 'owner', { size: 1 }))).status,
    (status) => status === 201 || status === 409,
  );
  const owner = (await api.get(path('v1', 'owner', 'shop'))).body;
  const reference = {
    apiVersion: `${GROUP}/v1`,
    kind: 'Gadget',
    name: 'owner',
    uid: owner.metadata.uid,
    blockOwnerDeletion: true,
  };
  const owned = { ownerReferences: [reference] };
  await api.post('/api/v1/namespaces/shop/configmaps', configMap('page', {}, owned));
  await api.post(path('v1', '', 'shop'), gadget('v1', 'part', { size: 1 }, owned));
  await api.patch(`${CRDS}/gadgets.${GROUP}`, 'merge', { spec: gadgets({ v1: false, v2: true }, 'v2').spec });
  await until(
    async () => (await api.get(path('v1'))).status,
    (status) => status === 404,
  );
  t.equal((await api.delete(`${path('v2', 'owner', 'shop')}?propagationPolicy=Foreground`)).status, 202);
  await isGone(path('v2', 'owner', 'shop'));
  t.equal((await api.get(path('v2', 'part', 'shop'))).status, 404, 'dependents go first');
  t.equal((await api.get('/api/v1/namespaces/shop/configmaps/page')).status, 404);
  await api.post(path('v2', '', 'shop'), gadget('v2', 'other', { size: 1 }));
  await api.delete('/api/v1/namespaces/shop');
  await isGone('/api/v1/namespaces/shop');
  t.equal((await api.get(path('v2', 'other', 'shop'))).status, 404);
});

t.test('a definition that serves nothing still ends, with its objects', async (t) => {
  await api.patch(`${CRDS}/gadgets.${GROUP}`, 'merge', { spec: gadgets({ v1: false, v2: false }, 'v2').spec });
  await until(
    async () => (await api.get(path('v2'))).status,
    (status) => status === 404,
  );
  const answer = await api.delete(`${CRDS}/gadgets.${GROUP}`);
  t.equal(conditionOf(answer.body, 'Terminating').reason, 'InstanceDeletionPending');
  await isGone(`${CRDS}/gadgets.${GROUP}`);
  await establish(api, gadgets({ v1: true, v2: true }, 'v2'));
  t.same((await api.get(path('v2'))).body.items, []);
});
