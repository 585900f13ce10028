/** What a whole instance outlives: servers that hang and die, and replicas of controllers that were asleep. `npm run prove -- faults` goes on for long. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { deployment } from './manifests.ts';
import { printed, putProjectionToSleep, rebuild, reckonProgram } from './rebuilds.ts';
import { applyRolling, CONVERGE_MS, disturbRollout, hang, keepDown, REPLICAS } from './faults.ts';
import { startStage, until } from './stage.ts';
import { Witness } from './witness.ts';
import { request } from './writers.ts';

const stage = await startStage(t);
const outageMs = 5_000;
// Asked by HTTP, since an exec a second in each pod keeps a core busy; those of faults.test.ts are asked by exec.

t.test('NATS hangs or is down: writes wait or are turned away, and nothing acknowledged is lost', async (t) => {
  const space = await stage.space('nats');
  await applyRolling(space, { asked: 'http' });
  for (const [what, outage] of [
    ['hangs', () => hang(space, 'nats', outageMs)],
    ['is down', () => keepDown(space, 'nats', outageMs)],
  ] as const) {
    const { faults, testimony, writing } = await disturbRollout(space, async () => {
      await sleep(400);
      await outage();
    });
    t.same(faults, [], `NATS ${what}`);
    t.ok(writing.acknowledged > 0);
    t.comment(what, JSON.stringify({ ...testimony, ...writing }));
  }
});

t.test('PostgreSQL hangs or is down: objects are written, rolled and read all the same', async (t) => {
  const space = await stage.space('postgres');
  await applyRolling(space, { asked: 'http' });
  for (const [what, outage] of [
    ['hangs', () => hang(space, 'postgres', outageMs)],
    ['is down', () => keepDown(space, 'postgres', outageMs)],
  ] as const) {
    const { faults, testimony, writing } = await disturbRollout(space, async () => {
      await sleep(400);
      const over = outage();
      const startedMs = Date.now();
      const made = await request(stage.reckon.kubeconfig, {
        method: 'POST',
        path: `/api/v1/namespaces/${space.namespace}/configmaps`,
        body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { generateName: 'meanwhile-' } },
      });
      t.equal(made.code, 201, 'the log alone is enough to create');
      t.ok(Date.now() - startedMs < outageMs, 'nobody waits for PostgreSQL');
      await over;
    });
    t.same(faults, [], `PostgreSQL ${what}`);
    t.equal(writing.turnedAway + writing.unanswered, 0, 'no write was turned away');
    t.comment(what, JSON.stringify({ ...testimony, ...writing }));
  }
});

t.test(
  'the projection is rebuilt: every row is what it was, no container is touched, and nobody is told too little',
  async (t) => {
    const space = await stage.space('rebuild');
    await space.apply(deployment('web', { replicas: 2 }));
    await space.untilRolledOut('web', { timeoutMs: CONVERGE_MS });
    const live = `/api/v1/namespaces/${space.namespace}/configmaps`;
    const report = await rebuild(space, async (program, questioner) => {
      // Nobody projects until this one is gone.
      const asleep = await putProjectionToSleep(space);
      await until('the past to be away', () => questioner.toldToWait > 2);
      const [sql] = await printed(reckonProgram(space, ['sql', 'select count(*) from objects']), 'stderr');
      t.match(sql, /the projection is being rebuilt \(revision \d+ of \d+\): of objects and history, rows are missing/);
      const made = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'meanwhile' } };
      t.equal((await request(stage.reckon.kubeconfig, { method: 'POST', path: live, body: made })).code, 201);
      t.equal((await request(stage.reckon.kubeconfig, { method: 'GET', path: `${live}/meanwhile` })).code, 200);
      await space.apply(deployment('later', { replicas: 1 }));
      process.kill(asleep, 'SIGKILL');
      t.match(await printed(program, 'stdout'), ['The projection is rebuilt.\n', 0]);
      await space.untilRolledOut('later', { timeoutMs: CONVERGE_MS });
    });
    t.same(report.faults, []);
    t.ok(report.rows > 0 && report.containers === 2);
    t.comment(JSON.stringify(report));
  },
);

t.test('of two replicas one acts, also when it wakes up after another has taken over', async (t) => {
  const space = await stage.space('replicas');
  await applyRolling(space, { asked: 'http' });
  const compiled = path.join(import.meta.dirname, '..', '..');
  const names = ['replicasets', 'deployments', 'scheduler', 'endpointslices', 'garbagecollector'];
  const standby = fork(path.join(compiled, 'cli', 'main.js'), ['run', ...names], {
    env: { ...process.env, RECKON_HOME: stage.reckon.home, DOCKER_HOST: stage.reckon.dockerHost },
    execArgv: ['--enable-source-maps'],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  t.teardown(async () => {
    const exited = once(standby, 'exit');
    standby.kill('SIGKILL');
    await exited;
  });
  await sleep(3_000);
  const setsBefore = (await space.list('replicasets')).length;
  const witness = new Witness({ space, app: 'web', minimum: REPLICAS - 1 });
  await space.kubectl('rollout restart deployment web');
  await sleep(300);
  const asleep = await Promise.all(['deployments', 'controllers'].map((name) => stage.reckon.kill(name, 'SIGSTOP')));
  await space.untilRolledOut('web', { timeoutMs: CONVERGE_MS });
  const podsBetween = witness.podsSeen;
  for (const pid of asleep) process.kill(pid, 'SIGCONT');
  await sleep(3_000);
  const { faults } = await witness.end();
  t.same(faults, []);
  t.equal(witness.podsSeen, podsBetween, 'who wakes up makes nothing again');
  t.equal(witness.podsSeen, REPLICAS * 2, 'the old pods and the new, and no other');
  t.equal((await space.list('replicasets')).length, setsBefore + 1);
  await space.kubectl('scale deployment web --replicas 2');
  await until('two pods', async () => (await space.list('pods')).length === 2);
});
