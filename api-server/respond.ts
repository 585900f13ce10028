/**
 * Writes answers: one object, a list or a Status, in the form that the client's Accept header prefers. Plain JSON takes the stored bytes as they are; large answers are packed where the client takes gzip, as
 * Kubernetes does. Called by every verb; watches are in `watch-stream.ts`.
 */
import type { ServerResponse } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import { gzip } from 'node:zlib';
import type { ApiObject } from '../api-schemas/schema.ts';
import { apiVersionOf, asSpoken, type Call } from './call.ts';
import { listMessage, sealMessage } from './codec/protobuf.ts';
import { negotiate } from './codec/negotiate.ts';
import { inAskedVersion } from './custom-resources/presentation.ts';
import { StatusError, type Status } from './errors.ts';
import {
  asWritten,
  CONTENT_TYPES,
  encodeAs,
  messageOf,
  metadataAlone,
  objectOf,
  once,
  representationOf,
  shaped,
  tableOptions,
  typeOf,
} from './representation.ts';
import type { Entry } from './store/entry.ts';
import { toTable } from './table/table.ts';

/** As in Kubernetes: below it packing costs more than it saves, and the fastest level is the one that pays. */
const GZIP_FROM_BYTES = 128 * 1024;
const GZIP_LEVEL = 1;

export function sendBytes(
  { response }: Pick<Call, 'response'>,
  code: number,
  body: Buffer,
  contentType: string = CONTENT_TYPES.json,
): void {
  if (body.length > GZIP_FROM_BYTES && takesGzip(response)) return sendPacked(response, code, body, contentType);
  response.writeHead(code, { 'Content-Type': contentType, 'Content-Length': body.length });
  response.end(body);
}

/** So much is put together and encrypted at a time; meanwhile the client reads what came before. */
const PIECE_BYTES = 256 * 1024;

/** As `sendBytes`, of an answer that stands in many small parts: what is long leaves piece by piece, no faster than the client takes it. */
function sendParts({ response }: Pick<Call, 'response'>, parts: readonly Buffer[]): void {
  const sizeBytes = parts.reduce((sum, { length }) => sum + length, 0);
  if (sizeBytes <= PIECE_BYTES || takesGzip(response))
    return sendBytes({ response }, 200, Buffer.concat(parts, sizeBytes));
  response.writeHead(200, { 'Content-Type': CONTENT_TYPES.json, 'Content-Length': sizeBytes });
  // Who leaves before the end is no fault of anybody's.
  pipeline(Readable.from(pieces(parts), { objectMode: false }), response, () => undefined);
}

function* pieces(parts: readonly Buffer[]): Generator<Buffer> {
  let piece: Buffer[] = [];
  let sizeBytes = 0;
  for (const part of parts) {
    piece.push(part);
    sizeBytes += part.length;
    if (sizeBytes < PIECE_BYTES) continue;
    yield Buffer.concat(piece, sizeBytes);
    piece = [];
    sizeBytes = 0;
  }
  if (sizeBytes > 0) yield Buffer.concat(piece, sizeBytes);
}

const takesGzip = ({ req }: ServerResponse): boolean =>
  String(req.headers['accept-encoding'] ?? '')
    .split(',')
    .some((coding) => /^\s*gzip\s*(;(?!\s*q=0(\.0*)?\s*$).*)?$/.test(coding));

function sendPacked(response: ServerResponse, code: number, body: Buffer, contentType: string): void {
  gzip(body, { level: GZIP_LEVEL }, (error, packed) => {
    if (error || response.destroyed) return void response.destroy();
    response.writeHead(code, {
      'Content-Type': contentType,
      'Content-Encoding': 'gzip',
      Vary: 'Accept-Encoding',
      'Content-Length': packed.length,
    });
    response.end(packed);
  });
}

export function sendJson(call: Pick<Call, 'response'>, code: number, value: unknown): void {
  sendBytes(call, code, Buffer.from(wantsPretty(call.response) ? pretty(value) : JSON.stringify(value)));
}

const PRETTY = /[?&]pretty=([^&]*)/;
const BY_HAND = /^(curl|Wget|Mozilla\/5\.0)/;

/** For people: who asks for it, and those who look with their own eyes. https://kubernetes.io/docs/reference/kubernetes-api/common-parameters/common-parameters/#pretty */
function wantsPretty({ req }: ServerResponse): boolean {
  const asked = PRETTY.exec(req.url ?? '')?.[1];
  if (asked !== undefined && /^(1|0|t|f|true|false)$/i.test(asked)) return /^(1|t|true)$/i.test(asked);
  return BY_HAND.test(req.headers['user-agent'] ?? '');
}

