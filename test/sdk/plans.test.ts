/**
 * How plans are carried out, on a real log and API server: causes and reasons reach the log, answers may be lost without a pod too many, a plan that the world has overtaken is dropped, and
 * failures are told to the next attempt.
 */
import fc from 'fast-check';
import t from 'tap';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import { controller as replicasets } from '../../controllers/replicasets/index.ts';
import type { LogRecord } from '../../event-log/event-log.ts';
import { openLogReader } from '../../event-log/jetstream.ts';
import {
  type ActionFailure,
  ApiError,
  type ApiObject,
  type Controller,
  type ObjectKey,
  readKubeconfig,
  TerminalError,
} from '../../sdk/index.ts';
import { ControllerLoop } from '../../sdk/controller-loop.ts';
import { EventRecorder } from '../../sdk/events.ts';
import { eventually, PODS, startCluster } from './cluster.ts';
import { startCuttingProxy } from './cutting-proxy.ts';

t.setTimeout(600_000);

const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps' };
const REPLICA_SETS = { group: 'apps', version: 'v1', resource: 'replicasets' };
const namespace = 'default';

const cluster = await startCluster();
const { admin } = cluster;
const log = await openLogReader({ url: cluster.nats.url, stream: 'log' });
const reading = new AbortController();
const records: LogRecord[] = [];
void (async () => {
  for await (const followed of log.follow({ from: 'snapshot', signal: reading.signal }))
    records.push(...followed.records);
})();
t.teardown(async () => {
  reading.abort();
  await log.close();
  await cluster.remove();
});

const configMap = (name: string, data: Record<string, string> = {}): ApiObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace },
  data,
});
const dataOf = (object: ApiObject) => (object['data'] ?? {}) as Record<string, string>;

/** A controller of config maps whose names begin with `prefix`. */
function controllerOf(
  prefix: string,
  parts: Partial<Controller<ApiObject, ActionFailure | undefined>>,
): Controller<ApiObject, ActionFailure | undefined> {
  return {
    name: prefix,
    resource: CONFIG_MAPS,
    watches: [],
    observe: (key: ObjectKey, world, _nowMs, lastFailure) => {
      const desired = key.name.startsWith(prefix) ? world.get(CONFIG_MAPS, key.namespace, key.name) : undefined;
      return desired && { desired, observed: lastFailure };
    },
    reconcile: () => ({ actions: [] }),
    ...parts,
  };
}

t.test('a write names its actor and what it answers to', async (t) => {
  await cluster.run([
    controllerOf('copying', {
      reconcile: (desired) => {
        if (dataOf(desired)['copy'] === dataOf(desired)['original']) return { actions: [] };
        return {
          actions: [
            {
              verb: 'patch',
              resource: CONFIG_MAPS,
              namespace,
              name: desired.metadata.name,
              patch: { data: { copy: dataOf(desired)['original'] } },
              because: 'the copy is stale',
            },
          ],
        };
      },
    }),
  ]);
  const created = await admin.create(CONFIG_MAPS, configMap('copying-1', { original: 'x' }));
  const answer = await eventually(
    () => records.find((record) => record.key.name === 'copying-1' && record.verb === 'patch'),
    Boolean,
  );
  t.equal(answer?.actor, 'system:controller:copying');
  t.same(answer?.causes, [Number(created.metadata.resourceVersion)]);
  const standing = await admin.get({ resource: CONFIG_MAPS, namespace, name: 'copying-1' });
  t.same(dataOf(standing), { original: 'x', copy: 'x' });
  t.ok(
    (standing.metadata.managedFields as { manager: string }[]).some(({ manager }) => manager === 'copying'),
    'its fields are its own',
  );
});

t.test('answers may be lost: never a pod too many, at any time', async (t) => {
  const access = readKubeconfig(await cluster.kubeconfig('system:controller:replicasets'));
  const random = fc.sample(fc.double({ min: 0, max: 1, noNaN: true }), { seed: 7, numRuns: 5000 });
  let drawn = 0;
  const proxy = await startCuttingProxy(
    Number(new URL(access.server).port),
    () => random[drawn++ % random.length] ?? 0,
  );
  const running = await cluster.run([replicasets], {
    access: { ...access, server: `https://127.0.0.1:${proxy.port}` },
  });
  proxy.lossRate = 0.3;
  const template = { metadata: { labels: { app: 'lossy' } }, spec: { containers: [{ name: 'c', image: 'i' }] } };
  await admin.create(REPLICA_SETS, {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: 'lossy', namespace },
    spec: { replicas: 30, selector: { matchLabels: { app: 'lossy' } }, template },
  });
  const pods = async () =>
    (await admin.list<Pod>(PODS, { namespace, labelSelector: 'app=lossy' })).items.filter(
      (pod) => !pod.metadata.deletionTimestamp,
    );
  await eventually(pods, ({ length }) => length >= 30, 30_000);
  await eventually(
    async () =>
      ((await admin.get({ resource: REPLICA_SETS, namespace, name: 'lossy' }))['status'] as { replicas?: number })
        .replicas,
    (replicas) => replicas === 30,
    30_000,
  );
  t.ok(proxy.cuts > 5, `${proxy.cuts} answers were lost`);
  t.equal((await pods()).length, 30);
  const created = records.filter(
    (record) => record.key.resource === 'pods' && record.verb === 'create' && record.key.name.startsWith('lossy-'),
  );
  t.equal(created.length, 30, 'thirty creates stand in the log');
  await admin.patch({ resource: REPLICA_SETS, namespace, name: 'lossy' }, { spec: { replicas: 12 } });
  await eventually(pods, ({ length }) => length <= 12, 30_000);
  await eventually(
    async () =>
      ((await admin.get({ resource: REPLICA_SETS, namespace, name: 'lossy' }))['status'] as { replicas?: number })
        .replicas,
    (replicas) => replicas === 12,
    30_000,
  );
  t.equal((await pods()).length, 12, 'and no delete is done twice');
  await running.stop();
  await proxy.close();
});

