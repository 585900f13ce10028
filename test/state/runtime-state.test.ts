/** Migrations and runtime state on a real PostgreSQL. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { DatabaseNewerError, StateUnavailableError } from '../../state/errors.ts';
import { openHistory } from '../../state/history.ts';
import { migrate } from '../../state/migrate.ts';
import type { ContainerFacts } from '../../state/runtime-facts.ts';
import { openAgentState, openRuntimeState } from '../../state/runtime-state.ts';
import { query, startPostgres } from './servers.ts';

/** The room's own bound is 3 s; a machine that is busy with other things gets some more. */
const BOUND_MS = 10_000;

const postgres = await startPostgres();
t.teardown(() => postgres.remove());

function container(id: string, more: Partial<ContainerFacts> = {}): ContainerFacts {
  return {
    id,
    podUid: 'pod-1',
    podNamespace: 'shop',
    podName: 'web-1',
    containerName: 'web',
    attempt: 0,
    image: 'web:1',
    state: 'running',
    pid: 4242,
    oomKilled: false,
    createdAt: '2026-01-02T03:04:05.678Z',
    startedAt: '2026-01-02T03:04:06.000Z',
    labels: {
      'dev.reckon/pod': 'web-1',
      "it's": 'quoted "so"',
    },
    causes: [7, 9],
    ...more,
  };
}

const withoutStamps = (facts: readonly ContainerFacts[]) =>
  facts.map((fact) =>
    Object.fromEntries(Object.entries(fact).filter(([name]) => name !== 'node' && name !== 'observedAt')),
  );

await t.test(
  'racing starters migrate once; again does nothing; a newer database is refused with a sentence',
  async (t) => {
    const databaseUrl = await postgres.createDatabase();
    const results = await Promise.all(Array.from({ length: 5 }, () => migrate(databaseUrl)));
    t.equal(results.filter(({ applied }) => applied > 0).length, 1);
    t.equal((await migrate(databaseUrl)).applied, 0);
    await query(databaseUrl, `insert into migrations (number, name) values (9999, 'from-the-future')`);
    const refused = (await migrate(databaseUrl).catch((error: unknown) => error)) as Error;
    t.type(refused, DatabaseNewerError);
    t.match(refused.message, /migration 9999 \(from-the-future\).*newer Reckon/);
  },
);

await t.test('each role can do what is its own and nothing else', async (t) => {
  const databaseUrl = await postgres.createDatabase();
  await migrate(databaseUrl);
  const as = (role: string, statement: string) => query(databaseUrl, `set role ${role}; ${statement}`);
  await as(
    'reckon_agent',
    `insert into containers (node, id, attempt, image, state, oom_killed, labels, causes) values ('n', 'c', 0, 'i', 'running', false, '{}', '{}')`,
  );
  t.equal(
    (await query(databaseUrl, 'select * from runtime_events')).length,
    1,
    "the trigger writes with the agent's rights",
  );
  await as('reckon_projection', `truncate records, lifetimes, gaps; update projection set floor = 1`);
  await as('reckon_reader', 'select * from objects');
  await t.rejects(as('reckon_agent', 'delete from records'), /permission denied/);
  await t.rejects(as('reckon_agent', 'delete from runtime_events'), /permission denied/);
  const old = `insert into runtime_events (node, kind, time) select 'n', 'exited', now() - interval '40 days' from generate_series(1, 7)`;
  await query(databaseUrl, old);
  await as('reckon_agent', `select prune_runtime_events(interval '30 days', 5)`);
  t.equal((await query(databaseUrl, 'select * from runtime_events')).length, 3, 'what is old goes, so many at once');
  await as('reckon_agent', `select prune_runtime_events(interval '0', 100)`);
  t.equal((await query(databaseUrl, 'select * from runtime_events')).length, 1, 'what is new stays, whoever asks');
  await t.rejects(as('reckon_reader', `select prune_runtime_events(interval '30 days', 5)`), /permission denied/);
  await t.rejects(as('reckon_projection', 'delete from containers'), /permission denied/);
  await t.rejects(as('reckon_reader', 'update projection set floor = 2'), /permission denied/);
});

