/** Malformed and hostile input on every write route: a Status as Kubernetes gives it, all faults at once, nothing written, and a server that goes on as if nothing had been. */
import { connect as tlsConnect } from 'node:tls';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { parse } from 'yaml';
import { runs } from '../harness/runs.ts';
import { configMap, deployment, pod, startApi, type Answer, type Api, type Json, type RequestOptions } from './api.ts';

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';

let api: Api;
let before = 0;
t.before(async () => {
  api = await startApi(t);
  await api.post(CONFIG_MAPS, configMap('there'));
  await api.post(DEPLOYMENTS, deployment('there'));
  before = await api.lastSequence();
});

/** A test after which nothing was written, and the server still answers. */
function harmless(says: string, test: (t: Scenario) => Promise<void>): void {
  t.test(says, { timeout: 120_000 }, async (t) => {
    await test(t);
    t.equal(await api.lastSequence(), before, 'nothing was written');
    t.equal((await api.get('/readyz', { user: null })).text, 'ok');
  });
}

type Scenario = Pick<typeof t, 'ok' | 'match' | 'equal'>;
type Checks = Pick<typeof t, 'ok' | 'match'>;

interface Route {
  readonly says: string;
  send(body: unknown, options?: RequestOptions): Promise<Answer>;
}

const routes: readonly Route[] = [
  { says: 'create', send: (body, options) => api.post(DEPLOYMENTS, body, options) },
  { says: 'replace', send: (body, options) => api.put(`${DEPLOYMENTS}/there`, body, options) },
  { says: 'replace status', send: (body, options) => api.put(`${DEPLOYMENTS}/there/status`, body, options) },
  { says: 'scale', send: (body, options) => api.put(`${DEPLOYMENTS}/there/scale`, body, options) },
  { says: 'merge patch', send: (body, options) => api.patch(`${DEPLOYMENTS}/there`, 'merge', body, options) },
  { says: 'strategic patch', send: (body, options) => api.patch(`${DEPLOYMENTS}/there`, 'strategic', body, options) },
  { says: 'JSON patch', send: (body, options) => api.patch(`${DEPLOYMENTS}/there`, 'json', body, options) },
  {
    says: 'apply',
    send: (body, options) => api.patch(`${DEPLOYMENTS}/there?fieldManager=x&force=true`, 'apply', body, options),
  },
  {
    says: 'apply anew',
    send: (body, options) => api.patch(`${DEPLOYMENTS}/anew?fieldManager=x`, 'apply', body, options),
  },
  { says: 'delete', send: (body, options) => api.delete(`${DEPLOYMENTS}/there`, { body, ...options }) },
  { says: 'delete all', send: (body, options) => api.delete(DEPLOYMENTS, { body, ...options }) },
];

function refused(t: Checks, answer: Answer, codes: readonly number[], says: string): void {
  t.ok(codes.includes(answer.status), `${says}: ${answer.status} ${answer.text.slice(0, 200)}`);
  t.match(
    answer.body,
    { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: answer.status, reason: String, message: String },
    says,
  );
}

