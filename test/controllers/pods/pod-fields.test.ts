/** What users write into pods, field by field, on a real engine: volumes in part, memory, users and rights, namespaces, probes of every kind, hooks, sidecars. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import type { ApiObject } from '../../../api-schemas/schema.ts';
import type { Container, Pod } from '../../../api-schemas/types/core-v1.ts';
import { tryProbe } from '../../../controllers/pods/probing.ts';
import { PodFolders } from '../../../controllers/pods/volumes/pod-folder.ts';
import { prepareVolume } from '../../../controllers/pods/volumes/prepare-volumes.ts';
import { DockerRuntime } from '../../../runtime/docker/docker-runtime.ts';
import { serverAddresses } from '../../harness/servers.ts';
import { BUSYBOX_IMAGE, ensureBusyboxImage } from '../../runtime/busybox-image.ts';
import { OneNode } from './one-node.ts';

t.setTimeout(600_000);
// Most of it is waiting.
t.jobs = 4;
/** tap keeps its notes in the options: each test needs its own. */
const aside = () => ({ buffered: true, timeout: 120_000 });
const { dockerHost, busybox } = await serverAddresses();
const docker = new DockerRuntime({ socketPath: new URL(dockerHost).pathname });
await ensureBusyboxImage(docker, busybox);

const FOREVER = 'trap "exit 0" TERM; while true; do sleep 0.1; done';
const sh = (script: string, more: Partial<Container> = {}): Container => ({
  name: 'main',
  image: BUSYBOX_IMAGE,
  imagePullPolicy: 'IfNotPresent',
  command: ['/bin/sh', '-c', script],
  ...more,
});
const statusOf = (pod: Pod | undefined, name = 'main') =>
  [...(pod?.status?.containerStatuses ?? []), ...(pod?.status?.initContainerStatuses ?? [])].find(
    (found) => found.name === name,
  );

async function nodeFor(t: { teardown(work: () => Promise<void>): void }): Promise<OneNode> {
  const node = new OneNode(docker);
  t.teardown(() => node.close());
  await node.start();
  return node;
}

async function inside(node: OneNode, pod: string, script: string, container = 'main'): Promise<string> {
  const found = (await node.containersOf(pod)).find(
    ({ name, state }) => state === 'running' && name.startsWith(`reckon_${container}_`),
  );
  const session = await docker.exec(found?.id ?? '', { command: ['/bin/sh', '-c', `{ ${script}; } 2>&1`] });
  let text = '';
  for await (const chunk of session.stdout) text += String(chunk);
  return text.trim();
}

const configMap = (data: Record<string, string>) =>
  ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'cfg', namespace: 'default' }, data }) as ApiObject;

