/**
 * `/metrics`: what this server does, in Prometheus' text format, under Kubernetes' own names where it has one. Fed by `server.ts` once a request; what stands anywhere else already (queues, caches, the log's position) is read when
 * it is asked for. https://kubernetes.io/docs/reference/instrumentation/metrics/
 */
import type { ServerResponse } from 'node:http';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry as Metered } from 'prom-client';
import type { Registry } from '../api-schemas/registry.ts';
import type { Fairness } from './fairness/levels.ts';
import { isLongRunning } from './fairness/levels.ts';
import type { ResourceRequest } from './request.ts';
import type { StreamCache } from './store/stream-cache.ts';

export interface Observed {
  readonly registry: Registry;
  readonly fairness: Fairness;
  /** By name. */
  readonly streams: Readonly<Record<string, Followed>>;
  readonly shareMetrics?: (own: Metered) => () => Promise<string>;
}

export interface Followed {
  readonly stream: Pick<StreamCache, 'position' | 'resources'>;
  readonly log: { lastSequence(): Promise<number> };
}

const REQUEST = ['verb', 'group', 'version', 'resource', 'subresource', 'scope'] as const;
const DURATIONS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const OF_THE_WHOLE: ReadonlySet<string> = new Set([
  'apiserver_storage_objects',
  'reckon_log_position',
  'reckon_log_lag',
]);
const VERBS: Readonly<Record<ResourceRequest['verb'], string>> = {
  get: 'GET',
  list: 'LIST',
  watch: 'WATCH',
  create: 'POST',
  update: 'PUT',
  patch: 'PATCH',
  delete: 'DELETE',
  deletecollection: 'DELETECOLLECTION',
};

export class Metrics {
  readonly #metered = new Metered();
  readonly #observed: Observed;
  readonly #read: () => Promise<string>;
  readonly #requests: Counter<(typeof REQUEST)[number] | 'code'>;
  readonly #durations: Histogram<(typeof REQUEST)[number]>;
  /** Plain numbers, read when they are asked for: these change twice a request. */
  readonly #inFlight = { readOnly: 0, mutating: 0 };
  readonly #appends: Histogram;