harmless('bodies that are nothing', async (t) => {
  const bodies: readonly [says: string, body: string | Uint8Array, codes: readonly number[]][] = [
    ['cut short', '{"metadata":{"name":"x"', [400]],
    ['no JSON', '<xml/>', [400]],
    ['a number', '7', [400, 422]],
    ['null', 'null', [400, 422]],
    ['a string', '"x"', [400, 422]],
    ['bad UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]), [400]],
    ['a lone surrogate, cut', Buffer.from('{"metadata":{"name":"\\ud800"'), [400]],
    ['deep nesting', '{"a":'.repeat(200_000), [400]],
    ['deep lists', '['.repeat(100_000) + ']'.repeat(100_000), [400]],
    ['a NUL', '{"metadata":\u0000{}}', [400]],
  ];
  for (const { says, send } of routes)
    for (const [what, body, codes] of bodies) refused(t, await send(body), codes, `${says}: ${what}`);
  for (const { says, send } of routes.filter(({ says: name }) => !name.startsWith('delete')))
    refused(t, await send(''), [400, 415, 422], `${says}: empty`);
});

harmless('types, sizes and encodings', async (t) => {
  for (const { says, send } of routes) {
    refused(t, await send('x=1', { type: 'application/x-www-form-urlencoded' }), [415], `${says}: a form`);
    refused(t, await send(Buffer.alloc(4 * 1024 * 1024, 0x20)), [413], `${says}: 4 MiB`);
    refused(
      t,
      await send(gzipSync(Buffer.alloc(64 * 1024 * 1024, 0x20)), { headers: { 'content-encoding': 'gzip' } }),
      [413],
      `${says}: a zip bomb`,
    );
    refused(t, await send('{}', { headers: { 'content-encoding': 'gzip' } }), [400], `${says}: no gzip`);
  }
  refused(
    t,
    await api.post(CONFIG_MAPS, configMap('big', { big: 'x'.repeat(2 * 1024 * 1024) })),
    [413, 422],
    '2 MiB of data',
  );
  refused(
    t,
    await api.post(DEPLOYMENTS, deployment('big', {}, { annotations: { big: 'x'.repeat(2 * 1024 * 1024) } })),
    [422],
    '2 MiB of annotations',
  );
  refused(
    t,
    await api.post(CONFIG_MAPS, Buffer.from('k8s\0nonsense'), { type: 'application/vnd.kubernetes.protobuf' }),
    [400],
    'broken protobuf',
  );
  refused(
    t,
    await api.post(CONFIG_MAPS, Buffer.from([0x6b, 0x38, 0x73, 0, 0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), {
      type: 'application/vnd.kubernetes.protobuf',
    }),
    [400],
    'protobuf with an endless length',
  );
  refused(
    t,
    await api.post(
      CONFIG_MAPS,
      'a: &a [x]\nb: [*a,*a]\n'.padEnd(100) +
        Array.from(
          { length: 30 },
          (_, index) =>
            `k${index}: &k${index} [${Array(10)
              .fill(index ? `*k${index - 1}` : 'x')
              .join()}]`,
        ).join('\n'),
      { type: 'application/yaml' },
    ),
    [400],
    'a YAML bomb',
  );
  refused(t, await api.post(CONFIG_MAPS, 'a: [1', { type: 'application/yaml' }), [400], 'broken YAML');
  refused(
    t,
    await api.post(CONFIG_MAPS, '---\na: 1\n---\nb: 2\n', { type: 'application/yaml' }),
    [400],
    'two documents',
  );
});

harmless('a body without an announced length is bounded too, and the refusal arrives', async (t) => {
  const { cert, key } = api.credentials('admin');
  const socket = tlsConnect({ host: '127.0.0.1', port: api.port, cert, key, rejectUnauthorized: false });
  socket.on('error', () => undefined);
  let said = '';
  socket.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write(
    `POST ${CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`,
  );
  const chunk = Buffer.from(`10000\r\n${' '.repeat(65_536)}\r\n`);
  for (let index = 0; index < 80 && !said.includes('413') && !socket.destroyed; index++) {
    socket.write(chunk);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 1_000))]);
  t.match(said, /^HTTP\/1\.1 413 /);
  t.match(said, /RequestEntityTooLarge/);
  socket.destroy();
});

harmless('objects that are not what the route takes', async (t) => {
  const there = deployment('there');
  const cases: readonly [says: string, object: Json, codes: readonly number[], message: RegExp][] = [
    ['another kind', configMap('there'), [400], /ConfigMap|patch version: v1, expected: apps\/v1/],
    ['another version', { ...there, apiVersion: 'apps/v9' }, [400], /apps\/v9/],
    ['a kind that is no text', { ...there, kind: 7 }, [400], /7|kind/],
    ['metadata that is a list', { ...there, metadata: [] }, [400], /metadata/],
    ['metadata that is text', { ...there, metadata: 'x' }, [400], /metadata/],
    [
      'labels that are numbers',
      { ...there, metadata: { name: 'there', labels: { a: 1 } } },
      [400],
      /cannot unmarshal number|labels\.a: expected string, got number/,
    ],
    ['a spec that is a list', { ...there, spec: [] }, [400], /cannot unmarshal array|\.spec: expected map, got/],
    [
      'replicas that are text',
      { ...there, spec: { ...there.spec, replicas: 'three' } },
      [400],
      /cannot unmarshal string.*replicas|replicas: expected numeric \(int or float\), got string/,
    ],
    ['replicas beyond 32 bits', { ...there, spec: { ...there.spec, replicas: 2 ** 40 } }, [400], /replicas/],
    ['a fraction', { ...there, spec: { ...there.spec, replicas: 1.5 } }, [400], /replicas/],
    [
      'a name that is a number',
      { ...there, metadata: { name: 7 } },
      [400],
      /cannot unmarshal number|name: expected string, got number/,
    ],
    ['another name', { ...there, metadata: { name: 'other' } }, [400], /does not match the name/],
    ['another namespace', { ...there, metadata: { name: 'there', namespace: 'kube-system' } }, [400], /namespace/],
  ];
  for (const [says, object, codes, message] of cases) {
    for (const send of [
      (body: Json) => api.put(`${DEPLOYMENTS}/there`, body),
      (body: Json) => api.patch(`${DEPLOYMENTS}/there`, 'merge', body),
      (body: Json) => api.patch(`${DEPLOYMENTS}/there?fieldManager=x&force=true`, 'apply', body),
    ]) {
      const answer = await send(object);
      refused(t, answer, codes, says);
      t.match(answer.body.message, message, says);
    }
  }
  for (const [says, object, codes] of cases.filter(([name]) => name !== 'another name'))
    refused(t, await api.post(`${DEPLOYMENTS}?dryRun=All`, object), codes, `create: ${says}`);
});

