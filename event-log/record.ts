/**
 * How a write becomes a message and a message becomes a record: the header names are in one place, here, and in docs/log-format.md. Pure but for the
 * `nats` header class. Used by the group commit (out), the follower and the readers (in).
 */
import { headers as natsHeaders } from 'nats';
import type { MsgHdrs } from 'nats';
import type { LogRecord, ObjectKey, Plane, Reason, Verb, Write } from './event-log.ts';
import { guardSubject, objectSubject, objectTokens, parseSubject } from './subjects.ts';

export const HEADER = {
  verb: 'Reckon-Verb',
  actor: 'Reckon-Actor',
  request: 'Reckon-Request',
  write: 'Reckon-Write',
  uid: 'Reckon-Uid',
  time: 'Reckon-Time',
  cause: 'Reckon-Cause',
  because: 'Reckon-Because',
  source: 'Reckon-Source',
  transaction: 'Reckon-Transaction',
  guard: 'Nats-Expected-Last-Subject-Sequence',
  guardSubject: 'Nats-Expected-Last-Subject-Sequence-Subject',
  batchId: 'Nats-Batch-Id',
  batchSequence: 'Nats-Batch-Sequence',
  batchCommit: 'Nats-Batch-Commit',
  ttl: 'Nats-TTL',
  marker: 'Nats-Marker-Reason',
} as const;

const VERBS: ReadonlySet<string> = new Set<Verb>(['create', 'update', 'patch', 'apply', 'delete']);

/** How long the tombstone of a deleted Lease or Event stays in the ephemeral stream, and the server's own marker of an expired one. */
export const EPHEMERAL_TOMBSTONE_SECONDS = 3600;

export type StreamKind = 'log' | 'ephemeral';

/** A write that is ready to be published, any number of times: it is always the same write, told by its write id. */
export interface Outgoing {
  readonly key: ObjectKey;
  readonly guard: number;
  readonly writeId: string;
  /** Equal for two writes of one object. */
  readonly object: string;
  readonly subject: string;
  readonly guardSubject: string;
  readonly payload: Uint8Array;
  readonly fields: readonly (readonly [string, string])[];
  /** Payload and headers, near enough for limits. */
  readonly sizeBytes: number;
}

export interface TransactionMembership {
  readonly id: string;
  readonly place: number;
  readonly count: number;
}

interface OutgoingContext {
  readonly prefix: string;
  readonly stream: StreamKind;
  readonly writeId: string;
  readonly transaction?: TransactionMembership;
}

/** What the batch headers and the longest of ours beside `fields` add. */
const HEADER_RESERVE_BYTES = 256;

export function toOutgoing(write: Write, context: OutgoingContext): Outgoing {
  const { prefix, stream, writeId, transaction } = context;
  const fields: [string, string][] = [
    [HEADER.verb, write.verb],
    [HEADER.actor, escapeHeader(write.actor)],
    [HEADER.request, escapeHeader(write.requestId)],
    [HEADER.write, writeId],
    [HEADER.uid, escapeHeader(write.uid)],
    [HEADER.time, escapeHeader(write.time)],
  ];
  if (write.causes.length > 0) fields.push([HEADER.cause, write.causes.join(',')]);
  if (write.reason?.because) fields.push([HEADER.because, escapeHeader(write.reason.because)]);
  if (write.reason?.source) fields.push([HEADER.source, escapeHeader(write.reason.source)]);
  if (transaction) fields.push([HEADER.transaction, `${transaction.id} ${transaction.place} ${transaction.count}`]);
  if (stream === 'ephemeral') fields.push(...ephemeralFields(write));
  const guardedBy = guardSubject(prefix, write.key);
  fields.push([HEADER.guard, String(write.guard)], [HEADER.guardSubject, guardedBy]);
  const payload = Buffer.from(write.object, 'utf8');
  const subject = objectSubject(prefix, stream === 'ephemeral' ? 'ephemeral' : write.plane, write.key);
  const headerBytes = fields.reduce((sum, [name, value]) => sum + name.length + value.length + 4, HEADER_RESERVE_BYTES);
  return {
    key: write.key,
    guard: write.guard,
    writeId,
    object: objectTokens(write.key),
    subject,
    guardSubject: guardedBy,
    payload,
    fields,
    sizeBytes: payload.byteLength + headerBytes,
  };
}

/** An explicit tombstone calls itself a marker, so that the server does not put a second one in its place when it expires. */
function ephemeralFields(write: Write): [string, string][] {
  if (write.verb === 'delete') {
    return [
      [HEADER.ttl, `${write.ttlSeconds ?? EPHEMERAL_TOMBSTONE_SECONDS}s`],
      [HEADER.marker, 'Remove'],
    ];
  }
  return write.ttlSeconds === undefined ? [] : [[HEADER.ttl, `${Math.max(1, Math.ceil(write.ttlSeconds))}s`]];
}

export interface BatchPlace {
  readonly id: string;
  readonly sequence: number;
  readonly commit: boolean;
}

