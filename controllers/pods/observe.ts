/** Puts together what is known of one pod: the World, the engine's containers, the work under way, the results of probes. Called before every plan. */
import { readFile } from 'node:fs/promises';
import type { Container, Image } from '../../runtime/container-runtime.ts';
import type { Observation } from '../../sdk/controller.ts';
import { downwardFacts, type AgentContext } from './agent-context.ts';
import { containerEnvironment } from './environment.ts';
import { attemptOf, CONTAINER_LABEL, POD_UID_LABEL, roleOf, SANDBOX_NAME } from './labels.ts';
import {
  POD_RESOURCE,
  type Attempted,
  type HookState,
  type Observed,
  type ObservedContainer,
  type Pod,
  type Preparation,
  type ProbeState,
  type SignalSent,
} from './observation.ts';
import type { Operations } from './operations.ts';
import { hasVolumes, isTerminal, slotsOf, specOf } from './pod-shape.ts';
import { UnresolvedReferenceError, type References } from './references.ts';
import { endOf, runs } from './slot-view.ts';
import { volumeSource } from './volumes/volume-source.ts';

const MAX_TERMINATION_BYTES = 4_096;
const MAX_FALLBACK_BYTES = 2_048;
const FALLBACK_LINES = 80;

export class PodObserver {
  readonly #context: AgentContext;
  readonly #operations: Operations;
  readonly #terminationMessages = new Map<string, string>();

  constructor(context: AgentContext, operations: Operations) {
    this.#context = context;
    this.#operations = operations;
  }

  forgetContainer(id: string): void {
    this.#terminationMessages.delete(id);
  }