harmless('every fault of an object is in one answer', async (t) => {
  const object = deployment(
    'there',
    { replicas: -1, minReadySeconds: -2, strategy: { type: 'Sideways' } },
    { labels: { 'bad key!': 'x', ok: 'bad value!' }, annotations: { '/': '1' }, finalizers: ['nodomain'] },
  );
  object.spec.template.spec.containers.push(
    { name: 'main', image: '' },
    { name: 'UPPER', image: 'x', ports: [{ containerPort: 70000 }], env: [{ name: '' }], imagePullPolicy: 'Perhaps' },
  );
  for (const [says, answer] of [
    ['create', await api.post(DEPLOYMENTS, { ...object, metadata: { ...object.metadata, name: 'Bad Name' } })],
    ['replace', await api.put(`${DEPLOYMENTS}/there`, object)],
    ['patch', await api.patch(`${DEPLOYMENTS}/there`, 'merge', object)],
  ] as const) {
    t.match(
      answer.body,
      { kind: 'Status', code: 422, reason: 'Invalid', details: { group: 'apps', kind: 'Deployment' } },
      says,
    );
    const fields = new Set(answer.body.details.causes.map(({ field }: Json) => field));
    for (const field of [
      'metadata.labels',
      'metadata.annotations',
      'metadata.finalizers[0]',
      'spec.replicas',
      'spec.minReadySeconds',
      'spec.strategy.type',
      'spec.template.spec.containers[1].name',
      'spec.template.spec.containers[2].name',
      'spec.template.spec.containers[1].image',
      'spec.template.spec.containers[2].ports[0].containerPort',
      'spec.template.spec.containers[2].env[0].name',
      'spec.template.spec.containers[2].imagePullPolicy',
    ])
      t.ok(fields.has(field), `${says}: ${field} in ${[...fields].join(' ')}`);
  }
});

harmless('names', async (t) => {
  for (const name of [
    '',
    'UPPER',
    'with space',
    '-x',
    'x-',
    'a..b',
    '..',
    '.',
    'a/b',
    'a%2Fb',
    'x'.repeat(254),
    'ünï',
    '*',
    '>',
    'a\nb',
    '_',
    '__proto__',
    'reckon.>',
  ])
    refused(t, await api.post(CONFIG_MAPS, configMap(name)), [422], JSON.stringify(name.slice(0, 20)));
  for (const generateName of ['UPPER-', 'a b', '*'])
    refused(t, await api.post(CONFIG_MAPS, { metadata: { generateName } }), [422], generateName);
  for (const namespace of ['__proto__', 'constructor', '*', '>', '..%2F', '%00'])
    refused(
      t,
      await api.post(`/api/v1/namespaces/${namespace}/configmaps`, configMap('x')),
      [400, 404, 422],
      namespace,
    );
});

