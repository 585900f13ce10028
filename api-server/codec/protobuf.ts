/**
 * Kubernetes' protobuf: the `k8s\0` envelope and, inside it, the object as its schema numbers it. kubectl 1.32 sends it for `create namespace` and some others without falling back to JSON, and prefers it when
 * it describes. Called by `body.ts` and `respond.ts`. https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
 */
import type { Registry } from '../../api-schemas/registry.ts';
import type { ResourceDefinition, Schema } from '../../api-schemas/schema.ts';
import { badRequest } from '../errors.ts';
import { parseJson } from './json.ts';
import { MessageDecoder } from './message-decoder.ts';
import { writeMessage } from './message-encoder.ts';
import {
  listPlan,
  messagePlan,
  metadataAlonePlan,
  metadataListPlan,
  NoWireForm,
  type MessagePlan,
} from './message-plan.ts';
import { BYTES, WireError, WireReader } from './wire-reader.ts';
import { WireWriter } from './wire-writer.ts';

const MAGIC = Buffer.from('k8s\0');
const LIST_META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta';
const OBJECT_META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';
const META_GROUP = 'meta.k8s.io';

/** The media type of a watch in protobuf. */
export const PROTOBUF_STREAM_TYPE = 'application/vnd.kubernetes.protobuf;stream=watch';

/** Throws BadRequest for what is not an object that the registry knows, in its envelope. */
export function decodeProtobuf(bytes: Uint8Array, registry: Registry): unknown {
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoder = new MessageDecoder((raw) =>
    startsWithMagic(raw) ? open(raw) : parseJson(raw, { duplicates: false }).value,
  );
  const open = (envelope: Buffer): unknown => {
    const { apiVersion, kind, contentType, raw } = readEnvelope(envelope);
    if (contentType.includes('json')) return parseJson(raw, { duplicates: false }).value;
    const plan = planOf(apiVersion, kind, registry);
    if (!plan) throw badRequest(`no kind "${kind}" is registered for version "${apiVersion}"`);
    return { apiVersion, kind, ...decoder.message(new WireReader(raw), plan) };
  };
  if (!startsWithMagic(body))
    throw badRequest('provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]');
  try {
    return open(body);
  } catch (cause) {
    if (cause instanceof WireError || cause instanceof NoWireForm)
      throw badRequest(`the body is not valid protobuf: ${cause.message}`, { cause });
    throw cause;
  }
}

const startsWithMagic = (bytes: Buffer): boolean =>
  bytes.length >= MAGIC.length && bytes.subarray(0, MAGIC.length).equals(MAGIC);

interface Envelope {
  readonly apiVersion: string;
  readonly kind: string;
  readonly raw: Buffer;
  readonly contentType: string;
}

/** `runtime.Unknown`: typeMeta (1), raw (2), contentEncoding (3), contentType (4). */
function readEnvelope(bytes: Buffer): Envelope {
  const reader = new WireReader(bytes, MAGIC.length);
  let [apiVersion, kind, contentType] = ['', '', ''];
  let raw: Buffer = Buffer.alloc(0);
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === ((1 << 3) | BYTES)) {
      const typeMeta = reader.message();
      while (!typeMeta.done) {
        const inner = typeMeta.tag();
        if (inner === ((1 << 3) | BYTES)) apiVersion = typeMeta.string();
        else if (inner === ((2 << 3) | BYTES)) kind = typeMeta.string();
        else typeMeta.skip(inner & 7);
      }
    } else if (tag === ((2 << 3) | BYTES)) raw = reader.bytes();
    else if (tag === ((4 << 3) | BYTES)) contentType = reader.string();
    else reader.skip(tag & 7);
  }
  return { apiVersion, kind, raw, contentType };
}

/** Undefined when the type has no protobuf form (custom resources, CustomResourceDefinitions): JSON is served instead. */
export function encodeProtobuf(object: unknown, registry: Registry): Buffer | undefined {
  const type = object as { apiVersion: string; kind: string };
  try {
    return sealMessage(type, [encodeMessage(object, registry)]);
  } catch (cause) {
    if (cause instanceof NoWireForm) return undefined;
    throw cause;
  }
}

/** Whether the objects of a kind have a protobuf form. */
export function hasMessage(definition: ResourceDefinition, registry: Registry): boolean {
  let known = messages.get(definition);
  if (known === undefined) {
    const { group, version, kind } = definition;
    const apiVersion = group === '' ? version : `${group}/${version}`;
    known = encodeProtobuf({ apiVersion, kind, metadata: {} }, registry) !== undefined;
    messages.set(definition, known);
  }
  return known;
}

const messages = new WeakMap<ResourceDefinition, boolean>();