t.test('volumes', aside(), async (t) => {
  const node = await nodeFor(t);
  node.api.put('configmaps', configMap({ color: 'blue', shape: 'round' }));
  const folder = mkdtempSync(path.join(tmpdir(), 'reckon-fields-'));
  chmodSync(folder, 0o755);
  t.teardown(() => rmSync(folder, { recursive: true }));
  node.run(
    'volumes',
    {
      containers: [
        sh(FOREVER, {
          env: [{ name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
          volumeMounts: [
            { name: 'cfg', mountPath: '/cfg' },
            { name: 'cfg', mountPath: '/etc/color', subPath: 'color' },
            { name: 'memory', mountPath: '/memory' },
            { name: 'host', mountPath: '/logs', subPathExpr: 'of-$(POD)' },
            { name: 'down', mountPath: '/down' },
          ],
        }),
      ],
      volumes: [
        { name: 'cfg', configMap: { name: 'cfg', defaultMode: 0o440 } },
        { name: 'memory', emptyDir: { medium: 'Memory', sizeLimit: '8Mi' } },
        { name: 'host', hostPath: { path: folder } },
        {
          name: 'down',
          downwardAPI: {
            items: [
              { path: 'tier', fieldRef: { fieldPath: "metadata.labels['tier']" } },
              {
                path: 'memory',
                resourceFieldRef: { containerName: 'main', resource: 'requests.memory', divisor: '1Mi' },
              },
            ],
          },
        },
      ],
    },
    { labels: { tier: 'front' } },
  );
  await node.ready('volumes');
  t.equal(
    await inside(node, 'volumes', 'cat /cfg/color /etc/color /down/tier; stat -Lc %a /cfg/color'),
    'blueblue' + 'front440',
  );
  t.match(await inside(node, 'volumes', 'df -m /memory | tail -1'), /^tmpfs +8 /, 'memory with a limit');
  await inside(node, 'volumes', 'echo here > /logs/log');
  t.equal(readFileSync(path.join(folder, 'of-volumes', 'log'), 'utf8'), 'here\n');
  node.api.put('configmaps', configMap({ color: 'green' }));
  const pod = node.pod('volumes') as Pod;
  node.api.put('pods', { ...pod, metadata: { ...pod.metadata, labels: { tier: 'back' } } } as unknown as ApiObject);
  await node.until('a running pod sees what changes', async () => {
    const seen = await inside(node, 'volumes', 'cat /cfg/color /etc/color /down/tier; ls /cfg');
    return seen === 'greenblueback' + 'color';
  });
  node.markDeleted('volumes', 1);
  await node.until('it is gone', () => node.pod('volumes') === undefined);
  t.notMatch(readFileSync('/proc/mounts', 'utf8'), node.home, 'and its memory given back');
});

t.test('users and rights', aside(), async (t) => {
  const node = await nodeFor(t);
  node.run('strict', {
    securityContext: {
      supplementalGroups: [3000],
      sysctls: [{ name: 'net.ipv4.ip_unprivileged_port_start', value: '81' }],
    },
    containers: [
      sh(FOREVER, {
        securityContext: {
          runAsUser: 1000,
          runAsGroup: 1001,
          runAsNonRoot: true,
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
          seccompProfile: { type: 'Unconfined' },
        },
      }),
    ],
  });
  node.run('mighty', {
    containers: [sh(FOREVER, { securityContext: { capabilities: { add: ['NET_ADMIN'], drop: ['CHOWN'] } } })],
  });
  node.run('root', { containers: [sh(FOREVER, { securityContext: { runAsNonRoot: true } })] });
  await node.ready('strict');
  t.match(await inside(node, 'strict', 'id'), /uid=1000\S* gid=1001\S* groups=.*\b3000\b/);
  t.match(await inside(node, 'strict', 'touch /x'), /Read-only file system/);
  t.match(
    await inside(
      node,
      'strict',
      'grep -E "CapEff|NoNewPrivs|Seccomp:" /proc/self/status; cat /proc/sys/net/ipv4/ip_unprivileged_port_start',
    ),
    /CapEff:\s+0000000000000000\s+NoNewPrivs:\s+1\s+Seccomp:\s+0\s+81/,
  );
  await node.ready('mighty');
  t.match(
    await inside(node, 'mighty', 'touch /tmp/x; chown 5 /tmp/x; ip link set lo down && echo down'),
    /not permitted\s+down/,
  );
  await node.until(
    'what may not run as root says so',
    () =>
      statusOf(node.pod('root'))?.state?.waiting?.reason === 'CreateContainerConfigError' &&
      /runAsNonRoot and image will run as root/.test(statusOf(node.pod('root'))?.state?.waiting?.message ?? ''),
  );
  await node.until('and an event says it', () =>
    node.api.events.some(({ message, about }) => about === 'root' && /^Error: .* run as root/.test(message)),
  );
});

t.test('namespaces', aside(), async (t) => {
  const node = await nodeFor(t);
  node.run('shared', {
    shareProcessNamespace: true,
    hostname: 'named',
    subdomain: 'sub',
    containers: [sh(FOREVER), sh('exec sleep 4242', { name: 'other' })],
  });
  node.run('host', { hostNetwork: true, hostPID: true, containers: [sh(FOREVER)] });
  await node.ready('shared');
  t.match(
    await inside(node, 'shared', 'ps; hostname; hostname -f'),
    /sleep 4242[^]*named\s+named\.sub\.default\.svc\.cluster\.local/,
  );
  const host = await node.ready('host');
  t.equal(host.status?.podIP, host.status?.hostIP);
  t.match(await inside(node, 'host', 'ps'), new RegExp(`\\b${process.pid}\\b`), 'the processes of the node');
});

t.test('probes and hooks', aside(), async (t) => {
  const node = await nodeFor(t);
  const web = 'mkdir -p /www; echo ok > /www/well; httpd -p 8080 -h /www;';
  const port = { ports: [{ name: 'web', containerPort: 8080 }] };
  const often = { periodSeconds: 1, failureThreshold: 1 };
  node.run('asked', {
    containers: [
      sh(`${web} ${FOREVER}`, {
        ...port,
        startupProbe: { tcpSocket: { port: 'web' }, periodSeconds: 1, failureThreshold: 30 },
        livenessProbe: {
          httpGet: { port: 'web', path: '/well', httpHeaders: [{ name: 'X-A', value: 'b' }] },
          ...often,
        },
        readinessProbe: { exec: { command: ['test', '-e', '/www/well'] }, ...often },
        lifecycle: {
          postStart: { exec: { command: ['/bin/sh', '-c', 'echo begun > /tmp/begun'] } },
          preStop: { sleep: { seconds: 1 } } as never,
        },
      }),
    ],
  });
  node.run('unfit', { containers: [sh(FOREVER, { lifecycle: { postStart: { exec: { command: ['false'] } } } })] });
  node.run('wordy', {
    restartPolicy: 'Never',
    containers: [sh('echo the reason; exit 3', { terminationMessagePolicy: 'FallbackToLogsOnError' })],
  });
  await node.ready('asked');
  t.equal(await inside(node, 'asked', 'cat /tmp/begun'), 'begun');
  await inside(node, 'asked', 'rm /www/well');
  await node.until('a page that is not there is a failed probe', () => statusOf(node.pod('asked'))?.restartCount === 1);
  t.ok(
    node.api.events.some(({ message }) =>
      /Liveness probe failed: HTTP probe failed with statuscode: 404/.test(message),
    ),
  );
  await node.until(
    'a container whose hook fails is started again',
    () => (statusOf(node.pod('unfit'))?.restartCount ?? 0) >= 1,
  );
  t.ok(node.api.events.some(({ reason, about }) => reason === 'FailedPostStartHook' && about === 'unfit'));
  await node.until('the end of its log is its last word', () => node.pod('wordy')?.status?.phase === 'Failed');
  t.equal(statusOf(node.pod('wordy'))?.state?.terminated?.message, 'the reason\n');

  // Health by gRPC, of a server of this test's own.
  let serving = 1;
  const server = http2.createServer((request, response) => {
    request.resume();
    response.writeHead(200, { 'content-type': 'application/grpc' });
    response.end(Buffer.from([0, 0, 0, 0, 2, 0x08, serving]));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => void server.close());
  const target = { runtime: docker, containerId: '', container: sh(''), address: '127.0.0.1', timeoutMs: 5_000 };
  const grpc = { grpc: { port: (server.address() as AddressInfo).port, service: 'any' } };
  t.match(await tryProbe(grpc, target), { success: true });
  serving = 2;
  t.match(await tryProbe(grpc, target), { success: false, message: /unhealthy/ });
});

t.test('sidecars', aside(), async (t) => {
  const node = await nodeFor(t);
  node.run('job', {
    restartPolicy: 'Never',
    initContainers: [
      sh(`touch /shared/up; ${FOREVER}`, {
        name: 'helper',
        restartPolicy: 'Always',
        startupProbe: { exec: { command: ['test', '-e', '/shared/up'] }, periodSeconds: 1 },
        volumeMounts: [{ name: 'shared', mountPath: '/shared' }],
      }),
      sh('test -e /shared/up', { name: 'check', volumeMounts: [{ name: 'shared', mountPath: '/shared' }] }),
    ],
    containers: [
      sh('test -e /shared/up; until test -e /shared/done; do sleep 0.1; done', {
        volumeMounts: [{ name: 'shared', mountPath: '/shared' }],
      }),
    ],
    volumes: [{ name: 'shared', emptyDir: {} }],
  });
  await node.until('it runs beside its helper', () => statusOf(node.pod('job'))?.state?.running !== undefined);
  t.match(statusOf(node.pod('job'), 'helper'), { started: true, ready: true, state: { running: {} } });
  const helper = (await node.containersOf('job')).find(({ name }) => name.startsWith('reckon_helper_'));
  await docker.signalContainer(helper?.id ?? '', 'KILL');
  await node.until(
    'a helper that dies is started again',
    () => statusOf(node.pod('job'), 'helper')?.restartCount === 1,
  );
  await inside(node, 'job', 'touch /shared/done');
  await node.until(
    'the work is done though the helper would go on',
    () => node.pod('job')?.status?.phase === 'Succeeded',
  );
  await node.until('and it is ended', async () =>
    (await node.containersOf('job')).every(({ state }) => state !== 'running'),
  );
});

t.test('paths of the machine, of each type', aside(), async (t) => {
  const home = mkdtempSync(path.join(tmpdir(), 'reckon-paths-'));
  t.teardown(() => rmSync(home, { recursive: true }));
  const folders = new PodFolders(home);
  const engineVolume = () => Promise.reject(new Error('no path is a volume of the engine'));
  mkdirSync(path.join(home, 'folder'));
  writeFileSync(path.join(home, 'file'), 'kept');
  const at = { folder: 'folder', file: 'file', nothing: 'a/b', 'nothing in a folder': 'folder/new' };
  // What is there afterwards; undefined where the pod has to wait.
  const cases: [type: string, where: keyof typeof at, then: 'folder' | 'file' | undefined][] = [
    ['', 'nothing', 'folder'],
    ['', 'file', 'file'],
    ['Directory', 'folder', 'folder'],
    ['Directory', 'file', undefined],
    ['Directory', 'nothing', undefined],
    ['DirectoryOrCreate', 'nothing', 'folder'],
    ['DirectoryOrCreate', 'file', undefined],
    ['File', 'file', 'file'],
    ['File', 'folder', undefined],
    ['File', 'nothing', undefined],
    ['FileOrCreate', 'nothing in a folder', 'file'],
    ['FileOrCreate', 'nothing', undefined],
    ['FileOrCreate', 'file', 'file'],
    ['FileOrCreate', 'folder', undefined],
    ['Socket', 'file', undefined],
    ['CharDevice', 'nothing', undefined],
    ['BlockDevice', 'folder', undefined],
  ];
  for (const [type, where, then] of cases) {
    const place = path.join(home, at[where]);
    const source = { kind: 'path', path: place, type, readOnly: false } as const;
    const prepared = prepareVolume('v', source, { uid: 'u', folders, engineVolume });
    const says = `${type} at ${where}`;
    if (then === undefined) await t.rejects(prepared, { message: /^hostPath type check failed: / }, says);
    else {
      await prepared;
      t.equal(statSync(place).isDirectory() ? 'folder' : 'file', then, says);
    }
    for (const made of ['a', 'folder/new']) rmSync(path.join(home, made), { recursive: true, force: true });
  }
  t.equal(readFileSync(path.join(home, 'file'), 'utf8'), 'kept');
});
