/**
 * The objects of one resource in memory: what stands now, what happened lately, and who is watching. Filled by `stream-cache.ts` in log order; read by the get, list and watch verbs.
 */
import { byId, type Entry } from './entry.ts';

export interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly entry: Entry;
  /** The object before this event. */
  readonly previous?: Entry;
}

export interface Watcher {
  event(event: WatchEvent): void;
  /** The cache has lost its place in the log: the watch must end, and its client list again. */
  lost(): void;
}

/** How many past events of a resource a watch can begin from without asking the history. */
export const RECENT_EVENTS = 10_000;

export class ResourceCache {
  readonly #entries = new Map<string, Entry>();
  /** Sequences of tombstones, the guards of a re-creation. */
  readonly #tombstones = new Map<string, number>();
  readonly #watchers = new Set<Watcher>();
  #recent: WatchEvent[] = [];
  /** Events after this sequence are all in `#recent`. */
  #recentFrom = 0;
  #sorted: readonly Entry[] | undefined;

  get(id: string): Entry | undefined {
    return this.#entries.get(id);
  }

  /** The sequence that a write to this object must name as its guard. */
  guard(id: string): number {
    return this.#entries.get(id)?.sequence ?? this.#tombstones.get(id) ?? 0;
  }

  /** All entries by namespace and name. The array is never changed afterwards: it is a snapshot. */
  list(): readonly Entry[] {
    this.#sorted ??= [...this.#entries.values()].sort(byId);
    return this.#sorted;
  }

  /** In no order. */
  inNamespace(namespace: string): Entry[] {
    return [...this.#entries.values()].filter(({ key }) => key.namespace === namespace);
  }

  get size(): number {
    return this.#entries.size;
  }

  put(entry: Entry, announce: boolean): void {
    const previous = this.#entries.get(entry.id);
    if (previous && previous.sequence >= entry.sequence) return;
    this.#entries.set(entry.id, entry);
    this.#tombstones.delete(entry.id);
    this.#sorted = undefined;
    if (announce) this.#publish(previous ? { type: 'MODIFIED', entry, previous } : { type: 'ADDED', entry });
  }

  /** `final` carries the tombstone's sequence; absent where a record expired by itself. */
  remove(id: string, sequence: number, final: (previous: Entry) => Entry, announce: boolean): void {
    const previous = this.#entries.get(id);
    this.#tombstones.set(id, sequence);
    if (!previous) return;
    this.#entries.delete(id);
    this.#sorted = undefined;
    if (announce) this.#publish({ type: 'DELETED', entry: final(previous), previous });
  }

  /** The log has trimmed it: the object's guard is 0 again. */
  forgetTombstone(id: string): void {
    this.#tombstones.delete(id);
  }

  /** Forgets everything, to be filled from a new snapshot. */
  clear(): void {
    for (const watcher of this.#watchers) watcher.lost();
    this.#watchers.clear();
    this.#entries.clear();
    this.#tombstones.clear();
    this.#sorted = undefined;
    this.beginHistory(Number.MAX_SAFE_INTEGER);
  }

  /** The snapshot is complete: events from here on are remembered. */
  beginHistory(position: number): void {
    this.#recent = [];
    this.#recentFrom = position;
  }

  /** Events after `sequence` in order, or undefined when memory does not reach back that far. */
  since(sequence: number): readonly WatchEvent[] | undefined {
    if (sequence < this.#recentFrom) return undefined;
    let low = 0;
    let high = this.#recent.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#recent[middle] as WatchEvent).entry.sequence <= sequence) low = middle + 1;
      else high = middle;
    }
    return this.#recent.slice(low);
  }

  watch(watcher: Watcher): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  get watcherCount(): number {
    return this.#watchers.size;
  }

  #publish(event: WatchEvent): void {
    this.#recent.push(event);
    if (this.#recent.length > RECENT_EVENTS * 2) {
      const dropped = this.#recent.splice(0, RECENT_EVENTS);
      this.#recentFrom = (dropped.at(-1) as WatchEvent).entry.sequence;
    }
    for (const watcher of this.#watchers) watcher.event(event);
  }
}
