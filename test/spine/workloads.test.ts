/** Deployments and pods as a user of kubectl sees them, on a whole instance: roll, heal, log, exec, probe, mount, end. */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { serverAddresses } from '../harness/servers.ts';
import { claim, configMap, deployment, idle, pod, readiness, serve } from './manifests.ts';
import { IMAGE, NEXT_IMAGE, condition, isReady, startStage, until, type Json } from './stage.ts';

const stage = await startStage(t);
t.jobs = 4;
/** tap keeps its notes in the options: each test needs its own. */
const aside = () => ({ buffered: true });

const imageOf = (object: Json): string => object.spec.template.spec.containers[0].image;

t.test('a Deployment: apply, scale, a new image, its history, undo, restart, pause and resume', aside(), async (t) => {
  const space = await stage.space('rolling');
  await space.apply(deployment('web', { replicas: 1, script: serve() }));
  t.match(await space.kubectl('rollout status deployment web --timeout=40s'), /successfully rolled out/);
  t.match(await space.kubectl('get deployment web'), /web\s+1\/1\s+1\s+1/);
  await space.kubectl('scale deployment web --replicas 2');
  await space.untilRolledOut('web');
  t.equal((await space.list('pods', 'app=web')).length, 2);

  await space.kubectl(`set image deployment/web main=${NEXT_IMAGE}`);
  await space.kubectl(['annotate', 'deployment', 'web', 'kubernetes.io/change-cause=a newer image']);
  t.match(await space.kubectl('rollout status deployment web --timeout=60s'), /successfully rolled out/);
  await until('the old containers to be gone', async () => {
    const containers = await space.containers();
    return containers.length === 2 && containers.every(({ image }) => image === NEXT_IMAGE);
  });
  const history = await space.kubectl('rollout history deployment web');
  t.match(history, /^1\s+<none>$/m);
  t.match(history, /^2\s+a newer image$/m);
  t.match(await space.kubectl('rollout history deployment web --revision=1'), new RegExp(`Image:\\s+${IMAGE}`));

  t.match(await space.kubectl('rollout undo deployment web'), /rolled back/);
  await space.until('deployments', 'web', (web) => imageOf(web) === IMAGE && web.status.updatedReplicas === 2);
  await space.untilRolledOut('web');
  const sets = await space.list('replicasets');
  t.equal(sets.length, 2, 'going back uses the replica set that was there');
  t.match(await space.kubectl('rollout history deployment web'), /^3\s/m);

  const before = (await space.list('pods')).map(({ metadata }) => metadata.name);
  await space.kubectl('rollout restart deployment web');
  await space.kubectl('rollout status deployment web --timeout=60s');
  const after = (await space.list('pods')).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  t.equal(after.filter(({ metadata }) => before.includes(metadata.name)).length, 0, 'every pod is another');

  await space.kubectl('rollout pause deployment web');
  await space.kubectl(`set image deployment/web main=${NEXT_IMAGE}`);
  await space.until('deployments', 'web', (web) => web.status.observedGeneration === web.metadata.generation);
  t.equal((await space.get('deployments', 'web'))?.status.updatedReplicas ?? 0, 0, 'a paused one does not roll');
  t.equal(condition(await space.get('deployments', 'web'), 'Progressing')?.reason, 'DeploymentPaused');
  await space.kubectl('rollout resume deployment web');
  t.match(await space.kubectl('rollout status deployment web --timeout=60s'), /successfully rolled out/);

  const described = await space.kubectl('describe deployment web');
  for (const line of [
    /Replicas:\s+2 desired \| 2 updated \| 2 total \| 2 available/,
    /Available\s+True\s+MinimumReplicasAvailable/,
  ])
    t.match(described, line);
  t.match(described, /ScalingReplicaSet/);
});

t.test('Recreate never runs two versions at once', aside(), async (t) => {
  const space = await stage.space('recreate');
  const rollout = { strategy: { type: 'Recreate' } };
  await space.apply(deployment('db', { replicas: 2, rollout }));
  await space.untilRolledOut('db');
  await space.kubectl(`set image deployment/db main=${NEXT_IMAGE}`);
  let together = 0;
  await until('the new version', async () => {
    const running = (await space.containers()).filter(({ state }) => state === 'running');
    if (new Set(running.map(({ image }) => image)).size > 1) together++;
    return running.length === 2 && running.every(({ image }) => image === NEXT_IMAGE);
  });
  t.equal(together, 0);
  await space.untilRolledOut('db');
});

