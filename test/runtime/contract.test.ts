/** One contract, two engines: what the node agent relies on, against a real Docker engine and the simulated one. */
import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import t from 'tap';
import type { Container, ContainerRuntime, ContainerSpec, RuntimeEvent } from '../../runtime/container-runtime.ts';
import { DockerRuntime } from '../../runtime/docker/docker-runtime.ts';
import { normalizeImageReference } from '../../runtime/image-reference.ts';
import { ensurePauseImage, PAUSE_IMAGE } from '../../runtime/pause-image.ts';
import { SimulatedRuntime } from '../../runtime/simulated/simulated-runtime.ts';
import { serverAddresses } from '../harness/servers.ts';
import { BUSYBOX_IMAGE, ensureBusyboxImage } from './busybox-image.ts';

const instance = `test-${randomBytes(4).toString('hex')}`;
const labels = { 'reckon.dev/instance': instance };
const second = (Number.parseInt(randomBytes(1).toString('hex'), 16) % 200) + 20;
const subnet = `10.${second}.224.0/24`;

async function text(stream: Readable): Promise<string> {
  let all = '';
  for await (const chunk of stream) all += String(chunk);
  return all;
}

async function until<T>(what: string, read: () => Promise<T | undefined | false>, timeoutMs = 15_000): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const value = await read();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const { dockerHost, busybox } = await serverAddresses();
const docker = new DockerRuntime({ socketPath: new URL(dockerHost).pathname });

