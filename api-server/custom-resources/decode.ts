/**
 * Brings the body of a custom object into the shape of its schema, as the API server does for kinds that Go does not know: unknown fields are removed and reported, nulls go where the schema does not take them.
 * Values of a wrong type stay: validation tells of them, with the field. Called by `body.ts` for every write and by `presentation.ts` for every read under a newer schema. Works in place.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { nearestName } from '../admission/nearest-name.ts';
import { dotted, pruneUnknown, type Pruned, type UnknownField } from '../admission/prune.ts';

type JsonObject = Record<string, unknown>;
type Segment = string | number;

const MAX_REPORTED = 100;
/** What every object has, at the root and where one is embedded. */
const OBJECT_FIELDS = new Set(['apiVersion', 'kind', 'metadata']);

/** `schema` is that of a whole custom kind. */
export function decodeCustom(object: unknown, schema: Schema): Pruned {
  const decoder = new Decoder();
  decoder.object(object as JsonObject, schema, true);
  return decoder;
}

/** The same of any value, such as a default. */
export function decodeValue(value: unknown, schema: Schema): Pruned {
  const decoder = new Decoder();
  decoder.value(value, schema);
  return decoder;
}

class Decoder implements Pruned {
  readonly unknown: UnknownField[] = [];
  readonly mistyped: string[] = [];
  readonly #path: Segment[] = [];

  value(value: unknown, schema: Schema): void {
    if (typeof value !== 'object' || value === null) return;
    if (Array.isArray(value)) this.#list(value, schema);
    else this.object(value as JsonObject, schema, schema['x-kubernetes-embedded-resource'] === true);
  }

  #list(list: unknown[], { items }: Schema): void {
    if (!items) return;
    for (const [index, item] of list.entries()) {
      if (isMisplacedNull(item, items) && items.default !== undefined) list[index] = structuredClone(items.default);
      this.#path.push(index);
      this.value(list[index], items);
      this.#path.pop();
    }
  }

  object(object: JsonObject, schema: Schema, isWhole: boolean): void {
    const { properties, additionalProperties } = schema;
    for (const key of Object.keys(object)) {
      const child = properties && Object.hasOwn(properties, key) ? properties[key] : undefined;
      this.#path.push(key);
      if (isWhole && OBJECT_FIELDS.has(key)) this.#objectField(object, key, schema);
      else if (child) this.#field(object, key, child);
      else if (typeof additionalProperties === 'object') this.#entry(object, key, additionalProperties);
      else if (additionalProperties !== true && schema['x-kubernetes-preserve-unknown-fields'] !== true)
        this.#remove(object, key, properties);
      this.#path.pop();
    }
  }

  /** A null that the schema does not take is nothing at all; a default then stands in for it. */
  #field(object: JsonObject, key: string, schema: Schema): void {
    if (isMisplacedNull(object[key], schema)) delete object[key];
    else this.value(object[key], schema);
  }

  #entry(object: JsonObject, key: string, schema: Schema): void {
    if (isMisplacedNull(object[key], schema) && schema.default !== undefined) {
      const value: unknown = structuredClone(schema.default);
      Object.defineProperty(object, key, { value, configurable: true, enumerable: true, writable: true });
    }
    this.value(object[key], schema);
  }

  /** Metadata is the machinery's own type, whoever the kind belongs to. */
  #objectField(object: JsonObject, key: string, schema: Schema): void {
    const meta = schema.properties?.[key];
    if (key !== 'metadata' || !meta) return;
    const { unknown, mistyped } = pruneUnknown({ metadata: object[key] }, holderOf(meta));
    const prefix = dotted(this.#path.slice(0, -1));
    const under = (path: string) => (prefix === '' ? path : `${prefix}.${path}`);
    for (const { path, nearest } of unknown)
      this.#report({ path: under(path), ...(nearest !== undefined && { nearest: under(nearest) }) });
    this.mistyped.push(...mistyped);
  }

  #remove(object: JsonObject, key: string, properties: Schema['properties']): void {
    delete object[key];
    if (this.unknown.length >= MAX_REPORTED) return;
    const nearest = nearestName(key, Object.keys(properties ?? {}));
    const path = dotted(this.#path);
    this.#report(nearest === undefined ? { path } : { path, nearest: dotted([...this.#path.slice(0, -1), nearest]) });
  }

  #report(field: UnknownField): void {
    if (this.unknown.length < MAX_REPORTED) this.unknown.push(field);
  }
}

const holders = new WeakMap<Schema, Schema>();

/** An object that has metadata and nothing else. */
function holderOf(metadata: Schema): Schema {
  let holder = holders.get(metadata);
  if (!holder) holders.set(metadata, (holder = { type: 'object', properties: { metadata } }));
  return holder;
}

const isMisplacedNull = (value: unknown, schema: Schema): boolean => value === null && schema.nullable !== true;