t.test('an image that is not there: the reason is shown and the old pods stay', aside(), async (t) => {
  const space = await stage.space('badimage');
  await space.apply(deployment('web', { replicas: 1, rollout: { progressDeadlineSeconds: 4 } }));
  await space.untilRolledOut('web');
  await space.kubectl('set image deployment/web main=127.0.0.1:1/nowhere:1');
  const broken = await until('a pod that waits for its image', async () =>
    (await space.list('pods')).find((one) => space.waitingReason(one) === 'ImagePullBackOff'),
  );
  t.match(broken.status.containerStatuses[0].state.waiting.message, /Back-off pulling image "127.0.0.1:1\/nowhere:1"/);
  t.match(await space.kubectl('get pods'), /0\/1\s+(ImagePullBackOff|ErrImagePull)/);
  const logs = await space.tryKubectl(['logs', broken.metadata.name]);
  // The one while it waits, the other right after it has tried again.
  t.match(
    logs.stderr,
    /container "main" in pod "web-.*" is waiting to start: (trying and failing to pull image|image can't be pulled)/,
  );
  t.match(
    await space.kubectl(['describe', 'pod', broken.metadata.name]),
    /BackOff .* kubelet .* Back-off pulling image/,
  );
  const told = await space.events(broken.metadata.name);
  t.ok(
    told.some((event) => /^Failed: Failed to pull image/.test(event)),
    'an event tells the registry’s answer',
  );
  const web = await space.until('deployments', 'web', (web) => condition(web, 'Progressing')?.status === 'False');
  t.equal(condition(web, 'Progressing').reason, 'ProgressDeadlineExceeded');
  t.equal(web.status.availableReplicas, 1, 'the old one goes on');
  const waited = await space.tryKubectl('rollout status deployment web --timeout=20s');
  t.not(waited.code, 0);
  t.match(waited.stderr, /exceeded its progress deadline/);
  await space.kubectl('rollout undo deployment web');
  await space.untilRolledOut('web');
});

t.test('delete in the background, the foreground and leaving orphans', aside(), async (t) => {
  const space = await stage.space('deleting');
  await space.apply(...['back', 'fore', 'lone'].map((name) => deployment(name, { replicas: 1 })));
  for (const name of ['back', 'fore', 'lone']) await space.untilRolledOut(name);
  await space.kubectl('delete deployment fore --cascade=foreground');
  t.equal((await space.list('pods', 'app=fore')).length, 0, 'kubectl returns when the last dependent is gone');
  await space.kubectl('delete deployment back --wait=false');
  await until('its pods to follow', async () => (await space.list('pods', 'app=back')).length === 0);
  await space.kubectl('delete deployment lone --cascade=orphan');
  await sleep(1_500);
  const [orphan] = await space.list('replicasets');
  t.equal(orphan?.metadata.ownerReferences?.length ?? 0, 0, 'the replica set stays, with no owner');
  t.equal((await space.list('pods', 'app=lone')).filter(isReady).length, 1);
  t.equal((await space.containers()).length, 1);
  await space.apply(deployment('lone', { replicas: 1 }));
  await space.untilRolledOut('lone');
  t.equal((await space.list('replicasets'))[0]?.metadata.uid, orphan.metadata.uid, 'a new Deployment adopts it');
});

t.test('logs: tail, since, timestamps, follow, and of the container that crashed before', aside(), async (t) => {
  const space = await stage.space('logs');
  await space.apply(
    pod('talks', {
      script: 'for i in 1 2 3 4 5; do echo line $i; done; sleep 0.5; echo oops >&2; sleep 2; echo later; sleep 600',
    }),
    pod('crashes', {
      script:
        'if [ -e /shared/again ]; then echo second life; sleep 600; fi; echo last words; touch /shared/again; exit 3',
      container: { volumeMounts: [{ name: 'shared', mountPath: '/shared' }] },
      spec: { volumes: [{ name: 'shared', emptyDir: {} }] },
    }),
  );
  await space.untilReady('talks');
  const follower = spawn(
    (await serverAddresses()).kubectl,
    ['--kubeconfig', stage.reckon.kubeconfig, '-n', space.namespace, 'logs', '-f', '--tail=1', 'talks'],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  let followed = '';
  follower.stdout.on('data', (chunk: Buffer) => (followed += chunk.toString()));
  await until('the follower to hear more', () => followed.includes('later'));
  follower.kill();
  t.match(await space.kubectl('logs talks'), /^line 1\nline 2\nline 3\nline 4\nline 5\noops\nlater\n$/);
  t.equal(await space.kubectl('logs talks --tail=1'), 'later\n');
  t.match(
    await space.kubectl('logs talks --timestamps --tail=1'),
    /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d) later\n$/,
  );
  await sleep(2_100);
  t.equal(await space.kubectl('logs talks --since=1s'), '');
  t.match(await space.kubectl('logs talks --since=10m'), /line 1/);
  await space.until('pods', 'crashes', (one) => one.status?.containerStatuses?.[0]?.restartCount === 1 && isReady(one));
  t.equal(await space.kubectl('logs crashes'), 'second life\n');
  t.equal(await space.kubectl('logs crashes -p'), 'last words\n');
  t.equal((await space.get('pods', 'crashes')).status.containerStatuses[0].lastState.terminated.exitCode, 3);
  const wrong = await space.tryKubectl('logs talks -c nosuch');
  t.match(wrong.stderr, /container nosuch is not valid for pod talks/);
});

t.test('exec: output, exit code, stdin, and a terminal', aside(), async (t) => {
  const space = await stage.space('exec');
  await space.apply(pod('box'));
  await space.untilReady('box');
  const ended = await space.tryKubectl(['exec', 'box', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7']);
  t.equal(ended.code, 7);
  t.equal(ended.stdout, 'out\n');
  t.match(ended.stderr, /^err\n/);
  t.equal(await space.kubectl(['exec', '-i', 'box', '--', 'cat'], { input: 'through and back' }), 'through and back');
  const { kubectl } = await serverAddresses();
  const command = `${kubectl} --kubeconfig ${stage.reckon.kubeconfig} -n ${space.namespace} exec -it box -- sh`;
  const terminal = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'pipe'] });
  let shown = '';
  terminal.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()));
  await until('a prompt', () => /[#$] /.test(shown), { seen: () => shown });
  terminal.stdin.write('test -t 0 && echo is-a-$((40+2))-terminal; exit 5\n');
  const code = await new Promise((resolve) => terminal.once('close', resolve));
  t.match(shown, /is-a-42-terminal/);
  t.equal(code, 5);
  const missing = await space.tryKubectl(['exec', 'box', '--', 'nosuchprogram']);
  t.not(missing.code, 0);
  t.match(missing.stdout + missing.stderr, /nosuchprogram/);
});

