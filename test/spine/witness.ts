/**
 * Watches one Deployment from outside while faults are made: through the API by asking, through the engine by its events and by asking. Keeps what must never happen: too few pods available, two
 * containers at once in one slot, one attempt started twice. Used by faults.test.ts and by prove-faults.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { docker } from '../harness/docker-cleaning.ts';
import { isReady, type Json, type Space } from './stage.ts';

export interface WitnessOptions {
  readonly space: Space;
  readonly app: string;
  /** Fewer pods than this must never be available, as the API tells. */
  readonly minimum: number;
  /** The containers themselves may be killed: then their number says nothing. */
  readonly containersDie?: boolean;
  /** An engine that is killed may forget that it has just started a container: that one is thrown away, and its attempt made anew. Two at a time are a fault all the same. */
  readonly engineForgets?: boolean;
}

export interface Testimony {
  /** Sentences; empty when all held. */
  readonly faults: readonly string[];
  readonly apiSamples: number;
  readonly engineSamples: number;
  readonly fewestAvailable: number;
  readonly fewestRunning: number;
  readonly containersStarted: number;
}

interface Listed {
  readonly Id: string;
  readonly State: string;
  readonly Labels: Readonly<Record<string, string>>;
}

/** Often enough for a container's start or end, and not so often that looking keeps a core busy. */
const SAMPLE_MS = 250;
const MAX_FAULTS = 20;

export class Witness {
  readonly #options: WitnessOptions;
  readonly #ending = new AbortController();
  readonly #faults: string[] = [];
  readonly #startsOf = new Map<string, number>();
  readonly #idsOfAttempt = new Map<string, Set<string>>();
  readonly #podUids = new Set<string>();
  readonly #work: Promise<unknown>;
  #apiSamples = 0;
  #engineSamples = 0;
  #fewestAvailable = Number.POSITIVE_INFINITY;
  #fewestRunning = Number.POSITIVE_INFINITY;

  constructor(options: WitnessOptions) {
    this.#options = options;
    this.#work = Promise.all([this.#askApi(), this.#askEngine(), this.#hearEngine()]);
  }

  /** Every pod of the app that was ever seen. */
  get podsSeen(): number {
    return this.#podUids.size;
  }

  async end(): Promise<Testimony> {
    this.#ending.abort();
    await this.#work;
    return {
      faults: this.#faults,
      apiSamples: this.#apiSamples,
      engineSamples: this.#engineSamples,
      fewestAvailable: this.#fewestAvailable,
      fewestRunning: this.#fewestRunning,
      containersStarted: this.#startsOf.size,
    };
  }

  #fault(sentence: string): void {
    if (this.#faults.length < MAX_FAULTS) this.#faults.push(`${new Date().toISOString()} ${sentence}`);
  }

