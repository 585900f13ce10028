/** The forms in which answers go out: packed, in protobuf, in YAML, as tables and as metadata alone, of objects, lists, watches and refusals; and what is said where there is none that the client takes. */
import { request as httpsRequest } from 'node:https';
import { gunzipSync, gzipSync } from 'node:zlib';
import t from 'tap';
import { parse } from 'yaml';
import { decodeProtobuf } from '../../api-server/codec/protobuf.ts';
import { loadRegistry } from '../../api-schemas/registry.ts';
import { configMap, deployment, startApi, type Api, type Json } from './api.ts';

const PATH = '/api/v1/namespaces/default/configmaps';
const PROTOBUF = 'application/vnd.kubernetes.protobuf';
const META = 'as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
const META_LIST = 'as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';
const TABLE = 'as=Table;g=meta.k8s.io;v=v1';
const registry = loadRegistry();
const readProtobuf = (bytes: Uint8Array): Json => decodeProtobuf(bytes, registry);

let api: Api;
t.before(async () => {
  api = await startApi(t);
  await api.post(PATH, configMap('one', { a: '1' }, { labels: { app: 'x' } }));
  await api.post(PATH, configMap('two', { b: '2' }));
});

interface Raw {
  readonly status: number;
  readonly headers: Json;
  readonly bytes: Buffer;
}

/** The bytes as they come; of a watch, until `enough`. */
function raw(path: string, headers: Record<string, string>, enough = (_: Buffer): boolean => false): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const outgoing = httpsRequest(
      { host: '127.0.0.1', port: api.port, path, headers, rejectUnauthorized: false, ...api.credentials('admin') },
      (response) => {
        const chunks: Buffer[] = [];
        const done = () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, bytes: Buffer.concat(chunks) });
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          if (!enough(Buffer.concat(chunks))) return;
          done();
          outgoing.destroy();
        });
        response.on('end', done).on('error', () => undefined);
      },
    );
    outgoing.on('error', reject).end();
  });
}

/** The frames of a watch: a length in four bytes, then type and object. */
function frames(bytes: Buffer): { type: string; object: Json }[] {
  const found: { type: string; object: Json }[] = [];
  let at = 0;
  while (at + 4 <= bytes.length && at + 4 + bytes.readUInt32BE(at) <= bytes.length) {
    const frame = bytes.subarray(at + 4, at + 4 + bytes.readUInt32BE(at));
    const type = frame.subarray(2, 2 + (frame[1] ?? 0)).toString();
    found.push({ type, object: readProtobuf(frame.subarray(frame.indexOf('k8s\0'))) });
    at += 4 + frame.length;
  }
  return found;
}

t.test('large answers are packed where the client takes gzip', async (t) => {
  await api.post(PATH, configMap('large', { text: 'compressible '.repeat(20_000) }));
  const plain = await raw(`${PATH}/large`, {});
  t.notOk(plain.headers['content-encoding'], 'never unasked');
  const packed = await raw(`${PATH}/large`, { 'accept-encoding': 'deflate, gzip' });
  t.match(packed.headers, { 'content-encoding': 'gzip', vary: 'Accept-Encoding', 'content-type': 'application/json' });
  t.ok(packed.bytes.length < plain.bytes.length / 10);
  t.same(gunzipSync(packed.bytes), plain.bytes);
  const list = await raw(PATH, { 'accept-encoding': 'gzip', accept: PROTOBUF });
  t.match(list.headers, { 'content-encoding': 'gzip', 'content-type': PROTOBUF });
  t.equal(readProtobuf(gunzipSync(list.bytes)).items.length, JSON.parse((await api.get(PATH)).text).items.length);
  for (const coding of ['identity', 'br', 'gzip;q=0'])
    t.notOk((await raw(`${PATH}/large`, { 'accept-encoding': coding })).headers['content-encoding'], coding);
  t.notOk((await raw(`${PATH}/one`, { 'accept-encoding': 'gzip' })).headers['content-encoding'], 'not what is small');
  const openapi = await raw('/openapi/v2', { 'accept-encoding': 'gzip' });
  t.equal(openapi.headers['content-encoding'], 'gzip');
  const posted = await api.post(PATH, gzipSync(JSON.stringify(configMap('packed'))), {
    headers: { 'content-encoding': 'gzip' },
  });
  t.equal(posted.status, 201, 'a packed body is taken too');
  await api.delete(`${PATH}/large`);
});

