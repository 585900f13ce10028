/**
 * Reads the past: any version of any object, all objects as they were at a sequence, and the changes between two sequences. The API server's reads at a moment, old watches, `history` and `why`
 * are answered from here. Every answer is bounded; every method rejects with StateUnavailableError within 3 s when PostgreSQL cannot be reached, with HistoryBehindError when the projection has not come
 * so far, and with HistoryGoneError where the log had been trimmed before it was recorded. While the projection is rebuilt, what it has come to is answered, and the rest rejects with HistoryBehindError: nothing is answered from tables that
 * lack rows.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import type { Kysely, RawBuilder } from 'kysely';
import type { ObjectKey } from '../event-log/event-log.ts';
import { newKysely } from './database.ts';
import { readDifferences, type Difference, type DifferencesOptions } from './differences.ts';
import { HistoryBehindError, HistoryGoneError, answered } from './errors.ts';
import { joinNames, toChange, toVersion, versionColumns } from './version.ts';
import type { Change, Version, VersionRow } from './version.ts';

export type { Difference, Standing } from './differences.ts';
export type { Change, Version } from './version.ts';

/** Which objects: of one resource, in one namespace or in all. */
export interface ResourceFilter {
  readonly group: string;
  readonly resource: string;
  readonly namespace?: string;
}

/** Where the projection stands. `generation` changes when it was rewound or rebuilt: forget what was kept from it. */
export interface HistoryCursor {
  readonly sequence: number;
  readonly floor: number;
  readonly generation: number;
  readonly updatedAt: string;
  /** Where a rebuild that is under way is complete. */
  readonly rebuildingTo?: number;
}

export interface ListPage {
  /** Where the list stands: the sequence asked for, or the end of the transaction that it is in the middle of. */
  readonly sequence: number;
  /** By namespace and name, each the newest version at that sequence. */
  readonly items: readonly Version[];
  /** Pass as `after` for the next page; absent on the last. */
  readonly next?: PageStart;
}

export interface PageStart {
  readonly namespace: string;
  readonly name: string;
}

export interface ChangesPage {
  readonly changes: readonly Change[];
  /** Everything up to here is in this page: pass as `after` for the next. */
  readonly position: number;
  /** Whether `position` has reached the sequence asked for. */
  readonly complete: boolean;
}

export interface HistoryOptions {
  /** Shows in pg_stat_activity, such as `reckon api-server`. */
  readonly applicationName?: string;
  readonly maxConnections?: number;
}

export const MAX_PAGE = 1_000;
const STATEMENT_TIMEOUT_MS = 2_500;
const REACH_POLL_MS = 25;

export function openHistory(databaseUrl: string, options: HistoryOptions = {}): History {
  const { applicationName = 'reckon history', maxConnections = 4 } = options;
  return new History(
    newKysely<unknown>({ databaseUrl, applicationName, maxConnections, statementTimeoutMs: STATEMENT_TIMEOUT_MS }),
  );
}

export class History {
  readonly #db: Kysely<unknown>;

  constructor(db: Kysely<unknown>) {
    this.#db = db;
  }

  async close(): Promise<void> {
    await this.#db.destroy();
  }

  cursor(): Promise<HistoryCursor> {
    return answered(async () => {
      const row = await this.#cursor();
      const { sequence, floor, generation, updated_at: updatedAt, rebuilding_to: rebuildingTo } = row;
      return { sequence, floor, generation, updatedAt, ...(rebuildingTo !== null && { rebuildingTo }) };
    });
  }

