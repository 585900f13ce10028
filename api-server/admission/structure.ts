/**
 * What a schema alone can say about an object: required fields, allowed values, ranges, lengths, patterns. One ajv instance compiles every type once
 * (a type shared by many kinds is compiled once for all) at its first use, and its errors come back as Faults in Kubernetes' words. Called by `validate.ts`.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { formats } from '../../api-schemas/formats.ts';
import type { ResourceDefinition, Schema } from '../../api-schemas/schema.ts';
import { dotted } from './prune.ts';
import { invalid, notSupported, required, tooLong, tooMany, typeInvalid, type Fault } from './fault.ts';
import { formatCheck } from './names.ts';
import { specialType } from './scalar-kinds.ts';

type JsonSchema = Record<string, unknown>;

const KEPT = [
  'enum',
  'pattern',
  'minimum',
  'maximum',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'minProperties',
  'maxProperties',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'multipleOf',
  'uniqueItems',
] as const;

class Compiler {
  readonly #ajv = new Ajv({
    allErrors: true,
    verbose: true,
    strict: false,
    validateFormats: true,
    inlineRefs: false,
    unicodeRegExp: false,
  });
  readonly #untitled = new WeakMap<Schema, string>();
  readonly #added = new Set<string>();
  readonly #compiled = new WeakMap<Schema, ValidateFunction>();
  #count = 0;

  constructor() {
    for (const [name, { type, valid }] of Object.entries(formats)) {
      if (type === 'string') this.#ajv.addFormat(name, { type, validate: valid as (text: string) => boolean });
    }
  }

  compile(definition: ResourceDefinition): ValidateFunction {
    const known = this.#compiled.get(definition.schema);
    if (known) return known;
    const builtIn = definition.schema.title?.startsWith('io.k8s.') ?? false;
    const properties: JsonSchema = {};
    for (const [field, child] of Object.entries(definition.schema.properties ?? {})) {
      // What an object is called, and how, is checked by metadata.ts; a status is written by controllers, whose zero values Go would leave out.
      if (field === 'metadata' || field === 'apiVersion' || field === 'kind') continue;
      properties[field] = this.#reference(child, builtIn && field === 'status');
    }
    const required = (definition.schema.required ?? []).filter((field) => field in properties);
    const validate = this.#ajv.compile({ ...this.#own(definition.schema), type: 'object', properties, required });
    this.#compiled.set(definition.schema, validate);
    return validate;
  }

  /** A titled type becomes a `$ref` to a schema of its own, which also ends every cycle. */
  #reference(schema: Schema, lenient: boolean): JsonSchema {
    if (!schema.properties || specialType(schema)) return this.#inline(schema, lenient);
    const name = schema.title?.startsWith('io.k8s.') ? schema.title : this.#nameOf(schema);
    const id = `reckon:${encodeURIComponent(name)}${lenient ? ':lenient' : ''}`;
    if (!this.#added.has(id)) {
      this.#added.add(id);
      this.#ajv.addSchema({ $id: id, ...this.#inline(schema, lenient) });
    }
    return { $ref: id };
  }

  #nameOf(schema: Schema): string {
    let name = this.#untitled.get(schema);
    if (!name) this.#untitled.set(schema, (name = `untitled-${++this.#count}`));
    return name;
  }

  #own(schema: Schema): JsonSchema {
    const own: JsonSchema = {};
    for (const keyword of KEPT) {
      const value = (schema as JsonSchema)[keyword];
      if (value !== undefined) own[keyword] = value;
    }
    // A CustomResourceDefinition may name a format that nobody knows; Kubernetes passes over it, and so do we.
    if (schema.format !== undefined && formatCheck(schema.format)) own['format'] = schema.format;
    return own;
  }

  #inline(schema: Schema, lenient: boolean): JsonSchema {
    switch (specialType(schema)) {
      case 'quantity':
        return { type: 'string', format: 'quantity' };
      case 'time':
      case 'microTime':
        return { type: 'string', format: 'date-time' };
      case 'intOrString':
        return { ...this.#own({ ...schema, format: '' }), type: ['integer', 'string'] };
      case 'free':
        return {};
      case undefined:
    }
    const out = this.#own(schema);
    if (schema.type) out['type'] = schema.type;
    if (schema.properties) {
      out['properties'] = Object.fromEntries(
        Object.entries(schema.properties).map(([field, child]) => [field, this.#reference(child, lenient)]),
      );
      if (schema.required && !lenient) out['required'] = schema.required;
    }
    if (typeof schema.additionalProperties === 'object')
      out['additionalProperties'] = this.#reference(schema.additionalProperties, lenient);
    if (schema.items) out['items'] = this.#reference(schema.items, lenient);
    for (const keyword of ['oneOf', 'anyOf', 'allOf'] as const) {
      const branches = (schema as JsonSchema)[keyword] as readonly Schema[] | undefined;
      if (branches) out[keyword] = branches.map((branch) => this.#reference(branch, lenient));
    }
    const propertyNames = (schema as JsonSchema)['propertyNames'] as Schema | undefined;
    if (propertyNames) out['propertyNames'] = this.#inline(propertyNames, lenient);
    const not = (schema as JsonSchema)['not'] as Schema | undefined;
    if (not) out['not'] = this.#reference(not, lenient);
    return out;
  }
}

const compiler = new Compiler();
const MAX_FAULTS = 100;

/** Every structural fault of an object, fields in the order of the schema. */
export function validateStructure(object: unknown, definition: ResourceDefinition): Fault[] {
  const validate = compiler.compile(definition);
  if (validate(object)) return [];
  return (validate.errors ?? []).slice(0, MAX_FAULTS).flatMap((error) => faultOf(error, definition.schema));
}

/** Compiles a kind ahead of its first write, so that no request waits for it. */
export function prepareStructure(definition: ResourceDefinition): void {
  compiler.compile(definition);
}

/** ajv's pointer as a field path; the keys of maps stand in brackets, as Kubernetes writes them. */
function fieldPath(pointer: string, root: Schema): string {
  let schema: Schema | undefined = root;
  let path = '';
  for (const escaped of pointer.split('/').slice(1)) {
    const step = escaped.replaceAll('~1', '/').replaceAll('~0', '~');
    if (schema?.items) [path, schema] = [`${path}[${step}]`, schema.items];
    else if (schema?.properties && Object.hasOwn(schema.properties, step))
      [path, schema] = [path === '' ? step : `${path}.${step}`, schema.properties[step]];
    else {
      path += `[${step}]`;
      schema = typeof schema?.additionalProperties === 'object' ? schema.additionalProperties : undefined;
    }
  }
  return path;
}

function faultOf(error: ErrorObject, root: Schema): Fault[] {
  // Of a key of a map ajv tells twice: what is wrong with the key, and that the map has a wrong key.
  if (error.keyword === 'propertyNames') return [];
  const at = fieldPath(error.instancePath, root);
  const path = error.propertyName === undefined ? at : `${at}[${error.propertyName}]`;
  const value: unknown = error.data;
  const { params } = error as { params: Record<string, unknown> };
  switch (error.keyword) {
    case 'required':
      return [required(dotted([path, String(params['missingProperty'])].filter((part) => part !== '')))];
    case 'enum':
      return [notSupported(path, value, params['allowedValues'] as unknown[])];
    case 'type':
      return [
        typeInvalid(
          path,
          typeof value === 'object' ? typeof value : value,
          `${path} in body must be of type ${String(params['type'])}`,
        ),
      ];
    case 'pattern':
      return [invalid(path, value, `${path} in body should match '${String(params['pattern'])}'`)];
    case 'format':
      return (formatCheck(String(params['format']))?.(String(value)) ?? ['is malformed']).map((says) =>
        invalid(path, value, says),
      );
    case 'minimum':
    case 'exclusiveMinimum':
      return [
        invalid(
          path,
          value,
          `must be greater than ${error.keyword === 'minimum' ? 'or equal to ' : ''}${String(params['limit'])}`,
        ),
      ];
    case 'maximum':
    case 'exclusiveMaximum':
      return [
        invalid(
          path,
          value,
          `must be less than ${error.keyword === 'maximum' ? 'or equal to ' : ''}${String(params['limit'])}`,
        ),
      ];
    case 'minLength':
      return [
        value === ''
          ? required(path)
          : invalid(path, value, `${path} in body should be at least ${String(params['limit'])} chars long`),
      ];
    case 'maxLength':
      return [tooLong(path, Number(params['limit']))];
    case 'minItems':
    case 'minProperties':
      return [
        required(path, Number(params['limit']) === 1 ? '' : `must have at least ${String(params['limit'])} items`),
      ];
    case 'maxItems':
    case 'maxProperties':
      return [
        tooMany(
          path,
          Array.isArray(value) ? value.length : Object.keys(value as object).length,
          Number(params['limit']),
        ),
      ];
    default:
      return [invalid(path, value, `${path} in body ${error.message ?? 'is malformed'}`)];
  }
}