t.test('protobuf: objects, lists, metadata alone, refusals', async (t) => {
  const one = await raw(`${PATH}/one`, { accept: PROTOBUF });
  t.equal(one.headers['content-type'], PROTOBUF);
  t.strictSame(readProtobuf(one.bytes).data, { a: '1' });
  const list = readProtobuf((await raw(PATH, { accept: `${PROTOBUF},application/json` })).bytes);
  const json = (await api.get(PATH)).body;
  t.match(list, {
    kind: 'ConfigMapList',
    apiVersion: 'v1',
    metadata: { resourceVersion: json.metadata.resourceVersion },
  });
  t.same(
    list.items.map(({ metadata, data }: Json) => [metadata.name, metadata.uid, data]),
    json.items.map(({ metadata, data }: Json) => [metadata.name, metadata.uid, data]),
  );
  const page = readProtobuf((await raw(`${PATH}?limit=1`, { accept: PROTOBUF })).bytes);
  t.equal(page.items.length, 1);
  t.ok(page.metadata.continue);
  const empty = readProtobuf((await raw(`${PATH}?labelSelector=none`, { accept: PROTOBUF })).bytes);
  t.strictSame(empty.items ?? [], []);

  const partial = await raw(`${PATH}/one`, { accept: `${PROTOBUF};${META},application/json;${META}` });
  t.equal(partial.headers['content-type'], PROTOBUF);
  t.match(readProtobuf(partial.bytes), {
    kind: 'PartialObjectMetadata',
    apiVersion: 'meta.k8s.io/v1',
    metadata: { name: 'one', labels: { app: 'x' } },
  });
  const partials = readProtobuf((await raw(PATH, { accept: `${PROTOBUF};${META_LIST}` })).bytes);
  t.equal(partials.kind, 'PartialObjectMetadataList');
  t.ok(partials.items.some(({ metadata }: Json) => metadata.name === 'two'));

  const missing = await raw(`${PATH}/missing`, { accept: `${PROTOBUF},application/json` });
  t.equal(missing.status, 404);
  t.match(readProtobuf(missing.bytes), { kind: 'Status', reason: 'NotFound', code: 404, details: { name: 'missing' } });
  t.match(parse((await raw(`${PATH}/missing`, { accept: 'application/yaml' })).bytes.toString()), {
    kind: 'Status',
    code: 404,
  });
});

t.test('protobuf: watches, in frames', async (t) => {
  const enough = (count: number) => (bytes: Buffer) => frames(bytes).length >= count;
  const { headers, bytes } = await raw(
    `${PATH}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&fieldSelector=metadata.name=one`,
    { accept: `${PROTOBUF},application/json` },
    enough(2),
  );
  t.equal(headers['content-type'], `${PROTOBUF};stream=watch`);
  t.match(frames(bytes), [
    { type: 'ADDED', object: { kind: 'ConfigMap', metadata: { name: 'one' }, data: { a: '1' } } },
    {
      type: 'BOOKMARK',
      object: { kind: 'ConfigMap', metadata: { annotations: { 'k8s.io/initial-events-end': 'true' } } },
    },
  ]);
  const from = (await api.get(`${PATH}/two`)).body.metadata.resourceVersion;
  const following = raw(
    `${PATH}?watch=1&resourceVersion=${from}&fieldSelector=metadata.name=three`,
    { accept: `${PROTOBUF};stream=watch` },
    enough(2),
  );
  await api.post(PATH, configMap('three'));
  await api.delete(`${PATH}/three`);
  t.match(frames((await following).bytes), [
    { type: 'ADDED', object: { metadata: { name: 'three' }, data: { a: '1' } } },
    { type: 'DELETED', object: { metadata: { name: 'three' } } },
  ]);
  const partial = await raw(`${PATH}?watch=1`, { accept: `${PROTOBUF};${META}` }, enough(1));
  t.match(frames(partial.bytes)[0], { type: 'ADDED', object: { kind: 'PartialObjectMetadata', metadata: {} } });
  t.notOk(frames(partial.bytes)[0]?.object.data);
  const other = await api.another();
  t.teardown(() => other.stop());
  const refused = await new Promise<Raw>((resolve) => {
    const { port } = api;
    (api as { port: number }).port = other.port;
    resolve(raw(`${PATH}?watch=1&resourceVersion=1`, { accept: PROTOBUF }));
    (api as { port: number }).port = port;
  });
  t.match(frames(refused.bytes), [{ type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } }]);
});

