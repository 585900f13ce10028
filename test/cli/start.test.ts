/** `npm start` as a newcomer meets it, and as an operator does: stopped, started again, killed, started twice. Whole instances on real servers. */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, jwtAuthenticator } from 'nats';
import t from 'tap';
import { isPortFree } from '../../cli/instance/addresses.ts';
import { loopback } from '../../cli/instance.ts';
import { runCommand } from '../../cli/set-up/command.ts';
import { Transport } from '../../sdk/http-transport.ts';
import { readKubeconfig } from '../../sdk/kubeconfig.ts';
import { docker } from '../harness/docker-cleaning.ts';
import { startReckon, type RunningReckon } from '../harness/start-reckon.ts';

/** Long where all cores are busy. */
t.setTimeout(600_000);

const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');

interface Body {
  readonly status: { readonly authenticated?: boolean; readonly token?: string };
}

/** Of an instance's containers: id and when it was started. */
async function containers(reckon: RunningReckon): Promise<readonly string[]> {
  const filters = encodeURIComponent(
    JSON.stringify({ label: [`reckon.dev/instance=${reckon.instance.settings.clusterId}`] }),
  );
  const list = (await docker(reckon.dockerHost, 'GET', `/containers/json?filters=${filters}`)) as { Id: string }[];
  const states = await Promise.all(
    list.map(
      ({ Id }) =>
        docker(reckon.dockerHost, 'GET', `/containers/${Id}/json`) as Promise<{
          Id: string;
          State: { StartedAt: string };
        }>,
    ),
  );
  return states.map(({ Id, State }) => `${Id} ${State.StartedAt}`).sort();
}

t.test('the example comes up, answers, and is found again by the next start', async (t) => {
  const reckon = await startReckon(t, { hello: true });
  const address = /The example answers at (\S+)/.exec(reckon.output())?.[1];
  t.ok(address, 'the address is shown');
  t.match(reckon.output(), /Hello from hello-/, 'with the answer');
  t.match(reckon.output(), /Try next[^]*export KUBECONFIG=.*\n(.*kubectl .*\n){3}/);
  t.match(await reckon.kubectl('get deployment hello'), /3\/3/);
  t.match(await reckon.kubectl('get persistentvolumeclaim hello -o jsonpath={.status.phase}'), /Bound/);
  const before = await containers(reckon);
  t.equal(before.length, 3, 'a pod of one container is one container');

  await reckon.stop();
  t.match(reckon.output(), /Reckon has stopped/);
  t.strictSame(await containers(reckon), before, 'containers run on');

  const startedMs = Date.now();
  await reckon.start();
  t.ok(Date.now() - startedMs < 60_000, `the second start took ${Date.now() - startedMs} ms`);
  t.match(reckon.output(), /Visit \d+ of those that the volume remembers/);
  t.match(await reckon.kubectl('get deployment hello'), /3\/3/);
  t.strictSame(await containers(reckon), before, 'none was restarted or replaced');
});

