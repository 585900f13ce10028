/**
 * The container engine killed again and again in mid-rollout, at moments that follow from the seed, while its containers live on. Part of `npm run prove`; alone:
 * `node dist/test/prove/prove-engine.js [rounds] [seed]`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { startPrivateEngine } from '../harness/private-engine.ts';
import { applyRolling, disturbRollout } from '../spine/faults.ts';
import { startStage } from '../spine/stage.ts';
import { around } from './alone.ts';
import { generator } from './generator.ts';

const defaultRounds = 20;
const longestRunMs = 3_000;
/** A service manager waits so long at least; the engine's containerd needs it to end. */
const shortestOutageMs = 2_000;
const longestOutageMs = 6_000;

const rounds = Number(process.argv[2] ?? defaultRounds);
const seed = Number(process.argv[3] ?? 1);
const t = await around();
let failed = 0;
try {
  const engine = await startPrivateEngine(t, { liveRestore: true });
  const stage = await startStage(t, { environment: { DOCKER_HOST: engine.host } });
  const space = await stage.space('prove');
  await applyRolling(space);
  const random = generator(seed);
  process.stdout.write(`seed ${seed}, ${rounds} rounds\n`);
  for (let round = 1; round <= rounds && failed === 0; round++) {
    const delayMs = Math.floor(random() * longestRunMs);
    const outageMs = shortestOutageMs + Math.floor(random() * (longestOutageMs - shortestOutageMs));
    const { faults, testimony } = await disturbRollout(
      space,
      async () => {
        await sleep(delayMs);
        await engine.kill();
        await sleep(outageMs);
        await engine.start();
      },
      { engineForgets: true },
    );
    const seen = `available ≥ ${testimony.fewestAvailable}, ${testimony.containersStarted} containers started`;
    process.stdout.write(
      `${faults.length === 0 ? 'held' : 'FAILED'}  round ${round}: killed after ${delayMs} ms, for ${outageMs} ms; ${seen}\n`,
    );
    for (const fault of faults) process.stdout.write(`        ${fault}\n`);
    failed += faults.length;
  }
} finally {
  await t.end();
}
process.exit(failed === 0 ? 0 : 1);
