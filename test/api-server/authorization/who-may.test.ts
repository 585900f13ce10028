/** Who may do what: real requests with certificates of several users, and the real kubectl. */
import path from 'node:path';
import { connect } from 'nats';
import t from 'tap';
import { writeKubeconfig } from '../../../cli/instance/kubeconfig.ts';
import { configMap, pod, startApi, type Json } from '../api.ts';

const api = await startApi(t);
const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const IN_DEFAULT = '/api/v1/namespaces/default';
const GROUP = 'rbac.authorization.k8s.io';

const role = (name: string, rules: object[], more: object = {}): Json => ({
  apiVersion: `${GROUP}/v1`,
  kind: 'Role',
  metadata: { name },
  rules,
  ...more,
});
const rule = (group: string, resources: string[], verbs: string[], resourceNames?: string[]) => ({
  apiGroups: [group],
  resources,
  verbs,
  ...(resourceNames && { resourceNames }),
});
const bound = (name: string, roleRef: { kind: string; name: string }, ...subjects: object[]): Json => ({
  apiVersion: `${GROUP}/v1`,
  kind: 'RoleBinding',
  metadata: { name },
  roleRef: { apiGroup: GROUP, ...roleRef },
  subjects,
});
const user = (name: string) => ({ kind: 'User', name });
const group = (name: string) => ({ kind: 'Group', name });

async function make(path: string, object: Json): Promise<void> {
  const { status, text } = await api.post(path, object);
  if (status !== 201) throw new Error(text);
}

const inDefault = (resource: string) => `${RBAC}/namespaces/default/${resource}`;
const jane = { user: 'jane|developers' };

t.test('nobody in particular sees that the server lives, and no more', async (t) => {
  for (const open of ['/healthz', '/livez', '/readyz', '/version'])
    t.equal((await api.get(open, { user: null })).status, 200, open);
  t.match(await api.get('/apis', { user: null }), {
    status: 403,
    body: {
      kind: 'Status',
      reason: 'Forbidden',
      code: 403,
      message: 'forbidden: User "system:anonymous" cannot get path "/apis"',
    },
  });
  t.match((await api.get(`${IN_DEFAULT}/pods`, { user: null })).body, {
    code: 403,
    details: { kind: 'pods' },
    message:
      'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default"',
  });
  t.equal((await api.get('/apis', jane)).status, 200, 'whoever is known may discover');
  const bad = { user: null, headers: { authorization: 'Bearer nonsense' } };
  t.equal((await api.get('/healthz', bad)).status, 401, 'a token that is none is not overlooked');
});

t.test('refusals are worded as Kubernetes words them', async (t) => {
  const message = async (method: string, path: string, options: object = {}) =>
    (await api.request(method, path, { ...jane, ...options })).body.message as string;
  t.equal(
    await message('GET', '/api/v1/nodes'),
    'nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope',
  );
  t.equal(
    await message('GET', `${IN_DEFAULT}/pods/x/log`),
    'pods "x" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "default"',
  );
  t.equal(
    await message('DELETE', '/apis/apps/v1/namespaces/default/deployments/web'),
    'deployments.apps "web" is forbidden: User "jane" cannot delete resource "deployments" in API group "apps" in the namespace "default"',
  );
  t.equal(
    await message('DELETE', '/apis/apps/v1/namespaces/default/deployments'),
    'deployments.apps is forbidden: User "jane" cannot deletecollection resource "deployments" in API group "apps" in the namespace "default"',
  );
  t.equal(
    await message('GET', '/api/v1/namespaces/kube-system'),
    'namespaces "kube-system" is forbidden: User "jane" cannot get resource "namespaces" in API group "" in the namespace "kube-system"',
  );
  t.equal(
    await message('GET', '/apis/no.such.group/v1/things'),
    'things.no.such.group is forbidden: User "jane" cannot list resource "things" in API group "no.such.group" at the cluster scope',
    'what there is, is not told to who may not see it',
  );
});

