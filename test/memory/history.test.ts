/** The history of an object over HTTP: who changed which fields when, page by page, the difference between two moments, and who may see it. */
import t from 'tap';
import { changesBetween } from '../../api-server/memory/field-changes.ts';
import { configMap, deployment, type Answer, type Json } from '../api-server/api.ts';
import { startWithPast } from './stage.ts';

const ROOT = '/apis/log.reckon.dev/v1/namespaces/default';
const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';

t.test('history and differences', async (t) => {
  const { api } = await startWithPast(t);
  const created = await api.post(DEPLOYMENTS, deployment('web'));
  const first = Number(created.headers['reckon-revision']);
  const image = { spec: { template: { spec: { containers: [{ name: 'main', image: 'busybox:2' }] } } } };
  const changed = await api.patch(`${DEPLOYMENTS}/web?fieldManager=shipper`, 'strategic', image, {
    headers: {
      'reckon-cause': String(first),
      'reckon-because': encodeURIComponent('the 2nd shop: größer, 100% “new”'),
      'reckon-source': encodeURIComponent('shop/web.yaml sha256:ab12'),
    },
  });
  const second = Number(changed.headers['reckon-revision']);
  await api.patch(`${DEPLOYMENTS}/web/status`, 'merge', { status: { replicas: 2 } });
  await api.patch(`${DEPLOYMENTS}/web`, 'merge', { spec: { replicas: 5 }, metadata: { labels: { 'a.b/c': 'x' } } });

  await t.test('every version, newest first, with what it changed', async (t) => {
    const { body, status } = await api.get(`${ROOT}/history/apps/deployments/web`);
    t.equal(status, 200);
    t.strictSame(body.object, {
      group: 'apps',
      resource: 'deployments',
      kind: 'Deployment',
      namespace: 'default',
      name: 'web',
    });
    t.strictSame(
      body.items.map(({ verb, plane, actor }: Json) => `${verb} ${plane} ${actor}`),
      ['patch desired admin', 'patch observed admin', 'patch desired admin', 'create desired admin'],
    );
    t.strictSame(body.items[0].changes, [
      { path: 'metadata.labels', to: { 'a.b/c': 'x' } },
      { path: 'spec.replicas', from: 2, to: 5 },
    ]);
    t.strictSame(body.items[1].changes, []);
    t.ok(body.items[1].hidden >= 1, 'status is counted, and left out');
    t.strictSame(body.items[2].changes, [
      { path: 'spec.template.spec.containers["main"].image', from: 'busybox:1', to: 'busybox:2' },
    ]);
    t.equal(body.items[2].revision, second);
    t.strictSame(body.items[2].causes, [first]);
    t.match(body.items[2], { because: 'the 2nd shop: größer, 100% “new”', source: 'shop/web.yaml sha256:ab12' });
    t.notHas(body.items[0], 'because');
    t.strictSame(body.items[3].changes, []);
    t.match(body.items[3].time, /^\d{4}-.*Z$/);
    const withStatus = await api.get(`${ROOT}/history/apps/deployments/web?fields=status`);
    t.strictSame(withStatus.body.items[1].changes, [{ path: 'status.replicas', to: 2 }]);
    const all = await api.get(`${ROOT}/history/apps/deployments/web?fields=all`);
    t.ok(all.body.items[0].changes.some(({ path }: Json) => path.startsWith('metadata.managedFields')));
    t.equal(all.body.items[0].hidden, 0);
  });

  await t.test('the difference of a namespace and of the cluster', async (t) => {
    const at = Number((await api.post(CONFIG_MAPS, configMap('kept', { a: '1' }))).headers['reckon-revision']);
    await api.post(CONFIG_MAPS, configMap('gone'));
    const from = Number((await api.post(CONFIG_MAPS, configMap('again', { a: '1' }))).headers['reckon-revision']);
    await api.patch(`${CONFIG_MAPS}/kept`, 'merge', { data: { a: '2' } });
    await api.delete(`${CONFIG_MAPS}/gone`);
    await api.delete(`${CONFIG_MAPS}/again`);
    await api.post(CONFIG_MAPS, configMap('again', { a: '2' }));
    await api.post(CONFIG_MAPS, configMap('fresh'));
    await api.post(CONFIG_MAPS, configMap('brief'));
    await api.delete(`${CONFIG_MAPS}/brief`);
    await api.patch(`${DEPLOYMENTS}/web/status`, 'merge', { status: { replicas: 3 } });
    await api.post('/api/v1/namespaces', { metadata: { name: 'elsewhere' } });
    const told = ({ body }: Answer): string[] =>
      body.items.map(({ object, state }: Json) => `${state} ${object.kind} ${object.name}`);
    const there = await api.get(`${ROOT}/diff?from=${from}`);
    t.strictSame(told(there), [
      'replaced ConfigMap again',
      'created ConfigMap fresh',
      'deleted ConfigMap gone',
      'changed ConfigMap kept',
    ]);
    t.strictSame(there.body.items[3].changes, [{ path: 'data.a', from: '1', to: '2' }]);
    t.equal(there.body.hidden, 1, 'of the Deployment only the status has changed');
    const back = await api.get(`${ROOT}/diff?from=now&to=${from}`);
    t.ok(told(back).includes('created ConfigMap gone') && told(back).includes('deleted ConfigMap fresh'));
    t.strictSame(back.body.items.at(-1).changes, [{ path: 'data.a', from: '2', to: '1' }]);
    const everywhere = await api.get(`${ROOT.replace('/namespaces/default', '')}/diff?from=${from}`);
    t.ok(told(everywhere).includes('created Namespace elsewhere'));
    t.ok(told(everywhere).includes('created ConfigMap fresh'));
    t.notOk(told(await api.get(`${ROOT}/diff?from=${from}&to=${from}`)).length);
    t.ok(told(await api.get(`${ROOT}/diff?from=${at - 1}&to=${at}`)).includes('created ConfigMap kept'));
    t.strictSame(told(await api.get(`${ROOT}/diff?from=${from}`, { user: 'jane|people' })), [], 'who may read nothing');
    t.equal((await api.get(`${ROOT}/diff?from=${from}`, { user: null })).status, 403);
    t.equal((await api.get(`${ROOT}/diff`)).status, 400);
  });

  await t.test('a reason that cannot be kept is refused, and the write with it', async (t) => {
    for (const [header, value, why] of [
      ['reckon-because', '%zz', /Reckon-Because.*UTF-8, percent-encoded/],
      ['reckon-because', 'x'.repeat(1025), /at most 1024 characters, got 1025/],
      ['reckon-source', 'a%0Ab', /Reckon-Source.*one line without control characters/],
    ] as const) {
      const answer = await api.post(CONFIG_MAPS, configMap('unreasoned'), { headers: { [header]: value } });
      t.equal(answer.status, 400);
      t.match(answer.body.message, why);
    }
    t.equal((await api.get(`${CONFIG_MAPS}/unreasoned`)).status, 404);
  });

  await t.test('pages fit together', async (t) => {
    const whole = (await api.get(`${ROOT}/history/apps/deployments/web`)).body.items;
    const one = await api.get(`${ROOT}/history/apps/deployments/web?limit=3`);
    t.equal(one.body.items.length, 3);
    const two = await api.get(
      `${ROOT}/history/apps/deployments/web?limit=3&continue=${one.body.metadata.continue as string}`,
    );
    t.equal(two.body.metadata.continue, undefined);
    t.strictSame([...one.body.items, ...two.body.items], whole);
  });

  await t.test('the difference between two moments', async (t) => {
    const { body } = await api.get(`${ROOT}/diff/apps/deployments/web?from=${first}`);
    t.strictSame(body.changes, [
      { path: 'metadata.labels', to: { 'a.b/c': 'x' } },
      { path: 'spec.replicas', from: 2, to: 5 },
      { path: 'spec.template.spec.containers["main"].image', from: 'busybox:1', to: 'busybox:2' },
    ]);
    t.equal(body.from.revision, first);
    const short = await api.get(`${ROOT}/diff/apps/deployments/web?from=${first}&to=${second}`);
    t.equal(short.body.changes.length, 1);
    const beforeItWas = await api.get(`${ROOT}/diff/apps/deployments/web?from=${first - 1}&to=${first}`);
    t.equal(beforeItWas.body.from.exists, false);
    t.ok(beforeItWas.body.changes.some(({ path, from }: Json) => path === 'spec' && from === undefined));
  });

  await t.test('a deleted object and its next life under one name', async (t) => {
    await api.post(CONFIG_MAPS, configMap('note', { a: '1' }));
    await api.delete(`${CONFIG_MAPS}/note`);
    await api.post(CONFIG_MAPS, configMap('note', { a: '2' }));
    const { body } = await api.get(`${ROOT}/history/core/configmaps/note`);
    t.strictSame(
      body.items.map(({ verb }: Json) => verb),
      ['create', 'delete', 'create'],
    );
    t.not(body.items[0].uid, body.items[2].uid);
    t.strictSame(body.items[0].changes, [], 'a new life is not a change of the old one');
  });

  await t.test('who may get an object may see its past, and nobody else', async (t) => {
    const secrets = '/api/v1/namespaces/default/secrets';
    await api.post(secrets, { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'key' }, stringData: { a: 'one' } });
    await api.patch(`${secrets}/key`, 'merge', { stringData: { a: 'two' } });
    const base64 = (text: string): string => Buffer.from(text).toString('base64');
    const { body } = await api.get(`${ROOT}/history/core/secrets/key`);
    t.strictSame(body.items[0].changes, [{ path: 'data.a', from: base64('one'), to: base64('two') }]);

    await api.post('/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles', {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'reader' },
      rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['get'] }],
    });
    await api.post('/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings', {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'jane' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'jane' }],
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reader' },
    });
    const as = { user: 'jane|people' };
    for (const question of ['history', 'why', 'diff']) {
      const query = question === 'diff' ? '?from=now' : '';
      t.equal((await api.get(`${ROOT}/${question}/core/configmaps/note${query}`, as)).status, 200, question);
      const refused = await api.get(`${ROOT}/${question}/core/secrets/key${query}`, as);
      t.equal(refused.status, 403, question);
      t.notMatch(refused.text, base64('one'));
    }
    t.equal((await api.get('/apis/log.reckon.dev/v1/status', as)).status, 403);

    // The chain leads through a Secret that she may not see.
    const cause = body.items[0].revision as number;
    await api.patch(
      `${CONFIG_MAPS}/note`,
      'merge',
      { data: { a: '3' } },
      { headers: { 'reckon-cause': String(cause) } },
    );
    await api.post(CONFIG_MAPS, configMap('copy'), { headers: { 'reckon-cause': String(cause) } });
    const hers = await api.get(`${ROOT}/why/core/configmaps/copy`, as);
    t.strictSame(hers.body.chain[1], { revision: cause, withheld: true });
    const ours = await api.get(`${ROOT}/why/core/configmaps/copy`);
    t.equal(ours.body.chain[1].object.name, 'key');
  });

  await t.test('what is no question, and what is not there', async (t) => {
    for (const path of [
      '/apis/log.reckon.dev/v1/namespaces/default/history/apps/deployments',
      '/apis/log.reckon.dev/v1/history/apps/deployments/web',
      '/apis/log.reckon.dev/v1/namespaces/default/history/apps/nonsense/web',
      '/apis/log.reckon.dev/v2/namespaces/default/history/apps/deployments/web',
      `${ROOT}/history/apps/deployments/nobody`,
      `${ROOT}/diff/apps/deployments/nobody?from=now`,
      `${ROOT}/why/apps/deployments/nobody`,
    ])
      t.equal((await api.get(path)).status, 404, path);
    t.equal((await api.get(`${ROOT}/diff/apps/deployments/web`)).status, 400);
    t.equal((await api.get(`${ROOT}/history/apps/deployments/web?limit=x`)).status, 400);
    t.equal((await api.get(`${ROOT}/history/apps/deployments/web?fields=some`)).status, 400);
    t.equal((await api.post(`${ROOT}/history/apps/deployments/web`, {})).status, 405);
    const node = await api.get('/apis/log.reckon.dev/v1/history/core/namespaces/default');
    t.equal(node.status, 200, 'of the cluster');
    const { body } = await api.get('/apis/log.reckon.dev/v1/status');
    t.strictSame(
      body.followers.map(({ name }: Json) => name),
      ['api-server', 'projection'],
    );
    t.ok(body.followers[1].done > 0);
  });
});

t.test('changes are told member by member', async (t) => {
  const of = (before: object, after: object): unknown => changesBetween(before, after).changes;
  t.strictSame(of({ spec: { a: 1 } }, { spec: { a: 1 } }), []);
  t.strictSame(
    of({ l: [{ name: 'a', v: 1 }, { name: 'b' }] }, { l: [{ name: 'b' }, { name: 'a', v: 2 }] }),
    [{ path: 'l["a"].v', from: 1, to: 2 }],
    'whatever the order',
  );
  t.strictSame(of({ l: ['x', 'y'] }, { l: ['x'] }), [{ path: 'l[1]', from: 'y' }]);
  t.strictSame(
    of({ l: [{ name: 'a' }, { name: 'a' }] }, { l: [{ name: 'a' }] }),
    [{ path: 'l', from: [{ name: 'a' }, { name: 'a' }], to: [{ name: 'a' }] }],
    'names that do not tell members apart',
  );
  t.strictSame(of({ m: { 'a.b/c': 1 } }, { m: {} }), [{ path: 'm["a.b/c"]', from: 1 }]);
});