t.test('probes: readiness gates, liveness restarts, startup holds the others back', aside(), async (t) => {
  const space = await stage.space('probes');
  const file = (name: string): Json => ({
    exec: { command: ['test', '-e', `/tmp/${name}`] },
    periodSeconds: 1,
    timeoutSeconds: 10,
  });
  await space.apply(
    pod('gated', { container: { readinessProbe: { ...file('ready'), failureThreshold: 1 } } }),
    pod('mortal', {
      script: `touch /tmp/alive; ${idle}`,
      container: { livenessProbe: { ...file('alive'), failureThreshold: 2 } },
    }),
    pod('slow', {
      script: `(sleep 3; touch /tmp/up) & ${idle}`,
      container: { startupProbe: { ...file('up'), failureThreshold: 30 }, livenessProbe: file('up') },
    }),
    pod('web', { script: serve(), container: { readinessProbe: readiness } }),
  );
  await space.until('pods', 'gated', (one) => one.status?.phase === 'Running');
  await sleep(1_500);
  t.notOk(isReady(await space.get('pods', 'gated')), 'running, and not ready before its probe says so');
  t.match(await space.kubectl('get pod gated'), /0\/1\s+Running/);
  await space.exec('gated', 'touch /tmp/ready');
  await space.untilReady('gated', { timeoutMs: 8_000 });
  await space.exec('gated', 'rm /tmp/ready');
  await space.until('pods', 'gated', (one) => !isReady(one), { timeoutMs: 8_000 });
  t.equal((await space.get('pods', 'gated')).status.containerStatuses[0].restartCount, 0);

  await space.untilReady('mortal');
  await space.exec('mortal', 'rm /tmp/alive');
  const reborn = await space.until(
    'pods',
    'mortal',
    (one) => one.status.containerStatuses[0].restartCount === 1 && isReady(one),
  );
  t.ok(reborn.status.containerStatuses[0].lastState.terminated, 'its former life is told');
  const told = await space.events('mortal');
  t.ok(told.some((event) => /^Unhealthy: Liveness probe failed/.test(event)));
  t.ok(told.some((event) => /^Killing: .*failed liveness probe, will be restarted/.test(event)));

  const slow = await space.untilReady('slow');
  t.equal(slow.status.containerStatuses[0].restartCount, 0, 'liveness waits for startup');
  await space.untilReady('web');
});

