/**
 * From `kubectl apply` of a Deployment of 20 replicas to 20 containers that run, as a ratio to creating and starting 20 containers directly through dockerode, and to `docker service create --replicas 20` (Swarm), all
 * in the same engine, turn by turn, each on a bridge network. The engine is one of the benchmark's own: Swarm and the `--live-restore` of the machine's exclude each other. Aims: at most 1.3 and 0.7.
 */
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import Docker from 'dockerode';
import { ensureHelloImage, helloImage } from '../cli/start/hello-image.ts';
import { DockerRuntime } from '../runtime/docker/docker-runtime.ts';
import { startPrivateEngine } from '../test/harness/private-engine.ts';
import { startReckon, type RunningReckon } from '../test/harness/start-reckon.ts';
import { startTestServers } from '../test/harness/test-servers.ts';

const run = promisify(execFile);
const REPLICAS = 20;
const ROUNDS = 3;
/** Docker's own optimum: more at once are no faster. */
const AT_ONCE = 4;
const POLL_MS = 25;
const LIMIT_MS = 120_000;

const image = helloImage;
const command = ['/bin/sleep', '3600'];
const memoryBytes = 32 * 1024 * 1024;
const swarmNetwork = 'reckon-bench';

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const limit = performance.now() + LIMIT_MS;
  while (!(await holds())) {
    if (performance.now() > limit) throw new Error(`${what}: not within ${LIMIT_MS} ms`);
    await sleep(POLL_MS);
  }
}

/** Seconds. */
async function timed(work: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

async function runningWith(docker: Docker, label: string): Promise<number> {
  const containers = await docker.listContainers({ filters: { label: [label], status: ['running'] } });
  return containers.length;
}

async function throughReckon(reckon: RunningReckon, docker: Docker, round: number): Promise<number> {
  const name = `bench-${round}`;
  const labels = { app: name };
  const container = {
    name: 'c',
    image,
    imagePullPolicy: 'Never',
    command,
    resources: { limits: { memory: String(memoryBytes) } },
  };
  const template = { metadata: { labels }, spec: { terminationGracePeriodSeconds: 0, containers: [container] } };
  const deployment = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: { replicas: REPLICAS, selector: { matchLabels: labels }, template },
  };
  const seconds = await timed(async () => {
    await reckon.kubectl('apply -f -', { input: deployment });
    await reckon.kubectl(`rollout status deployment/${name}`, { timeoutMs: LIMIT_MS });
  });
  await reckon.kubectl(`delete deployment ${name} --cascade=foreground`, { timeoutMs: LIMIT_MS });
  await until(
    'removal',
    async () => (await runningWith(docker, `reckon.dev/instance=${reckon.instance.settings.clusterId}`)) === 0,
  );
  return seconds;
}

async function throughDockerode(docker: Docker, network: string, round: number): Promise<number> {
  const label = `reckon-bench=${round}`;
  const places = Array.from({ length: REPLICAS }, (_, index) => index);
  const seconds = await timed(async () => {
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let place = places.pop(); place !== undefined; place = places.pop()) {
          const container = await docker.createContainer({
            Image: image,
            Cmd: command,
            Labels: { 'reckon-bench': String(round) },
            HostConfig: { NetworkMode: network, Memory: memoryBytes },
          });
          await container.start();
        }
      }),
    );
  });
  const started = await docker.listContainers({ all: true, filters: { label: [label] } });
  await Promise.all(started.map(({ Id }) => docker.getContainer(Id).remove({ force: true })));
  return seconds;
}

async function throughSwarm(dockerHost: string, docker: Docker, round: number): Promise<number> {
  const name = `reckon-bench-${round}`;
  const dockerCli = (...words: string[]) => run('docker', ['--host', dockerHost, ...words], { timeout: LIMIT_MS });
  const seconds = await timed(async () => {
    await dockerCli(
      'service',
      'create',
      '--quiet',
      '--detach',
      '--name',
      name,
      '--replicas',
      String(REPLICAS),
      '--limit-memory',
      String(memoryBytes),
      '--network',
      swarmNetwork,
      '--no-resolve-image',
      image,
      ...command,
    );
    await until('tasks', async () => (await runningWith(docker, `com.docker.swarm.service.name=${name}`)) === REPLICAS);
  });
  await dockerCli('service', 'rm', name);
  await until('removal', async () => (await runningWith(docker, `com.docker.swarm.service.name=${name}`)) === 0);
  return seconds;
}

/** Alone in a swarm of its own, which leaves nothing on the machine. */
async function startSwarm(docker: Docker): Promise<void> {
  teardown.teardown(async () => {
    await docker.swarmLeave({ force: true });
    await docker.getNetwork('docker_gwbridge').remove();
  });
  await docker.swarmInit({ ListenAddr: '127.0.0.1:2377', AdvertiseAddr: '127.0.0.1' });
  await docker.createNetwork({ Name: swarmNetwork, Driver: 'bridge', Scope: 'swarm' } as Docker.NetworkCreateOptions);
}

const undo: (() => Promise<void> | void)[] = [];
const teardown = { teardown: (handler: () => Promise<void> | void) => void undo.unshift(handler) };
try {
  const servers = await startTestServers((line) => process.stderr.write(`${line}\n`));
  teardown.teardown(() => servers.stop());
  process.env['RECKON_TEST_SERVERS'] = JSON.stringify(servers.addresses);
  const engine = await startPrivateEngine(teardown, { liveRestore: false });
  const socketPath = new URL(engine.host).pathname;
  const docker = new Docker({ socketPath });
  await ensureHelloImage(new DockerRuntime({ socketPath }), servers.addresses.busybox);
  const reckon = await startReckon(teardown, { environment: { DOCKER_HOST: engine.host } });
  const network = reckon.instance.settings.dockerNetwork;
  // The first pod of a node waits for it to register; that is no part of the question.
  await until('node', async () => / Ready /.test((await reckon.tryKubectl('get nodes')).stdout));
  // The pods' network is made with the first pod.
  await throughReckon(reckon, docker, ROUNDS + 1);
  await startSwarm(docker);

  const seconds: Record<'reckon' | 'dockerode' | 'swarm', number[]> = { reckon: [], dockerode: [], swarm: [] };
  // One of each is not counted: images, networks and caches are warm then.
  for (let round = 0; round <= ROUNDS; round++) {
    const direct = await throughDockerode(docker, network, round);
    const ours = await throughReckon(reckon, docker, round);
    const theirs = await throughSwarm(engine.host, docker, round);
    if (round === 0) continue;
    seconds.dockerode.push(direct);
    seconds.reckon.push(ours);
    seconds.swarm.push(theirs);
  }
  const [ours, direct, theirs] = [median(seconds.reckon), median(seconds.dockerode), median(seconds.swarm)];
  const show = (values: readonly number[]): string => values.map((value) => value.toFixed(2)).join(' ');
  process.stdout.write(
    `  ${REPLICAS} pods, seconds a round: reckon ${show(seconds.reckon)} · dockerode ${show(seconds.dockerode)} · swarm ${show(seconds.swarm)}\n`,
  );
  process.stdout.write(
    `  medians: reckon ${ours.toFixed(2)} s = ${(ours / direct).toFixed(2)} x dockerode (aim: at most 1.3) = ${(ours / theirs).toFixed(2)} x swarm (aim: at most 0.7)\n`,
  );
} finally {
  for (const handler of undo) await handler();
}
