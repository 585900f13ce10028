/** Pods that nobody ends any more, and Endpoints that somebody has written by hand. */
import t from 'tap';
import { controllers as endpointSlices } from '../../../controllers/endpointslices/index.ts';
import { controller as garbageCollector } from '../../../controllers/garbagecollector/index.ts';
import { makeController } from '../../../controllers/podgc/index.ts';
import { until } from '../../harness/until.ts';
import { pod, startApi, type Json } from '../api.ts';
import { startControllers } from '../controllers.ts';

const PODS = '/api/v1/namespaces/default/pods';

t.test('pods that nobody ends', async (t) => {
  const api = await startApi(t);
  await startControllers(t, api, [makeController({ maxEnded: 3, quarantineMs: 1_500, countEveryMs: 50 })]);
  const node = (name: string): Json => ({ apiVersion: 'v1', kind: 'Node', metadata: { name } });
  const bound = async (name: string, nodeName: string): Promise<Json> => {
    const { status, body } = await api.post(PODS, pod(name, { nodeName }));
    t.equal(status, 201, body.message);
    return body;
  };
  const gone = async (name: string): Promise<boolean> => (await api.get(`${PODS}/${name}`)).status === 404;
  await Promise.all(['n1', 'n2', 'n3'].map((name) => api.post('/api/v1/nodes', node(name))));

  t.test('those of a node that is gone, after a while', async (t) => {
    await bound('lost', 'n1');
    await bound('kept', 'n2');
    const watch = await api.watch(`${PODS}?watch=1&fieldSelector=metadata.name%3Dlost`);
    await api.delete('/api/v1/nodes/n1');
    await until('the pod to be gone', () => gone('lost'));
    const last = (await watch.until(3)).at(-1);
    watch.stop();
    t.match(last, { type: 'DELETED', object: { status: { phase: 'Failed' } } });
    t.match(last?.object.status.conditions[0], {
      type: 'DisruptionTarget',
      status: 'True',
      reason: 'DeletionByPodGC',
      message: 'PodGC: node no longer exists',
    });
    t.notOk(await gone('kept'));
  });

  t.test('but not of one that comes back in time', async (t) => {
    await bound('patient', 'n3');
    await api.delete('/api/v1/nodes/n3');
    await api.post('/api/v1/nodes', node('n3'));
    // What is given up later is given up first if anything is.
    await bound('later', 'n4');
    await until('the later pod to be gone', () => gone('later'));
    t.notOk(await gone('patient'));
  });

  t.test('those that are to go on a node that is said to be out of service', async (t) => {
    await bound('stuck', 'n2');
    await api.delete(`${PODS}/stuck`);
    t.notOk(await gone('stuck'), 'its node is to end it');
    const taints = [{ key: 'node.kubernetes.io/out-of-service', value: 'nodeshutdown', effect: 'NoExecute' }];
    await api.patch('/api/v1/nodes/n2', 'merge', { spec: { taints } });
    await until('the pod to be gone', () => gone('stuck'));
    t.notOk(await gone('kept'));
  });

  t.test('the oldest of those that have ended, once there are too many', async (t) => {
    for (let index = 0; index < 5; index++) {
      await api.post(PODS, pod(`done-${index}`, { nodeName: 'n2' }));
      await api.patch(`${PODS}/done-${index}/status`, 'merge', {
        status: { phase: index % 2 ? 'Succeeded' : 'Failed' },
      });
    }
    const ended = async (): Promise<Json[]> =>
      (await api.get(`${PODS}?fieldSelector=status.phase!%3DPending`)).body.items;
    await until('three to be left', async () => (await ended()).length === 3);
    t.equal((await ended()).length, 3);
    t.notOk(await gone('kept'));
  });
});

t.test('Endpoints written by hand are mirrored into EndpointSlices', async (t) => {
  const api = await startApi(t);
  const folderOf = (name: string): string => (name === 'endpointslicemirroring' ? 'endpointslices' : name);
  await startControllers(t, api, [...endpointSlices, garbageCollector], folderOf);
  const space = '/api/v1/namespaces/default';
  const slices = async (): Promise<Json[]> =>
    (
      await api.get(
        '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Doutside',
      )
    ).body.items;
  const endpoints = (subsets: object[], labels: object = {}): Json => ({
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name: 'outside', labels: { team: 'db', ...labels } },
    subsets,
  });
  const ports = [{ name: 'sql', port: 5432 }];
  await api.post(`${space}/services`, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'outside' },
    spec: { ports: [{ name: 'sql', port: 5432 }] },
  });
  await api.post(
    `${space}/endpoints`,
    endpoints([
      { addresses: [{ ip: '192.0.2.1' }, { ip: '2001:db8::1' }], notReadyAddresses: [{ ip: '192.0.2.2' }], ports },
    ]),
  );
  const made = await until('two slices', async () => {
    const found = await slices();
    return found.length === 2 && found;
  });
  const [four, six] = made.sort((a, b) => a.addressType.localeCompare(b.addressType));
  t.match(four.metadata.labels, {
    team: 'db',
    'endpointslice.kubernetes.io/managed-by': 'endpointslicemirroring-controller.k8s.io',
  });
  t.match(four.metadata.ownerReferences, [{ kind: 'Endpoints', name: 'outside', controller: true }]);
  t.strictSame(four.endpoints, [
    { addresses: ['192.0.2.1'], conditions: { ready: true } },
    { addresses: ['192.0.2.2'], conditions: { ready: false } },
  ]);
  t.strictSame(four.ports, [{ name: 'sql', port: 5432, protocol: 'TCP' }]);
  t.match(six, { addressType: 'IPv6', endpoints: [{ addresses: ['2001:db8::1'] }] });

  await api.put(`${space}/endpoints/outside`, endpoints([{ addresses: [{ ip: '192.0.2.9' }], ports }]));
  await until('one slice', async () => (await slices()).length === 1);
  t.strictSame((await slices())[0].endpoints[0].addresses, ['192.0.2.9']);
  const skip = { 'endpointslice.kubernetes.io/skip-mirror': 'true' };
  await api.patch(`${space}/endpoints/outside`, 'merge', { metadata: { labels: skip } });
  await until('none', async () => (await slices()).length === 0);
  await api.patch(`${space}/endpoints/outside`, 'merge', {
    metadata: { labels: { 'endpointslice.kubernetes.io/skip-mirror': null } },
  });
  await until('it again', async () => (await slices()).length === 1);
  await api.delete(`${space}/endpoints/outside`);
  await until('none any more', async () => (await slices()).length === 0);
});