t.test(
  'init containers, environment, and the reason while something that is referred to is missing',
  aside,
  async (t) => {
    const space = await stage.space('env');
    const env = [
      { name: 'PLAIN', value: 'a $(COLOUR) b $$(COLOUR)' },
      { name: 'COLOUR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'colour' } } },
      { name: 'LATER', value: 'is $(COLOUR)' },
      { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 'hidden', key: 'password' } } },
      { name: 'NONE', valueFrom: { configMapKeyRef: { name: 'settings', key: 'none', optional: true } } },
      { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
      { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      { name: 'LIMIT', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } } },
    ];
    const volumeMounts = [{ name: 'work', mountPath: '/work' }];
    await space.apply(
      pod('reads', {
        container: {
          env,
          envFrom: [{ prefix: 'ALL_', configMapRef: { name: 'settings' } }],
          resources: { limits: { memory: '32Mi' } },
          volumeMounts,
        },
        spec: {
          initContainers: [
            { name: 'first', image: IMAGE, command: ['sh', '-c', 'echo one > /work/steps'], volumeMounts },
            { name: 'second', image: IMAGE, command: ['sh', '-c', 'sleep 1; echo two >> /work/steps'], volumeMounts },
          ],
          volumes: [{ name: 'work', emptyDir: {} }],
        },
      }),
    );
    const held = await space.until(
      'pods',
      'reads',
      (one) =>
        space.waitingReason(one) !== undefined &&
        one.status.initContainerStatuses?.[1]?.state.terminated?.exitCode === 0,
    );
    t.ok(held);
    await space.until('pods', 'reads', (one) => space.waitingReason(one) === 'CreateContainerConfigError');
    t.match(await space.kubectl('describe pod reads'), /configmap "settings" not found/);
    await space.apply(configMap('settings', { colour: 'blue' }), {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'hidden' },
      stringData: { password: 's3cret' },
    });
    const ready = await space.untilReady('reads');
    t.ok(ready.status.initContainerStatuses.every(({ state }: Json) => state.terminated.reason === 'Completed'));
    const printed = await space.exec('reads', 'env; cat /work/steps');
    for (const line of [
      'PLAIN=a $(COLOUR) b $(COLOUR)',
      'COLOUR=blue',
      'LATER=is blue',
      'PASSWORD=s3cret',
      'POD=reads',
      `IP=${ready.status.podIP}`,
      'LIMIT=32',
      'ALL_colour=blue',
      'one',
      'two',
    ])
      t.ok(printed.split('\n').includes(line), line);
    t.notMatch(printed, /^NONE=/m);
  },
);