await t.test('a snapshot makes the tables equal to what is there and touches only what has changed', async (t) => {
  const databaseUrl = await postgres.createDatabase();
  await migrate(databaseUrl);
  const agent = openAgentState(databaseUrl);
  const reader = openRuntimeState(databaseUrl);
  t.teardown(async () => {
    await agent.close();
    await reader.close();
  });
  const images = [{ id: 'sha256:1', tags: ['web:1', 'web:latest'], sizeBytes: 5_000_000_000 }];
  const volumes = [
    {
      name: 'v1',
      driver: 'local',
      mountpoint: '/v/v1',
      labels: { claim: 'data' },
      sizeBytes: 0,
      createdAt: '2026-01-02T03:04:05.000Z',
    },
  ];
  const addresses = [{ address: '10.1.0.2', podUid: 'pod-1', podNamespace: 'shop', podName: 'web-1' }];
  const containers = [container('a'), container('b', { podUid: 'pod-2', attempt: 1 }), container('c')];
  await agent.recordSnapshot('node-1', { containers, images, volumes, addresses });
  await agent.recordSnapshot('node-2', { containers: [container('a')] });
  t.same(withoutStamps(await reader.containersOfNode('node-1')), containers, 'containers come back as they were given');
  t.match(await reader.imagesOfNode('node-1'), images);
  t.match(await reader.volumesOfNode('node-1'), volumes);
  t.match(await reader.addressesOfNode('node-1'), addresses);
  t.same(
    (await reader.containersOfPod('pod-2')).map(({ id, node }) => [id, node]),
    [['b', 'node-1']],
  );

  const versions = () =>
    query<{ id: string; xmin: string }>(
      databaseUrl,
      `select id, xmin::text from containers where node = 'node-1' order by id`,
    );
  const before = await versions();
  const died = container('b', {
    podUid: 'pod-2',
    attempt: 1,
    state: 'exited',
    exitCode: 137,
    oomKilled: true,
    finishedAt: '2026-01-02T04:00:00.000Z',
  });
  const { pid: _, ...dead } = died;
  await agent.recordSnapshot('node-1', { containers: [container('a'), dead, container('d')] });
  const after = await versions();
  t.same(
    after.map(({ id }) => id),
    ['a', 'b', 'd'],
    'what is gone is gone, what is new is there',
  );
  t.equal(after[0]!.xmin, before[0]!.xmin, 'the unchanged row was not written');
  t.not(after[1]!.xmin, before[1]!.xmin);
  t.equal((await reader.containersOfNode('node-1'))[1]!.pid, undefined, 'a fact that went away is forgotten');
  t.equal((await reader.imagesOfNode('node-1')).length, 1, 'what the snapshot leaves out stays');
  t.equal((await reader.containersOfNode('node-2')).length, 1, 'another node is not touched');

  const events = await reader.events({ node: 'node-1' });
  t.same(
    events.map(({ kind, containerId }) => `${containerId} ${kind}`).sort(),
    ['a started', 'b oom', 'b started', 'c removed', 'c started', 'd started'],
    'what happened was noted, once each',
  );
  t.match(
    events.find(({ kind }) => kind === 'oom'),
    { exitCode: 137, podUid: 'pod-2', attempt: 1, causes: [7, 9], detail: { image: 'web:1' } },
  );
  await agent.recordSnapshot('node-1', { containers: [container('a'), dead, { ...container('d'), state: 'exited' }] });
  const late = [container('a'), dead, { ...container('d'), state: 'exited', oomKilled: true }];
  await agent.recordSnapshot('node-1', { containers: late });
  await agent.recordSnapshot('node-1', { containers: late });
  t.same(
    (await reader.events({ node: 'node-1' }))
      .filter(({ containerId }) => containerId === 'd')
      .map(({ kind }) => kind)
      .toSorted(),
    ['exited', 'oom', 'started'],
    'that memory was the reason, heard after the end, is noted once',
  );

  await agent.recordEvent('node-1', {
    kind: 'probe-failed',
    podUid: 'pod-1',
    message: 'liveness: 500',
    detail: { probe: 'liveness' },
    causes: [11],
  });
  t.match((await reader.events({ podUid: 'pod-1', cause: 11 }))[0], {
    kind: 'probe-failed',
    message: 'liveness: 500',
    detail: { probe: 'liveness' },
  });
  await agent.recordUsage('node-1', [
    { id: 'a', cpuNanoseconds: 123_456_789_012, memoryBytes: 1 },
    { id: 'd', cpuNanoseconds: 1, memoryBytes: 2 },
  ]);
  await agent.recordUsage('node-1', [{ id: 'a', cpuNanoseconds: 123_456_789_999, memoryBytes: 1 }]);
  t.match(await reader.usageOfNode('node-1'), [{ id: 'a', cpuNanoseconds: 123_456_789_999 }]);
});

