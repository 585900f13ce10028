/**
 * Writes batches of records into the projection, each batch in one transaction together with the cursor. One instance stands on one session that holds the projection's lock; the cursor row is
 * checked in every transaction all the same, so that a rebuild from elsewhere is noticed before anything is written on top of it.
 */
import type pg from 'pg';
import type { LogRecord, ObjectKey } from '../../event-log/event-log.ts';
import { fold, keyText } from './lifetimes.ts';
import type { Lifetime } from './lifetimes.ts';
import { chunks, insertRecordsQuery, recordValues } from './record-rows.ts';

export interface Cursor {
  /** Everything up to here is in, and here is no middle of a transaction. */
  readonly position: number;
  readonly recordSequence: number;
  readonly writeId: string;
  readonly floor: number;
  readonly generation: number;
  /** Where a rebuild that is under way is complete. */
  readonly rebuildingTo: number | undefined;
}

/** The cursor row is not where this writer left it: it was rewound or rebuilt. Begin again from the row. */
export class CursorMovedError extends Error {
  override readonly name = 'CursorMovedError';
}

type OnUnreadable = (sequence: number, reason: string) => void;

const MAX_REMEMBERED_LIFETIMES = 50_000;

export class ProjectionWriter {
  readonly client: pg.Client;
  readonly #onUnreadable: OnUnreadable;
  readonly #resources = new Map<string, number>();
  /** Living objects, least recently written first. An entry may be forgotten at any time; undefined is never remembered. */
  readonly #living = new Map<string, Lifetime>();

  constructor(client: pg.Client, onUnreadable: OnUnreadable) {
    this.client = client;
    this.#onUnreadable = onUnreadable;
  }

  /** Also forgets what was remembered, so that the next batch reads the tables afresh. */
  async readCursor(): Promise<Cursor> {
    this.#living.clear();
    this.#resources.clear();
    return readCursor(this.client, '');
  }

  /** Adds records (in log order, all above the cursor's) and moves the cursor to `position`. A record that PostgreSQL cannot store is reported and passed over. */
  async write(cursor: Cursor, records: readonly LogRecord[], position: number): Promise<Cursor> {
    const fresh = records.filter((record) => record.sequence > cursor.recordSequence);
    try {
      return await this.#writeOnce(cursor, fresh, position);
    } catch (error) {
      if (!isDataError(error)) throw error;
      const readable = await this.#readable(fresh);
      if (readable.length === fresh.length) throw error;
      return this.#writeOnce(cursor, readable, position);
    }
  }

