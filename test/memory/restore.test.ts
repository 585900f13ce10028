/**
 * Bringing back what was: a namespace that was changed, emptied and deleted asks again for what it asked for, by one transaction that can be undone the same way, and done twice does nothing. Controllers play no part here;
 * what they do with what comes back is proved by test/prove/prove-restore.ts.
 */
import path from 'node:path';
import t from 'tap';
import { runCommand } from '../../cli/set-up/command.ts';
import { configMap, deployment, pod, type Answer, type Api, type Json } from '../api-server/api.ts';
import { startWithPast } from './stage.ts';

t.setTimeout(600_000);

const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');
const RESTORES = '/apis/log.reckon.dev/v1/restores';
const SHOP = '/api/v1/namespaces/shop';
const APPS = '/apis/apps/v1/namespaces/shop';

const restore = (api: Api, body: object, options: { dryRun?: boolean; user?: string } = {}): Promise<Answer> =>
  api.post(`${RESTORES}${options.dryRun ? '?dryRun=All' : ''}`, body, {
    ...(options.user !== undefined && { user: options.user }),
  });

const told = ({ body }: Answer): string[] =>
  body.items.map(({ action, object }: Json) => `${action} ${object.kind} ${object.name}`);

/** What a person asked for, and who owns which field of it. */
async function asked(api: Api): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  for (const kind of [
    `${SHOP}/configmaps`,
    `${SHOP}/secrets`,
    `${SHOP}/services`,
    `${SHOP}/pods`,
    `${APPS}/deployments`,
  ]) {
    for (const object of (await api.get(kind)).body.items as Json[]) {
      const { labels, annotations, finalizers, managedFields = [] } = object.metadata;
      const owners = (object.metadata.ownerReferences ?? []).map(({ name }: Json) => name);
      const managed = managedFields.filter(({ subresource }: Json) => subresource === undefined);
      const { status: _, metadata: __, ...content } = object;
      found[`${object.kind} ${object.metadata.name}`] = {
        ...content,
        labels,
        annotations,
        finalizers,
        owners,
        managed,
      };
    }
  }
  return found;
}

const service = (name: string, spec: object = {}): Json => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec: { type: 'NodePort', selector: { app: name }, ports: [{ port: 80 }], ...spec },
});

