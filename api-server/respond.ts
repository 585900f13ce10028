/**
 * Writes answers: one object, a list, a watch or a Status, in the form that the client's Accept header prefers. Plain JSON takes the stored bytes as they are; tables, partial objects
 * and protobuf are made from them.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import { encodeProtobuf } from './codec/protobuf.ts';
import { negotiate, type Representation } from './codec/negotiate.ts';
import { toYaml } from './codec/yaml.ts';
import { apiVersionOf, type Call } from './call.ts';
import { notAcceptable, StatusError, type Status } from './errors.ts';
import { decode, type Entry } from './store/entry.ts';
import { toTable, type TableOptions } from './table/table.ts';

/** A watcher with more than this waiting in its socket is disconnected; it resumes from its last event. */
export const MAX_WATCH_BACKLOG_BYTES = 32 * 1024 * 1024;

const JSON_TYPE = 'application/json';

export function representationOf(call: Pick<Call, 'request'>): Representation {
  const representation = negotiate(call.request.headers.accept);
  if (!representation)
    throw notAcceptable(['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf']);
  return representation;
}

export function sendBytes(
  call: Pick<Call, 'response'>,
  code: number,
  body: Buffer,
  contentType: string = JSON_TYPE,
): void {
  call.response.writeHead(code, { 'Content-Type': contentType, 'Content-Length': body.length });
  call.response.end(body);
}

export function sendJson(call: Pick<Call, 'response'>, code: number, value: unknown): void {
  sendBytes(call, code, Buffer.from(JSON.stringify(value)));
}

export function sendStatus(call: Pick<Call, 'response'>, status: Status): void {
  const retryAfter = status.details?.retryAfterSeconds;
  if (retryAfter !== undefined) call.response.setHeader('Retry-After', String(retryAfter));
  sendJson(call, status.code, status);
}

/** One object that is not stored, or not yet: a review, a dry run, a Scale. */
export function sendObject(call: Call, object: ApiObject, code = 200): void {
  const representation = representationOf(call);
  switch (representation.as) {
    case 'Table':
      return sendJson(
        call,
        code,
        toTable(call.definition, [object], tableOptions(call, object.metadata.resourceVersion ?? '')),
      );
    case 'PartialObjectMetadata':
      return sendJson(call, code, partial(object));
    case 'Object':
      break;
    default:
      representation.as satisfies never;
  }
  if (representation.format === 'protobuf') {
    const encoded = encodeProtobuf(object, call.services.registry);
    if (encoded) return sendBytes(call, code, encoded, 'application/vnd.kubernetes.protobuf');
  }
  if (representation.format === 'yaml') return sendBytes(call, code, Buffer.from(toYaml(object)), 'application/yaml');
  sendJson(call, code, object);
}

export function sendEntry(call: Call, entry: Entry, code = 200): void {
  const { as, format } = representationOf(call);
  if (as === 'Object' && format === 'json' && asWritten(call, entry)) return sendBytes(call, code, entry.bytes);
  sendObject(call, inVersion(call, decode(entry)), code);
}

/** Whether the object was written in the version that the client asks for. */
const asWritten = (call: Call, entry: Entry): boolean => entry.apiVersion === apiVersionOf(call.definition);

function inVersion(call: Call, object: ApiObject): ApiObject {
  object.apiVersion = apiVersionOf(call.definition);
  return object;
}

const partial = ({ metadata }: ApiObject): ApiObject => ({
  apiVersion: 'meta.k8s.io/v1',
  kind: 'PartialObjectMetadata',
  metadata,
});

function tableOptions(call: Call, resourceVersion: string): TableOptions {
  const include = call.query.get('includeObject');
  return {
    resourceVersion,
    includeObject: include === 'None' || include === 'Object' ? include : 'Metadata',
    nowMs: call.asOfMs ?? Date.now(),
    version: representationOf(call).version ?? 'v1',
  };
}

export interface ListPage {
  readonly entries: readonly Entry[];
  readonly revision: number;
  readonly continueToken?: string;
  readonly remaining?: number;
}

const COMMA = Buffer.from(',');

