/**
 * A long random history, and reads of it at a thousand random moments, by revision and by time: every list and every object must be what the answers to its writes said at that time. Part of `npm run prove`; alone:
 * `node dist/test/prove/prove-at.js [moments] [seed] [writes]`.
 */
import { isDeepStrictEqual } from 'node:util';
import { expectedList, KINDS, NAMESPACES, randomFrom, writeHistory } from '../memory/random-history.ts';
import { startWithPast } from '../memory/stage.ts';
import { around } from './alone.ts';

const moments = Number(process.argv[2] ?? 1_000);
const seed = Number(process.argv[3] ?? 1);
const writes = Number(process.argv[4] ?? 3_000);
process.stdout.write(`seed ${seed}, ${writes} writes, ${moments} moments\n`);
const t = await around();
const faults: string[] = [];
try {
  const stage = await startWithPast(t);
  const { api } = stage;
  for (const name of NAMESPACES) await api.post('/api/v1/namespaces', { metadata: { name } });
  const steps = await writeHistory(stage, writes, seed);
  const random = randomFrom(seed + 1);
  let objects = 0;
  const startedMs = Date.now();
  for (let moment = 0; moment < moments; moment++) {
    const step = steps[random(steps.length)]!;
    const at = moment % 2 === 0 ? String(step.revision) : step.time;
    for (const kind of KINDS) {
      const namespace = NAMESPACES[random(NAMESPACES.length)]!;
      const path = `${kind.root}/namespaces/${namespace}/${kind.resource}?at=${at}`;
      const { status, body } = await api.get(path);
      const expected = expectedList(step, kind, namespace);
      objects += expected.length;
      if (status !== 200 || body.metadata.resourceVersion !== String(step.revision))
        faults.push(`${path}: ${status}, revision ${body.metadata?.resourceVersion} instead of ${step.revision}`);
      else if (!isDeepStrictEqual(body.items, expected)) faults.push(`${path}: not as it was`);
    }
  }
  process.stdout.write(
    `${moments} moments, ${moments * KINDS.length} lists of ${objects} objects in ${Math.round((Date.now() - startedMs) / 1000)} s\n`,
  );
} finally {
  await t.end();
}
for (const fault of faults.slice(0, 20)) process.stdout.write(`FAILED  ${fault}\n`);
process.exit(faults.length === 0 ? 0 : 1);
