/**
 * What the controllers of this process do, for Prometheus: their work queues, reconciles, requests to the API, Leases and place in the log, under the names that Kubernetes and controller-runtime have for them. One registry a
 * process, since one process is one target; fed by the loop, the queue and `run.ts`, served by `metrics-server.ts` where somebody asks for it. https://book.kubebuilder.io/reference/metrics-reference
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { RequestEnd } from './http-transport.ts';

/** Metrics of a controller's own are registered here beside these. */
export const metricsRegistry = new Registry();
const registers = [metricsRegistry];

/** Kubernetes' own for queues: from 10 ns up, tenfold. */
const QUEUE_SECONDS = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 100, 1000];
const RECONCILE_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60];
const REQUEST_SECONDS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60];

const adds = new Counter({
  name: 'workqueue_adds_total',
  help: 'Keys that were put in the queue.',
  labelNames: ['name'],
  registers,
});
const retries = new Counter({
  name: 'workqueue_retries_total',
  help: 'Keys that were put off: after a failure, or because their controller wants to look again later.',
  labelNames: ['name'],
  registers,
});
const queueSeconds = new Histogram({
  name: 'workqueue_queue_duration_seconds',
  help: 'How long a key stood in the queue before it was worked on.',
  labelNames: ['name'],
  buckets: QUEUE_SECONDS,
  registers,
});
const workSeconds = new Histogram({
  name: 'workqueue_work_duration_seconds',
  help: 'How long a key was worked on.',
  labelNames: ['name'],
  buckets: QUEUE_SECONDS,
  registers,
});
const reconciles = new Counter({
  name: 'controller_runtime_reconcile_total',
  help: 'Reconciles by how they ended.',
  labelNames: ['controller', 'result'],
  registers,
});
const reconcileErrors = new Counter({
  name: 'controller_runtime_reconcile_errors_total',
  help: 'Reconciles that ended with an error.',
  labelNames: ['controller'],
  registers,
});
const terminalErrors = new Counter({
  name: 'controller_runtime_terminal_reconcile_errors_total',
  help: 'Reconciles that ended with an error which trying again cannot mend.',
  labelNames: ['controller'],
  registers,
});
const reconcileSeconds = new Histogram({
  name: 'controller_runtime_reconcile_time_seconds',
  help: 'How long a reconcile took: observing, planning, and carrying the plan out.',
  labelNames: ['controller'],
  buckets: RECONCILE_SECONDS,
  registers,
});
const requests = new Counter({
  name: 'rest_client_requests_total',
  help: 'Requests to the API server by code; <error> where none came.',
  labelNames: ['code', 'method', 'host'],
  registers,
});
const requestSeconds = new Histogram({
  name: 'rest_client_request_duration_seconds',
  help: 'From a request to the API server to the whole of its answer.',
  labelNames: ['verb', 'host'],
  buckets: REQUEST_SECONDS,
  registers,
});
const leading = new Gauge({
  name: 'leader_election_master_status',
  help: 'Whether this process leads by the Lease of this name: 1, or 0 where it follows.',
  labelNames: ['name'],
  registers,
});

/** What a work queue tells of itself when it is asked. */
export interface QueueState {
  /** Keys that wait for a worker. */
  readonly depth: number;
  /** How long each key that is worked on has been. */
  readonly underWaySeconds: readonly number[];
  readonly concurrency: number;
}

const queues = new Map<() => QueueState, string>();