  async #askApi(): Promise<void> {
    const { space, app, minimum } = this.#options;
    while (!this.#ending.signal.aborted) {
      // While the API is down nobody can be told anything wrong.
      const pods = await space.list('pods', `app=${app}`).catch(() => undefined);
      if (pods !== undefined) {
        this.#apiSamples++;
        for (const { metadata } of pods) this.#podUids.add(metadata.uid);
        const available = pods.filter((pod: Json) => isReady(pod) && pod.metadata.deletionTimestamp === undefined);
        this.#fewestAvailable = Math.min(this.#fewestAvailable, available.length);
        if (available.length < minimum)
          this.#fault(`${available.length} pods are available, at least ${minimum} should be: ${describe(pods)}`);
      }
      await sleep(SAMPLE_MS);
    }
  }

  async #askEngine(): Promise<void> {
    const { minimum, containersDie } = this.#options;
    while (!this.#ending.signal.aborted) {
      const containers = await this.#listed().catch(() => undefined);
      if (containers !== undefined) {
        this.#engineSamples++;
        const running = containers.filter(({ State }) => State === 'running');
        this.#fewestRunning = Math.min(this.#fewestRunning, running.length);
        if (running.length < minimum && containersDie !== true)
          this.#fault(`${running.length} containers run, at least ${minimum} should`);
        const slots = running.map(({ Labels }) => `${Labels['reckon.dev/pod-name']}/${Labels['reckon.dev/container']}`);
        for (const slot of new Set(slots.filter((slot, index) => slots.indexOf(slot) !== index)))
          this.#fault(`two containers run in ${slot}`);
        // One that was never started may be thrown away and made again.
        for (const { Id, State, Labels } of containers) if (State !== 'created') this.#noteAttempt(Id, Labels);
      }
      await sleep(SAMPLE_MS);
    }
  }

  /** The engine's plain list, which is much quicker than looking into each. */
  async #listed(): Promise<Listed[]> {
    const { space, app } = this.#options;
    const { reckon } = space.stage;
    const label = [
      `reckon.dev/instance=${reckon.instance.settings.clusterId}`,
      `reckon.dev/pod-namespace=${space.namespace}`,
    ];
    const filters = encodeURIComponent(JSON.stringify({ label }));
    const listed = (await docker(reckon.dockerHost, 'GET', `/containers/json?all=1&filters=${filters}`)) as Listed[];
    return listed.filter(({ Labels }) => Labels['reckon.dev/pod-name']?.startsWith(`${app}-`));
  }

  async #hearEngine(): Promise<void> {
    const { space } = this.#options;
    const labels = {
      'reckon.dev/instance': space.stage.reckon.instance.settings.clusterId,
      'reckon.dev/pod-namespace': space.namespace,
    };
    for await (const event of space.stage.runtime.events({ labels, signal: this.#ending.signal })) {
      if (event.kind !== 'container' || event.action !== 'start') continue;
      this.#noteAttempt(event.id, event.labels);
      const starts = (this.#startsOf.get(event.id) ?? 0) + 1;
      this.#startsOf.set(event.id, starts);
      if (starts > 1)
        this.#fault(
          `container ${event.id.slice(0, 12)} of ${event.labels['reckon.dev/pod-name']} was started ${starts} times`,
        );
    }
  }

  /** One attempt at one slot is one container, for ever. */
  #noteAttempt(id: string, labels: Readonly<Record<string, string>>): void {
    const attempt = [labels['reckon.dev/pod-uid'], labels['reckon.dev/container'], labels['reckon.dev/attempt']].join(
      '/',
    );
    const ids = this.#idsOfAttempt.get(attempt) ?? new Set();
    if (!ids.has(id) && ids.size > 0 && this.#options.engineForgets !== true)
      this.#fault(`attempt ${attempt} of ${labels['reckon.dev/pod-name']} has a second container`);
    this.#idsOfAttempt.set(attempt, ids.add(id));
  }
}

function describe(pods: readonly Json[]): string {
  return pods
    .map(({ metadata, status }) => {
      const ready = isReady({ status }) ? 'ready' : (status?.phase ?? 'new');
      return `${metadata.name} ${metadata.deletionTimestamp === undefined ? ready : 'ending'}`;
    })
    .join(', ');
}

/** What is left in the engine is what the API says should be there: one running container a pod, none beside. Sentences; empty when so. */
export async function leftovers(space: Space): Promise<string[]> {
  const pods = await space.list('pods');
  const uids = new Map(pods.map((pod) => [pod.metadata.uid as string, pod.metadata.name as string]));
  const containers = await space.containers();
  const orphans = containers.filter(({ labels }) => !uids.has(labels['reckon.dev/pod-uid'] ?? ''));
  const faults = orphans.map(({ name }) => `container ${name} has no pod`);
  for (const [uid, name] of uids) {
    const own = containers.filter(({ labels }) => labels['reckon.dev/pod-uid'] === uid);
    const running = own.filter(({ state }) => state === 'running');
    if (running.length === 1) continue;
    const all = own.map(
      ({ id, labels, state }) => `${id.slice(0, 12)} attempt ${labels['reckon.dev/attempt']} ${state}`,
    );
    faults.push(`pod ${name} has ${running.length} running containers: ${all.join(', ')}`);
  }
  return faults;
}
