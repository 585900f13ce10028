/**
 * The whole system with every process under its own identity: what it does by itself must not need a right that it does not hold. Whatever is refused stands in a log.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { startReckon } from '../../harness/start-reckon.ts';

const NAMESPACE = 'rights';

const workload = [
  { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } },
  { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'word', namespace: NAMESPACE }, stringData: { word: 'xyzzy' } },
  { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'plain', namespace: NAMESPACE }, data: { a: 'b' } },
  {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'data', namespace: NAMESPACE },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Mi' } } },
  },
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: NAMESPACE },
    spec: { selector: { app: 'web' }, ports: [{ port: 80 }] },
  },
  {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: NAMESPACE },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: {
          containers: [
            {
              name: 'main',
              image: 'reckon/busybox:1',
              imagePullPolicy: 'IfNotPresent',
              env: [{ name: 'WORD', valueFrom: { secretKeyRef: { name: 'word', key: 'word' } } }],
              volumeMounts: [
                { name: 'data', mountPath: '/data' },
                { name: 'plain', mountPath: '/plain' },
              ],
            },
          ],
          volumes: [
            { name: 'data', persistentVolumeClaim: { claimName: 'data' } },
            { name: 'plain', configMap: { name: 'plain' } },
          ],
        },
      },
    },
  },
];

t.test('everything works, and nothing is refused', { timeout: 240_000 }, async (t) => {
  const reckon = await startReckon(t, { runtime: 'simulated' });
  const until = async (what: string, words: string, expected: RegExp) => {
    let seen = '';
    for (let attempt = 0; attempt < 120; attempt++) {
      const { stdout, stderr } = await reckon.tryKubectl(words);
      if (expected.test((seen = stdout + stderr))) break;
      await sleep(500);
    }
    t.match(seen, expected, what);
  };
  await until('the node registers', 'get nodes', / Ready /);
  await reckon.kubectl('apply -f -', { input: { apiVersion: 'v1', kind: 'List', items: workload } });
  await until('the deployment runs', `-n ${NAMESPACE} get deployment web`, /1\/1/);
  await until('the claim is bound', `-n ${NAMESPACE} get pvc data`, /Bound/);
  await until('the service has an endpoint', `-n ${NAMESPACE} get endpoints web`, /:80/);
  await until(
    'a namespace knows the authority',
    `-n ${NAMESPACE} get configmap kube-root-ca.crt -o yaml`,
    /BEGIN CERTIFICATE/,
  );
  const part = {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRole',
    metadata: { name: 'things', labels: { 'rbac.authorization.k8s.io/aggregate-to-view': 'true' } },
    rules: [{ apiGroups: ['example.com'], resources: ['things'], verbs: ['get'] }],
  };
  await reckon.kubectl('create -f -', { input: part });
  for (const name of ['view', 'edit', 'admin'])
    await until(`${name} takes up a new rule`, `get clusterrole ${name} -o yaml`, /- things/);
  await reckon.kubectl(`-n ${NAMESPACE} scale deployment web --replicas=2`);
  await until('it grows', `-n ${NAMESPACE} get deployment web`, /2\/2/);
  await reckon.kubectl(`-n ${NAMESPACE} set image deployment/web main=reckon/busybox:2`);
  await until(
    'it is updated',
    `-n ${NAMESPACE} rollout status deployment/web --timeout=20s`,
    /successfully rolled out/,
  );
  await reckon.kubectl(`delete namespace ${NAMESPACE} --wait=false`);
  await until('the namespace goes', 'get namespaces', /^(?![\s\S]*rights)/);
  await until('the volume goes', 'get pv', /^(?![\s\S]*rights\/data)/);
  for (const name of await reckon.processes())
    t.strictSame(refusals(await reckon.logs(name)), [], `${name} was refused nothing`);

  await reckon.tryKubectl('get nodes --as jane');
  const said = (await reckon.logs('api-server')).split('\n').filter((line) => line.includes('in the name of another'));
  t.match(said.at(-1), /"user":"jane","impersonator":"admin".*"resource":"nodes"/, 'the log knows who it was');

  // And a right that is missing is seen there.
  await reckon.kubectl('delete clusterrolebinding system:controller:deployments');
  await reckon.kubectl('create deployment refused --image=reckon/busybox:1');
  for (let attempt = 0; attempt < 40 && refusals(await reckon.logs('deployments')).length === 0; attempt++)
    await sleep(250);
  t.match(
    refusals(await reckon.logs('deployments'))[0],
    /system:controller:deployments.*cannot (create|update|patch) resource/,
  );
});

const refusals = (log: string): string[] =>
  log.split('\n').filter((line) => /cannot (get|list|create|update|patch|delete) resource|forbidden/i.test(line));
