/**
 * Records in PostgreSQL what is on the node: containers as they change, everything from time to time. PostgreSQL may be away: then nothing is lost that a snapshot does not bring back.
 * Started by index.ts.
 */
import type { Container } from '../../runtime/container-runtime.ts';
import type { AgentState } from '../../state/runtime-state.ts';
import type { AddressFacts, ContainerFacts } from '../../state/runtime-facts.ts';
import type { AgentContext } from './agent-context.ts';
import { instanceLabels } from './agent-context.ts';
import { ATTEMPT_LABEL, CAUSE_LABEL, CONTAINER_LABEL, podOf, type PodIdentity } from './labels.ts';

const FLUSH_MS = 200;
const SNAPSHOT_MS = 60_000;
const RETRY_MS = 3_000;
/** More changes than this at once are quicker as a snapshot. */
const MAX_SINGLE = 20;
const USAGE_MS = 15_000;
const USAGE_AT_ONCE = 4;
/** So long what happened to containers is kept. */
const KEEP_EVENTS_DAYS = 30;
const PRUNE_MS = 3_600_000;

export class RuntimeRecorder {
  readonly #context: AgentContext;
  readonly #state: AgentState;
  readonly #recorded = new Map<string, Container>();
  #recordedAddresses = '';
  #snapshotDue = true;
  #seen = -1;
  #lastSnapshotMs = 0;
  #restUntilMs = 0;
  #failing = false;

  constructor(context: AgentContext, state: AgentState) {
    this.#context = context;
    this.#state = state;
  }

