/**
 * Walks an object along its schema, once, for what is not structure: lists that must not repeat themselves (`set`, `map`), CEL rules, and the rules
 * in code of `rules/`, keyed by type. On update it walks the old object alongside. Called by `validate.ts`. Where nothing below a node can be checked it does not go.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { celFaults, CelValues, prepareRules } from './cel-rules.ts';
import { duplicate, isBare, type Fault } from './fault.ts';
import { rules } from './rules/catalogue.ts';
import { sameJson, type Rule } from './rules/rule.ts';
import { specialType } from './scalar-kinds.ts';

type JsonObject = Record<string, unknown>;

interface Plan {
  readonly rule: Rule | undefined;
  readonly cel: boolean;
  readonly unique: 'set' | readonly string[] | undefined;
  readonly fields: readonly (readonly [field: string, schema: Schema])[];
}

/** Lists whose keys Kubernetes lets repeat: one container may name the same port twice, under two names; a type may have one rule twice, with two messages. */
const MAY_REPEAT = new Set([
  'io.k8s.api.core.v1.ContainerPort',
  'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ValidationRule',
]);
const MAX_FAULTS = 100;

const plans = new WeakMap<Schema, Plan>();
const reaches = new WeakMap<Schema, boolean>();

export interface ConstraintOptions {
  /** What was stored, on update. */
  readonly old?: unknown;
  /** Top-level fields to pass over, such as `metadata`, which has rules of its own. */
  readonly skip?: ReadonlySet<string>;
  /** The kind is custom: its rules are a user's. */
  readonly custom?: boolean;
  /** What is known to be wrong already: it is not told again. */
  readonly known: readonly Fault[];
}

/** What was found so far; the rules in code and the rules in CEL apart, because the former are the more exact. */
interface Findings {
  readonly exact: Fault[];
  readonly general: Fault[];
  readonly sound: boolean;
  readonly values: CelValues;
}

export function validateConstraints(
  object: unknown,
  schema: Schema,
  { old, skip, custom = false, known }: ConstraintOptions,
): Fault[] {
  if (!mayCheck(schema)) return [];
  const findings: Findings = { exact: [], general: [], sound: known.length === 0, values: new CelValues(custom) };
  walk({ value: object, old, schema, path: '' }, findings, skip);
  if (findings.exact.length === 0 && findings.general.length === 0) return [];
  const exact = findings.exact.filter(
    (found) => !known.some((fault) => fault.field === found.field && !saysMore(found, fault)),
  );
  // A general complaint about what an exact one points into says nothing new.
  const told = [...known, ...exact];
  const general = findings.general.filter(
    (found) => !told.some((fault) => isAtOrBelow(fault.field, found.field) && !saysMore(found, fault)),
  );
  return [...exact, ...general];
}

/** That something is required, and why. */
const saysMore = (found: Fault, known: Fault): boolean =>
  found.reason === 'FieldValueRequired' && !isBare(found) && found.field === known.field && isBare(known);

const isAtOrBelow = (field: string, above: string): boolean =>
  field === above || (field.startsWith(above) && (field[above.length] === '.' || field[above.length] === '['));

interface Place {
  readonly value: unknown;
  readonly old: unknown;
  readonly schema: Schema;
  readonly path: string;
}

function walk(place: Place, findings: Findings, skip?: ReadonlySet<string>): void {
  if (
    place.value === undefined ||
    place.value === null ||
    findings.exact.length + findings.general.length >= MAX_FAULTS
  )
    return;
  const plan = planOf(place.schema);
  if (plan.cel && findings.values.budget.left >= 0)
    findings.general.push(
      ...celFaults({
        ...place,
        unchanged: isUnchanged(place, findings),
        sound: findings.sound,
        values: findings.values,
      }),
    );
  if (Array.isArray(place.value)) walkList(place, place.value, plan, findings);
  else if (typeof place.value === 'object') walkObject(place, place.value as JsonObject, plan, findings, skip);
}

/** What a custom object has always been is not judged again (KEP 4008, as in `custom-resources/structure.ts`). */
const isUnchanged = ({ value, old }: Place, { values }: Findings): boolean =>
  values.ofUser && old !== undefined && sameJson(value, old);

