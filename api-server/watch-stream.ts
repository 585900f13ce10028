/**
 * An open watch response: events one after the other, in JSON lines or in frames of protobuf, each made once for all watchers that take it in the same form. Opened by `verbs/watch.ts`.
 * A watcher that does not keep up is ended: it gets what was sent to it so far, whole, and resumes from there.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import { apiVersionOf, asSpoken, type Call } from './call.ts';
import { encodeProtobuf, encodeWatchFrame, PROTOBUF_STREAM_TYPE, sealMessage } from './codec/protobuf.ts';
import { internal, type StatusError } from './errors.ts';
import {
  CONTENT_TYPES,
  messageOf,
  metadataAlone,
  objectOf,
  once,
  representationOf,
  shaped,
  typeOf,
} from './representation.ts';
import { itemOf } from './respond.ts';
import type { Entry } from './store/entry.ts';

/** A watcher with more than this waiting in its socket gets nothing more; it resumes from its last event. */
export const MAX_WATCH_BACKLOG_BYTES = 32 * 1024 * 1024;
/** And so long it may take over what is waiting. */
const FAREWELL_MS = 30_000;

type EventType = 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';

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

/** Throws NotAcceptable. */
export function openWatch(asking: Call): WatchStream {
  const call = asSpoken(asking);
  const form = formOf(call);
  const { response, signal } = call;
  let ended = false;
  let gone = false;
  let farewell: NodeJS.Timeout | undefined;
  const end = () => {
    if (ended) return;
    ended = true;
    response.end();
    farewell = setTimeout(() => response.destroy(), FAREWELL_MS);
  };
  const closed = new Promise<void>((resolve) => {
    response.once('close', () => {
      gone = true;
      clearTimeout(farewell);
      resolve();
    });
    signal.addEventListener('abort', end, { once: true });
  });
  response.writeHead(200, { 'Content-Type': form.contentType, 'Transfer-Encoding': 'chunked' });
  response.flushHeaders();

  const write = (chunk: Buffer) => {
    if (ended) return;
    response.write(chunk);
    if (response.writableLength > MAX_WATCH_BACKLOG_BYTES) end();
  };
  return {
    closed,
    drained() {
      if (!response.writableNeedDrain || gone) return Promise.resolve();
      return Promise.race([closed, new Promise<void>((resolve) => response.once('drain', resolve))]);
    },
    event: (type, entry) => write(form.event(type, entry)),
    bookmark: (revision, options) => write(form.object('BOOKMARK', bookmarkOf(call, revision, options))),
    fail(error) {
      write(form.object('ERROR', error.status()));
      end();
    },
    end,
  };
}

/** How events are written for this client. */
interface Form {
  readonly contentType: string;
  event(type: EventType, entry: Entry): Buffer;
  object(type: EventType, object: unknown): Buffer;
}

const line = (type: EventType, object: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`{"type":"${type}","object":`), object, Buffer.from('}\n')]);

function formOf(call: Call): Form {
  const representation = representationOf(call);
  const { as, version, format } = representation;
  if (format === 'protobuf') return protobufForm(call);
  const object = (type: EventType, value: unknown): Buffer => line(type, Buffer.from(JSON.stringify(value)));
  const contentType = CONTENT_TYPES.json;
  if (as === 'Table') return { contentType, object, event: tableEvents(call, object) };
  const name = `${as} ${version ?? apiVersionOf(call.definition)}`;
  return {
    contentType,
    object,
    event: (type, entry) => once(entry, `${type} ${name}`, () => line(type, itemOf(call, entry, as, version))),
  };
}

/** The columns are told once. A row says how old its object is, so it is made anew each time. */
function tableEvents(call: Call, object: Form['object']): Form['event'] {
  let first = true;
  return (type, entry) => {
    const table = shaped(call, objectOf(call, entry)) as object;
    const event = object(type, first ? table : { ...table, columnDefinitions: null });
    first = false;
    return event;
  };
}

function protobufForm(call: Call): Form {
  const { registry } = call.services;
  const representation = representationOf(call);
  const name = `frame ${representation.as} ${representation.version ?? apiVersionOf(call.definition)}`;
  const type = typeOf(call, representation);
  return {
    contentType: PROTOBUF_STREAM_TYPE,
    event: (event, entry) =>
      once(entry, `${event} ${name}`, () =>
        encodeWatchFrame(event, sealMessage(type, [messageOf(call, entry, representation)])),
      ),
    object(event, value) {
      const bytes = encodeProtobuf(value, registry);
      if (!bytes) throw internal('there is no protobuf form');
      return encodeWatchFrame(event, bytes);
    },
  };
}

function bookmarkOf(call: Call, revision: number, options?: { initialEventsEnd: boolean }): unknown {
  const { definition } = call;
  const { as, version } = representationOf(call);
  const annotations = options?.initialEventsEnd ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {};
  const metadata = { resourceVersion: String(revision), creationTimestamp: null, ...annotations };
  const bookmark = { kind: definition.kind, apiVersion: apiVersionOf(definition), metadata } as unknown as ApiObject;
  if (as === 'Object') return bookmark;
  if (as === 'PartialObjectMetadata') return metadataAlone(bookmark, version);
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${version}`,
    metadata: { resourceVersion: String(revision) },
    columnDefinitions: null,
    rows: [{ cells: [], object: metadataAlone(bookmark) }],
  };
}