t.test('roles give, and what is taken away is gone at once', async (t) => {
  await make(
    inDefault('roles'),
    role('reader', [rule('', ['configmaps'], ['get', 'list', 'watch']), rule('', ['secrets'], ['get'], ['one'])]),
  );
  t.equal((await api.get(`${IN_DEFAULT}/configmaps`, jane)).status, 403);
  await make(inDefault('rolebindings'), bound('jane-reads', { kind: 'Role', name: 'reader' }, user('jane')));
  t.equal((await api.get(`${IN_DEFAULT}/configmaps`, jane)).status, 200);
  t.equal((await api.get('/api/v1/configmaps', jane)).status, 403, 'not in all namespaces');
  t.equal((await api.get('/api/v1/namespaces/kube-system/configmaps', jane)).status, 403, 'not in another');
  t.equal((await api.post(`${IN_DEFAULT}/configmaps`, configMap('x'), jane)).status, 403, 'not another verb');
  t.equal((await api.get(`${IN_DEFAULT}/secrets/one`, jane)).status, 404, 'allowed, and not there');
  t.equal((await api.get(`${IN_DEFAULT}/secrets/two`, jane)).status, 403);
  const watch = await api.watch(`${IN_DEFAULT}/configmaps?watch=1`, jane);
  t.equal(watch.status, 200);
  watch.stop();
  // By its name alone, a list or a watch is about that object.
  await make(inDefault('roles'), role('one', [rule('', ['pods'], ['list', 'watch'], ['one'])]));
  await make(inDefault('rolebindings'), bound('one', { kind: 'Role', name: 'one' }, user('jane')));
  const listing = async (selector: string) =>
    (await api.get(`${IN_DEFAULT}/pods?fieldSelector=${encodeURIComponent(selector)}`, jane)).status;
  t.equal(await listing('metadata.name=one'), 200);
  t.equal(await listing('status.phase=Running,metadata.name=one'), 200);
  for (const selector of [
    'metadata.name=two',
    'metadata.name!=one',
    'status.phase=metadata.name=one',
    'status.phase=\\,metadata.name=one',
  ])
    t.equal(await listing(selector), 403, selector);
  await api.delete(inDefault('rolebindings/jane-reads'));
  t.equal((await api.get(`${IN_DEFAULT}/configmaps`, jane)).status, 403);

  // A service account without a namespace is one of the binding's own.
  await make(
    inDefault('rolebindings'),
    bound('robot-reads', { kind: 'Role', name: 'reader' }, { kind: 'ServiceAccount', name: 'robot' }),
  );
  const robot = (namespace: string) => ({ user: `system:serviceaccount:${namespace}:robot|` });
  t.equal((await api.get(`${IN_DEFAULT}/configmaps`, robot('default'))).status, 200);
  t.equal((await api.get(`${IN_DEFAULT}/configmaps`, robot('kube-system'))).status, 403);

  // A group, and a ClusterRole within one namespace.
  await make(
    inDefault('rolebindings'),
    bound('developers-edit', { kind: 'ClusterRole', name: 'edit' }, group('developers')),
  );
  t.equal((await api.post(`${IN_DEFAULT}/configmaps`, configMap('mine'), jane)).status, 201);
  t.equal((await api.post('/api/v1/namespaces/kube-public/configmaps', configMap('mine'), jane)).status, 403);
  t.equal((await api.get(`${IN_DEFAULT}/configmaps`, { user: 'john|' })).status, 403);
  await api.delete(inDefault('rolebindings/developers-edit'));

  // Who may patch what stands may not thereby make it.
  await make(inDefault('roles'), role('patcher', [rule('', ['configmaps'], ['patch', 'get'])]));
  await make(inDefault('rolebindings'), bound('john-patches', { kind: 'Role', name: 'patcher' }, user('john')));
  const apply = (name: string) =>
    api.patch(`${IN_DEFAULT}/configmaps/${name}?fieldManager=t`, 'apply', configMap(name, { b: '2' }), {
      user: 'john|',
    });
  t.equal((await apply('mine')).status, 200);
  t.match((await apply('new')).body.message, /cannot create resource "configmaps"/);
});

