/** The container engine itself restarts in mid-rollout, is killed in mid-rollout, and goes with all its containers: an engine of this file's own. `npm run prove -- engine` goes on for long. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { startPrivateEngine } from '../harness/private-engine.ts';
import { applyRolling, CONVERGE_MS, disturbRollout, MINIMUM, REPLICAS, untilTidy } from './faults.ts';
import { condition, isReady, startStage, until, type Json } from './stage.ts';

const outageMs = 2_000;
const engine = await startPrivateEngine(t, { liveRestore: true });
const stage = await startStage(t, { environment: { DOCKER_HOST: engine.host } });
const space = await stage.space('engine');
await applyRolling(space, { asked: 'http' });

const runningIds = async (): Promise<string[]> =>
  (await space.containers()).flatMap(({ id, state }) => (state === 'running' ? [id] : [])).sort();
const restartsOf = (pod: Json): number => pod.status.containerStatuses[0].restartCount;
const nodeReady = async (): Promise<string> => {
  const { items } = await stage.client.list<Json>({ group: '', version: 'v1', resource: 'nodes' });
  return condition(items[0], 'Ready')?.status ?? '';
};

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  t.test(`an engine that ends by ${signal} in mid-rollout, and whose containers outlive it`, async (t) => {
    const { faults, testimony, writing } = await disturbRollout(
      space,
      async () => {
        // Some of the new pods are there, and some are just being made.
        await until('the rollout to be under way', async () => {
          const pods = await space.list('pods');
          return new Set(pods.map(({ metadata }) => metadata.labels['pod-template-hash'])).size > 1;
        });
        await engine.kill(signal);
        await until('the node to say that it has no engine', async () => (await nodeReady()) !== 'True');
        await sleep(outageMs);
        t.ok((await space.list('pods')).filter(isReady).length >= MINIMUM, 'what cannot be seen is not taken for dead');
        await engine.start();
      },
      { engineForgets: signal === 'SIGKILL' },
    );
    await until('the old pods to be gone', async () => (await space.list('pods')).length === REPLICAS);
    t.same(faults, [], 'it converges, never below the minimum, and no slot has two containers');
    t.ok(testimony.engineSamples > 0 && writing.acknowledged > 0, 'somebody looked');
    t.comment(JSON.stringify({ ...testimony, ...writing }));
  });
}

t.test('an orderly restart at rest touches no container', async (t) => {
  const before = await runningIds();
  await engine.kill('SIGTERM');
  await engine.start();
  await until('the node to have its engine again', async () => (await nodeReady()) === 'True');
  await space.kubectl('label pods --all seen=yes');
  t.same(await runningIds(), before);
});

t.test('an engine that takes its containers with it', async (t) => {
  const pods = await space.list('pods');
  const restartsBefore = new Map(pods.map((pod) => [pod.metadata.uid, restartsOf(pod)]));
  await engine.kill('SIGTERM');
  // Told so, it ends as it starts what the one before left running.
  await engine.start({ liveRestore: false });
  let seen: Json[] = [];
  const allAgain = async (): Promise<boolean> => {
    seen = await space.list('pods');
    return seen.every((pod) => restartsOf(pod) > (restartsBefore.get(pod.metadata.uid) ?? Infinity) && isReady(pod));
  };
  await until('every container to run again', allAgain, {
    timeoutMs: CONVERGE_MS,
    seen: () => seen.map(({ metadata, status }) => ({ name: metadata.name, status })),
  });
  await untilTidy(space);
  const after = await space.list('pods');
  const told = (list: Json[]) => list.map(({ metadata, status }) => `${metadata.uid} ${status.podIP}`).sort();
  t.same(told(after), told(pods), 'the same pods, with their addresses');
});
