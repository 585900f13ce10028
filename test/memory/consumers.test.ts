/**
 * Somebody outside the cluster reads one namespace's events from NATS, with credentials that `reckon consumer` gave: what they see, what they cannot do, how they go on after restarts, after retention has passed them, and
 * after their credentials are changed or taken away. Against the real server in operator mode.
 */
import { spawn } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, credsAuthenticator, jwtAuthenticator } from 'nats';
import t, { type Test } from 'tap';
import { natsUrl } from '../../cli/instance.ts';
import { openDurables } from '../../event-log/durables.ts';
import { trim } from '../../event-log/trim.ts';
import type { Json } from '../api-server/api.ts';
import { startReckon, type RunningReckon } from '../harness/start-reckon.ts';
import { configMap, consumerOf, names, stageOf } from './consumer-stage.ts';

t.setTimeout(600_000);

const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');
const root = process.env['RECKON_ROOT'] ?? process.cwd();
const streams = ['RECKON', 'RECKON_EPHEMERAL', 'RECKON_KEYS'];

t.test('event consumers', async (t) => {
  const stage = stageOf(await startReckon(t, { runtime: 'simulated', controllers: [] }));
  const { reckon, say } = stage;
  const put = (namespace: string, name: string, value?: string): Promise<string> =>
    reckon.kubectl(`apply -n ${namespace} -f -`, { input: configMap(name, value) });
  for (const namespace of ['shop', 'bank']) await reckon.kubectl(`create namespace ${namespace}`);
  await put('shop', 'first');
  await put('bank', 'other');
  await reckon.kubectl('create secret generic pass -n shop --from-literal=word=hushhush');
  const made = await say('consumer', 'create', 'billing', '-n', 'shop');
  t.equal(made.code, 0, made.stderr);
  t.match(made.stdout, /credentials +billing\.creds[^]*consumer +billing-[0-9a-f]{32}/);
  let billing = await consumerOf(t, stage, 'billing');

  await t.test('sees its namespace and no other, and no secret', async (t) => {
    const first = await billing.drain();
    t.strictSame(names(first), ['configmaps/shop/first', 'secrets/shop/pass'], 'a snapshot to begin with');
    t.notMatch(first.map((message) => message.string()).join(''), /hushhush|aHVzaGh1c2g/, 'sealed');
    await put('bank', 'other', '2');
    await put('shop', 'first', '2');
    await put('shop', 'second');
    await reckon.kubectl('delete configmap second -n shop');
    const then = await billing.drain();
    t.strictSame(names(then), ['configmaps/shop/first', 'configmaps/shop/second', 'configmaps/shop/second']);
    t.strictSame(
      then.map(({ headers }) => headers?.get('Reckon-Verb')),
      ['patch', 'create', 'delete'],
    );
    t.match((await say('consumer', 'get', 'billing', '-n', 'shop')).stdout, /state +up to date/);
  });

  await t.test('can do nothing else', async (t) => {
    await say('consumer', 'create', 'audit', '-n', 'shop', '--kinds', 'deploy,cm');
    const audit = await consumerOf(t, stage, 'audit');
    t.strictSame(
      names(await audit.drain()).filter((name) => !name.startsWith('configmaps/')),
      [],
      'its kinds alone',
    );
    const forbidden = [
      'reckon.desired.core.configmaps.shop.forged',
      'reckon.keys.x',
      '$JS.API.INFO',
      '$JS.API.STREAM.INFO.RECKON',
      '$JS.API.STREAM.MSG.GET.RECKON',
      '$JS.API.DIRECT.GET.RECKON',
      '$JS.API.STREAM.DELETE.RECKON',
      '$JS.API.CONSUMER.LIST.RECKON',
      '$JS.API.CONSUMER.CREATE.RECKON',
      `$JS.API.CONSUMER.CREATE.RECKON.${billing.durable}`,
      `$JS.API.CONSUMER.DURABLE.CREATE.RECKON.${billing.durable}`,
      `$JS.API.CONSUMER.DELETE.RECKON.${billing.durable}`,
      `RECKON.API.CONSUMER.MSG.NEXT.RECKON.${audit.durable}`,
      `RECKON.API.CONSUMER.INFO.RECKON.${audit.durable}`,
      `$JS.API.CONSUMER.MSG.NEXT.RECKON.${billing.durable}`,
      `$JS.ACK.RECKON.${audit.durable}.1.1.1.1.0`,
      `reckon-consumers.${audit.durable}.begin`,
    ];
    for (const subject of forbidden) await t.rejects(billing.ask(subject, '{}'), /permissions/i, subject);
    for (const subject of ['>', 'reckon.>', '_INBOX.>', '$JS.>', `_INBOX_${audit.durable}.>`]) {
      const overheard = async (): Promise<void> => {
        for await (const message of billing.nats.subscribe(subject)) t.fail(message.subject);
      };
      await t.rejects(overheard(), /permissions/i, `listening to ${subject}`);
    }
  });

  await t.test('nor by letting JetStream answer to a subject that is not its own', async (t) => {
    const nats = await connect({ servers: stage.servers, ...adminOf(reckon), noAsyncTraces: true });
    t.teardown(() => nats.close());
    const sizes = async (): Promise<unknown[]> =>
      Promise.all(
        streams.map(async (stream) => {
          const info = (await nats.request(`$JS.API.STREAM.INFO.${stream}`, '', { timeout: 3_000 })).json<Json>();
          return stream === 'RECKON_EPHEMERAL' ? Boolean(info.state) : info.state?.messages;
        }),
      );
    await say('consumer', 'create', 'mallory', '-n', 'shop');
    const mallory = await consumerOf(t, stage, 'mallory');
    const before = await sizes();
    const next = `RECKON.API.CONSUMER.MSG.NEXT.RECKON.${mallory.durable}`;
    for (const reply of [
      ...streams.map((stream) => `$JS.API.STREAM.DELETE.${stream}`),
      'reckon.keys.x',
      'reckon.desired.core.configmaps.bank.other',
      'reckon.floor',
    ]) {
      mallory.nats.publish(next, JSON.stringify({ batch: 1, no_wait: true }), { reply });
      mallory.nats.publish(next, JSON.stringify({ batch: 1, expires: 100_000_000 }), { reply });
    }
    await mallory.nats.flush();
    await sleep(500);
    t.strictSame(await sizes(), before, 'no stream is gone, none has grown');
  });

  const whole = t;
  await t.test('goes on where it was, though the server was killed', async (t) => {
    await billing.drain();
    const items = Array.from({ length: 20 }, (_, count) => configMap(`before-${count}`));
    await reckon.kubectl('apply -n shop -f -', { input: { apiVersion: 'v1', kind: 'List', items } });
    const some = await billing.drain(7);
    const pid = await reckon.kill('nats', 'SIGKILL');
    await reckon.restarted('nats', pid);
    await put('shop', 'after-the-kill');
    billing = await consumerOf(whole, stage, 'billing');
    const rest = await billing.drain();
    const seen = [...new Set([...names(some), ...names(rest)])];
    t.strictSame(seen, [
      ...Array.from({ length: 20 }, (_, count) => `configmaps/shop/before-${count}`),
      'configmaps/shop/after-the-kill',
    ]);
  });

  await t.test('is told when retention has passed it, and begins afresh at a known revision', async (t) => {
    const trimNow = () =>
      trim({
        url: natsUrl(reckon.instance, 'apiServer'),
        keepAfter: Number.MAX_SAFE_INTEGER,
        retentionMs: 0,
        unsafeWindow: true,
      });
    await put('shop', 'fleeting');
    await billing.drain();
    t.ok((await trimNow()).superseded > 0, 'what is acknowledged goes');
    await put('shop', 'quiet');
    t.strictSame(names(await billing.drain()), ['configmaps/shop/quiet'], 'and harms nobody');
    await put('bank', 'other', '3');
    await put('bank', 'other', '4');
    await trimNow();
    await put('shop', 'calm');
    t.strictSame(names(await billing.drain()), ['configmaps/shop/calm'], 'nor does what goes of other namespaces');
    await put('shop', 'fleeting', '2');
    await put('shop', 'fleeting', '3');
    await reckon.kubectl('delete configmap calm -n shop');
    await trimNow();
    await t.rejects(
      billing.ask(`RECKON.API.CONSUMER.MSG.NEXT.RECKON.${billing.durable}`, '{"batch":1}'),
      /503|responders/i,
    );
    t.match(await billing.ask(`RECKON.API.CONSUMER.INFO.RECKON.${billing.durable}`), /consumer not found/);
    t.match((await say('consumer', 'get', 'billing', '-n', 'shop')).stdout, /must begin afresh/);
    const begun = JSON.parse(await billing.ask(`reckon-consumers.${billing.durable}.begin`));
    await put('shop', 'later');
    const snapshot = await billing.drain();
    const living = new Map<string, string>();
    for (const message of snapshot) {
      const [name] = names([message]);
      if (name === undefined) continue;
      if (message.headers?.get('Reckon-Verb') === 'delete') living.delete(name);
      else living.set(name, message.string());
    }
    const { items } = JSON.parse(await reckon.kubectl('get configmaps,secrets -n shop -o json'));
    t.strictSame(
      [...living.keys()].sort(),
      items.map(({ kind, metadata }: Json) => `${kind.toLowerCase()}s/shop/${metadata.name}`).sort(),
      'the snapshot and what followed are what there is',
    );
    const last = snapshot.at(-1);
    t.ok(
      last && last.seq > begun.revision && names([last])[0] === 'configmaps/shop/later',
      'after the revision come changes',
    );
    t.ok(snapshot.slice(0, -1).every(({ seq }) => seq <= begun.revision));
  });

  await t.test('the program of the page', async (t) => {
    const page = await readFile(path.join(root, 'docs', 'consumers.md'), 'utf8');
    const program = /```js\n([^]*?)```/.exec(page)?.[1] ?? '';
    // Beside what is compiled, so that it finds the package.
    const file = path.join(main, '..', `consume-${process.pid}.mjs`);
    await writeFile(file, program);
    t.teardown(() => rm(file, { force: true }));
    await say('consumer', 'create', 'page', '-n', 'shop', '--kinds', 'cm');
    const { durable } = await consumerOf(t, stage, 'page');
    const child = spawn(process.execPath, [file, stage.servers, stage.creds('page'), durable], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.teardown(() => child.kill());
    let said = '';
    for (const output of [child.stdout, child.stderr]) output.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until(
      t,
      () => `the snapshot: ${said}`,
      async () => /\d+ patch ConfigMap first/.test(said),
    );
    await put('shop', 'for-the-page');
    await until(
      t,
      () => `a change: ${said}`,
      async () => /\d+ (create|patch) ConfigMap for-the-page/.test(said),
    );
    const durables = await openDurables({ url: natsUrl(reckon.instance, 'apiServer') });
    t.teardown(() => durables.close());
    await durables.remove(durable);
    await until(
      t,
      () => `a new beginning: ${said}`,
      async () => /begins afresh: a snapshot up to \d+[^]*ConfigMap for-the-page/.test(said),
    );
  });

  await t.test('new credentials end the old ones and go on; deleted, nothing is left', async (t) => {
    await billing.drain();
    await put('shop', 'unseen');
    const old = await readFile(stage.creds('billing'));
    const closed = new Promise<void>((resolve) => {
      void (async () => {
        for await (const { type } of billing.nats.status()) if (type === 'disconnect') resolve();
      })();
    });
    t.equal((await say('consumer', 'rotate', 'billing', '-n', 'shop')).code, 0);
    await closed;
    await t.rejects(
      connect({ servers: stage.servers, authenticator: credsAuthenticator(old) }),
      /authorization/i,
      'the old ones are refused',
    );
    await billing.nats.close();
    const renewed = await consumerOf(t, stage, 'billing');
    t.strictSame(names(await renewed.drain()), ['configmaps/shop/unseen']);
    await reckon.kill('api-server', 'SIGKILL').then((pid) => reckon.restarted('api-server', pid));
    await until(t, 'the API server', async () => (await reckon.tryKubectl('get --raw /readyz')).code === 0);
    t.match(
      await renewed.ask(`RECKON.API.CONSUMER.INFO.RECKON.${renewed.durable}`),
      /"num_pending":0/,
      'they outlive an API server',
    );
    t.equal((await say('consumer', 'delete', 'billing', '-n', 'shop')).code, 0);
    await until(t, 'the connection to end', async () =>
      renewed.ask(`RECKON.API.CONSUMER.INFO.RECKON.${renewed.durable}`).then(
        () => false,
        () => true,
      ),
    );
    await t.rejects(
      connect({ servers: stage.servers, authenticator: credsAuthenticator(await readFile(stage.creds('billing'))) }),
      /authorization/i,
    );
    const nats = await connect({ servers: stage.servers, ...adminOf(reckon), noAsyncTraces: true });
    t.teardown(() => nats.close());
    await until(t, 'its durable to go', async () => {
      const { consumers } = (await nats.request('$JS.API.CONSUMER.LIST.RECKON', '{}', { timeout: 3_000 })).json<Json>();
      return !consumers.some(({ name }: Json) => name === renewed.durable);
    });
    t.match((await say('consumer', 'list', '-n', 'shop')).stdout, /^shop +audit +apps\/deployments,core\/configmaps/m);
  });

  await t.test('nobody gives away what he may not see', async (t) => {
    await reckon.kubectl(
      'create role consuming -n shop --verb=create,get --resource=eventconsumers.log.reckon.dev,eventconsumers.log.reckon.dev/credentials',
    );
    await reckon.kubectl('create role watching -n shop --verb=watch --resource=configmaps');
    for (const role of ['consuming', 'watching'])
      await reckon.kubectl(`create rolebinding ${role} -n shop --role=${role} --user=ann`);
    const consumer = (name: string, resources?: string[]): Json => ({
      apiVersion: 'log.reckon.dev/v1',
      kind: 'EventConsumer',
      metadata: { name, namespace: 'shop' },
      spec: { ...(resources && { resources }) },
    });
    for (const [name, resources] of [['all'], ['secret', ['core/secrets']], ['maps', ['core/configmaps']]] as const)
      await reckon.kubectl('create --as=ann -f -', { input: consumer(name, resources && [...resources]) });
    const issue = (name: string) =>
      reckon.tryKubectl(
        `create --as=ann --raw /apis/log.reckon.dev/v1/namespaces/shop/eventconsumers/${name}/credentials -f -`,
        { input: {} },
      );
    t.match((await issue('all')).stderr, /cannot watch resource "\*" in API group "\*" in the namespace "shop"/);
    t.match((await issue('secret')).stderr, /cannot watch resource "secrets"/);
    const issued = await issue('maps');
    t.match(issued.stdout, /BEGIN NATS USER JWT/, issued.stderr);
    t.match(await reckon.kubectl('get eventconsumers -n shop'), /NAME +RESOURCES +PLANE +ISSUED +AGE/);
    const forged = await reckon.tryKubectl(
      'patch eventconsumer maps -n shop --subresource=status --type=merge -p {"status":{"issuer":"AAAA"}}',
    );
    t.match(forged.stderr, /MethodNotAllowed|not allow/, 'its status is nobody else to write');
    const bad = await reckon.tryKubectl('create -f -', { input: consumer('bad', ['Pods']) });
    t.match(bad.stderr, /spec\.resources\[0\]/);
  });
});

async function until(t: Test, what: string | (() => string), look: () => Promise<boolean>): Promise<void> {
  const endMs = Date.now() + 20_000;
  while (!(await look())) {
    if (Date.now() > endMs) return void t.fail(`waited in vain for ${typeof what === 'string' ? what : what()}`);
    await sleep(100);
  }
}

/** The API server's own login. */
function adminOf({ instance }: RunningReckon) {
  const { user, password } = instance.credentials.nats.apiServer;
  return { authenticator: jwtAuthenticator(user, Buffer.from(password)), inboxPrefix: '_INBOX.reckon-api-server' };
}
