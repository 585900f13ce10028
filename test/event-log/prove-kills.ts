/**
 * Writers and followers under a server that is killed, paused and stopped again and again; afterwards the log's content is compared with what every caller was told. Long in
 * `npm run prove`, a few rounds in `npm test` (kills.test.ts). Alone: `node dist/test/event-log/prove-kills.js [rounds] [seed]`.
 */
import { pathToFileURL } from 'node:url';
import { GuardError, LogUnavailableError } from '../../event-log/event-log.ts';
import type { EventLog, Followed, LogReader, LogRecord, ObjectKey, Write } from '../../event-log/event-log.ts';
import { openEventLog, openLogReader } from '../../event-log/jetstream.ts';
import { startNatsChild } from './nats-child.ts';
import type { NatsChild } from './nats-child.ts';

export interface KillOptions {
  readonly rounds: number;
  readonly seed: number;
  /** The server, or servers, of whom it works; absent: one, which is killed, paused and stopped. */
  readonly start?: () => Promise<Disturbed>;
  readonly say?: (line: string) => void;
}

export interface KillReport {
  readonly rounds: number;
  readonly records: number;
  readonly acknowledged: number;
  readonly refused: number;
  readonly unknown: number;
  /** Of the unknown ones, those that stand. */
  readonly unknownStanding: number;
  readonly transactions: number;
  readonly resets: number;
  readonly slowestMs: number;
  /** Sentences; empty when everything held. */
  readonly faults: readonly string[];
}

/** Where the log is kept, and what is done to it. */
export interface Disturbed {
  readonly url: string;
  /** Of the streams. */
  readonly replicas: number;
  /** One fault, mended when it resolves. Resolves to what was done. */
  disturb(random: () => number): Promise<string>;
  remove(): Promise<void>;
}

const OBJECTS = 40;
export const PREFIX = 'kills';
const WORKERS_PER_WRITER = 16;
const APPEND_TIMEOUT_MS = 6_000;
const DETACHED_FAULTS = 20;

type Outcome = 'open' | 'refused' | 'unknown' | number;

interface Operation {
  readonly id: string;
  outcome: Outcome;
}

export async function proveKills(options: KillOptions): Promise<KillReport> {
  const random = mulberry32(options.seed);
  const server = await (options.start ?? oneServer)();
  const stage = new Stage(server, random);
  try {
    await stage.open();
    stage.work();
    for (let round = 1; round <= options.rounds; round += 1) {
      await sleep(200 + random() * 1_300);
      const what = await server.disturb(random);
      options.say?.(`round ${round}: ${what}; ${stage.summary()}`);
    }
    await sleep(1_500);
    return await stage.finish(options.rounds);
  } finally {
    await stage.close();
    await server.remove();
  }
}

async function oneServer(): Promise<Disturbed> {
  const server = await startNatsChild();
  return {
    url: server.url,
    replicas: 1,
    disturb: (random) => disturb(server, random),
    remove: () => server.remove(),
  };
}

async function disturb(server: NatsChild, random: () => number): Promise<string> {
  const kind = random();
  if (kind < 0.7) {
    await server.kill();
    await sleep(random() * 600);
    await server.start();
    return 'killed';
  }
  if (kind < 0.85) {
    const ms = 500 + random() * 7_000;
    await server.pause();
    await sleep(ms);
    server.resume();
    return `paused for ${(ms / 1000).toFixed(1)} s`;
  }
  await server.stop();
  await sleep(random() * 600);
  await server.start();
  return 'stopped';
}

/** Everybody who writes and follows, and what they were told. */
class Stage {
  readonly #server: Disturbed;
  readonly #random: () => number;
  readonly #operations = new Map<string, Operation>();
  readonly #transactions: string[][] = [];
  /** The newest sequence of each object that somebody was told. */
  readonly #newest = new Map<string, number>();
  readonly #faults: string[] = [];
  readonly #abort = new AbortController();
  readonly #stop = new AbortController();
  #writers: (EventLog & { close(): Promise<void> })[] = [];
  #reader: (LogReader & { close(): Promise<void> }) | undefined;
  #followers: { name: string; records: LogRecord[]; resets: number; position: number }[] = [];
  #workers: Promise<void>[] = [];
  #count = 0;
  #slowestMs = 0;

  constructor(server: Disturbed, random: () => number) {
    this.#server = server;
    this.#random = random;
  }

  async open(): Promise<void> {
    const { url, replicas } = this.#server;
    const options = { url, prefix: PREFIX, stream: 'log' as const };
    this.#writers = [
      await openEventLog({ ...options, replicas, timeoutMs: APPEND_TIMEOUT_MS }),
      await openEventLog({ ...options, replicas, timeoutMs: APPEND_TIMEOUT_MS }),
    ];
    this.#reader = await openLogReader(options);
    for (const [name, log] of [
      ...this.#writers.map((writer, index) => [`writer ${index}`, writer] as const),
      ['reader', this.#reader] as const,
    ]) {
      const follower = { name, records: [], resets: 0, position: 0 };
      this.#followers.push(follower);
      void this.#follow(log, follower);
    }
  }

