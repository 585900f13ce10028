/**
 * SQL for people: every question of docs/sql.md on a known history; and tenants, who see their namespaces through no view, function, operator, error or estimate more than they are given. Against a real projection.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import t, { type Test } from 'tap';
import { runCommand } from '../../cli/set-up/command.ts';
import { askSql, SqlError } from '../../state/ask.ts';
import { openHistory } from '../../state/history.ts';
import { openAgentState } from '../../state/runtime-state.ts';
import { grantTenant, listTenants, revokeTenant } from '../../state/tenants.ts';
import { configMap, deployment, pod, type Api, type Json } from '../api-server/api.ts';
import type { Servers } from '../harness/servers.ts';
import { startWithPast } from './stage.ts';

t.setTimeout(600_000);

const root = process.env['RECKON_ROOT'] ?? process.cwd();
const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');

/** The numbered questions, each with its statement. */
async function questions(): Promise<Map<number, string>> {
  const page = await readFile(path.join(root, 'docs', 'sql.md'), 'utf8');
  return new Map(
    [...page.matchAll(/^### (\d+)\. [^\n]+\n\n```sql\n([^]*?)```/gm)].map(([, number, text]) => [
      Number(number),
      text ?? '',
    ]),
  );
}

const create = async (api: Api, place: string, body: Json, options: object = {}): Promise<Json> => {
  const answer = await api.post(place, body, options);
  if (answer.status !== 201) throw new Error(answer.text);
  return answer.body;
};

interface Known {
  readonly image: { readonly created: number; readonly changed: number };
  readonly settings: number;
}

async function makeHistory(api: Api, servers: Servers): Promise<Known> {
  for (const name of ['shop', 'bank'])
    await create(api, '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  const shop = '/api/v1/namespaces/shop';
  await create(api, `${shop}/configmaps`, configMap('settings', { colour: 'red', size: '1' }));
  await create(api, `${shop}/configmaps`, configMap('forgotten'));
  await create(api, `${shop}/secrets`, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'pass' },
    stringData: { word: 'hushhush' },
  });
  await create(api, '/api/v1/namespaces/bank/configmaps', configMap('vault-plan', { where: 'basement' }));
  const web = await create(api, '/apis/apps/v1/namespaces/shop/deployments', deployment('web'), {
    user: 'ann|system:masters',
  });
  const changed = await api.patch(
    '/apis/apps/v1/namespaces/shop/deployments/web',
    'strategic',
    { spec: { template: { spec: { containers: [{ name: 'main', image: 'busybox:2' }] } } } },
    { user: 'bob|system:masters' },
  );
  const because = (of: Json) => ({ headers: { 'reckon-cause': of.metadata.resourceVersion } });
  const { body: set } = await api.post(
    '/apis/apps/v1/namespaces/shop/replicasets',
    { ...deployment('web-a'), kind: 'ReplicaSet' },
    { ...because(changed.body), user: 'system:controller:deployments|system:masters' },
  );
  const settings = {
    volumes: [
      { name: 'settings', configMap: { name: 'settings' } },
      { name: 'pass', secret: { secretName: 'pass' } },
    ],
  };
  const web1 = await create(api, `${shop}/pods`, pod('web-1', { nodeName: 'one', ...settings }), {
    ...because(set),
    user: 'system:controller:replicasets|system:masters',
  });
  await create(api, `${shop}/pods`, pod('web-2', { nodeName: 'one' }), {
    ...because(set),
    user: 'system:controller:replicasets|system:masters',
  });
  await create(api, '/api/v1/namespaces/bank/pods', pod('teller', { nodeName: 'two' }));
  const status = (name: string, ready: boolean, restartCount: number) =>
    api.patch(`${shop}/pods/${name}/status`, 'merge', {
      status: {
        phase: 'Running',
        containerStatuses: [{ name: 'main', ready, restartCount, image: 'busybox', imageID: 'x' }],
      },
    });
  await status('web-1', true, 0);
  await status('web-2', false, 3);
  const again = await api.patch(`${shop}/configmaps/settings`, 'merge', { data: { colour: 'blue' } });
  await api.delete(`${shop}/configmaps/forgotten`, { user: 'bob|system:masters' });
  await create(api, `${shop}/configmaps`, configMap('unused'));
  await observe(servers, web1.metadata.uid);
  return {
    image: { created: Number(web.metadata.resourceVersion), changed: Number(changed.body.metadata.resourceVersion) },
    settings: Number(again.body.metadata.resourceVersion),
  };
}

