/**
 * Reckon on a NATS server of the operator's own, with the accounts and logins that the program of docs/consumers.md makes: its own processes log in with the rights that they need, and event consumers are made, follow, go on
 * after a kill, are renewed and taken away.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect, credsAuthenticator } from 'nats';
import t, { type Test } from 'tap';
import { runCommand } from '../../cli/set-up/command.ts';
import { startNatsChild } from '../event-log/nats-child.ts';
import { startReckon } from '../harness/start-reckon.ts';
import { until } from '../harness/until.ts';
import { configMap, consumerOf, names, stageOf } from './consumer-stage.ts';

t.setTimeout(480_000);

const root = process.env['RECKON_ROOT'] ?? process.cwd();
const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');

/** The page's program, run as its reader runs it. Resolves to the folder that it has filled. */
async function makeAccounts(t: Test): Promise<string> {
  const page = await readFile(path.join(root, 'docs', 'consumers.md'), 'utf8');
  const [program] = [...page.matchAll(/```js\n([^]*?)```/g)].flatMap(([, code = '']) =>
    code.includes('encodeOperator') ? [code] : [],
  );
  // Beside what is compiled, so that it finds the packages.
  const file = path.join(main, '..', `accounts-${process.pid}.mjs`);
  await writeFile(file, program ?? '');
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-own-nats-'));
  t.teardown(() => Promise.all([rm(file, { force: true }), rm(folder, { recursive: true, force: true })]));
  const { code, stderr } = await runCommand(process.execPath, [file, folder, '127.0.0.1:4222', '/nowhere'], {
    timeoutMs: 30_000,
  });
  if (code !== 0) throw new Error(stderr);
  return folder;
}

