/**
 * How an object looks to the client that asks: whole, as a Table or as its metadata alone, in JSON, YAML or protobuf, as its Accept header prefers. What is costly to make (protobuf, metadata alone) is made once an object and
 * remembered with it. Used by `respond.ts` and `watch-stream.ts`.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import { negotiate, type Representation } from './codec/negotiate.ts';
import { encodeMessage, encodeProtobuf, hasMessage } from './codec/protobuf.ts';
import { toYaml } from './codec/yaml.ts';
import { apiVersionOf, type Call } from './call.ts';
import { conversionOf } from './conversion/conversions.ts';
import { notAcceptable } from './errors.ts';
import { decode, type Entry } from './store/entry.ts';
import { toTable, type TableOptions } from './table/table.ts';

export const CONTENT_TYPES = {
  json: 'application/json',
  yaml: 'application/yaml',
  protobuf: 'application/vnd.kubernetes.protobuf',
} as const;

const WHOLE = Object.values(CONTENT_TYPES);
const STREAMED = [CONTENT_TYPES.json, CONTENT_TYPES.protobuf].map((type) => `${type};stream=watch`);

type Asking = Pick<Call, 'request' | 'services' | 'definition' | 'target'>;

/** Throws NotAcceptable. */
export function representationOf({ request, services, definition, target }: Asking): Representation {
  const watch = target.verb === 'watch';
  const { accept } = request.headers;
  const chosen = negotiate(accept, { watch, message: () => hasMessage(definition, services.registry) });
  // The answer to a question has no columns: in Kubernetes, too, only what can be listed is a table.
  if (!chosen || (chosen.as === 'Table' && !definition.verbs.includes('list')))
    throw notAcceptable(watch ? STREAMED : WHOLE);
  return chosen;
}

/** Whether the object was written in the version that the client asks for. */
export const asWritten = (call: Pick<Call, 'definition'>, entry: Entry): boolean =>
  entry.apiVersion === apiVersionOf(call.definition);

/** The object in the version that the client asks for: its own to change. */
export function objectOf(call: Pick<Call, 'definition'>, entry: Entry): ApiObject {
  const object = decode(entry);
  const conversion = conversionOf(call.definition);
  if (conversion) return conversion.fromStored(object);
  object.apiVersion = apiVersionOf(call.definition);
  return object;
}

export const metadataAlone = ({ metadata }: ApiObject, version = 'v1'): ApiObject => ({
  apiVersion: `meta.k8s.io/${version}`,
  kind: 'PartialObjectMetadata',
  metadata,
});

export function tableOptions(call: Call, resourceVersion: string): TableOptions {
  const include = call.query.get('includeObject');
  return {
    resourceVersion,
    includeObject: include === 'None' || include === 'Object' ? include : 'Metadata',
    nowMs: call.asOfMs ?? Date.now(),
    version: representationOf(call).version ?? 'v1',
  };
}

/** An object in the shape that is asked for, still to be written in a format. */
export function shaped(call: Call, object: ApiObject): unknown {
  const { as, version } = representationOf(call);
  switch (as) {
    case 'Table':
      return toTable(call.definition, [object], tableOptions(call, object.metadata.resourceVersion ?? ''));
    case 'PartialObjectMetadata':
      return metadataAlone(object, version);
    case 'Object':
      return object;
    default:
      return as satisfies never;
  }
}

export interface Encoded {
  readonly bytes: Buffer;
  readonly type: string;
}

/** JSON stands in for protobuf where a type has no such form. */
export function encodeAs(
  format: Representation['format'],
  value: unknown,
  { registry }: Pick<Call['services'], 'registry'>,
): Encoded {
  if (format === 'yaml') return { bytes: Buffer.from(toYaml(value)), type: CONTENT_TYPES.yaml };
  const protobuf = format === 'protobuf' ? encodeProtobuf(value, registry) : undefined;
  if (protobuf) return { bytes: protobuf, type: CONTENT_TYPES.protobuf };
  return { bytes: Buffer.from(JSON.stringify(value)), type: CONTENT_TYPES.json };
}

const remembered = new WeakMap<Entry, Map<string, Buffer>>();

/** What was made of an entry before under this name, or what is made of it now. */
export function once(entry: Entry, name: string, make: () => Buffer): Buffer {
  let known = remembered.get(entry);
  if (!known) remembered.set(entry, (known = new Map()));
  let bytes = known.get(name);
  if (!bytes) known.set(name, (bytes = make()));
  return bytes;
}

/** The object, whole or its metadata alone, as a bare message: the same in a list, alone and in a watch. */
export function messageOf(call: Call, entry: Entry, { as, version }: Representation): Buffer {
  return once(entry, `message ${as} ${version ?? apiVersionOf(call.definition)}`, () => {
    const object = objectOf(call, entry);
    return encodeMessage(
      as === 'PartialObjectMetadata' ? metadataAlone(object, version) : object,
      call.services.registry,
    );
  });
}

/** The type that a message of `messageOf` stands for. */
export const typeOf = (call: Call, { as, version }: Representation): { apiVersion: string; kind: string } =>
  as === 'PartialObjectMetadata'
    ? { apiVersion: `meta.k8s.io/${version}`, kind: as }
    : { apiVersion: apiVersionOf(call.definition), kind: call.definition.kind };