  /** Waits until the projection has reached a sequence. Rejects with HistoryBehindError after `timeoutMs`. */
  async reach(sequence: number, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const cursor = await this.cursor();
      if (cursor.sequence >= sequence) return;
      if (performance.now() >= endMs) throw new HistoryBehindError(sequence, cursor.sequence, cursor.rebuildingTo);
      await sleep(REACH_POLL_MS, undefined, signal === undefined ? {} : { signal });
    }
  }

  /** One record, or undefined where none with that sequence was recorded. */
  recordAt(sequence: number): Promise<Version | undefined> {
    return this.#read('all', async () => {
      const query = sql<VersionRow>`select ${versionColumns} from records r ${joinNames} where r.sequence = ${sequence}`;
      return (await query.execute(this.#db)).rows.map(toVersion)[0];
    });
  }

  /** Every version under a name, newest first, over all the lives of that name. `before` is exclusive. */
  versions(key: ObjectKey, options: { before?: number; limit: number }): Promise<readonly Version[]> {
    const before = options.before ?? Number.MAX_SAFE_INTEGER;
    const limit = bounded(options.limit);
    return this.#read('all', async () => {
      const query = sql<VersionRow>`
        select ${versionColumns}
        from resources k
        join lifetimes l on l.resource = k.id and l.namespace = ${key.namespace} and l.name = ${key.name} and l.first_sequence < ${before}
        cross join lateral (
          select * from records where lifetime = l.first_sequence and sequence < ${before} order by sequence desc limit ${limit}
        ) r
        where k."group" = ${key.group} and k.resource = ${key.resource}
        order by r.sequence desc limit ${limit}`;
      return (await query.execute(this.#db)).rows.map(toVersion);
    });
  }

  /** The lives of whatever had this uid, as their newest versions (a tombstone where it has ended). */
  byUid(uid: string): Promise<readonly Version[]> {
    return this.#read('all', async () => {
      const query = sql<VersionRow>`
        select ${versionColumns}
        from lifetimes l join resources k on k.id = l.resource join records r on r.sequence = l.sequence
        where l.uid = ${uid} order by r.sequence limit ${MAX_PAGE}`;
      return (await query.execute(this.#db)).rows.map(toVersion);
    });
  }

  /** The records that name a sequence as their cause, oldest first. */
  causedBy(sequence: number, options: { after?: number; limit: number }): Promise<readonly Version[]> {
    return this.#read('all', async () => {
      const query = sql<VersionRow>`
        select ${versionColumns} from records r ${joinNames}
        where r.causes @> array[${sequence}]::bigint[] and r.sequence > ${options.after ?? 0}
        order by r.sequence limit ${bounded(options.limit)}`;
      return (await query.execute(this.#db)).rows.map(toVersion);
    });
  }

  /** The object as it was at a sequence (at the end of the transaction, if the sequence is in one); undefined where it was not alive. */
  objectAt(key: ObjectKey, sequence: number): Promise<Version | undefined> {
    return this.#read(sequence, async () => {
      const moment = await this.#moment(sequence);
      const query = sql<VersionRow>`
        select ${versionColumns}
        from resources k
        cross join lateral (
          select * from lifetimes
          where resource = k.id and namespace = ${key.namespace} and name = ${key.name} and first_sequence <= ${moment}
          order by first_sequence desc limit 1
        ) l
        cross join lateral (${newestAt(moment)}) r
        where k."group" = ${key.group} and k.resource = ${key.resource} and (l.ended_sequence is null or l.ended_sequence > ${moment})`;
      return (await query.execute(this.#db)).rows.map(toVersion)[0];
    });
  }

  /** Where a read at a sequence stands: there, or at the end of the transaction that it is in the middle of. */
  moment(sequence: number): Promise<number> {
    return this.#read(sequence, () => this.#moment(sequence));
  }

  /** When the newest record at or before a sequence was written; undefined before the first. */
  timeAt(sequence: number): Promise<string | undefined> {
    return this.#read(sequence, async () => {
      const query = sql<{
        time: string;
      }>`select time from records where sequence <= ${sequence} order by sequence desc limit 1`;
      return (await query.execute(this.#db)).rows[0]?.time;
    });
  }

  /** The newest life of a name: its first known record and its newest (a tombstone where it has ended). */
  newestLife(key: ObjectKey): Promise<{ readonly first: Version; readonly last: Version } | undefined> {
    return this.#read('all', async () => {
      const query = sql<VersionRow>`
        select ${versionColumns}
        from resources k
        cross join lateral (
          select * from lifetimes where resource = k.id and namespace = ${key.namespace} and name = ${key.name}
          order by first_sequence desc limit 1
        ) l
        join records r on r.lifetime = l.first_sequence and r.sequence in (l.first_sequence, l.sequence)
        where k."group" = ${key.group} and k.resource = ${key.resource}
        order by r.sequence`;
      const [first, last] = (await query.execute(this.#db)).rows.map(toVersion);
      return first && { first, last: last ?? first };
    });
  }

  /** Every object of a resource as it was at a sequence; pages of one sequence fit together. */
  listAt(filter: ResourceFilter, sequence: number, options: { after?: PageStart; limit: number }): Promise<ListPage> {
    const limit = bounded(options.limit);
    return this.#read(sequence, async () => {
      const moment = await this.#moment(sequence);
      const { after } = options;
      const query = sql<VersionRow>`
        select ${versionColumns}
        from resources k
        join lifetimes l on lifetime_span(l.resource, l.first_sequence, l.ended_sequence) @> lifetime_moment(k.id, ${moment})
          ${filter.namespace === undefined ? sql`` : sql`and l.namespace = ${filter.namespace}`}
          ${after === undefined ? sql`` : sql`and (l.namespace, l.name) > (${after.namespace}, ${after.name})`}
        cross join lateral (${newestAt(moment)}) r
        where k."group" = ${filter.group} and k.resource = ${filter.resource}
        order by l.namespace, l.name limit ${limit + 1}`;
      const rows = (await query.execute(this.#db)).rows.map(toVersion);
      const items = rows.slice(0, limit);
      const last = rows.length > limit ? items.at(-1) : undefined;
      return {
        sequence: moment,
        items,
        ...(last === undefined ? {} : { next: { namespace: last.key.namespace, name: last.key.name } }),
      };
    });
  }

  /** The objects that stood differently at two sequences, each at the end of a transaction. */
  differences(options: DifferencesOptions): Promise<readonly Difference[]> {
    return this.#read(options.to, async () => {
      await this.#outOfGaps(sql`after < ${options.to} and until > ${options.from}`);
      return readDifferences(this.#db, options);
    });
  }

  /** The records of a resource after one sequence up to another (inclusive), in log order, each with the version before it. */
  changes(filter: ResourceFilter, after: number, upTo: number, limit: number): Promise<ChangesPage> {
    const max = bounded(limit);
    return this.#read(upTo, async () => {
      await this.#outOfGaps(sql`after < ${upTo} and floor - 1 > ${after} and floor - 1 > after`);
      const query = sql<VersionRow & { previous: string | null }>`
        select ${versionColumns}, (
          select p.object from records p where p.lifetime = r.lifetime and p.sequence < r.sequence order by p.sequence desc limit 1
        ) as previous
        from resources k
        join records r on r.resource = k.id and r.sequence > ${after} and r.sequence <= ${upTo}
        join lifetimes l on l.first_sequence = r.lifetime ${filter.namespace === undefined ? sql`` : sql`and l.namespace = ${filter.namespace}`}
        where k."group" = ${filter.group} and k.resource = ${filter.resource}
        order by r.sequence limit ${max + 1}`;
      const rows = (await query.execute(this.#db)).rows.map(toChange);
      const complete = rows.length <= max;
      const changes = rows.slice(0, max);
      return { changes, complete, position: complete ? upTo : changes.at(-1)!.sequence };
    });
  }

  /**
   * The last sequence at or before a time, at the end of its transaction; 0 before the first record. Times are the API servers' clocks, so that neighbouring records may be milliseconds out of order:
   * then it is one of them. `recordedUpTo` is where the projection stood when it was asked.
   */
  sequenceAt(time: Date): Promise<{ readonly sequence: number; readonly recordedUpTo: number }> {
    return this.#read('any', async (recordedUpTo) => {
      // Halves the range of sequences until neighbours are left: some twenty probes of the primary key in a million records, and no index on time.
      const query = sql<{ sequence: number; rest: number }>`
        with recursive search (low, high) as (
          select (select coalesce(min(sequence), 0) - 1 from records), (select sequence from projection)
          union all
          select
            case when coalesce(p.time <= ${time}, false) then p.sequence else s.low end,
            case when coalesce(p.time <= ${time}, false) then s.high else (s.low + s.high + 1) / 2 - 1 end
          from search s
          left join lateral (
            select sequence, time from records where sequence >= (s.low + s.high + 1) / 2 and sequence <= s.high order by sequence limit 1
          ) p on true
          where s.low < s.high
        )
        select r.sequence, coalesce(r.transaction_count - r.transaction_place, 0) as rest
        from search s join records r on r.sequence = s.low
        where s.low >= s.high order by r.sequence desc limit 1`;
      const row = (await query.execute(this.#db)).rows[0];
      return { sequence: row === undefined ? 0 : row.sequence + row.rest, recordedUpTo };
    });
  }

  /** The sequence at which a read may stand: the one asked for, moved to the end of its transaction. */
  async #moment(sequence: number): Promise<number> {
    await this.#outOfGaps(sql`after < ${sequence} and until > ${sequence}`);
    const query = sql<{ rest: number }>`
      select transaction_count - transaction_place as rest
      from (select * from records where sequence <= ${sequence} order by sequence desc limit 1) r
      where transaction_count is not null and sequence = ${sequence}`;
    return sequence + ((await query.execute(this.#db)).rows[0]?.rest ?? 0);
  }

  async #outOfGaps(inGap: RawBuilder<unknown>): Promise<void> {
    const query = sql<{ after: number; until: number }>`
      select after, until from gaps where ${inGap} order by after desc limit 1`;
    const gap = (await query.execute(this.#db)).rows[0];
    if (gap !== undefined) throw new HistoryGoneError(gap.after, gap.until);
  }

  async #cursor(): Promise<CursorRow> {
    const query = sql<CursorRow>`select sequence, floor, generation, updated_at, rebuilding_to from projection`;
    return (await query.execute(this.#db)).rows[0]!;
  }

  /**
   * Reads what needs everything up to a sequence (`all`: whatever there is, `any`: whatever is there). Rejects with HistoryBehindError where that is not there, and where rows were taken away while it was read: a rewind
   * truncates, which empties a table for whoever began earlier, too.
   */
  #read<T>(needed: number | 'all' | 'any', work: (recordedUpTo: number) => Promise<T>): Promise<T> {
    return answered(async () => {
      const before = await this.#cursor();
      const needs = needed === 'any' ? 0 : needed === 'all' ? (before.rebuilding_to ?? 0) : needed;
      if (needs > before.sequence)
        throw new HistoryBehindError(needs, before.sequence, before.rebuilding_to ?? undefined);
      const result = await work(before.sequence);
      const after = await this.#cursor();
      if (after.generation !== before.generation)
        throw new HistoryBehindError(before.sequence, after.sequence, after.rebuilding_to ?? undefined);
      return result;
    });
  }
}

/** Of the lifetime `l`. */
function newestAt(sequence: number): RawBuilder<unknown> {
  return sql`select * from records where lifetime = l.first_sequence and sequence <= ${sequence} order by sequence desc limit 1`;
}

function bounded(limit: number): number {
  return Math.max(1, Math.min(Math.floor(limit), MAX_PAGE));
}

interface CursorRow {
  readonly sequence: number;
  readonly floor: number;
  readonly generation: number;
  readonly updated_at: string;
  readonly rebuilding_to: number | null;
}
