/**
 * Custom kinds whose versions are converted by a webhook: everything that clients do, in either version, and what becomes of it when the webhook lies, fails, hangs or is not there.
 */
import { networkInterfaces } from 'node:os';
import t from 'tap';
import { controller as definitions } from '../../../controllers/customresourcedefinitions/index.ts';
import { startWithPast } from '../../memory/stage.ts';
import { startApi, type Json } from '../api.ts';
import { CRDS, establish, runOn, until } from './custom-cluster.ts';
import { crd, GROUP, object, version } from './custom-kinds.ts';
import { reviewOf, startWebhook, type Misbehaviour } from './webhook.ts';

t.setTimeout(600_000);

const { api } = await startWithPast(t);
await runOn(t, api, [definitions]);
const webhook = await startWebhook(t);

const text = { type: 'string' };
const count = { type: 'integer' };
const v1Spec = object({ hostPort: text, size: { ...count, default: 1 }, color: text });
const v2Spec = object({ host: text, port: text, size: count, color: text, zone: text });
const status = object({ size: count });
const parts = {
  subresources: { status: {}, scale: { specReplicasPath: '.spec.size', statusReplicasPath: '.status.size' } },
};
const columns = (name: string) => ({
  additionalPrinterColumns: [{ name, type: 'string', jsonPath: `.spec.${name}` }],
  selectableFields: [{ jsonPath: `.spec.${name}` }],
});
const endpoints = (clientConfig: object, storage: 'v1' | 'v2' = 'v1', plural = 'endpoints', kind = 'Endpoint') =>
  crd({
    plural,
    kind,
    versions: [
      { ...version('v1', { spec: v1Spec, status }, storage === 'v1'), ...parts, ...columns('hostPort') },
      { ...version('v2', { spec: v2Spec, status }, storage === 'v2'), ...parts, ...columns('host') },
    ],
    more: { conversion: { strategy: 'Webhook', webhook: { clientConfig, conversionReviewVersions: ['v3', 'v1'] } } },
  });
const byUrl = { url: webhook.url, caBundle: webhook.caBundle };
const path = (v: string, name = '', plural = 'endpoints') =>
  `/apis/${GROUP}/${v}/namespaces/default/${plural}${name && `/${name}`}`;
const one = (v: string, name: string, spec: object, metadata: object = {}, kind = 'Endpoint'): Json => ({
  apiVersion: `${GROUP}/${v}`,
  kind,
  metadata: { name, ...metadata },
  spec,
});
const callsDuring = async (work: () => Promise<unknown>): Promise<Json[]> => {
  const before = webhook.reviews.length;
  await work();
  return webhook.reviews.slice(before);
};

await establish(api, endpoints(byUrl));

