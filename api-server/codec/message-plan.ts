/**
 * How a type looks as a protobuf message, worked out once per schema from its field numbers: what `message-decoder.ts` and `message-encoder.ts` both follow.
 */
import type { ResourceDefinition, Schema } from '../../api-schemas/schema.ts';
import { shortTitle, specialType, type SpecialType } from '../admission/scalar-kinds.ts';
import { PLAIN_SCALARS, POINTER_STRINGS } from './presence.ts';

/** The JSON and wire form of one value. */
export type ValueType =
  | { readonly is: 'string' | 'bytes' | 'int' | 'bool' | 'double' }
  | { readonly is: SpecialType }
  /** Resolved late: a type may contain itself. */
  | { readonly is: 'message'; readonly plan: () => MessagePlan }
  /** A list that is a message of its own, its items in field 1 (`ExtraValue`, `Verbs`). */
  | { readonly is: 'wrapped'; readonly item: ValueType }
  /** What JSON spells in two ways (a schema, or true) and the wire in two fields. */
  | { readonly is: 'choice'; readonly branches: readonly Branch[] };

/** One way to spell a choice: which JSON type takes it, and its field on the wire. */
export interface Branch {
  readonly json: 'object' | 'array' | 'boolean';
  readonly number: number;
  /** Of the value itself, or of each item. */
  readonly value: ValueType;
}

export interface FieldPlan {
  readonly name: string;
  readonly number: number;
  /** The number of the embedded message that the field stands in, although JSON has it here (`Volume.emptyDir` in VolumeSource). */
  readonly within: number | undefined;
  readonly shape: 'one' | 'list' | 'map';
  readonly value: ValueType;
  /** A zero (or an empty text) on the wire is a value. */
  readonly keepZero: boolean;
}

export interface MessagePlan {
  /** Ascending by number on the wire. */
  readonly fields: readonly FieldPlan[];
  readonly byNumber: ReadonlyMap<number, FieldPlan>;
  /** The embedded messages whose fields stand in this one, by their number. */
  readonly within: ReadonlyMap<number, ReadonlyMap<number, FieldPlan>>;
}

/** The type has no protobuf form: a custom resource. */
export class NoWireForm extends Error {
  override readonly name = 'NoWireForm';
}

const plans = new WeakMap<Schema, MessagePlan>();

export function messagePlan(schema: Schema): MessagePlan {
  let plan = plans.get(schema);
  if (!plan) plans.set(schema, (plan = build(schema)));
  return plan;
}

function build(schema: Schema): MessagePlan {
  if (!schema['x-protobuf-message']) throw new NoWireForm(`${schema.title ?? 'the type'} has no protobuf form`);
  const fields = Object.entries(schema.properties ?? {}).flatMap(
    ([name, child]) => fieldPlan(name, child, schema) ?? [],
  );
  return assemble(fields);
}

function assemble(fields: FieldPlan[]): MessagePlan {
  const within = new Map<number, Map<number, FieldPlan>>();
  const byNumber = new Map<number, FieldPlan>();
  for (const field of fields) {
    if (field.within === undefined) byNumber.set(field.number, field);
    else within.set(field.within, (within.get(field.within) ?? new Map<number, FieldPlan>()).set(field.number, field));
  }
  fields.sort((a, b) => (a.within ?? a.number) - (b.within ?? b.number) || a.number - b.number);
  return { fields, byNumber, within };
}

function fieldPlan(name: string, child: Schema, parent: Schema): FieldPlan | undefined {
  const wire = child['x-protobuf'];
  // `apiVersion` and `kind` travel in the envelope.
  if (!wire) return undefined;
  const [number, type] = wire;
  const within = child['x-protobuf-within']?.[0];
  const shape = type.startsWith('map<') ? 'map' : type.startsWith('repeated ') ? 'list' : 'one';
  const inner =
    shape === 'map' ? (child.additionalProperties as Schema) : shape === 'list' ? (child.items as Schema) : child;
  return { name, number, within, shape, value: valueType(inner, type), keepZero: keepsZero(name, inner, parent) };
}