for (const runtime of [new SimulatedRuntime(), docker] as ContainerRuntime[]) {
  t.test(`${runtime.kind} engine`, { timeout: 120_000 }, async (t) => {
    const real = runtime.kind === 'docker';
    const stop = new AbortController();
    const network = `reckon-${instance}`;
    const sleeper = (name: string, more: Partial<ContainerSpec> = {}): ContainerSpec => ({
      name: `${instance}-${name}`,
      image: BUSYBOX_IMAGE,
      entrypoint: ['/bin/sh', '-c'],
      arguments: ['trap "exit 7" TERM; echo started; while true; do sleep 0.1; done'],
      environment: [],
      labels: { ...labels, name },
      mounts: [],
      network: { kind: 'network', network },
      ...more,
    });
    if (real) await ensureBusyboxImage(runtime, busybox);
    else await runtime.pullImage(BUSYBOX_IMAGE);
    const made = await runtime.ensureNetwork({ name: network, subnet, bridge: `rk${instance.slice(5)}`, labels });
    t.teardown(async () => {
      stop.abort();
      for (const { id } of await runtime.listContainers(labels)) await runtime.removeContainer(id, { force: true });
      for (const { name } of await runtime.listVolumes(labels)) await runtime.removeVolume(name);
      await runtime.removeNetwork(network);
    });

    t.equal(made.gateway, subnet.replace('.0/24', '.1'), 'the gateway is the first address');
    t.match(
      await runtime.ensureNetwork({ name: network, subnet, bridge: 'other', labels }),
      { id: made.id },
      'a network is made once',
    );
    const info = await runtime.info();
    t.ok(info.cpus > 0 && info.memoryBytes > 0 && info.version !== '', 'the engine says what it is');

    const events: RuntimeEvent[] = [];
    void (async () => {
      for await (const event of runtime.events({ labels, signal: stop.signal })) events.push(event);
    })();
    await until('resync', async () => events.some(({ kind }) => kind === 'resync'));

    // A container's life.
    const address = subnet.replace('.0/24', '.77');
    const id = await runtime.createContainer(
      sleeper('a', { network: { kind: 'network', network, address }, hostname: 'pod-a' }),
    );
    t.match(await runtime.inspectContainer(id), { id, state: 'created', name: `${instance}-a`, labels: { name: 'a' } });
    await t.rejects(
      runtime.createContainer(sleeper('a')),
      { name: 'RuntimeCallError', reason: 'conflict' },
      'a name is taken once',
    );
    await runtime.startContainer(id);
    await runtime.startContainer(id);
    const running = (await runtime.inspectContainer(id)) as Container;
    t.match(running, { state: 'running', address, error: '' });
    t.ok(Math.abs((running.startedAtMs ?? 0) - Date.now()) < 10_000, 'it says when it started');
    t.match(await runtime.inspectContainer(`${instance}-a`), { id }, 'found by name too');
    t.strictSame(
      (await runtime.listContainers({ ...labels, name: 'a' })).map((found) => found.id),
      [id],
    );
    t.strictSame(await runtime.listContainers({ ...labels, name: 'nobody' }), []);
    await t.rejects(
      runtime.removeContainer(id),
      { name: 'RuntimeCallError', reason: 'conflict' },
      'a running container is not removed',
    );
    if (real) await until('trap set', async () => (await text(await runtime.logs(id, {}))).includes('started'));
    await runtime.signalContainer(id, 'TERM');
    const ended = await until('exit', async () => {
      const found = await runtime.inspectContainer(id);
      return found?.state === 'exited' && found;
    });
    t.equal(ended.exitCode, real ? 7 : 143);
    t.ok((ended.finishedAtMs ?? 0) >= (ended.startedAtMs ?? 0), 'it says when it ended');
    await runtime.signalContainer(id, 'KILL');
    await runtime.removeContainer(id);
    await runtime.removeContainer(id);
    t.equal(await runtime.inspectContainer(id), undefined);
    const heard = await until('destroy event', async () => {
      const actions = events.flatMap((event) => (event.kind === 'container' && event.id === id ? [event.action] : []));
      return actions.includes('destroy') && actions;
    });
    for (const action of ['create', 'start', 'die', 'destroy'])
      t.ok(heard.includes(action), `the event ${action} was heard`);

    // Volumes.
    const volume = await runtime.ensureVolume(`${instance}-v`, { ...labels, extra: 'yes' });
    t.match(
      await runtime.ensureVolume(`${instance}-v`, labels),
      { name: volume.name, labels: { extra: 'yes' } },
      'a volume is made once',
    );
    const user = await runtime.createContainer(
      sleeper('b', { mounts: [{ kind: 'volume', volume: volume.name, target: '/data', readOnly: false }] }),
    );
    t.match(await runtime.inspectContainer(user), { volumes: [volume.name] });
    await t.rejects(
      runtime.removeVolume(volume.name),
      { name: 'RuntimeCallError', reason: 'conflict' },
      'a volume in use stays',
    );
    await runtime.removeContainer(user, { force: true });
    await runtime.removeVolume(volume.name);
    await runtime.removeVolume(volume.name);
    t.equal(await runtime.inspectVolume(volume.name), undefined);

    // What is not there.
    t.equal(await runtime.inspectContainer('nothing-here'), undefined);
    t.equal(await runtime.inspectImage('nothing/here:1'), undefined);
    await runtime.signalContainer('nothing-here', 'KILL');
    await t.rejects(runtime.startContainer('nothing-here'), { name: 'RuntimeCallError', reason: 'not-found' });
    await t.rejects(runtime.createContainer(sleeper('c', { image: 'nothing/here:1' })), {
      name: 'RuntimeCallError',
      reason: 'not-found',
    });
    await t.rejects(runtime.pullImage('registry.invalid/nothing:1'), { name: 'RuntimeCallError', reason: 'failed' });
    await ensurePauseImage(runtime);
    t.ok(await runtime.inspectImage(PAUSE_IMAGE), 'the sandbox image is made here');

    if (!real) return;
    // Only a real engine has processes.
    const pause = await runtime.createContainer({
      ...sleeper('p'),
      image: PAUSE_IMAGE,
      entrypoint: ['/pause'],
      arguments: [],
    });
    await runtime.startContainer(pause);
    const main = await runtime.createContainer(sleeper('m', { network: { kind: 'container', containerId: pause } }));
    await runtime.startContainer(main);
    await new Promise((resolve) => setTimeout(resolve, 300));
    t.match(await runtime.inspectContainer(pause), { state: 'running' }, 'the sandbox program waits');
    const shell = (command: string, more = {}): ReturnType<ContainerRuntime['exec']> =>
      runtime.exec(main, { command: ['/bin/sh', '-c', command], ...more });
    const exec = await shell('echo out; echo err >&2; exit 3');
    t.strictSame(await Promise.all([text(exec.stdout), text(exec.stderr), exec.exitCode]), ['out\n', 'err\n', 3]);
    const cat = await shell('cat', { stdin: true });
    cat.stdin?.end('typed');
    t.strictSame(
      await Promise.all([text(cat.stdout), cat.exitCode]),
      ['typed', 0],
      'the end of stdin reaches the command',
    );
    const tty = await shell('sleep 0.3; stty size', { tty: true, stdin: true });
    await tty.resize(91, 33);
    t.match(await text(tty.stdout), /33 91/, 'a terminal has the size that it was given');
    const missing = await runtime.exec(main, { command: ['/no/such'] });
    t.ok((await missing.exitCode) !== 0);
    t.match(
      await text(await runtime.logs(main, { timestamps: true, tailLines: 1 })),
      /^\d{4}-\d\d-\d\dT[\d:.]+Z started\n$/,
    );
    const follow = await runtime.logs(main, { follow: true });
    setTimeout(() => void runtime.signalContainer(main, 'KILL'), 200);
    t.equal(await text(follow), 'started\n', 'a followed log ends with its container');
    t.match(await runtime.inspectContainer(main), { exitCode: 137 });
    const attaching = runtime.attach(main, { stdin: true }).then((session) => session.exitCode);
    await t.rejects(attaching, { message: /is not running/ }, 'nobody waits on one that has ended');
    const broken = await runtime.createContainer(sleeper('x', { entrypoint: ['/no/such/program'] }));
    await t.rejects(runtime.startContainer(broken), { name: 'RuntimeCallError' });
    t.match(
      await runtime.inspectContainer(broken),
      { state: 'created', error: /no such file/ },
      'why it could not start is kept',
    );
    await t.rejects(new DockerRuntime({ socketPath: '/nowhere/docker.sock' }).info(), {
      name: 'RuntimeUnavailableError',
    });
  });
}

t.test('image names are resolved as Docker does', async (t) => {
  for (const [given, full] of [
    ['redis', 'docker.io/library/redis:latest'],
    ['redis:7', 'docker.io/library/redis:7'],
    ['bitnami/redis', 'docker.io/bitnami/redis:latest'],
    ['localhost/x', 'localhost/x:latest'],
    ['localhost:5000/x:2', 'localhost:5000/x:2'],
    ['ghcr.io/a/b@sha256:0123', 'ghcr.io/a/b@sha256:0123'],
    ['docker.io/nginx', 'docker.io/library/nginx:latest'],
  ] as const) {
    t.equal(normalizeImageReference(given), full);
  }
});
