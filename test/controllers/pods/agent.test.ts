/** The node agent on real engines: pods as users write them, containers that are killed or taken away, an agent that dies at any moment, an engine that goes away. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { ApiObject } from '../../../api-schemas/schema.ts';
import type { Container, Pod } from '../../../api-schemas/types/core-v1.ts';
import { DockerRuntime } from '../../../runtime/docker/docker-runtime.ts';
import { SimulatedRuntime } from '../../../runtime/simulated/simulated-runtime.ts';
import { docker as dockerCall } from '../../harness/docker-cleaning.ts';
import { startImageRegistry } from '../../harness/image-registry.ts';
import { serverAddresses } from '../../harness/servers.ts';
import { BUSYBOX_IMAGE, ensureBusyboxImage } from '../../runtime/busybox-image.ts';
import { OneNode } from './one-node.ts';

t.setTimeout(600_000);
const { dockerHost, busybox } = await serverAddresses();
const docker = new DockerRuntime({ socketPath: new URL(dockerHost).pathname });
await ensureBusyboxImage(docker, busybox);

const sh = (script: string, more: Partial<Container> = {}): Container => ({
  name: 'main',
  image: BUSYBOX_IMAGE,
  imagePullPolicy: 'IfNotPresent',
  command: ['/bin/sh', '-c', script],
  ...more,
});
const FOREVER = 'trap "exit 0" TERM; while true; do sleep 0.1; done';
const statusOf = (pod: Pod | undefined, name = 'main') =>
  pod?.status?.containerStatuses?.find((found) => found.name === name);

async function logOf(node: OneNode, id: string): Promise<string> {
  let text = '';
  for await (const chunk of await node.runtime.logs(id, {})) text += String(chunk);
  return text;
}

async function onDocker(t: { teardown(work: () => Promise<void>): void }): Promise<OneNode> {
  const node = new OneNode(docker);
  t.teardown(() => node.close());
  await node.start();
  return node;
}

t.test('what a container is given', { timeout: 60_000 }, async (t) => {
  const node = await onDocker(t);
  node.api.put('configmaps', {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'cfg', namespace: 'default' },
    data: { color: 'blue', 'app.conf': 'one' },
  } as ApiObject);
  node.api.put('secrets', {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'key', namespace: 'default' },
    data: { token: Buffer.from('hush').toString('base64') },
  } as ApiObject);
  node.api.put('persistentvolumeclaims', {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'data', namespace: 'default' },
    spec: { volumeName: 'pv-1' },
    status: { phase: 'Bound' },
  } as ApiObject);
  node.api.put('persistentvolumes', {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: 'pv-1' },
    spec: { csi: { driver: 'docker.reckon.dev', volumeHandle: `${node.instance}-pv-1` } },
  } as ApiObject);
  const hostFolder = mkdtempSync(join(tmpdir(), 'reckon-host-'));
  chmodSync(hostFolder, 0o755);
  writeFileSync(join(hostFolder, 'there'), 'on the node');
  node.run(
    'given',
    {
      hostAliases: [{ ip: '203.0.113.9', hostnames: ['far.example'] }],
      securityContext: { runAsUser: 1000, fsGroup: 2000 },
      containers: [
        sh(
          `env; id; cat /etc/resolv.conf /etc/hosts; cat /cfg/app.conf /key/token /host/there /down/labels; echo "args $0 $1"; echo kept > /data/file; echo s > /scratch/s; ls -ln /scratch/s; touch /cfg/x; ${FOREVER}`,
          {
            args: ['$(COLOR)-$(NOBODY)-$$(X)', 'two'],
            env: [
              { name: 'COLOR', valueFrom: { configMapKeyRef: { name: 'cfg', key: 'color' } } },
              { name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'key', key: 'token' } } },
              { name: 'BOTH', value: '$(COLOR)/$(TOKEN)' },
              { name: 'MY_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
              { name: 'MY_NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
              { name: 'MY_MEMORY', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } } },
              { name: 'OPTIONAL', valueFrom: { configMapKeyRef: { name: 'nowhere', key: 'x', optional: true } } },
            ],
            envFrom: [{ prefix: 'P_', secretRef: { name: 'key' } }],
            resources: { limits: { memory: '64Mi', cpu: '500m' } },
            volumeMounts: [
              { name: 'cfg', mountPath: '/cfg' },
              { name: 'key', mountPath: '/key' },
              { name: 'data', mountPath: '/data' },
              { name: 'scratch', mountPath: '/scratch' },
              { name: 'host', mountPath: '/host', readOnly: true },
              { name: 'down', mountPath: '/down' },
            ],
          },
        ),
      ],
      volumes: [
        { name: 'cfg', configMap: { name: 'cfg', items: [{ key: 'app.conf', path: 'app.conf' }] } },
        { name: 'key', secret: { secretName: 'key' } },
        { name: 'data', persistentVolumeClaim: { claimName: 'data' } },
        { name: 'scratch', emptyDir: {} },
        { name: 'host', hostPath: { path: hostFolder, type: 'Directory' } },
        { name: 'down', downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
      ],
    },
    { labels: { app: 'given' } },
  );
  const pod = await node.ready('given');
  const [container] = await node.containersOf('given');
  const log = await node.until('the whole log', async () => {
    const text = await logOf(node, container?.id ?? '');
    return text.includes('/cfg/x') && text;
  });
  const address = pod.status?.podIP ?? 'none';
  for (const line of [
    'COLOR=blue',
    'TOKEN=hush',
    'BOTH=blue/hush',
    `MY_IP=${address}`,
    'MY_NODE=node-a',
    'MY_MEMORY=64',
    'P_token=hush',
    'uid=1000(app) gid=1000(app) groups=1000(app),2000',
    'search default.svc.cluster.local svc.cluster.local cluster.local',
    'options ndots:5',
    '203.0.113.9\tfar.example',
    'args blue-$(NOBODY)-$(X) two',
    'onehushon the nodeapp="given"',
    'Read-only file system',
  ]) {
    t.ok(log.includes(line), `the container sees: ${line}`);
  }
  t.notMatch(log, /OPTIONAL/);
  t.match(log, /-rw-r--r-- +1 1000 +2000/, 'files in an emptyDir belong to fsGroup');
  const volume = await docker.inspectVolume(`${node.instance}-pv-1`);
  t.equal(readFileSync(join(volume?.mountpoint ?? '', 'file'), 'utf8'), 'kept\n', 'a claim is a volume of the engine');
  const inspected = JSON.parse(
    spawnSync('docker', ['--host', dockerHost, 'inspect', container?.id ?? '']).stdout.toString(),
  ) as {
    HostConfig: Record<string, unknown>;
  }[];
  t.match(inspected[0]?.HostConfig, { Memory: 64 * 2 ** 20, CpuQuota: 50_000, CpuShares: 512 });

  node.api.put('configmaps', {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'cfg', namespace: 'default' },
    data: { color: 'red', 'app.conf': 'two' },
  } as ApiObject);
  await node.until('the file turns over', async () => {
    const session = await docker.exec(container?.id ?? '', { command: ['cat', '/cfg/app.conf'] });
    let text = '';
    for await (const chunk of session.stdout) text += String(chunk);
    return text === 'two';
  });
  t.equal((await node.containersOf('given'))[0]?.id, container?.id, 'without another container');
  node.markDeleted('given', 2);
  await node.until('it is gone', () => node.pod('given') === undefined);
  t.strictSame(
    [await node.containersOf('given'), readdirSync(join(node.home, 'pods'))],
    [[], []],
    'nothing is left but the volume',
  );
  t.ok(existsSync(join(hostFolder, 'there')), "and what is the node's own");
  t.ok(await docker.inspectVolume(`${node.instance}-pv-1`));
});

t.test('several containers, in order, in one network', { timeout: 60_000 }, async (t) => {
  const node = await onDocker(t);
  node.run('trio', {
    initContainers: [
      sh('echo prepared > /shared/state', { name: 'init', volumeMounts: [{ name: 'shared', mountPath: '/shared' }] }),
    ],
    containers: [
      sh('mkdir /www; cat /shared/state > /www/index.html; httpd -f -p 8080 -h /www', {
        name: 'server',
        volumeMounts: [{ name: 'shared', mountPath: '/shared' }],
        readinessProbe: { httpGet: { path: '/index.html', port: 8080 }, periodSeconds: 1 },
      }),
      sh(`until wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done; ${FOREVER}`, { name: 'client' }),
    ],
    volumes: [{ name: 'shared', emptyDir: {} }],
  });
  const pod = await node.ready('trio');
  t.match(pod.status, {
    phase: 'Running',
    initContainerStatuses: [{ name: 'init', ready: true, state: { terminated: { reason: 'Completed' } } }],
  });
  const containers = await node.containersOf('trio');
  t.equal(containers.length, 4, 'two containers, the init container that has ended, and their sandbox');
  const body = await new Promise<string>((resolve, reject) => {
    http
      .get(`http://${pod.status?.podIP ?? ''}:8080/index.html`, (response) =>
        response.on('data', (chunk) => resolve(String(chunk))),
      )
      .on('error', reject);
  });
  t.equal(body, 'prepared\n', 'the pod answers at its address');
  const client = containers.find(({ name }) => name.startsWith('reckon_client_'));
  await node.until('the client has read', async () => (await logOf(node, client?.id ?? '')).includes('prepared'));
  const sandbox = containers.find(({ name }) => name.startsWith('reckon_POD_'));
  await docker.signalContainer(sandbox?.id ?? '', 'KILL');
  await node.until(
    'all run again in a new sandbox',
    () =>
      statusOf(node.pod('trio'), 'client')?.restartCount === 1 &&
      node.pod('trio')?.status?.conditions?.find(({ type }) => type === 'Ready')?.status === 'True',
  );
  t.equal(node.pod('trio')?.status?.podIP, pod.status?.podIP, 'with the same address');
  node.markDeleted('trio', 2);
  await node.until('it is gone', () => node.pod('trio') === undefined);
  t.strictSame(await node.containersOf('trio'), []);
});

t.test('containers that end, are killed, or are taken away', { timeout: 90_000 }, async (t) => {
  const node = await onDocker(t);
  node.run('a', { containers: [sh(FOREVER)] });
  const anyone = { securityContext: { runAsUser: 1000 } };
  node.run('crashes', { containers: [sh('echo sorry > /dev/termination-log; exit 4', anyone)] });
  node.run('job', { restartPolicy: 'Never', containers: [sh('echo done')] });
  node.run('nothing', { containers: [sh('', { command: ['/no/such/program'] })] });
  node.run('nowhere', { containers: [sh(FOREVER, { image: 'registry.invalid/x:1' })] });
  node.run('needs', {
    containers: [sh('echo $V', { env: [{ name: 'V', valueFrom: { configMapKeyRef: { name: 'later', key: 'v' } } }] })],
    restartPolicy: 'OnFailure',
  });
  const command = ['test', '-e', '/tmp/well'];
  const sick = { exec: { command }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2 };
  node.run('sick', {
    containers: [sh(`touch /tmp/well; ${FOREVER}`, { livenessProbe: { ...sick, initialDelaySeconds: 1 } })],
  });
  const before = await node.ready('a');
  const [first] = await node.containersOf('a');
  await docker.signalContainer(first?.id ?? '', 'KILL');
  const again = await node.until(
    'a killed container runs again',
    () => statusOf(node.pod('a'))?.restartCount === 1 && statusOf(node.pod('a'))?.ready && node.pod('a'),
  );
  t.match(statusOf(again), { lastState: { terminated: { exitCode: 137, reason: 'Error' } } });
  t.equal(again.status?.podIP, before.status?.podIP, 'at the same address');
  const current = (await node.containersOf('a')).find(({ state }) => state === 'running');
  await docker.removeContainer(current?.id ?? '', { force: true });
  await node.until(
    'one that was taken away is replaced',
    () => statusOf(node.pod('a'))?.restartCount === 2 && statusOf(node.pod('a'))?.ready,
  );

  const looping = await node.until('a crash loop is waited out', () => {
    const status = statusOf(node.pod('crashes'));
    return status?.state?.waiting?.reason === 'CrashLoopBackOff' && status;
  });
  t.ok(looping.restartCount >= 1);
  t.match(looping, { ready: false, lastState: { terminated: { exitCode: 4, message: 'sorry\n' } } });
  await node.until('the job is done', () => node.pod('job')?.status?.phase === 'Succeeded');
  await node.until('what cannot start says so', () =>
    /no such file/.test(statusOf(node.pod('nothing'))?.lastState?.terminated?.message ?? ''),
  );
  t.match(statusOf(node.pod('nothing'))?.lastState, { terminated: { exitCode: 128, reason: 'StartError' } });
  await node.until('an image that cannot be had', () =>
    /^(ErrImagePull|ImagePullBackOff)$/.test(statusOf(node.pod('nowhere'))?.state?.waiting?.reason ?? ''),
  );
  t.match(statusOf(node.pod('nowhere'))?.state?.waiting?.message, /registry\.invalid/);
  await node.until(
    'a reference that is missing',
    () => statusOf(node.pod('needs'))?.state?.waiting?.message === 'configmap "later" not found',
  );
  node.api.put('configmaps', {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'later', namespace: 'default' },
    data: { v: '1' },
  } as ApiObject);
  await node.until('it goes on when it comes', () => node.pod('needs')?.status?.phase === 'Succeeded');
  await node.ready('sick');
  const [ill] = await node.containersOf('sick');
  await (
    await docker.exec(ill?.id ?? '', { command: ['rm', '/tmp/well'] })
  ).exitCode;
  await node.until(
    'a container that fails its liveness probe is started again',
    () => statusOf(node.pod('sick'))?.restartCount === 1,
  );
  t.ok(node.api.events.some(({ reason, about }) => reason === 'Unhealthy' && about === 'sick'));
});

t.test('an agent that dies finds everything as it is', { timeout: 90_000 }, async (t) => {
  const node = await onDocker(t);
  for (const name of ['x', 'y', 'z'])
    node.run(name, {
      containers: [sh(FOREVER, { readinessProbe: { exec: { command: ['true'] }, periodSeconds: 2 } })],
    });
  await Promise.all(['x', 'y', 'z'].map((name) => node.ready(name)));
  const ids = async (): Promise<string[]> =>
    (await Promise.all(['x', 'y', 'z'].map((name) => node.containersOf(name))))
      .flat()
      .map(({ id }) => id)
      .toSorted();
  const before = await ids();
  const revision = node.api.position;
  await node.crash();
  await node.start();
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  t.strictSame(await ids(), before, 'none is started again');
  t.equal(node.api.position, revision, 'and nothing is written, for nothing has changed');

  await node.crash();
  node.api.remove('pods', 'default', 'x');
  const [lost] = await node.containersOf('y');
  await docker.removeContainer(lost?.id ?? '', { force: true });
  const stranger = await docker.createContainer({
    name: `${node.instance}-not-ours`,
    image: BUSYBOX_IMAGE,
    environment: [],
    labels: { 'reckon.dev/instance': 'another', 'test-of': node.instance },
    mounts: [],
    network: { kind: 'host' },
  });
  t.teardown(() => docker.removeContainer(stranger, { force: true }));
  await node.start();
  await node.until('what nobody wants is removed', async () => (await node.containersOf('x')).length === 0);
  await node.until(
    'what is missing comes back',
    () => statusOf(node.pod('y'))?.restartCount === 1 && statusOf(node.pod('y'))?.ready,
  );
  t.ok(await docker.inspectContainer(stranger), "another instance's containers are left alone");

  // Ended again and again while it works: no container twice, none forgotten.
  for (let index = 0; index < 8; index++) node.run(`m${index}`, { containers: [sh(FOREVER)] });
  for (const pauseMs of [30, 60, 120, 200, 300]) {
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    await node.crash();
    await node.start();
  }
  for (let index = 0; index < 8; index++) await node.ready(`m${index}`);
  for (let index = 0; index < 8; index++) {
    const containers = await node.containersOf(`m${index}`);
    t.equal(containers.length, 1, `m${index} has one container`);
    t.equal(statusOf(node.pod(`m${index}`))?.restartCount, 0);
  }
  const addresses = [...node.api.objects.values()]
    .map((object) => (object as unknown as Pod).status?.podIP)
    .filter(Boolean);
  t.equal(new Set(addresses).size, addresses.length, 'no address is given twice');
  for (const place of [...node.api.objects.keys()])
    if (place.startsWith('pods/')) node.markDeleted(place.split('/')[2] ?? '', 2);
  await node.until(
    'all are gone',
    () => ![...node.api.objects.keys()].some((place) => place.startsWith('pods/')),
    30_000,
  );
  t.strictSame(await docker.listContainers({ 'reckon.dev/instance': node.instance }), []);
});

t.test('how a pod is ended', { timeout: 60_000 }, async (t) => {
  const node = await onDocker(t);
  const output = mkdtempSync(join(tmpdir(), 'reckon-out-'));
  const volumes = [{ name: 'out', hostPath: { path: output } }];
  const volumeMounts = [{ name: 'out', mountPath: '/out' }];
  node.run('polite', {
    containers: [
      sh('trap "echo term >> /out/polite; exit 0" TERM; while true; do sleep 0.1; done', {
        volumeMounts,
        lifecycle: {
          preStop: {
            exec: { command: ['/bin/sh', '-c', 'echo preStop >> /out/polite; sleep 0.5; echo ready >> /out/polite'] },
          },
        },
      }),
    ],
    volumes,
  });
  node.run('stubborn', { containers: [sh('trap "" TERM; while true; do sleep 0.1; done')] });
  await Promise.all([node.ready('polite'), node.ready('stubborn')]);
  node.markDeleted('polite', 10);
  await node.until('the polite one is gone', () => node.pod('polite') === undefined);
  t.equal(readFileSync(join(output, 'polite'), 'utf8'), 'preStop\nready\nterm\n', 'first its hook, then the signal');
  const from = Date.now();
  node.markDeleted('stubborn', 2);
  await node.until('the stubborn one is gone', () => node.pod('stubborn') === undefined);
  t.ok(Date.now() - from >= 1_900, `it had its grace period (${Date.now() - from} ms)`);
});

t.test('an image that its registry gives to some', { timeout: 60_000 }, async (t) => {
  const registry = await startImageRegistry(t, busybox);
  t.teardown(() => dockerCall(dockerHost, 'DELETE', `/images/${registry.image}?force=1`) as Promise<void>);
  const node = await onDocker(t);
  const { address, username, password } = registry;
  const login = { auth: Buffer.from(`${username}:${password}`).toString('base64') };
  const wrong = { username, password: 'wrong' };
  const secret = (name: string, auths: object) =>
    node.api.put('secrets', {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name, namespace: 'default' },
      type: 'kubernetes.io/dockerconfigjson',
      data: { '.dockerconfigjson': Buffer.from(JSON.stringify({ auths })).toString('base64') },
    } as ApiObject);
  secret('elsewhere', { 'registry.example': { auth: login.auth } });
  secret('wrong', { [`https://${address}/app`]: wrong });
  secret('right', { [`http://${address}/v1/`]: { auth: login.auth } });
  const container = sh('', { image: registry.image, command: ['/busybox', 'sleep', '1000'] });
  node.run('stranger', { containers: [container], imagePullSecrets: [{ name: 'elsewhere' }, { name: 'absent' }] });
  await node.until('who has no password gets nothing', () =>
    /no basic auth credentials/.test(statusOf(node.pod('stranger'))?.state?.waiting?.message ?? ''),
  );
  t.ok(
    node.api.events.some(
      ({ reason, message }) => reason === 'FailedToRetrieveImagePullSecret' && /absent/.test(message),
    ),
  );
  node.run('friend', { containers: [container], imagePullSecrets: [{ name: 'wrong' }, { name: 'right' }] });
  await node.ready('friend');
  t.match(statusOf(node.pod('friend'))?.imageID, registry.address, 'one password after the other is tried');
});

t.test('an engine that goes away and comes back', { timeout: 60_000 }, async (t) => {
  const runtime = new SimulatedRuntime();
  const node = new OneNode(runtime);
  t.teardown(() => node.close());
  await node.start();
  for (let index = 0; index < 30; index++) node.run(`p${index}`, { containers: [{ name: 'main', image: 'app:1' }] });
  for (let index = 0; index < 30; index++) await node.ready(`p${index}`);
  t.equal((await runtime.listContainers({})).length, 30);
  runtime.setAvailable(false);
  node.markDeleted('p0', 0);
  node.run('new', { containers: [{ name: 'main', image: 'app:1' }] });
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.equal(statusOf(node.pod('p1'))?.ready, true, 'while it is away nothing is said that is not known');
  t.ok(node.pod('p0'), 'and nothing is thought done');
  runtime.setAvailable(true);
  await node.ready('new');
  await node.until('what was asked meanwhile is done', () => node.pod('p0') === undefined);
  t.equal((await runtime.listContainers({})).length, 30);
});