await t.test(
  'heartbeats have an age by the clock of the database, and a forgotten node leaves only its events',
  async (t) => {
    const databaseUrl = await postgres.createDatabase();
    await migrate(databaseUrl);
    const agent = openAgentState(databaseUrl);
    t.teardown(() => agent.close());
    await agent.heartbeat('node-1', { bootId: 'boot', capacity: { cpu: '2' }, kernelVersion: '6.1' });
    await agent.recordContainer('node-1', container('a'));
    await query(databaseUrl, `update nodes set heartbeat_at = heartbeat_at - interval '40 s'`);
    await agent.heartbeat('node-2', {});
    const [first, second] = await agent.nodes();
    t.match(first, { name: 'node-1', bootId: 'boot', capacity: { cpu: '2' }, info: { kernelVersion: '6.1' } });
    t.ok(first!.heartbeatAgeMs >= 40_000 && first!.heartbeatAgeMs < 60_000);
    t.ok(second!.heartbeatAgeMs >= 0 && second!.heartbeatAgeMs < 20_000);
    await agent.heartbeat('node-1', { bootId: 'boot-2' });
    t.ok((await agent.nodes())[0]!.heartbeatAgeMs < 20_000, 'beats again');
    await agent.forgetNode('node-1');
    t.same(
      (await agent.nodes()).map(({ name }) => name),
      ['node-2'],
    );
    t.same(await agent.containersOfNode('node-1'), []);
    t.same(
      (await agent.events({ node: 'node-1' })).map(({ kind }) => kind),
      ['started', 'removed'],
    );
  },
);

await t.test('without PostgreSQL an agent is told so in time, and goes on when it is back', async (t) => {
  const databaseUrl = await postgres.createDatabase();
  await migrate(databaseUrl);
  const agent = openAgentState(databaseUrl);
  t.teardown(() => agent.close());
  await agent.heartbeat('node-1', {});
  await postgres.kill();
  // A backend may outlive its postmaster by a moment, and answer.
  while (
    await agent.nodes().then(
      () => true,
      () => false,
    )
  )
    await new Promise((resolve) => setTimeout(resolve, 50));
  const startedMs = performance.now();
  await Promise.all([
    t.rejects(agent.heartbeat('node-1', {}), StateUnavailableError),
    t.rejects(agent.recordSnapshot('node-1', { containers: [container('a')] }), StateUnavailableError),
    t.rejects(agent.nodes(), StateUnavailableError),
  ]);
  t.ok(performance.now() - startedMs < BOUND_MS);
  await postgres.start();
  await agent.recordSnapshot('node-1', { containers: [container('a')] });
  t.equal((await agent.containersOfNode('node-1')).length, 1);
});

await t.test('a PostgreSQL that hangs is no different', async (t) => {
  const databaseUrl = await postgres.createDatabase();
  await migrate(databaseUrl);
  const agent = openAgentState(databaseUrl);
  const history = openHistory(databaseUrl);
  t.teardown(async () => {
    await agent.close();
    await history.close();
  });
  await agent.heartbeat('node-1', {});
  await history.cursor();
  const backends = await query<{ pid: number }>(
    databaseUrl,
    'select pid from pg_stat_activity where datname is not null',
  );
  const main = Number((await readFile(path.join(postgres.folder, 'data', 'postmaster.pid'), 'utf8')).split('\n')[0]);
  const pids = [main, ...backends.map(({ pid }) => pid)];
  const signal = (name: NodeJS.Signals): void =>
    pids.forEach((pid) => existsSync(`/proc/${pid}`) && process.kill(pid, name));
  signal('SIGSTOP');
  const startedMs = performance.now();
  try {
    await Promise.all([
      t.rejects(agent.recordSnapshot('node-1', { containers: [container('a')] }), StateUnavailableError),
      t.rejects(history.listAt({ group: '', resource: 'pods' }, 0, { limit: 10 }), StateUnavailableError),
      t.rejects(agent.nodes(), StateUnavailableError),
    ]);
    t.ok(performance.now() - startedMs < BOUND_MS, 'within its bound');
  } finally {
    signal('SIGCONT');
  }
  await agent.recordSnapshot('node-1', { containers: [container('b')] });
  t.same(
    (await agent.containersOfNode('node-1')).map(({ id }) => id),
    ['b'],
  );
});