async function observe(servers: Servers, podUid: string): Promise<void> {
  const agent = openAgentState(servers.databaseUrlAs('reckon_agent'));
  const container = (id: string, podNamespace: string, podName: string, state = 'running'): Json => ({
    id,
    podUid,
    podNamespace,
    podName,
    containerName: 'main',
    attempt: 0,
    image: 'busybox',
    state,
    oomKilled: false,
    labels: {},
    causes: [],
  });
  for (const node of ['one', 'two', 'silent']) await agent.heartbeat(node, { capacity: { cpu: '2' } });
  await agent.recordSnapshot('one', {
    containers: [container('c1', 'shop', 'web-1'), container('c2', 'shop', 'web-2')],
  });
  await agent.recordSnapshot('two', { containers: [container('c3', 'bank', 'teller')] });
  await agent.recordUsage('one', [
    { id: 'c1', cpuNanoseconds: 1, memoryBytes: 1000 },
    { id: 'c2', cpuNanoseconds: 1, memoryBytes: 500 },
  ]);
  await agent.recordUsage('two', [{ id: 'c3', cpuNanoseconds: 1, memoryBytes: 70 }]);
  await agent.recordSnapshot('one', {
    containers: [
      container('c1', 'shop', 'web-1'),
      { ...container('c2', 'shop', 'web-2', 'exited'), oomKilled: true, exitCode: 137 },
    ],
  });
  await agent.close();
  const client = new pg.Client({ connectionString: servers.databaseUrl });
  await client.connect();
  await client.query("update nodes set heartbeat_at = now() - interval '2 minutes' where name = 'silent'");
  await client.end();
}

/** What each question must answer. */
const answers = ({ image, settings }: Known): Record<number, unknown[][]> => ({
  1: [
    ['bank', 'teller', 'two', 'Pending', false],
    ['shop', 'web-1', 'one', 'Running', true],
    ['shop', 'web-2', 'one', 'Running', false],
  ],
  2: [
    ['bank', 'teller', 'Pending', 0],
    ['shop', 'web-2', 'Running', 3],
  ],
  4: [
    [image.created, 'ann', 'create', 'busybox:1'],
    [image.changed, 'bob', 'patch', 'busybox:2'],
  ],
  5: [['configmaps', 'shop', 'forgotten', 'bob']],
  6: [[2]],
  7: [['busybox', 2]],
  8: [['shop', 'web-2', 'main', 137]],
  9: [['replicasets', 'web-a', 'system:controller:deployments', 'create']],
  10: [['bob', 'deployments', 'web']],
  11: [
    ['bank', 'vault-plan'],
    ['shop', 'unused'],
  ],
  12: [[settings, 'colour', 'red', 'blue']],
  13: [
    ['bank', 70],
    ['shop', 1000],
  ],
  14: [['silent']],
  15: [['pass', 'admin', 'web-1']],
});

