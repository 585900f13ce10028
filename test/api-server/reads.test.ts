/** Reads and watches: pages, selectors, versions, forms; every event once and in order, for whoever watches from wherever. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { parse } from 'yaml';
import { decodeProtobuf } from '../../api-server/codec/protobuf.ts';
import { loadRegistry } from '../../api-schemas/registry.ts';
import { configMap, deployment, natsOf, pod, startApi, type Api, type Json, type WatchEvent } from './api.ts';

const NAMESPACES = '/api/v1/namespaces';
const PROTOBUF = 'application/vnd.kubernetes.protobuf';
const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
const PARTIAL = 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io';
const PARTIAL_LIST = 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io';

let api: Api;
t.before(async () => {
  api = await startApi(t);
});

/** A namespace of one's own, and the path of its config maps. */
async function space(name: string): Promise<string> {
  await api.post(NAMESPACES, { metadata: { name } });
  return `${NAMESPACES}/${name}/configmaps`;
}
const names = ({ body }: { body: Json }): string[] => body.items.map(({ metadata }: Json) => metadata.name);
const story = (events: readonly WatchEvent[]) => events.map(({ type, object }) => `${type} ${object.metadata.name}`);

t.test('a paged list is one snapshot, whatever happens between its pages', async (t) => {
  const path = await space('pages');
  for (let index = 0; index < 10; index++) await api.post(path, configMap(`m${index}`));
  const first = await api.get(`${path}?limit=4`);
  t.strictSame(names(first), ['m0', 'm1', 'm2', 'm3']);
  t.equal(first.body.metadata.remainingItemCount, 6);
  await api.delete(`${path}/m5`);
  await api.post(path, configMap('m55'));
  await api.patch(`${path}/m6`, 'merge', { data: { a: 'changed' } });
  const second = await api.get(`${path}?limit=4&continue=${first.body.metadata.continue}`);
  t.strictSame(names(second), ['m4', 'm5', 'm6', 'm7']);
  t.equal(second.body.items[2].data.a, '1');
  t.equal(second.body.metadata.resourceVersion, first.body.metadata.resourceVersion);
  const third = await api.get(`${path}?limit=4&continue=${second.body.metadata.continue}`);
  t.strictSame(names(third), ['m8', 'm9']);
  t.notOk(third.body.metadata.continue);
  t.strictSame(names(await api.get(path)), ['m0', 'm1', 'm2', 'm3', 'm4', 'm55', 'm6', 'm7', 'm8', 'm9']);
  t.match((await api.get(`${path}?limit=4&continue=nonsense`)).body, { code: 400, reason: 'BadRequest' });
  t.match(
    (await api.get(`${NAMESPACES}/default/secrets?limit=4&continue=${first.body.metadata.continue}`)).body,
    { code: 400 },
    'the token of one list does not open another',
  );
  t.match((await api.get(`${path}?limit=some`)).body, { code: 400 });
});

