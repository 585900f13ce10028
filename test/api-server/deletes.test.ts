/** Every way to delete: preconditions, finalizers, grace, what becomes of dependants, many at once, and whole namespaces. */
import t from 'tap';
import { configMap, deployment, pod, startApi, type Api, type Json } from './api.ts';

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';
const PODS = '/api/v1/namespaces/default/pods';

let api: Api;
t.before(async () => {
  api = await startApi(t);
});

t.test('delete: preconditions, finalizers, grace', async (t) => {
  const { body: made } = await api.post(CONFIG_MAPS, configMap('doomed', {}, { finalizers: ['example.com/hold'] }));
  const path = `${CONFIG_MAPS}/doomed`;
  t.match((await api.delete(path, { body: { preconditions: { uid: 'other' } } })).body, {
    code: 409,
    reason: 'Conflict',
    message: /UID in precondition: other/,
  });
  t.match((await api.delete(path, { body: { preconditions: { resourceVersion: '1' } } })).body, {
    code: 409,
    reason: 'Conflict',
  });
  const marked = await api.delete(path, {
    body: { preconditions: { uid: made.metadata.uid, resourceVersion: made.metadata.resourceVersion } },
  });
  t.ok(marked.body.metadata.deletionTimestamp);
  t.equal(marked.body.metadata.deletionGracePeriodSeconds, 0);
  const again = await api.delete(path);
  t.equal(again.body.metadata.resourceVersion, marked.body.metadata.resourceVersion, 'a second delete changes nothing');
  t.match(
    (await api.patch(path, 'merge', { metadata: { finalizers: ['example.com/hold', 'example.com/more'] } })).body,
    { code: 422, message: /no new finalizers can be added/ },
  );
  t.equal(
    (await api.patch(path, 'merge', { metadata: { deletionTimestamp: null } })).body.metadata.deletionTimestamp,
    marked.body.metadata.deletionTimestamp,
    'there is no way back',
  );
  t.equal((await api.patch(path, 'merge', { metadata: { finalizers: null } })).status, 200);
  t.equal((await api.get(path)).status, 404, 'gone with its last finalizer');
  const remade = await api.post(CONFIG_MAPS, configMap('doomed'));
  t.equal(remade.status, 201);
  t.not(remade.body.metadata.uid, made.metadata.uid);
  t.match((await api.delete(path)).body, {
    kind: 'Status',
    status: 'Success',
    details: { name: 'doomed', kind: 'configmaps', uid: remade.body.metadata.uid },
  });
  t.match((await api.delete(path)).body, { code: 404, reason: 'NotFound', message: 'configmaps "doomed" not found' });

  await api.post(PODS, pod('unbound'));
  const unbound = await api.delete(`${PODS}/unbound`);
  t.equal(unbound.body.kind, 'Pod', 'a pod answers with itself');
  t.equal((await api.get(`${PODS}/unbound`)).status, 404, 'what no node has ends at once');
  await api.post(PODS, pod('bound', { nodeName: 'n1', terminationGracePeriodSeconds: 20 }));
  const graceful = await api.delete(`${PODS}/bound`);
  t.equal(graceful.body.metadata.deletionGracePeriodSeconds, 20);
  t.equal(
    (await api.delete(`${PODS}/bound?gracePeriodSeconds=5`)).body.metadata.deletionGracePeriodSeconds,
    5,
    'shorter is possible',
  );
  t.equal(
    (await api.delete(`${PODS}/bound?gracePeriodSeconds=60`)).body.metadata.deletionGracePeriodSeconds,
    5,
    'longer is not',
  );
  t.equal((await api.delete(`${PODS}/bound?gracePeriodSeconds=-1`)).body.metadata.deletionGracePeriodSeconds, 1);
  t.equal((await api.delete(`${PODS}/bound`, { body: { gracePeriodSeconds: 0 } })).status, 200);
  t.equal((await api.get(`${PODS}/bound`)).status, 404);
});

