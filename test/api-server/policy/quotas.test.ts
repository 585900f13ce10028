/**
 * ResourceQuotas and LimitRanges as a client meets them: what is refused and in which words, what containers get by default, and that a quota holds whoever asks, on however many API servers.
 */
import t from 'tap';
import { controller as replicaSets } from '../../../controllers/replicasets/index.ts';
import { controller as resourceQuotas } from '../../../controllers/resourcequotas/index.ts';
import { pod, startApi, type Api, type Json } from '../api.ts';
import { startControllers } from '../controllers.ts';
import { until } from '../../harness/until.ts';

const quota = (name: string, spec: object): Json => ({
  apiVersion: 'v1',
  kind: 'ResourceQuota',
  metadata: { name },
  spec,
});
const sized = (name: string, requests: object, limits: object = {}, spec: object = {}): Json =>
  pod(name, { containers: [{ name: 'main', image: 'busybox:1', resources: { requests, limits } }], ...spec });

let namespaces = 0;

async function freshNamespace(api: Api): Promise<string> {
  const name = `space-${++namespaces}`;
  await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  return `/api/v1/namespaces/${name}`;
}

const usedOf = async (api: Api, space: string, name: string): Promise<Json> =>
  (await api.get(`${space}/resourcequotas/${name}`)).body.status?.used;

