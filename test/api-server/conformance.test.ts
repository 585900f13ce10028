/**
 * What Kubernetes' own conformance tests ask of the API, and what was found wanting when the API was gone through by their list: each a few requests and what they are answered. What has a test file of its own stands there.
 */
import t from 'tap';
import { configMap, pod, startApi, type Api, type Json } from './api.ts';

const NAMESPACES = '/api/v1/namespaces';
const IN_DEFAULT = `${NAMESPACES}/default`;
const CONFIG_MAPS = `${IN_DEFAULT}/configmaps`;
const PODS = `${IN_DEFAULT}/pods`;
const SERVICES = `${IN_DEFAULT}/services`;

let api: Api;
t.before(async () => {
  api = await startApi(t);
});

interface Refusal {
  readonly says: string;
  readonly request: () => ReturnType<Api['request']>;
  readonly code: number;
  readonly message?: RegExp;
}

/** What is answered with one code, and words that name the fault. */
function refuses(about: string, cases: readonly Refusal[]): void {
  void t.test(about, async (t) => {
    for (const { says, request, code, message } of cases) {
      const { body, status } = await request();
      t.equal(status, code, `${says}: ${body?.message ?? ''}`);
      if (message) t.match(body.message, message, says);
    }
  });
}

t.test('a list that its server no longer knows goes on with what stands by now', async (t) => {
  for (const name of ['page-a', 'page-b', 'page-c', 'page-d'])
    await api.post(CONFIG_MAPS, configMap(name, {}, { labels: { page: 'yes' } }));
  const path = `${CONFIG_MAPS}?labelSelector=page&limit=2`;
  const first = await api.get(path);
  await api.delete(`${CONFIG_MAPS}/page-c`);
  const other = await api.another();
  const { body: refusal } = await other.get(`${path}&continue=${first.body.metadata.continue}`);
  t.match(refusal, { code: 410, reason: 'Expired', metadata: { continue: /./ } });
  const { body: rest } = await other.get(`${path}&continue=${refusal.metadata.continue}`);
  t.strictSame(
    rest.items.map(({ metadata }: Json) => metadata.name),
    ['page-d'],
  );
  t.ok(BigInt(rest.metadata.resourceVersion) > BigInt(first.body.metadata.resourceVersion));
});

t.test('watches by their old paths', async (t) => {
  await api.post(CONFIG_MAPS, configMap('old-path'));
  for (const path of ['configmaps', 'namespaces/default/configmaps', 'namespaces/default/configmaps/old-path']) {
    const watch = await api.watch(`/api/v1/watch/${path}?timeoutSeconds=1`);
    await watch.ended;
    t.ok(
      watch.events.some(({ type, object }) => type === 'ADDED' && object.metadata.name === 'old-path'),
      path,
    );
  }
  t.equal((await api.delete('/api/v1/watch/namespaces/default/configmaps/old-path')).status, 405);
});

t.test('PUT makes objects of the kinds that say so, and of no others', async (t) => {
  const places = [
    [`${IN_DEFAULT}/endpoints/put`, { apiVersion: 'v1', kind: 'Endpoints' }],
    [`${SERVICES}/put`, { apiVersion: 'v1', kind: 'Service', spec: { ports: [{ port: 80 }] } }],
    ['/apis/coordination.k8s.io/v1/namespaces/default/leases/put', { kind: 'Lease' }],
    ['/apis/rbac.authorization.k8s.io/v1/clusterroles/put', { kind: 'ClusterRole' }],
  ] as const;
  for (const [path, object] of places) {
    const given = { ...object, metadata: { name: 'put' } };
    t.equal((await api.put(path, { ...given, metadata: { name: 'put', resourceVersion: '1' } })).status, 404, path);
    const made = await api.put(path, given);
    t.equal(made.status, 201, `${path}: ${made.body.message}`);
    t.ok(made.body.metadata.uid);
    t.equal((await api.put(path, made.body)).status, 200);
  }
  t.equal((await api.put(`${CONFIG_MAPS}/put`, configMap('put'))).status, 404);
  const role = 'clusterroles/changer';
  const rules = [{ apiGroups: [''], resources: ['endpoints'], verbs: ['update'] }];
  await api.put(`/apis/rbac.authorization.k8s.io/v1/${role}`, { metadata: { name: 'changer' }, rules });
  const subjects = [{ kind: 'User', name: 'changer', apiGroup: 'rbac.authorization.k8s.io' }];
  const roleRef = { kind: 'ClusterRole', name: 'changer', apiGroup: 'rbac.authorization.k8s.io' };
  await api.put('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/changer', {
    metadata: { name: 'changer' },
    subjects,
    roleRef,
  });
  const sneaked = await api.put(
    `${IN_DEFAULT}/endpoints/sneaked`,
    { metadata: { name: 'sneaked' } },
    { user: 'changer|' },
  );
  t.match(sneaked.body, { code: 403, message: /cannot create resource "endpoints"/ });
});