t.test('selectors', async (t) => {
  const path = await space('selected');
  await api.post(path, configMap('a', {}, { labels: { app: 'web', tier: 'front', rank: '1' } }));
  await api.post(path, configMap('b', {}, { labels: { app: 'web', tier: 'back', rank: '2' } }));
  await api.post(path, configMap('c', {}, { labels: { app: 'db' } }));
  await api.post(path, configMap('d'));
  const selected = async (selector: string) =>
    names(await api.get(`${path}?labelSelector=${encodeURIComponent(selector)}`)).join('');
  for (const [selector, expected] of [
    ['app=web', 'ab'],
    ['app==web,tier!=back', 'a'],
    ['app!=web', 'cd'],
    ['app in (web, db)', 'abc'],
    ['app notin (web)', 'cd'],
    ['tier', 'ab'],
    ['!app', 'd'],
    ['app,!tier', 'c'],
    ['rank>1', 'b'],
    ['rank<2', 'a'],
    ['', 'abcd'],
  ] as const)
    t.equal(await selected(selector), expected, selector);
  t.match((await api.get(`${path}?labelSelector=${encodeURIComponent('app in web')}`)).body, {
    code: 400,
    message: /unable to parse requirement/,
  });
  for (const [selector, message] of [
    ['app!=b_', /^unable to parse requirement: values\[0\]\[app\]: Invalid value: "b_": a valid label must be/],
    ['-a=b', /^unable to parse requirement: key: Invalid value: "-a": name part must consist of/],
    ['a in (b_, c_)', /^unable to parse requirement: \[values\[0\]\[a\]: .*, values\[1\]\[a\]: /],
    ['rank>x', /for 'Gt', 'Lt' operators, the value must be an integer$/],
  ] as const)
    for (const method of ['GET', 'DELETE'])
      t.match(
        (await api.request(method, `${path}?labelSelector=${encodeURIComponent(selector)}`)).body,
        { code: 400, message },
        `${method} ${selector}`,
      );
  t.strictSame(names(await api.get(`${path}?fieldSelector=metadata.name=b`)), ['b']);
  t.strictSame(names(await api.get(`${path}?fieldSelector=metadata.name!=b`)), ['a', 'c', 'd']);
  t.strictSame(names(await api.get('/api/v1/configmaps?fieldSelector=metadata.namespace=selected')), [
    'a',
    'b',
    'c',
    'd',
  ]);
  t.match((await api.get(`${path}?fieldSelector=data.a=1`)).body, {
    code: 400,
    message: /field label not supported: data.a/,
  });
  const pods = `${NAMESPACES}/selected/pods`;
  await api.post(pods, pod('one', { nodeName: 'n1' }));
  await api.post(pods, pod('two'));
  t.strictSame(names(await api.get(`${pods}?fieldSelector=spec.nodeName=n1,status.phase=Pending`)), ['one']);
  t.strictSame(names(await api.get(`${pods}?fieldSelector=spec.nodeName=`)), ['two']);
  const secrets = `${NAMESPACES}/selected/secrets`;
  await api.post(secrets, { metadata: { name: 'odd' }, type: 'a,b=c' });
  t.strictSame(names(await api.get(`${secrets}?fieldSelector=type=a\\,b\\=c,,`)), ['odd'], 'escaped as in Kubernetes');
  t.match((await api.get(`${secrets}?fieldSelector=type=a=b`)).body, { code: 400, message: /with a backslash/ });
});

t.test('which version is read', async (t) => {
  const path = await space('versions');
  const { body } = await api.post(path, configMap('x'));
  const version = Number(body.metadata.resourceVersion);
  t.equal((await api.get(`${path}/x?resourceVersion=0`)).body.metadata.uid, body.metadata.uid);
  t.equal((await api.get(`${path}/x?resourceVersion=${version}`)).status, 200);
  const future = await api.get(`${path}?resourceVersion=${version + 1_000_000}`);
  t.match(future.body, { code: 504, reason: 'Timeout', details: { causes: [{ reason: 'ResourceVersionTooLarge' }] } });
  t.ok(future.headers['retry-after']);
  t.match((await api.get(`${path}/x?resourceVersion=new`)).body, { code: 400 });
  t.match((await api.get(`${path}?resourceVersionMatch=Exact`)).body, {
    code: 422,
    reason: 'Invalid',
    message: /resourceVersionMatch is forbidden unless resourceVersion is provided/,
  });
  t.match((await api.get(`${path}?resourceVersion=5&resourceVersionMatch=Sideways`)).body, {
    code: 422,
    message: /Unsupported value: "Sideways"/,
  });
  t.match(
    (await api.get(`${path}?resourceVersion=1&resourceVersionMatch=Exact`)).body,
    { code: 410, reason: 'Expired' },
    'without a history only the present can be read exactly',
  );
  const list = await api.get(path);
  t.ok(Number(list.body.metadata.resourceVersion) >= version);
  t.strictSame(
    names(
      await api.get(`${path}?resourceVersion=${list.body.metadata.resourceVersion}&resourceVersionMatch=NotOlderThan`),
    ),
    ['x'],
  );
  const empty = await api.get(`${NAMESPACES}/nowhere/configmaps`);
  t.equal(empty.status, 200);
  t.match(empty.body, { kind: 'ConfigMapList', apiVersion: 'v1', items: [] });
  t.match((await api.get(`${NAMESPACES}/nowhere/configmaps/x`)).body, {
    code: 404,
    message: 'configmaps "x" not found',
  });
});

t.test('forms: table, metadata alone, YAML, protobuf, HEAD', async (t) => {
  const path = await space('forms');
  await api.post(path, configMap('x', { a: '1', b: '2' }));
  const table = await api.get(path, { accept: TABLE });
  t.match(table.body, {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    columnDefinitions: [{ name: 'Name' }, { name: 'Data' }, { name: 'Age' }],
    rows: [{ cells: ['x', 2], object: { kind: 'PartialObjectMetadata', metadata: { name: 'x' } } }],
  });
  t.match((await api.get(`${path}/x?includeObject=Object`, { accept: TABLE })).body.rows[0].object, {
    kind: 'ConfigMap',
    data: { a: '1' },
  });
  t.notOk((await api.get(`${path}?includeObject=None`, { accept: TABLE })).body.rows[0].object);
  const partial = (await api.get(`${path}/x`, { accept: PARTIAL })).body;
  t.match(partial, { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: { name: 'x' } });
  t.notOk(partial.data);
  t.match((await api.get(path, { accept: PARTIAL_LIST })).body, {
    kind: 'PartialObjectMetadataList',
    items: [{ metadata: { name: 'x' } }],
  });
  const yaml = await api.get(`${path}/x`, { accept: 'application/yaml' });
  t.equal(yaml.headers['content-type'], 'application/yaml');
  t.strictSame(parse(yaml.text).data, { a: '1', b: '2' });
  t.equal((await api.get(`${path}/x`, { accept: 'image/png' })).status, 406);
  const head = await api.request('HEAD', `${path}/x`);
  t.ok([200, 405].includes(head.status));
  t.equal(head.text, '');

  const registry = loadRegistry();
  const raw = (target: string) =>
    new Promise<Buffer>((resolve, reject) => {
      void import('node:https').then(({ get }) => {
        const { cert, key } = api.credentials('admin');
        get(
          {
            host: '127.0.0.1',
            port: api.port,
            path: target,
            cert,
            key,
            rejectUnauthorized: false,
            headers: { accept: PROTOBUF },
          },
          (response) => {
            const chunks: Buffer[] = [];
            response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => resolve(Buffer.concat(chunks)));
            t.equal(response.headers['content-type'], PROTOBUF);
          },
        ).on('error', reject);
      });
    });
  const object = decodeProtobuf(await raw(`${path}/x`), registry) as Json;
  t.match(object, { kind: 'ConfigMap', metadata: { name: 'x', namespace: 'forms' }, data: { a: '1', b: '2' } });
  const list = decodeProtobuf(await raw(path), registry) as Json;
  t.match(list, { kind: 'ConfigMapList', items: [{ metadata: { name: 'x' }, data: { a: '1' } }] });
});

