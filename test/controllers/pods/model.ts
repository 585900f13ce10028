/**
 * A pod and its engine as plain data, with a clock that is turned by hand: what the properties of the pods' reconciler are tried on. Actions are carried out at once, or cut off half-way, as a crash of the agent would.
 */
import type { Pod, PodSpec } from '../../../api-schemas/types/core-v1.ts';
import * as labels from '../../../controllers/pods/labels.ts';
import type {
  HookState,
  Observed,
  ObservedContainer,
  PodAction,
  ProbeState,
  SignalSent,
} from '../../../controllers/pods/observation.ts';
import { foldProbe } from '../../../controllers/pods/plan-probes.ts';
import { needsSandbox, slotsOf } from '../../../controllers/pods/pod-shape.ts';
import { reconcilePod } from '../../../controllers/pods/reconcile.ts';
import type { Plan } from '../../../sdk/controller.ts';
import { sameJson } from '../../../sdk/same-json.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type ModelContainer = Mutable<ObservedContainer>;

export const UID = '00000000-0000-4000-8000-000000000001';
const START = Date.UTC(2026, 0, 1);

export function podWith(spec: PodSpec, status: Pod['status'] = { phase: 'Pending' }): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'default', uid: UID, resourceVersion: '1' },
    spec: { restartPolicy: 'Always', terminationGracePeriodSeconds: 30, nodeName: 'node-a', ...spec },
    status,
  } as Pod;
}

export class Model {
  pod: Pod | undefined;
  nowMs = START;
  containers: ModelContainer[] = [];
  readonly signals = new Map<string, SignalSent>();
  readonly hooks = new Map<string, HookState>();
  readonly probes = new Map<string, ProbeState>();
  images = new Set<string>();
  imageError: string | undefined;
  configError: string | undefined;
  prepared = false;
  hasData = false;
  /** What probes say now. */
  healthy = true;
  /** Containers that do not end at the stop signal. */
  stubborn = false;
  pullFailure: { count: number; atMs: number; message: string } | undefined;
  /** Containers over which the engine hangs, as they were when it began. */
  readonly hung = new Map<string, ModelContainer>();
  readonly events: string[] = [];
  readonly starts: { container: string; attempt: number; atMs: number }[] = [];
  #nextId = 0;

  constructor(pod: Pod) {
    this.pod = pod;
    for (const { container } of slotsOf(pod)) this.images.add(container.image ?? '');
  }

  observed(): Observed {
    const { pod } = this;
    const uid = pod?.metadata.uid ?? UID;
    return {
      nowMs: this.nowMs,
      nodeName: 'node-a',
      hostAddresses: ['192.0.2.1'],
      present: pod !== undefined,
      runtimeAvailable: true,
      containers: structuredClone(this.containers).map((container) => {
        const known = this.hung.get(container.id);
        return known === undefined ? container : { ...known, unread: true };
      }),
      starts: {},
      preparations: Object.fromEntries(
        (pod === undefined ? [] : slotsOf(pod)).map(({ name, container }) => [
          name,
          {
            image: this.images.has(container.image ?? '') ? ('present' as const) : ('absent' as const),
            pull:
              this.pullFailure === undefined
                ? { inFlight: false }
                : { inFlight: false, failure: { reason: 'ErrImagePull', ...this.pullFailure } },
            ...(this.configError === undefined
              ? {}
              : { configError: { reason: 'CreateContainerConfigError', message: this.configError } }),
          },
        ]),
      ),
      volumes: { ready: this.prepared, stale: false, work: { inFlight: false } },
      removals: {},
      signals: Object.fromEntries(this.signals),
      hooks: Object.fromEntries(this.hooks),
      probes: Object.fromEntries(this.probes),
      address: '10.64.0.2',
      dataOf: this.hasData ? [uid] : [],
      dataRemoval: { inFlight: false },
    };
  }

  plan(): Plan<PodAction> {
    const gone = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web', namespace: 'default' } } as Pod;
    return reconcilePod(this.pod ?? gone, this.observed());
  }

  /** One turn: plan, carry out up to `limit` actions, write the status. Returns the plan. */
  turn(limit = Number.POSITIVE_INFINITY): Plan<PodAction> {
    const plan = this.plan();
    for (const action of plan.actions.slice(0, limit)) this.apply(action);
    if (plan.status !== undefined && this.pod !== undefined && limit === Number.POSITIVE_INFINITY)
      this.pod = { ...this.pod, status: plan.status as Pod['status'] } as Pod;
    return plan;
  }

  /** Turns until nothing is left to do, letting time pass where the plans wait. */
  settle(maxMs = 3_600_000): void {
    const end = this.nowMs + maxMs;
    for (let turn = 0; turn < 2_000; turn++) {
      const status = this.pod?.status;
      const plan = this.turn();
      const quiet =
        plan.actions.every((action) => action.verb === 'event') && sameJson(plan.status ?? status ?? {}, status ?? {});
      if (!quiet) continue;
      if (plan.requeueAfterMs === undefined) return;
      if (this.nowMs + plan.requeueAfterMs > end) return;
      this.nowMs += plan.requeueAfterMs;
    }
    throw new Error('it does not settle');
  }