t.test('SQL', async (t) => {
  const { api, servers } = await startWithPast(t);
  const known = await makeHistory(api, servers);
  const history = openHistory(servers.databaseUrlAs('reckon_reader'));
  await history.reach(await api.lastSequence(), 10_000);
  await history.close();
  const reader = servers.databaseUrlAs('reckon_reader');
  const ask = (text: string, url = reader) => askSql(url, text, { timeoutMs: 10_000 });

  await t.test('the fifteen questions of the page', async (t) => {
    const asked = await questions();
    t.strictSame(
      [...asked.keys()],
      Array.from({ length: 15 }, (_, index) => index + 1),
    );
    const right = answers(known);
    for (const [number, text] of asked) {
      const { values } = await ask(text);
      const rows = values.map((row) => Object.values(row));
      if (number !== 3) {
        t.strictSame(rows, right[number], `question ${number}`);
        continue;
      }
      const writes = new Map(rows as [string, number][]);
      t.equal(writes.get('bob'), 2);
      t.equal(writes.get('ann'), 1);
      t.strictSame(
        rows.map(([, count]) => count),
        rows.map(([, count]) => Number(count)).toSorted((a, b) => b - a),
      );
    }
  });

  await t.test('no secret is in clear, and nothing can be written', async (t) => {
    const { values } = await ask("select object::text as text from history where resource = 'secrets'");
    t.ok(values.length > 0);
    t.notMatch(JSON.stringify(values), /hushhush|aHVzaGh1c2g/);
    await t.rejects(ask('delete from records'), SqlError);
    await t.rejects(ask('rollback; delete from public.records'), SqlError);
    await t.rejects(
      ask('select pg_sleep(5)', `${reader}?`).then(() => askSql(reader, 'select pg_sleep(5)', { timeoutMs: 300 })),
    );
  });

  const administrator = (() => {
    const url = new URL(servers.databaseUrl);
    url.username = 'postgres';
    return url.href;
  })();
  const login = async (name: string, namespaces: string[]): Promise<string> => {
    const { role, password } = await grantTenant(administrator, name, namespaces);
    const url = new URL(servers.databaseUrl);
    url.username = role;
    url.password = password;
    return url.href;
  };
  const tenantName = `t_${servers.prefix}`;
  t.teardown(async () => {
    for (const name of [tenantName, `${tenantName}_all`])
      await revokeTenant(administrator, name).catch(() => undefined);
  });

  await t.test('a tenant sees its namespaces and nothing else', async (t) => {
    const url = await login(tenantName, ['shop']);
    await seesNoOther(t, url);
    const { values } = await ask('select name from pods order by name', url);
    t.strictSame(values, [{ name: 'web-1' }, { name: 'web-2' }]);
    t.strictSame((await ask('select * from nodes', url)).values, []);
    t.strictSame((await ask('select distinct pod from container_events order by pod', url)).values, [
      { pod: 'web-1' },
      { pod: 'web-2' },
    ]);
    t.strictSame((await ask('select pod, memory_bytes from containers order by pod', url)).values, [
      { pod: 'web-1', memory_bytes: 1000 },
      { pod: 'web-2', memory_bytes: 500 },
    ]);
    const all = await login(`${tenantName}_all`, ['*']);
    t.strictSame((await ask('select count(*)::integer as count from pods', all)).values, [{ count: 3 }]);
    t.strictSame((await ask('select count(*)::integer as count from nodes', all)).values, [{ count: 3 }]);
    t.ok(
      (await listTenants(administrator)).some(
        ({ role, namespaces }) => role === `tenant_${tenantName}` && namespaces.join() === 'shop',
      ),
    );
    const another = await login(tenantName, ['bank']);
    t.strictSame(
      (await ask('select name from pods', another)).values,
      [{ name: 'teller' }],
      'its namespaces are what they were last said to be',
    );
    await t.rejects(ask('select 1', url), /password/, 'and the old password is gone');
    await revokeTenant(administrator, tenantName);
    await t.rejects(ask('select 1', another));
  });
});