t.test('a plan that the world has overtaken is dropped, and made anew', async (t) => {
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const applied: string[] = [];
  type Action = { readonly verb: 'wait' | 'note'; readonly uid: string; readonly because: string };
  const slow = {
    ...controllerOf('slow', {}),
    reconcile: (desired: ApiObject) => {
      const uid = desired.metadata.uid ?? '';
      return {
        actions:
          applied.length > 1
            ? []
            : [
                { verb: 'wait' as const, uid, because: '' },
                { verb: 'note' as const, uid, because: '' },
              ],
      };
    },
    apply: async (action: Action) => {
      applied.push(`${action.verb} ${action.uid}`);
      if (applied.length === 1) await held;
    },
  };
  const { world } = await cluster.run([slow]);
  const first = await admin.create(CONFIG_MAPS, configMap('slow-1'));
  await eventually(
    () => applied.length,
    (length) => length === 1,
  );
  await admin.delete({ resource: CONFIG_MAPS, namespace, name: 'slow-1' });
  const second = await admin.create(CONFIG_MAPS, configMap('slow-1'));
  await eventually(
    () => world.get(CONFIG_MAPS, namespace, 'slow-1')?.metadata.uid,
    (uid) => uid === second.metadata.uid,
  );
  release();
  await eventually(
    () => applied.length,
    (length) => length >= 3,
  );
  t.same(
    applied,
    [`wait ${first.metadata.uid}`, `wait ${second.metadata.uid}`, `note ${second.metadata.uid}`],
    'nothing was noted about the first once it was gone',
  );
});

t.test('a failure is told to the next attempt; a terminal one rests until the object changes', async (t) => {
  const seen: (string | undefined)[] = [];
  let attempts = 0;
  await cluster.run([
    controllerOf('failing', {
      reconcile: (desired, failure) => {
        seen.push(failure && `${failure.verb} ${failure.reason}`);
        if (seen.length > 2) return { actions: [] };
        return {
          actions: [
            {
              verb: 'create',
              resource: CONFIG_MAPS,
              object: { ...configMap('Not A Name'), metadata: { name: 'Not A Name', namespace } },
              because: desired.metadata.name,
            },
          ],
        };
      },
    }),
    controllerOf('terminal', {
      reconcile: () => {
        attempts++;
        throw new TerminalError('this cannot be');
      },
    }),
  ]);
  await admin.create(CONFIG_MAPS, configMap('failing-1'));
  await eventually(
    () => seen.length,
    (length) => length >= 3,
  );
  t.same(seen.slice(0, 3), [undefined, 'create Invalid', 'create Invalid']);
  await admin.create(CONFIG_MAPS, configMap('terminal-1'));
  await eventually(
    () => attempts,
    (count) => count === 1,
  );
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.equal(attempts, 1);
  await admin.patch({ resource: CONFIG_MAPS, namespace, name: 'terminal-1' }, { data: { changed: 'yes' } });
  await eventually(
    () => attempts,
    (count) => count === 2,
  );
});