t.test('a watch from now, from a past version, and from the beginning', async (t) => {
  const path = await space('watched');
  const before = await api.post(path, configMap('old'));
  const { body: list } = await api.get(path);
  const now = await api.watch(`${path}?watch=1&resourceVersion=${list.metadata.resourceVersion}`);
  await api.post(path, configMap('new'));
  await api.patch(`${path}/new`, 'merge', { data: { a: '2' } });
  await api.patch(`${path}/new`, 'merge', { data: { a: '2' } });
  const { body: gone } = await api.get(`${path}/new`);
  await api.delete(`${path}/new`);
  const events = await now.until(3);
  t.strictSame(story(events), ['ADDED new', 'MODIFIED new', 'DELETED new']);
  t.strictSame(events[1]?.object, gone, 'a watch shows what a get shows');
  t.ok(
    Number(events[2]?.object.metadata.resourceVersion) > Number(gone.metadata.resourceVersion),
    'a deletion has a version of its own',
  );
  t.equal(String(await api.lastSequence()), events[2]?.object.metadata.resourceVersion);

  const past = await api.watch(`${path}?watch=true&resourceVersion=${before.body.metadata.resourceVersion}`);
  t.strictSame(story(await past.until(3)), ['ADDED new', 'MODIFIED new', 'DELETED new']);
  const all = await api.watch(`${path}?watch=true`);
  t.strictSame(story(await all.until(1)), ['ADDED old']);
  const first = await api.watch(`${path}?watch=true&resourceVersion=1`);
  t.strictSame(story(await first.until(4)), ['ADDED old', 'ADDED new', 'MODIFIED new', 'DELETED new']);
  first.stop();
  const late = await api.another();
  const older = await late.watch(`${path}?watch=true&resourceVersion=1`);
  await older.until(1);
  t.match(
    older.events[0],
    { type: 'ERROR', object: { code: 410, reason: 'Expired' } },
    'further back than memory reaches, and there is no history here',
  );
  await older.ended;
  for (const watch of [now, past, all]) watch.stop();
});

