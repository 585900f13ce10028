/**
 * Which life of an object each record belongs to: a pure computation over a batch in log order and the lives that were open before it. Used by the projection's writer; a life is
 * identified by the sequence of its first record, so nothing has to be numbered.
 */
import type { LogRecord, ObjectKey } from '../../event-log/event-log.ts';

export interface Lifetime {
  readonly firstSequence: number;
  readonly key: ObjectKey;
  readonly uid: string;
  readonly createdAt: string;
  readonly sequence: number;
  readonly desiredSequence: number;
  readonly endedSequence: number | undefined;
}

export interface Folded {
  /** The lifetime of each record, in the records' order. */
  readonly lifetimes: readonly number[];
  /** Lives from before the batch that it changed, as they stand after it. */
  readonly changed: readonly Lifetime[];
  /** Lives that the batch began. */
  readonly begun: readonly Lifetime[];
  /** What lives (or lives no more) under each key of the batch. */
  readonly living: ReadonlyMap<string, Lifetime | undefined>;
}

/** A key as a map's key. Names cannot contain a slash. */
export function keyText(key: ObjectKey): string {
  return `${key.group}/${key.resource}/${key.namespace}/${key.name}`;
}

/** `living` has an entry for every key of `records`. */
export function fold(records: readonly LogRecord[], living: ReadonlyMap<string, Lifetime | undefined>): Folded {
  const now = new Map<string, Lifetime | undefined>();
  const changed = new Map<number, Lifetime>();
  const begun = new Map<number, Lifetime>();
  const put = (lifetime: Lifetime): void => {
    (begun.has(lifetime.firstSequence) ? begun : changed).set(lifetime.firstSequence, lifetime);
  };
  const lifetimes = records.map((record) => {
    const text = keyText(record.key);
    let lifetime = now.has(text) ? now.get(text) : living.get(text);
    if (lifetime !== undefined && lifetime.uid !== record.uid) {
      // Its tombstone was trimmed before we saw it: it had ended by now at the latest.
      put({ ...lifetime, endedSequence: record.sequence });
      lifetime = undefined;
    }
    if (lifetime === undefined) {
      lifetime = begin(record);
      begun.set(lifetime.firstSequence, lifetime);
    }
    const desiredSequence = record.plane === 'desired' ? record.sequence : lifetime.desiredSequence;
    const endedSequence = record.verb === 'delete' ? record.sequence : undefined;
    const after = { ...lifetime, sequence: record.sequence, desiredSequence, endedSequence };
    put(after);
    now.set(text, endedSequence === undefined ? after : undefined);
    return after.firstSequence;
  });
  return { lifetimes, changed: [...changed.values()], begun: [...begun.values()], living: now };
}

function begin(record: LogRecord): Lifetime {
  const { sequence, key, uid } = record;
  return {
    firstSequence: sequence,
    key,
    uid,
    createdAt: createdAt(record),
    sequence,
    desiredSequence: 0,
    endedSequence: undefined,
  };
}

/** A first record that is no create is met where the log was trimmed; then the object itself knows. */
function createdAt(record: LogRecord): string {
  if (record.verb === 'create') return record.time;
  try {
    const object = JSON.parse(Buffer.from(record.object).toString()) as { metadata?: { creationTimestamp?: unknown } };
    const time = object.metadata?.creationTimestamp;
    return typeof time === 'string' && !Number.isNaN(Date.parse(time)) ? time : record.time;
  } catch {
    return record.time;
  }
}