/** The object as a bare message, without the envelope. Throws NoWireForm. */
export function encodeMessage(object: unknown, registry: Registry): Buffer {
  const { apiVersion, kind } = object as { apiVersion: string; kind: string };
  const plan = planOf(apiVersion, kind, registry);
  if (!plan) throw new NoWireForm(`${apiVersion} ${kind} has no protobuf form`);
  const writer = new WireWriter();
  writeMessage(writer, object as Record<string, unknown>, plan);
  // A copy: the message may be kept, and the writer's buffer is larger.
  return Buffer.from(writer.finish());
}

/** The parts of the message of a list, from the messages of its items. */
export function listMessage(metadata: object, items: readonly Buffer[], registry: Registry): Buffer[] {
  const listMeta = registry.type(LIST_META);
  const writer = new WireWriter();
  if (listMeta) writeMessage(writer, metadata as Record<string, unknown>, messagePlan(listMeta));
  const parts = [head(1, writer.length), writer.finish()];
  for (const item of items) parts.push(head(2, item.length), item);
  return parts;
}

/** What stands before the bytes of a field: its tag and their length. */
function head(field: number, length: number): Buffer {
  const writer = new WireWriter(16);
  writer.uint32(length);
  writer.tag(field, BYTES);
  return writer.finish();
}

/** A message, in parts, in its envelope. */
export function sealMessage(
  { apiVersion, kind }: { apiVersion: string; kind: string },
  parts: readonly Buffer[],
): Buffer {
  const before = new WireWriter(128);
  before.uint32(parts.reduce((sum, { length }) => sum + length, 0));
  before.tag(2, BYTES);
  const start = before.length;
  before.string(kind);
  before.tag(2, BYTES);
  before.string(apiVersion);
  before.tag(1, BYTES);
  before.uint32(before.length - start);
  before.tag(1, BYTES);
  before.raw(MAGIC);
  return Buffer.concat([before.finish(), ...parts, WITHOUT_ENCODING]);
}

/** The content encoding and content type of an envelope, both empty. */
const WITHOUT_ENCODING = Buffer.from([(3 << 3) | BYTES, 0, (4 << 3) | BYTES, 0]);

/** One frame of a watch: its length in four bytes, then a `WatchEvent` whose object is an envelope of its own. */
export function encodeWatchFrame(type: string, object: Buffer): Buffer {
  const writer = new WireWriter();
  writer.bytes(object);
  writer.tag(1, BYTES);
  writer.uint32(writer.length);
  writer.tag(2, BYTES);
  writer.string(type);
  writer.tag(1, BYTES);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(writer.length);
  writer.raw(length);
  return writer.finish();
}

function planOf(apiVersion: string, kind: string, registry: Registry): MessagePlan | undefined {
  const [group = '', version = ''] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
  if (group === META_GROUP && kind.startsWith('PartialObjectMetadata')) return metadataPlan(kind, registry);
  const definition = registry.byKind(group, version, kind);
  const schema = definition?.schema ?? typeIndex(registry).get(`${apiVersion}/${kind}`);
  if (schema) return messagePlan(schema);
  const list = kind.endsWith('List') ? registry.byKind(group, version, kind.slice(0, -'List'.length)) : undefined;
  const listMeta = registry.type(LIST_META);
  return list && listMeta ? listPlan(list, listMeta) : undefined;
}

/** Metadata alone, and lists of it: the same messages for every kind. */
function metadataPlan(kind: string, registry: Registry): MessagePlan | undefined {
  const [objectMeta, listMeta] = [registry.type(OBJECT_META), registry.type(LIST_META)];
  if (!objectMeta || !listMeta) return undefined;
  if (kind === 'PartialObjectMetadata') return metadataAlonePlan(objectMeta);
  return kind === 'PartialObjectMetadataList' ? metadataListPlan(objectMeta, listMeta) : undefined;
}

const indexes = new WeakMap<Registry, ReadonlyMap<string, Schema>>();

/** Kinds that no resource serves (DeleteOptions, Status, Scale): by `apiVersion/kind`. They come from files, so the index never changes. */
function typeIndex(registry: Registry): ReadonlyMap<string, Schema> {
  let index = indexes.get(registry);
  if (index) return index;
  const found = new Map<string, Schema>();
  for (const title of registry.types()) {
    const schema = registry.type(title) as
      | (Schema & { 'x-kubernetes-group-version-kind'?: readonly { group: string; version: string; kind: string }[] })
      | undefined;
    for (const { group, version, kind } of schema?.['x-kubernetes-group-version-kind'] ?? []) {
      if (schema) found.set(`${group === '' ? version : `${group}/${version}`}/${kind}`, schema);
    }
  }
  indexes.set(registry, (index = found));
  return index;
}
