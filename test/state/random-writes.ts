/**
 * Random histories from a seed, written through the real log, with an independent model of what the projection must then say: the plain list of what was acknowledged, and answers worked out from it the
 * slow way. Used by the tests of this room.
 */
import type { EventLog, ObjectKey, Verb, Write } from '../../event-log/event-log.ts';

export interface Written extends Write {
  readonly sequence: number;
  readonly transaction: { readonly place: number; readonly count: number } | undefined;
}

/** mulberry32: small, and the same everywhere. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const kinds = [
  { group: '', resource: 'configmaps' },
  { group: 'apps', resource: 'deployments' },
];
const namespaces = ['default', 'shop', 'shop.eu'];

export class RandomWrites {
  /** In log order. */
  readonly written: Written[] = [];
  readonly #log: EventLog;
  readonly #random: () => number;
  readonly #names: number;
  readonly #uids = new Map<string, string>();
  readonly #guards = new Map<string, number>();
  #count = 0;

  constructor(log: EventLog, random: () => number, names = 12) {
    this.#log = log;
    this.#random = random;
    this.#names = names;
  }

  async run(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) await (this.#random() < 0.15 ? this.#transaction() : this.#single());
  }

  /** After the log has lost records: goes on from what is left. */
  forgetAfter(sequence: number): void {
    while ((this.written.at(-1)?.sequence ?? 0) > sequence) this.written.pop();
    this.#uids.clear();
    this.#guards.clear();
    for (const write of this.written) this.#remember(write, write.sequence);
  }

  async #single(): Promise<void> {
    const write = this.#write();
    const { sequence } = await this.#log.append(write);
    this.#remember(write, sequence);
    this.written.push({ ...write, sequence, transaction: undefined });
  }

  async #transaction(): Promise<void> {
    const byKey = new Map<string, Write>();
    for (let member = 0; member < 2 + this.#pick(5); member++) {
      const write = this.#write();
      byKey.set(text(write.key), write);
    }
    const writes = [...byKey.values()];
    const appended = await this.#log.transaction(writes);
    for (const [index, write] of writes.entries()) {
      const { sequence } = appended[index]!;
      this.#remember(write, sequence);
      this.written.push({
        ...write,
        sequence,
        transaction: writes.length === 1 ? undefined : { place: index + 1, count: writes.length },
      });
    }
  }

  #remember(write: Write, sequence: number): void {
    if (write.verb === 'delete') this.#uids.delete(text(write.key));
    else this.#uids.set(text(write.key), write.uid);
    this.#guards.set(text(write.key), sequence);
  }

  #write(): Write {
    const count = ++this.#count;
    const kind = kinds[this.#pick(kinds.length)]!;
    const key = {
      ...kind,
      namespace: namespaces[this.#pick(namespaces.length)]!,
      name: `name.${this.#pick(this.#names)}`,
    };
    const living = this.#uids.get(text(key));
    const uid = living ?? `uid-${count}-${this.#pick(1e9)}`;
    const verb: Verb =
      living === undefined
        ? 'create'
        : this.#random() < 0.2
          ? 'delete'
          : (['update', 'patch', 'apply'] as const)[this.#pick(3)]!;
    const plane = living !== undefined && verb !== 'delete' && this.#random() < 0.4 ? 'observed' : 'desired';
    // Keys out of order, escapes and a number beyond 2^53: what comes back has to be the bytes that went in.
    const object = `{"metadata":{"uid":"${uid}","name":"${key.name}"},"b":"\\u0000\\u00e9\\"","a": 12345678901234567890, "count":${count}}`;
    const causes =
      this.written.length > 0 && this.#random() < 0.5 ? [this.written[this.#pick(this.written.length)]!.sequence] : [];
    return {
      key,
      plane,
      verb,
      uid,
      guard: this.#guards.get(text(key)) ?? 0,
      object,
      actor: `user-${this.#pick(3)}`,
      requestId: `request-${count}`,
      causes,
      time: new Date().toISOString(),
    };
  }

  #pick(below: number): number {
    return Math.floor(this.#random() * below);
  }

  /** The end of the transaction that a sequence is in. */
  settled(sequence: number): number {
    const at = this.written.find((write) => write.sequence === sequence);
    return sequence + (at?.transaction ? at.transaction.count - at.transaction.place : 0);
  }

  /** The newest version of each living object of a resource, by namespace and name. */
  aliveAt(kind: { group: string; resource: string }, sequence: number, namespace?: string): Written[] {
    const alive = new Map<string, Written>();
    for (const write of this.written) {
      if (write.sequence > sequence || write.key.group !== kind.group || write.key.resource !== kind.resource) continue;
      if (namespace !== undefined && write.key.namespace !== namespace) continue;
      if (write.verb === 'delete') alive.delete(text(write.key));
      else alive.set(text(write.key), write);
    }
    const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
    return [...alive.values()].sort((a, b) => order(a.key.namespace, b.key.namespace) || order(a.key.name, b.key.name));
  }

  versionsOf(key: ObjectKey): Written[] {
    return this.written.filter((write) => text(write.key) === text(key));
  }
}

function text(key: ObjectKey): string {
  return JSON.stringify([key.group, key.resource, key.namespace, key.name]);
}
