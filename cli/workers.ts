/**
 * Several processes that serve one address together, where one core does not suffice: the first hands connections out, one after the other, and starts again who dies; the others are this same program, and each does all of the
 * work. Called by `api-server.ts`.
 */
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { AggregatorRegistry, type PrometheusContentType, type Registry as Metered } from 'prom-client';
import type { Logger } from 'pino';
import { runUntilTold } from './until-told.ts';

const FIRST_BACK_OFF_MS = 100;
const LAST_BACK_OFF_MS = 1_000;
/** So many deaths in a row before anybody listened are not bad luck. */
const HOPELESS_FAILURES = 4;

type Aggregated = AggregatorRegistry<PrometheusContentType>;

export interface WorkersOptions {
  readonly count: number;
  readonly logger: Logger;
  /** Once all of them listen. */
  readonly listening?: (port: number) => void;
}

/** Whether this process is one of several; otherwise it is the first of them, or alone. */
export const isWorker = (): boolean => cluster.isWorker;

/** For the first process. Resolves never: the process ends when it is told to. Rejects when none of them comes to listen. */
export async function runWorkers({ count, logger, listening }: WorkersOptions): Promise<void> {
  const aggregated: Aggregated = new AggregatorRegistry();
  let stopping = false;
  let failures = 0;
  const listeners = new Set<number>();
  let giveUp = (_: Error): void => undefined;
  const hopeless = new Promise<never>((_, reject) => (giveUp = reject));
  cluster.on('listening', ({ id }, { port }) => {
    failures = 0;
    listeners.add(id);
    if (listeners.size === count) listening?.(port);
  });
  cluster.on('exit', (worker, code, signal) => {
    if (stopping) return;
    if (!listeners.delete(worker.id) && ++failures >= HOPELESS_FAILURES)
      return giveUp(new Error('no process of the API server comes to listen; what it said before tells why'));
    const inMs = Math.min(FIRST_BACK_OFF_MS * 2 ** failures, LAST_BACK_OFF_MS);
    logger.warn({ pid: worker.process.pid, code, signal, inMs }, 'a process has ended and is started again');
    setTimeout(() => stopping || cluster.fork(), inMs);
  });
  cluster.on('message', (worker: Worker, message: unknown) => {
    if (isQuestion(message)) void answer(worker, message, aggregated);
  });
  for (let started = 0; started < count; started++) cluster.fork();
  const stop = async (): Promise<void> => {
    stopping = true;
    const workers = Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
    await Promise.all(
      workers.map(async ({ process: child }) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, 'exit');
        child.kill('SIGTERM');
        await gone;
      }),
    );
  };
  await Promise.race([runUntilTold({ stop }, logger), hopeless]);
}

/** A worker asks for what all of them measure. */
interface Question {
  readonly reckon: 'metrics';
  readonly id: number;
}

type Answer = Question & ({ readonly text: string } | { readonly fault: string });

const isQuestion = (message: unknown): message is Question =>
  typeof message === 'object' && message !== null && (message as Partial<Question>).reckon === 'metrics';

async function answer(worker: Worker, { reckon, id }: Question, aggregated: Aggregated): Promise<void> {
  const answered: Answer = await aggregated.clusterMetrics().then(
    (text) => ({ reckon, id, text }),
    (error: unknown) => ({ reckon, id, fault: String(error) }),
  );
  if (worker.isConnected()) worker.send(answered);
}

/** For a worker: makes its metrics known to the first process; the function that is returned reads those of all workers together. */
export function shareMetrics(own: Metered): () => Promise<string> {
  AggregatorRegistry.setRegistries(own);
  // It listens for the first process's questions.
  new AggregatorRegistry();
  const asked = new Map<number, { resolve: (text: string) => void; reject: (error: Error) => void }>();
  let last = 0;
  process.on('message', (message) => {
    if (!isQuestion(message)) return;
    const { id, ...rest } = message as Answer;
    const waiting = asked.get(id);
    asked.delete(id);
    if ('text' in rest) waiting?.resolve(rest.text);
    else waiting?.reject(new Error(rest.fault));
  });
  return () =>
    new Promise((resolve, reject) => {
      const question: Question = { reckon: 'metrics', id: ++last };
      asked.set(question.id, { resolve, reject });
      process.send?.(question);
    });
}