t.test('YAML, and what has no form', async (t) => {
  const list = parse((await api.get(PATH, { accept: 'application/yaml' })).text);
  t.equal(list.kind, 'ConfigMapList');
  const table = await api.get(PATH, { accept: `application/yaml;${TABLE}` });
  t.equal(table.headers['content-type'], 'application/yaml');
  t.match(parse(table.text), {
    kind: 'Table',
    columnDefinitions: [{ name: 'Name' }, { name: 'Data' }, { name: 'Age' }],
  });
  const meta = parse((await api.get(`${PATH}/one`, { accept: `application/yaml;${META}` })).text);
  t.match(meta, { kind: 'PartialObjectMetadata', metadata: { name: 'one' } });

  const watch = await api.get(`${PATH}?watch=1`, { accept: 'application/yaml' });
  t.equal(watch.status, 406);
  t.match(
    watch.text,
    /only the following media types are accepted: application\/json;stream=watch, application\/vnd.kubernetes.protobuf;stream=watch/,
  );
  const fallback = await raw(`${PATH}?watch=1&timeoutSeconds=1`, {
    accept: 'application/yaml, application/json;q=0.5',
  });
  t.equal(fallback.headers['content-type'], 'application/json');
  const html = await api.get(PATH, { accept: 'text/html' });
  t.equal(html.status, 406);
  t.match(html.body, {
    reason: 'NotAcceptable',
    message: /accepted: application\/json, application\/yaml, application\/vnd.kubernetes.protobuf$/,
  });
  t.equal((await api.get(PATH, { accept: `${PROTOBUF};${TABLE}` })).status, 406, 'a Table has no protobuf form');
  t.equal((await api.get(PATH, { accept: `${PROTOBUF};${TABLE},application/json;${TABLE}` })).body.kind, 'Table');
  t.equal((await api.get(PATH, { accept: 'application/cbor,application/json;q=0.9' })).body.kind, 'ConfigMapList');
  const wild = await raw(`${PATH}/one`, { accept: '*/*, application/yaml' });
  t.equal(wild.headers['content-type'], 'application/yaml', 'what is named comes before what is wild');
  const body = await api.post(PATH, 'x=1', { type: 'text/plain' });
  t.equal(body.status, 415);
  t.match(body.body, {
    reason: 'UnsupportedMediaType',
    message:
      /^the body of the request was in an unknown format - accepted media types include: application\/json, application\/yaml, application\/vnd.kubernetes.protobuf/,
  });
});

t.test('metadata alone and tables on a watch, for several watchers at once', async (t) => {
  const path = '/apis/apps/v1/namespaces/default/deployments';
  const forms = [
    `application/json;${META}`,
    `application/json;${META}`,
    `application/json;${TABLE}`,
    'application/json',
  ];
  const watches = await Promise.all(forms.map((accept) => api.watch(`${path}?watch=1`, { accept })));
  t.teardown(() => watches.forEach((watch) => watch.stop()));
  await api.post(path, deployment('watched'));
  await api.patch(`${path}/watched`, 'merge', { spec: { replicas: 3 } });
  const [first, second, table, whole] = await Promise.all(watches.map((watch) => watch.until(2)));
  t.same(first, second);
  t.match(first, [
    { type: 'ADDED', object: { kind: 'PartialObjectMetadata', metadata: { name: 'watched', generation: 1 } } },
    { type: 'MODIFIED', object: { kind: 'PartialObjectMetadata', metadata: { generation: 2 } } },
  ]);
  t.notOk(first?.[0]?.object.spec);
  t.ok(table?.[0]?.object.columnDefinitions.length > 3);
  t.equal(table?.[1]?.object.columnDefinitions, null, 'the columns are told once');
  t.match(table?.[1]?.object.rows[0].cells, ['watched', '0/3']);
  t.equal(whole?.[1]?.object.spec.replicas, 3);
});

t.test('for people', async (t) => {
  for (const [path, agent, lines] of [
    [`${PATH}/one?pretty=true`, 'kubectl/v1', true],
    [`${PATH}/one`, 'curl/8', true],
    [`${PATH}/one?pretty=false`, 'curl/8', false],
    [`${PATH}/one`, 'kubectl/v1', false],
    [`${PATH}?pretty=1`, 'x', true],
    [`${PATH}/missing`, 'curl/8', true],
  ] as const) {
    const { text, body } = await api.get(path, { headers: { 'user-agent': agent } });
    t.ok(body, path);
    t.equal(text.includes('\n  "'), lines, `${path} ${agent}`);
  }
});
