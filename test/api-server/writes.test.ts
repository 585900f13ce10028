/** Every way to write: what is stored, what is answered, what is refused, and what a write that changes nothing does. Deletes and what is special to kinds stand beside this file. */
import t from 'tap';
import { configMap, deployment, natsOf, startApi, type Api, type Json } from './api.ts';

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';

let api: Api;
t.before(async () => {
  api = await startApi(t);
});

const managers = (object: Json): string[] =>
  object.metadata.managedFields.map((entry: Json) => `${entry.manager}/${entry.operation}/${entry.subresource ?? ''}`);
t.test('create: metadata comes from the server, the rest from the client', async (t) => {
  const given = configMap(
    'made',
    { a: '1' },
    {
      uid: 'mine',
      creationTimestamp: '2001-01-01T00:00:00Z',
      generation: 7,
      deletionTimestamp: '2001-01-01T00:00:00Z',
      selfLink: '/x',
      labels: { app: 'x' },
    },
  );
  const { status, body, headers } = await api.post(`${CONFIG_MAPS}?fieldManager=me`, given);
  t.equal(status, 201);
  t.match(body.metadata, { name: 'made', namespace: 'default', labels: { app: 'x' } });
  t.match(body.metadata.uid, /^[0-9a-f-]{36}$/);
  t.not(body.metadata.creationTimestamp, '2001-01-01T00:00:00Z');
  t.notOk(body.metadata.deletionTimestamp ?? body.metadata.selfLink ?? body.metadata.generation);
  t.equal(headers['reckon-revision'], body.metadata.resourceVersion);
  t.equal(body.metadata.resourceVersion, String(await api.lastSequence()), 'the sequence is the resourceVersion');
  t.strictSame(managers(body), ['me/Update/']);
  t.strictSame((await api.get(`${CONFIG_MAPS}/made`)).body, body, 'read back as answered');

  const again = await api.post(CONFIG_MAPS, configMap('made'));
  t.match(again.body, {
    kind: 'Status',
    status: 'Failure',
    reason: 'AlreadyExists',
    code: 409,
    message: 'configmaps "made" already exists',
    details: { name: 'made', kind: 'configmaps' },
  });
  t.match((await api.post(CONFIG_MAPS, configMap('versioned', {}, { resourceVersion: '5' }))).body, {
    reason: 'BadRequest',
    message: /resourceVersion should not be set/,
  });
  t.match((await api.post(CONFIG_MAPS, configMap('elsewhere', {}, { namespace: 'other' }))).body, {
    reason: 'BadRequest',
    message: /does not match the namespace/,
  });
  t.match((await api.post('/api/v1/namespaces/nowhere/configmaps', configMap('x'))).body, {
    reason: 'NotFound',
    message: 'namespaces "nowhere" not found',
  });
});

t.test('generateName', async (t) => {
  const many = await Promise.all(
    Array.from({ length: 20 }, () => api.post(CONFIG_MAPS, { metadata: { generateName: 'gen-' } })),
  );
  t.ok(many.every(({ status }) => status === 201));
  const names = many.map(({ body }) => body.metadata.name as string);
  t.equal(new Set(names).size, 20);
  t.ok(names.every((name) => /^gen-[bcdfghjklmnpqrstvwxz2456789]{5}$/.test(name)));
  t.equal(
    (await api.post(CONFIG_MAPS, { metadata: { name: 'named', generateName: 'gen-' } })).body.metadata.name,
    'named',
  );
  t.match((await api.post(CONFIG_MAPS, { metadata: {} })).body, {
    reason: 'Invalid',
    code: 422,
    message: /name or generateName is required/,
  });
});

t.test('replace', async (t) => {
  const { body: first } = await api.post(CONFIG_MAPS, configMap('replaced'));
  const path = `${CONFIG_MAPS}/replaced`;
  const { body: second, status } = await api.put(path, { ...first, data: { b: '2' } });
  t.equal(status, 200);
  t.strictSame(second.data, { b: '2' });
  t.ok(Number(second.metadata.resourceVersion) > Number(first.metadata.resourceVersion));
  t.match((await api.put(path, { ...first, data: { c: '3' } })).body, {
    code: 409,
    reason: 'Conflict',
    message: /the object has been modified; please apply your changes to the latest version and try again/,
  });
  const unconditional = await api.put(path, configMap('replaced', { d: '4' }));
  t.equal(unconditional.status, 200, 'without a resourceVersion it stands on whatever is there');
  t.equal(unconditional.body.metadata.uid, first.metadata.uid);
  t.match((await api.put(path, configMap('replaced', {}, { uid: 'other' }))).body, {
    code: 409,
    reason: 'Conflict',
    message: /Precondition failed: UID/,
  });
  t.match((await api.put(path, configMap('othername'))).body, {
    code: 400,
    message: /does not match the name on the URL/,
  });
  t.match((await api.put(path, configMap('replaced', {}, { namespace: 'kube-system' }))).body, {
    code: 400,
    message: /does not match the namespace/,
  });
  t.match((await api.put(`${CONFIG_MAPS}/nothing`, configMap('nothing'))).body, { code: 404, reason: 'NotFound' });
  t.equal((await api.put(CONFIG_MAPS, configMap('x'))).status, 405);
  t.equal((await api.post(path, configMap('x'))).status, 405);
});