  apply(action: PodAction): void {
    switch (action.verb) {
      case 'start-container':
        this.#start(action);
        return;
      case 'signal-container': {
        if (this.hung.has(action.containerId)) return;
        this.signals.set(action.containerId, { signal: action.signal, atMs: this.nowMs });
        if (action.signal === 'kill') this.exit(action.containerId, 137);
        else if (!this.stubborn) this.exit(action.containerId, 0);
        return;
      }
      case 'remove-container':
        if (this.hung.has(action.containerId)) return;
        this.remove(action.containerId);
        return;
      case 'pull-image':
        this.hasData = true;
        if (this.imageError === undefined) {
          this.images.add(action.image);
          this.pullFailure = undefined;
        } else
          this.pullFailure = { count: (this.pullFailure?.count ?? 0) + 1, atMs: this.nowMs, message: this.imageError };
        return;
      case 'prepare-volumes':
        this.hasData = true;
        this.prepared = true;
        return;
      case 'run-hook':
        this.hooks.set(`${action.containerId}/${action.hook}`, { state: 'done' });
        return;
      case 'run-probe': {
        const place = `${action.containerId}/${action.probe}`;
        const spec = slotsOf(this.pod as Pod).find(({ name }) => name === action.container)?.container;
        const probe = spec?.[`${action.probe}Probe`];
        if (probe === undefined) return;
        const before = this.probes.get(place) ?? { inFlight: false, startedAtMs: 0, successes: 0, failures: 0 };
        this.probes.set(
          place,
          foldProbe(
            { ...before, startedAtMs: this.nowMs },
            { success: this.healthy, message: 'tried' },
            probe,
            action.probe,
          ),
        );
        return;
      }
      case 'remove-data':
        this.hasData = false;
        this.prepared = false;
        return;
      case 'delete':
        this.pod = undefined;
        return;
      case 'event':
        this.events.push(`${action.reason}: ${action.message}`);
        return;
      default:
        throw new Error(`the model has no ${action.verb}`);
    }
  }

  #start(action: Extract<PodAction, { verb: 'start-container' }>): void {
    this.hasData = true;
    const pod = this.pod as Pod;
    const name = labels.containerName(
      { namespace: 'default', name: 'web', uid: action.uid },
      action.container,
      action.attempt,
    );
    const standing = this.containers.find((container) => container.name === name);
    if (standing !== undefined) {
      if (standing.state === 'created' && !this.hung.has(standing.id))
        Object.assign(standing, { state: 'running', startedAtMs: this.nowMs });
      return;
    }
    const spec = slotsOf(pod).find((slot) => slot.name === action.container)?.container;
    if (
      action.role !== 'sandbox' &&
      needsSandbox(pod) &&
      !this.containers.some((found) => labels.roleOf(found) === 'sandbox' && found.state === 'running')
    ) {
      throw new Error('a container was started without its sandbox');
    }
    this.starts.push({ container: action.container, attempt: action.attempt, atMs: this.nowMs });
    this.containers.push({
      id: `id-${this.#nextId++}`,
      name,
      image: spec?.image ?? 'pause',
      imageId: 'sha256:1',
      labels: {
        [labels.POD_UID_LABEL]: action.uid,
        [labels.CONTAINER_LABEL]: action.container,
        [labels.ROLE_LABEL]: action.role,
        [labels.ATTEMPT_LABEL]: String(action.attempt),
        [labels.RESTART_DELAY_LABEL]: String(action.restartDelayMs),
        ...(spec === undefined ? {} : { [labels.SPEC_HASH_LABEL]: labels.specHash(spec) }),
      },
      state: 'running',
      createdAtMs: this.nowMs,
      startedAtMs: this.nowMs,
      exitCode: 0,
      outOfMemory: false,
      error: '',
      tty: false,
      processId: 1,
      volumes: [],
    });
  }

  running(name?: string): ModelContainer[] {
    return this.containers.filter(
      (container) =>
        container.state === 'running' && (name === undefined || container.labels[labels.CONTAINER_LABEL] === name),
    );
  }

  exit(id: string, exitCode: number): void {
    const found = this.containers.find((container) => container.id === id);
    if (found?.state === 'running')
      Object.assign(found, { state: 'exited', exitCode, finishedAtMs: this.nowMs, processId: 0 });
  }

  remove(id: string): void {
    this.containers = this.containers.filter((container) => container.id !== id);
  }

  hang(container: ModelContainer): void {
    if (!this.hung.has(container.id)) this.hung.set(container.id, structuredClone(container));
  }

  /** The agent's process ends: what only it knew is gone. */
  forgetAgent(): void {
    this.signals.clear();
    this.hooks.clear();
    this.probes.clear();
    this.prepared = false;
    this.pullFailure = undefined;
  }

  markDeleted(graceSeconds = 30): void {
    if (this.pod === undefined || this.pod.metadata.deletionTimestamp !== undefined) return;
    const deletionTimestamp = new Date(this.nowMs + graceSeconds * 1000).toISOString();
    this.pod = {
      ...this.pod,
      metadata: { ...this.pod.metadata, deletionTimestamp, deletionGracePeriodSeconds: graceSeconds },
    };
  }
}
