/**
 * Fills in what a manifest leaves out. A `default` in the schema applies wherever the object that would hold it is present; what a constant cannot
 * say (a port's target, a pull policy by tag) is a rule of `derived-defaults.ts`, keyed by the type's name, so that a pod template gets it wherever it
 * stands. Called by every write verb after decoding and before validation. Idempotent. Works in place.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { derivedDefaults } from './derived-defaults.ts';

type JsonObject = Record<string, unknown>;

/** What defaulting has to do at a node: worked out once per schema, so that an object is only walked where something may be set. */
interface Plan {
  readonly constants: readonly (readonly [field: string, value: unknown])[];
  readonly derive: ((object: JsonObject) => void) | undefined;
  readonly fields: readonly (readonly [field: string, schema: Schema])[];
}

const plans = new WeakMap<Schema, Plan>();
const reaches = new WeakMap<Schema, boolean>();

export function applyDefaults<T>(object: T, schema: Schema): T {
  fill(object, schema);
  return object;
}

function fill(value: unknown, schema: Schema): void {
  if (typeof value !== 'object' || value === null) return;
  if (Array.isArray(value)) {
    if (schema.items && mayDefault(schema.items)) for (const item of value) fill(item, schema.items);
    return;
  }
  const object = value as JsonObject;
  if (schema.properties) {
    const plan = planOf(schema);
    for (const [field, constant] of plan.constants)
      if (object[field] === undefined) object[field] = structuredClone(constant);
    plan.derive?.(object);
    for (const [field, child] of plan.fields) if (object[field] !== undefined) fill(object[field], child);
  } else if (typeof schema.additionalProperties === 'object' && mayDefault(schema.additionalProperties)) {
    for (const entry of Object.values(object)) fill(entry, schema.additionalProperties);
  }
}

function planOf(schema: Schema): Plan {
  let plan = plans.get(schema);
  if (plan) return plan;
  const properties = Object.entries(schema.properties ?? {});
  plan = {
    constants: properties.flatMap(([field, child]) =>
      child.default === undefined ? [] : [[field, child.default] as const],
    ),
    derive: schema.title === undefined ? undefined : derivedDefaults.get(schema.title),
    fields: properties.filter(([, child]) => mayDefault(child)),
  };
  plans.set(schema, plan);
  return plan;
}

/** Whether anything at or below the schema can be defaulted; a cycle adds nothing of its own. */
function mayDefault(schema: Schema): boolean {
  const known = reaches.get(schema);
  if (known !== undefined) return known;
  const result = search(schema, new Set());
  reaches.set(schema, result);
  return result;
}

function search(schema: Schema, seen: Set<unknown>): boolean {
  const identity = schema.title ?? schema;
  if (seen.has(identity)) return false;
  seen.add(identity);
  if (schema.title !== undefined && derivedDefaults.has(schema.title)) return true;
  const properties = Object.values(schema.properties ?? {});
  if (properties.some((child) => child.default !== undefined)) return true;
  if (schema.items && search(schema.items, seen)) return true;
  if (typeof schema.additionalProperties === 'object' && search(schema.additionalProperties, seen)) return true;
  return properties.some((child) => search(child, seen));
}