export function sendList(call: Call, page: ListPage): void {
  const { definition } = call;
  const { as, format } = representationOf(call);
  const apiVersion = apiVersionOf(definition);
  const metadata = {
    resourceVersion: String(page.revision),
    ...(page.continueToken !== undefined && {
      continue: page.continueToken,
      ...(page.remaining !== undefined && { remainingItemCount: page.remaining }),
    }),
  };
  if (as === 'Object' && format === 'json' && page.entries.every((entry) => asWritten(call, entry))) {
    const head = `{"kind":${JSON.stringify(definition.listKind)},"apiVersion":${JSON.stringify(apiVersion)},"metadata":${JSON.stringify(metadata)},"items":[`;
    const parts: Buffer[] = [Buffer.from(head)];
    page.entries.forEach((entry, index) => (index === 0 ? parts.push(entry.bytes) : parts.push(COMMA, entry.bytes)));
    parts.push(Buffer.from(']}'));
    return sendBytes(call, 200, Buffer.concat(parts));
  }
  const objects = page.entries.map((entry) => inVersion(call, decode(entry)));
  if (as === 'Table') {
    const table = toTable(definition, objects, tableOptions(call, metadata.resourceVersion));
    return sendJson(call, 200, { ...table, metadata });
  }
  if (as === 'PartialObjectMetadata') {
    return sendJson(call, 200, {
      kind: 'PartialObjectMetadataList',
      apiVersion: 'meta.k8s.io/v1',
      metadata,
      items: objects.map(partial),
    });
  }
  const list = { kind: definition.listKind, apiVersion, metadata, items: objects };
  if (format === 'protobuf') {
    const encoded = encodeProtobuf(list as unknown as ApiObject, call.services.registry);
    if (encoded) return sendBytes(call, 200, encoded, 'application/vnd.kubernetes.protobuf');
  }
  if (format === 'yaml') return sendBytes(call, 200, Buffer.from(toYaml(list)), 'application/yaml');
  sendJson(call, 200, list);
}

/** An open watch response. */
export interface WatchStream {
  event(type: 'ADDED' | 'MODIFIED' | 'DELETED', entry: Entry): void;
  bookmark(revision: number, options?: { initialEventsEnd: boolean }): void;
  /** Resolves once the client has taken what was sent, or has gone. */
  drained(): Promise<void>;
  /** Ends with an ERROR event. */
  fail(error: StatusError): void;
  end(): void;
  /** Resolves when the client has gone or the stream has ended. */
  readonly closed: Promise<void>;
}

/** Serialized once for all watchers that take whole JSON objects. */
const serialized = new WeakMap<Entry, Map<string, Buffer>>();

function wholeEvent(type: string, entry: Entry): Buffer {
  let byType = serialized.get(entry);
  if (!byType) serialized.set(entry, (byType = new Map()));
  let bytes = byType.get(type);
  if (!bytes) {
    bytes = Buffer.concat([Buffer.from(`{"type":"${type}","object":`), entry.bytes, Buffer.from('}\n')]);
    byType.set(type, bytes);
  }
  return bytes;
}

export function openWatch(call: Call): WatchStream {
  const { definition, response, signal } = call;
  const { as } = representationOf(call);
  const whole = as === 'Object';
  let first = true;
  let ended = false;
  const apiVersion = apiVersionOf(definition);
  let gone = false;
  const closed = new Promise<void>((resolve) => {
    response.once('close', () => {
      gone = true;
      resolve();
    });
    signal.addEventListener('abort', () => response.end(), { once: true });
  });
  response.writeHead(200, { 'Content-Type': JSON_TYPE, 'Transfer-Encoding': 'chunked' });
  response.flushHeaders();

  const write = (chunk: Buffer | string) => {
    if (ended) return;
    response.write(chunk);
    if (response.writableLength > MAX_WATCH_BACKLOG_BYTES) {
      ended = true;
      response.destroy();
    }
  };
  const shape = (object: ApiObject): unknown => {
    if (as === 'PartialObjectMetadata') return partial(object);
    if (as !== 'Table') return object;
    const table = toTable(definition, [object], tableOptions(call, object.metadata.resourceVersion ?? ''));
    if (first) return table;
    return { ...table, columnDefinitions: null };
  };
  return {
    closed,
    drained() {
      if (!response.writableNeedDrain || gone) return Promise.resolve();
      return Promise.race([closed, new Promise<void>((resolve) => response.once('drain', resolve))]);
    },
    event(type, entry) {
      write(
        whole && asWritten(call, entry)
          ? wholeEvent(type, entry)
          : `${JSON.stringify({ type, object: shape(inVersion(call, decode(entry))) })}\n`,
      );
      first = false;
    },
    bookmark(revision, options) {
      const annotations = options?.initialEventsEnd ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {};
      const metadata = { resourceVersion: String(revision), creationTimestamp: null, ...annotations };
      const bookmark = { kind: definition.kind, apiVersion, metadata } as unknown as ApiObject;
      const object =
        as === 'Table'
          ? {
              kind: 'Table',
              apiVersion: 'meta.k8s.io/v1',
              metadata: { resourceVersion: String(revision) },
              columnDefinitions: null,
              rows: [{ cells: [], object: partial(bookmark) }],
            }
          : shape(bookmark);
      write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
    },
    fail(error) {
      write(`${JSON.stringify({ type: 'ERROR', object: error.status() })}\n`);
      this.end();
    },
    end() {
      if (ended) return;
      ended = true;
      response.end();
    },
  };
}
