/**
 * Brings a parsed body into the shape of its kind, as Go's decoder does for Kubernetes: unknown fields are removed and reported, wrong JSON types
 * are reported in Go's words, nulls become absent, quantities and times take their canonical form. Called by every write verb (through `body.ts`),
 * before defaulting. Works in place, on an object that the caller owns, so that keys such as `__proto__` stay the plain data they are.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { nearestName } from './nearest-name.ts';
import { formatQuantity, parseQuantity, QUANTITY_RULE } from '../../api-schemas/quantity.ts';
import { shortTitle, specialType, type SpecialType } from './scalar-kinds.ts';
import { canonicalTime } from './time.ts';

export interface UnknownField {
  /** Such as `spec.template.spec.contianers`. */
  readonly path: string;
  /** The path of the valid field that was probably meant. */
  readonly nearest?: string;
}

export interface Pruned {
  readonly unknown: readonly UnknownField[];
  /** In Go's words: `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`. */
  readonly mistyped: readonly string[];
}

/** More faults than this are not listed: nobody reads them, and a hostile body could carry a million. */
const MAX_REPORTED = 100;

type Json = unknown;
type JsonObject = Record<string, Json>;
type Segment = string | number;

/** Decodes in place. Unknown fields are gone afterwards; wrong types are left where they are, and the object is not to be used. */
export function pruneUnknown(object: unknown, schema: Schema): Pruned {
  const decoder = new Decoder();
  decoder.value(object, schema, shortTitle(schema));
  return decoder;
}

class Decoder {
  readonly unknown: UnknownField[] = [];
  readonly mistyped: string[] = [];
  readonly #path: Segment[] = [];

  /** The value in its canonical form; `struct` is the name of the Go struct that holds it, for messages. */
  value(value: Json, schema: Schema, struct: string): Json {
    const special = specialType(schema);
    return special ? this.#special(value, schema, struct, special) : this.#ordinary(value, schema, struct);
  }

  #special(value: Json, schema: Schema, struct: string, special: SpecialType): Json {
    switch (special) {
      case 'quantity':
        return this.#quantity(value, schema, struct);
      case 'time':
        return this.#time(value, schema, struct, 0);
      case 'microTime':
        return this.#time(value, schema, struct, 6);
      case 'intOrString':
        if (typeof value === 'string' || isInt32(value)) return value;
        return this.#mismatch(value, schema, struct);
      case 'free':
        return value;
      default:
        return special satisfies never;
    }
  }

  #ordinary(value: Json, schema: Schema, struct: string): Json {
    switch (schema.type) {
      case 'string':
        if (typeof value !== 'string') return this.#mismatch(value, schema, struct);
        return schema.format === 'byte' ? this.#base64(value) : value;
      case 'integer':
        return isInteger(value, schema.format) ? value : this.#mismatch(value, schema, struct);
      case 'number':
        return typeof value === 'number' ? value : this.#mismatch(value, schema, struct);
      case 'boolean':
        return typeof value === 'boolean' ? value : this.#mismatch(value, schema, struct);
      case 'array':
        return Array.isArray(value) ? this.#list(value, schema, struct) : this.#mismatch(value, schema, struct);
      case 'object':
      case undefined:
        if (schema.anyOf) return this.#choice(value, schema, struct);
        if (isObject(value)) return this.#object(value, schema, struct);
        return schema.type ? this.#mismatch(value, schema, struct) : value;
      default:
        return schema.type satisfies never;
    }
  }

  /** A value that may be of several types (a schema, or true): the one that it is says how it is read. */
  #choice(value: Json, schema: Schema, struct: string): Json {
    const kind = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
    const branch = schema.anyOf?.find(({ type }) => type === kind);
    return branch ? this.value(value, branch, struct) : this.#mismatch(value, schema, struct);
  }

  #list(list: Json[], schema: Schema, struct: string): Json {
    const { items } = schema;
    if (!items) return list;
    for (let index = 0; index < list.length; index++) {
      this.#path.push(index);
      list[index] = list[index] === null ? zero(items) : this.value(list[index], items, struct);
      this.#path.pop();
    }
    return list;
  }

  #object(object: JsonObject, schema: Schema, struct: string): Json {
    const { properties, additionalProperties } = schema;
    const own = properties ? shortTitle(schema) || struct : struct;
    for (const key of Object.keys(object)) {
      const child = properties && Object.hasOwn(properties, key) ? properties[key] : undefined;
      this.#path.push(key);
      if (child) this.#field(object, key, child, own);
      else if (typeof additionalProperties === 'object') this.#entry(object, key, additionalProperties, own);
      else if (!keepsUnknown(schema, key)) this.#remove(object, key, properties);
      this.#path.pop();
    }
    return object;
  }

  #field(object: JsonObject, key: string, schema: Schema, struct: string): void {
    const value = object[key];
    if (value === null && specialType(schema) !== 'free') delete object[key];
    else {
      const decoded = this.value(value, schema, struct);
      if (decoded !== value) object[key] = decoded;
    }
  }

  #entry(object: JsonObject, key: string, schema: Schema, struct: string): void {
    const value = object[key];
    const decoded = value === null ? zero(schema) : this.value(value, schema, struct);
    if (decoded !== value)
      Object.defineProperty(object, key, { value: decoded, configurable: true, enumerable: true, writable: true });
  }

  #remove(object: JsonObject, key: string, properties: Schema['properties']): void {
    delete object[key];
    if (this.unknown.length >= MAX_REPORTED) return;
    const nearest = nearestName(key, Object.keys(properties ?? {}));
    const path = dotted(this.#path);
    this.unknown.push(
      nearest === undefined ? { path } : { path, nearest: dotted([...this.#path.slice(0, -1), nearest]) },
    );
  }

  #quantity(value: Json, schema: Schema, struct: string): Json {
    if (typeof value !== 'string' && typeof value !== 'number') return this.#mismatch(value, schema, struct);
    const quantity = parseQuantity(String(value).trim());
    if (quantity) return formatQuantity(quantity);
    return this.#fault(value, `${dotted(this.#path)}: ${QUANTITY_RULE}`);
  }

  #time(value: Json, schema: Schema, struct: string, digits: 0 | 6): Json {
    if (typeof value !== 'string') return this.#mismatch(value, schema, struct);
    const time = canonicalTime(value, digits);
    if (time !== undefined) return time;
    return this.#fault(
      value,
      `${dotted(this.#path)}: parsing time ${JSON.stringify(value.slice(0, 64))} as "2006-01-02T15:04:05Z07:00": cannot parse it as a time`,
    );
  }

  #base64(value: string): Json {
    const text = value.replaceAll(/[\r\n]/g, '');
    const bad = /[^A-Za-z0-9+/=]|=(?=[^=])/.exec(text);
    if (bad || text.length % 4 !== 0 || /={3}/.test(text)) {
      return this.#fault(
        value,
        `${dotted(this.#path)}: illegal base64 data at input byte ${bad?.index ?? text.length}`,
      );
    }
    return text;
  }

  #mismatch(value: Json, schema: Schema, struct: string): Json {
    const path = this.#path.filter((segment) => typeof segment === 'string').join('.');
    const field = path === '' ? 'value' : `struct field ${struct}.${path}`;
    return this.#fault(value, `json: cannot unmarshal ${jsonKind(value)} into Go ${field} of type ${goType(schema)}`);
  }

  #fault(value: Json, message: string): Json {
    if (this.mistyped.length < MAX_REPORTED) this.mistyped.push(message);
    return value;
  }
}

