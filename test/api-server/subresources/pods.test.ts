/** The subresources of pods as the API server judges them, before any agent is asked: who may, what is wrong, and what an ephemeral container may be. The streams themselves are in test/spine/streams.test.ts. */
import t from 'tap';
import { pod, startApi, type Api, type Json } from '../api.ts';

const PODS = '/api/v1/namespaces/default/pods';
const UPGRADE = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  'sec-websocket-protocol': 'v5.channel.k8s.io',
};
const NODE = { user: 'system:node:n1|system:nodes' };

const upgrade = (api: Api, path: string, options: object = {}) => api.get(path, { headers: UPGRADE, ...options });

t.test('subresources of pods', async (t) => {
  const api = await startApi(t);
  await api.post(PODS, pod('web'));
  await api.post(PODS, pod('placed', { nodeName: 'n1' }));

  t.test('streams: who may, and to what', async (t) => {
    for (const subresource of ['exec', 'attach', 'portforward', 'proxy']) {
      const path = `${PODS}/placed/${subresource}`;
      for (const options of [{ user: 'jane|' }, NODE]) {
        const refused = await upgrade(api, path, options);
        t.match(refused, { status: 403, body: { reason: 'Forbidden' } }, `${subresource} ${options.user}`);
        t.match(refused.body.message, `cannot get resource "pods/${subresource}"`);
      }
      const posted = await api.post(path, undefined, { user: 'jane|' });
      t.match(posted.body.message, `cannot create resource "pods/${subresource}"`);
    }
    for (const subresource of ['exec', 'attach', 'portforward'])
      t.match(await api.get(`${PODS}/placed/${subresource}`), {
        status: 400,
        body: { message: 'Upgrade request required' },
      });
    t.match(await upgrade(api, `${PODS}/nobody/exec`), { status: 404, body: { message: 'pods "nobody" not found' } });
    t.match(await upgrade(api, `${PODS}/web/exec?command=x`), { status: 400, body: { message: /host assigned/ } });
    t.match(await upgrade(api, `${PODS}/web/portforward`), { status: 400, body: { message: /host assigned/ } });
    t.match(await upgrade(api, `${PODS}/web/exec?container=no`), { status: 400, body: { message: /not valid/ } });
    t.match(await upgrade(api, `${PODS}/placed/portforward`), { status: 400, body: { message: /agent of node "n1"/ } });
    t.match(await upgrade(api, `${PODS}/web/log`), { status: 400, body: { message: /cannot be upgraded/ } });
  });

  t.test('proxy: what cannot be reached', async (t) => {
    t.match(await api.get(`${PODS}/web:80/proxy/`), { status: 400, body: { message: 'address not allowed' } });
    t.match(await api.get(`${PODS}/web:http/proxy/`), { status: 400, body: { message: /invalid pod request/ } });
    t.match(await api.get(`${PODS}/ftp:web:1/proxy/`), { status: 400, body: { message: /invalid pod request/ } });
    const service = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'own' },
      spec: { ports: [{ port: 80 }] },
    };
    await api.post('/api/v1/namespaces/default/services', service);
    const through = '/api/v1/namespaces/default/services/own:80/proxy/';
    t.match(await api.get(through), { status: 503, body: { message: 'no endpoints available for service "own:80"' } });
    await api.post('/api/v1/namespaces/default/endpoints', {
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { name: 'own' },
      subsets: [{ addresses: [{ ip: '127.0.0.1' }], ports: [{ port: api.port }] }],
    });
    t.match(
      await api.get(through),
      { status: 400, body: { message: 'address not allowed' } },
      'not this machine itself',
    );
    t.match(await api.get(through, { user: 'jane|' }), { status: 403 });
  });

  t.test('ephemeral containers are added, and stay as they are', async (t) => {
    const path = `${PODS}/web/ephemeralcontainers`;
    const add = (container: Json) => api.patch(path, 'strategic', { spec: { ephemeralContainers: [container] } });
    const added = await add({ name: 'looks', image: 'busybox', targetContainerName: 'main' });
    t.match(added, {
      status: 200,
      body: {
        spec: { ephemeralContainers: [{ name: 'looks', imagePullPolicy: 'Always' }], containers: [{ name: 'main' }] },
      },
    });
    t.equal((await add({ name: 'again', image: 'busybox' })).body.spec.ephemeralContainers.length, 2);
    const fault = async (container: Json, field: string) => {
      const refused = await add(container);
      t.equal(refused.status, 422, field);
      t.match(refused.body.details.causes, [{ field }]);
    };
    await fault({ name: 'looks', image: 'other' }, 'spec.ephemeralContainers');
    await fault({ name: 'main', image: 'busybox' }, 'spec.ephemeralContainers[0].name');
    await fault(
      { name: 'x', image: 'busybox', targetContainerName: 'no' },
      'spec.ephemeralContainers[0].targetContainerName',
    );
    await fault({ name: 'x', image: 'busybox', ports: [{ containerPort: 1 }] }, 'spec.ephemeralContainers[0].ports');
    const probe = { livenessProbe: { exec: { command: ['true'] } } };
    await fault({ name: 'x', image: 'busybox', ...probe }, 'spec.ephemeralContainers[0].livenessProbe');

    const standing = (await api.get(`${PODS}/web`)).body;
    const put = (change: (object: Json) => void) => {
      const object = structuredClone(standing);
      change(object);
      return object as Json;
    };
    const more = await api.put(
      path,
      put((object) => {
        object.spec.ephemeralContainers.push({ name: 'third', image: 'busybox' });
        object.spec.containers[0].image = 'other';
        object.metadata.labels = { a: 'b' };
        object.status.phase = 'Failed';
      }),
    );
    t.equal(more.body.spec.ephemeralContainers.length, 3);
    t.match(
      more.body,
      { spec: { containers: [{ image: 'busybox' }] }, status: { phase: 'Pending' } },
      'and nothing else',
    );
    t.notOk(more.body.metadata.labels);
    const { resourceVersion: _, ...metadata } = standing.metadata;
    const removed = await api.put(path, { ...put((object) => object.spec.ephemeralContainers.shift()), metadata });
    t.match(removed, { status: 422, body: { message: /existing ephemeral containers .* may not be removed/ } });
    const around = await api.put(`${PODS}/web`, {
      ...put((object) => delete object.spec.ephemeralContainers),
      metadata,
    });
    t.match(around, { status: 422, body: { details: { causes: [{ field: 'spec.ephemeralContainers' }] } } });
    t.match(await api.post(PODS, pod('born', { ephemeralContainers: [{ name: 'x', image: 'y' }] })), {
      status: 422,
      body: { message: /cannot be set on create/ },
    });
    t.equal((await api.patch(path, 'merge', {}, { user: 'jane|' })).status, 403);
    t.equal((await api.patch(path, 'merge', {}, NODE)).status, 403);
  });
});
