/**
 * Rebuilds the projection of a whole instance under whatever is done meanwhile, and tells what did not hold, as sentences: rows that are not what they were, containers that were touched, answers about the past that are wrong rather
 * than 503. Used by outages.test.ts and by test/prove/prove-rebuild.ts.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { databaseUrl } from '../../cli/instance.ts';
import { contradictions, recordedUpTo, rowsUpTo } from '../state/projected-rows.ts';
import { query } from '../state/servers.ts';
import { until, type Json, type Space } from './stage.ts';
import { request } from './writers.ts';

export interface RebuildReport {
  readonly faults: readonly string[];
  /** Rows that were compared. */
  readonly rows: number;
  readonly containers: number;
  /** Questions about the past that were answered rightly while it was rebuilt, and those that were told to wait. */
  readonly answered: number;
  readonly toldToWait: number;
}

const compiled = path.join(import.meta.dirname, '..', '..');
const CAUGHT_UP_MS = 90_000;
const PAUSE_MS = 20;
const MAX_FAULTS = 10;
const BEING_REBUILT = /the projection is being rebuilt from the log, and has come to sequence \d+ of \d+/;

/** `reckon` as a user of this instance runs it. */
export function reckonProgram(space: Space, words: readonly string[]): ChildProcess {
  return fork(path.join(compiled, 'cli', 'main.js'), words, {
    env: { ...process.env, RECKON_HOME: space.stage.reckon.home },
    execArgv: ['--enable-source-maps'],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
}

/** Stops (SIGSTOP) the process that projects, in no middle of a transaction; resolves to its pid. */
export async function putProjectionToSleep({ stage }: Space): Promise<number> {
  const { reckon } = stage;
  for (;;) {
    const pid = await reckon.kill('projection', 'SIGSTOP');
    const isBetween = query(databaseUrl(reckon.instance, 'owner'), 'select from projection for update nowait');
    if (await isBetween.catch(() => false)) return pid;
    process.kill(pid, 'SIGCONT');
    await sleep(PAUSE_MS);
  }
}

/** All that it prints until it ends, and what it ends with. */
export async function printed(program: ChildProcess, where: 'stdout' | 'stderr'): Promise<[string, number | null]> {
  let text = '';
  for (const stream of [program.stdout, program.stderr]) stream?.resume();
  program[where]?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const [code] = (await once(program, 'close')) as [number | null];
  return [text, code];
}

/** `meanwhile` gets the program that asked for the rebuild and the questioner, and resolves when what it does is over; the program may then be gone, and the rebuild go on. */
export async function rebuild(
  space: Space,
  meanwhile: (program: ChildProcess, questioner: Questioner) => Promise<void>,
): Promise<RebuildReport> {
  const { instance } = space.stage.reckon;
  const database = databaseUrl(instance, 'owner');
  const revision = await recordedUpTo(database);
  const rows = await rowsUpTo(database, revision);
  const containers = await containersOf(space);
  const questioner = await Questioner.begin(space, revision);
  const program = reckonProgram(space, ['projection', 'rebuild']);
  const exited = once(program, 'exit');
  await meanwhile(program, questioner);
  await exited;
  const newest = Number(
    (await space.stage.client.list({ group: '', version: 'v1', resource: 'namespaces' })).resourceVersion,
  );
  await until('the projection to have come to the end', async () => (await recordedUpTo(database)) >= newest, {
    timeoutMs: CAUGHT_UP_MS,
  });
  const { faults, answered, toldToWait } = await questioner.end();
  const after = await rowsUpTo(database, revision);
  const differing = [
    ...rows.filter((row) => !after.includes(row)).map((row) => `is no more: ${row}`),
    ...after.filter((row) => !rows.includes(row)).map((row) => `is new: ${row}`),
  ];
  const contained = await containersOf(space);
  const touched = containers.filter((one) => !contained.includes(one)).map((one) => `was touched: container ${one}`);
  const wrong = [...faults, ...differing, ...(await contradictions(database)), ...touched];
  return { faults: wrong.slice(0, MAX_FAULTS), rows: rows.length, containers: containers.length, answered, toldToWait };
}

/** Which containers the namespace has, in which state, and since when. */
async function containersOf(space: Space): Promise<readonly string[]> {
  const containers = await space.containers();
  return containers
    .map(({ id, name, state, processId, startedAtMs }) => JSON.stringify({ id, name, state, processId, startedAtMs }))
    .toSorted();
}

/** Asks all the time for the Deployments as they stood at one revision, and for the history of one of them up to there: what it was told before, or to wait, and nothing else. */
export class Questioner {
  readonly #space: Space;
  readonly #paths: readonly string[];
  readonly #right: readonly string[];
  readonly #work: Promise<unknown>;
  readonly #faults: string[] = [];
  #ending = false;
  #answered = 0;
  #toldToWait = 0;

  static async begin(space: Space, revision: number): Promise<Questioner> {
    const of = `namespaces/${space.namespace}`;
    const { items } = (
      await request(space.stage.reckon.kubeconfig, { method: 'GET', path: `/apis/apps/v1/${of}/deployments` })
    ).body;
    const log = `/apis/log.reckon.dev/v1/${of}`;
    const paths = [
      `/apis/apps/v1/${of}/deployments?at=${revision}`,
      `${log}/history/apps/deployments/${items[0].metadata.name}?continue=${revision + 1}`,
      `${log}/diff?from=1&to=${revision}`,
    ];
    const right: string[] = [];
    for (const path of paths) {
      const { code, body } = await request(space.stage.reckon.kubeconfig, { method: 'GET', path });
      if (code !== 200) throw new Error(`${path}: ${code} ${JSON.stringify(body)}`);
      right.push(essence(body));
    }
    return new Questioner(space, paths, right);
  }

  private constructor(space: Space, paths: readonly string[], right: readonly string[]) {
    this.#space = space;
    this.#paths = paths;
    this.#right = right;
    this.#work = Promise.all(paths.map((_, index) => this.#ask(index)));
  }

  get toldToWait(): number {
    return this.#toldToWait;
  }

  async end(): Promise<{ faults: readonly string[]; answered: number; toldToWait: number }> {
    this.#ending = true;
    await this.#work;
    return { faults: this.#faults, answered: this.#answered, toldToWait: this.#toldToWait };
  }

  async #ask(index: number): Promise<void> {
    const path = this.#paths[index]!;
    while (!this.#ending) {
      // No answer at all is somebody else's fault: the API server's, where that is killed.
      const answer = await request(this.#space.stage.reckon.kubeconfig, { method: 'GET', path }).catch(() => undefined);
      if (answer?.code === 200) {
        this.#answered++;
        if (essence(answer.body) !== this.#right[index])
          this.#fault(`${path} was answered wrongly: ${JSON.stringify(answer.body)}`);
      } else if (answer?.code === 503 && BEING_REBUILT.test(answer.body?.message)) this.#toldToWait++;
      else if (answer !== undefined && answer.code !== 503)
        this.#fault(`${path}: ${answer.code} ${JSON.stringify(answer.body)}`);
      await sleep(PAUSE_MS);
    }
  }

  #fault(sentence: string): void {
    if (this.#faults.length < MAX_FAULTS) this.#faults.push(sentence.slice(0, 2_000));
  }
}

/** What an answer says of objects: a list says besides when it was asked. */
const essence = ({ items, metadata }: Json): string => JSON.stringify([items, metadata?.continue]);