t.test('a write that changes nothing leaves no record', async (t) => {
  const { body: first } = await api.post(DEPLOYMENTS, deployment('still'));
  const path = `${DEPLOYMENTS}/still`;
  const before = await api.lastSequence();
  const version = first.metadata.resourceVersion;
  t.equal((await api.put(path, first)).body.metadata.resourceVersion, version);
  t.equal(
    (await api.put(path, deployment('still'))).body.metadata.resourceVersion,
    version,
    'defaults are filled in alike',
  );
  t.equal((await api.patch(path, 'merge', { spec: { replicas: 2 } })).body.metadata.resourceVersion, version);
  t.equal(
    (
      await api.patch(path, 'strategic', {
        spec: { template: { spec: { containers: [{ name: 'main', image: 'busybox:1' }] } } },
      })
    ).body.metadata.resourceVersion,
    version,
  );
  const applied = await api.patch(`${path}?fieldManager=a&force=true`, 'apply', deployment('still'));
  const again = await api.patch(`${path}?fieldManager=a`, 'apply', deployment('still'));
  t.equal(again.body.metadata.resourceVersion, applied.body.metadata.resourceVersion, 'apply twice is apply once');
  t.equal(await api.lastSequence(), before + 1, 'only the first apply, which took ownership, was recorded');
});

t.test('patches in three forms', async (t) => {
  await api.post(CONFIG_MAPS, configMap('patched', { a: '1', b: '2' }));
  const path = `${CONFIG_MAPS}/patched`;
  t.strictSame((await api.patch(path, 'merge', { data: { b: null, c: '3' } })).body.data, { a: '1', c: '3' });
  t.strictSame(
    (
      await api.patch(path, 'json', [
        { op: 'test', path: '/data/a', value: '1' },
        { op: 'replace', path: '/data/a', value: '9' },
      ])
    ).body.data,
    { a: '9', c: '3' },
  );
  t.match((await api.patch(path, 'json', [{ op: 'test', path: '/data/a', value: 'no' }])).body, {
    kind: 'Status',
    code: 422,
    reason: 'Invalid',
  });
  await api.post(DEPLOYMENTS, deployment('patched'));
  const { body } = await api.patch(`${DEPLOYMENTS}/patched`, 'strategic', {
    spec: { template: { spec: { containers: [{ name: 'side', image: 'busybox:2' }] } } },
  });
  t.strictSame(
    body.spec.template.spec.containers.map(({ name }: Json) => name),
    ['side', 'main'],
    'containers merge by name',
  );
  t.equal(body.metadata.generation, 2);
  t.match((await api.patch(path, 'merge', { metadata: { name: 'b' } })).body, {
    code: 400,
    message: /does not match the name/,
  });
  t.match((await api.patch(path, 'merge', { metadata: { resourceVersion: '1' }, data: { z: '1' } })).body, {
    code: 409,
    reason: 'Conflict',
  });
  t.match((await api.patch(`${CONFIG_MAPS}/absent`, 'merge', {})).body, { code: 404 });
  t.match((await api.request('PATCH', path, { body: '{}', type: 'application/json' })).body, {
    code: 415,
    reason: 'UnsupportedMediaType',
  });
  t.match((await api.request('PATCH', path, { body: 'x', type: 'text/plain' })).body, {
    code: 415,
    reason: 'UnsupportedMediaType',
  });
});