t.test('reads and writes in either version', async (t) => {
  const made = await api.post(path('v2'), one('v2', 'first', { host: 'a', port: '1' }, { labels: { x: 'y' } }));
  t.equal(made.status, 201);
  t.match(made.body, { apiVersion: `${GROUP}/v2`, spec: { host: 'a', port: '1', zone: undefined } });
  t.equal(made.body.spec.hostPort, undefined);
  const calls = await callsDuring(async () => {
    const stored = (await api.get(path('v1', 'first'))).body;
    t.match(stored, { apiVersion: `${GROUP}/v1`, spec: { hostPort: 'a:1' }, metadata: { labels: { x: 'y' } } });
    t.equal(stored.metadata.uid, made.body.metadata.uid);
    t.equal(stored.metadata.resourceVersion, made.body.metadata.resourceVersion);
    t.same(Object.keys(stored.spec).sort(), ['hostPort', 'size'], 'what v1 has no field for is gone');
    for (const _ of [1, 2, 3]) await api.get(path('v2', 'first'));
  });
  t.equal(calls.length, 0, 'it is stored in v1, and how it reads in v2 is known from the answer');
  t.match(webhook.reviews[0], {
    kind: 'ConversionReview',
    apiVersion: 'apiextensions.k8s.io/v1',
    request: { desiredAPIVersion: `${GROUP}/v1`, objects: [{ apiVersion: `${GROUP}/v2`, spec: { host: 'a' } }] },
  });

  const put = await api.put(path('v2', 'first'), { ...made.body, spec: { host: 'b', port: '2' } });
  t.match(put, { status: 200, body: { spec: { host: 'b', port: '2' }, metadata: { generation: 2 } } });
  const merged = await api.patch(path('v2', 'first'), 'merge', { spec: { port: '3' } });
  t.match(merged, { status: 200, body: { apiVersion: `${GROUP}/v2`, spec: { host: 'b', port: '3' } } });
  const replace = [{ op: 'replace', path: '/spec/host', value: 'c' }];
  t.match(await api.patch(path('v2', 'first'), 'json', replace), { status: 200, body: { spec: { host: 'c' } } });
  t.equal((await api.get(path('v1', 'first'))).body.spec.hostPort, 'c:3');
  const again = await api.patch(path('v2', 'first'), 'merge', { spec: { port: '3' } });
  t.equal(again.body.metadata.generation, 4, 'a patch that changes nothing is no change');
  const dry = await api.patch(`${path('v2', 'first')}?dryRun=All`, 'merge', { spec: { port: '4' } });
  t.match(dry, { status: 200, body: { spec: { port: '4' } } });

  const reported = await api.patch(`${path('v2', 'first')}/status`, 'merge', { status: { size: 2 } });
  t.match(reported, { status: 200, body: { status: { size: 2 }, spec: { host: 'c' } } });
  t.match(await api.patch(`${path('v2', 'first')}/scale`, 'merge', { spec: { replicas: 7 } }), {
    status: 200,
    body: { spec: { replicas: 7 }, status: { replicas: 2 } },
  });
  t.match((await api.get(path('v1', 'first'))).body, { spec: { size: 7, hostPort: 'c:3' }, status: { size: 2 } });

  t.match(await api.kubectl(`get endpoints.v2.${GROUP}`), /^NAME +HOST\nfirst +c\n$/);
  t.match(
    await api.kubectl(`apply -f -`, { input: one('v2', 'by-kubectl', { host: 'k', port: '9' }) }),
    /by-kubectl created/,
  );
  t.equal((await api.get(path('v1', 'by-kubectl'))).body.spec.hostPort, 'k:9');
  t.match((await api.delete(path('v2', 'by-kubectl'))).body, { status: 'Success' });
});

t.test('lists: one call, selected by what is read', async (t) => {
  for (let index = 0; index < 5; index++)
    await api.post(path('v1'), one('v1', `of-${index}`, { hostPort: `h${index % 2}:${index}`, color: 'l' }));
  const calls = await callsDuring(async () => {
    const { body } = await api.get(`${path('v2')}?fieldSelector=spec.host%3Dh1`);
    t.same(
      body.items.map(({ apiVersion, spec }: Json) => [apiVersion, spec.host, spec.port]),
      [
        [`${GROUP}/v2`, 'h1', '1'],
        [`${GROUP}/v2`, 'h1', '3'],
      ],
    );
    t.equal((await api.get(path('v2'))).body.items.length, 6);
  });
  t.same(
    calls.map(({ request }) => request.objects.length),
    [5],
    'those that are known are not asked for again',
  );
  t.match(calls[0].request.objects[0], { apiVersion: `${GROUP}/v1`, spec: { size: 1 } }, 'with the defaults of v1');
  const collection = await api.delete(`${path('v2')}?fieldSelector=spec.host%3Dh1`);
  t.same(
    collection.body.items.map(({ spec }: Json) => spec.host),
    ['h1', 'h1'],
  );
  t.equal((await api.get(path('v1'))).body.items.length, 4);
});