  #writeOnce(cursor: Cursor, records: readonly LogRecord[], position: number): Promise<Cursor> {
    return this.transaction(async () => {
      const stands = await readCursor(this.client, 'for update');
      if (stands.generation !== cursor.generation || stands.position !== cursor.position)
        throw new CursorMovedError('the projection was rewound');
      await this.insert(records);
      const last = records.at(-1);
      const next = {
        ...cursor,
        position,
        recordSequence: last?.sequence ?? cursor.recordSequence,
        writeId: last?.writeId ?? cursor.writeId,
        rebuildingTo:
          stands.rebuildingTo !== undefined && stands.rebuildingTo > position ? stands.rebuildingTo : undefined,
      };
      await this.client.query(
        'update projection set sequence = $1, record_sequence = $2, write_id = $3, rebuilding_to = $4, updated_at = now()',
        [next.position, next.recordSequence, next.writeId, next.rebuildingTo ?? null],
      );
      return next;
    });
  }

  async transaction<T>(work: () => Promise<T>): Promise<T> {
    await this.client.query('begin');
    try {
      const result = await work();
      await this.client.query('commit');
      return result;
    } catch (error) {
      this.#living.clear();
      this.#resources.clear();
      await this.client.query('rollback').catch(() => undefined);
      throw error;
    }
  }

  /** Within a transaction: the records and the lifetimes that they begin, change and end. */
  async insert(records: readonly LogRecord[]): Promise<void> {
    if (records.length === 0) return;
    const living = await this.#livingOf(records);
    const folded = fold(records, living);
    for (const chunk of chunks(records)) {
      await this.#insertRecords(chunk.records, folded.lifetimes.slice(chunk.from, chunk.from + chunk.records.length));
    }
    await this.#updateLifetimes(folded.changed);
    await this.#insertLifetimes(folded.begun);
    for (const [text, lifetime] of folded.living) {
      this.#living.delete(text);
      if (lifetime !== undefined) this.#living.set(text, lifetime);
    }
    for (const text of this.#living.keys()) {
      if (this.#living.size <= MAX_REMEMBERED_LIFETIMES) break;
      this.#living.delete(text);
    }
  }

  async resourceId(key: { group: string; resource: string }): Promise<number> {
    const text = `${key.group}/${key.resource}`;
    const known = this.#resources.get(text);
    if (known !== undefined) return known;
    const select = 'select id from resources where "group" = $1 and resource = $2';
    const found = await this.client.query<{ id: number }>(select, [key.group, key.resource]);
    const inserted = found.rows[0] ?? (await this.#insertResource(key));
    this.#resources.set(text, inserted.id);
    return inserted.id;
  }

  async #insertResource(key: { group: string; resource: string }): Promise<{ id: number }> {
    const insert = 'insert into resources ("group", resource) values ($1, $2) returning id';
    const { rows } = await this.client.query<{ id: number }>(insert, [key.group, key.resource]);
    return rows[0]!;
  }

  async #livingOf(records: readonly LogRecord[]): Promise<Map<string, Lifetime | undefined>> {
    const living = new Map<string, Lifetime | undefined>();
    const unknown: ObjectKey[] = [];
    for (const { key } of records) {
      const text = keyText(key);
      if (living.has(text)) continue;
      const remembered = this.#living.get(text);
      living.set(text, remembered);
      if (remembered === undefined) unknown.push(key);
    }
    if (unknown.length === 0) return living;
    const ids: number[] = [];
    for (const key of unknown) ids.push(await this.resourceId(key));
    const { rows } = await this.client.query<LifetimeRow>(
      `select l.first_sequence, l.sequence, l.desired_sequence, l.created_at, l.uid, k.place
       from unnest($1::smallint[], $2::text[], $3::text[]) with ordinality as k (resource, namespace, name, place)
       join lifetimes l on l.resource = k.resource and l.namespace = k.namespace and l.name = k.name and l.ended_sequence is null`,
      [ids, unknown.map((key) => key.namespace), unknown.map((key) => key.name)],
    );
    for (const row of rows) {
      const key = unknown[row.place - 1]!;
      living.set(keyText(key), {
        firstSequence: row.first_sequence,
        key,
        uid: row.uid,
        createdAt: row.created_at,
        sequence: row.sequence,
        desiredSequence: row.desired_sequence,
        endedSequence: undefined,
      });
    }
    return living;
  }

  // Rows of parameters, the object's bytes as they are: measured at three times the speed of unnest, whose array text has to escape every quote of the JSON.
  async #insertRecords(records: readonly LogRecord[], lifetimes: readonly number[]): Promise<void> {
    const values: unknown[] = [];
    for (const [index, record] of records.entries())
      values.push(...recordValues(record, lifetimes[index]!, await this.resourceId(record.key)));
    await this.client.query({ ...insertRecordsQuery(records.length), values });
  }

  async #updateLifetimes(lifetimes: readonly Lifetime[]): Promise<void> {
    if (lifetimes.length === 0) return;
    await this.client.query(
      `update lifetimes l set sequence = n.sequence, desired_sequence = n.desired_sequence, ended_sequence = n.ended_sequence
       from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) as n (first_sequence, sequence, desired_sequence, ended_sequence)
       where l.first_sequence = n.first_sequence`,
      [
        lifetimes.map((lifetime) => lifetime.firstSequence),
        lifetimes.map((lifetime) => lifetime.sequence),
        lifetimes.map((lifetime) => lifetime.desiredSequence),
        lifetimes.map((lifetime) => lifetime.endedSequence ?? null),
      ],
    );
  }

  async #insertLifetimes(lifetimes: readonly Lifetime[]): Promise<void> {
    if (lifetimes.length === 0) return;
    const ids: number[] = [];
    for (const lifetime of lifetimes) ids.push(await this.resourceId(lifetime.key));
    await this.client.query(
      `insert into lifetimes (first_sequence, sequence, desired_sequence, ended_sequence, created_at, resource, namespace, name, uid)
       select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::smallint[], $7::text[], $8::text[], $9::text[])`,
      [
        lifetimes.map((lifetime) => lifetime.firstSequence),
        lifetimes.map((lifetime) => lifetime.sequence),
        lifetimes.map((lifetime) => lifetime.desiredSequence),
        lifetimes.map((lifetime) => lifetime.endedSequence ?? null),
        lifetimes.map((lifetime) => lifetime.createdAt),
        ids,
        lifetimes.map((lifetime) => lifetime.key.namespace),
        lifetimes.map((lifetime) => lifetime.key.name),
        lifetimes.map((lifetime) => lifetime.uid),
      ],
    );
  }

  /** The slow path, after a batch was refused: each record is tried by itself and nothing stays. */
  async #readable(records: readonly LogRecord[]): Promise<LogRecord[]> {
    const readable: LogRecord[] = [];
    for (const record of records) {
      try {
        await this.client.query('begin');
        await this.#insertRecords([record], [record.sequence]);
        readable.push(record);
      } catch (error) {
        if (!isDataError(error)) throw error;
        this.#onUnreadable(record.sequence, error instanceof Error ? error.message : String(error));
      } finally {
        this.#resources.clear();
        await this.client.query('rollback').catch(() => undefined);
      }
    }
    return readable;
  }
}

interface LifetimeRow {
  readonly first_sequence: number;
  readonly sequence: number;
  readonly desired_sequence: number;
  readonly created_at: string;
  readonly uid: string;
  readonly place: number;
}

export async function readCursor(client: pg.Client, lock: '' | 'for update'): Promise<Cursor> {
  const { rows } = await client.query<{
    position: number;
    record_sequence: number;
    write_id: string;
    floor: number;
    generation: number;
    rebuilding_to: number | null;
  }>(
    `select sequence as position, record_sequence, write_id, floor, generation, rebuilding_to from projection ${lock}`,
  );
  const row = rows[0]!;
  return {
    position: row.position,
    recordSequence: row.record_sequence,
    writeId: row.write_id,
    floor: row.floor,
    generation: row.generation,
    rebuildingTo: row.rebuilding_to ?? undefined,
  };
}

/** Class 22: data exception (bad JSON, bad UTF-8, a verb that the enum lacks). 54001: JSON nested deeper than the parser's stack. */
function isDataError(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  return code.startsWith('22') || code.startsWith('54');
}