t.test('server-side apply: creates, owns, conflicts, gives up', async (t) => {
  const path = `${CONFIG_MAPS}/applied`;
  const created = await api.patch(`${path}?fieldManager=one`, 'apply', configMap('applied', { a: '1', b: '1' }));
  t.equal(created.status, 201);
  t.strictSame(managers(created.body), ['one/Apply/']);
  const conflict = await api.patch(`${path}?fieldManager=two`, 'apply', configMap('applied', { a: '2' }));
  t.match(conflict.body, {
    code: 409,
    reason: 'Conflict',
    details: { causes: [{ reason: 'FieldManagerConflict', message: /conflict with "one"/, field: '.data.a' }] },
  });
  const forced = await api.patch(`${path}?fieldManager=two&force=true`, 'apply', configMap('applied', { a: '2' }));
  t.equal(forced.status, 200);
  t.strictSame(forced.body.data, { a: '2', b: '1' });
  const left = await api.patch(`${path}?fieldManager=one`, 'apply', configMap('applied', {}));
  t.strictSame(left.body.data, { a: '2' }, 'what only one owned goes with it');
  t.match((await api.patch(path, 'apply', configMap('applied'))).body, {
    code: 422,
    reason: 'Invalid',
    message: /fieldManager: Required value/,
  });
  t.match((await api.patch(`${path}?fieldManager=x`, 'apply', configMap('wrong'))).body, { code: 400 });
  const { kind: _kind, ...nameless } = configMap('applied');
  t.match((await api.patch(`${path}?fieldManager=x`, 'apply', nameless)).body, { code: 400, message: /Kind/ });
  t.match((await api.patch(`${path}?fieldManager=x`, 'apply', { ...configMap('applied'), apiVersion: 'v2' })).body, {
    code: 400,
    message: 'Incorrect version specified in apply patch. Specified patch version: v2, expected: v1',
  });
  for (const validation of ['Strict', 'Warn', 'Ignore'])
    t.match(
      (
        await api.patch(`${path}?fieldManager=x&fieldValidation=${validation}`, 'apply', {
          ...configMap('applied'),
          dta: {},
        })
      ).body,
      {
        code: 400,
        message:
          /^failed to create typed patch object \(\S+; v1, Kind=ConfigMap\): \.dta: field not declared in schema \(did you mean "data"\?\)$/,
      },
      validation,
    );
  const gone = configMap('gone', {}, { uid: 'a-uid' });
  t.match((await api.patch(`${path.replace(/applied$/, 'gone')}?fieldManager=x`, 'apply', gone)).body, {
    code: 409,
    message: /uid mismatch: the provided object specified uid a-uid, and no existing object was found$/,
  });

  await api.post(DEPLOYMENTS, deployment('applystatus'));
  const status = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'applystatus' },
    status: { observedGeneration: 1, replicas: 2 },
  };
  const { body } = await api.patch(`${DEPLOYMENTS}/applystatus/status?fieldManager=ctl`, 'apply', status);
  t.match(body.status, { replicas: 2 });
  t.ok(managers(body).includes('ctl/Apply/status'));
  t.equal(
    (
      await api.patch(`${DEPLOYMENTS}/nothere/status?fieldManager=ctl`, 'apply', {
        ...status,
        metadata: { name: 'nothere' },
      })
    ).status,
    404,
    'a status is not created',
  );
});

t.test('the status subresource and the object keep out of each other, on planes of their own', async (t) => {
  const { body: made } = await api.post(DEPLOYMENTS, { ...deployment('planes'), status: { replicas: 9 } });
  t.notOk(made.status?.replicas, 'a status in a create is dropped');
  const path = `${DEPLOYMENTS}/planes`;
  const observed = await api.put(`${path}/status`, {
    ...made,
    spec: { ...made.spec, replicas: 7 },
    status: { replicas: 2, observedGeneration: 1 },
  });
  t.equal(observed.body.spec.replicas, 2);
  t.equal(observed.body.status.replicas, 2);
  t.equal(observed.body.metadata.generation, 1);
  t.match(observed.body.metadata.managedFields.at(-1), { subresource: 'status', operation: 'Update' });
  const wanted = await api.put(path, {
    ...observed.body,
    spec: { ...made.spec, replicas: 5 },
    status: { replicas: 99 },
  });
  t.equal(wanted.body.status.replicas, 2);
  t.equal(wanted.body.metadata.generation, 2);
  const labelled = await api.patch(path, 'merge', { metadata: { labels: { x: 'y' } } });
  t.equal(labelled.body.metadata.generation, 2, 'metadata alone is no new generation');

  const nats = await natsOf(t, api);
  const manager = await nats.jetstreamManager();
  const stream = api.prefix.toUpperCase();
  const subjectOf = async (version: string) =>
    (await manager.streams.getMessage(stream, { seq: Number(version) })).subject;
  t.match(await subjectOf(observed.body.metadata.resourceVersion), /\.observed\.apps\.deployments\.default\.planes$/);
  t.match(await subjectOf(wanted.body.metadata.resourceVersion), /\.desired\.apps\.deployments\.default\.planes$/);
  const message = await manager.streams.getMessage(stream, { seq: Number(wanted.body.metadata.resourceVersion) });
  t.notOk(JSON.parse(new TextDecoder().decode(message.data)).metadata.resourceVersion, 'the sequence is it');
});