t.test('the past, and several in one transaction', async (t) => {
  const { metadata } = (await api.get(path('v2', 'first'))).body;
  await api.patch(path('v1', 'first'), 'merge', { spec: { hostPort: 'later:1' } });
  const at = `?at=${metadata.resourceVersion}`;
  t.match((await api.get(`${path('v2', 'first')}${at}`)).body, { spec: { host: 'c', port: '3' } });
  t.match((await api.get(`${path('v2')}${at}`)).body.items[0].spec, { host: 'c', port: '3' });
  const exact = `?resourceVersion=${metadata.resourceVersion}&resourceVersionMatch=Exact`;
  t.match((await api.get(`${path('v2')}${exact}`)).body.items[0].spec, { host: 'c', port: '3' });
  const both = await api.post('/apis/log.reckon.dev/v1/transactions', {
    apiVersion: 'log.reckon.dev/v1',
    kind: 'Transaction',
    operations: [
      { verb: 'create', object: one('v2', 'of-two', { host: 't', port: '1' }, { namespace: 'default' }) },
      { verb: 'update', object: one('v2', 'first', { host: 'u', port: '2' }, { namespace: 'default' }) },
    ],
  });
  t.equal(both.status, 200, both.text);
  t.equal((await api.get(path('v1', 'of-two'))).body.spec.hostPort, 't:1');
});

t.test('fields are owned in the version that they were written in', async (t) => {
  const sorted = (owners: Json[]) => owners.sort((a, b) => (a.manager < b.manager ? -1 : 1));
  const apply = (v: string, manager: string, spec: object, more = '') =>
    api.request('PATCH', `${path(v, 'owned')}?fieldManager=${manager}${more}`, {
      body: one(v, 'owned', spec),
      type: 'application/apply-patch+yaml',
    });
  t.equal((await apply('v1', 'old-tool', { hostPort: 'x:1', color: 'red' })).status, 201);
  const conflict = await apply('v2', 'new-tool', { host: 'y' });
  t.equal(conflict.status, 409);
  t.match(conflict.body.details.causes, [{ field: '.spec.hostPort', message: 'conflict with "old-tool"' }]);
  t.match(await apply('v2', 'new-tool', { port: '1', zone: 'b' }), { status: 200, body: { spec: { host: 'x' } } });
  const forced = await apply('v2', 'new-tool', { host: 'y', port: '1' }, '&force=true');
  t.match(forced, { status: 200, body: { spec: { host: 'y', port: '1', color: 'red' } } });
  const owners = (await api.get(path('v1', 'owned'))).body.metadata.managedFields;
  t.match(
    sorted(owners).map(({ manager, apiVersion, fieldsV1 }: Json) => [
      manager,
      apiVersion,
      Object.keys(fieldsV1['f:spec']),
    ]),
    [
      ['new-tool', `${GROUP}/v2`, ['f:host', 'f:port']],
      ['old-tool', `${GROUP}/v1`, ['f:color']],
    ],
    'what is forced is lost in the version of who had it',
  );
  t.match(await apply('v2', 'old-tool', { size: 3 }), {
    status: 200,
    body: { spec: { host: 'y', size: 3, color: undefined } },
  });
  t.equal((await api.get(path('v1', 'owned'))).body.spec.color, undefined, 'what it does not apply any more goes');
  await api.patch(path('v1', 'owned'), 'merge', { spec: { hostPort: 'z:1' } });
  const [left] = (await api.get(path('v2', 'owned'))).body.metadata.managedFields.filter(
    ({ manager }: Json) => manager === 'new-tool',
  );
  t.same(Object.keys(left.fieldsV1['f:spec']), ['f:port'], 'an update in v1 takes the host over, and not the port');
});

t.test('a watch with many watchers asks once, and tells in order', async (t) => {
  const from = (await api.get(path('v1'))).body.metadata.resourceVersion as string;
  const watchers = await Promise.all(
    Array.from({ length: 20 }, () => api.watch(`${path('v2')}?watch=1&resourceVersion=${from}`)),
  );
  const chosen = await api.watch(`${path('v2')}?watch=1&resourceVersion=${from}&fieldSelector=spec.host%3Dw1`);
  const calls = await callsDuring(async () => {
    await api.post(path('v1'), one('v1', 'watched', { hostPort: 'w0:0' }));
    for (const port of [1, 2, 3]) await api.patch(path('v1', 'watched'), 'merge', { spec: { hostPort: `w${port}:1` } });
    await api.delete(path('v1', 'watched'));
    for (const watcher of watchers) {
      const seen = await watcher.until(5);
      t.same(
        seen.map(({ type, object: { apiVersion, spec } }) => [type, apiVersion, spec.host]),
        [
          ['ADDED', `${GROUP}/v2`, 'w0'],
          ['MODIFIED', `${GROUP}/v2`, 'w1'],
          ['MODIFIED', `${GROUP}/v2`, 'w2'],
          ['MODIFIED', `${GROUP}/v2`, 'w3'],
          ['DELETED', `${GROUP}/v2`, 'w3'],
        ],
      );
    }
  });
  t.equal(calls.length, 5, 'once an event, whoever watches');
  t.same(
    (await chosen.until(2)).map(({ type, object: { spec } }) => [type, spec.host]),
    [
      ['ADDED', 'w1'],
      ['DELETED', 'w1'],
    ],
  );
  const again = await api.watch(`${path('v2')}?watch=1&resourceVersion=${from}`);
  t.equal((await again.until(5)).length, 5);
  for (const watcher of [...watchers, chosen, again]) watcher.stop();
});