/** The client would look every name through, letter by letter, for each header that it is given: it is handed what it would have made of them. */
export function messageHeaders(outgoing: Outgoing, batch?: BatchPlace): MsgHdrs {
  let text = 'NATS/1.0\r\n';
  for (const [name, value] of outgoing.fields) text += `${name}: ${value}\r\n`;
  if (batch) {
    text += `${HEADER.batchId}: ${batch.id}\r\n${HEADER.batchSequence}: ${batch.sequence}\r\n`;
    if (batch.commit) text += `${HEADER.batchCommit}: 1\r\n`;
  }
  return Object.assign(natsHeaders(), { encode: () => Buffer.from(`${text}\r\n`) });
}

/** A message as it came from a consumer or from a read by sequence. */
export interface StoredMessage {
  readonly sequence: number;
  readonly subject: string;
  /** Looks a header up; undefined or '' where there is none. */
  readonly header: (name: string) => string | undefined;
  readonly data: Uint8Array;
  /** The server's clock, milliseconds since 1970. */
  readonly storedAtMs: number;
}

/** A record, or the reason why the message is none. */
export function toRecord(prefix: string, message: StoredMessage): LogRecord | string {
  const parsed = parseSubject(prefix, message.subject);
  if (!parsed) return `the subject '${message.subject}' names no object`;
  const plane: Plane = parsed.plane === 'observed' ? 'observed' : 'desired';
  const base = { sequence: message.sequence, key: parsed.key, plane };
  if (parsed.plane === 'ephemeral' && message.data.byteLength === 0 && message.header(HEADER.marker))
    return { ...base, ...expired(message) };
  const verb = message.header(HEADER.verb) ?? '';
  if (!VERBS.has(verb)) return `the header ${HEADER.verb} is '${verb}'`;
  const uid = message.header(HEADER.uid);
  const writeId = message.header(HEADER.write);
  if (!uid || !writeId) return `the header ${uid ? HEADER.write : HEADER.uid} is missing`;
  const causes = parseCauses(message.header(HEADER.cause));
  if (!causes) return `the header ${HEADER.cause} is not a list of sequences`;
  const membership = parseTransaction(message.header(HEADER.transaction));
  if (membership === null) return `the header ${HEADER.transaction} is malformed`;
  const reason = reasonOf(message);
  if (message.data.at(0) !== OPENING_BRACE || message.data.at(-1) !== CLOSING_BRACE)
    return 'the payload is not a JSON object';
  return {
    ...base,
    verb: verb as Verb,
    uid: unescapeHeader(uid),
    writeId,
    actor: unescapeHeader(message.header(HEADER.actor) ?? ''),
    requestId: unescapeHeader(message.header(HEADER.request) ?? ''),
    time: unescapeHeader(message.header(HEADER.time) ?? ''),
    causes,
    ...(reason && { reason }),
    ...(membership && { transaction: membership }),
    // A copy: what arrived is a view into a whole network read, which would be kept alive with it. (Buffer's pool makes small ones cheap.)
    object: Buffer.from(message.data),
  };
}

const OPENING_BRACE = 0x7b;
const CLOSING_BRACE = 0x7d;

function expired(message: StoredMessage): Omit<LogRecord, 'sequence' | 'key' | 'plane'> {
  return {
    verb: 'delete',
    uid: '',
    writeId: '',
    actor: 'system:expired',
    requestId: '',
    time: new Date(message.storedAtMs).toISOString(),
    causes: [],
    object: new Uint8Array(0),
  };
}

function reasonOf(message: StoredMessage): Reason | undefined {
  const [because, source] = [message.header(HEADER.because), message.header(HEADER.source)];
  if (!because && !source) return undefined;
  return { ...(because && { because: unescapeHeader(because) }), ...(source && { source: unescapeHeader(source) }) };
}

function parseCauses(text: string | undefined): number[] | undefined {
  if (!text) return [];
  const causes = text.split(',').map(Number);
  return causes.every((cause) => Number.isSafeInteger(cause) && cause >= 0) ? causes : undefined;
}

function parseTransaction(text: string | undefined): TransactionMembership | null | undefined {
  if (!text) return undefined;
  const [id, place, count, ...more] = text.split(' ');
  const membership = { id: id ?? '', place: Number(place), count: Number(count) };
  const sound =
    membership.id !== '' && more.length === 0 && membership.place >= 1 && membership.place <= membership.count;
  return sound && Number.isSafeInteger(membership.place) && Number.isSafeInteger(membership.count) ? membership : null;
}

/** Header values are printable ASCII; anything else, and `%`, is percent-encoded byte by byte. */
export function escapeHeader(value: string): string {
  return value.replace(/[^\x20-\x24\x26-\x7e]+|^\s|\s$/gu, (odd) =>
    [...Buffer.from(odd, 'utf8')].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );
}

export function unescapeHeader(value: string): string {
  if (!value.includes('%')) return value;
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
