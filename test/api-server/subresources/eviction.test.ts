/** Evictions against a budget: who is refused, with which words, and that no allowance is ever spent twice, by whichever of two servers. */
import t from 'tap';
import { pod, startApi, type Api, type Json } from '../api.ts';

const BUDGETS = '/apis/policy/v1/namespaces/default/poddisruptionbudgets';
const PODS = '/api/v1/namespaces/default/pods';
const ready = (status: 'True' | 'False', phase = 'Running') => ({
  status: { phase, conditions: [{ type: 'Ready', status, lastTransitionTime: '2026-01-01T00:00:00Z' }] },
});

async function runningPod(api: Api, name: string, labels: object, status: object = ready('True')): Promise<Json> {
  await api.post(PODS, pod(name, { nodeName: 'n1', terminationGracePeriodSeconds: 30 }, { labels }));
  return (await api.patch(`${PODS}/${name}/status`, 'merge', status)).body;
}

/** A budget as its controller would leave it. */
async function budget(api: Api, name: string, spec: object, status: object): Promise<void> {
  const selector = { matchLabels: { app: name } };
  const made = await api.post(BUDGETS, {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: { name },
    spec: { selector, ...spec },
  });
  if (made.status !== 201) throw new Error(made.text);
  await api.patch(`${BUDGETS}/${name}/status`, 'merge', { status: { observedGeneration: 1, ...status } });
}

const evict = (api: Api, name: string, deleteOptions?: object, query = '') =>
  api.post(`${PODS}/${name}/eviction${query}`, {
    apiVersion: 'policy/v1',
    kind: 'Eviction',
    metadata: { name },
    ...(deleteOptions && { deleteOptions }),
  });

