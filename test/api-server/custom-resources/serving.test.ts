/**
 * Custom kinds as kubectl and other clients use them: from the definition to objects on every API server, printed, selected, scaled, explained, and gone with all that was of them.
 */
import t from 'tap';
import { conditionOf, CRDS, establish, established, startCustomApi, until } from './custom-cluster.ts';
import { crd, GROUP, object, version } from './custom-kinds.ts';

t.setTimeout(600_000);

const api = await startCustomApi(t);
const other = await api.another();
const crontabs = `/apis/${GROUP}/v1/namespaces/default/crontabs`;
const crontab = (name: string, spec: object = { cronSpec: '* * * * */5' }, more: object = {}) => ({
  apiVersion: `${GROUP}/v1`,
  kind: 'CronTab',
  metadata: { name },
  spec,
  ...more,
});

t.test('from a definition to objects, on every API server', async (t) => {
  const definition = crd({
    names: { shortNames: ['ct'], categories: ['all'] },
    spec: object(
      {
        cronSpec: {
          type: 'string',
          description: 'When it runs.',
          pattern: '^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$',
        },
        image: { type: 'string', default: 'busybox' },
        replicas: { type: 'integer', minimum: 1, maximum: 10, default: 1 },
        color: { type: 'string' },
        note: { type: 'string', nullable: true, default: 'none' },
        ports: {
          type: 'array',
          'x-kubernetes-list-type': 'map',
          'x-kubernetes-list-map-keys': ['port'],
          items: object({ port: { type: 'integer' }, name: { type: 'string' } }, { required: ['port'] }),
        },
        tags: { type: 'array', 'x-kubernetes-list-type': 'set', items: { type: 'string' } },
      },
      { required: ['cronSpec'] },
    ),
    status: object({ replicas: { type: 'integer' }, selector: { type: 'string' }, phase: { type: 'string' } }),
    version: {
      subresources: {
        status: {},
        scale: {
          specReplicasPath: '.spec.replicas',
          statusReplicasPath: '.status.replicas',
          labelSelectorPath: '.status.selector',
        },
      },
      additionalPrinterColumns: [
        { name: 'Spec', type: 'string', jsonPath: '.spec.cronSpec', description: 'The cron spec.' },
        { name: 'Replicas', type: 'integer', jsonPath: '.spec.replicas' },
        { name: 'Tags', type: 'string', jsonPath: '.spec.tags', priority: 1 },
        { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
      ],
      selectableFields: [{ jsonPath: '.spec.color' }],
    },
  });
  t.equal((await api.get(crontabs)).status, 404, 'before there is a definition there is no such resource');
  const before = await api.get('/openapi/v3');
  await api.kubectl('apply -f -', { input: definition });
  await api.kubectl(`wait --for=condition=established --timeout=20s crd/crontabs.${GROUP}`);
  t.equal((await other.get(crontabs)).status, 200, 'what one API server has established, the other serves');
  const made = (await api.get(`${CRDS}/crontabs.${GROUP}`)).body;
  t.match(made, {
    spec: { names: { singular: 'crontab', listKind: 'CronTabList' } },
    status: {
      storedVersions: ['v1'],
      acceptedNames: { plural: 'crontabs', kind: 'CronTab', shortNames: ['ct'], categories: ['all'] },
    },
  });
  t.match(conditionOf(made, 'NamesAccepted'), { status: 'True', reason: 'NoConflicts', message: 'no conflicts found' });

  const first = await api.post(crontabs, crontab('first', { cronSpec: '* * * * */5', strange: true, color: 'blue' }));
  t.equal(first.status, 201);
  t.same(
    first.body.spec,
    { cronSpec: '* * * * */5', color: 'blue', image: 'busybox', replicas: 1, note: 'none' },
    'pruned and defaulted',
  );
  t.match(first.headers.warning, /unknown field \\"spec.strange\\"/);
  const bad = await api.post(crontabs, crontab('bad', { cronSpec: 'x', replicas: 0, image: 3, tags: ['a', 'a'] }));
  t.equal(bad.status, 422);
  t.strictSame(
    bad.body.details.causes.map(({ reason, field }: { reason: string; field: string }) => [reason, field]),
    [
      ['FieldValueInvalid', 'spec.cronSpec'],
      ['FieldValueInvalid', 'spec.replicas'],
      ['FieldValueTypeInvalid', 'spec.image'],
      ['FieldValueDuplicate', 'spec.tags[1]'],
    ],
    'every fault at once',
  );
  const misspelt = await api.post(
    `${crontabs}?fieldValidation=Strict`,
    crontab('bad', { cronSpec: '* * * * *', imag: 'a' }),
  );
  t.match(misspelt.body.message, 'unknown field "spec.imag" (did you mean "spec.image"?)');

  t.match(await api.kubectl('get ct'), /^NAME +SPEC +REPLICAS +AGE\nfirst +\* \* \* \* \*\/5 +1 +\d+s\n$/);
  t.match(await api.kubectl('get crontab -o wide'), /^NAME +SPEC +REPLICAS +TAGS +AGE\nfirst +\S.* +1 +\d+s\n$/);
  t.match(await api.kubectl('get all'), /crontab.stable.example.com\/first/);
  t.match(await api.kubectl('explain ct.spec.cronSpec'), /FIELD: cronSpec <string>[^]*When it runs\./);
  t.match(
    await api.kubectl(`api-resources --api-group=${GROUP}`),
    /crontabs +ct +stable.example.com\/v1 +true +CronTab/,
  );
  const openApi = await api.get(`/openapi/v3/apis/${GROUP}/v1`);
  t.match(openApi.body.components.schemas['com.example.stable.v1.CronTab'], {
    properties: { spec: { properties: { ports: { 'x-kubernetes-list-type': 'map' } } } },
    'x-kubernetes-group-version-kind': [{ group: GROUP, version: 'v1', kind: 'CronTab' }],
  });
  t.not((await api.get('/openapi/v3')).headers.etag, before.headers.etag, 'documents that change change their ETag');
  t.ok((await api.get('/openapi/v2')).body.definitions['com.example.stable.v1.CronTab']);

  await api.post(crontabs, crontab('red', { cronSpec: '1 * * * *', color: 'red' }));
  t.match(await api.kubectl('get ct --field-selector spec.color=red -o name'), /^crontab.stable.example.com\/red\n$/);
  t.match(
    await other.kubectl('get ct --field-selector spec.color!=red -o name'),
    /^crontab.stable.example.com\/first\n$/,
  );
  t.match(
    (await api.get(`${crontabs}?fieldSelector=spec.image%3Da`)).body.message,
    /field label not supported: spec.image/,
  );
});

t.test('status and scale are written by themselves', async (t) => {
  const path = `${crontabs}/first`;
  const standing = (await api.get(path)).body;
  t.equal(standing.metadata.generation, 1);
  const sneaked = await api.patch(path, 'merge', { status: { phase: 'Done' } });
  t.equal(sneaked.body.status, undefined, 'the main resource does not write the status');
  const told = await api.patch(`${path}/status`, 'merge', {
    status: { phase: 'Running', replicas: 1, selector: 'app=first', strange: 1 },
    spec: { replicas: 9 },
  });
  t.same(told.body.status, { phase: 'Running', replicas: 1, selector: 'app=first' });
  t.equal(told.body.spec.replicas, 1);
  t.equal(told.body.metadata.generation, 1, 'a status is not counted');
  t.match(await api.kubectl('scale ct first --replicas=3'), /scaled/);
  const scale = await api.get(`${path}/scale`);
  t.match(scale.body, { kind: 'Scale', spec: { replicas: 3 }, status: { replicas: 1, selector: 'app=first' } });
  t.match(
    await api.kubectl('get ct first --subresource=scale'),
    /^NAME +DESIRED +AVAILABLE +AGE\nfirst +3 +1 +\d+s\n$/,
  );
  const scaled = (await api.get(path)).body;
  t.equal(scaled.spec.replicas, 3);
  t.equal(scaled.metadata.generation, 2);
  const tooMany = await api.patch(`${path}/scale`, 'merge', { spec: { replicas: 11 } });
  t.equal(tooMany.status, 422, 'the kind judges a scale too');
});

t.test('patches and field ownership follow the schema', async (t) => {
  const strategic = await api.patch(`${crontabs}/first`, 'strategic', { spec: { image: 'a' } });
  t.equal(strategic.status, 415);
  const config = (port: number, name: string, tag: string) =>
    crontab('applied', { cronSpec: '* * * * *', ports: [{ port, name }], tags: [tag] });
  const apply = (manager: string, body: object) =>
    api.patch(`${crontabs}/applied?fieldManager=${manager}`, 'apply', body);
  t.equal((await apply('one', config(80, 'web', 'a'))).status, 201);
  const both = await apply('two', config(443, 'tls', 'b'));
  t.equal(both.status, 200);
  t.same(both.body.spec.ports, [
    { port: 80, name: 'web' },
    { port: 443, name: 'tls' },
  ]);
  t.same(both.body.spec.tags, ['a', 'b']);
  const conflict = await apply('two', config(80, 'other', 'b'));
  t.equal(conflict.status, 409);
  t.match(conflict.body.details.causes, [{ reason: 'FieldManagerConflict', field: '.spec.ports[port=80].name' }]);
  const noted = await apply('three', crontab('applied', { note: null }));
  t.equal(noted.body.spec.note, null, 'a null that the schema takes is a value');
  t.equal((await apply('two', config(443, 'tls', 'b'))).body.spec.note, null, 'and stays one');
  const gone = await apply('two', crontab('applied', { cronSpec: '* * * * *' }));
  t.same(gone.body.spec.ports, [{ port: 80, name: 'web' }], 'what one manager gives up, the other keeps its own of');
  const applied = await api.kubectl('apply --server-side --field-manager=one --force-conflicts -f -', {
    input: config(81, 'x', 'a'),
  });
  t.match(applied, /serverside-applied/);
  const edited = await api.kubectl('apply -f -', {
    input: crontab('client-side', { cronSpec: '* * * * *', color: 'red' }),
  });
  t.match(edited, /created/);
  await api.kubectl('apply -f -', { input: crontab('client-side', { cronSpec: '* * * * *' }) });
  t.equal(
    (await api.get(`${crontabs}/client-side`)).body.spec.color,
    undefined,
    'kubectl apply removes what it no longer says',
  );
});

t.test('several in one transaction', async (t) => {
  const one = (name: string, color: string) => {
    const { metadata, ...rest } = crontab(name, { cronSpec: '* * * * *', color });
    return { ...rest, metadata: { ...metadata, namespace: 'default' } };
  };
  const transact = (...operations: object[]) =>
    api.post('/apis/log.reckon.dev/v1/transactions?fieldManager=one', { operations });
  const both = await transact(
    { verb: 'create', object: one('left', 'red') },
    { verb: 'apply', object: one('right', 'red') },
  );
  t.equal(both.status, 200);
  t.same((await other.get(`${crontabs}/right`)).body.spec.image, 'busybox', 'defaulted like any other');
  const target = { apiVersion: `${GROUP}/v1`, kind: 'CronTab', namespace: 'default', name: 'left' };
  const none = await transact(
    { verb: 'delete', target: { ...target, name: 'right' } },
    { verb: 'patch', target, patchType: 'merge', patch: { spec: { replicas: 11 } } },
  );
  t.match(none.body.details.causes, [{ field: 'operations[1].spec.replicas' }]);
  t.equal((await transact({ verb: 'patch', target, patchType: 'strategic', patch: {} })).status, 415);
  t.equal((await api.get(`${crontabs}/right`)).status, 200, 'all or none');
});

t.test('watches, tables and partial objects', async (t) => {
  const watch = await other.watch(`${crontabs}?watch=true&resourceVersion=0&fieldSelector=spec.color%3Dgreen`);
  await api.post(crontabs, crontab('green', { cronSpec: '* * * * *', color: 'green' }));
  await api.patch(`${crontabs}/green`, 'merge', { spec: { color: 'blue' } });
  const events = await watch.until(2);
  t.strictSame(
    events.map(({ type }) => type),
    ['ADDED', 'DELETED'],
    'a selectable field turns changes into comings and goings',
  );
  watch.stop();
  const table = await api.watch(`${crontabs}?watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dgreen`, {
    accept: 'application/json;as=Table;g=meta.k8s.io;v=v1',
  });
  const [row] = await table.until(1);
  t.same(row?.object.rows[0].cells.slice(0, 3), ['green', '* * * * *', 1]);
  table.stop();
  const partial = await api.get(crontabs, {
    accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
  });
  t.match(partial.body, { kind: 'PartialObjectMetadataList', items: [{ metadata: { name: 'applied' } }] });
  const protobuf = await api.get(`${crontabs}/green`, {
    accept: 'application/vnd.kubernetes.protobuf,application/json',
  });
  t.equal(protobuf.headers['content-type'], 'application/json');
});

t.test('a definition that ends takes its objects along, and whoever holds one holds the definition', async (t) => {
  await api.patch(`${crontabs}/first`, 'merge', { metadata: { finalizers: ['test.example.com/hold'] } });
  t.equal((await api.delete(`${CRDS}/crontabs.${GROUP}`)).status, 200);
  const watching = await api.watch(`${crontabs}?watch=true`);
  const held = await until(
    async () => (await api.get(`${CRDS}/crontabs.${GROUP}`)).body,
    (found) => conditionOf(found, 'Terminating')?.reason === 'InstanceDeletionInProgress',
  );
  t.same(held.metadata.finalizers, ['customresourcecleanup.apiextensions.k8s.io']);
  const refused = await other.post(crontabs, crontab('late'));
  t.equal(refused.status, 405);
  t.match(refused.body.message, /create not allowed while custom resource definition is terminating/);
  await until(
    async () => (await other.get(crontabs)).body.items.length,
    (count) => count === 1,
  );
  await api.patch(`${crontabs}/first`, 'merge', { metadata: { finalizers: null } });
  await until(
    async () => (await api.get(`${CRDS}/crontabs.${GROUP}`)).status,
    (status) => status === 404,
  );
  await watching.ended;
  for (const server of [api, other]) {
    t.equal((await server.get(crontabs)).status, 404);
    t.notMatch((await server.get('/apis')).body, { groups: [{ name: GROUP }] });
  }
  t.match(
    (await api.tryKubectl('get ct')).stderr,
    /doesn't have a resource type "ct"|could not find the requested resource/,
  );
  await establish(api, crd());
  t.same((await api.get(crontabs)).body.items, [], 'the kind that comes again is empty');
});

t.test('names belong to who asked first', async (t) => {
  const taken = crd({ plural: 'crons', kind: 'CronTab', names: { shortNames: ['cr'] } });
  await api.post(CRDS, taken);
  const waiting = await until(
    async () => (await api.get(`${CRDS}/crons.${GROUP}`)).body,
    (found) => conditionOf(found, 'NamesAccepted') !== undefined,
  );
  t.match(conditionOf(waiting, 'NamesAccepted'), {
    status: 'False',
    reason: 'SingularConflict',
    message: /"CronTab" is already in use/,
  });
  t.match(conditionOf(waiting, 'Established'), { status: 'False', reason: 'NotAccepted' });
  t.equal((await api.get(`/apis/${GROUP}/v1/crons`)).status, 404);
  await api.delete(`${CRDS}/crontabs.${GROUP}`);
  await established(api, `crons.${GROUP}`);
  t.equal(
    (await api.get(`/apis/${GROUP}/v1/crons`)).status,
    200,
    'names that are let go are given to who waits for them',
  );
});

t.test('outside of namespaces, from a manifest as generators write them', async (t) => {
  const name = `planets.${GROUP}`;
  const definition = crd({
    plural: 'planets',
    kind: 'Planet',
    scope: 'Cluster',
    spec: object({
      moons: { type: 'array', items: object({ name: { type: 'string' }, size: { type: 'integer' } }) },
    }),
    version: {
      additionalPrinterColumns: [
        { name: 'Last', type: 'string', jsonPath: '.spec.moons[-1:].name' },
        { name: 'Big', type: 'string', jsonPath: '.spec.moons[?(@.size>5)].name' },
        { name: 'Label', type: 'string', jsonPath: ".metadata.labels['a.b/c']" },
        { name: 'Any', type: 'integer', jsonPath: '..size' },
      ],
    },
  });
  const generated = {
    ...definition,
    metadata: { ...definition.metadata, creationTimestamp: null },
    status: { acceptedNames: { kind: '', plural: '' }, conditions: [], storedVersions: [] },
  };
  await api.kubectl('apply -f -', { input: generated });
  await established(api, name);
  const before = (await api.get(`${CRDS}/${name}`)).body;
  t.strictSame(before.status.storedVersions, ['v1'], 'a status in the manifest is not heeded');
  await api.kubectl('apply -f -', { input: generated });
  t.strictSame((await api.get(`${CRDS}/${name}`)).body, before, 'applied again, nothing changes');
  const planets = `/apis/${GROUP}/v1/planets`;
  const moons = [
    { name: 'io', size: 3 },
    { name: 'callisto', size: 9 },
    { name: 'europa', size: 4 },
  ];
  const made = await api.post(planets, {
    apiVersion: `${GROUP}/v1`,
    kind: 'Planet',
    metadata: { name: 'jupiter', labels: { 'a.b/c': 'x' } },
    spec: { moons },
  });
  t.equal(made.status, 201);
  t.equal(made.body.metadata.namespace, undefined);
  t.match(await api.kubectl('get planets'), /^NAME +LAST +BIG +LABEL +ANY\njupiter +europa +callisto +x +3\n$/);
  t.equal((await api.get(`/apis/${GROUP}/v1/namespaces/default/planets`)).status, 404);
  await api.delete(`${CRDS}/${name}`);
});

t.test('several versions', async (t) => {
  const spec = object({ size: { type: 'integer' } });
  const newer = object({ size: { type: 'integer', default: 5 }, shape: { type: 'string', default: 'round' } });
  const name = `widgets.${GROUP}`;
  const both = (storage: 'v1' | 'v2', served: { v1: boolean; v2: boolean }) =>
    crd({
      plural: 'widgets',
      kind: 'Widget',
      versions: [
        { ...version('v1', { spec }, storage === 'v1'), served: served.v1, deprecated: true },
        { ...version('v2', { spec: newer }, storage === 'v2'), served: served.v2 },
      ],
    });
  const widget = (v: string, name: string, given: object) => ({
    apiVersion: `${GROUP}/${v}`,
    kind: 'Widget',
    metadata: { name },
    spec: given,
  });
  const path = (v: string, name = '') => `/apis/${GROUP}/${v}/namespaces/default/widgets${name && `/${name}`}`;
  await establish(api, both('v1', { v1: true, v2: true }));
  const old = await api.post(path('v1'), widget('v1', 'old', { size: 1 }));
  t.match(old.headers.warning, /stable.example.com\/v1 Widget is deprecated/);
  t.match(
    (await api.get(path('v2', 'old'))).body,
    { apiVersion: `${GROUP}/v2`, spec: { size: 1, shape: 'round' } },
    'read by the other version, and its defaults',
  );
  t.same((await api.get(path('v1', 'old'))).body.spec, { size: 1 });
  await api.post(path('v2'), widget('v2', 'new', { size: 2 }));
  t.match((await api.get(path('v1', 'new'))).body, { apiVersion: `${GROUP}/v1`, spec: { size: 2 } });
  t.equal((await api.get(path('v1'))).body.items.length, 2);
  t.match((await api.get(`/apis/${GROUP}`)).body.preferredVersion, { version: 'v2' });

  await api.patch(`${CRDS}/${name}`, 'merge', { spec: both('v2', { v1: false, v2: true }).spec });
  await until(
    async () => (await other.get(path('v1'))).status,
    (status) => status === 404,
  );
  t.match(
    (await other.get(path('v2', 'old'))).body.spec,
    { size: 1, shape: 'round' },
    'what was stored in the old version is read in the new one',
  );
  const stored = (await api.get(`${CRDS}/${name}`)).body.status.storedVersions;
  t.same(stored, ['v1', 'v2']);
  const dropped = { spec: { versions: both('v2', { v1: false, v2: true }).spec.versions.slice(1) } };
  const refused = await api.patch(`${CRDS}/${name}`, 'merge', dropped);
  t.match(refused.body, { reason: 'Invalid', details: { causes: [{ field: 'status.storedVersions[0]' }] } });
  const same = (await api.get(path('v2', 'old'))).body;
  const rewritten = await api.put(path('v2', 'old'), same);
  t.not(
    rewritten.body.metadata.resourceVersion,
    same.metadata.resourceVersion,
    'a write that changes nothing brings it into the new version',
  );
  t.equal(
    (await api.put(path('v2', 'old'), rewritten.body)).body.metadata.resourceVersion,
    rewritten.body.metadata.resourceVersion,
  );
  await api.patch(`${CRDS}/${name}/status`, 'merge', { status: { storedVersions: ['v2'] } });
  t.equal((await api.patch(`${CRDS}/${name}`, 'merge', dropped)).status, 200);
});