harmless('prototype keys stay plain data', async (t) => {
  const polluting =
    '{"metadata":{"name":"Bad","__proto__":{"polluted":1},"labels":{"__proto__":"x","constructor":"y"}},"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"spec":{"__proto__":{"polluted":1}}}';
  for (const { says, send } of routes.filter(
    ({ says: name }) => !name.startsWith('delete') && !name.startsWith('JSON'),
  )) {
    const answer = await send(polluting.replace('"Bad"', says === 'create' ? '"Bad"' : '"other"'));
    refused(t, answer, [400, 404, 409, 422], says);
  }
  for (const path of ['/__proto__/polluted', '/constructor/prototype/polluted', '/metadata/__proto__/polluted'])
    refused(t, await api.patch(`${DEPLOYMENTS}/there`, 'json', [{ op: 'add', path, value: 1 }]), [400, 422], path);
  t.equal(({} as Json).polluted, undefined);
  const kept = await api.patch(`${CONFIG_MAPS}/there?dryRun=All`, 'merge', '{"data":{"__proto__":"kept"}}');
  t.match(kept.text, /"__proto__":"kept"/, 'where such a key is allowed it is a key like any other');
});

harmless('hostile patches', async (t) => {
  const send = (operations: unknown) => api.patch(`${DEPLOYMENTS}/there`, 'json', operations);
  for (const [says, operations] of [
    ['no list', {}],
    ['no operation', [{}]],
    ['an unknown operation', [{ op: 'explode', path: '/spec' }]],
    ['no path', [{ op: 'add', value: 1 }]],
    ['a path that is none', [{ op: 'add', path: 'spec', value: 1 }]],
    ['a bad escape', [{ op: 'add', path: '/spec/~2', value: 1 }]],
    ['an index far away', [{ op: 'add', path: '/spec/template/spec/containers/999', value: {} }]],
    ['an index below', [{ op: 'remove', path: '/spec/template/spec/containers/-1' }]],
    ['a missing source', [{ op: 'move', from: '/spec/nothing', path: '/spec/x' }]],
    ['a move into itself', [{ op: 'move', from: '/spec', path: '/spec/template' }]],
    ['the whole document away', [{ op: 'remove', path: '' }]],
    ['the whole document replaced', [{ op: 'replace', path: '', value: 'x' }]],
    [
      'ten thousand and more',
      Array.from({ length: 20_000 }, () => ({ op: 'add', path: '/metadata/labels', value: {} })),
    ],
    [
      'doubling',
      Array.from({ length: 60 }, (_, index) =>
        index === 0
          ? { op: 'add', path: '/metadata/annotations', value: { a: 'x'.repeat(1000) } }
          : { op: 'copy', from: '/metadata', path: `/metadata/annotations/k${index}` },
      ),
    ],
  ] as const)
    refused(t, await send(operations), [400, 413, 422], says);
  const strategic = (patch: unknown) => api.patch(`${DEPLOYMENTS}/there`, 'strategic', patch);
  refused(t, await strategic({ $patch: 'explode' }), [400, 422], 'an unknown directive');
  refused(
    t,
    await strategic({ spec: { template: { spec: { containers: [{ image: 'x' }] } } } }),
    [400, 422],
    'no merge key',
  );
  refused(t, await strategic({ spec: { template: { spec: { containers: 'x' } } } }), [400, 422], 'no list');
});