t.test('dry runs answer as if, and write nothing', async (t) => {
  await api.post(CONFIG_MAPS, configMap('dry'));
  const before = await api.lastSequence();
  const made = await api.post(`${CONFIG_MAPS}?dryRun=All`, configMap('drynew'));
  t.equal(made.status, 201);
  t.ok(made.body.metadata.uid);
  t.strictSame((await api.put(`${CONFIG_MAPS}/dry?dryRun=All`, configMap('dry', { z: '1' }))).body.data, { z: '1' });
  t.strictSame((await api.patch(`${CONFIG_MAPS}/dry?dryRun=All`, 'merge', { data: { y: '1' } })).body.data, {
    a: '1',
    y: '1',
  });
  t.equal(
    (await api.patch(`${CONFIG_MAPS}/dryapply?dryRun=All&fieldManager=x`, 'apply', configMap('dryapply'))).status,
    201,
  );
  t.equal((await api.delete(`${CONFIG_MAPS}/dry?dryRun=All`)).status, 200);
  t.equal((await api.delete(`${CONFIG_MAPS}?dryRun=All`)).status, 200);
  t.match((await api.post(`${CONFIG_MAPS}?dryRun=All`, configMap('dry'))).body, { reason: 'AlreadyExists' });
  t.match((await api.post(`${CONFIG_MAPS}?dryRun=Some`, configMap('drynew'))).body, {
    reason: 'Invalid',
    message: /dryRun: Unsupported value: "Some"/,
  });
  t.equal(await api.lastSequence(), before);
});

t.test('field validation', async (t) => {
  const wrong = { ...deployment('fields'), spec: { ...deployment('fields').spec, replicaz: 3 }, extra: 1 };
  const strict = await api.post(`${DEPLOYMENTS}?fieldValidation=Strict`, wrong);
  t.match(strict.body, {
    code: 400,
    reason: 'BadRequest',
    message:
      /strict decoding error: unknown field "extra".*unknown field "spec.replicaz"|unknown field "spec.replicaz".*unknown field "extra"/,
  });
  t.match(strict.body.message, /spec\.replicas/, 'says what was probably meant');
  const warned = await api.post(DEPLOYMENTS, wrong);
  t.equal(warned.status, 201);
  t.match(warned.headers['warning'], /299 - "unknown field .*replicaz/);
  t.notOk(warned.body.extra ?? warned.body.spec.replicaz);
  const ignored = await api.put(`${DEPLOYMENTS}/fields?fieldValidation=Ignore`, wrong);
  t.equal(ignored.status, 200);
  t.notOk(ignored.headers['warning']);
  t.match((await api.patch(`${DEPLOYMENTS}/fields?fieldValidation=Strict`, 'merge', { spec: { nope: 1 } })).body, {
    code: 400,
    message: /unknown field "spec.nope"/,
  });
  t.match(
    (await api.post(`${DEPLOYMENTS}?fieldValidation=Strict`, '{"metadata":{"name":"twice","name":"twice"}}')).body,
    { code: 400, message: /duplicate field "metadata.name"/ },
  );
  t.match((await api.post(`${DEPLOYMENTS}?fieldValidation=Maybe`, wrong)).body, {
    code: 422,
    reason: 'Invalid',
    message: /fieldValidation: Unsupported value: "Maybe"/,
  });
  const faulty = await api.post(DEPLOYMENTS, {
    ...deployment('Bad_Name'),
    spec: { ...deployment('x').spec, replicas: -1, selector: { matchLabels: { other: 'x' } } },
  });
  t.equal(faulty.body.code, 422);
  const fields = faulty.body.details.causes.map(({ field }: Json) => field);
  for (const field of ['metadata.name', 'spec.replicas', 'spec.template.metadata.labels'])
    t.ok(fields.includes(field), `${field} is among all the faults`);
});

t.test('who wrote, and why, is on the record', async (t) => {
  const { body } = await api.post(CONFIG_MAPS, configMap('caused'), {
    user: 'system:controller:serviceaccounts',
    headers: { 'reckon-cause': '3,4', 'audit-id': 'abc' },
  });
  const nats = await natsOf(t, api);
  const manager = await nats.jetstreamManager();
  const { header } = await manager.streams.getMessage(api.prefix.toUpperCase(), {
    seq: Number(body.metadata.resourceVersion),
  });
  const values = [...header].map(([, all]) => all.join());
  for (const value of ['system:controller:serviceaccounts', '3,4', 'abc', body.metadata.uid, 'create'])
    t.ok(values.includes(value), value);
  t.match((await api.post(CONFIG_MAPS, configMap('x'), { headers: { 'reckon-cause': 'because' } })).body, {
    code: 400,
    message: /Reckon-Cause/,
  });
  t.equal((await api.post(CONFIG_MAPS, configMap('x'), { user: null })).status, 403);
});