t.test('quotas', { timeout: 120_000 }, async (t) => {
  const api = await startApi(t);
  const other = await api.another();
  await startControllers(t, api, [resourceQuotas, replicaSets]);

  t.test('what would exceed a quota is refused in the words of Kubernetes, and what stands is counted', async (t) => {
    const space = await freshNamespace(api);
    const hard = { pods: '3', 'requests.cpu': '1', 'limits.memory': '1Gi', 'count/deployments.apps': '1' };
    await api.post(`${space}/resourcequotas`, quota('compute', { hard }));
    const silent = await api.post(`${space}/pods`, pod('silent'));
    t.equal(silent.status, 403);
    t.equal(
      silent.body.message,
      'pods "silent" is forbidden: failed quota: compute: must specify limits.memory for: main; requests.cpu for: main',
    );
    const first = await api.post(`${space}/pods`, sized('first', { cpu: '600m' }, { memory: '256Mi' }));
    t.equal(first.status, 201);
    t.match(await usedOf(api, space, 'compute'), { pods: '1', 'requests.cpu': '600m', 'limits.memory': '256Mi' });
    const greedy = await api.post(`${space}/pods`, sized('greedy', { cpu: '500m' }, { memory: '1Gi' }));
    t.equal(greedy.status, 403);
    t.equal(greedy.body.reason, 'Forbidden');
    t.equal(
      greedy.body.message,
      'pods "greedy" is forbidden: exceeded quota: compute, requested: limits.memory=1Gi,requests.cpu=500m, used: limits.memory=256Mi,requests.cpu=600m, limited: limits.memory=1Gi,requests.cpu=1',
    );
    await api.delete(`${space}/pods/first`);
    const again = await api.post(`${space}/pods`, sized('again', { cpu: '1' }, { memory: '1Gi' }));
    t.equal(again.status, 201, 'what was freed is free at once');
    const dry = await api.post(`${space}/pods?dryRun=All`, sized('dry', { cpu: '1m' }, { memory: '1Mi' }));
    t.equal(dry.status, 403, 'a dry run is held against it too');
    await api.delete(`${space}/pods/again`);
    await until('nothing to be used', async () => (await usedOf(api, space, 'compute')).pods === '0');
    t.match((await api.get(`${space}/resourcequotas/compute`)).body.status.hard, hard);
  });

  t.test('services, ports, claims, storage and any other kind are counted', async (t) => {
    const space = await freshNamespace(api);
    const gold = 'gold.storageclass.storage.k8s.io/requests.storage';
    const hard = {
      services: '2',
      'services.nodeports': '1',
      'requests.storage': '2Gi',
      [gold]: '1Gi',
      configmaps: '2',
      'count/configmaps': '5',
    };
    await api.post(`${space}/resourcequotas`, quota('objects', { hard }));
    const service = (name: string, type: string): Json => ({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name },
      spec: { type, ports: [{ port: 80 }] },
    });
    t.equal((await api.post(`${space}/services`, service('a', 'NodePort'))).status, 201);
    t.match(
      (await api.post(`${space}/services`, service('b', 'NodePort'))).body.message,
      /exceeded quota: objects, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1/,
    );
    t.equal((await api.post(`${space}/services`, service('b', 'ClusterIP'))).status, 201);
    const turned = await api.patch(`${space}/services/b`, 'merge', { spec: { type: 'NodePort' } });
    t.equal(turned.status, 403, 'a change that uses more is held against the quota too');
    t.match(
      (await api.post(`${space}/services`, service('c', 'ClusterIP'))).body.message,
      /requested: services=1, used: services=2, limited: services=2/,
    );
    const claim = (name: string, storage: string, storageClassName: string): Json => ({
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage } }, storageClassName },
    });
    t.equal((await api.post(`${space}/persistentvolumeclaims`, claim('one', '1Gi', 'gold'))).status, 201);
    t.match(
      (await api.post(`${space}/persistentvolumeclaims`, claim('two', '1Mi', 'gold'))).body.message,
      /requested: gold\.storageclass\.storage\.k8s\.io\/requests\.storage=1Mi, used: .*=1Gi, limited: .*=1Gi/,
    );
    t.equal((await api.post(`${space}/persistentvolumeclaims`, claim('two', '1Gi', 'iron'))).status, 201);
    const map = (name: string): Json => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name } });
    for (const name of ['m1', 'm2']) t.equal((await api.post(`${space}/configmaps`, map(name))).status, 201);
    t.match(
      (await api.post(`${space}/configmaps`, map('m3'))).body.message,
      /requested: configmaps=1, used: configmaps=2/,
    );
    t.match(await usedOf(api, space, 'objects'), { services: '2', 'requests.storage': '2Gi', 'count/configmaps': '2' });
  });

  t.test('a quota is about the pods of its scope alone', async (t) => {
    const space = await freshNamespace(api);
    await api.post(`${space}/resourcequotas`, quota('best-effort', { hard: { pods: '1' }, scopes: ['BestEffort'] }));
    await api.post(`${space}/resourcequotas`, quota('short', { hard: { pods: '1' }, scopes: ['Terminating'] }));
    const scopeSelector = {
      matchExpressions: [{ scopeName: 'PriorityClass', operator: 'In', values: ['system-cluster-critical'] }],
    };
    await api.post(`${space}/resourcequotas`, quota('critical', { hard: { pods: '0' }, scopeSelector }));
    t.equal((await api.post(`${space}/pods`, pod('a'))).status, 201);
    t.match((await api.post(`${space}/pods`, pod('b'))).body.message, /exceeded quota: best-effort/);
    t.equal((await api.post(`${space}/pods`, sized('c', { cpu: '1m' }))).status, 201);
    t.equal((await api.post(`${space}/pods`, sized('d', { cpu: '1m' }, {}, { activeDeadlineSeconds: 9 }))).status, 201);
    t.match(
      (await api.post(`${space}/pods`, sized('e', { cpu: '1m' }, {}, { activeDeadlineSeconds: 9 }))).body.message,
      /exceeded quota: short/,
    );
    t.match(
      (await api.post(`${space}/pods`, sized('f', { cpu: '1m' }, {}, { priorityClassName: 'system-cluster-critical' })))
        .body.message,
      /exceeded quota: critical, requested: pods=1, used: pods=0, limited: pods=0/,
    );
    t.strictSame(await usedOf(api, space, 'best-effort'), { pods: '1' });
    await api.patch(`${space}/pods/a/status`, 'merge', { status: { phase: 'Succeeded' } });
    t.equal((await api.post(`${space}/pods`, pod('b'))).status, 201, 'a pod that has ended uses nothing');
  });

  t.test('twenty at once on two servers: as many stand as the quota allows, and no more', async (t) => {
    const space = await freshNamespace(api);
    await api.post(`${space}/resourcequotas`, quota('few', { hard: { pods: '7' } }));
    await until(
      'the other server to know it',
      async () => (await other.get(`${space}/resourcequotas/few`)).status === 200,
    );
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => (index % 2 ? api : other).post(`${space}/pods`, pod(`pod-${index}`))),
    );
    t.strictSame(answers.map(({ status }) => status).sort(), [
      ...Array.from({ length: 7 }, () => 201),
      ...Array.from({ length: 13 }, () => 403),
    ]);
    t.equal((await api.get(`${space}/pods`)).body.items.length, 7);
    t.strictSame(await usedOf(other, space, 'few'), { pods: '7' });
  });

  t.test('a ReplicaSet says that its pods are refused, and goes on once there is room', async (t) => {
    const space = await freshNamespace(api);
    const namespace = space.split('/').at(-1);
    await api.post(`${space}/resourcequotas`, quota('one', { hard: { pods: '1' } }));
    const set = {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata: { name: 'web' },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'web' } },
        template: { metadata: { labels: { app: 'web' } }, spec: pod('x').spec },
      },
    };
    const path = `/apis/apps/v1/namespaces/${namespace}/replicasets`;
    await api.post(path, set);
    const condition = await until<Json>(
      'the condition',
      async () => (await api.get(`${path}/web`)).body.status?.conditions?.[0],
    );
    t.match(condition, { type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate' });
    t.match(condition.message, /exceeded quota: one, requested: pods=1, used: pods=1, limited: pods=1/);
    await until('the event', async () => {
      const { items } = (await api.get(`${space}/events`)).body;
      return items.some((event: Json) => event.reason === 'FailedCreate' && /exceeded quota: one/.test(event.message));
    });
    await api.patch(`${space}/resourcequotas/one`, 'merge', { spec: { hard: { pods: '2' } } });
    const status = await until<Json>('both pods', async () => {
      const { status } = (await api.get(`${path}/web`)).body;
      return status.replicas === 2 && status;
    });
    t.equal(status.conditions, undefined);
    t.match(await api.kubectl(`describe quota one -n ${namespace}`), /pods\s+2\s+2/);
  });

  t.test('a quota that cannot be is refused', async (t) => {
    const space = await freshNamespace(api);
    const faultsOf = async (spec: object) =>
      ((await api.post(`${space}/resourcequotas`, quota('q', spec))).body.details?.causes ?? []).map(
        ({ field, message }: Json) => `${field}: ${message}`,
      );
    t.match(await faultsOf({ hard: { bananas: '1', pods: '1.5', services: '-1' } }), [
      'spec.hard[bananas]: Invalid value: "bananas": must be a standard resource for quotas',
      /^spec\.hard\[pods\]: Invalid value: "1500m": must be an integer/,
      'spec.hard[services]: Invalid value: "-1": must be greater than or equal to 0',
    ]);
    t.match(await faultsOf({ scopes: ['Terminating', 'NotTerminating'] }), [/conflicting scopes/]);
    t.match(await faultsOf({ scopes: ['BestEffort'], hard: { 'requests.cpu': '1' } }), [
      /unsupported scope applied to resource/,
    ]);
  });
});

