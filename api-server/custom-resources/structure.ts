/**
 * What the schema of a custom kind says about an object: types, required fields, ranges, patterns, formats. It walks the object along the schema and compiles nothing: a schema that a user sends may be huge, and is data here,
 * never code. On update, what stands as it stood before is not judged again (KEP 4008, ratcheting), so that a stricter schema does not lock its old objects. Called by `admission/validate.ts`.
 */
import type { ApiObject, Schema } from '../../api-schemas/schema.ts';
import { invalid, notSupported, required, tooLong, tooMany, typeInvalid, type Fault } from '../admission/fault.ts';
import { labelsFaults } from '../admission/metadata.ts';
import { sameJson } from '../admission/rules/rule.ts';
import { customFormats } from './formats.ts';
import { isFound } from './pattern.ts';

type JsonObject = Readonly<Record<string, unknown>>;

const MAX_FAULTS = 100;
const NAMES = ['name', 'generateName'] as const;

interface Place {
  readonly value: unknown;
  /** The same place in the stored object; undefined where there is none, or none that can be told to be the same. */
  readonly old: unknown;
  readonly schema: Schema;
  readonly path: string;
}

export interface CustomSchemas {
  readonly schema: Schema;
  readonly metadata?: Schema | undefined;
}

/** Every structural fault of a custom object, fields in the order of the schema. */
export function customFaults(
  object: ApiObject,
  old: ApiObject | undefined,
  { schema, metadata }: CustomSchemas,
): Fault[] {
  const faults: Fault[] = [];
  if (metadata) {
    for (const name of NAMES) {
      const own = metadata.properties?.[name];
      if (own && object.metadata[name])
        check(
          { value: object.metadata[name], old: old?.metadata[name], schema: own, path: `metadata.${name}` },
          faults,
        );
    }
  }
  checkObject({ value: object, old, schema, path: '' }, object, faults);
  checkChoices({ value: object, old, schema, path: '' }, faults);
  return faults.slice(0, MAX_FAULTS);
}

/** The same of any value, such as a default. */
export function valueFaults(value: unknown, schema: Schema, path: string): Fault[] {
  const faults: Fault[] = [];
  check({ value, old: undefined, schema, path }, faults);
  return faults;
}

function check(place: Place, faults: Fault[]): void {
  const { value, old, schema, path } = place;
  if (faults.length >= MAX_FAULTS || (old !== undefined && sameJson(value, old))) return;
  if (value === null && schema.nullable === true) return;
  const wanted = wrongType(value, schema);
  if (wanted !== undefined) {
    const name = jsonType(value);
    faults.push(typeInvalid(path, name, `${path} in body must be of type ${wanted}: ${JSON.stringify(name)}`));
    return;
  }
  if (schema.enum && !schema.enum.some((each) => sameJson(each, value)))
    faults.push(notSupported(path, value, schema.enum));
  if (typeof value === 'string') checkText(place, value, faults);
  else if (typeof value === 'number') checkNumber(place, value, faults);
  else if (Array.isArray(value)) checkList(place, value, faults);
  else if (typeof value === 'object' && value !== null) checkObject(place, value as JsonObject, faults);
  checkChoices(place, faults);
}

function wrongType(value: unknown, schema: Schema): string | undefined {
  const type = jsonType(value);
  if (schema['x-kubernetes-int-or-string'])
    return type === 'integer' || type === 'string' ? undefined : 'integer or string';
  if (schema.type === undefined || schema.type === type) return undefined;
  return schema.type === 'number' && type === 'integer' ? undefined : schema.type;
}

function jsonType(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

function checkText({ schema, path }: Place, value: string, faults: Fault[]): void {
  const { minLength, maxLength, pattern, format } = schema;
  if (maxLength !== undefined && lengthOf(value) > maxLength) faults.push(tooLong(path, maxLength));
  if (minLength !== undefined && lengthOf(value) < minLength)
    faults.push(invalid(path, value, `${path} in body should be at least ${minLength} chars long`));
  if (pattern !== undefined) checkPattern(pattern, value, path, faults);
  const valid = format === undefined || !Object.hasOwn(customFormats, format) ? undefined : customFormats[format];
  if (valid && !valid(value))
    faults.push(
      typeInvalid(path, value, `${path} in body must be of type ${format}: ${JSON.stringify(value.slice(0, 256))}`),
    );
}

/** Characters, not code units. */
const lengthOf = (text: string): number => {
  let count = 0;
  for (const _ of text) count++;
  return count;
};

function checkPattern(pattern: string, value: string, path: string, faults: Fault[]): void {
  try {
    if (!isFound(pattern, value)) faults.push(invalid(path, value, `${path} in body should match '${pattern}'`));
  } catch (error) {
    faults.push(invalid(path, value, `${path} in body should match '${pattern}', but ${(error as Error).message}`));
  }
}

const RANGES: Readonly<Record<string, readonly [low: number, high: number]>> = {
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int64: [-(2 ** 63), 2 ** 63],
};

function checkNumber({ schema, path }: Place, value: number, faults: Fault[]): void {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, format = '' } = schema;
  const say = (what: string) => faults.push(invalid(path, value, `${path} in body should be ${what}`));
  if (minimum !== undefined && (exclusiveMinimum ? value <= minimum : value < minimum))
    say(`greater than ${exclusiveMinimum ? '' : 'or equal to '}${minimum}`);
  if (maximum !== undefined && (exclusiveMaximum ? value >= maximum : value > maximum))
    say(`less than ${exclusiveMaximum ? '' : 'or equal to '}${maximum}`);
  if (multipleOf !== undefined && !isMultiple(value, multipleOf)) say(`a multiple of ${multipleOf}`);
  if (schema.type === 'integer' && !Number.isSafeInteger(value))
    faults.push(invalid(path, value, `${path} in body is too large to be kept exactly: at most 2^53 - 1 either way`));
  const range = Object.hasOwn(RANGES, format) ? RANGES[format] : undefined;
  if (range && (value < range[0] || value > range[1]))
    faults.push(typeInvalid(path, value, `${path} in body must be of type ${format}: ${value}`));
}

