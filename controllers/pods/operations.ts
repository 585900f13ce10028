/**
 * Carries out what the plans say. Everything that may take long runs beside the plans, one piece of work for a slot at a time; a plan sees it as under way, and the pod is observed again when it
 * ends. So an engine that hangs over one container holds up no other pod.
 */
import type { LifecycleHandler, Probe } from '../../api-schemas/types/core-v1.ts';
import { downwardFacts, wantedPod, type AgentContext } from './agent-context.ts';
import { Attempts, Gate, WorkError } from './attempts.ts';
import type { PodIdentity } from './labels.ts';
import {
  POD_RESOURCE,
  type HookState,
  type Pod,
  type ProbeKind,
  type ProbeState,
  type RuntimeAction,
  type SignalSent,
} from './observation.ts';
import { foldProbe } from './plan-probes.ts';
import { identityOf, slotsOf, specOf, type Slot } from './pod-shape.ts';
import { tryProbe, type ProbeOutcome } from './probing.ts';
import { credentialsFor } from './pull-credentials.ts';
import { UnresolvedReferenceError } from './references.ts';
import { startContainer } from './start-container.ts';
import { prepareVolume, VolumeError } from './volumes/prepare-volumes.ts';
import { volumeSource } from './volumes/volume-source.ts';

/** Docker makes containers fastest four at a time; more only wait in the engine. */
const STARTS_AT_ONCE = 4;
const REMOVALS_AT_ONCE = 8;
const PULLS_AT_ONCE = 3;
/** A pull is slow before it is stuck; one that falls silent is given up by the runtime. */
const PULL_HOLD_MS = 600_000;

interface Key {
  readonly namespace: string;
  readonly name: string;
}

export class Operations {
  readonly starts: Attempts;
  readonly pulls: Attempts;
  readonly volumeWork: Attempts;
  readonly removals: Attempts;
  readonly dataRemovals: Attempts;
  readonly signals = new Map<string, SignalSent>();
  readonly hooks = new Map<string, HookState>();
  readonly probes = new Map<string, ProbeState>();
  /** By `<uid>/<container>`: the attempt for which an image was pulled though it may have been there. */
  readonly pulledFor = new Map<string, number>();
  /** By uid, then volume: what it shows (`''` for volumes that show nothing of their own). */
  readonly prepared = new Map<string, Map<string, string>>();
  /** Pods that have files on the node, by uid. */
  readonly folders = new Map<string, PodIdentity>();
  readonly #context: AgentContext;
  readonly #enqueue: (key: Key) => void;
  readonly #startGate = new Gate(STARTS_AT_ONCE);
  readonly #removalGate = new Gate(REMOVALS_AT_ONCE);
  readonly #pullGate = new Gate(PULLS_AT_ONCE, PULL_HOLD_MS);

  constructor(context: AgentContext, enqueue: (key: Key) => void) {
    this.#context = context;
    this.#enqueue = enqueue;
    const attempts = (what: string): Attempts =>
      new Attempts(context.now, (where, error) => {
        const [namespace = '', name = ''] = where.split('/');
        if (error !== undefined)
          context.logger.warn({ pod: where, work: what, err: error }, 'work on a pod failed; it will be tried again');
        enqueue({ namespace, name });
      });
    this.starts = attempts('start');
    this.pulls = attempts('pull');
    this.volumeWork = attempts('volumes');
    this.removals = attempts('remove');
    this.dataRemovals = attempts('remove data');
  }

