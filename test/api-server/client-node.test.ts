/** The client that TypeScript and JavaScript programs use, @kubernetes/client-node, against the API server alone: its typed APIs, informers and watches, objects of any kind, and its errors. */
import {
  ApiException,
  ApisApi,
  AppsV1Api,
  AuthenticationV1Api,
  AuthorizationV1Api,
  BatchV1Api,
  CoordinationV1Api,
  CoreV1Api,
  CustomObjectsApi,
  Health,
  KubeConfig,
  KubernetesObjectApi,
  makeInformer,
  PatchStrategy,
  RbacAuthorizationV1Api,
  setHeaderOptions,
  V1MicroTime,
  VersionApi,
  Watch,
  type KubernetesObject,
  type V1ConfigMap,
  type V1Deployment,
  type V1Pod,
  type V1Status,
} from '@kubernetes/client-node';
import t from 'tap';
import { configMap, deployment, pod, startApi, type Api, type Json } from './api.ts';

const namespace = 'default';

let api: Api;
let config: KubeConfig;
let core: CoreV1Api;
let apps: AppsV1Api;
t.before(async () => {
  api = await startApi(t);
  config = new KubeConfig();
  config.loadFromFile(api.kubeconfig);
  core = config.makeApiClient(CoreV1Api);
  apps = config.makeApiClient(AppsV1Api);
});

/** Polls until it holds. */
async function until(says: string, holds: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 800; attempt++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`never: ${says}`);
}

/** The refusal that a call ends with. The client hands the Status over as text. */
async function refusal(call: Promise<unknown>): Promise<{ code: number; status: V1Status }> {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof ApiException)) throw error;
    const { code, body } = error as ApiException<unknown>;
    return { code, status: (typeof body === 'string' ? JSON.parse(body) : body) as V1Status };
  }
  throw new Error('was not refused');
}

const patchAs = (strategy: string) => setHeaderOptions('Content-Type', strategy);
const name = 'typed';

t.test('typed objects: created, read, replaced, patched in every way, listed in pages, deleted', async (t) => {
  const created = await core.createNamespacedConfigMap({ namespace, body: configMap(name) as V1ConfigMap });
  t.ok(created.metadata?.creationTimestamp instanceof Date);
  t.match(created.metadata?.uid, /^[0-9a-f-]{36}$/);
  const read = await core.readNamespacedConfigMap({ name, namespace });
  t.strictSame(read, created);

  const replaced = await core.replaceNamespacedConfigMap({ name, namespace, body: { ...read, data: { a: '2' } } });
  t.equal(replaced.data?.['a'], '2');
  t.match(await refusal(core.replaceNamespacedConfigMap({ name, namespace, body: { ...read, data: { a: '3' } } })), {
    code: 409,
    status: { reason: 'Conflict' },
  });
  const patches = [
    [PatchStrategy.JsonPatch, [{ op: 'add', path: '/data/b', value: 'json' }]],
    [PatchStrategy.MergePatch, { data: { c: 'merge' } }],
    [PatchStrategy.StrategicMergePatch, { data: { d: 'strategic' } }],
  ] as const;
  for (const [strategy, body] of patches)
    await core.patchNamespacedConfigMap({ name, namespace, body }, patchAs(strategy));
  const applied = await core.patchNamespacedConfigMap(
    { name, namespace, body: { ...configMap(name, { e: 'apply' }) }, fieldManager: 'tester', force: true },
    patchAs(PatchStrategy.ServerSideApply),
  );
  t.strictSame(applied.data, { a: '2', b: 'json', c: 'merge', d: 'strategic', e: 'apply' });
  const owner = applied.metadata?.managedFields?.find(({ manager }) => manager === 'tester');
  t.match(owner, { operation: 'Apply', fieldsV1: { 'f:data': { 'f:e': {} } } });

  for (let index = 0; index < 5; index++)
    await core.createNamespacedConfigMap({
      namespace,
      body: { metadata: { name: `page-${index}`, labels: { page: 'yes' } } },
    });
  const seen: (string | undefined)[] = [];
  let _continue: string | undefined;
  do {
    const page = await core.listNamespacedConfigMap({
      namespace,
      labelSelector: 'page=yes',
      limit: 2,
      ...(_continue !== undefined && { _continue }),
    });
    seen.push(...page.items.map(({ metadata }) => metadata?.name));
    _continue = page.metadata?._continue;
  } while (_continue);
  t.strictSame(seen, ['page-0', 'page-1', 'page-2', 'page-3', 'page-4']);

  t.match(await core.deleteNamespacedConfigMap({ name, namespace }), { status: 'Success' });
  t.match(await refusal(core.readNamespacedConfigMap({ name, namespace })), { code: 404 });
  await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'page=yes' });
  t.equal((await core.listNamespacedConfigMap({ namespace, labelSelector: 'page=yes' })).items.length, 0);
});