  async observe(
    key: { namespace: string; name: string },
    nowMs: number,
  ): Promise<Observation<Pod, Observed> | undefined> {
    const context = this.#context;
    const { cache, nodeName, world } = context;
    const { namespace, name } = key;
    const found = world.get<Pod>(POD_RESOURCE, namespace, name);
    const present = found !== undefined && specOf(found).nodeName === nodeName;
    const dataOf = [...this.#operations.folders.values()]
      .filter((pod) => pod.namespace === namespace && pod.name === name)
      .map(({ uid }) => uid);
    if (!present && cache.of(namespace, name).length === 0 && dataOf.length === 0) return undefined;
    const gone = { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace } } as Pod;
    const pod = found ?? gone;
    const uid = pod.metadata.uid ?? '';
    const active = present && !isTerminal(pod) && pod.metadata.deletionTimestamp === undefined;
    const references = active && cache.available ? await context.sources.of(pod) : undefined;
    const images = present ? await this.#images(pod) : new Map<string, Image | 'absent' | 'unknown'>();
    for (const container of cache.of(namespace, name)) await this.#readTerminationMessage(pod, container);

    // From here on nothing waits: containers and the work on them are seen at one instant, so that what has just been started is not started again.
    const containers = cache.of(namespace, name);
    if (present && isTerminal(pod) && !containers.some(runs)) context.addresses.release(uid);
    const address = context.addresses.of(uid);
    const observed: Observed = {
      nowMs,
      nodeName,
      hostAddresses: context.hostAddresses,
      present,
      runtimeAvailable: cache.available,
      containers: containers.map((container) => this.#container(container)),
      starts: this.#starts(pod),
      preparations: present ? this.#preparations(pod, references, images) : {},
      volumes:
        references === undefined
          ? { ready: false, stale: false, work: this.#operations.volumeWork.of(uid) }
          : this.#volumes(pod, references),
      removals: pick(containers, (id) => this.#operations.removals.of(id)),
      signals: pick<SignalSent>(containers, (id) => this.#operations.signals.get(id)),
      hooks: pickNested<HookState>(containers, ['postStart', 'preStop'], (place) => this.#operations.hooks.get(place)),
      probes: pickNested<ProbeState>(containers, ['startup', 'liveness', 'readiness'], (place) =>
        this.#operations.probes.get(place),
      ),
      ...(address === undefined ? {} : { address }),
      dataOf,
      dataRemoval: this.#operations.dataRemovals.of(dataOf.find((other) => other !== uid) ?? uid),
    };
    return { desired: pod, observed };
  }

  #starts(pod: Pod): Record<string, Attempted> {
    const names = [SANDBOX_NAME, ...slotsOf(pod).map(({ name }) => name)];
    return Object.fromEntries(
      names.map((name) => [name, this.#operations.starts.of(`${pod.metadata.uid ?? ''}/${name}`)]),
    );
  }

  #container(container: Container): ObservedContainer {
    const uid = container.labels[POD_UID_LABEL] ?? '';
    const name = container.labels[CONTAINER_LABEL] ?? '';
    const starting = this.#operations.starts.of(`${uid}/${name}`).inFlight && container.state === 'created';
    const terminationMessage = this.#terminationMessages.get(container.id) ?? '';
    return {
      ...container,
      ...(starting ? { starting } : {}),
      ...(terminationMessage === '' ? {} : { terminationMessage }),
    };
  }

  /** What the container left at its `terminationMessagePath`, or the end of its log where that is asked for. Read once. */
  async #readTerminationMessage(pod: Pod, container: Container): Promise<void> {
    const { runtime, folders, cache } = this.#context;
    if (
      endOf(container) === undefined ||
      roleOf(container) === 'sandbox' ||
      this.#terminationMessages.has(container.id) ||
      runtime.kind === 'simulated'
    )
      return;
    const name = container.labels[CONTAINER_LABEL] ?? '';
    const spec = slotsOf(pod).find((slot) => slot.name === name)?.container;
    const file = folders.terminationFile(container.labels[POD_UID_LABEL] ?? '', name, attemptOf(container));
    let message = (await readFile(file).catch(() => Buffer.alloc(0)))
      .subarray(0, MAX_TERMINATION_BYTES)
      .toString('utf8');
    if (
      message === '' &&
      spec?.terminationMessagePolicy === 'FallbackToLogsOnError' &&
      container.exitCode !== 0 &&
      cache.available
    ) {
      try {
        const chunks: Buffer[] = [];
        for await (const chunk of await runtime.logs(container.id, { tailLines: FALLBACK_LINES }))
          chunks.push(chunk as Buffer);
        message = Buffer.concat(chunks).subarray(-MAX_FALLBACK_BYTES).toString('utf8');
      } catch {
        return;
      }
    }
    this.#terminationMessages.set(container.id, message);
  }

  async #images(pod: Pod): Promise<Map<string, Image | 'absent' | 'unknown'>> {
    const references = new Set(slotsOf(pod).map(({ container }) => container.image ?? ''));
    return new Map(
      await Promise.all(
        [...references].map(async (reference) => [reference, await this.#context.cache.image(reference)] as const),
      ),
    );
  }

  #preparations(
    pod: Pod,
    references: References | undefined,
    images: ReadonlyMap<string, Image | 'absent' | 'unknown'>,
  ): Record<string, Preparation> {
    const facts = downwardFacts(this.#context, pod);
    const uid = pod.metadata.uid ?? '';
    const preparations: Record<string, Preparation> = {};
    for (const { name, container } of slotsOf(pod)) {
      const image = images.get(container.image ?? '') ?? 'unknown';
      const pulledForAttempt = this.#operations.pulledFor.get(`${uid}/${name}`);
      const configError =
        references === undefined ? undefined : configErrorOf(() => containerEnvironment(container, facts, references));
      preparations[name] = {
        image: typeof image === 'string' ? image : 'present',
        pull: this.#operations.pulls.of(`${uid}/${name}`),
        ...(typeof image === 'string' ? {} : { imageId: image.digests[0] ?? image.id }),
        ...(pulledForAttempt === undefined ? {} : { pulledForAttempt }),
        ...(configError === undefined ? {} : { configError }),
      };
    }
    return preparations;
  }

  #volumes(pod: Pod, references: References): Observed['volumes'] {
    const uid = pod.metadata.uid ?? '';
    const work = this.#operations.volumeWork.of(uid);
    if (!hasVolumes(pod)) return { ready: true, stale: false, work };
    const prepared = this.#operations.prepared.get(uid);
    const facts = downwardFacts(this.#context, pod);
    let ready = true;
    let stale = false;
    let renewAtMs = Infinity;
    let problem: string | undefined;
    for (const volume of specOf(pod).volumes ?? []) {
      const shown = prepared?.get(volume.name);
      ready &&= shown !== undefined;
      try {
        const source = volumeSource(volume, facts, references);
        stale ||= shown !== undefined && source.kind === 'files' && source.hash !== shown;
        if (source.kind === 'files') renewAtMs = Math.min(renewAtMs, source.renewAtMs ?? Infinity);
      } catch (error) {
        if (!(error instanceof UnresolvedReferenceError)) throw error;
        // What is shown stays when its source goes away.
        if (shown === undefined) problem = error.message;
      }
    }
    return {
      ready,
      stale,
      work,
      ...(problem === undefined ? {} : { problem }),
      ...(renewAtMs < Infinity && { renewAtMs }),
    };
  }
}

function configErrorOf(resolve: () => unknown): Preparation['configError'] {
  try {
    resolve();
    return undefined;
  } catch (error) {
    if (!(error instanceof UnresolvedReferenceError)) throw error;
    return { reason: 'CreateContainerConfigError', message: error.message };
  }
}

function pick<T>(containers: readonly Container[], of: (id: string) => T | undefined): Record<string, T> {
  const found: Record<string, T> = {};
  for (const { id } of containers) {
    const value = of(id);
    if (value !== undefined) found[id] = value;
  }
  return found;
}

function pickNested<T>(
  containers: readonly Container[],
  names: readonly string[],
  of: (place: string) => T | undefined,
): Record<string, T> {
  const found: Record<string, T> = {};
  for (const { id } of containers) {
    for (const name of names) {
      const value = of(`${id}/${name}`);
      if (value !== undefined) found[`${id}/${name}`] = value;
    }
  }
  return found;
}
