/** Which objects stood differently at two sequences, and how each of them stood: one question over all kinds. Asked through `history.ts`, for differences of a namespace or the cluster and for restores. */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';
import type { ObjectKey } from '../event-log/event-log.ts';

/** How an object stood at one of the two. */
export interface Standing {
  readonly sequence: number;
  readonly uid: string;
  /** Who wrote its first record. */
  readonly maker: string;
  /** Its JSON, byte for byte. */
  readonly object: string;
}

export interface Difference {
  readonly key: ObjectKey;
  /** Absent where it was not alive. At least one is there. */
  readonly before?: Standing;
  readonly after?: Standing;
}

export interface DifferencesOptions {
  readonly from: number;
  readonly to: number;
  /** Absent: everywhere. */
  readonly namespace?: string | undefined;
  readonly limit: number;
}

interface DifferenceRow {
  readonly group: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly before_sequence: number | null;
  readonly before_uid: string | null;
  readonly before_maker: string | null;
  readonly before_object: string | null;
  readonly after_sequence: number | null;
  readonly after_uid: string | null;
  readonly after_maker: string | null;
  readonly after_object: string | null;
}

/** By kind, namespace and name; an object of which only the status differs is among them. Both sequences must be recorded, and stand at the end of transactions. `from` is not greater than `to`. */
export async function readDifferences(
  db: Kysely<unknown>,
  options: DifferencesOptions,
): Promise<readonly Difference[]> {
  const { from, to, namespace, limit } = options;
  // The newest life of the name that had begun by then, if it had not ended by then.
  const standingAt = (sequence: number) => sql`
    select r.sequence, l.uid, first.actor as maker, r.object
    from (
      select * from lifetimes
      where resource = n.resource and namespace = n.namespace and name = n.name and first_sequence <= ${sequence}
      order by first_sequence desc limit 1
    ) l
    cross join lateral (select * from records where lifetime = l.first_sequence and sequence <= ${sequence} order by sequence desc limit 1) r
    join records first on first.sequence = l.first_sequence
    where l.ended_sequence is null or l.ended_sequence > ${sequence}`;
  const query = sql<DifferenceRow>`
    select k."group", k.resource, n.namespace, n.name,
      b.sequence as before_sequence, b.uid as before_uid, b.maker as before_maker, b.object as before_object,
      a.sequence as after_sequence, a.uid as after_uid, a.maker as after_maker, a.object as after_object
    from (
      select distinct resource, namespace, name from lifetimes
      where sequence > ${from} and first_sequence <= ${to} ${namespace === undefined ? sql`` : sql`and namespace = ${namespace}`}
    ) n
    join resources k on k.id = n.resource
    left join lateral (${standingAt(from)}) b on true
    left join lateral (${standingAt(to)}) a on true
    where a.sequence is distinct from b.sequence
    order by k."group", k.resource, n.namespace, n.name limit ${limit}`;
  return (await query.execute(db)).rows.map(toDifference);
}

function toDifference(row: DifferenceRow): Difference {
  const { group, resource, namespace, name } = row;
  const before = standing(row.before_sequence, row.before_uid, row.before_maker, row.before_object);
  const after = standing(row.after_sequence, row.after_uid, row.after_maker, row.after_object);
  return { key: { group, resource, namespace, name }, ...(before && { before }), ...(after && { after }) };
}

function standing(
  ...[sequence, uid, maker, object]: [number | null, string | null, string | null, string | null]
): Standing | undefined {
  if (sequence === null || object === null) return undefined;
  return { sequence, uid: uid ?? '', maker: maker ?? '', object };
}
