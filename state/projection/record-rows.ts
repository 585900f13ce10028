/** How records become rows of the table `records`: the insert statement, its parameters, and in what portions. Used by the projection's writer. */
import type { LogRecord } from '../../event-log/event-log.ts';

const MAX_ROWS_PER_INSERT = 500;
const MAX_BYTES_PER_INSERT = 4 * 1024 * 1024;

const RECORD_COLUMNS = [
  'sequence',
  'lifetime',
  'time',
  'transaction_place',
  'transaction_count',
  'plane',
  'verb',
  'resource',
  'actor',
  'request_id',
  'write_id',
  'transaction_id',
  'causes',
  'because',
  'source',
  'object',
];

export function recordValues(record: LogRecord, lifetime: number, resource: number): unknown[] {
  const { transaction } = record;
  return [
    record.sequence,
    lifetime,
    record.time,
    transaction?.place ?? null,
    transaction?.count ?? null,
    record.plane,
    record.verb,
    resource,
    record.actor,
    record.requestId,
    record.writeId,
    transaction?.id ?? null,
    record.causes.length === 0 ? null : record.causes,
    record.reason?.because ?? null,
    record.reason?.source ?? null,
    // A Buffer goes over the wire as it is, and json's binary form is its text.
    Buffer.from(record.object.buffer, record.object.byteOffset, record.object.byteLength),
  ];
}

export function insertRecordsQuery(count: number): { text: string; name?: string } {
  const width = RECORD_COLUMNS.length;
  const row = (at: number): string => `(${RECORD_COLUMNS.map((_, index) => `$${at * width + index + 1}`).join(',')})`;
  const text = `insert into records (${RECORD_COLUMNS.join(',')}) values ${Array.from({ length: count }, (_, at) => row(at)).join(',')}`;
  // The two counts that come again and again are prepared once a session.
  return count === 1 || count === MAX_ROWS_PER_INSERT ? { text, name: `insert-${count}-records` } : { text };
}

export function chunks(records: readonly LogRecord[]): { from: number; records: readonly LogRecord[] }[] {
  const result: { from: number; records: readonly LogRecord[] }[] = [];
  let from = 0;
  let bytes = 0;
  for (const [index, record] of records.entries()) {
    bytes += record.object.byteLength;
    const full = index + 1 - from === MAX_ROWS_PER_INSERT || bytes >= MAX_BYTES_PER_INSERT;
    if (!full && index + 1 !== records.length) continue;
    result.push({ from, records: records.slice(from, index + 1) });
    from = index + 1;
    bytes = 0;
  }
  return result;
}
