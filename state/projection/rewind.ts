/**
 * Makes the projection agree with the log again. JetStream shows a record before it is on the disk, so after a power cut the projection may hold records that the log lost and whose sequences
 * went to others; the write id at the cursor tells. Also how a rebuild begins: by rewinding to the log's floor.
 */
import type pg from 'pg';
import type { LogReader } from '../../event-log/event-log.ts';
import { readCursor } from './writer.ts';
import type { Cursor } from './writer.ts';

const PAGE = 200;
/** Unacknowledged records are a few batches. More disagreement than this, and no agreement below it, is another log: history is not thrown away for that. */
const MAX_LOST_RECORDS = 10_000;
/** So many records that the log has trimmed, one after the other, and nothing that disagrees: there is nothing to find. */
const MAX_TRIMMED_RECORDS = 1_000;

/** The stream shares nothing with the projection: a wrong NATS_URL, a restored or a new stream. */
export class AnotherLogError extends Error {
  override readonly name = 'AnotherLogError';
}

export async function agrees(log: LogReader, cursor: Cursor): Promise<boolean> {
  if (cursor.recordSequence === 0) return true;
  const record = await log.recordAt(cursor.recordSequence);
  if (record !== undefined) return record.writeId === cursor.writeId;
  return cursor.recordSequence < (await log.floor()) && cursor.recordSequence <= (await log.lastSequence());
}

/** The newest recorded sequence up to which the log and the projection agree, found by walking back from the cursor. */
export async function lastAgreement(log: LogReader, client: pg.Client, cursor: Cursor): Promise<number> {
  const floor = await log.floor();
  let before = cursor.recordSequence + 1;
  let disagreed = 0;
  let trimmed: number[] = [];
  for (;;) {
    const { rows } = await client.query<{ sequence: number; write_id: string }>(
      'select sequence, write_id from records where sequence < $1 order by sequence desc limit $2',
      [before, PAGE],
    );
    for (const row of rows) {
      const record = await log.recordAt(row.sequence);
      if (record?.writeId === row.write_id) return trimmed[0] ?? row.sequence;
      if (record === undefined && row.sequence < floor) {
        trimmed.push(row.sequence);
        if (trimmed.length >= MAX_TRIMMED_RECORDS) return trimmed[0]!;
        continue;
      }
      // What the log has trimmed above a record that disagrees was lost with it.
      trimmed = [];
      disagreed += 1;
      if (disagreed > MAX_LOST_RECORDS) {
        throw new AnotherLogError(
          `The log holds none of the last ${disagreed} records of the projection: it is not the log that was projected. Check NATS_URL; if the log is right, empty the state database.`,
        );
      }
    }
    if (rows.length < PAGE) return trimmed[0] ?? 0;
    before = rows.at(-1)!.sequence;
  }
}

/** Within a transaction: forgets every record above `to`, and brings the lives of the objects back to what they were then. Rows of `resources` stay. */
export async function rewindTo(client: pg.Client, to: number): Promise<void> {
  await readCursor(client, 'for update');
  if (to <= 0) {
    await client.query('truncate records, lifetimes, gaps');
  } else {
    await client.query('delete from records where sequence > $1', [to]);
    await client.query('delete from lifetimes where first_sequence > $1', [to]);
    await client.query(
      `update lifetimes l
       set ended_sequence = null, sequence = n.sequence, desired_sequence = n.desired_sequence
       from lifetimes o, lateral (
         select max(sequence) as sequence, coalesce(max(sequence) filter (where plane = 'desired'), 0) as desired_sequence
         from records where lifetime = o.first_sequence
       ) n
       where l.first_sequence = o.first_sequence and (o.sequence > $1 or o.ended_sequence > $1)`,
      [to],
    );
    await client.query('delete from gaps where after >= $1', [to]);
  }
  await client.query(
    `update projection set sequence = $1, generation = generation + 1, updated_at = now(),
       record_sequence = coalesce((select max(sequence) from records), 0),
       write_id = coalesce((select write_id from records order by sequence desc limit 1), '')`,
    [Math.max(to, 0)],
  );
}