  /** Returns as soon as the work has begun. */
  apply(action: RuntimeAction, key: Key, causes: readonly number[]): void {
    const where = `${key.namespace}/${key.name}`;
    const { runtime, cache } = this.#context;
    switch (action.verb) {
      case 'start-container':
        this.#keepFolder(key, action.uid);
        this.starts.begin(`${action.uid}/${action.container}`, where, () =>
          startContainer(this.#context, this.#startGate, {
            action,
            key,
            causes,
            pulled: this.pulledFor.get(`${action.uid}/${action.container}`) === action.attempt,
          }),
        );
        return;
      case 'pull-image':
        this.pulls.begin(`${action.uid}/${action.container}`, where, () => this.#pull(action, key));
        return;
      case 'prepare-volumes':
        this.#keepFolder(key, action.uid);
        this.volumeWork.begin(action.uid, where, () => this.#prepareVolumes(action.uid, key));
        return;
      case 'signal-container':
        this.signals.set(action.containerId, { signal: action.signal, atMs: this.#context.now() });
        this.#context.notes.add({
          kind: action.signal === 'kill' ? 'killing' : 'stopping',
          containerId: action.containerId,
          podUid: action.uid,
          podNamespace: key.namespace,
          podName: key.name,
          containerName: action.container,
          message: action.because,
          causes,
        });
        void this.#signal(action.containerId, action.signal).catch((error: unknown) => {
          this.#context.logger.warn(
            { pod: where, container: action.container, err: error },
            'a container could not be signalled; it will be tried again',
          );
          this.signals.delete(action.containerId);
          setTimeout(() => this.#enqueue(key), 1_000);
        });
        return;
      case 'remove-container':
        this.removals.begin(action.containerId, where, () =>
          this.#removalGate.pass(async () => {
            await runtime.killRemains(action.containerId);
            await runtime.removeContainer(action.containerId);
            await cache.refresh(action.containerId);
            this.forgetContainer(action.containerId);
          }),
        );
        return;
      case 'run-hook':
        void this.#runHook(action, key);
        return;
      case 'run-probe':
        void this.#runProbe(action, key);
        return;
      case 'remove-data':
        this.dataRemovals.begin(action.uid, where, () => this.#removeData(action.uid));
        return;
      default:
        action satisfies never;
    }
  }

  isStarting(uid: string, container: string): boolean {
    return this.starts.of(`${uid}/${container}`).inFlight;
  }

  async idle(): Promise<void> {
    await Promise.all(
      [this.starts, this.pulls, this.volumeWork, this.removals, this.dataRemovals].map((attempts) => attempts.idle()),
    );
  }

  /** Nothing is remembered of containers that are gone. */
  forgetContainer(id: string): void {
    this.signals.delete(id);
    for (const hook of ['postStart', 'preStop']) this.hooks.delete(`${id}/${hook}`);
    for (const probe of ['startup', 'liveness', 'readiness']) this.probes.delete(`${id}/${probe}`);
    this.removals.forget(id);
  }

  #keepFolder({ namespace, name }: Key, uid: string): void {
    this.folders.set(uid, { namespace, name, uid });
  }

  async #pull(action: Extract<RuntimeAction, { verb: 'pull-image' }>, key: Key): Promise<void> {
    const { cache, record, now } = this.#context;
    const pod = wantedPod(this.#context, key, action.uid);
    if (pod === undefined) return;
    record(pod, 'Normal', 'Pulling', `Pulling image "${action.image}"`);
    const begunAtMs = now();
    try {
      await this.#pullGate.pass(() => this.#pullWithCredentials(pod, action.image));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      record(pod, 'Warning', 'Failed', `Failed to pull image "${action.image}": ${message}`);
      record(pod, 'Warning', 'Failed', 'Error: ErrImagePull');
      throw new WorkError('ErrImagePull', message, { cause: error });
    }
    cache.forgetImages();
    this.pulledFor.set(`${action.uid}/${action.container}`, action.attempt);
    record(
      pod,
      'Normal',
      'Pulled',
      `Successfully pulled image "${action.image}" in ${((now() - begunAtMs) / 1000).toFixed(1)}s`,
    );
  }

  /** With one credential after the other, or with none where none is for the registry. */
  async #pullWithCredentials(pod: Pod, image: string): Promise<void> {
    const { runtime, sources, record } = this.#context;
    const { secrets, missing } = await sources.pullSecrets(pod);
    if (missing.length > 0) {
      const message = `Unable to retrieve some image pull secrets (${missing.join(', ')}); attempting to pull the image may not succeed.`;
      record(pod, 'Warning', 'FailedToRetrieveImagePullSecret', message);
    }
    const [first, ...others] = credentialsFor(image, secrets);
    try {
      await runtime.pullImage(image, first === undefined ? {} : { credentials: first });
    } catch (error) {
      for (const credentials of others) {
        try {
          return await runtime.pullImage(image, { credentials });
        } catch {
          // What the first was told is what is reported.
        }
      }
      throw error;
    }
  }

  async #prepareVolumes(uid: string, key: Key): Promise<void> {
    const { runtime, folders, sources, record } = this.#context;
    const pod = wantedPod(this.#context, key, uid);
    if (pod === undefined) return;
    if (runtime.kind !== 'simulated') await folders.ensure(identityOf(pod));
    const references = await sources.of(pod);
    const facts = downwardFacts(this.#context, pod);
    const { fsGroup } = specOf(pod).securityContext ?? {};
    const prepared = new Map(this.prepared.get(uid));
    for (const volume of specOf(pod).volumes ?? []) {
      try {
        const source = volumeSource(volume, facts, references);
        if (runtime.kind !== 'simulated' || source.kind === 'engine') {
          await prepareVolume(volume.name, source, {
            uid,
            folders,
            engineVolume: this.#context.engineVolume,
            ...(fsGroup === undefined ? {} : { fsGroup }),
          });
        }
        prepared.set(volume.name, source.kind === 'files' ? source.hash : '');
      } catch (error) {
        if (!(error instanceof UnresolvedReferenceError || error instanceof VolumeError)) throw error;
        record(
          pod,
          'Warning',
          'FailedMount',
          `MountVolume.SetUp failed for volume "${volume.name}" : ${error.message}`,
        );
        throw new WorkError('FailedMount', error.message, { cause: error });
      } finally {
        this.prepared.set(uid, prepared);
      }
    }
  }

  async #signal(id: string, signal: 'stop' | 'kill'): Promise<void> {
    const { runtime } = this.#context;
    if (signal === 'kill') return runtime.signalContainer(id, 'KILL');
    await runtime.signalContainer(id, await runtime.stopSignal(id));
  }

  async #removeData(uid: string): Promise<void> {
    const { folders, runtime, addresses } = this.#context;
    if (runtime.kind !== 'simulated') await folders.remove(uid);
    addresses.release(uid);
    this.folders.delete(uid);
    this.prepared.delete(uid);
    this.#context.tokens.forget(uid);
    this.starts.forgetPrefix(`${uid}/`);
    this.pulls.forgetPrefix(`${uid}/`);
    this.volumeWork.forget(uid);
    for (const at of this.pulledFor.keys()) if (at.startsWith(`${uid}/`)) this.pulledFor.delete(at);
  }

  async #runHook(action: Extract<RuntimeAction, { verb: 'run-hook' }>, key: Key): Promise<void> {
    const place = `${action.containerId}/${action.hook}`;
    if (this.hooks.has(place)) return;
    this.hooks.set(place, { state: 'running' });
    const found = this.#slot(key, action.uid, action.container);
    const handler: (LifecycleHandler & { sleep?: { seconds: number } }) | undefined =
      found?.slot.container.lifecycle?.[action.hook];
    let outcome: ProbeOutcome = { success: true, message: '' };
    if (handler?.sleep !== undefined) {
      const { seconds } = handler.sleep;
      await new Promise((resolve) => setTimeout(resolve, Math.min(seconds * 1000, action.timeoutMs)));
    } else if (found !== undefined && handler !== undefined) {
      const tried = await this.#try(handler, {
        ...found,
        containerId: action.containerId,
        timeoutMs: action.timeoutMs,
      });
      outcome = tried === 'unknown' ? { success: false, message: 'the container engine did not answer' } : tried;
    }
    this.hooks.set(place, { state: outcome.success ? 'done' : 'failed', message: outcome.message });
    if (!outcome.success && found !== undefined) {
      const name = action.hook === 'postStart' ? 'PostStartHook' : 'PreStopHook';
      this.#context.record(found.pod, 'Warning', `Failed${name}`, `${name} failed: ${outcome.message}`);
    }
    this.#enqueue(key);
  }

  async #runProbe(action: Extract<RuntimeAction, { verb: 'run-probe' }>, key: Key): Promise<void> {
    const place = `${action.containerId}/${action.probe}`;
    const before = this.probes.get(place) ?? { inFlight: false, startedAtMs: 0, successes: 0, failures: 0 };
    const found = this.#slot(key, action.uid, action.container);
    const probe = found?.slot.container[PROBE_FIELDS[action.probe]];
    if (before.inFlight || found === undefined || probe === undefined) return;
    const trying: ProbeState = { ...before, inFlight: true, startedAtMs: this.#context.now() };
    this.probes.set(place, trying);
    const outcome = await this.#try(probe, {
      ...found,
      containerId: action.containerId,
      timeoutMs: (probe.timeoutSeconds ?? 1) * 1000,
    });
    if (this.probes.get(place) !== trying) return;
    if (outcome === 'unknown') {
      this.probes.set(place, { ...trying, inFlight: false });
      this.#enqueue(key);
      return;
    }
    this.probes.set(place, foldProbe(trying, outcome, probe, action.probe));
    if (!outcome.success) {
      const kind = `${action.probe.charAt(0).toUpperCase()}${action.probe.slice(1)}`;
      this.#context.record(found.pod, 'Warning', 'Unhealthy', `${kind} probe failed: ${outcome.message}`);
    }
    this.#enqueue(key);
  }

  #slot(key: Key, uid: string, container: string): { pod: Pod; slot: Slot } | undefined {
    const pod = this.#context.world.get<Pod>(POD_RESOURCE, key.namespace, key.name);
    if (pod?.metadata.uid !== uid) return undefined;
    const slot = slotsOf(pod).find(({ name }) => name === container);
    return slot === undefined ? undefined : { pod, slot };
  }

  #try(
    what: Probe | LifecycleHandler,
    on: { pod: Pod; slot: Slot; containerId: string; timeoutMs: number },
  ): Promise<ProbeOutcome | 'unknown'> {
    return tryProbe(what, {
      runtime: this.#context.runtime,
      containerId: on.containerId,
      container: on.slot.container,
      address: downwardFacts(this.#context, on.pod).address,
      timeoutMs: on.timeoutMs,
    });
  }
}

const PROBE_FIELDS = {
  startup: 'startupProbe',
  liveness: 'livenessProbe',
  readiness: 'readinessProbe',
} as const satisfies Record<ProbeKind, string>;
