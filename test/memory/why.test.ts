/**
 * A whole instance, and a user at the terminal: which of her writes made this pod, what became of it, and how it looked before. Every command of docs/memory.md is run here, and must print what the page
 * says it prints.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, jwtAuthenticator, type NatsConnection } from 'nats';
import t from 'tap';
import type { Login } from '../../cli/instance.ts';
import { runCommand, type CommandResult } from '../../cli/set-up/command.ts';
import { momentWord } from '../../cli/verbs/words.ts';
import type { Json } from '../api-server/api.ts';
import { serverAddresses } from '../harness/servers.ts';
import { startReckon, type RunningReckon } from '../harness/start-reckon.ts';
import { askWhy } from './ask-why.ts';
import { FAULTS } from './scripted-faults.ts';

t.setTimeout(600_000);

const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');
const root = process.env['RECKON_ROOT'] ?? process.cwd();

const web = (image: string, environment: object[] = []): Json => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace: 'shop' },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: { containers: [{ name: 'main', image, ...(environment.length > 0 && { env: environment }) }] },
    },
  },
});

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const endMs = Date.now() + 40_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > endMs) throw new Error(`waited in vain for ${what}`);
    await sleep(200);
  }
}

/** The one running pod of the newest template. */
const podOf = (reckon: RunningReckon, image: string): Promise<Json> =>
  until(`a pod of ${image}`, async () => {
    const { items } = JSON.parse(await reckon.kubectl('get pods -n shop -o json'));
    return items.find((pod: Json) => pod.spec.containers[0].image === image && pod.status.phase === 'Running');
  });

/** What differs from run to run becomes the same: revisions, times, generated names, the width of columns. */
const plain = (line: string): string =>
  line
    .replace(/\b\d\d:\d\d:\d\d\b/g, 'TIME')
    .replace(/web-[a-z0-9]{8,10}-[a-z0-9]{5}/g, 'POD')
    .replace(/web-[a-z0-9]{8,10}/g, 'REPLICASET')
    .replace(/sha256:[0-9a-f]{64}/, 'DIGEST')
    .replace(/([Rr]evision) \d+/g, '$1 N')
    .replace(/ answers [\d, ]+/, '')
    .replace(/ on \S+$/, ' on NODE')
    .replace(/^(\d+) /, 'N ')
    .replace(/^([a-z-]+) +\d+ +\d+ .*/, '$1')
    .replace(/\d+m?s$/, 'AGE')
    .replace(/\s+/g, ' ')
    .trim();

/** The commands of a page, each with the lines that it must print. */
function examplesOf(page: string): { command: string; lines: string[] }[] {
  const examples: { command: string; lines: string[] }[] = [];
  for (const [, block = ''] of page.matchAll(/```console\n([^]*?)```/g)) {
    for (const line of block.split('\n').filter(Boolean)) {
      if (line.startsWith('$ ')) examples.push({ command: line.slice(2), lines: [] });
      else examples.at(-1)?.lines.push(line);
    }
  }
  return examples;
}