t.test('volumes: of the pod, of the node, of a ConfigMap that changes, of a Secret', aside(), async (t) => {
  const space = await stage.space('volumes');
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-host-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  await writeFile(path.join(folder, 'from-host'), 'hello from the host');
  const mounts = ['scratch', 'host', 'config', 'secret', 'downward'].map((name) => ({ name, mountPath: `/${name}` }));
  await space.apply(
    configMap('settings', { 'a.conf': 'one', 'b.conf': 'other' }),
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'hidden' }, stringData: { key: 'k' } },
    pod('mounts', {
      script: `echo kept > /scratch/file; ${idle}`,
      container: { volumeMounts: mounts },
      spec: {
        volumes: [
          { name: 'scratch', emptyDir: {} },
          { name: 'host', hostPath: { path: folder, type: 'Directory' } },
          { name: 'config', configMap: { name: 'settings' } },
          { name: 'secret', secret: { secretName: 'hidden', defaultMode: 0o400 } },
          {
            name: 'downward',
            downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] },
          },
        ],
      },
    }),
  );
  await space.untilReady('mounts');
  t.equal(await space.exec('mounts', 'cat /host/from-host; echo back > /host/from-pod'), 'hello from the host');
  t.equal(await readFile(path.join(folder, 'from-pod'), 'utf8'), 'back\n');
  t.equal(await space.exec('mounts', 'cat /config/a.conf /config/b.conf /secret/key'), 'oneotherk');
  t.match(await space.exec('mounts', 'cat /downward/labels'), /app="mounts"/);
  t.match(await space.exec('mounts', 'stat -L -c %a /secret/key'), /^400$/m);
  await space.apply(configMap('settings', { 'a.conf': 'two' }));
  await until('the new content', async () => (await space.exec('mounts', 'cat /config/*')) === 'two', { everyMs: 500 });
  const first = await space.containerOf('mounts');
  await stage.runtime.signalContainer(first.id, 'KILL');
  await space.until('pods', 'mounts', (one) => one.status.containerStatuses[0].restartCount === 1 && isReady(one));
  t.equal(await space.exec('mounts', 'cat /scratch/file'), 'kept\n', 'an emptyDir outlives its container');
});

t.test('claims: data outlives pods and Deployments; Delete removes the volume, Retain keeps it', aside(), async (t) => {
  const space = await stage.space('claims');
  const retaining = `retain-${space.namespace}`;
  await space.apply(
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: retaining },
      provisioner: 'docker.reckon.dev',
      reclaimPolicy: 'Retain',
    },
    claim('data'),
    claim('kept', retaining),
  );
  const withClaims = deployment('db', {
    replicas: 1,
    script: `echo life >> /data/lives; echo life >> /kept/lives; ${idle}`,
    container: { volumeMounts: ['data', 'kept'].map((name) => ({ name, mountPath: `/${name}` })) },
    spec: { volumes: ['data', 'kept'].map((name) => ({ name, persistentVolumeClaim: { claimName: name } })) },
    rollout: { strategy: { type: 'Recreate' } },
  });
  await space.apply(withClaims);
  await space.untilRolledOut('db');
  const volumes = await Promise.all(
    ['data', 'kept'].map(async (name) => (await space.get('persistentvolumeclaims', name))?.spec.volumeName as string),
  );
  t.match(await space.kubectl('get pvc data'), /data\s+Bound/);
  await space.kubectl('delete pod -l app=db');
  await space.untilRolledOut('db');
  await space.kubectl('delete deployment db');
  await until('its containers to be gone', async () => (await space.containers()).length === 0);
  await space.apply(withClaims);
  await space.untilRolledOut('db');
  const [alive] = (await space.list('pods')).filter(isReady);
  t.equal(await space.exec(alive.metadata.name, 'cat /data/lives'), 'life\nlife\nlife\n');
  await space.kubectl('delete pvc data --wait=false');
  await sleep(500);
  t.equal((await space.get('persistentvolumeclaims', 'data'))?.status.phase, 'Bound', 'a claim in use is kept');
  await space.kubectl('delete deployment db --cascade=foreground');
  await space.untilGone('persistentvolumeclaims', 'data');
  await space.kubectl('delete pvc kept');
  const [removed = '', kept = ''] = volumes;
  await space.untilGone('persistentvolumes', removed);
  const released = await space.until('persistentvolumes', kept, (volume) => volume.status?.phase === 'Released');
  t.equal(released.spec.persistentVolumeReclaimPolicy, 'Retain');
  const onNode = await stage.volumes();
  const nameOf = (volume: string): boolean => onNode.some((name) => name.includes(volume));
  t.notOk(nameOf(removed), 'Delete: the engine’s volume is gone');
  t.ok(nameOf(kept), 'Retain: the engine’s volume stays');
});