t.test('nobody gives away what he does not hold', async (t) => {
  await make(`${RBAC}/clusterroles`, {
    ...role('keeper', [
      rule(GROUP, ['roles', 'rolebindings'], ['create', 'update', 'patch', 'get']),
      rule('', ['pods'], ['get', 'list']),
    ]),
    kind: 'ClusterRole',
  });
  await make(inDefault('rolebindings'), bound('keeper', { kind: 'ClusterRole', name: 'keeper' }, user('kim')));
  const kim = { user: 'kim|staff' };
  t.equal((await api.post(inDefault('roles'), role('held', [rule('', ['pods'], ['get'])]), kim)).status, 201);
  const refused = await api.post(inDefault('roles'), role('more', [rule('', ['pods'], ['get', 'delete'])]), kim);
  t.match(refused, {
    status: 403,
    body: {
      message:
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "kim" (groups=["staff" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}',
    },
  });
  const grown = { rules: [rule('', ['secrets'], ['get'])] };
  t.equal((await api.patch(inDefault('roles/held'), 'merge', grown, kim)).status, 403);
  t.equal((await api.patch(inDefault('roles/held'), 'merge', { metadata: { labels: { a: 'b' } } }, kim)).status, 200);
  const own = bound('own', { kind: 'Role', name: 'held' }, user('lea'));
  t.equal((await api.post(inDefault('rolebindings'), own, kim)).status, 201);
  const admin = bound('admin', { kind: 'ClusterRole', name: 'cluster-admin' }, user('kim'));
  t.match((await api.post(inDefault('rolebindings'), admin, kim)).body, { code: 403, message: /not currently held/ });
  t.equal(
    (await api.post(inDefault('rolebindings'), bound('none', { kind: 'Role', name: 'none' }, user('kim')), kim)).status,
    404,
  );

  await make(
    inDefault('roles'),
    role('binder', [rule(GROUP, ['clusterroles'], ['bind'], ['view']), rule(GROUP, ['roles'], ['escalate'])]),
  );
  await make(inDefault('rolebindings'), bound('binder', { kind: 'Role', name: 'binder' }, user('kim')));
  const view = bound('view', { kind: 'ClusterRole', name: 'view' }, user('lea'));
  t.equal((await api.post(inDefault('rolebindings'), view, kim)).status, 201, 'may bind this one');
  t.equal((await api.post(inDefault('rolebindings'), admin, kim)).status, 403, 'and no other');
  t.equal(
    (await api.post(inDefault('roles'), role('more', [rule('', ['pods'], ['delete'])]), kim)).status,
    201,
    'may escalate',
  );
});

t.test('acting as another', async (t) => {
  const as = (name: string, more: Record<string, string> = {}) => ({ headers: { 'impersonate-user': name, ...more } });
  const self = '/apis/authentication.k8s.io/v1/selfsubjectreviews';
  t.match(
    (
      await api.post(
        self,
        {},
        as('jane', { 'impersonate-group': 'developers', 'impersonate-uid': 'u1', 'impersonate-extra-scopes': 'a' }),
      )
    ).body.status.userInfo,
    {
      username: 'jane',
      uid: 'u1',
      groups: ['developers', 'system:authenticated'],
      extra: { scopes: ['a'] },
    },
  );
  t.strictSame((await api.post(self, {}, as('system:serviceaccount:default:robot'))).body.status.userInfo.groups, [
    'system:serviceaccounts',
    'system:serviceaccounts:default',
    'system:authenticated',
  ]);
  t.match(
    (await api.post(self, {}, as('jane', { 'impersonate-group': 'system:unauthenticated' }))).body,
    { code: 403 },
    'who has shown nothing may not even ask who he is',
  );
  t.match((await api.get(`${IN_DEFAULT}/pods`, as('jane'))).body, { code: 403, message: /User "jane" cannot list/ });
  t.match(
    (await api.get(`${IN_DEFAULT}/pods`, { ...jane, ...as('admin', { 'impersonate-group': 'system:masters' }) })).body,
    {
      code: 403,
      message:
        'users "admin" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope',
    },
  );
  t.equal((await api.get(`${IN_DEFAULT}/pods`, { headers: { 'impersonate-group': 'x' } })).status, 400);

  // The one who may be jane may not be her boss.
  await make(`${RBAC}/clusterroles`, {
    ...role('actor', [rule('', ['users'], ['impersonate'], ['jane'])]),
    kind: 'ClusterRole',
  });
  await make(`${RBAC}/clusterrolebindings`, {
    ...bound('actor', { kind: 'ClusterRole', name: 'actor' }, user('max')),
    kind: 'ClusterRoleBinding',
  });
  t.equal((await api.post(self, {}, { user: 'max|', ...as('jane') })).body.status.userInfo.username, 'jane');
  t.equal((await api.post(self, {}, { user: 'max|', ...as('kim') })).status, 403);
  t.equal(
    (await api.post(self, {}, { user: 'max|', ...as('jane', { 'impersonate-group': 'system:masters' }) })).status,
    403,
  );

  const written = await api.post(
    `${IN_DEFAULT}/configmaps`,
    configMap('by-jane'),
    as('jane', { 'impersonate-group': 'system:masters' }),
  );
  const nats = await connect({ servers: api.natsUrl });
  t.teardown(() => nats.close());
  const seq = Number(written.body.metadata.resourceVersion);
  const { header } = await (await nats.jetstreamManager()).streams.getMessage(api.prefix.toUpperCase(), { seq });
  t.ok(
    [...header].some(([, values]) => values.includes('jane')),
    'the record names whom it was done as',
  );
});

t.test('kubectl asks what it may', async (t) => {
  const yes = (words: string) => api.tryKubectl(`auth can-i ${words}`);
  t.match(await yes('delete nodes'), { code: 0, stdout: 'yes\n' });
  t.match(await yes('list pods --as jane'), { code: 1, stdout: /^no/ });
  t.match(await yes('get pods --subresource=log --as kim -n default'), { code: 1 });
  t.match(await yes('list pods --as kim -n default'), { code: 0, stdout: 'yes\n' });
  t.match(await yes('get /healthz --as jane'), { code: 0, stdout: 'yes\n' });
  t.match(await yes('get /metrics --as jane'), { code: 1 });
  const list = await api.kubectl('auth can-i --list --as kim -n default');
  t.match(list, /selfsubjectaccessreviews\.authorization\.k8s\.io +\[\] +\[\] +\[create\]/);
  t.match(list, /pods +\[\] +\[\] +\[.*list.*\]/);
  t.match(list, /\[\/healthz\]/);
  const file = path.join(api.folder, 'lea');
  await writeKubeconfig(file, {
    server: `https://127.0.0.1:${api.port}`,
    ca: await caOf(),
    user: 'lea',
    credentials: api.credentials('lea|'),
  });
  t.match(await api.kubectl(`--kubeconfig ${file} auth whoami`), /Username +lea/);
  t.match(await api.tryKubectl(`--kubeconfig ${file} -n default get pods`), { code: 0 });
  t.match(await api.tryKubectl(`--kubeconfig ${file} -n default create configmap z`), {
    code: 1,
    stderr: /configmaps is forbidden: User "lea" cannot create resource "configmaps"/,
  });
  t.match(await api.tryKubectl(`--kubeconfig ${file} -n kube-system get secrets`), {
    code: 1,
    stderr:
      'Error from server (Forbidden): secrets is forbidden: User "lea" cannot list resource "secrets" in API group "" in the namespace "kube-system"',
  });
});

async function caOf(): Promise<string> {
  const config = JSON.parse(await api.kubectl('config view --raw -o json')) as Json;
  return Buffer.from(config.clusters[0].cluster['certificate-authority-data'], 'base64').toString();
}

t.test('kubectl makes roles and bindings', async (t) => {
  await api.kubectl('create role watcher --verb=get,list,watch --resource=pods,pods/log,deployments.apps -n default');
  await api.kubectl(
    'create rolebinding watcher --role=watcher --user=nora --serviceaccount=default:default -n default',
  );
  await api.kubectl('create clusterrole metrics --verb=get --non-resource-url=/metrics');
  await api.kubectl('create clusterrolebinding metrics --clusterrole=metrics --group=monitors');
  const may = async (words: string) => (await api.tryKubectl(`auth can-i ${words}`)).stdout.trim();
  t.equal(await may('watch deployments.apps --as nora -n default'), 'yes');
  t.equal(await may('get pods --subresource=log --as system:serviceaccount:default:default -n default'), 'yes');
  t.equal(await may('get /metrics --as x --as-group monitors'), 'yes');
  t.equal(await may('delete pods --as nora -n default'), 'no');
  const wanted = [
    { ...role('watcher', [rule('', ['pods'], ['delete'])]), metadata: { name: 'watcher', namespace: 'default' } },
    {
      ...bound('watcher', { kind: 'Role', name: 'watcher' }, { ...user('nick'), apiGroup: GROUP }),
      metadata: { name: 'watcher', namespace: 'default' },
    },
  ];
  const input = { apiVersion: 'v1', kind: 'List', items: wanted };
  await api.kubectl('auth reconcile -f -', { input });
  t.equal(await may('delete pods --as nora -n default'), 'yes', 'and what was there stays');
  t.equal(await may('watch pods --as nick -n default'), 'yes');
  t.match(await api.kubectl('describe clusterrole metrics'), /\[\/metrics\]/);
  t.match(
    await api.kubectl('get rolebindings watcher -o wide -n default'),
    /Role\/watcher .* nora, nick .*default\/default/,
  );
});

t.test('questions about others', async (t) => {
  const ask = async (kind: string, spec: object, options: object = {}) =>
    (await api.post(`/apis/authorization.k8s.io/v1/${kind}`, { spec }, options)).body;
  const resourceAttributes = { verb: 'list', resource: 'pods', namespace: 'default' };
  t.match((await ask('subjectaccessreviews', { user: 'kim', resourceAttributes })).status, {
    allowed: true,
    reason: 'RBAC: allowed by RoleBinding "keeper/default" of ClusterRole "keeper" to User "kim"',
  });
  t.match((await ask('subjectaccessreviews', { user: 'nobody', groups: ['x'], resourceAttributes })).status, {
    allowed: false,
  });
  t.match(
    (
      await ask('subjectaccessreviews', {
        user: 'x',
        groups: ['system:masters'],
        nonResourceAttributes: { verb: 'get', path: '/x' },
      })
    ).status,
    { allowed: true },
  );
  t.match(await ask('subjectaccessreviews', { resourceAttributes }), { code: 422 });
  t.match(await ask('selfsubjectaccessreviews', {}), { code: 422 });
  t.match(await ask('subjectaccessreviews', { user: 'kim', resourceAttributes }, jane), { code: 403 });
  const local = (namespace: string) =>
    api.post(`/apis/authorization.k8s.io/v1/namespaces/${namespace}/localsubjectaccessreviews`, {
      spec: { user: 'kim', resourceAttributes },
    });
  t.equal((await local('default')).body.status.allowed, true);
  t.equal((await local('kube-system')).status, 400);
});

t.test("a node's agent keeps to its node", async (t) => {
  const agent = { user: 'system:node:n1|system:nodes' };
  const node = (name: string, metadata: object = {}) => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, ...metadata },
  });
  t.equal((await api.post('/api/v1/nodes', node('n1'), agent)).status, 201);
  t.match((await api.post('/api/v1/nodes', node('n2'), agent)).body, {
    code: 403,
    message: /node "n1" is not allowed to modify node "n2"/,
  });
  await make('/api/v1/nodes', node('n2'));
  const ready = { status: { conditions: [{ type: 'Ready', status: 'True' }] } };
  t.equal((await api.patch('/api/v1/nodes/n1/status', 'merge', ready, agent)).status, 200);
  t.match((await api.patch('/api/v1/nodes/n2/status', 'merge', ready, agent)).body, {
    code: 403,
    message: /not allowed to modify node "n2"/,
  });
  const label = { metadata: { labels: { 'a.node-restriction.kubernetes.io/b': 'c' } } };
  t.equal((await api.patch('/api/v1/nodes/n1', 'merge', label, agent)).status, 403);
  const labelled = (key: string) =>
    api.patch('/api/v1/nodes/n1', 'merge', { metadata: { labels: { [key]: 'c' } } }, agent);
  for (const key of ['node-role.kubernetes.io/control-plane', 'a.kubernetes.io/b', 'x.k8s.io/y'])
    t.match((await labelled(key)).body, { code: 403, message: new RegExp(`is not allowed to modify labels: ${key}$`) });
  for (const key of [
    'mine',
    'example.com/a',
    'topology.kubernetes.io/zone',
    'kubelet.kubernetes.io/x',
    'node.kubernetes.io/y',
  ])
    t.equal((await labelled(key)).status, 200, key);
  t.equal((await api.delete('/api/v1/nodes/n1', agent)).status, 403);

  const uses = (secret: string) => ({ env: [{ name: 'A', valueFrom: { secretKeyRef: { name: secret, key: 'a' } } }] });
  const on = (nodeName: string, secret: string) => ({
    nodeName,
    containers: [{ name: 'main', image: 'busybox', ...uses(secret) }],
    volumes: [{ name: 'v', configMap: { name: `map-${nodeName}` } }],
  });
  await make(`${IN_DEFAULT}/pods`, pod('here', on('n1', 'mine')));
  await make(`${IN_DEFAULT}/pods`, pod('there', on('n2', 'theirs')));
  for (const name of ['mine', 'theirs'])
    await make(`${IN_DEFAULT}/secrets`, { apiVersion: 'v1', kind: 'Secret', metadata: { name } });
  for (const name of ['map-n1', 'map-n2']) await make(`${IN_DEFAULT}/configmaps`, configMap(name));
  t.equal((await api.get(`${IN_DEFAULT}/secrets/mine`, agent)).status, 200);
  t.match((await api.get(`${IN_DEFAULT}/secrets/theirs`, agent)).body, {
    code: 403,
    message: `secrets "theirs" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the namespace "default": no relationship found between node 'n1' and this object`,
  });
  t.equal((await api.get(`${IN_DEFAULT}/secrets`, agent)).status, 403);
  t.equal((await api.get(`${IN_DEFAULT}/configmaps/map-n1`, agent)).status, 200);
  t.equal((await api.get(`${IN_DEFAULT}/configmaps/map-n2`, agent)).status, 403);
  const running = { status: { phase: 'Running' } };
  t.equal((await api.patch(`${IN_DEFAULT}/pods/here/status`, 'merge', running, agent)).status, 200);
  t.match(
    (await api.patch(`${IN_DEFAULT}/pods/there/status`, 'merge', running, agent)).body.message,
    /node "n1" can only update pod status for pods with spec\.nodeName set to itself/,
  );
  t.match(
    (await api.delete(`${IN_DEFAULT}/pods/there`, agent)).body.message,
    /node "n1" can only delete pods with spec\.nodeName set to itself/,
  );
  t.equal((await api.post(`${IN_DEFAULT}/pods`, pod('new'), agent)).status, 403);
  t.equal((await api.delete(`${IN_DEFAULT}/pods/here?gracePeriodSeconds=0`, agent)).status, 200);
  t.equal((await api.get(`${IN_DEFAULT}/secrets/mine`, agent)).status, 403, 'no pod of the node names it any longer');

  const volume = (name: string, on: string) => ({
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name },
    spec: {
      capacity: { storage: '1Gi' },
      accessModes: ['ReadWriteOnce'],
      csi: { driver: 'docker.reckon.dev', volumeHandle: name },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [on] }] }],
        },
      },
    },
  });
  for (const name of ['n1', 'n2']) await make('/api/v1/persistentvolumes', volume(`on-${name}`, name));
  const released = { metadata: { labels: { a: 'b' } } };
  t.equal((await api.patch('/api/v1/persistentvolumes/on-n1', 'merge', released, agent)).status, 200);
  t.equal((await api.patch('/api/v1/persistentvolumes/on-n2', 'merge', released, agent)).status, 403);

  // A name alone makes no node.
  t.equal((await api.get('/api/v1/nodes/n1', { user: 'system:node:n1|' })).status, 403);
});