t.test('a user asks at the terminal', async (t) => {
  const reckon = await startReckon(t, { runtime: 'simulated' });
  const environment = { KUBECONFIG: reckon.kubeconfig };
  const say = (...words: string[]): Promise<CommandResult> =>
    runCommand(process.execPath, [main, ...words], { timeoutMs: 30_000, environment });
  const json = async (...words: string[]): Promise<Json> => {
    const { code, stdout, stderr } = await say(...words, '-n', 'shop', '-o', 'json');
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  };

  await reckon.kubectl('create namespace shop');
  await reckon.kubectl('apply -f -', { input: web('shop:1') });
  const first = await podOf(reckon, 'shop:1');
  // A container that ends by itself, as long as it runs in the simulated engine.
  const failing = [{ name: 'RECKON_SIMULATED_EXIT', value: '137:200' }];
  await reckon.kubectl('apply -f -', { input: web('shop:2', failing) });
  const second = await podOf(reckon, 'shop:2');
  const names = { first: first.metadata.name as string, second: second.metadata.name as string };
  await until('the first pod to be gone', async () =>
    (await reckon.tryKubectl(`get pod ${names.first} -n shop`)).code === 0 ? undefined : true,
  );
  const { items } = await json('history', 'deploy/web');
  const byHer = items.filter(({ actor }: Json) => actor === 'admin');
  const revisions = { created: byHer.at(-1).revision as number, changed: byHer[0].revision as number };

  await t.test('the first cause of a pod is what she applied', async (t) => {
    const why = await until('its end to be recorded', async () => {
      const answer = await json('why', `pod/${names.second}`);
      return answer.happened.some(({ kind }: Json) => kind === 'exited') ? answer : undefined;
    });
    t.strictSame(
      why.chain.map(({ actor, verb, object }: Json) => `${actor} ${verb} ${object.kind}`),
      [
        'system:controller:replicasets create Pod',
        'system:controller:deployments create ReplicaSet',
        'admin patch Deployment',
      ],
    );
    const cause = why.chain.at(-1);
    t.equal(cause.revision, revisions.changed);
    t.match(cause.changes[0], {
      path: 'spec.template.spec.containers["main"].image',
      from: 'shop:1',
      to: 'shop:2',
    });
    t.match(
      why.happened.find(({ kind }: Json) => kind === 'exited'),
      { containerName: 'main', exitCode: 137 },
    );
    t.equal(why.alive, true);
  });

  await t.test('a deleted pod: where it came from, and who ended it', async (t) => {
    const why = await json('why', `pod/${names.first}`);
    t.equal(why.alive, false);
    t.equal(why.chain.at(-1).revision, revisions.created);
    t.equal(why.end[0].object.name, names.first);
    t.equal(why.end.at(-1).revision, revisions.changed, 'her second apply');
    t.ok(why.end.every(({ revision }: Json, index: number) => index === 0 || revision < why.end[index - 1].revision));
  });

  await t.test('a pod that no node can hold, and one that crashes again and again', async (t) => {
    const containers = [{ name: 'main', image: 'shop:1', resources: { requests: { memory: '9000Gi' } } }];
    await reckon.kubectl('apply -n shop -f -', {
      input: { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'big' }, spec: { containers } },
    });
    const told = await until('the scheduler to say why not', async () => {
      const { stdout } = await say('why', 'pod/big', '-n', 'shop');
      return /waits for/.test(stdout) ? stdout : undefined;
    });
    t.match(told, /Pod big is Pending/);
    t.match(told, /admin: create Pod big/);
    t.match(told, /not PodScheduled: Unschedulable: 0\/1 nodes are available: 1 Insufficient memory/);
    const crashing = await until('the restarts to be put off', async () => {
      const { stdout } = await say('why', `pod/${names.second}`, '-n', 'shop');
      return /CrashLoopBackOff/.test(stdout) ? stdout : undefined;
    });
    t.match(crashing, /What it waits for[^]*main: CrashLoopBackOff/);
  });

  await t.test('every follower of the log, and waiting for those who act on a write', async (t) => {
    const { followers, revision } = await json('status');
    const leading = followers.filter((follower: Json) => follower.role === 'leads').map(({ name }: Json) => name);
    for (const name of ['deployments', 'replicasets', 'scheduler', 'endpointslices', 'garbagecollector', 'namespaces'])
      t.ok(leading.includes(name), name);
    for (const name of ['api-server', 'pods', 'projection'])
      t.ok(
        followers.some((follower: Json) => follower.name === name && follower.done > revisions.created),
        name,
      );
    t.ok(followers.every(({ seen, done, lag }: Json) => done <= seen && seen <= revision + 50 && lag >= 0));
    const scaled = await reckon.kubectl(`get deploy web -n shop -o jsonpath={.metadata.resourceVersion}`);
    const seen = await say('wait', '--revision', scaled, '--seen-by', 'deployments,projection');
    t.match(
      [seen.code, seen.stdout],
      [0, new RegExp(`Revision ${scaled} has been dealt with by deployments, projection`)],
    );
    t.equal((await say('wait', '--revision', scaled)).code, 0, 'by everybody');
    const never = await say('wait', '--revision', '99999999', '--seen-by', 'deployments,cooks', '--timeout', '300ms');
    t.equal(never.code, 1);
    t.match(never.stderr, /deployments is at \d+, nobody follows as cooks; the newest revision is \d+/);
    t.equal((await say('wait')).code, 2);
  });

  await t.test('no follower says anything unasked, and only the API server may ask', async (t) => {
    const { apiServer, reader } = reckon.instance.credentials.nats;
    const as = async ({ user, password }: Login, name: string): Promise<NatsConnection> => {
      const connection = await connect({
        servers: `127.0.0.1:${reckon.instance.settings.ports.nats}`,
        authenticator: jwtAuthenticator(user, Buffer.from(password)),
        inboxPrefix: `_INBOX.${name}`,
        noAsyncTraces: true,
      });
      t.teardown(() => connection.close());
      return connection;
    };
    const [question, answers] = ['reckon-followers.question', 'reckon-followers.answer.*'];
    const server = await as(apiServer, 'reckon-api-server');
    let heard = 0;
    for (const subject of [question, answers])
      server.subscribe(subject, { callback: (error) => void (error ? t.fail(error.message) : heard++) });
    await server.flush();
    await sleep(500);
    t.equal(heard, 0);
    await json('status');
    t.ok(heard > 4, `a question, and an answer of every process: ${heard}`);
    const other = await as(reader, 'reckon-reader');
    await t.rejects(other.request(question, '', { timeout: 3_000 }), /permissions/i);
    const overheard = async (): Promise<void> => {
      for await (const message of other.subscribe(answers)) t.fail(message.subject);
    };
    await t.rejects(overheard(), /permissions/i);
  });

  await t.test('what goes wrong is explained, after its Events are gone', async (t) => {
    const shown = [
      ...['a pod that a user deleted', 'fewer replicas', 'an owner that was deleted', 'a namespace that was deleted'],
      ...['a quota that is used up', 'a ConfigMap that is missing'],
    ];
    const faults = FAULTS.filter(({ what }) => shown.includes(what));
    t.equal(faults.length, shown.length);
    const complaints = await Promise.all(faults.map((fault) => askWhy(reckon, fault)));
    faults.forEach(({ what }, index) => t.strictSame(complaints[index], [], what));
  });

  await t.test('every example of the page', async (t) => {
    const page = (await readFile(path.join(root, 'docs', 'memory.md'), 'utf8'))
      .replaceAll('web-fp5xhh2gj5-hbpl7', names.first)
      .replaceAll('web-mbkq46tgvb-5jgkc', names.second);
    const examples = examplesOf(page);
    t.ok(examples.length >= 8);
    const { kubectl } = await serverAddresses();
    const functions = `reckon() { '${process.execPath}' '${main}' "$@"; }; kubectl() { '${kubectl}' "$@"; }; `;
    for (const { command, lines } of examples) {
      const here = command.replace(/\b81\b/g, String(revisions.created)).replace(/\b108\b/g, String(revisions.changed));
      const { stdout, stderr } = await runCommand('sh', ['-c', functions + here], { timeoutMs: 30_000, environment });
      const printed = stdout.split('\n').map(plain);
      let from = 0;
      for (const line of lines) {
        const found = printed.indexOf(plain(line), from);
        t.ok(found >= 0, `${command}: ${line}`, { printed: stdout, stderr, looked: plain(line) });
        from = Math.max(from, found + 1);
      }
    }
  });

  await t.test('flags, faults and exit codes', async (t) => {
    t.match((await say('get', 'po', '-A', '-o', 'name')).stdout, new RegExp(`^pods/${names.second}$`, 'm'));
    t.match((await say('get', 'namespaces', 'shop', '-o', 'yaml')).stdout, /^kind: Namespace$/m);
    t.match((await say('why', '--help')).stdout, /Examples/);
    const unknown = await say('get', 'sandwiches');
    t.equal(unknown.code, 2);
    t.match(unknown.stderr, /no kind of objects called 'sandwiches'/);
    const nobody = await say('why', 'pod/nobody', '-n', 'shop');
    t.equal(nobody.code, 1);
    t.match(nobody.stderr, /NotFound.*pods "nobody" not found/);
    const future = await say('get', 'pods', '--at', '99999999');
    t.equal(future.code, 1);
    t.match(future.stderr, /the newest revision is \d+/);
    const noContext = await say('get', 'pods', '--context', 'elsewhere');
    t.equal(noContext.code, 1);
    t.match(noContext.stderr, /no 'elsewhere' among its contexts/);
    t.notMatch((await say('history', 'deploy/web', '-n', 'shop')).stdout, /\u001b/, 'no colour where nobody sees it');
  });
});

t.test("a time of day is the one by the user's clock", async (t) => {
  const now = new Date(2026, 2, 2, 9, 0, 0);
  t.equal(momentWord('08:30', now), new Date(2026, 2, 2, 8, 30).toISOString());
  t.equal(momentWord('10:42:07', now), new Date(2026, 2, 1, 10, 42, 7).toISOString(), "yesterday's");
  t.equal(momentWord('2h', now), '2h');
});
