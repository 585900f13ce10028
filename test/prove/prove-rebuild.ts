/**
 * The projection of a whole instance rebuilt again and again, with pods under way, writes going on and a history of thousands of records, while processes are killed (`kill -9`) at moments that follow from the seed: the one that
 * projects, the one that asked for the rebuild, PostgreSQL, NATS. Every row must be what it was, no container touched, no question about the past answered wrongly. Part of `npm run prove`; alone:
 * `node dist/test/prove/prove-rebuild.js [rounds] [seed] [records]`.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { killProcesses } from '../spine/faults.ts';
import { deployment } from '../spine/manifests.ts';
import { rebuild } from '../spine/rebuilds.ts';
import { startStage, until, type Space } from '../spine/stage.ts';
import { request, Writer } from '../spine/writers.ts';
import { around } from './alone.ts';
import { generator, type Random } from './generator.ts';

const rounds = Number(process.argv[2] ?? 10);
const seed = Number(process.argv[3] ?? 1);
const records = Number(process.argv[4] ?? 20_000);
const OBJECTS = 400;
const REPLICAS = 3;
const CONVERGE_MS = 120_000;
const longestRunMs = 1_500;
const MOST_KILLS = 4;

/** A past worth projecting: the same objects changed again and again, many at once. */
async function fill(space: Space): Promise<void> {
  for (let turn = 0; turn < records / OBJECTS; turn++) {
    const operations = Array.from({ length: OBJECTS }, (_, index) => ({
      verb: 'apply',
      object: {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: `old-${index}`, namespace: space.namespace },
        data: { turn: String(turn), text: 'x'.repeat(500) },
      },
    }));
    const { code, body } = await request(space.stage.reckon.kubeconfig, {
      method: 'POST',
      path: '/apis/log.reckon.dev/v1/transactions?fieldManager=prove',
      body: { kind: 'Transaction', apiVersion: 'log.reckon.dev/v1', operations },
    });
    if (code !== 201 && code !== 200) throw new Error(JSON.stringify(body));
  }
}

async function strike(space: Space, random: Random, asked: () => void): Promise<string> {
  const struck: string[] = [];
  for (let left = 1 + Math.floor(random() * MOST_KILLS); left > 0; left--) {
    await sleep(Math.floor(random() * longestRunMs));
    const name = (['projection', 'projection', 'asker', 'postgres', 'nats'] as const)[Math.floor(random() * 5)]!;
    if (name === 'asker') asked();
    else await killProcesses(space, [name]);
    struck.push(name);
  }
  return struck.join(', ');
}

const t = await around();
let failed = 0;
try {
  const stage = await startStage(t);
  const space = await stage.space('rebuild');
  await space.apply(deployment('web', { replicas: REPLICAS }));
  await space.untilRolledOut('web', { timeoutMs: CONVERGE_MS });
  await fill(space);
  const random = generator(seed);
  process.stdout.write(`seed ${seed}, ${rounds} rounds, ${records} records\n`);
  for (let round = 1; round <= rounds && failed === 0; round++) {
    const writer = new Writer(space, `written-${round}`);
    let struck = '';
    const report = await rebuild(space, async (program) => {
      const exited = once(program, 'exit');
      struck = await strike(space, random, () => program.kill('SIGKILL'));
      await space.apply(deployment(`later-${round}`, { replicas: 1 }));
      await space.untilRolledOut(`later-${round}`, { timeoutMs: CONVERGE_MS });
      await exited;
    });
    const writing = await writer.end();
    const faults = [...report.faults, ...writing.faults];
    process.stdout.write(
      `${faults.length === 0 ? 'held' : 'FAILED'}  round ${round}: killed ${struck}; ${report.rows} rows, ${report.containers} containers, ${report.answered} questions answered, ${report.toldToWait} told to wait, ${writing.acknowledged} writes acknowledged\n`,
    );
    for (const fault of faults) process.stdout.write(`        ${fault}\n`);
    failed += faults.length;
    await space.kubectl(`delete deployment later-${round}`);
    await until('its container to be gone', async () => (await space.containers()).length === REPLICAS);
  }
} finally {
  await t.end();
}
process.exit(failed === 0 ? 0 : 1);