t.test('some kinds are never overwritten blindly', async (t) => {
  const path = '/apis/policy/v1/namespaces/default/poddisruptionbudgets';
  const budget = { apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', metadata: { name: 'b' }, spec: {} };
  t.equal((await api.post(path, { ...budget, spec: { minAvailable: 1 } })).status, 201);
  t.match((await api.put(`${path}/b`, { ...budget, spec: { minAvailable: 2 } })).body, {
    code: 422,
    message: /metadata\.resourceVersion: Invalid value: 0x0: must be specified for an update/,
  });
  t.equal((await api.patch(`${path}/b`, 'merge', { spec: { minAvailable: 2 } })).status, 200);
});

t.test('strict validation looks at the text of a patch too', async (t) => {
  await api.post(CONFIG_MAPS, configMap('patched'));
  const path = `${CONFIG_MAPS}/patched`;
  const strictly = (form: 'json' | 'merge' | 'strategic', text: string, mode = 'Strict') =>
    api.patch(`${path}?fieldValidation=${mode}`, form, text);
  for (const form of ['merge', 'strategic'] as const)
    t.match((await strictly(form, '{"data":{"a":"2","a":"3"}}')).body, {
      code: 400,
      message: /duplicate field "data\.a"/,
    });
  const operations = '[{"op":"add","path":"/data/a","value":"2","value":"3","extra":1}]';
  t.match((await strictly('json', operations)).body, {
    code: 400,
    message: /json patch duplicate field "\[0\]\.value", json patch unknown field "\[0\]\.extra"/,
  });
  const warned = await strictly('json', operations, 'Warn');
  t.equal(warned.status, 200);
  t.match(String(warned.headers['warning']), /json patch unknown field/);
  t.notOk((await strictly('json', operations, 'Ignore')).headers['warning']);
});

t.test('discovery and OpenAPI say when nothing has changed', async (t) => {
  const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
  for (const path of ['/apis', '/openapi/v2', '/openapi/v3/apis/apps/v1']) {
    const { headers } = await api.get(path, { accept });
    const again = await api.get(path, { accept, headers: { 'if-none-match': String(headers.etag) } });
    t.strictSame([again.status, again.text, again.headers.etag], [304, '', headers.etag], path);
    t.equal((await api.get(path, { accept, headers: { 'if-none-match': '"other"' } })).status, 200);
  }
});

t.test('OpenAPI offers on an object what the server takes there', async (t) => {
  const { paths } = (await api.get('/openapi/v3/api/v1')).body;
  const at = (path: string) => Object.keys(paths[`/api/v1/namespaces/{namespace}/${path}`]).toSorted();
  t.strictSame(at('pods'), ['delete', 'get', 'parameters', 'post']);
  t.strictSame(at('pods/{name}'), ['delete', 'get', 'parameters', 'patch', 'put']);
  t.strictSame(at('pods/{name}/binding'), ['parameters', 'post']);
});

t.test('groups stand in the order in which clients look a plural up', async (t) => {
  const { body } = await api.get('/apis');
  const groups = body.groups.map(({ name }: Json) => name);
  t.strictSame(groups.slice(0, 4), ['apps', 'events.k8s.io', 'authentication.k8s.io', 'authorization.k8s.io']);
  t.equal(groups.at(-1), 'log.reckon.dev', 'and a custom one would stand behind it');
});

t.test('a Service may become one of any other type', async (t) => {
  const ports = [{ name: 'http', port: 80, protocol: 'TCP' }];
  await api.post(SERVICES, {
    metadata: { name: 'turns' },
    spec: { type: 'ExternalName', externalName: 'example.com' },
  });
  const steps: [type: string, more: object, has: string[], lacks: string[]][] = [
    ['NodePort', { ports }, ['clusterIP', 'externalTrafficPolicy'], ['externalName']],
    ['ExternalName', { externalName: 'example.org' }, ['externalName'], ['clusterIP', 'externalTrafficPolicy']],
    ['LoadBalancer', { ports }, ['clusterIP', 'allocateLoadBalancerNodePorts'], ['externalName']],
    ['ClusterIP', {}, ['clusterIP'], ['externalTrafficPolicy', 'allocateLoadBalancerNodePorts']],
    ['ExternalName', { externalName: 'example.net' }, ['externalName'], ['clusterIP', 'clusterIPs', 'ipFamilies']],
    ['ClusterIP', { ports }, ['clusterIP', 'ipFamilies'], ['externalName']],
  ];
  for (const [type, more, has, lacks] of steps) {
    const { body: standing } = await api.get(`${SERVICES}/turns`);
    const turned = await api.put(`${SERVICES}/turns`, { ...standing, spec: { ...standing.spec, ...more, type } });
    t.equal(turned.status, 200, `${type}: ${turned.body.message}`);
    for (const field of has) t.ok(turned.body.spec[field], `a ${type} has ${field}`);
    for (const field of lacks) t.equal(turned.body.spec[field], undefined, `a ${type} has no ${field}`);
    if (type === 'ClusterIP') t.notOk(turned.body.spec.ports.some(({ nodePort }: Json) => nodePort));
  }
});

t.test('a pod without a node is placed by a binding alone', async (t) => {
  await api.post(PODS, pod('placed'));
  t.match((await api.patch(`${PODS}/placed`, 'merge', { spec: { nodeName: 'mine' } })).body, {
    code: 422,
    message: /changed: nodeName/,
  });
  const binding = (target: object) => ({ metadata: { name: 'placed' }, target });
  t.match((await api.post(`${PODS}/placed/binding`, binding({ kind: 'Pod' }))).body, {
    code: 422,
    message: /target\.kind: Unsupported value: "Pod".*target\.name: Required value/,
  });
  t.equal((await api.post(`${IN_DEFAULT}/bindings`, binding({ kind: 'Node', name: 'n1' }))).status, 201, 'as of old');
  t.equal((await api.get(`${PODS}/placed`)).body.spec.nodeName, 'n1');
});

t.test('a gated pod may be narrowed in where it goes, and goes nowhere', async (t) => {
  const term = (...matchExpressions: Json[]) => ({
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions }] },
    },
  });
  const ssd = { key: 'disk', operator: 'In', values: ['ssd'] };
  const zone = { key: 'zone', operator: 'Exists' };
  await api.post(
    PODS,
    pod('gated', { schedulingGates: [{ name: 'example.com/a' }], nodeSelector: { a: '1' }, affinity: term(ssd) }),
  );
  const change = async (spec: object): Promise<number> => (await api.patch(`${PODS}/gated`, 'merge', { spec })).status;
  t.equal(await change({ nodeSelector: { b: '2' } }), 200);
  t.equal(await change({ nodeSelector: { a: '3' } }), 422);
  t.equal(await change({ affinity: term(ssd, zone) }), 200);
  t.equal(await change({ affinity: term(zone) }), 422);
  t.equal(await change({ affinity: null }), 422);
  const bound = await api.post(`${PODS}/gated/binding`, { metadata: { name: 'gated' }, target: { name: 'n1' } });
  t.match(bound.body, { code: 409, message: /non-empty \.spec\.schedulingGates/ });
  t.equal(await change({ schedulingGates: null }), 200);
  t.equal(await change({ nodeSelector: { c: '4' } }), 422, 'from now on somebody may be placing it');
});