const isObject = (value: Json): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isInt32 = (value: Json): boolean => Number.isInteger(value) && Math.abs(value as number) <= 0x7fffffff;

const isInteger = (value: Json, format: string | undefined): boolean =>
  Number.isInteger(value) && (format !== 'int32' || isInt32(value) || value === -0x80000000);

/** Fields that stay although the schema does not name them. */
function keepsUnknown(schema: Schema, key: string): boolean {
  if (schema['x-kubernetes-preserve-unknown-fields'] || schema.additionalProperties === true) return true;
  return (
    schema['x-kubernetes-embedded-resource'] === true && (key === 'apiVersion' || key === 'kind' || key === 'metadata')
  );
}

/** What Go makes of a null inside a list or map. */
function zero(schema: Schema): Json {
  if (specialType(schema) === 'quantity') return '0';
  switch (schema.type) {
    case 'string':
      return '';
    case 'integer':
    case 'number':
      return 0;
    case 'boolean':
      return false;
    case 'array':
      return [];
    default:
      return specialType(schema) === 'free' ? null : {};
  }
}

function jsonKind(value: Json): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return isInt32(value) ? 'number' : `number ${value}`;
  return typeof value === 'boolean' ? 'bool' : typeof value;
}

function goType(schema: Schema): string {
  const special = specialType(schema);
  if (special === 'intOrString') return 'intstr.IntOrString';
  if (special === 'time' || special === 'microTime') return 'time.Time';
  if (special === 'quantity') return 'resource.Quantity';
  switch (schema.type) {
    case 'integer':
      return schema.format === 'int32' ? 'int32' : 'int64';
    case 'number':
      return 'float64';
    case 'boolean':
      return 'bool';
    case 'string':
      return schema.format === 'byte' ? '[]uint8' : 'string';
    case 'array':
      return `[]${schema.items ? goType(schema.items) : 'interface {}'}`;
    default:
      if (schema.title) return schema.title.split('.').slice(-2).join('.');
      return typeof schema.additionalProperties === 'object'
        ? `map[string]${goType(schema.additionalProperties)}`
        : 'map[string]interface {}';
  }
}

/** `spec.containers[0].name`; the path of the object itself is the empty string. */
export function dotted(path: readonly Segment[]): string {
  let text = '';
  for (const segment of path)
    text += typeof segment === 'number' ? `[${segment}]` : text === '' ? segment : `.${segment}`;
  return text;
}
