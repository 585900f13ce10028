/**
 * The tests that have properties, each property many times more often than in `npm test`, from one seed: laws of patches and of server-side apply, round trips of every kind through protobuf, and fuzzing of every decoder, by itself and
 * through a server; and rollouts, and much that comes and goes. Part of `npm run prove`; alone: `node dist/test/prove/prove-properties.js [times] [seed]`.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { around } from './alone.ts';

const DEFAULT_TIMES = 50;
/** Through a real server each try costs a request. */
const SERVER_TIMES = 10;
/** 200 ConfigMaps and 50 pods. */
const CHURN_TIMES = 5;
const FILES: readonly (readonly [file: string, times: (wanted: number) => number])[] = [
  ['api-server/patch/apply', (wanted) => wanted],
  ['api-server/patch/strategic-merge', (wanted) => wanted],
  ['api-server/patch/json-and-merge-patch', (wanted) => wanted],
  ['api-server/patch/managed-fields', (wanted) => wanted],
  ['api-server/codec/protobuf', (wanted) => wanted],
  ['api-server/fuzz', (wanted) => wanted],
  ['controllers/pods/channels', (wanted) => wanted],
  ['controllers/pods/spdy', (wanted) => wanted],
  ['api-server/hostile', (wanted) => Math.min(wanted, SERVER_TIMES)],
  ['controllers/deployments/rollout-properties', (wanted) => Math.min(wanted, SERVER_TIMES)],
  ['spine/churn', (wanted) => Math.min(wanted, CHURN_TIMES)],
];
const SHOWN_LINES = 60;

async function run(file: string, times: number, seed: number): Promise<boolean> {
  const program = path.join(import.meta.dirname, '..', `${file}.test.js`);
  const began = Date.now();
  const child = spawn(process.execPath, ['--enable-source-maps', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, RECKON_PROVE_TIMES: String(times), RECKON_PROVE_SEED: String(seed), TAP_TIMEOUT: '0' },
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  const held = code === 0;
  process.stdout.write(
    `${held ? 'held' : 'FAILED'}  ${file}, ${times} times (${Math.round((Date.now() - began) / 1000)} s)\n`,
  );
  if (!held) {
    const lines = said.split('\n');
    const first = lines.findIndex((line) => line.trimStart().startsWith('not ok'));
    process.stdout.write(`${lines.slice(first, first + SHOWN_LINES).join('\n')}\n`);
  }
  return held;
}

const times = Number(process.argv[2] ?? DEFAULT_TIMES);
const seed = Number(process.argv[3] ?? 1);
process.stdout.write(`seed ${seed}, every property ${times} times as often as in npm test\n`);
const t = await around();
let failed = 0;
try {
  for (const [file, timesOf] of FILES) if (!(await run(file, timesOf(times), seed))) failed++;
} finally {
  await t.end();
}
process.exit(failed === 0 ? 0 : 1);
