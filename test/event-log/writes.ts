/** Short ways to say a write and to read a follower, for the tests of this room. */
import type { Followed, FollowOptions, LogReader, LogRecord, ObjectKey, Write } from '../../event-log/event-log.ts';

export function keyOf(name: string, more: Partial<ObjectKey> = {}): ObjectKey {
  return { group: 'apps', resource: 'deployments', namespace: 'default', name, ...more };
}

export function writeOf(name: string, guard: number, more: Partial<Write> = {}): Write {
  return {
    key: keyOf(name),
    plane: 'desired',
    verb: guard === 0 ? 'create' : 'update',
    uid: `uid-${name}`,
    guard,
    object: JSON.stringify({ metadata: { name }, guard }),
    actor: 'admin',
    requestId: `request-${name}`,
    time: '2026-01-02T03:04:05.678Z',
    causes: [],
    ...more,
  };
}

/** Follows in the background and keeps what came. */
export class Watcher {
  readonly yields: Followed[] = [];
  records: LogRecord[] = [];
  readonly unreadable: { sequence: number; reason: string }[] = [];
  position = 0;
  caughtUp = false;
  resets = 0;
  readonly #abort = new AbortController();
  readonly done: Promise<void>;

  constructor(log: LogReader, options: Omit<FollowOptions, 'signal'>) {
    this.done = this.#run(log, options);
  }

  async #run(log: LogReader, options: Omit<FollowOptions, 'signal'>): Promise<void> {
    const onUnreadable = (sequence: number, reason: string) => this.unreadable.push({ sequence, reason });
    for await (const followed of log.follow({ ...options, onUnreadable, signal: this.#abort.signal })) {
      if (followed.kind === 'reset') {
        this.resets += 1;
        this.records = [];
      }
      this.yields.push(followed);
      this.records.push(...followed.records);
      this.position = followed.position;
      this.caughtUp = followed.caughtUp;
    }
  }

  names(): string[] {
    return this.records.map((record) => `${record.sequence} ${record.key.name}`);
  }

  async until(position: number): Promise<this> {
    await eventually(() => this.position >= position && this.caughtUp, `a follower reaches ${position}`);
    return this;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.done;
  }
}

/** Everything from a place on, up to now. */
export async function readFrom(
  log: LogReader,
  from: FollowOptions['from'],
  filters?: FollowOptions['filters'],
): Promise<LogRecord[]> {
  const abort = new AbortController();
  const records: LogRecord[] = [];
  for await (const followed of log.follow({ from, signal: abort.signal, ...(filters && { filters }) })) {
    records.push(...followed.records);
    if (followed.caughtUp) abort.abort();
  }
  return records;
}

/** The present: the greater sequence is the object, a deleted one is none. */
export function stateOf(records: readonly LogRecord[]): string[] {
  const newest = new Map<string, LogRecord>();
  for (const record of records) {
    const id = `${record.key.group}/${record.key.resource}/${record.key.namespace}/${record.key.name}`;
    if (record.sequence > (newest.get(id)?.sequence ?? 0)) newest.set(id, record);
  }
  return [...newest]
    .filter(([, record]) => record.verb !== 'delete')
    .map(([id, record]) => `${id} ${record.sequence}`)
    .sort();
}

export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 15_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