t.test('propagation policies become finalizers', async (t) => {
  for (const [name, policy, finalizer] of [
    ['pf', 'Foreground', 'foregroundDeletion'],
    ['po', 'Orphan', 'orphan'],
  ] as const) {
    await api.post(DEPLOYMENTS, deployment(name));
    const { body, status } = await api.delete(`${DEPLOYMENTS}/${name}`, {
      body: { kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy: policy },
    });
    t.strictSame(body.metadata.finalizers, [finalizer]);
    t.equal(status, policy === 'Foreground' ? 202 : 200);
    t.equal(body.metadata.generation, 2);
    await api.patch(`${DEPLOYMENTS}/${name}`, 'merge', { metadata: { finalizers: [] } });
    t.equal((await api.get(`${DEPLOYMENTS}/${name}`)).status, 404);
  }
  await api.post(DEPLOYMENTS, deployment('pb'));
  t.match((await api.delete(`${DEPLOYMENTS}/pb?propagationPolicy=Background`)).body, {
    kind: 'Status',
    status: 'Success',
  });
  await api.post(DEPLOYMENTS, deployment('px'));
  t.match((await api.delete(`${DEPLOYMENTS}/px?propagationPolicy=Sideways`)).body, {
    code: 422,
    reason: 'Invalid',
    message: /propagationPolicy: Unsupported value: "Sideways"/,
  });
});

t.test('deletecollection takes what the selectors name', async (t) => {
  for (let index = 0; index < 6; index++)
    await api.post(CONFIG_MAPS, configMap(`batch-${index}`, {}, { labels: { batch: 'yes', odd: String(index % 2) } }));
  const { body, status } = await api.delete(`${CONFIG_MAPS}?labelSelector=batch%3Dyes,odd%3D1`);
  t.equal(status, 200);
  t.match(body.kind, 'ConfigMapList');
  t.strictSame(
    body.items.map(({ metadata }: Json) => metadata.name),
    ['batch-1', 'batch-3', 'batch-5'],
  );
  t.strictSame(
    (await api.get(`${CONFIG_MAPS}?labelSelector=batch`)).body.items.map(({ metadata }: Json) => metadata.name),
    ['batch-0', 'batch-2', 'batch-4'],
  );
});

t.test('the life of a namespace', async (t) => {
  const NAMESPACES = '/api/v1/namespaces';
  const { body } = await api.post(NAMESPACES, { metadata: { name: 'passing' } });
  t.match(body, {
    metadata: { labels: { 'kubernetes.io/metadata.name': 'passing' } },
    spec: { finalizers: ['kubernetes'] },
    status: { phase: 'Active' },
  });
  t.equal((await api.post('/api/v1/namespaces/passing/configmaps', configMap('in'))).status, 201);
  const ending = await api.delete(`${NAMESPACES}/passing`);
  t.match(ending.body, { status: { phase: 'Terminating' } });
  t.ok(ending.body.metadata.deletionTimestamp);
  t.match((await api.post('/api/v1/namespaces/passing/configmaps', configMap('late'))).body, {
    code: 403,
    reason: 'Forbidden',
    message: /^configmaps "late" is forbidden: .*because it is being terminated/,
    details: { causes: [{ reason: 'NamespaceTerminating' }] },
  });
  t.equal(
    (await api.patch('/api/v1/namespaces/passing/configmaps/in', 'merge', { data: { b: '2' } })).status,
    200,
    'what is there can still change',
  );
  await api.delete('/api/v1/namespaces/passing/configmaps/in');
  const finalized = await api.put(`${NAMESPACES}/passing/finalize`, { ...ending.body, spec: { finalizers: [] } });
  t.equal(finalized.status, 200);
  t.equal((await api.get(`${NAMESPACES}/passing`)).status, 404);
  for (const name of ['default', 'kube-system', 'kube-public'])
    t.match((await api.delete(`${NAMESPACES}/${name}`)).body, {
      code: 403,
      reason: 'Forbidden',
      message: `namespaces "${name}" is forbidden: this namespace may not be deleted`,
    });
});