t.test('evictions', async (t) => {
  const api = await startApi(t);

  t.test('without a budget the pod is deleted as it asks, and says why', async (t) => {
    await runningPod(api, 'free', { app: 'free' });
    const dry = await evict(api, 'free', { dryRun: ['All'] });
    t.match(dry, { status: 201, body: { kind: 'Status', status: 'Success' } });
    t.equal((await evict(api, 'free', undefined, '?dryRun=All')).status, 201);
    t.notOk((await api.get(`${PODS}/free`)).body.metadata.deletionTimestamp, 'a dry run leaves it');
    t.match(await evict(api, 'free', { preconditions: { uid: 'other' } }), { status: 409 });
    t.match(await evict(api, 'free', { gracePeriodSeconds: -1 }), { status: 422 });
    t.match(await evict(api, 'free', { gracePeriodSeconds: 7 }), { status: 201 });
    t.match((await api.get(`${PODS}/free`)).body, {
      metadata: { deletionGracePeriodSeconds: 7 },
      status: {
        conditions: [{ type: 'Ready' }, { type: 'DisruptionTarget', status: 'True', reason: 'EvictionByEvictionAPI' }],
      },
    });
    const earlier = { apiVersion: 'policy/v1beta1', kind: 'Eviction', metadata: { name: 'free' } };
    t.equal((await api.post(`${PODS}/free/eviction?dryRun=All`, earlier)).status, 201, 'in its first version too');
    const later = { ...earlier, apiVersion: 'policy/v2' };
    t.equal((await api.post(`${PODS}/free/eviction?dryRun=All`, later)).status, 400);
    t.equal((await evict(api, 'free')).status, 201, 'one that is going is evicted already');
    t.equal((await evict(api, 'nobody')).status, 404);
    const misnamed = await api.post(`${PODS}/free/eviction`, {
      apiVersion: 'policy/v1',
      kind: 'Eviction',
      metadata: { name: 'else' },
    });
    t.match(misnamed, { status: 400, body: { message: 'name in URL does not match name in Eviction object' } });
    t.equal((await api.get(`${PODS}/free/eviction`)).status, 405);
  });

  t.test('a budget that is not looked at yet, or spent, refuses', async (t) => {
    await runningPod(api, 'tight-1', { app: 'tight' });
    await budget(api, 'tight', { minAvailable: 1 }, { observedGeneration: 0 });
    const early = await evict(api, 'tight-1');
    t.match(early, {
      status: 429,
      headers: { 'retry-after': '10' },
      body: {
        details: { causes: [{ message: 'The disruption budget tight is still being processed by the server.' }] },
      },
    });
    const counted = { observedGeneration: 1, currentHealthy: 1, desiredHealthy: 1, expectedPods: 1 };
    await api.patch(`${BUDGETS}/tight/status`, 'merge', { status: { ...counted, disruptionsAllowed: 0 } });
    t.match(await evict(api, 'tight-1'), {
      status: 429,
      body: {
        reason: 'TooManyRequests',
        message: "Cannot evict pod as it would violate the pod's disruption budget.",
        details: {
          causes: [
            {
              reason: 'DisruptionBudget',
              message: 'The disruption budget tight needs 1 healthy pods and has 1 currently',
            },
          ],
        },
      },
    });
    t.equal((await evict(api, 'tight-1', { dryRun: ['All'] })).status, 429, 'a dry run is refused alike');
    await runningPod(api, 'tight-2', { app: 'tight' }, ready('False', 'Pending'));
    t.equal((await evict(api, 'tight-2')).status, 201, 'a pod that has not begun disrupts nothing');
  });

  t.test('unhealthy pods, by policy', async (t) => {
    const sick = { currentHealthy: 0, desiredHealthy: 1, expectedPods: 2, disruptionsAllowed: 0 };
    await budget(api, 'strict', { minAvailable: 1 }, sick);
    await budget(api, 'lenient', { minAvailable: 1, unhealthyPodEvictionPolicy: 'AlwaysAllow' }, sick);
    await budget(api, 'healthy', { minAvailable: 1 }, { ...sick, currentHealthy: 1 });
    for (const app of ['strict', 'lenient', 'healthy']) await runningPod(api, `${app}-1`, { app }, ready('False'));
    t.equal((await evict(api, 'strict-1')).status, 429);
    t.equal((await evict(api, 'lenient-1')).status, 201);
    t.equal((await evict(api, 'healthy-1')).status, 201, 'the application as such is well');
    t.equal((await api.get(`${BUDGETS}/healthy`)).body.status.disruptedPods, undefined, 'it cost nothing');
  });

  t.test('two budgets over one pod are one too many', async (t) => {
    await runningPod(api, 'twice-1', { app: 'twice' });
    await budget(api, 'twice', { minAvailable: 0 }, { disruptionsAllowed: 1 });
    await budget(
      api,
      'again',
      { minAvailable: 0, selector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['twice'] }] } },
      { disruptionsAllowed: 1 },
    );
    t.match(await evict(api, 'twice-1'), { status: 500, body: { message: /more than one PodDisruptionBudget/ } });
  });

  t.test('an allowance is spent once, whoever asks and wherever', async (t) => {
    const other = await api.another();
    const names = Array.from({ length: 12 }, (_, index) => `race-${index}`);
    for (const name of names) await runningPod(api, name, { app: 'race' });
    await budget(
      api,
      'race',
      { minAvailable: 7 },
      { currentHealthy: 12, desiredHealthy: 7, expectedPods: 12, disruptionsAllowed: 5 },
    );
    const answers = await Promise.all(names.map((name, index) => evict(index % 2 === 0 ? api : other, name)));
    t.strictSame(answers.map(({ status }) => status).sort(), [
      ...Array<number>(5).fill(201),
      ...Array<number>(7).fill(429),
    ]);
    const { items } = (await api.get(`${PODS}?labelSelector=app%3Drace`)).body;
    const gone = items
      .filter(({ metadata }: Json) => metadata.deletionTimestamp)
      .map(({ metadata }: Json) => metadata.name);
    const { status } = (await other.get(`${BUDGETS}/race`)).body;
    t.equal(status.disruptionsAllowed, 0);
    t.strictSame(Object.keys(status.disruptedPods).sort(), gone.sort(), 'those that go are those that were counted');
  });

  t.test('the right to evict is one of its own', async (t) => {
    await runningPod(api, 'guarded', { app: 'guarded' });
    const refused = await api.post(
      `${PODS}/guarded/eviction`,
      { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: 'guarded' } },
      { user: 'jane|' },
    );
    t.match(refused, { status: 403, body: { message: /cannot create resource "pods\/eviction"/ } });
    t.equal((await api.kubectl('api-resources --api-group=policy -o name')).trim(), 'poddisruptionbudgets.policy');
    t.match(
      (await api.get('/api/v1')).body.resources.find(({ name }: Json) => name === 'pods/eviction'),
      {
        kind: 'Eviction',
        group: 'policy',
        version: 'v1',
        verbs: ['create'],
      },
    );
  });
});
