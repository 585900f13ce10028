/** The container engine itself goes away and comes back, with its containers or without: an engine of this file's own. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { startPrivateEngine } from '../harness/private-engine.ts';
import { applyRolling, CONVERGE_MS, disturbRollout, REPLICAS, untilTidy } from './faults.ts';
import { isReady, startStage, until, type Json } from './stage.ts';

const restarts = (pods: Json[]): number[] => pods.map(({ status }) => status.containerStatuses[0].restartCount);

t.test('an engine killed in mid-rollout, whose containers outlive it', async (t) => {
  const engine = await startPrivateEngine(t, { liveRestore: true });
  const stage = await startStage(t, { environment: { DOCKER_HOST: engine.host } });
  const space = await stage.space('engine');
  await applyRolling(space);
  const { faults, testimony, writing } = await disturbRollout(space, async () => {
    await sleep(700);
    await engine.kill();
    await sleep(3_000);
    t.ok(
      (await space.list('pods')).filter(isReady).length >= REPLICAS - 1,
      'what cannot be seen is not taken for dead',
    );
    await engine.start();
  });
  t.same(faults, []);
  t.comment(JSON.stringify({ ...testimony, ...writing }));
  // What the rollout left behind goes first.
  await untilTidy(space);
  const before = (await space.containers()).map(({ id }) => id).sort();
  await engine.kill('SIGTERM');
  await sleep(1_000);
  await engine.start();
  await sleep(5_000);
  t.same(
    (await space.containers()).map(({ id }) => id).sort(),
    before,
    'an orderly restart of the engine touches no container',
  );
});

t.test('an engine that takes its containers with it', async (t) => {
  const engine = await startPrivateEngine(t, { liveRestore: false });
  const stage = await startStage(t, { environment: { DOCKER_HOST: engine.host } });
  const space = await stage.space('engine');
  await applyRolling(space);
  const pods = await space.list('pods');
  await engine.kill('SIGTERM');
  await sleep(1_000);
  await engine.start();
  let seen: Json[] = [];
  await until(
    'every container to run again',
    async () => {
      seen = await space.list('pods');
      return restarts(seen).every((count) => count >= 1) && seen.every(isReady);
    },
    { timeoutMs: CONVERGE_MS, seen: () => seen.map(({ metadata, status }) => ({ name: metadata.name, status })) },
  );
  await untilTidy(space);
  const after = await space.list('pods');
  t.same(
    after.map(({ metadata }) => metadata.uid).sort(),
    pods.map(({ metadata }) => metadata.uid).sort(),
    'the same pods',
  );
  t.same(
    after.map(({ status }) => status.podIP as string).sort(),
    pods.map(({ status }) => status.podIP as string).sort(),
    'with their addresses',
  );
});