function keepsZero(name: string, schema: Schema, parent: Schema): boolean {
  if (parent.required?.includes(name)) return true;
  const type = shortTitle(parent);
  if (schema.type === 'string') return POINTER_STRINGS[type]?.includes(name) ?? false;
  return !(PLAIN_SCALARS[type]?.includes(name) ?? false);
}

function valueType(schema: Schema, wire: string): ValueType {
  const special = specialType(schema);
  if (special) return { is: special };
  switch (schema.type) {
    case 'string':
      return { is: schema.format === 'byte' || /\bbytes\b/.test(wire) ? 'bytes' : 'string' };
    case 'integer':
      return { is: 'int' };
    case 'number':
      return { is: 'double' };
    case 'boolean':
      return { is: 'bool' };
    case 'array':
      return { is: 'wrapped', item: valueType(schema.items ?? {}, '') };
    default:
      if (schema.anyOf && schema['x-protobuf-other']) return { is: 'choice', branches: branchesOf(schema) };
      if (schema.properties) return { is: 'message', plan: () => messagePlan(schema) };
      return { is: 'message', plan: () => noPlan(schema) };
  }
}

function branchesOf({ anyOf = [], 'x-protobuf-other': wires = {} }: Schema): Branch[] {
  const numberOf = (json: Branch['json']): number => {
    const isMeant = (type: string): boolean =>
      json === 'array' ? type.startsWith('repeated ') : (type === 'bool') === (json === 'boolean');
    return Object.values(wires).find(([, type]) => isMeant(type))?.[0] ?? 0;
  };
  return anyOf.flatMap((branch): Branch[] => {
    switch (branch.type) {
      case 'object':
        return [
          { json: 'object', number: numberOf('object'), value: { is: 'message', plan: () => messagePlan(branch) } },
        ];
      case 'array':
        return [{ json: 'array', number: numberOf('array'), value: valueType(branch.items ?? {}, '') }];
      case 'boolean':
        return [{ json: 'boolean', number: numberOf('boolean'), value: { is: 'bool' } }];
      default:
        return [];
    }
  });
}

function noPlan(schema: Schema): MessagePlan {
  // A message without fields, such as an empty options struct.
  if (schema['x-protobuf-message'] && !('anyOf' in schema))
    return { fields: [], byNumber: new Map(), within: new Map() };
  throw new NoWireForm(`${schema.title ?? 'the type'} has no protobuf form`);
}

const metadataField = (metadata: Schema): FieldPlan => ({
  name: 'metadata',
  number: 1,
  within: undefined,
  shape: 'one',
  value: valueType(metadata, ''),
  keepZero: true,
});

const itemsField = (value: ValueType): FieldPlan => ({
  name: 'items',
  number: 2,
  within: undefined,
  shape: 'list',
  value,
  keepZero: true,
});

const listPlans = new WeakMap<Schema, MessagePlan>();

/** Every list is the same message: ListMeta in field 1, the items in field 2. */
export function listPlan(definition: ResourceDefinition, listMeta: Schema): MessagePlan {
  let plan = listPlans.get(definition.schema);
  if (!plan) {
    plan = assemble([metadataField(listMeta), itemsField(valueType(definition.schema, ''))]);
    listPlans.set(definition.schema, plan);
  }
  return plan;
}

/** An object's metadata without the object. */
export function metadataAlonePlan(objectMeta: Schema): MessagePlan {
  let plan = alonePlans.get(objectMeta);
  if (!plan) alonePlans.set(objectMeta, (plan = assemble([metadataField(objectMeta)])));
  return plan;
}

const alonePlans = new WeakMap<Schema, MessagePlan>();

export const metadataListPlan = (objectMeta: Schema, listMeta: Schema): MessagePlan =>
  assemble([metadataField(listMeta), itemsField({ is: 'message', plan: () => metadataAlonePlan(objectMeta) })]);
