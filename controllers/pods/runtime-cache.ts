/**
 * What the engine holds of this instance, kept current by its events and read afresh from time to time and after every break. The agent decides by this; nothing else asks the engine what is
 * there. `onChange` says which pod is concerned.
 */
import {
  RuntimeCallError,
  RuntimeTimeoutError,
  RuntimeUnavailableError,
  type Container,
  type ContainerRuntime,
  type Image,
} from '../../runtime/container-runtime.ts';
import { normalizeImageReference } from '../../runtime/image-reference.ts';
import type { Logger } from '../../sdk/logger.ts';
import { podOf, type PodIdentity } from './labels.ts';
import { UnreadContainers } from './unread-containers.ts';

const RELIST_MS = 60_000;
const RETRY_MS = 1_000;

export interface RuntimeCacheOptions {
  readonly runtime: ContainerRuntime;
  /** Of the containers that concern this agent. */
  readonly labels: Readonly<Record<string, string>>;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** A container of this pod has changed. */
  readonly onChange: (pod: PodIdentity) => void;
  /** An operation is just starting the container with these labels, and calls `refresh` when it has. */
  readonly isBeingStarted: (labels: Readonly<Record<string, string>>) => boolean;
  /** Everything may have changed: the engine went away, or came back. */
  readonly onAvailability: (available: boolean) => void;
  readonly onVolumeRemoved: (name: string) => void;
  readonly onNetworkRemoved: (name: string) => void;
  /** The engine has hung over this container since then; said again from time to time. */
  readonly onUnread: (container: Container, sinceMs: number) => void;
}

export class RuntimeCache {
  readonly #options: RuntimeCacheOptions;
  readonly #containers = new Map<string, Container>();
  readonly #byPod = new Map<string, Set<string>>();
  readonly #images = new Map<string, Image | 'absent'>();
  /** Ids being inspected; true when another change came in meanwhile. */
  readonly #refreshing = new Map<string, boolean>();
  readonly #unread: UnreadContainers;
  /** Ids of which the engine said `oom`. On a busy machine it may hear of that only after the container's end, and then never shows it in the container itself. */
  readonly #outOfMemory = new Set<string>();
  /** What became known of one container while a list was being read: the list is older. */
  #newer = new Set<string>();
  #available = false;
  #brokeAtMs = 0;
  #relisting: Promise<void> | undefined;
  #relistAgain = false;
  #changes = 0;