  work(): void {
    for (const writer of this.#writers) {
      for (let index = 0; index < WORKERS_PER_WRITER; index += 1) this.#workers.push(this.#worker(writer));
    }
  }

  summary(): string {
    return `${this.#operations.size} writes, followers at ${this.#followers.map((follower) => follower.position).join(', ')}`;
  }

  async finish(rounds: number): Promise<KillReport> {
    this.#stop.abort();
    await Promise.all(this.#workers);
    const reader = this.#reader as LogReader;
    const last = await lastOf(reader);
    await this.#untilFollowed(last);
    const records = await readAll(reader, last);
    this.#checkOperations(records);
    this.#checkChains(records);
    this.#checkTransactions(records);
    for (const follower of this.#followers) this.#checkFollower(follower, records);
    const outcomes = [...this.#operations.values()];
    const standing = new Set(records.map(operationOf));
    return {
      rounds,
      records: records.length,
      acknowledged: outcomes.filter(({ outcome }) => typeof outcome === 'number').length,
      refused: outcomes.filter(({ outcome }) => outcome === 'refused').length,
      unknown: outcomes.filter(({ outcome }) => outcome === 'unknown').length,
      unknownStanding: outcomes.filter(({ id, outcome }) => outcome === 'unknown' && standing.has(id)).length,
      transactions: this.#transactions.length,
      resets: this.#followers.reduce((sum, follower) => sum + follower.resets, 0),
      slowestMs: Math.round(this.#slowestMs),
      faults: this.#faults.slice(0, DETACHED_FAULTS),
    };
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#abort.abort();
    await Promise.all([...this.#writers, ...(this.#reader ? [this.#reader] : [])].map((log) => log.close()));
  }

  async #worker(writer: EventLog): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const size = this.#random() < 0.1 ? 2 + Math.floor(this.#random() * 60) : 1;
      const objects = new Set<string>();
      while (objects.size < size) objects.add(this.#pick(size));
      const operations = [...objects].map((): Operation => ({ id: `op-${(this.#count += 1)}`, outcome: 'open' }));
      for (const operation of operations) this.#operations.set(operation.id, operation);
      const writes = [...objects].map((object, index) => this.#write(object, operations[index] as Operation));
      if (writes.length > 1) this.#transactions.push(operations.map(({ id }) => id));
      const begun = performance.now();
      try {
        const appended =
          writes.length === 1 ? [await writer.append(writes[0] as Write)] : await writer.transaction(writes);
        for (const [index, { sequence }] of appended.entries()) {
          (operations[index] as Operation).outcome = sequence;
          this.#learn((writes[index] as Write).key.name, sequence);
        }
      } catch (error) {
        for (const operation of operations) operation.outcome = this.#outcomeOf(error);
        if (error instanceof GuardError) await this.#look(writer, error.key);
        else await sleep(20);
      }
      this.#slowestMs = Math.max(this.#slowestMs, performance.now() - begun);
    }
  }

  #outcomeOf(error: unknown): Outcome {
    if (error instanceof GuardError) return 'refused';
    if (!(error instanceof LogUnavailableError)) this.#fault(`an append failed with ${String(error)}`);
    return 'unknown';
  }

  /** Contended objects mostly; large transactions take some of their own too. */
  #pick(size: number): string {
    return size > 1 && this.#random() < 0.9
      ? `fresh-${(this.#count += 1)}`
      : `object-${Math.floor(this.#random() * OBJECTS)}`;
  }

  #write(name: string, operation: Operation): Write {
    const guard = this.#newest.get(name) ?? 0;
    return {
      key: { group: 'apps', resource: 'deployments', namespace: 'default', name },
      plane: this.#random() < 0.4 ? 'observed' : 'desired',
      verb: this.#random() < 0.1 ? 'delete' : 'update',
      uid: name,
      guard,
      object: JSON.stringify({
        operation: operation.id,
        guard,
        padding: 'x'.repeat(Math.floor(this.#random() * 3_000)),
      }),
      actor: 'prove',
      requestId: operation.id,
      time: new Date().toISOString(),
      causes: [],
    };
  }

  #learn(name: string, sequence: number): void {
    if (sequence > (this.#newest.get(name) ?? 0)) this.#newest.set(name, sequence);
  }

  async #look(writer: EventLog, key: ObjectKey): Promise<void> {
    try {
      const newest = await writer.newest(key);
      if (newest) this.#learn(key.name, newest.sequence);
    } catch (error) {
      if (!(error instanceof LogUnavailableError)) this.#fault(`a read failed with ${String(error)}`);
    }
  }

  async #follow(
    log: LogReader,
    follower: { name: string; records: LogRecord[]; resets: number; position: number },
  ): Promise<void> {
    const onUnreadable = (sequence: number, reason: string) =>
      this.#fault(`${follower.name}: record ${sequence}: ${reason}`);
    for await (const followed of log.follow({ from: { after: 0 }, signal: this.#abort.signal, onUnreadable })) {
      if (followed.kind === 'reset') {
        follower.resets += 1;
        follower.records = [];
      }
      this.#checkPosition(follower.name, followed);
      for (const record of followed.records) follower.records.push(record);
      follower.position = followed.position;
    }
  }

  /** A position is never inside a transaction, and never behind the records that came with it. */
  #checkPosition(name: string, { records, position }: Followed): void {
    const last = records.at(-1);
    if (!last) return;
    if (position < last.sequence) this.#fault(`${name}: position ${position} lies behind record ${last.sequence}`);
    const { transaction } = last;
    if (transaction && transaction.place < transaction.count)
      this.#fault(`${name}: position ${position} is inside a transaction`);
  }

  async #untilFollowed(last: number): Promise<void> {
    const deadline = Date.now() + 30_000;
    while (this.#followers.some((follower) => follower.position < last) && Date.now() < deadline) await sleep(50);
  }

  #checkOperations(records: readonly LogRecord[]): void {
    const standing = new Map<string, number[]>();
    for (const record of records) {
      const id = operationOf(record);
      standing.set(id, [...(standing.get(id) ?? []), record.sequence]);
    }
    for (const { id, outcome } of this.#operations.values()) {
      const sequences = standing.get(id) ?? [];
      if (typeof outcome === 'number' && (sequences.length !== 1 || sequences[0] !== outcome)) {
        this.#fault(`${id} was acknowledged at ${outcome} and stands at [${sequences.join(', ')}]`);
      }
      if (outcome === 'refused' && sequences.length > 0)
        this.#fault(`${id} was refused and stands at [${sequences.join(', ')}]`);
      if (sequences.length > 1) this.#fault(`${id} stands ${sequences.length} times`);
      if (outcome === 'open') this.#fault(`${id} was never answered`);
    }
  }

  /** Every record was guarded by the one before it of the same object. */
  #checkChains(records: readonly LogRecord[]): void {
    const newest = new Map<string, number>();
    for (const record of records) {
      const { guard } = JSON.parse(Buffer.from(record.object).toString()) as { guard: number };
      const before = newest.get(record.key.name) ?? 0;
      if (guard !== before)
        this.#fault(`record ${record.sequence} of ${record.key.name} was guarded by ${guard} and follows ${before}`);
      newest.set(record.key.name, record.sequence);
    }
  }

  #checkTransactions(records: readonly LogRecord[]): void {
    const at = new Map(records.map((record) => [operationOf(record), record]));
    for (const ids of this.#transactions) {
      const members = ids.map((id) => at.get(id));
      const present = members.filter((member) => member !== undefined);
      if (present.length === 0) continue;
      const start = present[0]?.sequence ?? 0;
      const contiguous = members.every(
        (member, index) => member?.sequence === start + index && member.transaction?.place === index + 1,
      );
      if (!contiguous)
        this.#fault(`a transaction of ${ids.length} stands with ${present.length} members from ${start} on`);
    }
  }

  #checkFollower(
    follower: { name: string; records: readonly LogRecord[]; resets: number },
    all: readonly LogRecord[],
  ): void {
    const seen = follower.records.map(({ sequence, writeId }) => `${sequence} ${writeId}`);
    const wanted = all.map(({ sequence, writeId }) => `${sequence} ${writeId}`);
    if (follower.resets === 0) {
      if (seen.length !== wanted.length) this.#fault(`${follower.name} saw ${seen.length} of ${wanted.length} records`);
      const differing = wanted.findIndex((record, index) => record !== seen[index]);
      if (differing >= 0)
        this.#fault(`${follower.name} saw '${seen[differing]}' where the log has '${wanted[differing]}'`);
      return;
    }
    if (!sameState(follower.records, all)) this.#fault(`${follower.name} began afresh and ended with another state`);
  }

  #fault(sentence: string): void {
    this.#faults.push(sentence);
  }
}