t.test("a NATS of one's own", async (t) => {
  const folder = await makeAccounts(t);
  const made = JSON.parse(await readFile(path.join(folder, 'nats-server.conf'), 'utf8'));
  // Where it listens and stores is the test's to choose.
  const { listen: _listen, jetstream: _jetstream, ...accounts } = made;
  const nats = await startNatsChild(accounts);
  t.teardown(() => nats.remove());
  const urlAs = (user: string): string => `${nats.url}?creds=${path.join(folder, `${user}.creds`)}`;
  const reckon = await startReckon(t, {
    runtime: 'simulated',
    controllers: ['deployments'],
    environment: {
      NATS_URL: urlAs('api-server'),
      NATS_READER_URL: urlAs('reader'),
      NATS_CONSUMERS_ACCOUNT: await readFile(path.join(folder, 'consumers.account'), 'utf8'),
      NATS_CONSUMERS_KEY: path.join(folder, 'consumers.key'),
    },
  });
  const stage = stageOf(reckon, `127.0.0.1:${nats.port}`);
  const { say } = stage;
  /** Resolves to the revision at which it stands. */
  const put = async (namespace: string, name: string, value?: string): Promise<string> => {
    const written = await reckon.kubectl(`apply -n ${namespace} -o json -f -`, { input: configMap(name, value) });
    return JSON.parse(written).metadata.resourceVersion;
  };
  for (const namespace of ['shop', 'bank']) await reckon.kubectl(`create namespace ${namespace}`);
  await put('bank', 'other');
  const revision = await put('shop', 'first');

  await t.test('a controller that may only read follows, and answers', async (t) => {
    t.match(await say('wait', '--revision', revision, '--seen-by', 'deployments,api-server'), { code: 0 });
    const reader = await connect({
      servers: stage.servers,
      authenticator: credsAuthenticator(await readFile(path.join(folder, 'reader.creds'))),
      inboxPrefix: '_INBOX.reader',
      noAsyncTraces: true,
    });
    t.teardown(() => reader.close());
    for (const subject of [
      'reckon.desired.core.configmaps.shop.forged',
      'reckon-followers.question',
      '$JS.API.STREAM.DELETE.RECKON',
      '$JS.API.STREAM.MSG.GET.RECKON_KEYS',
      '$JS.API.CONSUMER.CREATE.RECKON_KEYS',
      '$JS.API.CONSUMER.CREATE.RECKON_KEYS.thief.reckon.keys.x',
    ])
      await t.rejects(reader.request(subject, '{}', { timeout: 3_000 }), /permissions/i, subject);
  });

  t.match(await say('consumer', 'create', 'billing', '-n', 'shop'), { code: 0 });
  let billing = await consumerOf(t, stage, 'billing');

  await t.test('a consumer sees its namespace, and can do nothing else', async (t) => {
    t.strictSame(names(await billing.drain()), ['configmaps/shop/first'], 'a snapshot');
    await put('bank', 'other', '2');
    await put('shop', 'second');
    t.strictSame(names(await billing.drain()), ['configmaps/shop/second']);
    await say('consumer', 'create', 'audit', '-n', 'bank');
    const audit = await consumerOf(t, stage, 'audit', 'bank');
    for (const subject of [
      'reckon.desired.core.configmaps.shop.forged',
      'reckon-followers.question',
      '$JS.API.INFO',
      '$JS.API.STREAM.DELETE.RECKON',
      '$JS.API.STREAM.MSG.GET.RECKON',
      '$JS.API.CONSUMER.LIST.RECKON',
      `$JS.API.CONSUMER.CREATE.RECKON.${billing.durable}`,
      `$JS.API.CONSUMER.MSG.NEXT.RECKON.${billing.durable}`,
      `RECKON.API.CONSUMER.MSG.NEXT.RECKON.${audit.durable}`,
      `RECKON.API.CONSUMER.INFO.RECKON.${audit.durable}`,
      `$JS.ACK.RECKON.${audit.durable}.1.1.1.1.0`,
      `reckon-consumers.${audit.durable}.begin`,
    ])
      await t.rejects(billing.ask(subject, '{}'), /permissions/i, subject);
    for (const subject of ['>', 'reckon.>', '_INBOX.>', `_INBOX_${audit.durable}.>`]) {
      const overheard = async (): Promise<void> => {
        for await (const message of billing.nats.subscribe(subject)) t.fail(message.subject);
      };
      await t.rejects(overheard(), /permissions/i, `listening to ${subject}`);
    }
    // What it fetches JetStream delivers wherever it is told to, and in this account nobody listens there.
    const next = `RECKON.API.CONSUMER.MSG.NEXT.RECKON.${billing.durable}`;
    billing.nats.publish(next, '{"batch":1,"no_wait":true}', { reply: '$JS.API.STREAM.DELETE.RECKON' });
    await billing.nats.flush();
    const revision = await put('shop', 'third');
    t.match(await say('wait', '--revision', revision, '--seen-by', 'api-server'), { code: 0 }, 'the log is there');
    t.strictSame(names(await billing.drain()), ['configmaps/shop/third']);
  });

  await t.test('it goes on where it was, though the server was killed', async (t) => {
    for (const name of ['a', 'b', 'c']) await put('shop', name);
    const some = await billing.drain(1);
    await nats.kill();
    await nats.start();
    await until('a write', async () => (await reckon.tryKubectl('create configmap d -n shop')).code === 0);
    await billing.nats.close();
    billing = await consumerOf(t, stage, 'billing');
    // A killed server may forget that one was acknowledged, and bring it again.
    t.strictSame(
      [...new Set([...names(some), ...names(await billing.drain())])],
      ['a', 'b', 'c', 'd'].map((name) => `configmaps/shop/${name}`),
    );
    await billing.nats.close();
  });

  await t.test('new credentials go on, and the old ones can read nothing; deleted, none can', async (t) => {
    const reads = async (consumer: typeof billing): Promise<string> =>
      consumer.ask(`RECKON.API.CONSUMER.MSG.NEXT.RECKON.${consumer.durable}`, '{"batch":1,"no_wait":true}').then(
        (answer) => `got ${answer}`,
        (error: Error) => error.message,
      );
    const old = await consumerOf(t, stage, 'billing');
    await put('shop', 'unseen');
    t.match(await say('consumer', 'rotate', 'billing', '-n', 'shop'), { code: 0 });
    t.match(await reads(old), /503|responders/i, 'what they could read is gone');
    t.match(await old.ask(`reckon-consumers.${old.durable}.begin`), /withdrawn/, 'and does not come back');
    const renewed = await consumerOf(t, stage, 'billing');
    const then = names(await renewed.drain());
    t.equal(then.at(-1), 'configmaps/shop/unseen');
    t.notOk(then.includes('configmaps/shop/third'), 'from where it was, give or take what the killed server forgot');
    await put('shop', 'last');
    t.match(await say('consumer', 'delete', 'billing', '-n', 'shop'), { code: 0 });
    await until('its durable to go', async () => /503|responders/i.test(await reads(renewed)));
    t.match(await renewed.ask(`reckon-consumers.${renewed.durable}.begin`), /withdrawn/);
    t.match(await renewed.ask(`RECKON.API.CONSUMER.INFO.RECKON.${renewed.durable}`), /consumer not found/);
  });
});