harmless('paths, methods and headers', async (t) => {
  for (const [method, path, codes] of [
    ['GET', '/api/v1/namespaces/%zz/configmaps', [400]],
    ['GET', '/api/v1/namespaces/%ff%fe/configmaps', [400]],
    ['GET', '/api/v1/namespaces/default/configmaps/%00', [400, 404]],
    ['GET', '/api/v1/namespaces/default/configmaps/..%2f..%2f', [400, 404]],
    ['GET', '/apis/apps/v1/deployments/there', [404, 405]],
    ['GET', '//api//v1//pods', [200, 301, 404]],
    ['GET', `/api/v1/configmaps?labelSelector=${'a,'.repeat(3000)}`, [400]],
    ['GET', '/api/v1/configmaps?resourceVersion=-1', [400]],
    ['GET', '/api/v1/configmaps?limit=abc', [400]],
    ['GET', '/api/v1/configmaps?watch=1&resourceVersion=abc', [400]],
    ['GET', '/api/v1/configmaps?fieldSelector=%3D%3D%3D', [400]],
    ['BREW', '/api/v1/configmaps', [400, 405, 501]],
    ['OPTIONS', '/api/v1/configmaps', [405]],
    ['TRACE', '/api/v1/configmaps', [405, 400]],
    ['DELETE', '/api', [405]],
    ['POST', '/version', [405]],
    ['POST', '/api/v1/namespaces/default/configmaps/there/nothing', [404]],
    ['PUT', '/api/v1/namespaces/default/pods/x/exec', [400, 404, 405]],
    ['GET', '/api/v1/namespaces/default/pods/there/log?container=%00', [400, 404]],
    ['DELETE', '/api/v1/namespaces/default/configmaps/there?gracePeriodSeconds=soon', [400, 422]],
    ['DELETE', '/api/v1/namespaces/default/configmaps/there?gracePeriodSeconds=1.5', [400, 422]],
    ['DELETE', '/api/v1/configmaps', [405]],
  ] as const) {
    const answer = await api.request(method, path).catch((error: Error) => error);
    if (answer instanceof Error) t.ok(method === 'BREW', `${method} ${path}: ${answer.message}`);
    else
      t.ok(
        (codes as readonly number[]).includes(answer.status),
        `${method} ${path}: ${answer.status} ${answer.text.slice(0, 100)}`,
      );
  }
  const huge = await api
    .get(CONFIG_MAPS, { headers: { 'x-huge': 'x'.repeat(1_000_000) } })
    .catch(() => ({ status: 431 }));
  t.equal(huge.status, 431);
  refused(t, await api.get(CONFIG_MAPS, { accept: 'x'.repeat(10_000) }), [406], 'a long Accept');
  t.equal((await api.get(CONFIG_MAPS, { headers: { 'audit-id': 'x'.repeat(5_000) } })).status, 200);
  refused(t, await api.post(`${CONFIG_MAPS}?fieldManager=${'x'.repeat(200)}`, configMap('x')), [422], 'a long manager');
  refused(
    t,
    await api.post(CONFIG_MAPS, configMap('x'), { headers: { 'reckon-cause': '1,2,3,4,5,6,7,8,9' } }),
    [400],
    'too many causes',
  );
  refused(t, await api.delete(`${DEPLOYMENTS}/there`, { body: { dryRun: ['Some'] } }), [422], 'an unknown dry run');
  refused(
    t,
    await api.delete(`${DEPLOYMENTS}/there`, { body: { gracePeriodSeconds: 'x' } }),
    [400, 422],
    'a grace that is none',
  );
  refused(
    t,
    await api.delete(`${DEPLOYMENTS}/there`, { body: { preconditions: 'x' } }),
    [400, 422],
    'preconditions that are none',
  );
  refused(
    t,
    await api.delete(`${DEPLOYMENTS}/there`, { body: { propagationPolicy: ['x'] } }),
    [400, 422],
    'a policy that is none',
  );
});