t.test('selectors turn changes into comings and goings; one object, one namespace, all namespaces', async (t) => {
  const path = await space('comings');
  await space('goings');
  const watches = await Promise.all([
    api.watch(`${path}?watch=1&labelSelector=on%3Dyes`),
    api.watch(`${path}?watch=1&fieldSelector=metadata.name=b`),
    api.watch(`${path}/b?watch=1`),
    api.watch(`/api/v1/configmaps?watch=1&labelSelector=across`),
  ]);
  const [labelled, field, single, across] = watches as [
    (typeof watches)[0],
    (typeof watches)[0],
    (typeof watches)[0],
    (typeof watches)[0],
  ];
  await api.post(path, configMap('a', {}, { labels: { across: '1' } }));
  await api.post(path, configMap('b', {}, { labels: { on: 'yes', across: '1' } }));
  await api.patch(`${path}/a`, 'merge', { metadata: { labels: { on: 'yes' } } });
  await api.patch(`${path}/b`, 'merge', { data: { x: '1' } });
  const off = await api.patch(`${path}/b`, 'merge', { metadata: { labels: { on: 'no' } } });
  await api.delete(`${path}/b`);
  await api.delete(`${path}/a`);
  await api.post(`${NAMESPACES}/goings/configmaps`, configMap('c', {}, { labels: { across: '1' } }));
  const seen = await labelled.until(5);
  t.strictSame(story(seen), ['ADDED b', 'ADDED a', 'MODIFIED b', 'DELETED b', 'DELETED a']);
  t.equal(seen[3]?.object.metadata.labels.on, 'yes', 'what leaves the selection is shown as it was there');
  t.equal(seen[3]?.object.metadata.resourceVersion, off.body.metadata.resourceVersion, 'and a watch goes on from then');
  t.strictSame(story(await field.until(4)), ['ADDED b', 'MODIFIED b', 'MODIFIED b', 'DELETED b']);
  t.strictSame(story(await single.until(4)), ['ADDED b', 'MODIFIED b', 'MODIFIED b', 'DELETED b']);
  t.strictSame(story(await across.until(8)), [
    'ADDED a',
    'ADDED b',
    'MODIFIED a',
    'MODIFIED b',
    'MODIFIED b',
    'DELETED b',
    'DELETED a',
    'ADDED c',
  ]);
  for (const watch of watches) watch.stop();
});