t.test('what a webhook may not do', async (t) => {
  await api.post(path('v1'), one('v1', 'lied', { hostPort: 'l:1' }, { labels: { kept: 'yes' } }));
  const object = { name: 'lied', namespace: 'default' };
  const read = async (misbehave: Misbehaviour): Promise<Json> => {
    webhook.misbehave = misbehave;
    const answer = await api.get(path('v2', 'lied'));
    webhook.misbehave = undefined;
    return answer;
  };
  const change = (how: (converted: Json) => Json) => (review: Json, converted: Json[]) =>
    reviewOf(review.request.uid as string, converted.map(how));
  const withMetadata = (metadata: object) =>
    change((converted) => ({ ...converted, metadata: { ...converted.metadata, ...metadata } }));
  const cases: readonly (readonly [Misbehaviour, RegExp])[] = [
    [withMetadata({ name: 'other' }), /must have the same name: "other" != "lied"/],
    [withMetadata({ namespace: 'other' }), /must have the same namespace/],
    [withMetadata({ uid: 'other' }), /must have the same uid/],
    [withMetadata({ labels: { 'not a label': 'x' } }), /metadata.labels: Invalid value: "not a label"/],
    [withMetadata({ labels: { a: 1 } }), /metadata.labels\[a\] must be a string/],
    [withMetadata({ annotations: ['a'] }), /metadata.annotations is no object/],
    [change(({ metadata: _, ...rest }) => rest), /it has no metadata/],
    [change((one) => ({ ...one, apiVersion: `${GROUP}/v9` })), /expected stable.example.com\/v2, received .*v9/],
    [change((one) => ({ ...one, kind: 'Other' })), /invalid kind/],
    [change(() => 3), /it is no object/],
    [(review) => reviewOf(review.request.uid as string, []), /returned 0 objects, expected 1/],
    [(_, converted) => reviewOf('another', converted), /expected response.uid=.* got "another"/],
    [
      ({ request }) => reviewOf(request.uid as string, [], { status: 'Failure', message: 'ports are closed' }),
      /failed: ports are closed/,
    ],
    [({ request }) => reviewOf(request.uid as string, [], { status: 'Failure' }), /result.status was "Failure"/],
    [(review) => ({ ...review, kind: 'Other', response: {} }), /expected webhook response of .*, got .*Kind=Other/],
    [(review) => review, /no response provided/],
    [() => 'no json', /json parse error/],
    [() => 500, /the webhook answered 500 Internal Server Error: I am not well/],
    [() => '['.repeat(20_000), /nests deeper/],
  ];
  for (const [misbehave, says] of cases) {
    const { status: code, body } = await read(misbehave);
    t.equal(code, 500, String(says));
    t.match(body.message, says);
    t.match(body.message, /^conversion webhook for stable.example.com\/v1, Kind=Endpoint (failed|returned)/);
  }
  t.match(
    await read(
      withMetadata({ labels: { own: 'label' }, finalizers: ['a.example.com/x'], generation: 9, ownerReferences: 3 }),
    ),
    { status: 200, body: { metadata: { ...object, labels: { own: 'label', kept: undefined }, generation: 1 } } },
    'labels and annotations are the webhook’s, all else of the metadata stays',
  );
  t.match(await api.get(`${path('v2')}?labelSelector=own%3Dlabel`), { body: { items: [{ metadata: object }] } });
  t.notOk((await api.get(path('v2', 'lied'))).body.metadata.finalizers);
});

