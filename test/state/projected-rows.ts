/**
 * What "row for row" means of a projection: everything that it says up to a revision, as lines that can be compared. Used by the tests of rebuilds, here, on a whole instance and in `npm run prove`.
 */
import { query } from './servers.ts';

/** Everything up to here is in. */
export async function recordedUpTo(databaseUrl: string): Promise<number> {
  const [row] = await query<{ sequence: string }>(databaseUrl, 'select sequence::text from projection');
  return Number(row?.sequence);
}

/**
 * Of each record up to the revision, every column; of each life that had begun by then, every column as it stood then; of each cause, the row of the view. Both tables and `resources` are all that objects, history and causes are made
 * of. Left out is what tells of the projection itself: its position, generation and times.
 */
export async function rowsUpTo(databaseUrl: string, revision: number): Promise<readonly string[]> {
  const newest = (condition: string): string =>
    `(select max(r.sequence) from records r where r.lifetime = l.first_sequence and r.sequence <= ${revision} and ${condition})`;
  const asked = [
    `select 'record ' || r.sequence || ' ' || md5(r::text) as line from records r where r.sequence <= ${revision} order by r.sequence`,
    `select 'life ' || row(l.first_sequence, ${newest('true')}, ${newest("r.plane = 'desired'")}, case when l.ended_sequence <= ${revision} then l.ended_sequence end,
       l.created_at, k."group", k.resource, l.namespace, l.name, l.uid)::text as line
     from lifetimes l join resources k on k.id = l.resource where l.first_sequence <= ${revision} order by l.first_sequence`,
    `select 'cause ' || c::text as line from reckon.causes c where c.revision <= ${revision} order by c.revision, c.cause_revision`,
  ];
  const parts = await Promise.all(asked.map((text) => query<{ line: string }>(databaseUrl, text)));
  return parts.flat().map(({ line }) => line);
}

/** Lives whose row says something else than their records do: where they stand now, what was wanted last, and whether they have ended. Empty when all is well. */
export async function contradictions(databaseUrl: string): Promise<readonly string[]> {
  const found = await query<{ line: string }>(
    databaseUrl,
    `select l::text as line from lifetimes l, lateral (
       select max(sequence) as newest, coalesce(max(sequence) filter (where plane = 'desired'), 0) as desired, max(sequence) filter (where verb = 'delete') as ended
       from records where lifetime = l.first_sequence
     ) r
     where (l.sequence, l.desired_sequence) is distinct from (r.newest, r.desired) or l.ended_sequence is distinct from r.ended`,
  );
  return found.map(({ line }) => line);
}