t.test('a Job selects its pods by its uid, unless it says how', async (t) => {
  const path = '/apis/batch/v1/namespaces/default/jobs';
  const template = { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'busybox:1' }] } };
  const { body } = await api.post(path, { metadata: { name: 'selects' }, spec: { template } });
  const { uid } = body.metadata;
  t.strictSame(body.spec.selector, { matchLabels: { 'batch.kubernetes.io/controller-uid': uid } });
  t.strictSame(body.spec.template.metadata.labels, {
    'controller-uid': uid,
    'job-name': 'selects',
    'batch.kubernetes.io/controller-uid': uid,
    'batch.kubernetes.io/job-name': 'selects',
  });
  const manual = await api.post(path, {
    metadata: { name: 'manual' },
    spec: {
      manualSelector: true,
      selector: { matchLabels: { own: 'yes' } },
      template: { ...template, metadata: { labels: { own: 'yes' } } },
    },
  });
  t.strictSame(manual.body.spec.selector, { matchLabels: { own: 'yes' } });
  t.strictSame(manual.body.spec.template.metadata.labels, { own: 'yes' });
});

t.test('the class of a pod is not for a status to change', async (t) => {
  await api.post(PODS, pod('classed'));
  const path = `${PODS}/classed/status`;
  t.match((await api.patch(path, 'merge', { status: { qosClass: 'Guaranteed' } })).body, {
    code: 422,
    message: /status\.qosClass: Invalid value: .*field is immutable/,
  });
  const { body } = await api.patch(path, 'json', [{ op: 'replace', path: '/status', value: { phase: 'Running' } }]);
  t.match(body.status, { phase: 'Running', qosClass: 'BestEffort' });
});

