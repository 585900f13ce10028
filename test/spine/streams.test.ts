/** What passes between a client and a running pod: ports, commands, terminals, files, the proxy; and pods that are asked to go. With the real kubectl, on one instance. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';
import { PassThrough, Readable, type Writable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { Attach, Cp, Exec, KubeConfig, Log, PortForward, type V1Status } from '@kubernetes/client-node';
import t from 'tap';
import { WebSocket, WebSocketServer } from 'ws';
import { readKubeconfig } from '../../sdk/index.ts';
import { serverAddresses, type Teardown } from '../harness/servers.ts';
import { deployment, idle, pod, service } from './manifests.ts';
import { IMAGE, startStage, until, type Json, type Space } from './stage.ts';

type Environment = Readonly<Record<string, string>>;

/** A kubectl that goes on beside the test; killed at its end. */
async function begin(t: Teardown, space: Space, words: readonly string[], environment: Environment = {}) {
  const { kubectl } = await serverAddresses();
  const { kubeconfig } = space.stage.reckon;
  const child = spawn(kubectl, ['--kubeconfig', kubeconfig, '--namespace', space.namespace, ...words], {
    env: { ...process.env, ...environment },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)));
  child.stdin.on('error', () => undefined);
  const exited = once(child, 'close').then(([code]) => code as number | null);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  return {
    child,
    exited,
    output: () => output,
    says: (wanted: RegExp) =>
      until(`${words.join(' ')} to say ${wanted}`, () => wanted.exec(output) ?? undefined, { seen: () => output }),
  };
}

/** Local ports by the pod's, once kubectl listens on them. */
async function forward(
  t: Teardown,
  space: Space,
  { target, ports, environment }: { target: string; ports: readonly number[]; environment?: Environment },
) {
  const words = ['port-forward', target, ...ports.map((port) => `:${port}`)];
  const running = await begin(t, space, words, environment);
  const local = new Map<number, number>();
  for (const [, from, to] of await Promise.all(
    ports.map((port) => running.says(new RegExp(`127.0.0.1:(\\d+) -> (${port === 80 ? 8080 : port})\\n`))),
  ))
    local.set(Number(to), Number(from));
  return { ...running, to: (port: number) => local.get(port) ?? 0 };
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function http(port: number): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.end('GET / HTTP/1.0\r\n\r\n');
  return String(await readAll(socket));
}

/** Through the CGI program below; resolves to the digest of what comes back. */
async function echoed(url: string, bytes: Buffer): Promise<string> {
  const answer = await fetch(`${url}/cgi-bin/echo`, { method: 'POST', body: bytes });
  return digest(Buffer.from(await answer.arrayBuffer()));
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** A WebSocket of ours to a pod's subresource, with what came on each of its channels. */
function channels(t: Teardown, space: Space, options: { pod: string; path: string; protocol: string; token?: string }) {
  const { server, ca, cert, key } = readKubeconfig(space.stage.reckon.kubeconfig) as Json;
  const url = `${String(server).replace('https', 'wss')}/api/v1/namespaces/${space.namespace}/pods/${options.pod}/${options.path}`;
  const webSocket = new WebSocket(url, options.protocol, { ca, cert, key });
  t.teardown(() => webSocket.terminate());
  const heard = new Map<number, Buffer>();
  webSocket.on('message', (message: Buffer) => {
    const channel = message[0] ?? 0;
    heard.set(channel, Buffer.concat([heard.get(channel) ?? Buffer.alloc(0), message.subarray(1)]));
  });
  const closed = once(webSocket, 'close');
  return {
    opened: once(webSocket, 'open'),
    closed,
    say: (channel: number, text: string | Buffer) =>
      webSocket.send(Buffer.concat([Buffer.from([channel]), Buffer.from(text)])),
    heard: (channel: number) => heard.get(channel) ?? Buffer.alloc(0),
  };
}

/** A stream for @kubernetes/client-node to write to, with what it has written so far. */
function hearing(): PassThrough & { heard(): string } {
  const chunks: Buffer[] = [];
  const stream = new PassThrough().on('data', (chunk: Buffer) => chunks.push(chunk));
  return Object.assign(stream, { heard: () => String(Buffer.concat(chunks)) });
}

/** The client's own, but for one thing: what it asks `tar` for is compressed, and it forgets to undo that. */
class UnzippingExec extends Exec {
  override exec(...[namespace, pod, container, command, stdout, ...rest]: Parameters<Exec['exec']>) {
    const plain = createGunzip();
    plain.pipe(stdout as Writable);
    return super.exec(namespace, pod, container, command, plain, ...rest);
  }
}

const WITH_SPDY = { KUBECTL_PORT_FORWARD_WEBSOCKETS: 'false', KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'false' };

const SERVERS = [
  'mkdir -p /tmp/www/cgi-bin /tmp/inner; echo outer > /tmp/www/index.html; echo inner > /tmp/inner/index.html',
  `printf '#!/bin/sh\\nprintf "Content-Type: a/b\\\\r\\\\n\\\\r\\\\n"; cat' > /tmp/www/cgi-bin/echo; chmod +x /tmp/www/cgi-bin/echo`,
  'httpd -p 127.0.0.1:8081 -h /tmp/inner; httpd -p 8080 -h /tmp/www',
  idle,
].join('\n');

const ready = { readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 } };