t.test('containers of a pod share its network', aside(), async (t) => {
  const space = await stage.space('pairs');
  await space.apply(
    pod('pair', {
      script: serve('from beside'),
      spec: { containers: [{ name: 'other', image: IMAGE, command: ['sh', '-c', idle] }] },
    }),
  );
  const ready = await space.untilReady('pair');
  t.match(await space.kubectl('get pod pair'), /2\/2\s+Running/);
  const ask = ['exec', 'pair', '-c', 'other', '--', 'wget', '-q', '-O', '-', 'http://127.0.0.1:8080/'];
  t.equal(await space.kubectl(ask), 'from beside\n');
  const address = await space.kubectl(['exec', 'pair', '-c', 'other', '--', 'hostname', '-i']);
  t.equal(address.trim(), ready.status.podIP);
  const before = await space.containerOf('pair', 'other');
  await stage.runtime.signalContainer((await space.containerOf('pair', 'main')).id, 'KILL');
  await space.until(
    'pods',
    'pair',
    (one) => isReady(one) && one.status.containerStatuses.some((s: Json) => s.restartCount === 1),
  );
  t.equal((await space.containerOf('pair', 'other')).id, before.id, 'the other container is left alone');
  t.equal(await space.kubectl(ask), 'from beside\n');
});

t.test('ends: crash loops, out of memory, done and failed, graceful', aside(), async (t) => {
  const space = await stage.space('ends');
  const never = { restartPolicy: 'Never' };
  await space.apply(
    pod('loops', { script: 'exit 4' }),
    pod('greedy', {
      script: 'x=a; while :; do x=$x$x$x$x; done',
      container: { resources: { limits: { memory: '16Mi' } } },
      spec: never,
    }),
    pod('done', { script: 'echo result; exit 0', spec: never }),
    pod('fails', { script: 'echo why > /dev/termination-log; exit 9', spec: never }),
    pod('tries', {
      script: '[ -e /s/x ] && exit 0; touch /s/x; exit 1',
      container: { volumeMounts: [{ name: 's', mountPath: '/s' }] },
      spec: { restartPolicy: 'OnFailure', volumes: [{ name: 's', emptyDir: {} }] },
    }),
    pod('tidy', {
      script: "trap 'sleep 2; echo tidied > /s/tidied; exit 0' TERM; while :; do sleep 1; done",
      container: { volumeMounts: [{ name: 's', mountPath: '/s' }] },
      spec: { terminationGracePeriodSeconds: 300, volumes: [{ name: 's', persistentVolumeClaim: { claimName: 's' } }] },
    }),
    claim('s'),
    pod('deaf', { script: "trap '' TERM; while :; do sleep 1; done", spec: { terminationGracePeriodSeconds: 1 } }),
  );
  const looping = await space.until('pods', 'loops', (one) => space.waitingReason(one) === 'CrashLoopBackOff');
  t.match(looping.status.containerStatuses[0].state.waiting.message, /^back-off 10s restarting failed container=main/);
  t.equal(looping.status.containerStatuses[0].lastState.terminated.exitCode, 4);
  t.match(await space.kubectl('get pod loops'), /0\/1\s+CrashLoopBackOff\s+[1-9]/);
  t.ok((await space.events('loops')).some((event) => /^BackOff: Back-off restarting failed container/.test(event)));

  const greedy = await space.until(
    'pods',
    'greedy',
    (one) => one.status?.containerStatuses?.[0]?.state?.terminated?.reason === 'OOMKilled',
  );
  t.equal(greedy.status.phase, 'Failed');
  t.match(await space.kubectl('get pod greedy'), /OOMKilled/);

  await space.until('pods', 'done', (one) => one.status?.phase === 'Succeeded');
  t.match(await space.kubectl('get pod done'), /0\/1\s+Completed/);
  t.equal(await space.kubectl('logs done'), 'result\n');
  const failed = await space.until('pods', 'fails', (one) => one.status?.phase === 'Failed');
  t.match(failed.status.containerStatuses[0].state.terminated, { exitCode: 9, reason: 'Error', message: 'why\n' });
  const tried = await space.until('pods', 'tries', (one) => one.status?.phase === 'Succeeded');
  t.equal(tried.status.containerStatuses[0].restartCount, 1);

  await space.untilReady('tidy');
  await t.resolves(space.kubectl('delete pod tidy'), 'it does not wait out a grace that nobody needs');
  await space.apply(
    pod('looks', {
      script: `cat /s/tidied; ${idle}`,
      container: { volumeMounts: [{ name: 's', mountPath: '/s' }] },
      spec: { volumes: [{ name: 's', persistentVolumeClaim: { claimName: 's' } }] },
    }),
  );
  await space.untilReady('looks');
  t.equal(await space.kubectl('logs looks'), 'tidied\n', 'the handler of TERM was let finish');
  await space.untilReady('deaf');
  await t.resolves(space.kubectl('delete pod deaf'), 'one that does not listen is killed');
  await space.kubectl('delete pod loops --force --grace-period=0');
  await until('no container of the deleted pods', async () =>
    (await space.containers()).every(
      ({ labels }) => !['tidy', 'deaf', 'loops'].includes(labels['reckon.dev/pod-name'] ?? ''),
    ),
  );
});