const pretty = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`;

/** In the form that the client prefers, where that can be told. */
export function sendStatus(call: Pick<Call, 'response' | 'services'>, status: Status): void {
  const { response, services } = call;
  const retryAfter = status.details?.retryAfterSeconds;
  if (retryAfter !== undefined) response.setHeader('Retry-After', String(retryAfter));
  const { format } = negotiate(response.req.headers.accept) ?? { format: 'json' };
  if (format === 'json') return sendJson(call, status.code, status);
  const { bytes, type } = encodeAs(format, status, services);
  sendBytes(call, status.code, bytes, type);
}

/** One object that is not stored, or not yet: a review, a dry run, a Scale. */
export function sendObject(call: Call, object: ApiObject, code = 200): void {
  sendValue(call, shaped(call, object), code);
}

function sendValue(call: Call, value: unknown, code = 200): void {
  const { format } = representationOf(call);
  if (format === 'json') return sendJson(call, code, value);
  const { bytes, type } = encodeAs(format, value, call.services);
  sendBytes(call, code, bytes, type);
}

/** Rejects where a webhook has to convert the object and cannot. */
export async function sendEntry(asking: Call, found: Entry, code = 200): Promise<void> {
  const call = asSpoken(asking);
  const [entry = found] = await inAskedVersion(call.definition, [found]);
  const representation = representationOf(call);
  const { as, format } = representation;
  if (as === 'Object' && format === 'json' && asWritten(call, entry) && !wantsPretty(call.response))
    return sendBytes(call, code, entry.bytes);
  if (format === 'protobuf' && as !== 'Table' && entry.sequence > 0)
    return sendBytes(
      call,
      code,
      sealMessage(typeOf(call, representation), [messageOf(call, entry, representation)]),
      CONTENT_TYPES.protobuf,
    );
  sendObject(call, objectOf(call, entry), code);
}

/** What a write has left. That it cannot be shown does not undo it, and the refusal says so. */
export async function sendWritten(call: Call, entry: Entry, code = 200): Promise<void> {
  call.response.setHeader('Reckon-Revision', entry.sequence);
  try {
    await sendEntry(call, entry, code);
  } catch (error) {
    throw writtenAllTheSame(error);
  }
}

export function writtenAllTheSame(error: unknown): unknown {
  if (!(error instanceof StatusError) || error.reason !== 'Unknown') return error;
  const message = `the write was made, but what it left cannot be shown: ${error.message}`;
  return new StatusError(error.reason, message, error.details, { cause: error });
}

export interface ListPage {
  readonly entries: readonly Entry[];
  readonly revision: number;
  readonly continueToken?: string;
  readonly remaining?: number;
}

export async function sendList(asking: Call, found: ListPage): Promise<void> {
  const call = asSpoken(asking);
  const page = { ...found, entries: await inAskedVersion(call.definition, found.entries) };
  const { definition } = call;
  const representation = representationOf(call);
  const { as, format, version } = representation;
  const metadata = {
    resourceVersion: String(page.revision),
    ...(page.continueToken !== undefined && {
      continue: page.continueToken,
      ...(page.remaining !== undefined && { remainingItemCount: page.remaining }),
    }),
  };
  if (as === 'Table') {
    const objects = page.entries.map((entry) => objectOf(call, entry));
    const table = toTable(definition, objects, tableOptions(call, metadata.resourceVersion));
    return sendValue(call, { ...table, metadata });
  }
  const list =
    as === 'PartialObjectMetadata'
      ? { kind: 'PartialObjectMetadataList', apiVersion: `meta.k8s.io/${version}`, metadata }
      : { kind: definition.listKind, apiVersion: apiVersionOf(definition), metadata };
  if (format === 'protobuf') {
    const items = page.entries.map((entry) => messageOf(call, entry, representation));
    const message = listMessage(metadata, items, call.services.registry);
    return sendBytes(call, 200, sealMessage(list, message), CONTENT_TYPES.protobuf);
  }
  if (format === 'json' && !wantsPretty(call.response)) {
    const items = page.entries.map((entry) => itemOf(call, entry, as, version));
    return sendParts(call, joined(list, items));
  }
  const objects = page.entries.map((entry) => objectOf(call, entry));
  sendValue(call, {
    ...list,
    items: as === 'Object' ? objects : objects.map((object) => metadataAlone(object, version)),
  });
}

const COMMA = Buffer.from(',');

/** The items stay the bytes that they are. */
function joined(list: { kind: string; apiVersion: string; metadata: object }, items: readonly Buffer[]): Buffer[] {
  const head = `{"kind":${JSON.stringify(list.kind)},"apiVersion":${JSON.stringify(list.apiVersion)},"metadata":${JSON.stringify(list.metadata)},"items":[`;
  const parts: Buffer[] = [Buffer.from(head)];
  items.forEach((item, index) => (index === 0 ? parts.push(item) : parts.push(COMMA, item)));
  parts.push(Buffer.from(']}'));
  return parts;
}

/** One object of a list, or of a watch, in JSON. */
export function itemOf(call: Call, entry: Entry, as: 'Object' | 'PartialObjectMetadata', version?: string): Buffer {
  if (as === 'PartialObjectMetadata')
    return once(entry, `metadata ${version}`, () =>
      Buffer.from(JSON.stringify(metadataAlone(objectOf(call, entry), version))),
    );
  return asWritten(call, entry) ? entry.bytes : Buffer.from(JSON.stringify(objectOf(call, entry)));
}