t.test('processes come back', async (t) => {
  const firstPort = await freePorts(4);
  const reckon = await startReckon(t, {
    runtime: 'simulated',
    controllers: ['projection', 'namespaces', 'pods'],
    environment: { RECKON_METRICS_ADDRESS: String(firstPort) },
  });
  const { home } = reckon;
  const { ports } = reckon.instance.settings;

  await t.test('each process of controllers serves its metrics, and one of a user no less', async (t) => {
    const module = path.join(main, '..', '..', 'examples', 'custom-controller', 'index.js');
    const own = `127.0.0.1:${firstPort + 3}`;
    const custom = spawn(process.execPath, [main, 'run', module, '--metrics', own], {
      env: { ...process.env, RECKON_HOME: home },
      stdio: 'ignore',
    });
    t.teardown(() => custom.kill('SIGKILL'));
    const file = path.join(home, 'run', 'metrics-targets.json');
    const targets = JSON.parse(readFileSync(file, 'utf8')) as { targets: [string]; labels: { process: string } }[];
    t.strictSame(
      targets.map(({ targets: [address], labels }) => `${labels.process} ${address}`),
      ['projection', 'pods', 'controllers'].map((name, index) => `${name} 127.0.0.1:${firstPort + index}`),
      'in the form of file_sd_configs',
    );
    const metricsOf = async (address: string, shows: RegExp): Promise<string> => {
      let text = '';
      await untilTrue(async () => {
        text = await fetch(`http://${address}/metrics`).then(
          (answer) => answer.text(),
          () => '',
        );
        return shows.test(text);
      }, 30_000);
      return text;
    };
    const [projection = '', pods = '', controllers = ''] = targets.map(({ targets: [address] }) => address);
    t.match(
      await metricsOf(projection, /^reckon_log_lag\{controller="projection",stream="log"\} 0$/m),
      /^reckon_log_position\{controller="projection",stream="log"\} [1-9]/m,
    );
    const reconciled = (name: string) => new RegExp(`^workqueue_adds_total\\{name="${name}"\\} [1-9]`, 'm');
    t.match(
      await metricsOf(controllers, reconciled('namespaces')),
      /^leader_election_master_status\{name="namespaces"\} 1$/m,
    );
    t.match(
      await metricsOf(pods, /^reckon_log_lag\{controller="pods",stream="log"\} 0$/m),
      /^workqueue_depth\{name="pods"\} 0$/m,
    );
    const names = (text: string) => [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
    const mine = await metricsOf(own, /^leader_election_master_status\{name="[^"]+"\} 1$/m);
    t.strictSame(names(mine), names(await metricsOf(controllers, /./)));
  });

  await t.test('the key of tokens is followed by another, without a restart', async (t) => {
    const tokenKey = async (action: string) => {
      const environment = { RECKON_HOME: home };
      return runCommand(process.execPath, [main, 'token-key', action], { environment, timeoutMs: 30_000 });
    };
    const api = new Transport({ access: readKubeconfig(reckon.kubeconfig), userAgent: 'test' });
    t.teardown(() => api.close());
    const post = async (path: string, body: object) => (await api.call({ method: 'POST', path, body })).body as Body;
    const published = async () => {
      const { body } = await api.call({ method: 'GET', path: '/openid/v1/jwks' });
      return (body as { keys: { kid: string }[] }).keys.map(({ kid }) => kid);
    };
    const isBelieved = async (token: string | undefined) => {
      const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token } };
      return (await post('/apis/authentication.k8s.io/v1/tokenreviews', review)).status.authenticated === true;
    };
    const accounts = '/api/v1/namespaces/default/serviceaccounts';
    const newToken = async () => (await post(`${accounts}/robot/token`, { spec: {} })).status.token;
    await post(accounts, { metadata: { name: 'robot' } });
    const token = await newToken();
    const [first] = await published();
    const pid = await reckon.pid('api-server');
    t.match(await tokenKey('rotate'), { code: 0, stdout: new RegExp(`signs\\n${first} +believed`) });
    await untilTrue(async () => (await published()).length === 2, 20_000);
    t.equal((await published())[1], first);
    t.ok(await isBelieved(token));
    const next = await newToken();
    t.match(await tokenKey('retire'), { code: 0 });
    await untilTrue(async () => (await published()).length === 1, 20_000);
    t.notOk(await isBelieved(token));
    t.ok(await isBelieved(next));
    t.equal(await reckon.pid('api-server'), pid);
  });

  await t.test('each that is killed is started again, and the API answers', async (t) => {
    for (const name of ['projection', 'controllers', 'api-server', 'postgres', 'nats']) {
      const pid = await reckon.kill(name, 'SIGKILL');
      await reckon.restarted(name, pid);
      t.not(await reckon.pid(name), pid, `${name} runs again, as another process`);
    }
    await t.resolves(
      untilTrue(async () => (await reckon.tryKubectl('create configmap after-the-kills')).code === 0, 30_000),
    );
    t.match(await reckon.kubectl('get configmap after-the-kills'), /after-the-kills/);
  });

  await t.test('a second start on the same home says that one runs', async (t) => {
    const { code, stderr } = await runCommand(process.execPath, [main, 'start', '--no-hello'], {
      environment: { RECKON_HOME: home },
      timeoutMs: 30_000,
    });
    t.equal(code, 1);
    t.match(stderr, /already runs from .*RECKON_HOME/s);
  });

  await t.test('a taken port is named, with the flag that moves it', async (t) => {
    const words = ['start', '--no-hello', '--runtime', 'simulated', '--nats-port', String(ports.nats)];
    const { code, stderr } = await runCommand(process.execPath, [main, ...words], {
      environment: { RECKON_HOME: t.testdir() },
      timeoutMs: 60_000,
    });
    t.equal(code, 1);
    t.match(stderr, new RegExp(`Port ${ports.nats} .*NATS.* is taken.*--nats-port`));
  });

  await t.test('killed with -9, the supervisor takes all with it, and the next start works', async (t) => {
    const records = JSON.parse(readFileSync(path.join(home, 'run', 'processes.json'), 'utf8')) as Record<
      string,
      { pid: number }
    >;
    const pids = Object.values(records).map(({ pid }) => pid);
    t.equal(pids.length, 7, 'supervisor, nats, postgres, API server, projection, agent, controllers');
    await reckon.kill('supervisor', 'SIGKILL');
    await t.resolves(
      untilTrue(async () => !pids.some(isAlive), 20_000),
      'no orphan is left',
    );
    await reckon.start();
    t.match(await reckon.kubectl('get configmap after-the-kills'), /after-the-kills/, 'with all that was acknowledged');
  });
});

