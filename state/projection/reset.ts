/**
 * What the projection does when its cursor lies below the log's floor: older history stays, the objects' present is taken from a snapshot, and the stretch in between is noted as a gap.
 * Afterwards the cursor stands just below the floor and the log is followed from there as usual, which fills in every record that the log still has.
 */
import type { LogReader, LogRecord } from '../../event-log/event-log.ts';
import type { Cursor, ProjectionWriter } from './writer.ts';

/** One transaction, so that a reader sees the old state or the new one. Resolves to the cursor to go on from. */
export async function reset(
  log: LogReader,
  writer: ProjectionWriter,
  cursor: Cursor,
  signal: AbortSignal,
): Promise<Cursor> {
  const { client } = writer;
  // The floor may rise while the snapshot is read; what it then takes is missed again and found again by the next reset.
  const floor = await log.floor();
  await writer.transaction(async () => {
    await client.query('select from projection for update');
    let until = floor;
    let first = true;
    const ended = new AbortController();
    for await (const followed of log.follow({ from: 'snapshot', signal: AbortSignal.any([signal, ended.signal]) })) {
      if (followed.kind === 'reset' && !first) throw new Error('the log was reset while its snapshot was read');
      first = false;
      await noteKeys(writer, followed.records);
      await writer.insert(
        followed.records.filter((record) => record.sequence < floor && record.sequence > cursor.recordSequence),
      );
      until = Math.max(until, followed.position);
      if (followed.caughtUp) break;
    }
    ended.abort();
    signal.throwIfAborted();
    // Everything from the floor on is still in the log, tombstones too: what has no record left ended before it.
    await client.query(
      `update lifetimes l set ended_sequence = $1
       where l.ended_sequence is null
         and not exists (select from snapshot_keys s where s.resource = l.resource and s.namespace = l.namespace and s.name = l.name)`,
      [floor - 1],
    );
    await client.query('truncate snapshot_keys');
    await client.query(
      `insert into gaps (after, floor, until) select $1::bigint, $2::bigint, $3::bigint where $1 < $2 - 1
       on conflict (after) do update set floor = excluded.floor, until = excluded.until`,
      [cursor.position, floor, until],
    );
    await client.query(
      `update projection set sequence = $1, floor = $2, generation = generation + 1, updated_at = now(),
         record_sequence = coalesce((select max(sequence) from records), 0),
         write_id = coalesce((select write_id from records order by sequence desc limit 1), '')`,
      [floor - 1, floor],
    );
  });
  return writer.readCursor();
}

async function noteKeys(writer: ProjectionWriter, records: readonly LogRecord[]): Promise<void> {
  if (records.length === 0) return;
  const resources: number[] = [];
  for (const { key } of records) resources.push(await writer.resourceId(key));
  await writer.client.query('insert into snapshot_keys select * from unnest($1::smallint[], $2::text[], $3::text[])', [
    resources,
    records.map((record) => record.key.namespace),
    records.map((record) => record.key.name),
  ]);
}