t.test('streams', async (t) => {
  const stage = await startStage(t);
  const space = await stage.space('streams');
  const { reckon } = stage;
  await space.apply(
    pod('web', { script: SERVERS, container: { ...ready, ports: [{ containerPort: 8080 }] } }),
    deployment('many', { replicas: 2, script: SERVERS, container: ready }),
    service('many'),
  );
  await Promise.all([space.untilReady('web'), space.untilRolledOut('many')]);
  const podUrl = `/api/v1/namespaces/${space.namespace}/pods/web:8080/proxy`;

  t.test('port-forward: several ports, loopback too, many connections at once, large ones', async (t) => {
    const ports = await forward(t, space, { target: 'pod/web', ports: [8080, 8081] });
    t.match(await http(ports.to(8080)), /outer/);
    t.match(await http(ports.to(8081)), /inner/, 'what listens on loopback alone is reached');
    const answers = await Promise.all(Array.from({ length: 20 }, () => http(ports.to(8080))));
    t.ok(answers.every((answer) => answer.includes('outer')));
    const bytes = randomBytes(100 << 20);
    const url = `http://127.0.0.1:${ports.to(8080)}`;
    t.equal(await echoed(url, bytes), digest(bytes), '100 MB go through and come back');
    const idling = connect({ port: ports.to(8080), host: '127.0.0.1' }).on('error', () => undefined);
    await once(idling, 'connect');
    ports.child.kill('SIGKILL');
    await ports.exited;
    const held = async () => /127.0.0.1:8080 .*ESTABLISHED/.test(await space.exec('web', 'netstat -tn'));
    await until('the pod to hear that the client is gone', async () => !(await held()));
  });

  t.test('port-forward: by Deployment and by Service, and over SPDY alone', async (t) => {
    const spdy = { environment: WITH_SPDY };
    const [byDeployment, byService, bySpdy] = await Promise.all([
      forward(t, space, { target: 'deploy/many', ports: [8080] }),
      forward(t, space, { target: 'svc/many', ports: [80] }),
      forward(t, space, { target: 'pod/web', ports: [8081], ...spdy }),
    ]);
    for (const ports of [byDeployment, byService]) t.match(await http(ports.to(8080)), /outer/);
    t.match(await http(bySpdy.to(8081)), /inner/);
    const refused = await forward(t, space, { target: 'pod/web', ports: [7777], ...spdy });
    await http(refused.to(7777)).catch(() => undefined);
    await refused.says(
      /error forwarding port 7777 to pod .* failed to connect to localhost:7777 inside namespace .*dial tcp4 127.0.0.1:7777: connect: connection refused/,
    );
  });

  t.test('port-forward: the channels of a WebSocket', async (t) => {
    const both = channels(t, space, {
      pod: 'web',
      path: 'portforward?ports=8081&ports=7777',
      protocol: 'v4.channel.k8s.io',
    });
    await both.opened;
    both.say(0, 'GET / HTTP/1.0\r\n\r\n');
    await both.closed;
    t.equal(both.heard(0).readUInt16LE(0), 8081);
    t.match(String(both.heard(0).subarray(2)), /inner/);
    t.equal(both.heard(1).length, 2);
    t.match(String(both.heard(3).subarray(2)), /connection refused/);
  });

  t.test('exec: exit codes, input and its end, over WebSockets and over SPDY', async (t) => {
    for (const environment of [{}, WITH_SPDY]) {
      const failing = await begin(
        t,
        space,
        ['exec', 'web', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7'],
        environment,
      );
      t.equal(await failing.exited, 7);
      t.match(failing.output(), /out/);
      t.match(failing.output(), /err/);
      const counting = await begin(t, space, ['exec', '-i', 'web', '--', 'wc', '-c'], environment);
      counting.child.stdin.end(Buffer.alloc(5 << 20));
      t.equal(await counting.exited, 0);
      t.match(counting.output(), new RegExp(`^${5 << 20}\\n`), 'a command hears the end of its input');
    }
  });

  t.test('exec: a terminal of some size', async (t) => {
    const query =
      'command=sh&command=-c&command=while read x %26%26 [ -z $x ]; do stty size; done&stdin=true&stdout=true&tty=true';
    const terminal = channels(t, space, { pod: 'web', path: `exec?${query}`, protocol: 'v5.channel.k8s.io' });
    await terminal.opened;
    terminal.say(4, '{"Width":71,"Hei');
    terminal.say(4, 'ght":29}');
    terminal.say(4, '{"Width":-1,"Height":"x"}');
    await until(
      'the terminal to have the size',
      async () => {
        terminal.say(0, '\n');
        return /29 71/.test(String(terminal.heard(1)));
      },
      { seen: () => [1, 2, 3].map((channel) => String(terminal.heard(channel)).slice(-200)) },
    );
    terminal.say(0, 'enough\n');
    await terminal.closed;
    t.match(JSON.parse(String(terminal.heard(3))), { status: 'Success' });
  });

  t.test('cp: files and folders, both ways', async (t) => {
    const here = path.join(reckon.home, 'files');
    await mkdir(path.join(here, 'sub'), { recursive: true });
    const bytes = randomBytes(50 << 20);
    await writeFile(path.join(here, 'sub', 'large'), bytes);
    await writeFile(path.join(here, 'small'), 'small\n');
    await space.kubectl(['cp', here, 'web:/tmp/files']);
    t.match(await space.exec('web', 'cat /tmp/files/small; sha256sum /tmp/files/sub/large'), new RegExp(digest(bytes)));
    await space.kubectl(['cp', 'web:/tmp/files', path.join(reckon.home, 'back')]);
    t.equal(digest(await readFile(path.join(reckon.home, 'back', 'sub', 'large'))), digest(bytes));
  });

  t.test('attach: what is said to a container, and what it says', async (t) => {
    const words = `run asks --image=${IMAGE} --image-pull-policy=IfNotPresent -i --restart=Never -q -- sh -c`.split(
      ' ',
    );
    const asking = await begin(t, space, [...words, 'read word; echo "it was $word"; exit 3']);
    asking.child.stdin.end('blue\n');
    t.equal(await asking.exited, 3);
    t.match(asking.output(), /it was blue/);
    const listening = await begin(t, space, ['attach', 'speaks']);
    t.equal(await listening.exited, 1);
    t.match(listening.output(), /pods "speaks" not found/);
  });

  t.test('logs of all containers of all pods that a selector names, as they come', async (t) => {
    const talk = `while :; do echo "I am $(hostname)"; sleep 1; done`;
    await space.apply(
      ...['one', 'two'].map((name) =>
        pod(name, {
          labels: { app: 'talks' },
          script: talk,
          spec: { containers: [{ name: 'side', image: IMAGE, command: ['sh', '-c', talk] }] },
        }),
      ),
    );
    await Promise.all(['one', 'two'].map((name) => space.untilReady(name)));
    const following = await begin(t, space, 'logs -f --prefix --all-containers -l app=talks'.split(' '));
    for (const name of ['one', 'two'])
      for (const container of ['main', 'side'])
        await following.says(new RegExp(`\\[pod/${name}/${container}\\] I am ${name}`));
    await space.kubectl('delete pod one two --now --wait=false');
  });

  t.test('@kubernetes/client-node: commands, terminals, logs, ports, files', async (t) => {
    const config = new KubeConfig();
    config.loadFromFile(reckon.kubeconfig);
    const { namespace } = space;
    const run = async (script: string, options: { stdin?: Readable; tty?: boolean; out?: PassThrough } = {}) => {
      const [out, errors] = [hearing(), hearing()];
      const { stdin = null, tty = false } = options;
      const status = await new Promise<V1Status>((resolve, reject) => {
        new Exec(config)
          .exec(namespace, 'web', 'main', ['sh', '-c', script], options.out ?? out, errors, stdin, tty, resolve)
          .catch(reject);
      });
      return { status, out: out.heard(), errors: errors.heard() };
    };

    t.match(await run('echo out; echo err >&2; exit 7'), {
      status: { status: 'Failure', reason: 'NonZeroExitCode', details: { causes: [{ message: '7' }] } },
      out: 'out\n',
      errors: 'err\n',
    });
    const bytes = randomBytes(3 << 20);
    const summed = await run('sha256sum', {
      stdin: Readable.from([bytes.subarray(0, 1 << 20), bytes.subarray(1 << 20)]),
    });
    t.match(summed, { status: { status: 'Success' }, out: digest(bytes) }, 'a command hears the end of its input');
    const screen = Object.assign(hearing(), { rows: 31, columns: 77 });
    const keys = new PassThrough();
    // The size is said once the command has begun, and may come while it runs.
    const typing = run('while read x; do stty size; done', { stdin: keys, tty: true, out: screen });
    await until('the terminal to have the size', () => {
      keys.write('\n');
      return /31 77/.test(screen.heard()) || undefined;
    });
    keys.write('\x04');
    t.match(await typing, { status: { status: 'Success' } });
    await t.rejects(new Exec(config).exec(namespace, 'web', 'nobody', 'true', null, null, null, false), {
      message: /400|Unexpected server response/,
    });

    const script = 'echo first; while read word; do echo "it was $word"; done; sleep 1000';
    await space.apply(pod('listens', { script, container: { stdin: true } }));
    await space.untilReady('listens');
    const [said, ask] = [hearing(), new PassThrough()];
    const attached = await new Attach(config).attach(namespace, 'listens', 'main', said, null, ask, false);
    ask.write('blue\n');
    await until('the container to answer', () => /it was blue/.test(said.heard()) || undefined);
    attached.close();
    const log = new Log(config);
    const [following, last] = [hearing(), hearing()];
    const follow = await log.log(namespace, 'listens', 'main', following, { follow: true, timestamps: true });
    await log.log(namespace, 'listens', 'main', last, { tailLines: 1 });
    await until('the logs', () => /Z first\n.*Z it was blue/.test(following.heard()) || undefined);
    await once(last, 'end');
    t.equal(last.heard(), 'it was blue\n');
    following.on('error', () => undefined);
    follow.abort();
    await t.rejects(log.log(namespace, 'nobody', 'main', hearing()), { code: 404 });

    const forward = new PortForward(config);
    const [answer, fault] = [hearing(), hearing()];
    await forward.portForward(namespace, 'web', [8081], answer, null, Readable.from(['GET / HTTP/1.0\r\n\r\n']));
    await until('the port to answer', () => /inner/.test(answer.heard()) || undefined);
    await forward.portForward(namespace, 'web', [7777], hearing(), fault, new PassThrough());
    await until('the fault', () => /connection refused/.test(fault.heard()) || undefined);

    const here = path.join(reckon.home, 'copied');
    await mkdir(path.join(here, 'sub'), { recursive: true });
    await writeFile(path.join(here, 'sub', 'large'), bytes);
    await run('mkdir /tmp/copied');
    await new Cp(config).cpToPod(namespace, 'web', 'main', here, '/tmp/copied');
    const arrived = async () => (await run('sha256sum /tmp/copied/sub/large')).out.startsWith(digest(bytes));
    await until('the files to be in the pod', arrived);
    const back = path.join(reckon.home, 'copied-back');
    await new Cp(config, new UnzippingExec(config)).cpFromPod(namespace, 'web', 'main', 'copied', back, '/tmp');
    const returned = () => readFile(path.join(back, 'copied', 'sub', 'large')).catch(() => Buffer.alloc(0));
    await until('the files to be back', async () => digest(await returned()) === digest(bytes));
    await space.kubectl('delete pod listens --now --wait=false');
  });

  t.test('debug: a container added to a pod, a copy of a pod, a node', async (t) => {
    const words = `debug web --image=${IMAGE} --profile=general -c looks --target=main -i -- sh`.split(' ');
    const looking = await begin(t, space, words);
    looking.child.stdin.end('ps; wget -qO- http://127.0.0.1:8081/; hostname; exit 4\n');
    await looking.exited;
    t.match(looking.output(), /httpd -p 8080[^]*inner[^]*web/, 'it sees the processes and the network of the pod');
    const web = await space.until(
      'pods',
      'web',
      ({ status }) => status.ephemeralContainerStatuses?.[0]?.state.terminated !== undefined,
    );
    t.match(web.status.ephemeralContainerStatuses, [
      { name: 'looks', ready: false, restartCount: 0, state: { terminated: { exitCode: 4 } } },
    ]);
    t.match(web.status.phase, 'Running');
    t.match(await space.kubectl('logs web -c looks'), /inner/);
    await space.kubectl(`debug web --image=${IMAGE} --profile=general -c stays -- sleep 1000`);
    await space.until(
      'pods',
      'web',
      ({ status }) => status.ephemeralContainerStatuses?.[1]?.state.running !== undefined,
    );
    t.match(
      await space.kubectl(['exec', 'web', '-c', 'stays', '--', 'wget', '-qO-', 'http://127.0.0.1:8081/']),
      /inner/,
    );
    await space.kubectl(`debug web --copy-to=copy --container=main --image=${IMAGE} --profile=general -- sleep 1000`);
    await space.until('pods', 'copy', ({ status }) => status.phase === 'Running');
    const { metadata } = (await space.list('pods', 'app=many'))[0];
    t.ok(metadata.name, 'the others are as they were');
    const node = web.spec.nodeName as string;
    t.match(
      await space.kubectl(`debug node/${node} --image=${IMAGE} --profile=general -- ls /host/etc/hostname`),
      /node-debugger/,
    );
    const onNode = await until('the pod on the node', async () =>
      (await space.list('pods')).find(
        ({ metadata: { name }, status }) => name.startsWith('node-debugger') && status.phase === 'Succeeded',
      ),
    );
    t.match(await space.kubectl(`logs ${onNode.metadata.name}`), /\/host\/etc\/hostname/);
    await space.kubectl('delete pod copy --now --wait=false');
  });

  t.test('proxy: pods, Services, nodes', async (t) => {
    const services = `/api/v1/namespaces/${space.namespace}/services`;
    for (const target of [
      podUrl,
      podUrl.replace(':8080', ''),
      `${services}/many:http/proxy`,
      `${services}/http:many:80/proxy`,
    ])
      t.match(await space.kubectl(`get --raw ${target}/`), /outer/, target);
    const [{ metadata }] = await stage.client
      .list({ group: '', version: 'v1', resource: 'nodes' })
      .then(({ items }) => items as [Json]);
    t.equal(await space.kubectl(`get --raw /api/v1/nodes/${metadata.name}/proxy/healthz`), 'ok');
    for (const [target, says] of [
      [podUrl.replace('8080', '7777'), /error trying to reach service: dial tcp .*:7777: connect: connection refused/],
      [`${services}/many:99/proxy`, /no service port 99 found for service "many"/],
      [`${services}/many/proxy`, /no endpoints available for service "many"/],
      [podUrl.replace('web', 'x:y:web'), /invalid pod request/],
    ] as const)
      t.match((await space.tryKubectl(`get --raw ${target}/`)).stderr, says);
    const proxying = await begin(t, space, ['proxy', '--port=0']);
    const [, port = ''] = await proxying.says(/127.0.0.1:(\d+)/);
    const base = `http://127.0.0.1:${port}`;
    const bytes = randomBytes(20 << 20);
    t.equal(await echoed(`${base}${podUrl}`, bytes), digest(bytes));
    const bare = await fetch(`${base}${podUrl}?a=b`, { redirect: 'manual' });
    t.equal(bare.status, 301);
    t.match(bare.headers.get('location'), `${podUrl}/?a=b`);
  });

  t.test('proxy: what passes, and what does not', async (t) => {
    // A Service may have addresses that are no pod's: here a server of the test's own, on the gateway of the pods.
    const server = createServer((request, response) => {
      const redirect = { location: '/next', 'access-control-allow-origin': '*', connection: 'x-hop', 'x-hop': '1' };
      response.writeHead(302, redirect).end(JSON.stringify([request.url, request.headers]));
    });
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket, request) => {
      socket.send(JSON.stringify([request.url, request.headers]));
      socket.on('message', (message) => socket.send(message));
    });
    await new Promise<void>((resolve) => server.listen(0, resolve));
    t.teardown(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    const ip = reckon.instance.settings.podCidr.replace(/\d+\/\d+$/, '1');
    await space.apply(service('own', { selector: undefined, ports: [{ port: 80 }] }), {
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { name: 'own' },
      subsets: [{ addresses: [{ ip }], ports: [{ port }] }],
    });
    const proxying = await begin(t, space, ['proxy', '--port=0']);
    const base = `127.0.0.1:${(await proxying.says(/127.0.0.1:(\d+)/))[1]}`;
    const own = `/api/v1/namespaces/${space.namespace}/services/own:80/proxy`;
    const secrets = {
      authorization: 'Bearer secret',
      'impersonate-user': 'secret',
      'impersonate-group': 'system:masters',
      'x-remote-user': 'secret',
    };
    const answer = await fetch(`http://${base}${own}/here%2Fthere?watch=1&dryRun=x`, {
      redirect: 'manual',
      headers: { ...secrets, 'x-own': 'mine', cookie: 'a=b' },
    });
    t.equal(answer.status, 302);
    t.equal(answer.headers.get('location'), `${own}/next`, 'a redirect stays within the proxy');
    t.strictSame([answer.headers.get('access-control-allow-origin'), answer.headers.get('x-hop')], [null, null]);
    const said = await answer.text();
    t.match(JSON.parse(said), [
      '/here%2Fthere?watch=1&dryRun=x',
      { 'x-own': 'mine', cookie: 'a=b', 'x-forwarded-uri': `${own}/here%2Fthere`, 'x-forwarded-for': /127.0.0.1/ },
    ]);
    t.notMatch(said, /secret|impersonate|authorization/i, 'nobody is told who asks');
    const webSocket = new WebSocket(
      `ws://${base}${own}/up`,
      ['spoken', 'base64url.bearer.authorization.k8s.io.secret'],
      { headers: secrets },
    );
    t.teardown(() => webSocket.terminate());
    const [asked] = (await once(webSocket, 'message')) as [Buffer];
    t.equal(webSocket.protocol, 'spoken');
    t.match(JSON.parse(String(asked)), ['/up', { upgrade: 'websocket', 'sec-websocket-protocol': 'spoken' }]);
    t.notMatch(String(asked), /secret/);
    webSocket.send('and back again');
    t.match(String((await once(webSocket, 'message'))[0]), 'and back again');
    webSocket.close();
    await once(webSocket, 'close');
  });

  t.test('drain: as a disruption budget allows', async (t) => {
    const budget = {
      metadata: { name: 'many' },
      spec: { minAvailable: 1, selector: { matchLabels: { app: 'many' } } },
    };
    await space.apply({ apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', ...budget });
    const status = async () => JSON.parse(await space.kubectl('get pdb many -o json')).status as Json;
    await until('the budget to be counted', async () => (await status()).disruptionsAllowed === 1);
    const before = await space.list('pods', 'app=many');
    const node = before[0].spec.nodeName as string;
    const drain = await begin(t, space, ['drain', node, '--pod-selector=app=many', '--timeout=60s']);
    await drain.says(/Cannot evict pod as it would violate the pod's disruption budget/);
    const counted = { currentHealthy: 1, desiredHealthy: 1, disruptionsAllowed: 0 };
    await until('the one that is left to be counted', async () => (await status()).currentHealthy === 1);
    t.match(await status(), counted);
    await space.kubectl(`uncordon ${node}`);
    t.equal(await drain.exited, 0, drain.output());
    t.match(drain.output(), new RegExp(`node/${node} drained`));
    await space.untilRolledOut('many');
    const after = new Set((await space.list('pods', 'app=many')).map(({ metadata }) => metadata.uid));
    t.notOk(before.some(({ metadata }) => after.has(metadata.uid)));
    await until('the budget to be whole again', async () => (await status()).disruptionsAllowed === 1);
    t.notOk((await status()).disruptedPods);
  });

  t.test('an agent that is killed, or a pod that is deleted, ends the streams', async (t) => {
    const ports = await forward(t, space, { target: 'pod/web', ports: [8080] });
    const sleeping = await begin(t, space, ['exec', 'web', '--', 'sleep', '1000']);
    const open = connect({ port: ports.to(8080), host: '127.0.0.1' }).on('error', () => undefined);
    await until('the command to run', async () => (await space.exec('web', 'ps')).includes('sleep 1000'));
    const pid = await reckon.kill('pods', 'SIGKILL');
    t.not(await sleeping.exited, 0);
    await http(ports.to(8080)).catch(() => undefined);
    await ports.says(/lost connection to pod/);
    open.destroy();
    await reckon.restarted('pods', pid);
    await until('commands to run again', async () => (await space.tryKubectl('exec web -- true')).code === 0);
    const again = await begin(t, space, ['exec', 'web', '--', 'sleep', '2000']);
    await until('the command to run', async () => (await space.exec('web', 'ps')).includes('sleep 2000'));
    await space.kubectl('delete pod web --now');
    t.not(await again.exited, 0);
  });
});