t.test('streaming lists, bookmarks, time-outs, tables', async (t) => {
  const path = await space('streaming');
  await api.post(path, configMap('a'));
  await api.post(path, configMap('b'));
  const stream = await api.watch(
    `${path}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=2`,
  );
  await stream.until(2);
  while (stream.events.length < 3) await sleep(10);
  t.match(stream.events[2], {
    type: 'BOOKMARK',
    object: { kind: 'ConfigMap', metadata: { annotations: { 'k8s.io/initial-events-end': 'true' } } },
  });
  t.ok(
    Number(stream.events[2]?.object.metadata.resourceVersion) >=
      Number(stream.events[1]?.object.metadata.resourceVersion),
  );
  const started = Date.now();
  await stream.ended;
  t.ok(Date.now() - started < 4_000, 'it ends when its time is up');
  t.match((await api.get(`${path}?watch=1&sendInitialEvents=true`)).body, {
    code: 422,
    reason: 'Invalid',
    message: /sendInitialEvents requires setting resourceVersionMatch/,
  });

  const { body: list } = await api.get(path);
  const table = await api.watch(`${path}?watch=1&resourceVersion=${list.metadata.resourceVersion}`, { accept: TABLE });
  const partial = await api.watch(`${path}?watch=1&resourceVersion=${list.metadata.resourceVersion}`, {
    accept: PARTIAL,
  });
  await api.post(path, configMap('c'));
  await api.patch(`${path}/c`, 'merge', { data: { z: '1' } });
  const rows = await table.until(2);
  t.match(rows[0], {
    type: 'ADDED',
    object: { kind: 'Table', columnDefinitions: [{ name: 'Name' }, {}, {}], rows: [{ cells: ['c', 1] }] },
  });
  t.match(rows[1], {
    type: 'MODIFIED',
    object: { kind: 'Table', columnDefinitions: null, rows: [{ cells: ['c', 2] }] },
  });
  const metas = await partial.until(2);
  t.match(metas[1], { type: 'MODIFIED', object: { kind: 'PartialObjectMetadata', metadata: { name: 'c' } } });
  t.notOk(metas[1]?.object.data);
  table.stop();
  partial.stop();
});

t.test('many watchers see the same, in order; a slow one holds up nobody', async (t) => {
  const path = await space('many');
  const { body: list } = await api.get(path);
  const target = `${path}?watch=1&resourceVersion=${list.metadata.resourceVersion}`;
  const watches = await Promise.all(Array.from({ length: 20 }, () => api.watch(target)));
  const slow = await api.watch(target);
  slow.pause();
  const filler = 'x'.repeat(20_000);
  await Promise.all(Array.from({ length: 100 }, (_, index) => api.post(path, configMap(`m${index}`, { filler }))));
  const all = await Promise.all(watches.map((watch) => watch.until(100)));
  const versions = all.map((events) => events.map(({ object }) => Number(object.metadata.resourceVersion)));
  for (const each of versions) t.strictSame(each, versions[0]);
  t.strictSame(
    versions[0],
    [...(versions[0] ?? [])].sort((a, b) => a - b),
  );
  slow.resume();
  t.strictSame(
    (await slow.until(100)).map(({ object }) => Number(object.metadata.resourceVersion)),
    versions[0],
    'and it misses nothing',
  );
  for (const watch of [...watches, slow]) watch.stop();
});

t.test('an initial state larger than any buffer still arrives', async (t) => {
  const path = await space('large');
  const filler = 'x'.repeat(900_000);
  for (let round = 0; round < 4; round++)
    await Promise.all(
      Array.from({ length: 10 }, (_, index) => api.post(path, configMap(`m${round}-${index}`, { filler }))),
    );
  const watch = await api.watch(`${path}?watch=1`);
  watch.pause();
  await sleep(500);
  await api.post(path, configMap('meanwhile'));
  watch.resume();
  const events = await watch.until(41, 30_000);
  t.equal(new Set(events.map(({ object }) => object.metadata.name)).size, 41);
  t.equal(events.at(-1)?.object.metadata.name, 'meanwhile');
  watch.stop();
});