t.test('an object that cannot be converted is no fault of others', async (t) => {
  webhook.misbehave = (review, converted) =>
    JSON.stringify(review).includes('poison')
      ? reviewOf(review.request.uid as string, [], { status: 'Failure', message: 'this one is bad' })
      : reviewOf(review.request.uid as string, converted);
  await api.post(path('v1'), one('v1', 'poison', { hostPort: 'p:1' }));
  await api.post(path('v1'), one('v1', 'healthy', { hostPort: 'h:1' }));
  const [list, single] = await Promise.all([api.get(path('v2')), api.get(path('v2', 'healthy'))]);
  t.match(list, { status: 500, body: { message: /this one is bad/ } });
  t.match(single, { status: 200, body: { spec: { host: 'h' } } });
  t.equal((await api.get(path('v1'))).status, 200);
  const elsewhere = path('v2').replace('default', 'kube-public');
  const [everywhere, nearby] = await Promise.all([
    api.watch(`/apis/${GROUP}/v2/endpoints?watch=1`),
    api.watch(`${elsewhere}?watch=1`),
  ]);
  await everywhere.ended;
  t.match(everywhere.events.at(-1), { type: 'ERROR', object: { message: /this one is bad/ } });
  t.match(await api.get(elsewhere), { status: 200, body: { items: [] } }, 'nor of those in another namespace');
  t.match(await api.get(`${path('v2')}?fieldSelector=metadata.name%3Dhealthy`), { status: 200, body: { items: [{}] } });
  await api.patch(path('v1', 'poison'), 'merge', { spec: { hostPort: 'p:2' } });
  t.equal((await api.post(elsewhere, one('v2', 'apart', { host: 'a', port: '1' }))).status, 201);
  t.match(await nearby.until(1), [{ type: 'ADDED', object: { metadata: { name: 'apart' } } }]);
  nearby.stop();
  t.match(await api.delete(path('v2', 'poison')), { status: 200 }, 'it can be deleted');
  webhook.misbehave = undefined;
  t.equal((await api.get(path('v2'))).status, 200);
});

t.test('a webhook that is down, and one that does not answer', async (t) => {
  await api.post(path('v1'), one('v1', 'steady', { hostPort: 's:1' }, { finalizers: ['example.com/hold'] }));
  const { resourceVersion: from } = (await api.get(path('v1'))).body.metadata;
  const [inV1, inV2] = await Promise.all(
    ['v1', 'v2'].map((v) => api.watch(`${path(v)}?watch=1&resourceVersion=${from}`)),
  );
  await webhook.down();
  const refused =
    /^conversion webhook for stable.example.com\/v1, Kind=Endpoint failed: Post "https:\/\/127.0.0.1:\d+\/convert\?timeout=30s": dial tcp 127.0.0.1:\d+: connect: connection refused$/;
  const fresh = await api.post(path('v2'), one('v2', 'fresh', { host: 'f', port: '1' }));
  t.equal(fresh.status, 500);
  t.match(fresh.body.message, /^conversion webhook for stable.example.com\/v2, Kind=Endpoint failed/);
  t.equal(fresh.body.reason, undefined, 'as Kubernetes: no reason but the message');
  t.equal((await api.get(path('v1', 'fresh'))).status, 404, 'and nothing is written');
  t.equal((await api.post(path('v1'), one('v1', 'plain', { hostPort: 'q:1' }))).status, 201, 'what needs none goes on');
  t.match(await api.get(path('v2', 'plain')), { status: 500, body: { message: refused } });
  t.match(
    (await api.tryKubectl(`get endpoints.v2.${GROUP} plain`)).stderr,
    /Error from server: conversion webhook for/,
  );
  t.match(await api.get(path('v2')), { status: 500, body: { message: refused } });
  await inV2?.ended;
  t.match(inV2?.events.at(-1), { type: 'ERROR', object: { kind: 'Status', code: 500, message: refused } });
  t.match((await inV1?.until(1))?.[0], { type: 'ADDED', object: { metadata: { name: 'plain' } } });
  inV1?.stop();
  const initial = await api.watch(`${path('v2')}?watch=1`);
  await initial.ended;
  t.match(initial.events, [{ type: 'ERROR', object: { code: 500 } }]);
  const marked = await api.delete(path('v2', 'steady'));
  t.match(marked, {
    status: 500,
    body: { message: /^the write was made, but what it left cannot be shown: conversion/ },
  });
  t.ok(marked.headers['reckon-revision']);
  t.ok((await api.get(path('v1', 'steady'))).body.metadata.deletionTimestamp);
  t.equal((await api.get('/api/v1/namespaces')).status, 200);

  await webhook.up();
  t.match(await api.get(path('v2', 'plain')), { status: 200, body: { spec: { host: 'q' } } });
  const { natsUrl, prefix } = api;
  const timeoutMs = 700;
  const impatient = await startApi(t, { natsUrl, prefix, webhookTimeoutMs: timeoutMs });
  webhook.misbehave = () => undefined;
  await api.post(path('v1'), one('v1', 'slow', { hostPort: 'r:1' }));
  const began = performance.now();
  const late = await Promise.all([1, 2, 3].map(() => impatient.get(path('v2', 'slow'))));
  for (const answer of late) t.match(answer, { status: 500, body: { message: /context deadline exceeded$/ } });
  t.ok(performance.now() - began >= timeoutMs);
  const asked = webhook.reviews.filter(({ request }) => request.objects[0].metadata.name === 'slow');
  t.equal(asked.length, 1, 'they wait together');
  webhook.misbehave = undefined;
  t.match(await api.get(path('v2', 'slow')), { status: 200, body: { spec: { host: 'r' } } });
  await api.patch(path('v1', 'steady'), 'merge', { metadata: { finalizers: null } });
});