  /** Runs until the signal is aborted. */
  start(signal: AbortSignal): void {
    let busy = false;
    const timer = setInterval(() => {
      if (busy) return;
      busy = true;
      void this.#tick().finally(() => (busy = false));
    }, FLUSH_MS);
    let measuring = false;
    const usage = setInterval(() => {
      if (measuring) return;
      measuring = true;
      void this.#measure().finally(() => (measuring = false));
    }, USAGE_MS);
    const pruning = setInterval(() => void this.#prune(), PRUNE_MS);
    signal.addEventListener('abort', () => {
      clearInterval(timer);
      clearInterval(usage);
      clearInterval(pruning);
    });
  }

  async #tick(): Promise<void> {
    const { cache, nodeName, notes, now, logger } = this.#context;
    if (now() < this.#restUntilMs || !cache.available) return;
    if (now() - this.#lastSnapshotMs >= SNAPSHOT_MS) this.#snapshotDue = true;
    if (!this.#snapshotDue && cache.changes === this.#seen && notes.isEmpty) return;
    const seen = cache.changes;
    try {
      await notes.write((note) => this.#state.recordEvent(nodeName, note));
      await (this.#snapshotDue ? this.#snapshot() : this.#changes());
      this.#seen = seen;
      if (this.#failing) logger.info('what is on the node is recorded again');
      this.#failing = false;
    } catch (error) {
      this.#snapshotDue = true;
      this.#restUntilMs = now() + RETRY_MS;
      if (!this.#failing) logger.warn({ err: error }, 'what is on the node could not be recorded; a snapshot will be');
      this.#failing = true;
    }
  }

  async #changes(): Promise<void> {
    const { cache, nodeName } = this.#context;
    const present = new Map([...cache.all()].map((container) => [container.id, container]));
    const changed = [...present.values()].filter((container) => this.#recorded.get(container.id) !== container);
    const gone = [...this.#recorded.keys()].filter((id) => !present.has(id));
    if (changed.length + gone.length > MAX_SINGLE) return this.#snapshot();
    for (const container of changed) {
      await this.#state.recordContainer(nodeName, factsOf(container));
      this.#recorded.set(container.id, container);
    }
    for (const id of gone) {
      await this.#state.removeContainer(nodeName, id);
      this.#recorded.delete(id);
    }
    const addresses = this.#addresses();
    if (JSON.stringify(addresses) === this.#recordedAddresses) return;
    await this.#state.recordSnapshot(nodeName, { addresses });
    this.#recordedAddresses = JSON.stringify(addresses);
  }

  #addresses(): AddressFacts[] {
    const { cache, addresses } = this.#context;
    const owners = new Map<string, PodIdentity>();
    for (const { labels } of cache.all()) {
      const pod = podOf(labels);
      if (pod !== undefined) owners.set(pod.uid, pod);
    }
    return [...addresses.entries()].map(([podUid, address]) => {
      const pod = owners.get(podUid);
      return { address, podUid, ...(pod === undefined ? {} : { podNamespace: pod.namespace, podName: pod.name }) };
    });
  }

  async #snapshot(): Promise<void> {
    const { cache, runtime, nodeName, instance, now } = this.#context;
    const containers = [...cache.all()];
    const [images, volumes] = await Promise.all([runtime.listImages(), runtime.listVolumes(instanceLabels(instance))]);
    await this.#state.recordSnapshot(nodeName, {
      containers: containers.map(factsOf),
      images: images.map(({ id, tags, sizeBytes }) => ({ id, tags, sizeBytes })),
      volumes: volumes.map(({ name, driver, labels, mountpoint, createdAtMs }) => ({
        name,
        driver,
        labels,
        ...(mountpoint === '' ? {} : { mountpoint }),
        ...(createdAtMs === 0 ? {} : { createdAt: new Date(createdAtMs).toISOString() }),
      })),
      addresses: this.#addresses(),
    });
    this.#recorded.clear();
    for (const container of containers) this.#recorded.set(container.id, container);
    this.#snapshotDue = false;
    this.#lastSnapshotMs = now();
  }

  async #prune(): Promise<void> {
    const { logger } = this.#context;
    try {
      const pruned = await this.#state.pruneEvents(KEEP_EVENTS_DAYS);
      if (pruned > 0)
        logger.info({ pruned, keepDays: KEEP_EVENTS_DAYS }, 'what happened to containers long ago is let go');
    } catch (error) {
      logger.warn({ err: error }, 'old events of containers could not be let go; it will be tried again');
    }
  }

  async #measure(): Promise<void> {
    const { cache, runtime, nodeName } = this.#context;
    if (!cache.available || this.#failing || runtime.kind === 'simulated') return;
    const running = [...cache.all()].filter(({ state }) => state === 'running');
    const figures: { id: string; cpuNanoseconds: number; memoryBytes: number }[] = [];
    for (let start = 0; start < running.length; start += USAGE_AT_ONCE) {
      const part = running.slice(start, start + USAGE_AT_ONCE).map(async ({ id }) => {
        const usage = await runtime.usage(id).catch(() => undefined);
        if (usage !== undefined)
          figures.push({ id, cpuNanoseconds: usage.cpuNanoseconds, memoryBytes: usage.memoryWorkingSetBytes });
      });
      await Promise.all(part);
    }
    await this.#state.recordUsage(nodeName, figures).catch(() => undefined);
  }
}

export function factsOf(container: Container): ContainerFacts {
  const pod = podOf(container.labels);
  const name = container.labels[CONTAINER_LABEL];
  const time = (timeMs: number | undefined): string | undefined =>
    timeMs === undefined ? undefined : new Date(timeMs).toISOString();
  const startedAt = time(container.startedAtMs);
  const finishedAt = time(container.finishedAtMs);
  const ended = container.state === 'exited' || container.state === 'dead';
  return {
    id: container.id,
    ...(pod === undefined ? {} : { podUid: pod.uid, podNamespace: pod.namespace, podName: pod.name }),
    ...(name === undefined ? {} : { containerName: name }),
    attempt: Number(container.labels[ATTEMPT_LABEL] ?? 0),
    image: container.image,
    imageId: container.imageId,
    state: container.state,
    ...(container.processId > 0 ? { pid: container.processId } : {}),
    ...(ended ? { exitCode: container.exitCode } : {}),
    oomKilled: container.outOfMemory,
    createdAt: new Date(container.createdAtMs).toISOString(),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(finishedAt === undefined ? {} : { finishedAt }),
    ...(container.address === undefined ? {} : { address: container.address }),
    labels: container.labels,
    causes: (container.labels[CAUSE_LABEL] ?? '').split(',').filter(Boolean).map(Number),
  };
}