t.test('reads reach the end of the log though its last records are gone', async (t) => {
  const nats = await natsOf(t, api);
  const manager = await nats.jetstreamManager();
  const stream = api.prefix.toUpperCase();
  const quick = async (target: string, says: string) => {
    const started = Date.now();
    t.equal((await api.get(target)).status, 200);
    t.ok(Date.now() - started < 5_000, `${says}: ${Date.now() - started} ms`);
  };
  const { body } = await api.post(`${NAMESPACES}/default/configmaps`, configMap('last'));
  await manager.streams.deleteMessage(stream, Number(body.metadata.resourceVersion));
  await quick(`${NAMESPACES}/default/configmaps`, 'the newest record was trimmed');
  await nats.request(`${api.prefix}.floor`, JSON.stringify({ floor: 1, previous: 1 }));
  await quick(`${NAMESPACES}/default/configmaps`, 'the newest record is a floor');
  const fresh = await api.another();
  const started = Date.now();
  t.equal((await fresh.get(`${NAMESPACES}/default/configmaps`)).status, 200);
  t.ok(Date.now() - started < 5_000, 'for a server that starts now, too');

  const passing = await startApi(t, { eventTtlSeconds: 1 });
  const events = `${NAMESPACES}/default/events`;
  const event = (name: string) => ({
    metadata: { name },
    involvedObject: { kind: 'Pod', namespace: 'default', name: 'p' },
    reason: 'Tried',
    message: 'm',
    type: 'Normal',
    source: { component: 'test' },
  });
  const watch = await passing.watch(`${events}?watch=1`);
  t.equal((await passing.post(events, event('e1'))).status, 201);
  t.strictSame(story(await watch.until(2, 10_000)), ['ADDED e1', 'DELETED e1'], 'an Event passes');
  const startedPassing = Date.now();
  t.strictSame(names(await passing.get(events)), []);
  t.ok(Date.now() - startedPassing < 5_000);
  t.equal((await passing.post(events, event('e1'))).status, 201, 'and its name is free again');
  watch.stop();
  const ephemeral = `${passing.prefix.toUpperCase()}_EPHEMERAL`;
  const late = await passing.post(events, event('e2'));
  await manager.streams.deleteMessage(ephemeral, Number(late.body.metadata.resourceVersion));
  const resumed = await passing.another();
  const startedResumed = Date.now();
  t.equal((await resumed.get(events)).status, 200);
  t.ok(Date.now() - startedResumed < 5_000, 'the end of the ephemeral stream is gone when a server starts');
});

t.test('what the server tells of itself', async (t) => {
  t.equal((await api.get('/healthz', { user: null })).text, 'ok');
  t.match(
    (await api.get('/readyz?verbose')).text,
    /\[\+\]log ok\n\[\+\]cache ok\n\[\+\]shutdown ok\nreadyz check passed/,
  );
  t.match((await api.get('/version', { user: null })).body, { major: '1', minor: '32' });
  t.equal((await api.get('/api', { user: null })).status, 403);
  t.match((await api.get('/apis')).body, { kind: 'APIGroupList' });
  t.match(
    (await api.get('/api/v1')).body.resources.find(({ name }: Json) => name === 'pods/binding'),
    { kind: 'Binding', verbs: ['create'] },
  );
  t.match((await api.get('/apis/apps/v1/namespaces/default/deployments')).body, {
    kind: 'DeploymentList',
    apiVersion: 'apps/v1',
  });
  t.match((await api.get('/apis/nothing.io/v1/things')).body, {
    kind: 'Status',
    code: 404,
    message: 'the server could not find the requested resource',
  });
  t.match((await api.get(`${NAMESPACES}/default/nodes`)).body, { code: 404 });
  t.equal((await api.post('/apis/apps/v1/deployments', deployment('x'))).status, 405);
});