t.test('two processes of the API server serve one address', async (t) => {
  const reckon = await startReckon(t, { runtime: 'simulated', controllers: [], apiProcesses: 2 });
  const serving = async (): Promise<readonly number[]> => {
    const first = await reckon.pid('api-server');
    const children = readFileSync(`/proc/${first}/task/${first}/children`, 'utf8');
    return children.split(' ').filter(Boolean).map(Number);
  };
  // Each kubectl makes a connection of its own, and connections are dealt out in turn.
  const write = (name: string) => reckon.kubectl(`create configmap ${name}`);
  const [first = 0, ...others] = await serving();
  t.equal(others.length, 1);

  for (const name of ['a', 'b', 'c', 'd']) {
    await write(name);
    t.match(await reckon.kubectl(`get configmap ${name}`), name, 'a write to one of them is read from the other');
  }
  const counted = async (): Promise<number> =>
    Number(/^apiserver_request_total\{verb="POST",.*resource="configmaps",.* (\d+)$/m.exec(await metrics())?.[1]);
  const metrics = () => reckon.kubectl('get --raw /metrics');
  t.equal(await counted(), 4, 'whoever is asked tells what both have done');
  t.match(await metrics(), /^apiserver_storage_objects\{resource="configmaps"\} [4-9]$/m, 'what both hold counts once');

  process.kill(first, 'SIGKILL');
  await t.resolves(
    untilTrue(async () => {
      const now = await serving();
      return now.length === 2 && !now.includes(first);
    }, 20_000),
    'one that is killed is started again',
  );
  for (const name of ['e', 'f']) await t.resolves(write(name));

  const pids = await serving();
  const killed = await reckon.kill('api-server', 'SIGKILL');
  await reckon.restarted('api-server', killed);
  await t.resolves(
    untilTrue(async () => !pids.some(isAlive), 20_000),
    'none outlives the one that deals out connections',
  );
  await t.resolves(untilTrue(async () => (await reckon.tryKubectl('get configmap f')).code === 0, 60_000));
});

t.test('in NATS, whoever only reads cannot write or see the keys of Secrets', async (t) => {
  const reckon = await startReckon(t, { runtime: 'simulated', controllers: [] });
  const { instance } = reckon;
  const url = `${loopback}:${instance.settings.ports.nats}`;
  const login = (who: 'reader' | 'apiServer') => {
    const { user, password } = instance.credentials.nats[who];
    return { servers: url, authenticator: jwtAuthenticator(user, Buffer.from(password)) };
  };
  const connection = await connect({ ...login('reader'), noAsyncTraces: true });
  t.teardown(() => connection.close());
  const ask = (subject: string, body = '') =>
    connection.request(subject, body, { timeout: 3000 }).then((message) => message.string());
  t.match(await ask('$JS.API.STREAM.INFO.RECKON'), /"last_seq"/, 'it may look');
  const forbidden = [
    'reckon.desired.core.configmaps.default.x',
    'reckon.keys.x',
    '$JS.API.STREAM.DELETE.RECKON',
    '$JS.API.STREAM.PURGE.RECKON',
    '$JS.API.STREAM.MSG.GET.RECKON_KEYS',
    '$JS.API.CONSUMER.CREATE.RECKON_KEYS',
  ];
  for (const subject of forbidden) await t.rejects(ask(subject), /permissions|Permissions/, subject);
  const overheard = async (): Promise<void> => {
    for await (const message of connection.subscribe('_INBOX.reckon-api-server.>')) t.fail(message.subject);
  };
  await t.rejects(overheard(), /permissions/i, "nor overhear the API server's answers");
  await t.rejects(connect({ servers: url }), /Authorization/i, 'nobody comes in without a login');
  const writer = await connect({ ...login('apiServer'), inboxPrefix: '_INBOX.reckon-api-server' });
  t.teardown(() => writer.close());
  t.match((await writer.request('$JS.API.STREAM.INFO.RECKON_KEYS', '', { timeout: 3000 })).string(), /"last_seq"/);

  await t.test('the program and the commands of docs/log-format.md do what it says', async (t) => {
    await reckon.kubectl('create deployment web --image=x');
    const page = readFileSync(path.join(main, '..', '..', '..', 'docs', 'log-format.md'), 'utf8');
    const [, program = '', commands = ''] = /```js\n([^]*?)```[^]*?```sh\n([^]*?)```/.exec(page) ?? [];
    const environment = {
      ...process.env,
      NODE: process.execPath,
      PROGRAM: program,
      NATS_URL: `nats://${url}`,
      NATS_CREDS: path.join(reckon.home, 'nats', 'reader.creds'),
    };
    /** What a command says, until it has said what is wanted: a snapshot goes on for ever. */
    const run = async (words: string, wanted: RegExp | undefined): Promise<string> => {
      const line = `exec "$NODE" --input-type=module -e "$PROGRAM" ${words}`;
      const child = spawn('sh', ['-c', line], { env: environment, stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 });
      let said = '';
      const hear = (chunk: Buffer): void => {
        said += chunk.toString();
        if (wanted?.test(said)) child.kill();
      };
      child.stdout.on('data', hear);
      child.stderr.on('data', hear);
      await once(child, 'close');
      return said;
    };
    const expected: Readonly<Record<string, RegExp>> = {
      info: /"last_seq":\d+/,
      'get 42': /^42 create system:apiserver reckon\.desired\.\S+ \{"apiVersion"/,
      "newest 'reckon.*.apps.deployments.default.web'":
        /^\d+ create admin reckon\.desired\.apps\.deployments\.default\.web \{/,
      'newest reckon.floor': /no message found/,
      "snapshot 'reckon.*.apps.deployments.>'": /^\d+ create admin reckon\.desired\.apps\.deployments\.default\.web \{/,
      'from 42': /^42 create [^]*deployments\.default\.web/,
      "from 1 'reckon.*.*.*.default.>'": /create admin \S+deployments\.default\.web/,
    };
    const written = [...commands.matchAll(/^node (log\.mjs (.*?)) +#/gm)];
    t.same(
      written.map(([, , words]) => words),
      Object.keys(expected),
      'every command of the page is known here',
    );
    // One by one: so many that begin at once keep each other waiting for longer than a NATS client does.
    for (const [, words = '', what = ''] of written) t.match(await run(words, expected[what]), expected[what], words);
  });
});

/** The first of so many that follow each other, all free. */
async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = randomInt(20_000, 30_000);
    const free = await Promise.all(Array.from({ length: count }, (_, index) => isPortFree(first + index, loopback)));
    if (free.every(Boolean)) return first;
  }
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function untilTrue(condition: () => Promise<boolean>, timeoutMs: number): Promise<void> {
  const untilMs = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > untilMs) throw new Error(`not so after ${timeoutMs} ms`);
    await sleep(200);
  }
}
