/** The node agent on an engine that hangs over one container, and on a node where things are taken away behind its back: networks, images, data. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import http from 'node:http';
import path from 'node:path';
import t from 'tap';
import type { ApiObject } from '../../../api-schemas/schema.ts';
import type { Container, Pod } from '../../../api-schemas/types/core-v1.ts';
import { CONTAINER_LABEL, POD_UID_LABEL } from '../../../controllers/pods/labels.ts';
import { DockerRuntime } from '../../../runtime/docker/docker-runtime.ts';
import { startHangingEngine } from '../../harness/hanging-engine.ts';
import { serverAddresses } from '../../harness/servers.ts';
import { BUSYBOX_IMAGE, ensureBusyboxImage } from '../../runtime/busybox-image.ts';
import { NODE, OneNode } from './one-node.ts';

t.setTimeout(600_000);
// Most of it is waiting.
t.jobs = 4;
/** tap keeps its notes in the options: each test needs its own. */
const aside = () => ({ buffered: true, timeout: 120_000 });
const { dockerHost, busybox } = await serverAddresses();
const dockerSocket = new URL(dockerHost).pathname;
const docker = new DockerRuntime({ socketPath: dockerSocket });
await ensureBusyboxImage(docker, busybox);

const FOREVER = 'trap "exit 0" TERM; while true; do sleep 0.1; done';
const main = (more: Partial<Container> = {}): Container => ({
  name: 'main',
  image: BUSYBOX_IMAGE,
  imagePullPolicy: 'IfNotPresent',
  command: ['/bin/sh', '-c', FOREVER],
  ...more,
});
const engineCall = (method: 'POST' | 'DELETE', place: string, body?: object) =>
  new Promise<void>((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': 'application/json' };
    const request = http.request({ socketPath: dockerSocket, method, path: place, headers }, (response) => {
      response.resume().on('end', () => {
        if ((response.statusCode ?? 500) < 300) resolve();
        else reject(new Error(`${method} ${place}: ${response.statusCode}`));
      });
    });
    request.on('error', reject).end(body === undefined ? undefined : JSON.stringify(body));
  });
const parted = (network: string, id: string) =>
  engineCall('POST', `/networks/${network}/disconnect`, { Container: id, Force: true });
const restarts = (pod: Pod | undefined): number => pod?.status?.containerStatuses?.[0]?.restartCount ?? 0;
const isReady = (pod: Pod | undefined): boolean => pod?.status?.containerStatuses?.[0]?.ready === true;
const eventsOf = (node: OneNode, name: string): string[] =>
  node.api.events.filter(({ about }) => about === name).map(({ reason, message }) => `${reason}: ${message}`);

t.test('an engine that hangs over one container', aside(), async (t) => {
  const engine = await startHangingEngine(t, dockerSocket);
  const node = new OneNode(new DockerRuntime({ socketPath: engine.socketPath }));
  t.teardown(async () => {
    engine.recover();
    await node.close();
  });
  await node.start();
  // One that is under way when the engine begins to hang is out of time like any other.
  // Three seconds: on a slow machine an exec takes more than the one of the default, and the container would be started again before.
  const probe = { exec: { command: ['true'] }, periodSeconds: 1, timeoutSeconds: 3, failureThreshold: 2 };
  node.run('stuck', { containers: [main({ readinessProbe: probe, livenessProbe: probe })] });
  node.run('other', { containers: [main()] });
  await node.ready('stuck');
  await node.ready('other');
  const [stuck] = await docker.listContainers({
    'reckon.dev/instance': node.instance,
    'reckon.dev/pod-name': 'stuck',
  });
  const id = stuck?.id ?? '';
  const ofStuck = async () =>
    docker.listContainers({ 'reckon.dev/instance': node.instance, 'reckon.dev/pod-name': 'stuck' });

  engine.hangOver(id);
  // The agent lists anew, and hears nothing of one of them.
  engine.cut();
  const [other] = await docker.listContainers({
    'reckon.dev/instance': node.instance,
    'reckon.dev/pod-name': 'other',
  });
  await docker.signalContainer(other?.id ?? '', 'KILL');
  node.run('new', { containers: [main()] });
  await node.until('another that was killed is started again', () => restarts(node.pod('other')) === 1);
  await node.ready('new');
  process.kill(stuck?.processId ?? 0, 'SIGKILL');
  await node.until('the pod says so', () => eventsOf(node, 'stuck').some((event) => event.startsWith('FailedSync: ')));
  t.ok(isReady(node.pod('stuck')), 'what was last known of it stands, its probes count for nothing');
  t.equal((await ofStuck()).length, 1, 'none is started beside it');
  node.markDeleted('new', 1);
  await node.until('others come and go', () => node.pod('new') === undefined);

  engine.recover();
  await node.until('it is started again when the engine tells of it', () => restarts(node.pod('stuck')) === 1);
  await node.ready('stuck');
  t.equal((await ofStuck()).filter(({ state }) => state === 'running').length, 1);
});