/** One gauge that is read off the queues; those of one name are taken together. */
function queueGauge(
  about: { readonly name: string; readonly help: string; readonly label: 'name' | 'controller' },
  value: (states: readonly QueueState[]) => number,
): void {
  const { name, help, label } = about;
  new Gauge({
    name,
    help,
    labelNames: [label],
    registers,
    collect() {
      this.reset();
      const named = new Map<string, QueueState[]>();
      for (const [state, of] of queues) named.set(of, [...(named.get(of) ?? []), state()]);
      for (const [of, states] of named) this.set({ [label]: of }, value(states));
    },
  });
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);
queueGauge({ name: 'workqueue_depth', help: 'Keys that wait for a worker.', label: 'name' }, (states) =>
  sum(states.map(({ depth }) => depth)),
);
queueGauge(
  {
    name: 'workqueue_unfinished_work_seconds',
    help: 'How long the keys that are worked on have been, taken together: it grows where workers are stuck.',
    label: 'name',
  },
  (states) => sum(states.flatMap(({ underWaySeconds }) => underWaySeconds)),
);
queueGauge(
  {
    name: 'workqueue_longest_running_processor_seconds',
    help: 'How long the key has been worked on that has been the longest.',
    label: 'name',
  },
  (states) => Math.max(0, ...states.flatMap(({ underWaySeconds }) => underWaySeconds)),
);
queueGauge(
  { name: 'controller_runtime_active_workers', help: 'Keys that are worked on.', label: 'controller' },
  (states) => sum(states.map(({ underWaySeconds }) => underWaySeconds.length)),
);
queueGauge(
  {
    name: 'controller_runtime_max_concurrent_reconciles',
    help: 'How many keys may be worked on at once.',
    label: 'controller',
  },
  (states) => sum(states.map(({ concurrency }) => concurrency)),
);

/** What a work queue reports as it happens. */
export interface QueueMeter {
  added(): void;
  retried(): void;
  /** A key has been taken up, after so long. */
  waited(seconds: number): void;
  worked(seconds: number): void;
  /** The queue is no more. */
  end(): void;
}

export function meterQueue(name: string, state: () => QueueState): QueueMeter {
  queues.set(state, name);
  // They are there from the start, as in Kubernetes: a rate over what appears with its first event misses that one.
  adds.inc({ name }, 0);
  retries.inc({ name }, 0);
  return {
    added: () => adds.inc({ name }),
    retried: () => retries.inc({ name }),
    waited: (seconds) => queueSeconds.observe({ name }, seconds),
    worked: (seconds) => workSeconds.observe({ name }, seconds),
    end: () => void queues.delete(state),
  };
}

/** `success`: nothing is left to do. `requeue`: the world had moved on. `terminal`: an error that trying again cannot mend. */
export type ReconcileResult = 'success' | 'requeue' | 'requeue_after' | 'error' | 'terminal';

export function countReconcile(controller: string, result: ReconcileResult, seconds: number): void {
  const isError = result === 'error' || result === 'terminal';
  reconciles.inc({ controller, result: isError ? 'error' : result });
  reconcileErrors.inc({ controller }, isError ? 1 : 0);
  terminalErrors.inc({ controller }, result === 'terminal' ? 1 : 0);
  reconcileSeconds.observe({ controller }, seconds);
}

export function countRequest({ method, host, code, seconds }: RequestEnd): void {
  requests.inc({ code: code === undefined ? '<error>' : String(code), method, host });
  requestSeconds.observe({ verb: method, host }, seconds);
}

export function setLeading(name: string, leads: boolean): void {
  leading.set({ name }, leads ? 1 : 0);
}

/** Somebody who follows the log. */
export interface LogPlace {
  readonly controllers: readonly string[];
  /** Undefined while nothing is followed. */
  position(): number | undefined;
  /** Records that are still to come; undefined where that is not known now. */
  lag(): Promise<number | undefined>;
}

const places = new Set<LogPlace>();

function placeGauge(name: string, help: string, value: (place: LogPlace) => Promise<number | undefined>): void {
  new Gauge({
    name,
    help,
    labelNames: ['controller', 'stream'],
    registers,
    async collect() {
      const read = await Promise.all(
        [...places].map(async (place) => ({ place, at: await value(place).catch(() => undefined) })),
      );
      this.reset();
      for (const { place, at } of read)
        if (at !== undefined) for (const controller of place.controllers) this.set({ controller, stream: 'log' }, at);
    },
  });
}

placeGauge('reckon_log_position', 'The revision up to which the log has been followed.', async (place) =>
  place.position(),
);
placeGauge(
  'reckon_log_lag',
  'Records that the log has and this controller has not followed, those of others for a moment among them; absent while the log does not answer.',
  (place) => place.lag(),
);

/** Returns how to stop. */
export function meterPlace(place: LogPlace): () => void {
  places.add(place);
  return () => void places.delete(place);
}