t.test('another storage version, and a webhook behind a Service', async (t) => {
  const service = { name: 'conversion', namespace: 'default', path: '/convert' };
  const change = endpoints({ service, caBundle: webhook.caBundle }, 'v2');
  await api.patch(`${CRDS}/endpoints.${GROUP}`, 'merge', {
    spec: {
      ...change.spec,
      conversion: {
        ...change.spec.conversion,
        webhook: {
          ...change.spec.conversion.webhook,
          clientConfig: { url: null, service, caBundle: webhook.caBundle },
        },
      },
    },
  });
  const missing = await until(
    () => api.get(path('v2', 'healthy')),
    ({ status: code }) => code === 500,
  );
  t.match(
    missing.body.message,
    /Post "https:\/\/conversion.default.svc:443\/convert\?timeout=30s": service "conversion" not found$/,
  );
  await api.post('/api/v1/namespaces/default/services', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'conversion' },
    spec: { ports: [{ port: 443, targetPort: webhook.port }] },
  });
  t.match((await api.get(path('v2', 'healthy'))).body.message, /no endpoints available for service "conversion"$/);
  const ip = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ internal, family }) => !internal && family === 'IPv4')?.address;
  await api.post('/api/v1/namespaces/default/endpoints', {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name: 'conversion' },
    subsets: [{ addresses: [{ ip }], ports: [{ port: webhook.port }] }],
  });
  t.match(await api.get(path('v2', 'healthy')), { status: 200, body: { spec: { host: 'h', port: '1' } } });
  t.match(
    await api.get(path('v1', 'healthy')),
    { status: 200, body: { spec: { hostPort: 'h:1' } } },
    'as it was stored',
  );
  const same = (await api.get(path('v1', 'healthy'))).body;
  const rewritten = await api.put(path('v1', 'healthy'), same);
  t.not(rewritten.body.metadata.resourceVersion, same.metadata.resourceVersion, 'now it is stored in v2');
  const calls = await callsDuring(() => api.get(path('v2', 'healthy')));
  t.equal(calls.length, 0);
  t.match(rewritten.body.spec, { hostPort: 'h:1' });
});

t.test('a webhook that nobody vouches for', async (t) => {
  await establish(api, endpoints({ url: webhook.url }, 'v1', 'others', 'Other'));
  await api.post(path('v1', '', 'others'), one('v1', 'a', { hostPort: 'a:1' }, {}, 'Other'));
  t.match(await api.get(path('v2', 'a', 'others')), { status: 500, body: { message: /failed: Post .*certificate/ } });
});