/** As near as numbers of a computer can be to it: 0.3 is a multiple of 0.1. */
function isMultiple(value: number, of: number): boolean {
  const times = value / of;
  return Math.abs(times - Math.round(times)) <= 1e-9 * Math.max(1, Math.abs(times));
}

function checkList({ old, schema, path }: Place, list: readonly unknown[], faults: Fault[]): void {
  const { items, minItems, maxItems } = schema;
  if (maxItems !== undefined && list.length > maxItems) faults.push(tooMany(path, list.length, maxItems));
  if (minItems !== undefined && list.length < minItems)
    faults.push(invalid(path, list.length, `${path} in body should have at least ${minItems} items`));
  if (!items) return;
  const before = Array.isArray(old) ? standing(old, schema) : undefined;
  for (const [index, item] of list.entries()) {
    if (faults.length >= MAX_FAULTS) return;
    check({ value: item, old: before?.(item), schema: items, path: `${path}[${index}]` }, faults);
  }
}

/** Finds the item that an item of a keyed list or a set was before. Items of other lists have no identity. */
function standing(old: readonly unknown[], schema: Schema): ((item: unknown) => unknown) | undefined {
  const type = schema['x-kubernetes-list-type'];
  if (type !== 'map' && type !== 'set') return undefined;
  const keys = schema['x-kubernetes-list-map-keys'] ?? [];
  const identify = (item: unknown): string => {
    if (type === 'set' || typeof item !== 'object' || item === null) return JSON.stringify(item);
    return JSON.stringify(keys.map((key) => (item as JsonObject)[key] ?? schema.items?.properties?.[key]?.default));
  };
  const known = new Map(old.map((item) => [identify(item), item]));
  return (item) => known.get(identify(item));
}

function checkObject({ old, schema, path }: Place, object: JsonObject, faults: Fault[]): void {
  const { properties = {}, additionalProperties, minProperties, maxProperties } = schema;
  const before =
    typeof old === 'object' && old !== null && !Array.isArray(old) && schema['x-kubernetes-map-type'] !== 'atomic'
      ? (old as JsonObject)
      : undefined;
  const names = Object.keys(object);
  if (maxProperties !== undefined && names.length > maxProperties)
    faults.push(tooMany(path, names.length, maxProperties));
  if (minProperties !== undefined && names.length < minProperties)
    faults.push(invalid(path, names.length, `${path} in body should have at least ${minProperties} properties`));
  for (const name of schema.required ?? []) if (!Object.hasOwn(object, name)) faults.push(required(below(path, name)));
  if (schema['x-kubernetes-embedded-resource'] === true) checkEmbedded(object, path, faults);
  for (const name of names) {
    const own = Object.hasOwn(properties, name) ? properties[name] : undefined;
    const child = own ?? (typeof additionalProperties === 'object' ? additionalProperties : undefined);
    if (!child || isMachinery(name, schema, path)) continue;
    if (faults.length >= MAX_FAULTS) return;
    const at = below(path, name);
    check({ value: object[name], old: ownValue(before, name), schema: child, path: at }, faults);
  }
}

const ownValue = (object: JsonObject | undefined, name: string): unknown =>
  object && Object.hasOwn(object, name) ? object[name] : undefined;

/** Metadata of the object itself, and of one embedded, is checked where all metadata is. */
const isMachinery = (name: string, schema: Schema, path: string): boolean =>
  name === 'metadata' && (path === '' || schema['x-kubernetes-embedded-resource'] === true);

function checkEmbedded(object: JsonObject, path: string, faults: Fault[]): void {
  for (const name of ['apiVersion', 'kind'])
    if (typeof object[name] !== 'string' || object[name] === '')
      faults.push(required(below(path, name), 'must not be empty'));
  const labels = (object['metadata'] as JsonObject | undefined)?.['labels'];
  if (typeof labels === 'object' && labels !== null)
    faults.push(...labelsFaults(labels as Record<string, string>, below(path, 'metadata.labels')));
}

/** The conditions that schemas make of schemas. What a branch has to say is told only where all branches must hold. */
function checkChoices({ value, schema, path }: Place, faults: Fault[]): void {
  const { allOf, anyOf, oneOf, not } = schema;
  if (!allOf && !anyOf && !oneOf && !not) return;
  const complaints = (branch: Schema): Fault[] => {
    const found: Fault[] = [];
    check({ value, old: undefined, schema: branch, path }, found);
    return found;
  };
  const holds = (branch: Schema): boolean => complaints(branch).length === 0;
  const say = (what: string) =>
    faults.push(invalid(path, summary(value), `${path === '' ? '""' : path} in body ${what}`));
  for (const branch of allOf ?? []) faults.push(...complaints(branch));
  if (anyOf && !anyOf.some(holds)) say('must validate at least one schema (anyOf)');
  if (oneOf) {
    const count = oneOf.filter(holds).length;
    if (count !== 1)
      say(
        `must validate one and only one schema (oneOf). Found ${count === 0 ? 'none valid' : `${count} valid alternatives`}`,
      );
  }
  if (not && holds(not)) say('must not validate the schema (not)');
}

const summary = (value: unknown): unknown => (typeof value === 'object' ? jsonType(value) : value);

const below = (path: string, name: string): string => (path === '' ? name : `${path}.${name}`);