t.test('kinds of several groups, their subresources and their particular types', async (t) => {
  const body = deployment('web') as V1Deployment;
  body.spec!.strategy = { rollingUpdate: { maxSurge: '25%', maxUnavailable: 1 } };
  const created = await apps.createNamespacedDeployment({ namespace, body });
  t.same(created.spec?.strategy?.rollingUpdate, { maxSurge: '25%', maxUnavailable: 1 });
  t.equal(created.spec?.template.spec?.containers[0]?.imagePullPolicy, 'IfNotPresent');
  const scale = await apps.readNamespacedDeploymentScale({ name: 'web', namespace });
  t.equal(scale.spec?.replicas, 2);
  await apps.replaceNamespacedDeploymentScale({ name: 'web', namespace, body: { ...scale, spec: { replicas: 5 } } });
  const status = { status: { replicas: 5, observedGeneration: 2 } };
  const reported = await apps.patchNamespacedDeploymentStatus(
    { name: 'web', namespace, body: status },
    patchAs(PatchStrategy.MergePatch),
  );
  t.match(reported, { spec: { replicas: 5 }, status: { replicas: 5 }, metadata: { generation: 2 } });

  const secret = await core.createNamespacedSecret({
    namespace,
    body: { metadata: { name: 'secret' }, stringData: { password: 'open sesame' } },
  });
  t.strictSame(secret.data, { password: Buffer.from('open sesame').toString('base64') });
  const job = {
    metadata: { name: 'job' },
    spec: { template: { spec: { containers: [{ name: 'c', image: 'i' }], restartPolicy: 'Never' } } },
  };
  t.equal((await config.makeApiClient(BatchV1Api).createNamespacedJob({ namespace, body: job })).spec?.backoffLimit, 6);
  const lease = await config.makeApiClient(CoordinationV1Api).createNamespacedLease({
    namespace,
    body: {
      metadata: { name: 'lease' },
      spec: { holderIdentity: 'me', renewTime: new V1MicroTime('2026-01-02T03:04:05.678Z') },
    },
  });
  t.equal(String(lease.spec?.renewTime), '2026-01-02T03:04:05.678000Z');
  const service = await core.createNamespacedService({
    namespace,
    body: { metadata: { name: 'web' }, spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] } },
  });
  t.equal(service.spec?.ports?.[0]?.targetPort, 'http');
  t.match(service.spec?.clusterIP, /^10\.97\./);

  const bound = await core.createNamespacedPod({ namespace, body: pod('bound') as V1Pod });
  t.equal(bound.status?.phase, 'Pending');
  await core.createNamespacedPodBinding({
    name: 'bound',
    namespace,
    body: { metadata: { name: 'bound' }, target: { kind: 'Node', name: 'somewhere' } },
  });
  const pods = await core.listPodForAllNamespaces({ fieldSelector: 'spec.nodeName=somewhere' });
  t.strictSame(
    pods.items.map(({ metadata }) => metadata?.name),
    ['bound'],
  );
});

t.test('what the server is, and who may', async (t) => {
  t.match(await config.makeApiClient(VersionApi).getCode(), { major: '1' });
  const groups = await config.makeApiClient(ApisApi).getAPIVersions();
  t.ok(groups.groups.some(({ name: group }) => group === 'apps'));
  const resources = await apps.getAPIResources();
  t.match(
    resources.resources.find(({ name: plural }) => plural === 'deployments'),
    { kind: 'Deployment', namespaced: true },
  );
  const review = await config.makeApiClient(AuthorizationV1Api).createSelfSubjectAccessReview({
    body: { spec: { resourceAttributes: { verb: 'delete', resource: 'nodes' } } },
  });
  t.equal(review.status?.allowed, true);
  const who = await config.makeApiClient(AuthenticationV1Api).createSelfSubjectReview({ body: {} });
  t.equal(who.status?.userInfo?.username, 'admin');

  await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'robot' } } });
  const { status } = await core.createNamespacedServiceAccountToken({
    name: 'robot',
    namespace,
    body: { spec: { audiences: [], expirationSeconds: 600 } },
  });
  const robot = new KubeConfig();
  robot.loadFromOptions({
    ...config,
    users: [{ name: 'robot', token: status?.token }],
    contexts: [{ name: 'robot', cluster: config.getCurrentCluster()!.name, user: 'robot' }],
    currentContext: 'robot',
  });
  const asRobot = robot.makeApiClient(CoreV1Api);
  t.match(await refusal(asRobot.listNamespacedSecret({ namespace })), {
    code: 403,
    status: {
      reason: 'Forbidden',
      message: /User "system:serviceaccount:default:robot" cannot list resource "secrets"/,
    },
  });
  const rbac = config.makeApiClient(RbacAuthorizationV1Api);
  await rbac.createNamespacedRole({
    namespace,
    body: { metadata: { name: 'see' }, rules: [{ apiGroups: [''], resources: ['secrets'], verbs: ['list'] }] },
  });
  await rbac.createNamespacedRoleBinding({
    namespace,
    body: {
      metadata: { name: 'see' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'see' },
      subjects: [{ kind: 'ServiceAccount', name: 'robot', namespace }],
    },
  });
  t.ok((await asRobot.listNamespacedSecret({ namespace })).items.length > 0);
  const health = new Health(config);
  t.strictSame([await health.livez({}), await health.readyz({})], [true, true]);
});

