/** What a pod gets from its ServiceAccount when it is made, and by which Service and address pods find the API server. */
import t from 'tap';
import { makeController } from '../../../controllers/serviceaccounts/index.ts';
import { authorityCertificate, pod, startApi, type Json } from '../api.ts';
import { startControllers } from '../controllers.ts';
import { until } from '../../harness/until.ts';

const MOUNT_PATH = '/var/run/secrets/kubernetes.io/serviceaccount';

t.test('the ServiceAccount of a pod', async (t) => {
  const api = await startApi(t, { demandsServiceAccounts: true });
  const space = '/api/v1/namespaces/fresh';
  const account = (name: string, more: object = {}): Json => ({
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name },
    ...more,
  });
  const made = async (object: Json): Promise<Json> => {
    const { status, body } = await api.post(`${space}/pods`, object);
    t.equal(status, 201, body.message);
    return body;
  };

  await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'fresh' } });
  const early = await api.post(`${space}/pods`, pod('early'));
  t.equal(early.status, 403, 'there is none, and nobody makes one');
  t.equal(
    early.body.message,
    'pods "early" is forbidden: error looking up service account fresh/default: serviceaccount "default" not found',
  );
  await startControllers(t, api, [makeController(authorityCertificate)]);

  t.test('is the default one, whose token is mounted in every container', async (t) => {
    const { spec } = await made(
      pod('plain', {
        initContainers: [{ name: 'first', image: 'busybox:1' }],
        containers: [
          { name: 'main', image: 'busybox:1' },
          { name: 'own', image: 'busybox:1', volumeMounts: [{ name: 'own', mountPath: MOUNT_PATH }] },
        ],
        volumes: [{ name: 'own', emptyDir: {} }],
      }),
    );
    t.match(spec, { serviceAccountName: 'default', serviceAccount: 'default' });
    const volume = spec.volumes[1];
    t.match(volume.name, /^kube-api-access-[a-z0-9]{5}$/);
    t.strictSame(volume.projected, {
      defaultMode: 420,
      sources: [
        { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
        { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
        {
          downwardAPI: {
            items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
          },
        },
      ],
    });
    const mount = { name: volume.name, readOnly: true, mountPath: MOUNT_PATH };
    t.strictSame(spec.initContainers[0].volumeMounts, [mount]);
    t.strictSame(spec.containers[0].volumeMounts, [mount]);
    t.equal(spec.containers[1].volumeMounts.length, 1, 'what a container has there itself stays');
    const again = await made({ ...pod('again'), spec });
    t.equal(again.spec.volumes.length, 2, 'a pod made from another one has one such volume too');
  });

  t.test('may be another one, that says no token and which secrets images are pulled with', async (t) => {
    await api.post(
      `${space}/serviceaccounts`,
      account('quiet', { automountServiceAccountToken: false, imagePullSecrets: [{ name: 'registry' }] }),
    );
    const quiet = await made(pod('quiet', { serviceAccountName: 'quiet' }));
    t.equal(quiet.spec.volumes, undefined);
    t.strictSame(quiet.spec.imagePullSecrets, [{ name: 'registry' }]);
    const loud = await made(pod('loud', { serviceAccountName: 'quiet', automountServiceAccountToken: true }));
    t.equal(loud.spec.volumes.length, 1, 'the pod has the last word');
    const own = await made(pod('own', { serviceAccountName: 'quiet', imagePullSecrets: [{ name: 'mine' }] }));
    t.strictSame(own.spec.imagePullSecrets, [{ name: 'mine' }]);
    const without = await made(pod('without', { automountServiceAccountToken: false }));
    t.equal(without.spec.volumes, undefined);
  });

  t.test('must be there', async (t) => {
    const { status, body } = await api.post(`${space}/pods`, pod('stray', { serviceAccountName: 'nobody' }));
    t.equal(status, 403);
    t.equal(
      body.message,
      'pods "stray" is forbidden: error looking up service account fresh/nobody: serviceaccount "nobody" not found',
    );
  });

  t.test('is looked for before the pod is known to be sound', async (t) => {
    for (const object of [{ kind: 'Pod' }, pod('odd', { containers: null }), pod('odd', { volumes: [{}] })])
      t.equal((await api.post(`${space}/pods`, object)).status, 422);
  });
});

t.test('the Service kubernetes', async (t) => {
  const api = await startApi(t, { podAddress: '127.0.0.2', serviceCidr: '10.99.0.0/24' });
  const { body } = await api.get('/api/v1/namespaces/default/services/kubernetes');
  t.match(body.spec, { clusterIP: '10.99.0.1', ports: [{ name: 'https', port: 443, targetPort: api.port }] });
  const PATH = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes';
  const addresses = async (): Promise<string> =>
    (await api.get(PATH)).body.endpoints.map((endpoint: Json) => endpoint.addresses[0]).join();
  const slice = (await api.get(PATH)).body;
  t.match(slice.metadata.labels, { 'kubernetes.io/service-name': 'kubernetes' });
  t.strictSame(slice.ports, [{ name: 'https', port: api.port, protocol: 'TCP' }]);
  t.strictSame(slice.endpoints, [{ addresses: ['127.0.0.2'], conditions: { ready: true } }]);
  t.match(await api.kubectl('get endpoints kubernetes'), new RegExp(`127.0.0.2:${api.port}`));
  const other = await api.another();
  t.equal((await other.get(PATH)).body.ports[0].port, api.port, 'one on another port leaves it to those who are there');

  const lease = (renewTime: Date): Json => ({
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: 'apiserver-third', labels: { 'apiserver.kubernetes.io/identity': 'kube-apiserver' } },
    spec: {
      holderIdentity: `192.0.2.3:${api.port}`,
      leaseDurationSeconds: 60,
      renewTime: renewTime.toISOString().replace('Z', '000Z'),
    },
  });
  const LEASES = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases';
  await api.post(LEASES, lease(new Date()));
  await until('the third server', async () => (await addresses()) === '127.0.0.2,192.0.2.3');
  await api.patch(`${LEASES}/apiserver-third`, 'merge', lease(new Date(Date.now() - 120_000)));
  await until('it to be gone', async () => (await addresses()) === '127.0.0.2');
  await api.delete('/api/v1/namespaces/default/services/kubernetes');
  await api.patch(`${LEASES}/apiserver-third`, 'merge', lease(new Date()));
  const again = await until<Json>('the Service to be back', async () => {
    const { status, body: found } = await api.get('/api/v1/namespaces/default/services/kubernetes');
    return status === 200 && found;
  });
  t.equal(again.spec.clusterIP, '10.99.0.1');
  t.match(
    await api.kubectl('get --raw /readyz --server https://127.0.0.2:' + api.port + ' --tls-server-name localhost'),
    /ok/,
  );
});