const event = (metadata: object, involvedObject: object): Json => ({ metadata, involvedObject, reason: 'Test' });
const service = (spec: object): Json => ({ metadata: { name: 's' }, spec: { ports: [{ port: 80 }], ...spec } });

refuses('options of a request', [
  {
    says: 'force',
    request: () => api.patch(`${CONFIG_MAPS}/x?force=true`, 'merge', {}),
    code: 422,
    message: /force: Forbidden: may not be specified for non-apply patch/,
  },
  {
    says: 'a list that would be a watch',
    request: () => api.get(`${CONFIG_MAPS}?sendInitialEvents=true`),
    code: 422,
    message: /sendInitialEvents: Forbidden/,
  },
  {
    says: 'a watch of a page',
    request: () =>
      api.get(`${CONFIG_MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x`),
    code: 422,
    message: /forbidden when continue/,
  },
  {
    says: 'timeoutSeconds',
    request: () => api.get(`${CONFIG_MAPS}?watch=true&timeoutSeconds=soon`),
    code: 400,
    message: /timeoutSeconds: Invalid value/,
  },
  {
    says: 'timeout',
    request: () => api.get(`${CONFIG_MAPS}?timeout=invalid`),
    code: 400,
    message: /timeout: Invalid value/,
  },
  { says: 'a timeout that is one', request: () => api.get(`${CONFIG_MAPS}?timeout=1m30s`), code: 200 },
  { says: 'no limit', request: () => api.get(`${CONFIG_MAPS}?limit=-1`), code: 200 },
  {
    says: 'a review is no table',
    request: () =>
      api.post(
        '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
        { spec: { resourceAttributes: { verb: 'get', resource: 'pods' } } },
        { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
      ),
    code: 406,
  },
]);

refuses('objects that are not as they must be', [
  {
    says: 'a namespace without a name',
    request: () => api.post(NAMESPACES, { metadata: {} }),
    code: 422,
    message: /name or generateName is required/,
  },
  {
    says: 'a Job without a name',
    request: () =>
      api.post('/apis/batch/v1/namespaces/default/jobs', {
        spec: { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] } } },
      }),
    code: 422,
    message: /name or generateName is required/,
  },
  {
    says: 'whom a namespace waits for',
    request: () =>
      api.put(`${IN_DEFAULT}/finalize`, {
        metadata: { name: 'default' },
        spec: { finalizers: ['kubernetes', 'bad name', 'unknown'] },
      }),
    code: 422,
    message: /spec\.finalizers\[1\]: .*spec\.finalizers\[2\]: .*neither a standard finalizer name/,
  },
  {
    says: 'sysctls',
    request: () =>
      api.post(
        PODS,
        pod('s', {
          securityContext: {
            sysctls: [
              { name: 'foo-', value: 'x' },
              { name: 'kernel.shmmax', value: '1' },
              { name: 'bar..', value: 'y' },
            ],
          },
        }),
      ),
    code: 422,
    message: /sysctls\[0\]\.name: Invalid value: "foo-".*sysctls\[2\]\.name: Invalid value: "bar\.\."/,
  },
  {
    says: 'an event of elsewhere',
    request: () =>
      api.post(`${IN_DEFAULT}/events`, event({ name: 'e' }, { kind: 'Pod', namespace: 'other', name: 'p' })),
    code: 422,
    message: /involvedObject\.namespace: .*does not match event\.namespace/,
  },
  {
    says: 'an event of a node',
    request: () => api.post(`${IN_DEFAULT}/events`, event({ name: 'e' }, { kind: 'Node', name: 'n' })),
    code: 201,
  },
  {
    says: 'addresses of the node itself',
    request: () => api.post(SERVICES, service({ externalIPs: ['127.0.0.1', '169.254.1.1'] })),
    code: 422,
    message: /externalIPs\[0\]: .*loopback range.*externalIPs\[1\]: .*link-local range/,
  },
  {
    says: 'families',
    request: () => api.post(SERVICES, service({ ipFamilies: ['IPv6'], ipFamilyPolicy: 'RequireDualStack' })),
    code: 422,
    message: /ipFamilies\[0\]: Invalid value: "IPv6": not configured.*not configured for dual-stack/,
  },
  {
    says: 'a time zone',
    request: () =>
      api.post('/apis/batch/v1/namespaces/default/cronjobs', {
        metadata: { name: 'c' },
        spec: {
          schedule: '@daily',
          timeZone: 'No/Where',
          jobTemplate: {
            spec: { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] } } },
          },
        },
      }),
    code: 422,
    message: /spec\.timeZone: Invalid value: "No\/Where": unknown time zone/,
  },
]);