harmless('clients that leave in the middle', async () => {
  const { cert, key } = api.credentials('admin');
  for (const start of [
    `POST ${CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"metadata"`,
    `GET ${CONFIG_MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n`,
    'GET / HTTP/1.1\r\nHo',
    '\u0016\u0003garbage\r\n\r\n',
    `POST ${CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
    'GET /api/v1/namespaces/default/pods/x/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  ]) {
    await new Promise<void>((resolve) => {
      const socket = tlsConnect({ host: '127.0.0.1', port: api.port, cert, key, rejectUnauthorized: false }, () => {
        socket.write(start);
        setTimeout(() => socket.destroy(), 30);
      });
      socket.on('error', () => undefined);
      socket.once('close', () => resolve());
    });
  }
});

harmless('fuzz: whatever comes is answered with a Status, never with a fault of the server', async () => {
  const resources = ['configmaps', 'pods', 'secrets', 'services', 'deployments', 'nodes', 'events', '__proto__'];
  const segment = fc.oneof(
    fc.constantFrom(
      'api',
      'apis',
      'v1',
      'apps',
      'namespaces',
      'default',
      'there',
      'status',
      'scale',
      'binding',
      ...resources,
    ),
    fc.string({ maxLength: 12 }).map(encodeURIComponent),
    fc.constantFrom('%00', '%2e%2e', '%', '..', ''),
  );
  const path = fc.array(segment, { maxLength: 8 }).map((segments) => `/${segments.join('/')}`);
  const query = fc.dictionary(
    fc.constantFrom(
      'labelSelector',
      'fieldSelector',
      'limit',
      'continue',
      'resourceVersion',
      'resourceVersionMatch',
      'gracePeriodSeconds',
      'fieldManager',
      'fieldValidation',
      'includeObject',
    ),
    fc.string({ maxLength: 20 }),
  );
  const body = fc.oneof(
    fc.json(),
    fc.string(),
    fc
      .record({
        apiVersion: fc.constantFrom('v1', 'apps/v1'),
        kind: fc.constantFrom('ConfigMap', 'Pod', 'Deployment', 'Service', 'Secret'),
        metadata: fc.oneof(
          fc.object(),
          fc.record({
            name: fc.string(),
            labels: fc.object({ maxDepth: 1 }),
            ownerReferences: fc.array(fc.object()),
            managedFields: fc.array(fc.object()),
          }),
        ),
        spec: fc.object({ maxDepth: 4 }),
        data: fc.object(),
      })
      .map((value) => JSON.stringify(value)),
  );
  const type = fc.constantFrom(
    'application/json',
    'application/yaml',
    'application/vnd.kubernetes.protobuf',
    'application/json-patch+json',
    'application/merge-patch+json',
    'application/strategic-merge-patch+json',
    'application/apply-patch+yaml',
  );
  const accept = fc.constantFrom(
    'application/json',
    'application/yaml',
    'application/vnd.kubernetes.protobuf',
    'application/json;as=Table;v=v1;g=meta.k8s.io',
    '*/*',
  );
  const well = (answer: Answer, says: string): void => {
    if (answer.status >= 500 && answer.status !== 504)
      throw new Error(`${says}: ${answer.status} ${answer.text.slice(0, 500)}`);
    const refusal = answer.headers['content-type'] === 'application/yaml' ? parse(answer.text) : answer.body;
    const packed = answer.headers['content-type'] === 'application/vnd.kubernetes.protobuf';
    if (answer.status >= 400 && refusal?.kind !== 'Status' && !(packed && /^k8s\0[^]*Status/.test(answer.text)))
      throw new Error(`${says}: ${answer.status} without a Status: ${answer.text.slice(0, 200)}`);
  };
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('GET', 'POST', 'PUT', 'PATCH', 'DELETE'),
      path,
      query,
      body,
      type,
      accept,
      async (method, target, options, content, contentType, accepted) => {
        const search = new URLSearchParams({ ...options, dryRun: 'All' });
        const answer = await api.request(method, `${target}?${search}`, {
          type: contentType,
          accept: accepted,
          ...(method !== 'GET' && { body: content }),
        });
        well(answer, `${method} ${target}?${search} ${content}`);
      },
    ),
    { numRuns: runs(400) },
  );
  const targets = [
    CONFIG_MAPS,
    `${DEPLOYMENTS}`,
    '/api/v1/namespaces/default/pods',
    '/api/v1/namespaces/default/services',
    '/api/v1/namespaces/default/secrets',
    '/api/v1/namespaces/default/events',
  ];
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...targets),
      fc.constantFrom('POST', 'merge', 'strategic', 'apply'),
      body,
      async (target, method, content) => {
        const answer =
          method === 'POST'
            ? await api.post(`${target}?dryRun=All`, content)
            : await api.patch(`${target}/there?dryRun=All&fieldManager=fuzz`, method as 'merge', content);
        well(answer, `${method} ${target} ${content}`);
      },
    ),
    { numRuns: runs(400) },
  );
  // Values of the right fields and the wrong types, anywhere in a good object.
  const good = [deployment('there'), pod('fuzz')];
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...good),
      fc.array(fc.nat(20), { maxLength: 10 }),
      fc.oneof(
        fc.constant(null),
        fc.integer(),
        fc.string(),
        fc.boolean(),
        fc.array(fc.anything({ maxDepth: 1 })),
        fc.object({ maxDepth: 1 }),
      ),
      async (object, steps, value) => {
        const copy = structuredClone(object);
        let parent: Json = copy;
        let at: string | undefined;
        for (const step of steps) {
          if (at !== undefined && typeof parent[at] === 'object' && parent[at] !== null) parent = parent[at];
          const keys = Object.keys(parent);
          if (keys.length === 0) break;
          at = keys[step % keys.length];
        }
        if (at === undefined) return;
        parent[at] = value;
        const target = copy.kind === 'Pod' || object.kind === 'Pod' ? '/api/v1/namespaces/default/pods' : DEPLOYMENTS;
        const text = JSON.stringify(copy);
        well(await api.post(`${target}?dryRun=All`, text), text);
        well(await api.put(`${DEPLOYMENTS}/there?dryRun=All`, text), text);
      },
    ),
    { numRuns: runs(300) },
  );
});