t.test('two containers in one slot', aside(), async (t) => {
  const node = new OneNode(docker);
  t.teardown(() => node.close());
  await node.start();
  // In the node's own network: an address would not be given twice.
  node.run('twice', { hostNetwork: true, containers: [main()] });
  await node.ready('twice');
  const [first] = await docker.listContainers({ 'reckon.dev/instance': node.instance });
  await docker.signalContainer(first?.id ?? '', 'KILL');
  await node.until('the second attempt runs', () => restarts(node.pod('twice')) === 1 && isReady(node.pod('twice')));
  await node.crash();
  // As an engine does that had lost sight of it.
  await docker.startContainer(first?.id ?? '');
  await node.start();
  const running = async () =>
    (await docker.listContainers({ 'reckon.dev/instance': node.instance })).filter(({ state }) => state === 'running');
  await node.until('one is ended', async () => (await running()).length === 1);
  t.not((await running())[0]?.id, first?.id, 'the newer one stays');
  t.ok(eventsOf(node, 'twice').some((event) => event.startsWith('DuplicateContainer: ')));
  t.equal(restarts(node.pod('twice')), 1);

  // What runs on of a container that the engine takes for ended is found where the kernel keeps it.
  const group = ['/sys/fs/cgroup/pids/docker', '/sys/fs/cgroup/docker'].find(existsSync);
  if (group === undefined) return;
  const [current] = await running();
  const orphan = spawn('sleep', ['1000'], { stdio: 'ignore' });
  const gone = once(orphan, 'exit');
  await docker.signalContainer(current?.id ?? '', 'KILL');
  const place = path.join(group, current?.id ?? '');
  mkdirSync(place, { recursive: true });
  writeFileSync(path.join(place, 'cgroup.procs'), String(orphan.pid));
  const [, signal] = await gone;
  t.equal(signal, 'SIGKILL', 'before another is started');
  await node.until('the third attempt runs', () => restarts(node.pod('twice')) === 2 && isReady(node.pod('twice')));
  rmdirSync(place);
});