  constructor(options: RuntimeCacheOptions) {
    this.#options = options;
    this.#unread = new UnreadContainers({
      signal: options.signal,
      read: (id) => this.refresh(id),
      tell: (id, sinceMs) => {
        const container = this.#containers.get(id);
        if (container === undefined) this.#unread.settle(id);
        else if (this.#available) options.onUnread(container, sinceMs);
      },
    });
  }

  get available(): boolean {
    return this.#available;
  }

  /** When the engine was last seen to go away; 0 when it was not. */
  get brokeAtMs(): number {
    return this.#brokeAtMs;
  }

  /** Counts every change of a container; for those who record what is there. */
  get changes(): number {
    return this.#changes;
  }

  /** Resolves when the first list is in. Follows the engine until the signal is aborted. */
  async start(): Promise<void> {
    const { runtime, labels, signal } = this.#options;
    let first: (() => void) | undefined;
    const ready = new Promise<void>((resolve) => (first = resolve));
    void (async () => {
      for await (const event of runtime.events({ labels, signal })) {
        switch (event.kind) {
          case 'resync':
            this.#images.clear();
            void this.relist().then(() => first?.());
            break;
          case 'down':
            this.#brokeAtMs = Date.now();
            this.#setAvailable(false, event.reason);
            break;
          case 'container':
            if (event.action === 'oom') this.#outOfMemory.add(event.id);
            if (event.action === 'destroy') this.#forget(event.id);
            else if (this.#matters(event.action, event.labels)) void this.refresh(event.id);
            break;
          case 'image':
            this.#images.clear();
            break;
          case 'volume':
            if (event.action === 'destroy') this.#options.onVolumeRemoved(event.name);
            break;
          case 'network':
            if (event.action === 'destroy') this.#options.onNetworkRemoved(event.name);
            break;
          default:
            event satisfies never;
        }
      }
    })().catch((error: unknown) => this.#options.logger.error({ err: error }, 'following the engine has ended'));
    const timer = setInterval(() => void this.relist(), RELIST_MS);
    signal.addEventListener('abort', () => clearInterval(timer), { once: true });
    await ready;
  }

  of(namespace: string, name: string): readonly Container[] {
    const ids = this.#byPod.get(`${namespace}/${name}`);
    return ids === undefined ? [] : [...ids].flatMap((id) => this.#containers.get(id) ?? []);
  }

  all(): Iterable<Container> {
    return this.#containers.values();
  }

  get(id: string): Container | undefined {
    return this.#containers.get(id);
  }

  /** Reads one container anew. One over which the engine hangs stays as it was, and is read again later. */
  async refresh(id: string): Promise<void> {
    if (this.#refreshing.has(id)) {
      this.#refreshing.set(id, true);
      return;
    }
    this.#refreshing.set(id, false);
    try {
      do {
        this.#refreshing.set(id, false);
        const container = await this.#options.runtime.inspectContainer(id);
        this.#newer.add(id);
        if (container === undefined) this.#forget(id);
        else this.#put(container);
      } while (this.#refreshing.get(id) === true);
    } catch (error) {
      this.#notRead(id, error);
    } finally {
      this.#refreshing.delete(id);
    }
  }

  #notRead(id: string, error: unknown): void {
    const known = this.#containers.get(id);
    const wasUnread = this.#unread.has(id);
    if (known !== undefined && (error instanceof RuntimeTimeoutError || error instanceof RuntimeCallError))
      this.#put({ ...known, unread: true });
    if (wasUnread) return;
    this.#options.logger.warn(
      { err: error, container: id },
      'a container could not be read; everything is listed again',
    );
    // Whether the engine hangs over this one or over everything.
    setTimeout(() => void this.relist(), RETRY_MS).unref();
  }

  /** `unknown` while the engine does not answer. */
  async image(reference: string): Promise<Image | 'absent' | 'unknown'> {
    const name = reference.startsWith('sha256:') ? reference : normalizeImageReference(reference);
    const known = this.#images.get(name);
    if (known !== undefined) return known;
    try {
      const found = (await this.#options.runtime.inspectImage(reference)) ?? 'absent';
      this.#images.set(name, found);
      return found;
    } catch (error) {
      if (error instanceof RuntimeUnavailableError) return 'unknown';
      this.#images.set(name, 'absent');
      return 'absent';
    }
  }

  forgetImages(): void {
    this.#images.clear();
  }

  /** Lists everything; calls that come while one runs share the next. */
  relist(): Promise<void> {
    if (this.#relisting !== undefined) {
      this.#relistAgain = true;
      return this.#relisting;
    }
    this.#relisting = this.#list().finally(() => {
      this.#relisting = undefined;
      if (this.#relistAgain) {
        this.#relistAgain = false;
        void this.relist();
      }
    });
    return this.#relisting;
  }

  async #list(): Promise<void> {
    const { runtime, labels, signal } = this.#options;
    while (!signal.aborted) {
      try {
        const before = new Set(this.#containers.keys());
        this.#newer = new Set();
        const listed = await runtime.listContainers(labels);
        const ids = new Set(listed.map(({ id }) => id));
        for (const container of listed) {
          const known = this.#containers.get(container.id);
          if (this.#newer.has(container.id)) continue;
          this.#put(container.unread === true && known !== undefined ? { ...known, unread: true } : container);
        }
        for (const id of before) if (!ids.has(id) && !this.#refreshing.has(id)) void this.refresh(id);
        this.#setAvailable(true, '');
        return;
      } catch (error) {
        this.#setAvailable(false, error instanceof Error ? error.message : String(error));
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** What makes a container another than it was known to be. Who starts one reads it anew when it has started. */
  #matters(action: string, labels: Readonly<Record<string, string>>): boolean {
    if (action === 'create' || action === 'start') return !this.#options.isBeingStarted(labels);
    return action === 'die' || action === 'oom' || action === 'pause' || action === 'unpause';
  }

  #put(read: Container): void {
    const container = this.#outOfMemory.has(read.id) ? { ...read, outOfMemory: true } : read;
    const known = this.#containers.get(container.id);
    if (container.unread === true) this.#unread.add(container.id);
    else this.#unread.settle(container.id);
    const pod = podOf(container.labels);
    if (pod === undefined || (known !== undefined && JSON.stringify(known) === JSON.stringify(container))) return;
    this.#containers.set(container.id, container);
    const key = `${pod.namespace}/${pod.name}`;
    const ids = this.#byPod.get(key) ?? new Set();
    ids.add(container.id);
    this.#byPod.set(key, ids);
    this.#changes++;
    this.#options.onChange(pod);
  }

  #forget(id: string): void {
    this.#unread.settle(id);
    this.#outOfMemory.delete(id);
    this.#newer.add(id);
    const known = this.#containers.get(id);
    if (known === undefined) return;
    this.#containers.delete(id);
    const pod = podOf(known.labels);
    if (pod === undefined) return;
    const key = `${pod.namespace}/${pod.name}`;
    const ids = this.#byPod.get(key);
    ids?.delete(id);
    if (ids?.size === 0) this.#byPod.delete(key);
    this.#changes++;
    this.#options.onChange(pod);
  }

  #setAvailable(available: boolean, reason: string): void {
    if (this.#available === available) return;
    this.#available = available;
    if (available) this.#options.logger.info('the container engine answers');
    else this.#options.logger.warn({ reason }, 'the container engine does not answer');
    this.#options.onAvailability(available);
  }
}
