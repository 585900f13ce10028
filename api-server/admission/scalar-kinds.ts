/**
 * Tells the types whose JSON is a scalar or free-form apart from ordinary structs: Quantity, Time, MicroTime, IntOrString, FieldsV1, RawExtension, JSON.
 * Read off the schema by title or format, in one place; used by decoding, defaulting, structural validation and protobuf.
 */
import type { Schema } from '../../api-schemas/schema.ts';

export type SpecialType = 'quantity' | 'time' | 'microTime' | 'intOrString' | 'free';

const BY_TITLE: Readonly<Record<string, SpecialType>> = {
  Quantity: 'quantity',
  Time: 'time',
  MicroTime: 'microTime',
  IntOrString: 'intOrString',
  FieldsV1: 'free',
  RawExtension: 'free',
  JSON: 'free',
};

const SAYS_NOTHING = new Set(['title', 'description', 'default']);

const known = new WeakMap<Schema, SpecialType | 'ordinary'>();

/** The last part of a type's name: `Container` of `io.k8s.api.core.v1.Container`. */
export const shortTitle = (schema: Schema): string => schema.title?.slice(schema.title.lastIndexOf('.') + 1) ?? '';

function classify(schema: Schema): SpecialType | 'ordinary' {
  const wireType = schema['x-protobuf']?.[1].split(/[. ]/).at(-1) ?? '';
  const byTitle = schema.title?.startsWith('io.k8s.') ? BY_TITLE[shortTitle(schema)] : BY_TITLE[wireType];
  if (byTitle && !schema.properties && !schema.items && schema.additionalProperties === undefined) return byTitle;
  if (schema['x-kubernetes-int-or-string'] || schema.format === 'int-or-string') return 'intOrString';
  // A node that says nothing about its value takes any.
  if (Object.keys(schema).every((keyword) => SAYS_NOTHING.has(keyword) || keyword.startsWith('x-'))) return 'free';
  return 'ordinary';
}

/** Undefined for an ordinary struct, map, list or scalar. */
export function specialType(schema: Schema): SpecialType | undefined {
  let found = known.get(schema);
  if (!found) known.set(schema, (found = classify(schema)));
  return found === 'ordinary' ? undefined : found;
}