t.test('what was comes back', async (t) => {
  const { api } = await startWithPast(t);
  await api.post('/api/v1/namespaces', { metadata: { name: 'shop', labels: { team: 'a' } } });
  await api.post(`${SHOP}/configmaps`, configMap('settings', { a: '1' }));
  await api.patch(`${SHOP}/configmaps/applied?fieldManager=jane`, 'apply', configMap('applied', { a: '1' }));
  await api.post(`${SHOP}/secrets`, { metadata: { name: 'key' }, stringData: { password: 'swordfish' } });
  await api.post(`${SHOP}/services`, service('front'));
  const { body: web } = await api.post(`${APPS}/deployments`, deployment('web'));
  const owner = (controller: boolean) => ({
    ownerReferences: [{ apiVersion: 'apps/v1', kind: 'Deployment', name: 'web', uid: web.metadata.uid, controller }],
  });
  await api.post(`${SHOP}/configmaps`, configMap('a-owned', {}, owner(false)));
  await api.post(`${SHOP}/pods`, pod('kept', {}, owner(true)));
  await api.post(`${SHOP}/pods`, pod('bare'));
  await api.post(`${SHOP}/pods`, pod('ended'));
  await api.patch(`${SHOP}/pods/ended/status`, 'merge', { status: { phase: 'Succeeded' } });
  await api.post(`${SHOP}/persistentvolumeclaims`, {
    metadata: { name: 'data', finalizers: [] },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, volumeName: 'pv-1' },
  });
  const moment = await api.lastSequence();
  const before = await asked(api);
  const to = String(moment);

  await t.test('changed, deleted and added objects: the plan, the restore, its undoing', async (t) => {
    await api.patch(`${SHOP}/configmaps/settings`, 'merge', { data: { a: '2', b: '1' } });
    await api.patch(`${APPS}/deployments/web`, 'merge', { spec: { replicas: 7 }, metadata: { labels: { new: 'x' } } });
    await api.patch(`${APPS}/deployments/web/status`, 'merge', { status: { replicas: 7 } });
    await api.patch(
      `${SHOP}/configmaps/applied?fieldManager=joe&force=true`,
      'apply',
      configMap('applied', { a: '3' }),
    );
    await api.delete(`${SHOP}/secrets/key`);
    await api.delete(`${SHOP}/services/front`);
    await api.delete(`${SHOP}/pods/kept?gracePeriodSeconds=0`);
    await api.post(`${SHOP}/configmaps`, configMap('late'));
    await api.post(`${SHOP}/configmaps`, configMap('by-a-controller'), {
      user: 'system:controller:robots|system:masters',
    });
    const changed = await asked(api);
    const last = await api.lastSequence();
    const plan = await restore(api, { to, namespace: 'shop' }, { dryRun: true });
    t.equal(plan.status, 200, plan.text);
    t.strictSame(told(plan).sort(), [
      ...['change ConfigMap applied', 'change ConfigMap settings', 'change Deployment web', 'create Secret key'],
      ...['create Service front', 'delete ConfigMap late'],
    ]);
    t.equal(plan.body.leftToControllers, 2);
    const settings = plan.body.items.find(({ object }: Json) => object.name === 'settings');
    t.strictSame(settings.changes, [
      { path: 'data.a', from: '2', to: '1' },
      { path: 'data.b', from: '1' },
    ]);
    t.equal(await api.lastSequence(), last, 'a plan writes nothing');
    const done = await restore(api, { to, namespace: 'shop' });
    t.equal(done.status, 200, done.text);
    t.strictSame(told(done), told(plan));
    const after = await asked(api);
    t.strictSame(
      { ...after, 'ConfigMap by-a-controller': undefined, 'Pod kept': undefined },
      { ...before, 'ConfigMap by-a-controller': undefined, 'Pod kept': undefined },
    );
    t.match((await api.get(`${SHOP}/secrets/key`)).body.data, {
      password: Buffer.from('swordfish').toString('base64'),
    });
    t.equal((await api.get(`${APPS}/deployments/web`)).body.status.replicas, 7, 'status is not restored');
    const { body: history } = await api.get('/apis/log.reckon.dev/v1/namespaces/shop/history/core/configmaps/settings');
    t.match(history.items[0], { because: `it is restored to revision ${moment}`, actor: 'admin' });
    const again = await restore(api, { to, namespace: 'shop' });
    t.strictSame([told(again), again.body.revision], [[], undefined], 'run again, it does nothing');
    const undone = await restore(api, { to: String(done.body.from.revision), namespace: 'shop' });
    t.equal(undone.status, 200);
    t.strictSame(await asked(api), changed);
    t.equal((await restore(api, { to, namespace: 'shop' })).status, 200);
  });

  await t.test('a deleted namespace', async (t) => {
    const full = await api.lastSequence();
    const standing = await asked(api);
    const kinds = ['configmaps', 'secrets', 'services', 'persistentvolumeclaims', 'pods'];
    for (const kind of kinds) await api.delete(`${SHOP}/${kind}?gracePeriodSeconds=0`);
    await api.delete(`${APPS}/deployments`);
    await api.delete('/api/v1/namespaces/shop');
    await api.patch(`${SHOP}/persistentvolumeclaims/data`, 'merge', { metadata: { finalizers: null } });
    const going = await restore(api, { to: String(full), namespace: 'shop' }, { dryRun: true });
    t.match([going.status, going.body.message], [409, /the namespace is being deleted; restore it once it is gone/]);
    const { body: namespace } = await api.get('/api/v1/namespaces/shop');
    await api.put('/api/v1/namespaces/shop/finalize', { ...namespace, spec: { finalizers: [] } });
    t.equal((await api.get('/api/v1/namespaces/shop')).status, 404);
    // Somebody else takes the Service's address meanwhile.
    const { clusterIP } = (standing['Service front'] as Json).spec;
    t.equal((await api.post('/api/v1/namespaces/default/services', service('thief', { clusterIP }))).status, 201);
    const done = await restore(api, { to: String(full), namespace: 'shop' });
    t.equal(done.status, 200, done.text);
    t.equal(told(done)[0], 'create Namespace shop');
    t.match(done.body.cannot, [{ object: { name: 'ended' }, why: /would run it again/ }]);
    t.strictSame(
      done.body.items.flatMap(({ object, losses }: Json) => losses.map((why: string) => `${object.name}: ${why}`)),
      [
        'data: it gets a new volume: the contents of pv-1 are not brought back',
        'bare: it starts anew, on a node that the scheduler chooses',
      ],
    );
    const now = await asked(api);
    const { clusterIP: newAddress, clusterIPs: _, ...spec } = (now['Service front'] as Json).spec;
    t.ok(newAddress && newAddress !== clusterIP);
    const { clusterIP: __, clusterIPs: ___, ...formerly } = (standing['Service front'] as Json).spec;
    t.strictSame(spec, formerly);
    const but = { 'Service front': 0, 'Pod ended': 0, 'ConfigMap by-a-controller': 0 };
    t.strictSame({ ...now, ...but }, { ...standing, ...but });
    t.equal((await api.get('/api/v1/namespaces/shop')).body.metadata.labels.team, 'a');
    const { body: reborn } = await api.get(`${APPS}/deployments/web`);
    t.not(reborn.metadata.uid, web.metadata.uid);
    const { body: owned } = await api.get(`${SHOP}/configmaps/a-owned`);
    t.equal(owned.metadata.ownerReferences[0].uid, reborn.metadata.uid, 'owned by the new one');
    t.notOk((await api.get(`${SHOP}/persistentvolumeclaims/data`)).body.spec.volumeName);
    const [revision, count] = [done.body.revision, done.body.items.length];
    t.equal(
      (await api.get(`/apis/log.reckon.dev/v1/namespaces/shop/diff?from=${revision - count}&to=${revision - 1}`)).body
        .items.length,
      0,
      'one transaction',
    );
    t.strictSame(told(await restore(api, { to: String(full), namespace: 'shop' })), []);
  });

  await t.test('one object, a kind, the cluster', async (t) => {
    const from = String(await api.lastSequence());
    await api.patch(`${SHOP}/configmaps/settings`, 'merge', { data: { a: 'x' } });
    await api.patch(`${SHOP}/configmaps/applied`, 'merge', { data: { a: 'x' } });
    await api.delete(`${APPS}/deployments/web`);
    await api.post('/api/v1/namespaces', { metadata: { name: 'late' } });
    await api.post('/api/v1/namespaces/late/configmaps', configMap('in-it'));
    const object = { apiVersion: 'v1', kind: 'ConfigMap' };
    const one = await restore(api, { to: from, namespace: 'shop', object: { ...object, name: 'settings' } });
    t.strictSame(told(one), ['change ConfigMap settings']);
    t.strictSame(told(await restore(api, { to: from, namespace: 'shop', object })), ['change ConfigMap applied']);
    const all = await restore(api, { to: from, cluster: true });
    t.strictSame(told(all), ['create Deployment web', 'delete Namespace late'], all.text);
    t.equal((await restore(api, { to: from, cluster: true, namespace: 'shop' })).body.items.length, 0);
  });

  await t.test('as far as one may', async (t) => {
    const from = String(await api.lastSequence());
    await api.patch(`${SHOP}/configmaps/settings`, 'merge', { data: { a: 'y' } });
    await api.delete(`${SHOP}/secrets/key`);
    const rules = (verbs: string[]) => ({ rules: [{ apiGroups: [''], resources: ['configmaps'], verbs }] });
    await api.post('/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles', {
      metadata: { name: 'r' },
      ...rules(['get']),
    });
    await api.post('/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings', {
      metadata: { name: 'r' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'r' },
      subjects: [{ kind: 'User', name: 'jane', apiGroup: 'rbac.authorization.k8s.io' }],
    });
    const user = 'jane|people';
    const reads = await restore(api, { to: from, namespace: 'shop' }, { user, dryRun: true });
    t.strictSame(told(reads), ['change ConfigMap settings'], 'she is not told of the Secret');
    t.match(reads.body.refusals[0].status.message, /"jane" cannot update/);
    t.equal((await restore(api, { to: from, namespace: 'shop' }, { user })).status, 403);
    await api.patch('/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles/r', 'merge', rules(['get', 'update']));
    t.equal((await restore(api, { to: from, namespace: 'shop' }, { user })).status, 200);
    t.equal((await api.get(`${SHOP}/configmaps/settings`)).body.data.a, '1');
    t.equal((await api.get(`${SHOP}/secrets/key`)).status, 404);
    for (const [body, status, why] of [
      [{ namespace: 'shop' }, 400, /to: Required/],
      [{ to: from }, 400, /"cluster": true/],
      [{ to: 'yesterday', cluster: true }, 400, /expected a revision/],
      [{ to: '99999999', cluster: true }, 400, /the newest revision is/],
      [{ to: from, object: { apiVersion: 'v1', kind: 'Sandwich' } }, 404, /Sandwich/],
      [{ to: from, object: { apiVersion: 'v1', kind: 'Event' }, namespace: 'shop' }, 400, /not kept in the history/],
      [{ to: from, object: { apiVersion: 'v1', kind: 'Secret', name: 'key' } }, 400, /namespace: Required/],
      [{ to: from, cluster: true, dryrun: true }, 400, /unknown field "dryrun"/],
      [{ to: from, namespace: 'shopp' }, 404, /namespaces "shopp" not found/],
      [
        { to: from, namespace: 'shop', object: { apiVersion: 'v1', kind: 'Secret', name: 'kye' } },
        404,
        /secrets "kye" not found/,
      ],
    ] as const) {
      const answer = await restore(api, body);
      t.equal(answer.status, status, answer.text);
      t.match(answer.body.message, why);
    }
  });

  await t.test('reckon restore', async (t) => {
    const from = String(await api.lastSequence());
    await api.patch(`${SHOP}/configmaps/settings`, 'merge', { data: { a: 'z' } });
    await api.delete(`${APPS}/deployments/web`);
    const reckon = (words: string) =>
      runCommand(process.execPath, [main, 'restore', '--kubeconfig', api.kubeconfig, ...words.split(' ')], {
        timeoutMs: 30_000,
      });
    const unsure = await reckon(`namespace shop --to ${from}`);
    t.match(unsure.stdout, /^To revision \d+, from revision \d+\n/);
    t.match(unsure.stdout, /^ {2}\+ create {2}deployment.apps\/web$/m);
    t.match(unsure.stdout, /^ {2}~ change {2}configmap\/settings\n +~ data.a +z → 1$/m);
    t.match([unsure.code, unsure.stderr], [1, /Nothing was written. --yes/]);
    const done = await reckon(`namespace shop --to ${from} --yes`);
    t.match(
      [done.code, done.stdout],
      [0, /Restored: it stands since revision \d+.\nTo undo it: reckon restore namespace shop --to \d+/],
    );
    t.equal((await api.get(`${APPS}/deployments/web`)).status, 200);
    const again = await reckon(`deploy/web -n shop --to ${from}`);
    t.match([again.code, again.stdout], [0, /nothing has to be written/]);
  });
});
