/**
 * Two replicas never act at once: not when one stops, is killed, or is paused and wakes up believing that it leads. Read off the log, where every write stands in order.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { openLogReader } from '../../event-log/jetstream.ts';
import { HttpClient, readKubeconfig } from '../../sdk/index.ts';
import { Leader } from '../../sdk/leader.ts';
import { pauseProcess } from '../harness/pausing.ts';
import { eventually, startCluster } from './cluster.ts';

t.setTimeout(600_000);

const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps' };
const LEASES = { group: 'coordination.k8s.io', version: 'v1', resource: 'leases' };

const cluster = await startCluster();
const children: ChildProcess[] = [];
t.teardown(async () => {
  for (const child of children) child.kill('SIGKILL');
  await log.close();
  await cluster.remove();
});
const kubeconfig = await cluster.kubeconfig('system:controller:ticking');
await cluster.admin.create(CONFIG_MAPS, {
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'ticks', namespace: 'default' },
  data: {},
});

/** Who wrote, in log order. */
const writers: string[] = [];
const log = await openLogReader({ url: cluster.nats.url, stream: 'log' });
const reading = new AbortController();
t.teardown(() => reading.abort());
void (async () => {
  for await (const { records } of log.follow({ from: 'snapshot', filters: [CONFIG_MAPS], signal: reading.signal })) {
    for (const { object } of records)
      writers.push((JSON.parse(Buffer.from(object).toString()) as { data?: { by?: string } }).data?.by ?? '');
  }
})();

async function replica(name: string, env: Record<string, string> = {}): Promise<ChildProcess> {
  const child = fork(path.join(import.meta.dirname, 'ticking-replica.js'), [kubeconfig, cluster.nats.url, name], {
    env: { ...process.env, ...env },
    execArgv: [],
  });
  children.push(child);
  await once(child, 'message');
  return child;
}

/** A lease so long that nobody who waits for its end passes. */
const PATIENT = { TICKING_LEASE_MS: '60000' };

const wrote = (name: string, since = 0): Promise<unknown> =>
  eventually(() => writers.slice(since).includes(name), Boolean, 30_000);
const holder = async () =>
  (
    (await cluster.admin.get({ resource: LEASES, namespace: 'kube-system', name: 'ticking' }))['spec'] as {
      holderIdentity: string;
    }
  ).holderIdentity;

t.test('one leads while the others follow; a clean stop hands over at once', async (t) => {
  const first = await replica('first', PATIENT);
  await wrote('first');
  const second = await replica('second', PATIENT);
  await sleep(600);
  t.notOk(writers.includes('second'));
  const started = performance.now();
  first.kill('SIGTERM');
  await wrote('second');
  t.ok(
    performance.now() - started < 20_000,
    `handed over in ${Math.round(performance.now() - started)} ms, though the lease lasts a minute`,
  );
  t.notOk(writers.slice(writers.indexOf('second')).includes('first'));
  second.kill('SIGTERM');
  await once(second, 'exit');
  t.equal(await holder(), '', 'the lease is released');
});

t.test('a successor on the same machine sees that a killed leader is dead', async (t) => {
  const killed = await replica('killed', PATIENT);
  await wrote('killed');
  const started = performance.now();
  killed.kill('SIGKILL');
  const heir = await replica('heir', PATIENT);
  await wrote('heir');
  t.ok(
    performance.now() - started < 20_000,
    `took over in ${Math.round(performance.now() - started)} ms, process start included, though the lease lasts a minute`,
  );
  heir.kill('SIGTERM');
  await once(heir, 'exit');
});

t.test('a leader that was paused does not act when it wakes', async (t) => {
  const paused = await replica('paused');
  await wrote('paused');
  const rival = await replica('rival');
  await pauseProcess(paused.pid ?? 0);
  const from = writers.length;
  await sleep(1000);
  t.notOk(writers.includes('rival'), 'a paused process is not dead: its lease is respected');
  await wrote('rival', from);
  const since = writers.indexOf('rival');
  paused.kill('SIGCONT');
  await sleep(1500);
  t.notOk(writers.slice(since).includes('paused'), 'nothing of it stands after the rival began');
  await eventually(
    () => writers.length,
    (count) => count > since + 20,
  );
  rival.kill('SIGTERM');
  await wrote('paused', since);
  t.match(await holder(), `_${paused.pid}_`, 'it leads again once the rival is gone');
});

t.test(
  'a process of many controllers leads with all of them, or waits with all of them, and warns of nothing',
  async (t) => {
    const warnings: string[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning.message);
    process.on('warning', onWarning);
    t.teardown(() => process.off('warning', onWarning));
    const names = Array.from({ length: 14 }, (_, index) => `many-${index}`);
    const controllers = names.map((name) => ({
      name,
      resource: CONFIG_MAPS,
      watches: [],
      observe: () => undefined,
      reconcile: () => ({ actions: [] }),
    }));
    const first = await cluster.run(controllers, { leaderElection: true, identity: 'first' });
    await eventually(
      () => first.leading().length,
      (count) => count === names.length,
    );
    const second = await cluster.run(controllers, { leaderElection: true, identity: 'second' });
    await sleep(1_000);
    t.same(second.leading(), [], 'who comes later waits');
    await first.stop();
    await eventually(
      () => second.leading().length,
      (count) => count === names.length,
    );
    await second.stop();
    t.same(warnings, []);
  },
);

t.test('a leader that cannot renew stops acting before its lease runs out, and leads again later', async (t) => {
  const client = new HttpClient({ access: readKubeconfig(kubeconfig), userAgent: 'test' });
  const times = { leaseMs: 6000, renewDeadlineMs: 4000, retryMs: 100 };
  const leader = new Leader({ name: 'lonely', identity: 'lonely', client, logger: cluster.logger, times });
  const stopping = new AbortController();
  const history: string[] = [];
  const running = leader.run(stopping.signal, async (signal) => {
    history.push('leads');
    await once(signal, 'abort');
    history.push('ended');
  });
  await eventually(
    () => history.length,
    (length) => length === 1,
  );
  await sleep(times.leaseMs);
  t.ok(leader.mayAct(), 'renewing works');
  await cluster.stopApiServer();
  await sleep(times.renewDeadlineMs + 50);
  t.notOk(leader.mayAct(), 'no write may begin any more');
  t.equal(
    (
      await eventually(
        () => history,
        ({ length }) => length >= 2,
        3000,
      )
    ).at(-1),
    'ended',
  );
  await cluster.startApiServer();
  await eventually(() => leader.mayAct(), Boolean, 30_000);
  stopping.abort();
  await running;
  t.same(history, ['leads', 'ended', 'leads', 'ended']);
  client.close();
});