t.test('the default roles come back, and what was added stays', async (t) => {
  t.match(await api.kubectl('get clusterrole admin -o yaml'), /aggregationRule:[\s\S]*rules:\n- apiGroups:/);
  const extra = rule('example.com', ['things'], ['get']);
  await api.patch(`${RBAC}/clusterroles/system:discovery`, 'merge', { rules: [extra] });
  await api.delete(`${RBAC}/clusterroles/view`);
  await api.patch(`${RBAC}/clusterroles/system:monitoring`, 'merge', {
    metadata: { annotations: { 'rbac.authorization.kubernetes.io/autoupdate': 'false' } },
    rules: [],
  });
  const second = await api.another();
  const discovery = (await second.get(`${RBAC}/clusterroles/system:discovery`)).body;
  t.strictSame(discovery.rules[0], extra);
  t.match(discovery.rules[1].nonResourceURLs, ['/api']);
  t.match(discovery.metadata.labels, { 'kubernetes.io/bootstrapping': 'rbac-defaults' });
  t.equal((await second.get(`${RBAC}/clusterroles/view`)).status, 200);
  t.strictSame((await second.get(`${RBAC}/clusterroles/system:monitoring`)).body.rules, []);
  const before = await second.lastSequence();
  await second.stop();
  const third = await api.another();
  t.equal(await third.lastSequence(), before, 'a start at which nothing is missing writes nothing');
});
