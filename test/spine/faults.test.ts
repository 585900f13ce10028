/** What a whole instance outlives: killed containers and killed processes. `npm run prove -- faults` goes on for long. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { applyRolling, disturbRollout, killEverything, killProcesses, PROCESSES } from './faults.ts';
import { claim, deployment, idle, pod } from './manifests.ts';
import { isReady, startStage, until, type Json } from './stage.ts';

const stage = await startStage(t);

const restarts = (object: Json): number => object.status?.containerStatuses?.[0]?.restartCount ?? 0;

t.test('containers killed or taken away behind our back are replaced; data that is gone is told', async (t) => {
  const space = await stage.space('heal');
  await space.apply(
    deployment('web', { replicas: 2 }),
    claim('data'),
    pod('mount', {
      container: { volumeMounts: [{ name: 'data', mountPath: '/data' }] },
      spec: { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }] },
    }),
    pod('pair', { spec: { containers: [{ name: 'other', image: 'reckon-hello:1', command: ['sh', '-c', idle] }] } }),
  );
  await space.untilRolledOut('web');
  await space.untilReady('mount');
  await space.untilReady('pair');
  const [first, second] = (await space.list('pods', 'app=web')).map(({ metadata }) => metadata.name as string);
  const killed = await space.containerOf(first ?? '');
  await stage.runtime.signalContainer(killed.id, 'KILL');
  const inside = await space.containerOf(second ?? '');
  process.kill(inside.processId, 'SIGKILL');
  for (const name of [first ?? '', second ?? '']) {
    const back = await space.until('pods', name, (one) => restarts(one) === 1 && isReady(one));
    t.equal(back.status.containerStatuses[0].lastState.terminated.exitCode, 137, `${name} tells how it ended`);
  }
  // The second time at once is a crash loop.
  process.kill((await space.containerOf(second ?? '')).processId, 'SIGKILL');
  await space.until('pods', second ?? '', (one) => space.waitingReason(one) === 'CrashLoopBackOff');

  const taken = await space.containerOf(first ?? '');
  await stage.runtime.removeContainer(taken.id, { force: true });
  await space.until('pods', first ?? '', (one) => restarts(one) === 2 && isReady(one));
  t.not((await space.containerOf(first ?? '')).id, taken.id);

  // The sandbox holds the network of both containers: they cannot go on without it.
  const [sandbox] = await stage.runtime.listContainers({
    'reckon.dev/pod-namespace': space.namespace,
    'reckon.dev/role': 'sandbox',
  });
  const address = (await space.get('pods', 'pair')).status.podIP;
  await stage.runtime.removeContainer(sandbox?.id ?? '', { force: true });
  await space.until(
    'pods',
    'pair',
    (one) => isReady(one) && one.status.containerStatuses.every((s: Json) => s.restartCount >= 1),
  );
  t.equal((await space.get('pods', 'pair')).status.podIP, address, 'a pod keeps its address');

  // Data that is gone is told, and never looks as if it had been empty; a person decides what next.
  await space.kubectl('delete pod mount');
  const { spec } = (await space.get('persistentvolumeclaims', 'data')) as Json;
  const volume = (await stage.volumes()).find((name) => name.includes(spec.volumeName)) ?? '';
  await stage.runtime.removeVolume(volume);
  await space.until('persistentvolumeclaims', 'data', ({ status }) => status.phase === 'Lost');
  const failed = await space.until('persistentvolumes', spec.volumeName, ({ status }) => status.phase === 'Failed');
  t.match(failed.status, { reason: 'DataLost', message: new RegExp(volume) });
  t.ok(
    (await space.events('data')).some((event) => event.startsWith('ClaimLost: ')),
    'the claim says so in an event',
  );
  await space.apply(
    pod('mount', {
      container: { volumeMounts: [{ name: 'data', mountPath: '/data' }] },
      spec: { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }] },
    }),
  );
  await until('the pod to say so', async () =>
    (await space.events('mount')).some((event) => /has lost the data/.test(event)),
  );
  t.notOk((await stage.volumes()).includes(volume), 'nothing is put in its place by itself');
  await space.kubectl(`annotate persistentvolume ${spec.volumeName} docker.reckon.dev/data-`);
  await space.untilReady('mount');
  t.equal((await space.get('persistentvolumeclaims', 'data')).status.phase, 'Bound');
  t.notOk((await space.get('persistentvolumes', spec.volumeName)).status.reason, 'and nothing of it is said any more');
  await space.kubectl('delete pod pair mount');
  await space.kubectl('delete deployment web --cascade=foreground');
  await until('nothing to be left', async () => (await space.containers()).length === 0);
});

/** So many are killed alone, others at every run; `npm run prove` kills each. */
const KILLED_ALONE = 2;

t.test('kill -9 in mid-rollout', async (t) => {
  const space = await stage.space('kills');
  await applyRolling(space);
  const shuffled = PROCESSES.map((name) => ({ name, place: Math.random() })).sort((a, b) => a.place - b.place);
  for (const { name } of shuffled.slice(0, KILLED_ALONE)) {
    const { faults, testimony, writing } = await disturbRollout(space, async () => {
      await sleep(Math.random() * 1_500);
      await killProcesses(space, [name]);
    });
    t.same(faults, [], name);
    t.ok(
      testimony.apiSamples > 0 && testimony.engineSamples > 0 && writing.acknowledged > 0,
      `${name}: somebody looked`,
    );
    t.comment(name, JSON.stringify({ ...testimony, ...writing }));
  }
  const all = await disturbRollout(space, async () => {
    await sleep(500);
    await killProcesses(space, PROCESSES);
  });
  t.same(all.faults, [], 'all at once');
  const everything = await disturbRollout(space, async () => {
    await sleep(500);
    await killEverything(space);
  });
  t.same(everything.faults, [], 'all at once, with the supervisor');
});