function walkObject(
  { old, schema, path }: Place,
  object: JsonObject,
  plan: Plan,
  findings: Findings,
  skip?: ReadonlySet<string>,
): void {
  const before = typeof old === 'object' && old !== null && !Array.isArray(old) ? (old as JsonObject) : undefined;
  plan.rule?.({ value: object, old: before, path, report: (...found) => void findings.exact.push(...found) });
  for (const [field, child] of plan.fields) {
    if (object[field] === undefined || skip?.has(field)) continue;
    walk(
      { value: object[field], old: before?.[field], schema: child, path: path === '' ? field : `${path}.${field}` },
      findings,
    );
  }
  const { additionalProperties } = schema;
  if (typeof additionalProperties !== 'object' || !mayCheck(additionalProperties)) return;
  for (const [key, value] of Object.entries(object))
    walk({ value, old: before?.[key], schema: additionalProperties, path: `${path}[${key}]` }, findings);
}

function walkList({ old, schema, path }: Place, list: readonly unknown[], plan: Plan, findings: Findings): void {
  const { items } = schema;
  const identify = plan.unique === undefined ? undefined : identifier(plan.unique, items);
  if (identify) reportRepeats(list, identify, path, findings.exact);
  if (!items || !mayCheck(items)) return;
  const before = new Map<string, unknown>();
  if (Array.isArray(old) && identify) for (const each of old) before.set(identify(each).key, each);
  for (const [index, value] of list.entries())
    walk(
      { value, old: identify && before.get(identify(value).key), schema: items, path: `${path}[${index}]` },
      findings,
    );
}

type Identify = (item: unknown) => { key: string; shown: unknown };

function identifier(unique: 'set' | readonly string[], items: Schema | undefined): Identify {
  if (unique === 'set') return (item) => ({ key: JSON.stringify(item), shown: item });
  return (item) => {
    const object = typeof item === 'object' && item !== null ? (item as JsonObject) : {};
    const keys = unique.map((name) => [name, object[name] ?? items?.properties?.[name]?.default] as const);
    return { key: JSON.stringify(keys), shown: Object.fromEntries(keys.filter(([, value]) => value !== undefined)) };
  };
}

function reportRepeats(list: readonly unknown[], identify: Identify, path: string, faults: Fault[]): void {
  if (list.length < 2) return;
  const seen = new Set<string>();
  for (const [index, item] of list.entries()) {
    const { key, shown } = identify(item);
    if (seen.has(key)) faults.push(duplicate(`${path}[${index}]`, shown));
    seen.add(key);
  }
}

/** Compiles the CEL rules of a type and of all below it. */
export function prepareConstraints(schema: Schema, seen: Set<unknown> = new Set()): void {
  const identity = schema.title ?? schema;
  if (seen.has(identity)) return;
  seen.add(identity);
  prepareRules(schema);
  if (!mayCheck(schema)) return;
  const { items, additionalProperties, properties } = schema;
  if (items) prepareConstraints(items, seen);
  if (typeof additionalProperties === 'object') prepareConstraints(additionalProperties, seen);
  for (const child of Object.values(properties ?? {})) prepareConstraints(child, seen);
}

function planOf(schema: Schema): Plan {
  let plan = plans.get(schema);
  if (plan) return plan;
  plan = {
    rule: schema.title === undefined ? undefined : rules.get(schema.title),
    cel: schema['x-kubernetes-validations'] !== undefined,
    unique: uniqueness(schema),
    fields: Object.entries(schema.properties ?? {}).filter(([, child]) => mayCheck(child)),
  };
  plans.set(schema, plan);
  return plan;
}

function uniqueness(schema: Schema): Plan['unique'] {
  if (MAY_REPEAT.has(schema.items?.title ?? '')) return undefined;
  if (schema['x-kubernetes-list-type'] === 'set') return 'set';
  return schema['x-kubernetes-list-type'] === 'map' ? schema['x-kubernetes-list-map-keys'] : undefined;
}

/** Whether anything at or below the schema is checked here. */
function mayCheck(schema: Schema): boolean {
  const known = reaches.get(schema);
  if (known !== undefined) return known;
  const found = search(schema, new Set());
  reaches.set(schema, found);
  return found;
}

function search(schema: Schema, seen: Set<unknown>): boolean {
  const identity = schema.title ?? schema;
  if (seen.has(identity)) return false;
  seen.add(identity);
  if (specialType(schema) && !schema['x-kubernetes-validations']) return false;
  if (
    schema['x-kubernetes-validations'] ||
    uniqueness(schema) ||
    (schema.title !== undefined && rules.has(schema.title))
  )
    return true;
  if (schema.items && search(schema.items, seen)) return true;
  if (typeof schema.additionalProperties === 'object' && search(schema.additionalProperties, seen)) return true;
  return Object.values(schema.properties ?? {}).some((child) => search(child, seen));
}
