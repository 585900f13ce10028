/**
 * Several writes at once, over HTTP, on two API servers of one log: all or none, judged as single writes are, every fault reported, and nobody who reads, follows or looks back ever sees half.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import t from 'tap';
import { runCommand, type CommandResult } from '../../cli/set-up/command.ts';
import { openLogReader } from '../../event-log/jetstream.ts';
import { LogWorld } from '../../sdk/log-world.ts';
import { configMap, deployment, pod, type Answer, type Api, type Json } from '../api-server/api.ts';
import { startWithPast } from './stage.ts';

t.setTimeout(600_000);

const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');
const ROOT = '/apis/log.reckon.dev/v1';
const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const inDefault = { namespace: 'default' };

const transact = (api: Api, operations: readonly unknown[], query = '', user?: string): Promise<Answer> =>
  api.post(
    `${ROOT}/transactions?fieldManager=tester${query}`,
    { kind: 'Transaction', apiVersion: 'log.reckon.dev/v1', operations },
    { ...(user !== undefined && { user }) },
  );

const create = (object: Json, more: object = {}) => ({ verb: 'create', object, ...more });
const apply = (object: Json, more: object = {}) => ({ verb: 'apply', object, ...more });
const target = (kind: string, name: string, namespace = 'default') => ({ apiVersion: 'v1', kind, name, namespace });
const service = (name: string, spec: object = {}): Json => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, ...inDefault },
  spec: { selector: { app: name }, ports: [{ port: 80 }], ...spec },
});

t.test('several writes stand together or not at all', async (t) => {
  const { api, servers } = await startWithPast(t);
  const other = await api.another();
  const outcomes = ({ body }: Answer): string[] => body.members.map(({ outcome }: Json) => outcome);

  await t.test('every verb, each as if it came alone', async (t) => {
    await api.post(CONFIG_MAPS, configMap('standing', { a: '1' }));
    await api.post(CONFIG_MAPS, configMap('doomed'));
    await api.post('/api/v1/namespaces/default/pods', pod('held', {}, { finalizers: ['example.com/hold'] }));
    const before = await api.lastSequence();
    const done = await transact(api, [
      create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } }),
      create(configMap('made', { k: 'v' }, { namespace: 'shop' })),
      apply(deployment('web', {}, { namespace: 'shop' })),
      { verb: 'update', object: configMap('standing', { a: '2' }, inDefault) },
      { verb: 'delete', target: target('ConfigMap', 'doomed') },
      { verb: 'delete', target: target('Pod', 'held'), propagationPolicy: 'Foreground' },
      create(service('one', { type: 'NodePort' })),
      create(service('two', { type: 'NodePort' })),
      create(configMap('', {}, { generateName: 'some-', ...inDefault })),
    ]);
    t.equal(done.status, 200, done.text);
    t.strictSame(outcomes(done), [
      ...['created', 'created', 'created', 'changed', 'deleted', 'deleting', 'created', 'created', 'created'],
    ]);
    t.equal(done.body.revision, await api.lastSequence());
    t.equal(done.headers['reckon-revision'], String(done.body.revision));
    // Nine members, and the lock under which both Services took their numbers.
    t.equal(done.body.revision - before, 10);
    t.match(done.body.members[8].name, /^some-.{5}$/);
    for (const server of [api, other]) {
      const { body } = await server.get('/apis/apps/v1/namespaces/shop/deployments/web');
      t.equal(body.metadata.resourceVersion, done.body.members[2].resourceVersion);
      t.equal(body.spec.strategy.type, 'RollingUpdate', 'defaulted');
      t.match(body.metadata.managedFields, [{ manager: 'tester', operation: 'Apply' }]);
      t.equal(body.metadata.generation, 1);
      t.equal((await server.get(`${CONFIG_MAPS}/doomed`)).status, 404);
      t.ok((await server.get('/api/v1/namespaces/default/pods/held')).body.metadata.deletionTimestamp);
    }
    const [one, two] = await Promise.all(
      ['one', 'two'].map(async (name) => (await api.get(`/api/v1/namespaces/default/services/${name}`)).body.spec),
    );
    t.ok(one.clusterIP && two.clusterIP && one.clusterIP !== two.clusterIP);
    t.ok(one.ports[0].nodePort !== two.ports[0].nodePort);
    const { body: history } = await api.get(`${ROOT}/namespaces/shop/history/apps/deployments/web`);
    t.match(history.items[0], { verb: 'apply', actor: 'admin', transaction: { count: 10 } });
    const again = await transact(api, [
      apply(deployment('web', {}, { namespace: 'shop' })),
      { verb: 'patch', target: target('ConfigMap', 'standing'), patchType: 'merge', patch: { data: { a: '2' } } },
    ]);
    t.strictSame(outcomes(again), ['unchanged', 'unchanged']);
    t.equal(await api.lastSequence(), done.body.revision, 'nothing was written');
  });

  await t.test('everything that is wrong is said at once, and nothing is written', async (t) => {
    const before = await api.lastSequence();
    const refused = await transact(api, [
      create(configMap('fine', {}, inDefault)),
      create(deployment('Web!', { replicas: -1 }, inDefault)),
      { verb: 'update', object: configMap('nobody', {}, inDefault) },
      create(configMap('standing', {}, inDefault)),
      { verb: 'explode' },
      { verb: 'delete', target: { apiVersion: 'v1', kind: 'Sandwich', name: 'x' } },
      { verb: 'patch', target: target('ConfigMap', 'standing'), patchType: 'best', patch: {} },
      create(configMap('fine', { twice: 'x' }, inDefault)),
      create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'Bad_Name' } }),
      create(configMap('follows', {}, { namespace: 'Bad_Name' })),
      create({ apiVersion: 'v1', kind: 'Event', metadata: { name: 'e', ...inDefault } }),
      { verb: 'delete', target: { apiVersion: 'v1', kind: 'ConfigMap', name: 'standing' }, colour: 'red' },
    ]);
    t.equal(refused.status, 422);
    t.match(refused.body, { kind: 'Status', status: 'Failure', reason: 'Invalid' });
    t.match(
      refused.body.message,
      /^nothing was written: 10 of 12 operations were refused: operations\[1\] \(create Depl/,
    );
    t.strictSame(
      refused.body.details.refusals.map(({ index, status }: Json) => `${index} ${status.reason}`),
      [
        ...['1 Invalid', '2 NotFound', '3 AlreadyExists', '4 Invalid', '5 NotFound', '6 Invalid', '7 Conflict'],
        ...['8 Invalid', '10 BadRequest', '11 Invalid'],
      ],
    );
    const fields = refused.body.details.causes.map(({ field }: Json) => field);
    for (const field of [
      ...['operations[1].object.spec.replicas', 'operations[1].object.metadata.name', 'operations[2]'],
      ...['operations[4].verb', 'operations[6].patchType', 'operations[11].colour', 'operations[11].target.namespace'],
    ])
      t.ok(fields.includes(field), field);
    t.equal(await api.lastSequence(), before);
    t.equal((await api.get(`${CONFIG_MAPS}/fine`)).status, 404);
    for (const [body, status, why] of [
      [{ operations: [] }, 400, /operations: Required value/],
      [[], 400, /JSON object of kind Transaction/],
      [{ kind: 'Pod' }, 400, /expected log.reckon.dev\/v1 Transaction/],
      [{ operations: [{}], dryrun: true }, 400, /unknown field "dryrun"/],
      [{ operations: Array.from({ length: 1001 }, () => ({})) }, 413, /at most 1000 members, this one has 1001/],
    ] as const) {
      const answer = await api.post(`${ROOT}/transactions`, body);
      t.equal(answer.status, status);
      t.match(answer.body.message, why);
    }
    t.equal((await api.get(`${ROOT}/transactions`)).status, 405);
  });

  await t.test('a dry run judges the whole and writes nothing', async (t) => {
    const before = await api.lastSequence();
    const operations = [
      create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'dry' } }),
      create(configMap('drop', {}, { namespace: 'dry' })),
    ];
    const tried = await transact(api, operations, '&dryRun=All');
    t.strictSame([tried.status, tried.body.dryRun, ...outcomes(tried)], [200, true, 'created', 'created']);
    t.equal((await transact(api, [...operations, create(configMap('x'))], '&dryRun=All')).status, 422);
    t.equal((await transact(api, operations, '&dryRun=yes')).status, 422);
    t.equal(await api.lastSequence(), before);
  });

  await t.test('members are counted against quotas together', async (t) => {
    await api.post('/api/v1/namespaces', { metadata: { name: 'small' } });
    await api.post('/api/v1/namespaces/small/resourcequotas', {
      metadata: { name: 'two' },
      spec: { hard: { 'count/configmaps': '2' } },
    });
    const some = (...names: string[]) => names.map((name) => create(configMap(name, {}, { namespace: 'small' })));
    const tooMany = await transact(api, some('x', 'y', 'z'));
    t.match([tooMany.status, tooMany.body.message], [403, /operations\[2\].*exceeded quota: two/]);
    const done = await transact(api, some('x', 'y'));
    t.equal(done.status, 200, done.text);
    const { body } = await other.get('/api/v1/namespaces/small/resourcequotas/two');
    t.equal(body.status.used['count/configmaps'], '2');
    const races = await Promise.all([transact(api, some('p')), transact(other, some('q'))]);
    t.strictSame(
      races.map(({ status }) => status),
      [403, 403],
    );
  });

  await t.test('preconditions hold for the whole, also of what stays as it is', async (t) => {
    const { body: a } = await api.post(CONFIG_MAPS, configMap('a', { n: '0' }));
    const { body: b } = await api.post(CONFIG_MAPS, configMap('b', { n: '0' }));
    const version = (object: Json) => ({ resourceVersion: object.metadata.resourceVersion, uid: object.metadata.uid });
    const set = (name: string, n: number, preconditions: object) => ({
      verb: 'patch',
      target: target('ConfigMap', name),
      patchType: 'merge',
      patch: { data: { n: String(n) } },
      preconditions,
    });
    // Both would stand if `b` were only looked at.
    const racers = await Promise.all([
      transact(api, [set('a', 1, {}), set('b', 0, version(b))]),
      transact(other, [set('a', 2, {}), set('b', 0, version(b))]),
    ]);
    t.strictSame(racers.map(({ status }) => status).sort(), [200, 409]);
    const stale = await transact(api, [set('b', 5, {}), set('a', 5, version(a))]);
    t.match([stale.status, stale.body.message], [409, /operations\[1\].*ResourceVersion in precondition/]);
    t.equal((await api.get(`${CONFIG_MAPS}/b`)).body.data.n, '0');
    const wrong = await transact(api, [set('b', 5, { uid: 'somebody-else' })]);
    t.match([wrong.status, wrong.body.message], [409, /UID in precondition: somebody-else/]);
    const there = await transact(api, [apply(configMap('b', {}, inDefault), { preconditions: { absent: true } })]);
    t.equal(there.body.reason, 'AlreadyExists');
    const gone = await transact(api, [apply(configMap('c', {}, inDefault), { preconditions: { absent: false } })]);
    t.equal(gone.body.reason, 'NotFound');
    t.equal((await transact(api, [set('b', 5, { colour: 'red' })])).status, 422);
  });

  await t.test('each member needs the rights that the single write needs', async (t) => {
    await api.post('/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles', {
      metadata: { name: 'scribe' },
      rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['create', 'patch'] }],
    });
    await api.post('/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings', {
      metadata: { name: 'scribe' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'scribe' },
      subjects: [{ kind: 'User', name: 'jane', apiGroup: 'rbac.authorization.k8s.io' }],
    });
    const may = await transact(other, [apply(configMap('hers', {}, inDefault))], '', 'jane|people');
    t.equal(may.status, 200, may.text);
    const operations = [
      apply(configMap('hers', { more: '1' }, inDefault)),
      { verb: 'delete', target: target('ConfigMap', 'hers') },
      create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'hers' } }),
    ];
    const mayNot = await transact(other, [operations[0], ...operations.slice(2)], '', 'jane|people');
    t.match([mayNot.status, mayNot.body.message], [403, /1 of 2 .*"jane" cannot create resource "namespaces"/]);
    t.equal((await transact(other, operations.slice(1), '', 'jane|people')).body.details.refusals.length, 2);
    t.notOk((await api.get(`${CONFIG_MAPS}/hers`)).body.data.more);
    const nobody = await api.post(`${ROOT}/transactions`, { operations: [operations[0]] }, { user: null });
    t.equal(nobody.status, 403);
  });

  await t.test('server-side apply: owners are kept, and conflicts refuse the whole', async (t) => {
    await api.patch(`${CONFIG_MAPS}/owned?fieldManager=first`, 'apply', configMap('owned', { a: '1' }));
    const operations = [apply(configMap('owned', { a: '2' }, inDefault)), apply(configMap('free', {}, inDefault))];
    const refused = await transact(api, operations);
    t.equal(refused.status, 409);
    t.match(refused.body.details.causes, [{ reason: 'FieldManagerConflict', field: /^operations\[0\]/ }]);
    t.equal((await api.get(`${CONFIG_MAPS}/free`)).status, 404);
    t.strictSame(outcomes(await transact(api, operations, '&force=true')), ['changed', 'created']);
    const strict = await transact(
      api,
      [apply({ ...configMap('free', {}, inDefault), colour: 1 })],
      '&fieldValidation=Strict',
    );
    t.match([strict.status, strict.body.message], [400, /\.colour: field not declared in schema/]);
    const unnamed = await api.post(`${ROOT}/transactions`, { operations: [operations[0]] });
    t.match(unnamed.body.message, /fieldManager/);
  });

  await t.test('reckon apply --atomic', async (t) => {
    const folder = t.testdir({
      'one.yaml':
        'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: from-yaml }\n---\n---\n' +
        'kind: List\napiVersion: v1\nitems:\n- { apiVersion: v1, kind: ConfigMap, metadata: { name: from-list } }\n',
      'two.json': JSON.stringify(deployment('from-json')),
      'notes.txt': 'nothing for us',
      below: { 'three.yml': JSON.stringify(configMap('from-below')) },
    });
    const reckon = (words: string, input?: string): Promise<CommandResult> =>
      runCommand(process.execPath, [main, 'apply', '--kubeconfig', api.kubeconfig, ...words.split(' ')], {
        timeoutMs: 30_000,
        ...(input !== undefined && { input }),
      });
    const first = await reckon(`--atomic -f ${folder}`);
    t.match(
      first.stdout,
      /^configmap\/from-yaml created\nconfigmap\/from-list created\ndeployment.apps\/from-json created\n/,
    );
    t.match(first.stdout, /All of it stands since revision \d+/);
    const { body } = await api.get(`${ROOT}/namespaces/default/history/apps/deployments/from-json`);
    t.match(body.items[0].source, /two\.json sha256:[0-9a-f]{64}$/);
    const tried = await reckon(`--atomic -R -f ${folder} --dry-run`);
    t.match(tried.stdout, /configmap\/from-below created\n[^]*dry run\. 1 of 4 would change/);
    const [refused, unnamed, unreadable, missing] = await Promise.all([
      reckon(
        '--atomic -f -',
        JSON.stringify(
          [configMap('good'), deployment('bad', { replicas: 'many' })].reduce(
            (list, item) => ({ ...list, items: [...list.items, item] }),
            { kind: 'List', apiVersion: 'v1', items: [] as Json[] },
          ),
        ),
      ),
      reckon(`-f ${folder}`),
      reckon('--atomic -f -', '{'),
      reckon('--atomic -f nowhere.yaml'),
    ]);
    t.equal(refused.code, 1);
    t.match(
      refused.stderr,
      /Nothing was written: 1 of 2 objects was refused.\n +deployment.apps\/bad in default +\(standard input\)\n +.*replicas/,
    );
    t.equal((await api.get(`${CONFIG_MAPS}/good`)).status, 404);
    t.match([unnamed.code, unnamed.stderr], [2, /say --atomic/]);
    t.match([unreadable.code, unreadable.stderr], [2, /standard input: /]);
    t.match([missing.code, missing.stderr], [2, /There is no nowhere.yaml/]);
  });

  await t.test('as many as the log takes at once', async (t) => {
    const many = Array.from({ length: 1000 }, (_, index) => create(configMap(`many-${index}`, {}, inDefault)));
    const done = await transact(api, many);
    t.equal(done.status, 200, done.text.slice(0, 300));
    t.equal(done.body.members.length, 1000);
    // The lock of the Service is one more than there is room for.
    const locked = await transact(api, [
      create(service('late')),
      ...many.slice(1).map(({ object }) => ({ verb: 'update', object })),
    ]);
    t.equal(locked.status, 200, 'unchanged members need no room');
    const names = `${CONFIG_MAPS}?resourceVersionMatch=Exact&resourceVersion=`;
    const middle = done.body.revision - 500;
    await sleep(50);
    const { body: list } = await api.get(`${names}${middle}`);
    t.equal(list.metadata.resourceVersion, String(done.body.revision), 'where a transaction ends');
    t.equal(list.items.filter(({ metadata }: Json) => metadata.name.startsWith('many-')).length, 1000);
    const { body: past } = await api.get(`${CONFIG_MAPS}?at=${middle}`);
    t.equal(past.metadata.resourceVersion, String(done.body.revision));
  });

  await t.test('nobody sees half: readers, followers, the past', async (t) => {
    const MEMBERS = 12;
    const ROUNDS = 24;
    const logger = pino({ level: 'silent' });
    const log = await openLogReader({ url: servers.natsUrl, prefix: servers.prefix, stream: 'log', logger });
    const world = new LogWorld({ log, resources: [{ group: '', resource: 'configmaps' }], logger });
    t.teardown(async () => {
      await world.close();
      await log.close();
    });
    await world.filled();
    const place = { namespace: 'shop' };
    const all = (round: number, verb: string) =>
      Array.from({ length: MEMBERS }, (_, index) => ({
        verb,
        object: configMap(`part-${index}`, { round: String(round) }, { ...place, labels: { part: 'yes' } }),
      }));
    const torn: string[] = [];
    const look = (who: string, objects: readonly Json[]): void => {
      const rounds = new Set(objects.map(({ data }) => data.round));
      if (rounds.size > 1 || (objects.length > 0 && objects.length < MEMBERS))
        torn.push(`${who}: ${objects.length} objects of rounds ${[...rounds].join()}`);
    };
    const inWorld = (): Json[] =>
      world
        .list({ group: '', resource: 'configmaps' }, { namespace: 'shop' })
        .filter(({ metadata }) => metadata.labels);
    let seen = 0;
    world.onChanges(() => {
      seen++;
      look('a controller', inWorld());
    });
    let going = true;
    let reads = 0;
    const read = async (server: Api): Promise<void> => {
      while (going) {
        const { body } = await server.get('/api/v1/namespaces/shop/configmaps?labelSelector=part%3Dyes');
        look('a list', body.items);
        reads++;
      }
    };
    const readers = [read(api), read(other), read(other)];
    const revisions: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const server = round % 2 === 0 ? api : other;
      const gone = round % 10 === 9;
      const operations = gone
        ? all(round, '').map(({ object }) => ({
            verb: 'delete',
            target: target('ConfigMap', object.metadata.name, 'shop'),
          }))
        : all(round, 'apply');
      const spoilt = [...operations, create(configMap('Not A Name', {}, place))];
      const [good, bad] = await Promise.all([transact(server, operations), transact(server, spoilt)]);
      t.equal(good.status, 200, good.text);
      t.equal(bad.status, 422);
      revisions.push(good.body.revision);
    }
    going = false;
    await Promise.all(readers);
    t.ok(await world.waitFor({ group: '', resource: 'configmaps' }, revisions.at(-1) ?? 0, 10_000));
    for (const [index, revision] of revisions.entries()) {
      const at = revision - 1 - (index % (MEMBERS - 1));
      const { body } = await api.get(`/api/v1/namespaces/shop/configmaps?labelSelector=part%3Dyes&at=${at}`);
      look(`at ${at}`, body.items);
    }
    t.strictSame(torn, []);
    t.ok(reads > ROUNDS && seen >= ROUNDS / 2, `${reads} lists, ${seen} deliveries`);
  });
});
