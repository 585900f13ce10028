/** What the server does for single kinds, beyond what their schemas say: scale, binding, sealing, addresses, reviews. */
import t from 'tap';
import { deployment, natsOf, pod, startApi, type Api } from './api.ts';

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';
const PODS = '/api/v1/namespaces/default/pods';
const SERVICES = '/api/v1/namespaces/default/services';

let api: Api;
t.before(async () => {
  api = await startApi(t);
});

t.test('scale', async (t) => {
  await api.post(DEPLOYMENTS, deployment('scaled'));
  const path = `${DEPLOYMENTS}/scaled/scale`;
  const { body } = await api.get(path);
  t.match(body, {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    spec: { replicas: 2 },
    status: { replicas: 0, selector: 'app=scaled' },
  });
  const table = await api.kubectl('get deployment scaled --subresource=scale');
  t.match(table, /^NAME +DESIRED +AVAILABLE +AGE\nscaled +2 +0 +\d+s\n$/);
  t.equal((await api.put(path, { ...body, spec: { replicas: 4 } })).body.spec.replicas, 4);
  t.match(
    (await api.put(path, { ...body, spec: { replicas: 5 } })).body,
    { code: 409, reason: 'Conflict' },
    'it has a version too',
  );
  t.equal((await api.patch(path, 'merge', { spec: { replicas: 0 } })).body.spec.replicas, 0);
  const { body: object } = await api.get(`${DEPLOYMENTS}/scaled`);
  t.equal(object.spec.replicas, 0);
  t.equal(object.metadata.generation, 3);
  t.match((await api.patch(path, 'merge', { spec: { replicas: -1 } })).body, { code: 422, reason: 'Invalid' });
  t.equal((await api.get(`${CONFIG_MAPS}/patched/scale`)).status, 404);
});

t.test('server-side apply of a Scale', async (t) => {
  await api.post(DEPLOYMENTS, deployment('applied-scale'));
  const path = `${DEPLOYMENTS}/applied-scale/scale`;
  const wanted = (replicas: unknown) => ({ apiVersion: 'autoscaling/v1', kind: 'Scale', spec: { replicas } });
  const apply = (replicas: unknown, query = '') =>
    api.patch(`${path}?fieldManager=scaler${query}`, 'apply', wanted(replicas));
  t.match((await apply(3)).body, {
    code: 409,
    reason: 'Conflict',
    details: { causes: [{ reason: 'FieldManagerConflict', field: '.spec.replicas' }] },
  });
  t.match((await apply(3, '&force=true')).body, { kind: 'Scale', spec: { replicas: 3 } });
  const { body: object } = await api.get(`${DEPLOYMENTS}/applied-scale`);
  t.equal(object.spec.replicas, 3);
  t.match(
    object.metadata.managedFields.filter(({ subresource }: { subresource?: string }) => subresource === 'scale'),
    [{ manager: 'scaler', operation: 'Apply', apiVersion: 'apps/v1', fieldsV1: { 'f:spec': { 'f:replicas': {} } } }],
  );
  t.equal((await apply(3)).body.metadata.resourceVersion, object.metadata.resourceVersion, 'twice is once');
  t.match(
    (
      await api.patch(`${DEPLOYMENTS}/applied-scale?fieldManager=owner`, 'apply', {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        spec: { replicas: 7 },
      })
    ).body,
    { code: 409, message: /conflict with "scaler" with subresource "scale"/ },
  );
  t.match((await apply(-1)).body, { code: 422, reason: 'Invalid', details: { kind: 'Scale' } });
  t.match((await apply('many')).body, { code: 400 });
  t.match((await api.patch(path, 'apply', wanted(3))).body, { code: 422, message: /fieldManager/ });
  t.match((await api.patch(`${DEPLOYMENTS}/absent/scale?fieldManager=scaler`, 'apply', wanted(3))).body, { code: 404 });
});