t.test('pods that fit nowhere say why, and start when they fit', aside(), async (t) => {
  const space = await stage.space('pending');
  const label = `zone-${space.namespace}`;
  await space.apply(
    pod('elsewhere', { spec: { nodeSelector: { [label]: 'here' } } }),
    pod('huge', { container: { resources: { requests: { cpu: '1000' } } } }),
  );
  const pending = await space.until('pods', 'elsewhere', (one) => condition(one, 'PodScheduled')?.status === 'False');
  t.equal(condition(pending, 'PodScheduled').reason, 'Unschedulable');
  t.match(
    condition(pending, 'PodScheduled').message,
    /0\/1 nodes are available: 1 node\(s\) didn't match Pod's node affinity\/selector/,
  );
  const huge = await space.until('pods', 'huge', (one) => condition(one, 'PodScheduled')?.status === 'False');
  t.match(condition(huge, 'PodScheduled').message, /0\/1 nodes are available: 1 Insufficient cpu/);
  t.match(await space.kubectl('get pods'), /huge\s+0\/1\s+Pending/);
  await space.kubectl(`label node ${stage.reckon.instance.settings.nodeName} ${label}=here`);
  await space.untilReady('elsewhere');
});

t.test('host ports', aside(), async (t) => {
  const space = await stage.space('hostport');
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  const hostPort = typeof address === 'object' && address !== null ? address.port : 0;
  await new Promise((resolve) => server.close(resolve));
  await space.apply(
    pod('shown', {
      script: serve('on the host'),
      container: { ports: [{ containerPort: 8080, hostPort }], readinessProbe: readiness },
    }),
  );
  await space.untilReady('shown');
  t.equal(await (await fetch(`http://127.0.0.1:${hostPort}/`)).text(), 'on the host\n');
  await space.apply(pod('second', { container: { ports: [{ containerPort: 8080, hostPort }] } }));
  const second = await space.until('pods', 'second', (one) => condition(one, 'PodScheduled')?.status === 'False');
  t.match(condition(second, 'PodScheduled').message, /didn't have free ports for the requested pod ports/);
  await space.kubectl('delete pod shown');
  await space.untilReady('second');
});

t.test('kubectl run, expose, wait, top of the list', aside(), async (t) => {
  const space = await stage.space('words');
  await space.kubectl(`create deployment quick --image=${IMAGE} --replicas=2`);
  t.match(await space.kubectl('wait deployment/quick --for=condition=Available --timeout=40s'), /condition met/);
  await space.kubectl(`run single --image=${IMAGE} --restart=Never --port=8080`);
  t.match(await space.kubectl('wait pod/single --for=condition=Ready --timeout=40s'), /condition met/);
  await space.kubectl('expose deployment quick --port=80 --target-port=8080');
  t.match(await space.kubectl('get service quick'), /quick\s+ClusterIP\s+10\./);
  t.match(await space.kubectl('get all'), /deployment\.apps\/quick/);
  await space.kubectl('delete deployment,service --all');
  // A shorter grace holds for pods that are ending already.
  await space.kubectl('delete pods --all --grace-period=1');
  await until('everything to be gone', async () => (await space.containers()).length === 0);
});