function sameState(left: readonly LogRecord[], right: readonly LogRecord[]): boolean {
  const state = (records: readonly LogRecord[]) =>
    JSON.stringify([...new Map(records.map((record) => [record.key.name, record.sequence]))].sort());
  return state(left) === state(right);
}

/** A cluster may have to choose a leader first. */
async function lastOf(reader: LogReader): Promise<number> {
  for (const deadline = Date.now() + 60_000; ; await sleep(500)) {
    try {
      return await reader.lastSequence();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
  }
}

/** By a consumer that has seen nothing before. */
async function readAll(reader: LogReader, last: number): Promise<LogRecord[]> {
  const abort = new AbortController();
  const records: LogRecord[] = [];
  for await (const followed of reader.follow({ from: { after: 0 }, signal: abort.signal })) {
    records.push(...followed.records);
    if (followed.position >= last) abort.abort();
  }
  return records;
}

function operationOf(record: LogRecord): string {
  return record.requestId;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A small seeded generator: what is done is repeatable, when exactly the server dies is not. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const seed = Number(process.argv[3] ?? 1);
  const report = await proveKills({ rounds: Number(process.argv[2] ?? 20), seed, say: console.log });
  console.log(JSON.stringify({ seed, ...report }, undefined, 2));
  if (report.faults.length > 0) process.exitCode = 1;
}