t.test('the network, and an image', aside(), async (t) => {
  const node = new OneNode(docker);
  t.teardown(() => node.close());
  await node.start();
  await docker.removeNetwork(node.network);
  node.run('late', { containers: [main()] });
  const pod = await node.ready('late');
  t.ok(pod.status?.podIP, 'a network that somebody removed is made again');
  const [late] = await node.containersOf('late');
  t.match(await docker.inspectContainer(late?.id ?? ''), { address: pod.status?.podIP });
  // Parted from the network by force, a container can only begin anew.
  await parted(node.network, late?.id ?? '');
  await docker.removeNetwork(node.network);
  await node.until('it runs again', () => restarts(node.pod('late')) === 1 && isReady(node.pod('late')));
  t.equal(node.pod('late')?.status?.podIP, pod.status?.podIP, 'with its address');
  t.ok(eventsOf(node, 'late').some((event) => event.startsWith('SandboxChanged: ')));

  const image = `${node.instance}:1`;
  await engineCall('POST', `/images/${BUSYBOX_IMAGE}/tag?repo=${node.instance}&tag=1`);
  node.run('imaged', { containers: [main({ image })] });
  await node.ready('imaged');
  await engineCall('DELETE', `/images/${image}?force=1`);
  t.ok(isReady(node.pod('imaged')), 'who runs is not touched when the image goes');
  const [imaged] = await node.containersOf('imaged');
  await docker.signalContainer(imaged?.id ?? '', 'KILL');
  await node.until('an image that cannot be had again is reported', () =>
    /^(ErrImagePull|ImagePullBackOff)$/.test(
      node.pod('imaged')?.status?.containerStatuses?.[0]?.state?.waiting?.reason ?? '',
    ),
  );
});

t.test('data that is gone', aside(), async (t) => {
  const node = new OneNode(docker);
  t.teardown(() => node.close());
  await node.start();
  const handle = `${node.instance}-pv`;
  node.api.put('persistentvolumeclaims', {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'data', namespace: 'default' },
    spec: { volumeName: 'pv' },
    status: { phase: 'Bound' },
  } as ApiObject);
  const place = { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [NODE] }] };
  node.api.put('persistentvolumes', {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: 'pv' },
    spec: {
      csi: { driver: 'docker.reckon.dev', volumeHandle: handle },
      nodeAffinity: { required: { nodeSelectorTerms: [place] } },
    },
  } as ApiObject);
  const writes = (script: string) => ({
    volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }],
    containers: [main({ command: ['/bin/sh', '-c', script], volumeMounts: [{ name: 'data', mountPath: '/data' }] })],
  });
  const dataOf = () => node.api.objects.get('persistentvolumes//pv')?.metadata.annotations?.['docker.reckon.dev/data'];
  node.run('first', writes(`echo kept > /data/it; ${FOREVER}`));
  await node.ready('first');
  t.equal(dataOf(), 'made', 'before a container has it, it is noted that there is data');
  const [container] = await node.containersOf('first');
  await docker.removeContainer(container?.id ?? '', { force: true });
  await node.until(
    'the data outlives the container',
    () => restarts(node.pod('first')) === 1 && isReady(node.pod('first')),
  );
  node.markDeleted('first', 1);
  await node.until('it is gone', () => node.pod('first') === undefined);

  await docker.removeVolume(handle);
  node.run('second', writes(FOREVER));
  await node.until('it is told', () => dataOf() === 'lost');
  await node.until('by the pod as well', () =>
    eventsOf(node, 'second').some((event) => /^FailedMount: .*the data of persistentvolume "pv" is lost/.test(event)),
  );
  t.equal(await docker.inspectVolume(handle), undefined, 'nothing is put in its place');
  t.strictSame(await node.containersOf('second'), []);
  // Something of that name is not that data.
  await docker.ensureVolume(handle, { 'reckon.dev/instance': node.instance });
  node.agent.volumeNews.tell();
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.equal(dataOf(), 'lost');
  await docker.removeVolume(handle);
  const uid = node.api.objects.get('persistentvolumes//pv')?.metadata.uid ?? '';
  await docker.ensureVolume(handle, {
    'reckon.dev/instance': node.instance,
    'reckon.dev/persistent-volume-uid': uid,
  });
  node.agent.volumeNews.tell();
  await node.until('what bears its mark is', () => dataOf() === 'made');
  await node.ready('second');
  t.match((await node.containersOf('second'))[0]?.labels, {
    [CONTAINER_LABEL]: 'main',
    [POD_UID_LABEL]: node.pod('second')?.metadata.uid,
  });
});