t.test('refusals: a Status with its reason, code and causes', async (t) => {
  const bad = deployment('Bad_Name') as V1Deployment;
  bad.spec!.replicas = -1;
  const { code, status } = await refusal(apps.createNamespacedDeployment({ namespace, body: bad }));
  t.equal(code, 422);
  t.match(status, { kind: 'Status', reason: 'Invalid', details: { kind: 'Deployment', group: 'apps' } });
  const fields = status.details?.causes?.map(({ field }) => field) ?? [];
  t.ok(fields.includes('metadata.name') && fields.includes('spec.replicas'), String(fields));
  await core.createNamespacedConfigMap({ namespace, body: configMap('twice') as V1ConfigMap });
  t.match(await refusal(core.createNamespacedConfigMap({ namespace, body: configMap('twice') as V1ConfigMap })), {
    code: 409,
    status: { reason: 'AlreadyExists', details: { name: 'twice', kind: 'configmaps' } },
  });
  const strict = { namespace, fieldValidation: 'Strict', body: { ...configMap('strict'), dta: {} } as V1ConfigMap };
  // The typed client drops what its own types do not know; what any client may send goes through the untyped one.
  t.equal((await core.createNamespacedConfigMap({ ...strict, dryRun: 'All' })).metadata?.name, 'strict');
  const custom = config.makeApiClient(CustomObjectsApi);
  const body = { ...deployment('strict'), sepc: {} };
  const given = { group: 'apps', version: 'v1', namespace, plural: 'deployments', body };
  t.match(await refusal(custom.createNamespacedCustomObject({ ...given, fieldValidation: 'Strict' })), {
    code: 400,
    status: { message: /unknown field "sepc" \(did you mean "spec"\?\)/ },
  });
});

t.test('an informer: what is there, what happens, a watch that ends, a list that begins anew', async (t) => {
  const path = '/api/v1/namespaces/default/configmaps';
  const labels = { informed: 'yes' };
  const make = (label: string) =>
    core.createNamespacedConfigMap({ namespace, body: configMap(label, { a: '1' }, { labels }) as V1ConfigMap });
  await make('i1');
  const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'informed=yes' });
  const informer = makeInformer(config, path, list, 'informed=yes');
  const told: string[] = [];
  let connects = 0;
  let stopped = false;
  informer.on('add', ({ metadata }) => void told.push(`add ${metadata?.name}`));
  informer.on('update', ({ metadata }) => void told.push(`update ${metadata?.name}`));
  informer.on('delete', ({ metadata }) => void told.push(`delete ${metadata?.name}`));
  informer.on('connect', () => void connects++);
  // As its users do: what broke the watch is no reason to stop.
  informer.on('error', () => void setTimeout(() => stopped || void informer.start(), 10));
  t.teardown(() => {
    stopped = true;
    return informer.stop();
  });
  await informer.start();
  await make('i2');
  await core.patchNamespacedConfigMap(
    { name: 'i1', namespace, body: { data: { a: '2' } } },
    patchAs(PatchStrategy.MergePatch),
  );
  await core.deleteNamespacedConfigMap({ name: 'i2', namespace });
  await until('told', () => told.length >= 4);
  t.strictSame(told, ['add i1', 'add i2', 'update i1', 'delete i2']);
  await core.patchNamespacedConfigMap(
    { name: 'i1', namespace, body: { metadata: { labels: { informed: null } } } },
    patchAs(PatchStrategy.MergePatch),
  );
  await until('deselected', () => told.at(-1) === 'delete i1');
  t.equal(informer.list().length, 0);

  // The watch is cut: the informer goes on from where it was, and misses nothing of what happened meanwhile.
  const before = connects;
  (informer as unknown as { request?: AbortController }).request?.abort();
  await make('i3');
  await until('resumed', () => connects > before && told.at(-1) === 'add i3');
  t.equal(told.filter((event) => event === 'add i3').length, 1);
  stopped = true;
  await informer.stop();
  await make('i4');
  await core.deleteNamespacedConfigMap({ name: 'i3', namespace });
  stopped = false;
  await informer.start();
  await until('caught up', () => told.includes('add i4') && told.includes('delete i3'));
  t.strictSame(
    informer.list().map(({ metadata }) => metadata?.name),
    ['i4'],
  );
});