  constructor(observed: Observed) {
    const registers = [this.#metered];
    this.#observed = observed;
    this.#requests = new Counter({
      name: 'apiserver_request_total',
      help: 'Requests by verb, resource and the code that they were answered with.',
      labelNames: [...REQUEST, 'code'],
      registers,
    });
    this.#durations = new Histogram({
      name: 'apiserver_request_duration_seconds',
      help: 'From the head of a request to the end of its answer; not of what stays open.',
      labelNames: REQUEST,
      buckets: DURATIONS_SECONDS,
      registers,
    });
    this.#appends = new Histogram({
      name: 'reckon_log_append_duration_seconds',
      help: 'From a write that is ready to its record, durable and followed by this server.',
      buckets: DURATIONS_SECONDS,
      registers,
    });
    this.#gauges(registers);
    collectDefaultMetrics({ register: this.#metered });
    this.#read = observed.shareMetrics?.(this.#metered) ?? (() => this.#metered.metrics());
  }

  /** Counts the request when its answer is over. Labels are those of resources that there are: a client cannot make up new ones. */
  count(response: ServerResponse, target: ResourceRequest | undefined): void {
    const labels = this.#labels(target);
    const longRunning = target !== undefined && isLongRunning(target);
    const kind = response.req.method === 'GET' || response.req.method === 'HEAD' ? 'readOnly' : 'mutating';
    const began = performance.now();
    if (!longRunning) this.#inFlight[kind]++;
    response.once('close', () => {
      this.#requests.inc({ ...labels, code: response.headersSent ? response.statusCode : 499 });
      if (longRunning) return;
      this.#inFlight[kind]--;
      this.#durations.observe(labels, (performance.now() - began) / 1000);
    });
  }

  appended(milliseconds: number): void {
    this.#appends.observe(milliseconds / 1000);
  }

  get contentType(): string {
    return this.#metered.contentType;
  }

  text(): Promise<string> {
    return this.#read();
  }

  #labels(target: ResourceRequest | undefined): Record<(typeof REQUEST)[number], string> {
    const known = target && this.#observed.registry.byResource(target.group, target.version, target.resource);
    if (!target || !known) return { verb: 'OTHER', group: '', version: '', resource: '', subresource: '', scope: '' };
    const { group, version, resource, verb, name, namespace } = target;
    const subresource = known.subresources.some((each) => each.name === target.subresource) ? target.subresource : '';
    const scope = name !== '' ? 'resource' : namespace !== '' ? 'namespace' : 'cluster';
    return { verb: VERBS[verb], group, version, resource, subresource, scope };
  }

  /** What is read when it is asked for. */
  #gauges(registers: Metered[]): void {
    const { fairness, streams } = this.#observed;
    type Collect = (gauge: Gauge) => void | Promise<void>;
    const gauge = (name: string, help: string, labelNames: string[], collect: Collect) =>
      new Gauge({
        name,
        help,
        labelNames,
        registers,
        // What every process that serves here knows of the whole is not a share of it.
        ...(OF_THE_WHOLE.has(name) && { aggregator: 'max' as const }),
        async collect() {
          this.reset();
          await collect(this);
        },
      });
    gauge(
      'apiserver_current_inflight_requests',
      'Requests that are being answered, by whether they change anything; not what stays open.',
      ['request_kind'],
      (to) => {
        for (const [kind, count] of Object.entries(this.#inFlight)) to.set({ request_kind: kind }, count);
      },
    );
    gauge('apiserver_longrunning_requests', 'Watches, logs and streams that are open.', [], (to) =>
      to.set(fairness.longRunning()),
    );
    gauge(
      'apiserver_flowcontrol_current_executing_requests',
      'Requests that hold a place.',
      ['priority_level'],
      (to) => {
        for (const { level, held } of fairness.levels()) to.set({ priority_level: level }, held);
      },
    );
    gauge(
      'apiserver_flowcontrol_current_inqueue_requests',
      'Requests that wait for a place.',
      ['priority_level'],
      (to) => {
        for (const { level, waiting } of fairness.levels()) to.set({ priority_level: level }, waiting);
      },
    );
    gauge(
      'apiserver_flowcontrol_rejected_requests_total',
      'Requests refused with 429.',
      ['priority_level', 'reason'],
      (to) => {
        for (const { level, reason, count } of fairness.refusals()) to.set({ priority_level: level, reason }, count);
      },
    );
    gauge('apiserver_storage_objects', 'Objects by resource.', ['resource'], (to) => {
      for (const { stream } of Object.values(streams))
        for (const [id, cache] of stream.resources()) to.set({ resource: dotted(id) }, cache.size);
    });
    gauge('apiserver_registered_watchers', 'Watchers by resource.', ['resource'], (to) => {
      for (const { stream } of Object.values(streams))
        for (const [id, cache] of stream.resources())
          if (cache.watcherCount > 0) to.set({ resource: dotted(id) }, cache.watcherCount);
    });
    gauge('reckon_log_position', 'The revision up to which this server has followed.', ['stream'], (to) => {
      for (const [name, { stream }] of Object.entries(streams)) to.set({ stream: name }, stream.position);
    });
    gauge(
      'reckon_log_lag',
      'Records that the log has and this server has not followed; absent while the log does not answer.',
      ['stream'],
      async (to) => {
        for (const [name, { stream, log }] of Object.entries(streams)) {
          const last = await log.lastSequence().catch(() => undefined);
          if (last !== undefined) to.set({ stream: name }, Math.max(0, last - stream.position));
        }
      },
    );
  }
}

/** `deployments.apps`, from `apps/deployments`. */
const dotted = (id: string): string => {
  const slash = id.indexOf('/');
  return slash <= 0 ? id.slice(slash + 1) : `${id.slice(slash + 1)}.${id.slice(0, slash)}`;
};