/** By whatever way a tenant may think of. */
async function seesNoOther(t: Test, url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  t.teardown(() => client.end());
  const foreign = /bank|vault-plan|basement|teller/;
  const look = async (text: string): Promise<string> =>
    client.query(text).then(
      (result) => JSON.stringify(Array.isArray(result) ? result.map(({ rows }: Json) => rows) : result.rows),
      (error: Json) => `${error.message} ${error.detail ?? ''} ${error.hint ?? ''} ${error.where ?? ''}`,
    );
  const views = ['objects', 'history', 'causes', 'pods', 'containers', 'container_events', 'nodes'];
  for (const table of [
    ...views.map((view) => `reckon.${view}`),
    'public.records',
    'public.lifetimes',
    'public.containers',
    'public.runtime_events',
    'public.usage',
    'public.nodes',
  ])
    t.notMatch(await look(`select * from ${table}`), foreign, table);
  t.match(await look('select name from pods'), /web-1/, 'its own are there');
  const ways = [
    // Operators and casts that tell what they stumble over, in the hope that they are asked before the rows are chosen.
    'select * from objects where name::integer = 1',
    "select * from reckon.history where (object #>> '{data,where}')::integer = 1",
    "select * from public.lifetimes where 1 / (case when namespace = 'bank' then 0 else 1 end) = 1",
    "select * from public.records where 1 / (case when object::text like '%basement%' then 0 else 1 end) = 1",
    'select * from public.tenants',
    'select * from public.objects',
    'select * from public.history',
    'select * from public.projection',
    "select most_common_vals from pg_stats where tablename = 'lifetimes'",
    'select * from pg_stats_ext',
    'select * from pg_statistic',
    'table public.images',
    'select query from pg_stat_activity',
    'set role reckon_reader; select * from public.lifetimes',
    'set session authorization reckon_reader; select * from public.lifetimes',
    'set row_security = off; select * from public.lifetimes',
    "select query_to_xml('select * from public.lifetimes', true, true, '')",
    "select pg_read_file('/etc/hostname')",
    'copy public.lifetimes to stdout',
    "select lo_import('/etc/hostname')",
    'set search_path = public, reckon; select * from lifetimes',
  ];
  await client.query('set default_transaction_read_only = off');
  for (const way of ways) t.notMatch(await look(way), foreign, way);
  t.notMatch(
    await look("select * from public.lifetimes where 1 / (case when namespace = 'bank' then 0 else 1 end) = 1"),
    /division/,
    'what is not its own is never compared',
  );
  for (const forbidden of [
    "create function public.leak(json) returns boolean language plpgsql cost 0.0001 as $$ begin raise notice '%', $1; return true; end $$",
    'create table public.mine (a integer)',
    'create temporary table mine (a integer)',
    'create schema mine',
    'alter table public.lifetimes disable row level security',
    "insert into public.tenants values (session_user, 'bank')",
    "update public.tenants set namespace = 'bank'",
    'delete from public.records',
    'create role other',
  ])
    t.match(await look(forbidden), /permission denied|must be owner/, forbidden);
}

t.test('reckon sql at the terminal', async (t) => {
  const { servers } = await startWithPast(t);
  const url = servers.databaseUrlAs('reckon_reader');
  const say = (...words: string[]) =>
    runCommand(process.execPath, [main, 'sql', '--database', url, ...words], { timeoutMs: 20_000 });
  const text = "select 1 as number, 'a,\"b' as text, null as nothing, array[1,2]::bigint[] as list, true as yes";
  const [csv, json, table, wrong, usage] = await Promise.all([
    say(text, '-o', 'csv'),
    say(text, '-o', 'json'),
    say(text),
    say('select nonsense from pods'),
    say(),
  ]);
  t.equal(csv.stdout, 'number,text,nothing,list,yes\n1,"a,""b",,"{1,2}",t\n');
  t.strictSame(JSON.parse(json.stdout), [{ number: 1, text: 'a,"b', nothing: null, list: [1, 2], yes: true }]);
  t.match(table.stdout, /^NUMBER +TEXT +NOTHING +LIST +YES\n1 +a,"b +- +\{1,2\} +t\n\(1 row\)/);
  t.equal(wrong.code, 1);
  t.match(wrong.stderr, /column "nonsense" does not exist, at character 8[^]*docs\/sql\.md/);
  t.equal(usage.code, 2);
  const away = await runCommand(
    process.execPath,
    [main, 'sql', '--database', 'postgres://a:b@127.0.0.1:1/c', 'select 1'],
    { timeoutMs: 20_000 },
  );
  t.equal(away.code, 1);
  t.match(away.stderr, /database cannot be reached/);
});
