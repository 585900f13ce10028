/**
 * A whole instance under one fault after the other, for as long as is asked: first each process is killed, one after the other; then, as it comes, processes alone, in twos and threes and all together, servers hung and kept down
 * for 20 s, containers killed and taken away, while a Deployment rolls and clients write. Part of `npm run prove`; alone: `node dist/test/prove/prove-faults.js [rounds] [seed]`. What it does follows from the seed. Rounds that held are
 * noted beside the compiled program, and a run with the same rounds and seed goes on after them.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  applyRolling,
  disturbRollout,
  hang,
  keepDown,
  killEverything,
  killProcesses,
  PROCESSES,
} from '../spine/faults.ts';
import { startStage, type Space } from '../spine/stage.ts';
import { around } from './alone.ts';
import { generator, type Random } from './generator.ts';

const outageMs = 20_000;
const defaultRounds = 30;

interface Step {
  readonly what: string;
  readonly run: (space: Space) => Promise<void>;
  readonly containersDie?: boolean;
}

const killAlone = (name: (typeof PROCESSES)[number]): Step => ({
  what: `kill -9 ${name}`,
  run: (space) => killProcesses(space, [name]),
});

/** Rounds count from 1. */
function stepOf(round: number, random: Random): Step {
  const name = PROCESSES[round - 1];
  return name === undefined ? chooseStep(random) : killAlone(name);
}

function chooseStep(random: Random): Step {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const several = (count: number): string[] =>
    [...PROCESSES]
      .map((name) => ({ name, at: random() }))
      .toSorted((a, b) => a.at - b.at)
      .slice(0, count)
      .map(({ name }) => name);
  const kind = random();
  if (kind < 0.25) return killAlone(pick(PROCESSES));
  if (kind < 0.45) {
    const names = several(2 + Math.floor(random() * 3));
    return { what: `kill -9 ${names.join(', ')}`, run: (space) => killProcesses(space, names) };
  }
  if (kind < 0.55) return { what: 'kill -9 of every process at once', run: (space) => killProcesses(space, PROCESSES) };
  if (kind < 0.62) return { what: 'kill -9 of everything, and a new start', run: killEverything };
  if (kind < 0.75) {
    const name = pick(['nats', 'postgres', 'api-server', 'pods', 'deployments', 'controllers'] as const);
    return { what: `${name} hangs for ${outageMs / 1000} s`, run: (space) => hang(space, name, outageMs) };
  }
  if (kind < 0.88) {
    const name = pick(['nats', 'postgres'] as const);
    return { what: `${name} is down for ${outageMs / 1000} s`, run: (space) => keepDown(space, name, outageMs) };
  }
  const order = random();
  const remove = random() < 0.5;
  return {
    what: remove ? 'a container is taken away' : 'a container is killed',
    containersDie: true,
    run: (space) => loseContainer(space, order, remove),
  };
}

async function loseContainer(space: Space, order: number, remove: boolean): Promise<void> {
  const running = (await space.containers()).filter(({ state }) => state === 'running');
  const victim = running[Math.floor(order * running.length)];
  if (victim === undefined) return;
  const { runtime } = space.stage;
  await (remove ? runtime.removeContainer(victim.id, { force: true }) : runtime.signalContainer(victim.id, 'KILL'));
}

async function run(rounds: number, seed: number): Promise<boolean> {
  const progressFile = path.join(import.meta.dirname, `.faults-${rounds}-${seed}.json`);
  const held = await readProgress(progressFile);
  process.stdout.write(`seed ${seed}, ${rounds} rounds${held > 0 ? `, going on after round ${held}` : ''}\n`);
  const random = generator(seed);
  let failed = 0;
  const t = await around();
  try {
    const stage = await startStage(t);
    const space = await stage.space('prove');
    await applyRolling(space);
    for (let round = 1; round <= rounds; round++) {
      const delayMs = Math.floor(random() * 2_000);
      const step = stepOf(round, random);
      if (round <= held) continue;
      const startedMs = Date.now();
      const report = await disturbRollout(
        space,
        async () => {
          await sleep(delayMs);
          await step.run(space);
        },
        step.containersDie === true ? { containersDie: true, minimum: 2 } : {},
      );
      const { testimony, writing } = report;
      const seen = `available ≥ ${testimony.fewestAvailable}, running ≥ ${testimony.fewestRunning}, ${writing.acknowledged} writes acknowledged, ${writing.turnedAway} turned away, ${writing.unanswered} cut off, slowest ${writing.slowestMs} ms`;
      process.stdout.write(
        `${report.faults.length === 0 ? 'held' : 'FAILED'}  round ${round} (${Math.round((Date.now() - startedMs) / 1000)} s): ${step.what} after ${delayMs} ms; ${seen}\n`,
      );
      for (const fault of report.faults) process.stdout.write(`        ${fault}\n`);
      if (report.faults.length > 0) failed++;
      else if (failed === 0) await writeProgress(progressFile, round);
      // A fault whose traces are still there would be told again and again.
      if (failed > 0) break;
    }
  } finally {
    await t.end();
  }
  if (failed === 0) await rm(progressFile, { force: true });
  return failed === 0;
}

async function readProgress(file: string): Promise<number> {
  const text = await readFile(file, 'utf8').catch(() => '{"held":0}');
  return (JSON.parse(text) as { held: number }).held;
}

async function writeProgress(file: string, held: number): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, JSON.stringify({ held }));
}

const held = await run(Number(process.argv[2] ?? defaultRounds), Number(process.argv[3] ?? 1));
process.exit(held ? 0 : 1);