t.test('limit ranges', async (t) => {
  const api = await startApi(t);
  const range = (limits: object[]): Json => ({
    apiVersion: 'v1',
    kind: 'LimitRange',
    metadata: { name: 'limits' },
    spec: { limits },
  });

  t.test('containers get what they do not say, and the pod is told so', async (t) => {
    const space = await freshNamespace(api);
    await api.post(
      `${space}/limitranges`,
      range([{ type: 'Container', default: { memory: '64Mi', cpu: '200m' }, defaultRequest: { cpu: '50m' } }]),
    );
    const { body } = await api.post(`${space}/pods`, pod('plain'));
    t.strictSame(body.spec.containers[0].resources, {
      requests: { cpu: '50m', memory: '64Mi' },
      limits: { cpu: '200m', memory: '64Mi' },
    });
    t.equal(body.status.qosClass, 'Burstable');
    t.equal(
      body.metadata.annotations['kubernetes.io/limit-ranger'],
      'LimitRanger plugin set: cpu, memory request for container main; cpu, memory limit for container main',
    );
    const own = await api.post(
      `${space}/pods`,
      sized('own', { cpu: '7m', memory: '1Mi' }, { cpu: '8m', memory: '2Mi' }),
    );
    t.match(own.body.spec.containers[0].resources, { requests: { cpu: '7m' }, limits: { memory: '2Mi' } });
    t.equal(own.body.metadata.annotations, undefined);
  });

  t.test('what is below, above or out of proportion is refused, all at once', async (t) => {
    const space = await freshNamespace(api);
    await api.post(
      `${space}/limitranges`,
      range([
        { type: 'Container', min: { memory: '10Mi' }, max: { memory: '100Mi' }, maxLimitRequestRatio: { cpu: '2' } },
        { type: 'Pod', max: { cpu: '1' } },
        { type: 'PersistentVolumeClaim', min: { storage: '1Gi' }, max: { storage: '2Gi' } },
      ]),
    );
    const refusal = async (requests: object, limits: object) =>
      (await api.post(`${space}/pods`, sized('p', requests, limits))).body.message;
    t.equal(
      await refusal({ memory: '5Mi', cpu: '100m' }, { memory: '200Mi', cpu: '300m' }),
      'pods "p" is forbidden: [minimum memory usage per Container is 10Mi, but request is 5Mi, maximum memory usage per Container is 100Mi, but limit is 200Mi, cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000]',
    );
    t.equal(
      await refusal({ memory: '50Mi', cpu: '1' }, { memory: '50Mi', cpu: '2' }),
      'pods "p" is forbidden: maximum cpu usage per Pod is 1, but limit is 2',
    );
    t.equal(
      (
        await api.post(`${space}/persistentvolumeclaims`, {
          apiVersion: 'v1',
          kind: 'PersistentVolumeClaim',
          metadata: { name: 'big' },
          spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '3Gi' } } },
        })
      ).body.message,
      'persistentvolumeclaims "big" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi',
    );
  });

  t.test('a range that contradicts itself is refused', async (t) => {
    const space = await freshNamespace(api);
    const { body } = await api.post(
      `${space}/limitranges`,
      range([
        { type: 'Container', min: { cpu: '2' }, max: { cpu: '1' } },
        { type: 'Pod', default: { cpu: '1' } },
      ]),
    );
    const messages = body.details.causes.map(({ field, message }: Json) => `${field}: ${message}`);
    t.ok(
      messages.some((says: string) =>
        /^spec.limits\[0\].min\[cpu\].*min value 2 is greater than max value 1/.test(says),
      ),
    );
    t.ok(messages.some((says: string) => /^spec.limits\[1\].default: Forbidden/.test(says)));
  });
});