t.test('what a Job, a CronJob, a StatefulSet and a DaemonSet get', async (t) => {
  const containers = [{ name: 'c', image: 'i:1' }];
  const once = { spec: { restartPolicy: 'Never', containers } };
  const jobs = '/apis/batch/v1/namespaces/default/jobs';
  const { body: job } = await api.post(jobs, { metadata: { name: 'once' }, spec: { template: once } });
  const { uid } = job.metadata;
  const generated = {
    'batch.kubernetes.io/controller-uid': uid,
    'batch.kubernetes.io/job-name': 'once',
    'controller-uid': uid,
    'job-name': 'once',
  };
  t.same(job.metadata.labels, generated);
  t.same(job.spec.template.metadata.labels, generated);
  const own = { metadata: { name: 'own', labels: { mine: 'yes' } }, spec: { template: once } };
  t.same((await api.post(jobs, own)).body.metadata.labels, { mine: 'yes' });
  const bared = await api.patch(`${jobs}/own`, 'merge', { metadata: { labels: null } });
  t.match(bared.body.metadata.labels, { 'job-name': 'own' });

  const cronJobs = '/apis/batch/v1/namespaces/default/cronjobs';
  const hourly = {
    metadata: { name: 'hourly' },
    spec: { schedule: '@hourly', jobTemplate: { spec: { template: once } } },
  };
  t.same(Object.keys((await api.post(cronJobs, hourly)).body.spec.jobTemplate.spec), ['template']);
  const indexed = { spec: { jobTemplate: { spec: { completionMode: 'Indexed', completions: 2 } } } };
  t.equal((await api.patch(`${cronJobs}/hourly`, 'merge', indexed)).status, 200, 'no Job stands yet');
  const slower = { spec: { jobTemplate: { spec: { template: { spec: { terminationGracePeriodSeconds: 60 } } } } } };
  t.equal((await api.patch(`${cronJobs}/hourly`, 'merge', slower)).status, 200, 'the next Job is made from it');
  t.match((await api.patch(`${jobs}/own`, 'merge', { spec: slower.spec.jobTemplate.spec })).body, {
    code: 422,
    details: { causes: [{ field: 'spec.template' }] },
  });
  t.equal((await api.patch(`${jobs}/own`, 'merge', { spec: { completionMode: 'Indexed' } })).status, 422);

  const labels = { app: 'x' };
  const spec = { selector: { matchLabels: labels }, template: { metadata: { labels }, spec: { containers } } };
  const sets = '/apis/apps/v1/namespaces/default/statefulsets';
  const claims = [
    { metadata: { name: 'd' }, spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1' } } } },
  ];
  const stateful = { metadata: { name: 's' }, spec: { ...spec, serviceName: 's', volumeClaimTemplates: claims } };
  const { body: set } = await api.post(sets, stateful);
  t.match(set, {
    spec: { volumeClaimTemplates: [{ kind: 'PersistentVolumeClaim' }] },
    status: { availableReplicas: 0 },
  });
  t.equal((await api.put(`${sets}/s`, stateful)).status, 200, 'sent again without them it is the same');

  const daemons = '/apis/apps/v1/namespaces/default/daemonsets';
  const counted = 'deprecated.daemonset.template.generation';
  const daemon = { metadata: { name: 'd' }, spec };
  t.same((await api.post(daemons, daemon)).body.metadata.annotations, { [counted]: '1' });
  t.same((await api.put(`${daemons}/d`, daemon)).body.metadata.annotations, { [counted]: '1' });
  const annotations = { [counted]: '9', own: 'yes' };
  const changed = await api.patch(`${daemons}/d`, 'merge', {
    metadata: { annotations },
    spec: { template: { spec: { terminationGracePeriodSeconds: 1 } } },
  });
  t.same(changed.body.metadata.annotations, { [counted]: '2', own: 'yes' });
});

t.test('binding', async (t) => {
  const { body: made } = await api.post(PODS, pod('tobind'));
  t.equal(made.status.phase, 'Pending');
  const target = {
    apiVersion: 'v1',
    kind: 'Binding',
    metadata: { name: 'tobind' },
    target: { kind: 'Node', name: 'n1' },
  };
  const bound = await api.post(`${PODS}/tobind/binding`, target);
  t.match(bound.body, { kind: 'Status', status: 'Success', code: 201 });
  const { body } = await api.get(`${PODS}/tobind`);
  t.equal(body.spec.nodeName, 'n1');
  t.match(body.status.conditions, [{ type: 'PodScheduled', status: 'True' }]);
  t.match((await api.post(`${PODS}/tobind/binding`, target)).body, {
    code: 409,
    reason: 'Conflict',
    message: /already assigned/,
  });
  t.match((await api.post(`${PODS}/absent/binding`, target)).body, { code: 404 });
  t.match((await api.patch(`${PODS}/tobind`, 'merge', { spec: { nodeName: 'n2' } })).body, {
    code: 422,
    reason: 'Invalid',
  });
  t.equal((await api.get(`${PODS}/tobind/binding`)).status, 405);
});

t.test('Secrets are plain over the API and sealed in the stream', async (t) => {
  const value = Buffer.from('correct horse battery staple').toString('base64');
  const path = '/api/v1/namespaces/default/secrets';
  const { body } = await api.post(path, {
    metadata: { name: 'sesame' },
    type: 'Opaque',
    data: { word: value },
    stringData: { other: 'xyzzy-plain' },
  });
  t.equal(body.data.word, value);
  t.equal(Buffer.from(body.data.other, 'base64').toString(), 'xyzzy-plain');
  t.notOk(body.stringData);
  t.strictSame((await api.get(`${path}/sesame`)).body.data, body.data);
  const updated = await api.patch(`${path}/sesame`, 'merge', { stringData: { third: 'shibboleth' } });
  t.equal(updated.body.data.word, value);
  t.equal(Buffer.from(updated.body.data.third, 'base64').toString(), 'shibboleth');

  const nats = await natsOf(t, api);
  const manager = await nats.jetstreamManager();
  let seen = 0;
  for (const { metadata } of [body, updated.body]) {
    const { data } = await manager.streams.getMessage(api.prefix.toUpperCase(), {
      seq: Number(metadata.resourceVersion),
    });
    const text = new TextDecoder().decode(data);
    t.match(JSON.parse(text).metadata, { name: 'sesame' });
    for (const secret of [
      value,
      'xyzzy',
      Buffer.from('xyzzy-plain').toString('base64'),
      Buffer.from('shibboleth').toString('base64'),
    ])
      t.notOk(text.includes(secret));
    seen++;
  }
  t.equal(seen, 2);
  const fresh = await api.another();
  t.strictSame(
    (await fresh.get(`${path}/sesame`)).body.data,
    updated.body.data,
    'another server opens it with the same key',
  );
  await manager.streams.purge(`${api.prefix.toUpperCase()}_KEYS`);
  const later = await api.another();
  const lost = await later.get(`${path}/sesame`);
  t.equal(lost.status, 200);
  t.notOk(lost.body.data, 'with its key destroyed the content cannot be read again');
});

t.test('addresses and node ports of Services are given once', async (t) => {
  const small = await startApi(t, { serviceCidr: '10.98.0.0/27', nodePortRange: [31000, 31009] });
  const second = await small.another();
  const service = (name: string, type: string, spec: object = {}) => ({
    metadata: { name },
    spec: { type, ports: [{ port: 80 }], ...spec },
  });
  const answers = await Promise.all(
    Array.from({ length: 24 }, (_, index) =>
      (index % 2 ? small : second).post(SERVICES, service(`s${index}`, index < 10 ? 'NodePort' : 'ClusterIP')),
    ),
  );
  t.strictSame(
    answers.map(({ status }) => status),
    answers.map(() => 201),
    JSON.stringify(answers.find(({ status }) => status !== 201)?.body),
  );
  t.equal(new Set(answers.map(({ body }) => body.spec.clusterIP)).size, 24);
  t.equal(new Set(answers.slice(0, 10).map(({ body }) => body.spec.ports[0].nodePort)).size, 10);
  t.match((await small.post(SERVICES, service('full', 'NodePort'))).body, {
    code: 422,
    reason: 'Invalid',
    message: /no node port is free/,
  });
  const taken = answers[0]?.body.spec.clusterIP;
  t.match((await small.post(SERVICES, service('same', 'ClusterIP', { clusterIP: taken }))).body, {
    code: 422,
    message: /already allocated/,
  });
  t.match((await small.post(SERVICES, service('far', 'ClusterIP', { clusterIP: '10.1.1.1' }))).body, {
    code: 422,
    message: /not match the current range|not in the valid range/,
  });
  t.equal((await small.delete(`${SERVICES}/s0`)).status, 200);
  const reused = await second.post(SERVICES, service('reuse', 'NodePort', { clusterIP: taken }));
  t.equal(reused.status, 201, 'what is let go can be had again, on the other server too');
  t.equal(reused.body.spec.ports[0].nodePort, answers[0]?.body.spec.ports[0].nodePort);
  const { body: kept } = await small.put(`${SERVICES}/s1`, service('s1', 'NodePort'));
  t.equal(kept.spec.clusterIP, answers[1]?.body.spec.clusterIP, 'kept where a replacement leaves them out');
  t.equal(kept.spec.ports[0].nodePort, answers[1]?.body.spec.ports[0].nodePort);
  t.equal(
    (await small.post(SERVICES, service('head', 'ClusterIP', { clusterIP: 'None' }))).body.spec.clusterIP,
    'None',
  );
  t.match((await small.patch(`${SERVICES}/s1`, 'merge', { spec: { clusterIP: '10.98.0.30' } })).body, {
    code: 422,
    message: /may not change once set/,
  });
});

t.test('reviews are answered, not stored', async (t) => {
  const before = await api.lastSequence();
  const who = await api.post(
    '/apis/authentication.k8s.io/v1/selfsubjectreviews',
    {},
    { user: 'system:controller:deployments' },
  );
  t.equal(who.status, 201);
  t.match(who.body, {
    kind: 'SelfSubjectReview',
    status: {
      userInfo: { username: 'system:controller:deployments', groups: ['system:controllers', 'system:authenticated'] },
    },
  });
  const may = await api.post('/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
    spec: { resourceAttributes: { verb: 'get', resource: 'pods' } },
  });
  t.match(may.body, { spec: { resourceAttributes: { verb: 'get' } }, status: { allowed: true } });
  const asked = (selectors: object) =>
    api.post('/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?fieldValidation=Strict', {
      spec: { resourceAttributes: { verb: 'list', resource: 'pods', ...selectors } },
    });
  const requirements = [{ key: 'spec.nodeName', operator: 'In', values: ['n1'] }];
  const narrowed = { fieldSelector: { requirements }, labelSelector: { rawSelector: 'app=web' } };
  t.match((await asked(narrowed)).body, {
    spec: { resourceAttributes: { fieldSelector: { requirements } } },
    status: { allowed: true },
  });
  t.match((await asked({ fieldSelector: { rawSelector: 'a=b', requirements } })).body, {
    code: 422,
    details: { causes: [{ field: 'spec.resourceAttributes.fieldSelector.rawSelector' }] },
  });
  t.match((await asked({ labelSelector: {} })).body, {
    code: 422,
    details: { causes: [{ field: 'spec.resourceAttributes.labelSelector.requirements' }] },
  });
  t.equal((await api.get('/apis/authentication.k8s.io/v1/selfsubjectreviews')).status, 405);
  t.equal((await api.post('/apis/authentication.k8s.io/v1/selfsubjectreviews', {}, { user: null })).status, 403);
  t.equal(await api.lastSequence(), before);
});
