/** Kinds that are served in two shapes: whatever is written in one is read, selected, patched and watched in the other, and nothing is lost on the way. */
import t from 'tap';
import { startApi, type Json } from './api.ts';

t.test('one object in two shapes', { timeout: 60_000 }, async (t) => {
  const api = await startApi(t);

  t.test('Events of both groups', async (t) => {
    const core = '/api/v1/namespaces/default/events';
    const newer = '/apis/events.k8s.io/v1/namespaces/default/events';
    const regarding = { apiVersion: 'v1', kind: 'Pod', namespace: 'default', name: 'web', uid: 'u1' };
    const event = (name: string, more: object = {}): Json => ({
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name },
      eventTime: '2030-01-01T00:00:00.123456Z',
      reportingController: 'example.com/shopkeeper',
      reportingInstance: 'shopkeeper-1',
      action: 'Selling',
      reason: 'Sold',
      type: 'Normal',
      regarding,
      note: 'it was sold',
      ...more,
    });
    const [asCore, asNewer] = await Promise.all([api.watch(`${core}?watch=1`), api.watch(`${newer}?watch=1`)]);
    const made = await api.post(newer, event('sold'));
    t.equal(made.status, 201, made.text);
    t.match(made.body, { apiVersion: 'events.k8s.io/v1', note: 'it was sold', regarding: { name: 'web' } });
    const read = (await api.get(`${core}/sold`)).body;
    t.match(read, {
      apiVersion: 'v1',
      message: 'it was sold',
      involvedObject: regarding,
      reportingComponent: 'example.com/shopkeeper',
      eventTime: '2030-01-01T00:00:00.123456Z',
    });
    t.equal(read.note, undefined);
    t.equal(read.metadata.uid, made.body.metadata.uid);

    const series = { count: 2, lastObservedTime: '2030-01-01T00:00:05.000000Z' };
    const again = await api.patch(`${newer}/sold`, 'strategic', { series });
    t.match(again.body, { note: 'it was sold', series });
    t.match((await api.get(`${core}/sold`)).body.series, series);
    const otherwise = await api.patch(`${newer}/sold`, 'merge', { note: 'it was lost', reportingController: 'x' });
    t.strictSame(
      [otherwise.status, otherwise.body.details.causes.map(({ field }: Json) => field)],
      [422, ['message', 'reportingController']],
    );
    t.match(otherwise.body.details.causes[0], { message: 'Invalid value: "it was lost": field is immutable' });

    const legacy = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: 'bought' },
      involvedObject: { ...regarding, name: 'db' },
      message: 'it was bought',
      reason: 'Bought',
      type: 'Warning',
      source: { component: 'buyer', host: 'n1' },
      firstTimestamp: '2030-01-01T00:00:00Z',
      lastTimestamp: '2030-01-01T00:01:00Z',
      count: 3,
    };
    await api.post(core, legacy);
    t.match((await api.get(`${newer}/bought`)).body, {
      note: 'it was bought',
      eventTime: null,
      deprecatedSource: { component: 'buyer', host: 'n1' },
      deprecatedFirstTimestamp: '2030-01-01T00:00:00Z',
      deprecatedCount: 3,
    });
    const names = async (path: string): Promise<string[]> =>
      (await api.get(path)).body.items.map(({ metadata }: Json) => metadata.name);
    t.strictSame(await names(newer), ['bought', 'sold']);
    t.strictSame(await names(`${newer}?fieldSelector=regarding.name%3Dweb,type%21%3DWarning`), ['sold']);
    t.strictSame(await names(`${core}?fieldSelector=involvedObject.name%3Dweb`), ['sold']);
    const list = (await api.get(newer)).body;
    t.match(list, { kind: 'EventList', apiVersion: 'events.k8s.io/v1' });
    t.ok(list.items.every((item: Json) => item.apiVersion === 'events.k8s.io/v1'));

    await api.delete(`${core}/sold`);
    const seen = await asNewer.until(4);
    t.strictSame(
      seen.map(({ type, object }) => [type, object.apiVersion, object.note]),
      [
        ['ADDED', 'events.k8s.io/v1', 'it was sold'],
        ['MODIFIED', 'events.k8s.io/v1', 'it was sold'],
        ['ADDED', 'events.k8s.io/v1', 'it was bought'],
        ['DELETED', 'events.k8s.io/v1', 'it was sold'],
      ],
    );
    t.ok((await asCore.until(4)).every(({ object }) => object.apiVersion === 'v1' && object.message));
    asCore.stop();
    asNewer.stop();

    const refused = await api.post(newer, event('bare', { reportingController: '', action: undefined, type: 'Odd' }));
    t.strictSame(
      refused.body.details.causes.map(({ field }: Json) => field),
      ['reportingController', 'action', 'type'],
    );
    t.match(await api.kubectl('get events.v1.events.k8s.io'), /Warning +Bought +pod\/db +it was bought/);
    t.match(await api.kubectl('get events'), /Warning +Bought +pod\/db +it was bought/);
    t.match(await api.kubectl('events'), /Bought +Pod\/db +it was bought/);
  });

  t.test('HorizontalPodAutoscalers of both versions', async (t) => {
    const v1 = '/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers';
    const v2 = '/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers';
    const scaleTargetRef = { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' };
    const cpu = (averageUtilization: number): Json => ({
      type: 'Resource',
      resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization } },
    });
    const made = await api.post(v1, {
      apiVersion: 'autoscaling/v1',
      kind: 'HorizontalPodAutoscaler',
      metadata: { name: 'old' },
      spec: { scaleTargetRef, maxReplicas: 5, targetCPUUtilizationPercentage: 60 },
    });
    t.equal(made.status, 201, made.text);
    t.match(made.body, { apiVersion: 'autoscaling/v1', spec: { minReplicas: 1, targetCPUUtilizationPercentage: 60 } });
    t.strictSame((await api.get(`${v2}/old`)).body.spec, {
      scaleTargetRef,
      maxReplicas: 5,
      minReplicas: 1,
      metrics: [cpu(60)],
    });
    const metrics = [
      cpu(70),
      { type: 'Pods', pods: { metric: { name: 'hits' }, target: { type: 'AverageValue', averageValue: '10' } } },
      {
        type: 'External',
        external: { metric: { name: 'queue' }, target: { type: 'Value', value: '30' } },
      },
      {
        type: 'Object',
        object: { describedObject: scaleTargetRef, metric: { name: 'load' }, target: { type: 'Value', value: '2k' } },
      },
      {
        type: 'ContainerResource',
        containerResource: { name: 'memory', container: 'main', target: { type: 'AverageValue', averageValue: '1Gi' } },
      },
    ];
    const behavior = {
      scaleDown: { stabilizationWindowSeconds: 60, policies: [{ type: 'Pods', value: 1, periodSeconds: 30 }] },
    };
    await api.post(v2, {
      apiVersion: 'autoscaling/v2',
      kind: 'HorizontalPodAutoscaler',
      metadata: { name: 'new', annotations: { mine: 'yes' } },
      spec: { scaleTargetRef, maxReplicas: 5, metrics, behavior },
    });
    const before = (await api.get(`${v2}/new`)).body;
    const old = (await api.get(`${v1}/new`)).body;
    t.match(old.spec, { maxReplicas: 5, targetCPUUtilizationPercentage: 70 });
    t.equal(old.spec.metrics, undefined);
    t.equal(JSON.parse(old.metadata.annotations['autoscaling.alpha.kubernetes.io/metrics']).length, 4);
    const watch = await api.watch(`${v1}?watch=1&resourceVersion=${old.metadata.resourceVersion}`);
    const put = await api.put(`${v1}/new`, { ...old, spec: { ...old.spec, maxReplicas: 9 } });
    t.equal(put.status, 200, put.text);
    const after = (await api.get(`${v2}/new`)).body;
    t.strictSame(
      [...after.spec.metrics].sort((a: Json, b: Json) => a.type.localeCompare(b.type)),
      [...before.spec.metrics].sort((a: Json, b: Json) => a.type.localeCompare(b.type)),
      'a client of the old version loses nothing of the new',
    );
    t.strictSame(after.spec.behavior, before.spec.behavior);
    t.strictSame(after.metadata.annotations, { mine: 'yes' });
    t.match((await watch.until(1))[0]?.object, { apiVersion: 'autoscaling/v1', spec: { maxReplicas: 9 } });
    watch.stop();
    t.match(await api.kubectl('get hpa new'), /Deployment\/web/);
    t.match(await api.kubectl('get hpa.v1.autoscaling old'), /<unknown>\/60%/);
    const explained = await api.kubectl('explain hpa.spec --api-version autoscaling/v1');
    t.match(explained, /targetCPUUtilizationPercentage/);
    const applied = await api.patch(`${v1}/old?fieldManager=me`, 'apply', {
      apiVersion: 'autoscaling/v1',
      kind: 'HorizontalPodAutoscaler',
      metadata: { name: 'old' },
      spec: { maxReplicas: 7 },
    });
    t.equal(applied.status, 409, 'another manager owns it');
    t.match(applied.body.message, /spec\.maxReplicas/);
    const { groups } = (await api.get('/apis')).body;
    const autoscaling = groups.find(({ name }: Json) => name === 'autoscaling');
    t.strictSame(
      [autoscaling.preferredVersion.version, autoscaling.versions.map(({ version }: Json) => version)],
      ['v2', ['v2', 'v1']],
    );
  });
});