t.test(
  'a watch: from a revision, from nothing with initial events, bookmarks, a time-out, what is too old',
  async (t) => {
    const path = '/api/v1/namespaces/watched/configmaps';
    await core.createNamespace({ body: { metadata: { name: 'watched' } } });
    const make = (label: string) =>
      core.createNamespacedConfigMap({ namespace: 'watched', body: configMap(label) as V1ConfigMap });
    const one = await make('one');
    const revision = one.metadata?.resourceVersion;
    await make('two');
    const watcher = new Watch(config);
    const watch = (query: Record<string, string | number | boolean>) => {
      const events: string[] = [];
      const ended = new Promise<unknown>((resolve) => {
        void watcher.watch(
          path,
          query,
          (type: string, object: Json) => void events.push(`${type} ${object.metadata?.name ?? object.reason ?? ''}`),
          resolve,
        );
      });
      return { events, ended };
    };
    const since = watch({ resourceVersion: revision ?? '', timeoutSeconds: 1 });
    await since.ended;
    t.strictSame(since.events, ['ADDED two']);
    const streamed = watch({
      sendInitialEvents: true,
      resourceVersionMatch: 'NotOlderThan',
      allowWatchBookmarks: true,
      timeoutSeconds: 1,
    });
    await streamed.ended;
    t.strictSame(streamed.events.slice(0, 3), ['ADDED one', 'ADDED two', 'BOOKMARK ']);
    const nowhere = watch({ resourceVersion: 'x' });
    t.match(await nowhere.ended, { statusCode: 400 });

    // Another server has not seen the beginning, and has no history to read it from.
    const other = await api.another();
    t.teardown(() => other.stop());
    const elsewhere = new KubeConfig();
    elsewhere.loadFromFile(other.kubeconfig);
    const old: string[] = [];
    const request = await new Promise<unknown>((resolve) => {
      const tell = (type: string, { reason, code }: Json) => void old.push(`${type} ${reason} ${code}`);
      void new Watch(elsewhere).watch(path, { resourceVersion: 1 }, tell, resolve);
    });
    t.equal(request, null);
    t.strictSame(old, ['ERROR Expired 410']);
  },
);

t.test('objects of any kind, found by discovery', async (t) => {
  const objects = KubernetesObjectApi.makeApiClient(config);
  const spec = deployment('any', {}, { namespace });
  const created = await objects.create<V1Deployment & KubernetesObject>(spec);
  t.ok(created.metadata?.creationTimestamp instanceof Date);
  const header = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'any', namespace } };
  t.equal((await objects.read<V1Deployment & KubernetesObject>(header)).spec?.replicas, 2);
  const merged = await objects.patch<V1Deployment & KubernetesObject>(
    { ...header, spec: { replicas: 3 } } as unknown as V1Deployment & KubernetesObject,
    undefined,
    undefined,
    undefined,
    undefined,
    PatchStrategy.MergePatch,
  );
  t.equal(merged.spec?.replicas, 3);
  const apply = (manager: string, replicas: number, force: boolean) =>
    objects.patch<V1Deployment & KubernetesObject>(
      { ...spec, spec: { ...spec.spec, replicas } },
      undefined,
      undefined,
      manager,
      force,
      PatchStrategy.ServerSideApply,
    );
  const applied = await apply('one', 4, true);
  t.equal(applied.spec?.replicas, 4);
  const conflict = await refusal(apply('two', 5, false));
  t.equal(conflict.code, 409);
  t.match(conflict.status.details?.causes?.[0], { reason: 'FieldManagerConflict', field: '.spec.replicas' });
  t.equal((await apply('two', 5, true)).spec?.replicas, 5);
  const replaced = await objects.replace<V1Deployment & KubernetesObject>({
    ...(await objects.read<V1Deployment & KubernetesObject>(header)),
    spec: { ...spec.spec, replicas: 1 },
  });
  t.equal(replaced.spec?.replicas, 1);
  const listed = await objects.list<V1Deployment & KubernetesObject>('apps/v1', 'Deployment', namespace);
  t.ok(listed.items.some(({ metadata }) => metadata?.name === 'any'));
  t.match(await objects.delete(spec), { status: 'Success' });
  t.match(await refusal(objects.read(header)), { code: 404 });
  const clusterWide = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'made' } };
  await objects.create(clusterWide);
  t.match(await objects.read(clusterWide), { kind: 'Namespace', status: { phase: 'Active' } });
  await t.rejects(objects.create({ apiVersion: 'apps/v1', kind: 'Deployent', metadata: { name: 'x' } }));
});