t.test('what a controller does is measured, and served where it is asked for', async (t) => {
  let attempts = 0;
  const running = await cluster.run(
    [
      controllerOf('measured', {
        reconcile({ metadata }) {
          if (metadata.name === 'measured-hopeless') throw new TerminalError('never');
          if (metadata.name === 'measured-failing' && ++attempts === 1) throw new Error('not yet');
          if (metadata.name === 'measured-waiting') return { actions: [], requeueAfterMs: 3_600_000 };
          const note = { verb: 'patch' as const, patch: { data: { seen: 'yes' } }, because: 'it was seen' };
          return { actions: [{ ...note, resource: CONFIG_MAPS, namespace, name: metadata.name }] };
        },
      }),
    ],
    { metricsAddress: '127.0.0.1:0', leaderElection: true },
  );
  const ask = async (path = '/metrics') => fetch(`http://127.0.0.1:${running.metricsPort}${path}`);
  const metrics = async () => (await ask()).text();
  const has = (text: string, line: string): boolean => text.split('\n').includes(line);
  await eventually(metrics, (text) => has(text, 'leader_election_master_status{name="measured"} 1'));
  for (const name of ['hopeless', 'failing', 'waiting']) await admin.create(CONFIG_MAPS, configMap(`measured-${name}`));
  const wanted = [
    'controller_runtime_reconcile_total{controller="measured",result="requeue_after"} 1',
    'controller_runtime_reconcile_total{controller="measured",result="error"} 2',
    'controller_runtime_reconcile_errors_total{controller="measured"} 2',
    'controller_runtime_terminal_reconcile_errors_total{controller="measured"} 1',
    'controller_runtime_max_concurrent_reconciles{controller="measured"} 4',
    'controller_runtime_active_workers{controller="measured"} 0',
    'workqueue_retries_total{name="measured"} 2',
    'workqueue_depth{name="measured"} 0',
    'reckon_log_lag{controller="measured",stream="log"} 0',
  ];
  const text = await eventually(metrics, (said) => wanted.every((line) => has(said, line)));
  const numberOf = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  t.ok(numberOf('workqueue_adds_total{name="measured"}') >= 4);
  t.equal(
    numberOf('workqueue_work_duration_seconds_count{name="measured"}'),
    numberOf('controller_runtime_reconcile_time_seconds_count{controller="measured"}'),
  );
  t.match(text, /^rest_client_requests_total\{code="200",method="PATCH",host="127\.0\.0\.1:\d+"\} \d+$/m);
  t.match(text, /^reckon_log_position\{controller="measured",stream="log"\} [1-9]\d*$/m);
  t.match(text, /^process_cpu_seconds_total /m);
  t.equal((await ask('/')).status, 404);
  await running.stop();
  await t.rejects(ask(), 'nothing listens any more');
});

t.test('a key met while the lease was not renewed is looked at again when it is', async (t) => {
  const parts = {
    reconcile: (desired: ApiObject) =>
      dataOf(desired)['done'] === 'yes'
        ? { actions: [] }
        : {
            actions: [
              {
                verb: 'patch' as const,
                resource: CONFIG_MAPS,
                namespace,
                name: desired.metadata.name,
                patch: { data: { done: 'yes' } },
                because: 'it is not done',
              },
            ],
          },
  };
  const { world } = await cluster.run([controllerOf('elsewhere', {})]);
  let leads = false;
  let asked = 0;
  const stopping = new AbortController();
  const loop = new ControllerLoop({
    controller: controllerOf('lead-', parts),
    world,
    client: admin,
    recorder: new EventRecorder(admin, cluster.logger),
    logger: cluster.logger,
    mayAct: () => {
      asked++;
      return leads;
    },
    signal: stopping.signal,
  });
  loop.start();
  await admin.create(CONFIG_MAPS, configMap('lead-1'));
  await eventually(
    () => asked,
    (times) => times > 0,
  );
  t.same(dataOf(await admin.get({ resource: CONFIG_MAPS, namespace, name: 'lead-1' })), {}, 'nothing is written');
  leads = true;
  await eventually(
    () => admin.get({ resource: CONFIG_MAPS, namespace, name: 'lead-1' }),
    (object) => dataOf(object)['done'] === 'yes',
  );
  await loop.stop();
});

t.test('the client says what the server said, and lists across pages', async (t) => {
  await t.rejects(admin.get({ resource: CONFIG_MAPS, namespace, name: 'nowhere' }), {
    name: 'ApiError',
    code: 404,
    reason: 'NotFound',
    message: 'configmaps "nowhere" not found',
  });
  const standing = await admin.create(CONFIG_MAPS, configMap('stale'));
  await admin.update(CONFIG_MAPS, { ...standing, data: { a: '1' } });
  const refused = await admin.update(CONFIG_MAPS, { ...standing, data: { a: '2' } }).catch((error: unknown) => error);
  t.ok(refused instanceof ApiError && refused.is('Conflict'));
  const deleted = await admin
    .delete({ resource: CONFIG_MAPS, namespace, name: 'stale' }, { uid: 'another' })
    .catch((error: unknown) => error);
  t.ok(deleted instanceof ApiError && deleted.is('Conflict'), 'a namesake is not deleted');
  for (let made = 0; made < 520; made += 40)
    await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        admin.create(CONFIG_MAPS, {
          ...configMap(`page-${made + index}`),
          metadata: { name: `page-${made + index}`, namespace, labels: { page: 'yes' } },
        }),
      ),
    );
  const { items, resourceVersion } = await admin.list(CONFIG_MAPS, { namespace, labelSelector: 'page=yes' });
  t.equal(new Set(items.map((item) => item.metadata.name)).size, 520);
  t.match(resourceVersion, /^\d+$/);
});
