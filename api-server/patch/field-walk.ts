/**
 * The two walks that turn objects into sets of fields: which fields an object has (`fieldsOf`), and which fields differ between two objects
 * (`compareFields`). How far down a field is split up is read off the schema: atomic maps and lists are one field. As structured-merge-diff's ToFieldSet
 * and Compare (KEP 555). Called by managed-fields.ts on every write and by apply.ts.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { checkDepth, equalJson, field, isArray, isEmptyObject, isObject, type JsonObject } from './json.ts';
import { below, EMPTY, fieldSchema, isEmpty, LEAF, node, recursiveDifference, type FieldSet } from './field-set.ts';
import { listShape, nameItems, type NamedItems } from './list-shape.ts';
import { fieldElement, type PathElement } from './path-element.ts';

export const isAtomicMap = (schema: Schema | undefined): boolean => schema?.['x-kubernetes-map-type'] === 'atomic';

const isNamedField = (schema: Schema | undefined, name: string): boolean =>
  schema?.properties !== undefined && Object.hasOwn(schema.properties, name);

/** Every field that the object names. Structs are not members, only what is in them; map keys and list items are, beside what is in them. */
export function fieldsOf(object: JsonObject, schema: Schema): FieldSet {
  return node(false, fieldsOfValue(object, schema, 0).children);
}

function fieldsOfValue(value: unknown, schema: Schema | undefined, depth: number): FieldSet {
  checkDepth(depth, 'the object');
  if (isObject(value)) return isAtomicMap(schema) ? LEAF : fieldsOfMap(value, schema, depth);
  if (isArray(value)) return fieldsOfList(value, schema, depth);
  return LEAF;
}

function fieldsOfMap(map: JsonObject, schema: Schema | undefined, depth: number): FieldSet {
  const children = new Map<PathElement, FieldSet>();
  for (const name of Object.keys(map)) {
    const value = map[name];
    const fields = fieldsOfValue(value, fieldSchema(schema, name), depth + 1);
    const member = fields.member || !isNamedField(schema, name) || (isObject(value) && isEmptyObject(value));
    const child = node(member, fields.children);
    if (!isEmpty(child)) children.set(fieldElement(name), child);
  }
  return node(false, children);
}

function fieldsOfList(list: readonly unknown[], schema: Schema | undefined, depth: number): FieldSet {
  const shape = listShape(schema);
  if (shape.relation === 'atomic') return LEAF;
  const named = nameItems(shape, list);
  if ('fault' in named) return LEAF;
  const children = new Map<PathElement, FieldSet>();
  for (const { element, items } of named.values()) {
    // Of duplicates (only objects stored long ago can have them) nothing but the name is owned.
    children.set(
      element,
      items.length > 1 ? LEAF : node(true, fieldsOfValue(items[0], shape.items, depth + 1).children),
    );
  }
  return node(false, children);
}

export interface FieldChanges {
  /** Added, or there before with another value. */
  readonly changed: FieldSet;
  readonly removed: FieldSet;
}

const NO_CHANGES: FieldChanges = { changed: EMPTY, removed: EMPTY };
const CHANGED: FieldChanges = { changed: LEAF, removed: EMPTY };
const REMOVED: FieldChanges = { changed: EMPTY, removed: LEAF };

/** The changes but for those in the fields of `ignored`, and below them. */
export const excluding = ({ changed, removed }: FieldChanges, ignored: FieldSet): FieldChanges => ({
  changed: recursiveDifference(changed, ignored),
  removed: recursiveDifference(removed, ignored),
});

/** What a write changed; `before` is `{}` for a create. */
export function compareFields(before: JsonObject, after: JsonObject, schema: Schema): FieldChanges {
  return compare(before, after, schema, 0);
}

/** Undefined stands for "not there", null for a null in the object. */
function compare(before: unknown, after: unknown, schema: Schema | undefined, depth: number): FieldChanges {
  if (before === after) return NO_CHANGES;
  checkDepth(depth, 'the object');
  if (isObject(before) ? after == null || isObject(after) : before == null && isObject(after)) {
    const [left, right] = [asMap(before), asMap(after)];
    if (isAtomicMap(schema) || (isEmptyObject(left) && isEmptyObject(right))) return compareLeaf(before, after);
    return withSelf(before, after, compareMaps({ left, right, before, after, schema, depth }));
  }
  if (isArray(before) ? after == null || isArray(after) : before == null && isArray(after)) {
    return compareLists(before, after, schema, depth);
  }
  if (
    before === undefined ||
    after === undefined ||
    !(isObject(before) || isArray(before) || isObject(after) || isArray(after))
  ) {
    return compareLeaf(before, after);
  }
  // A field that changed its kind: the old content goes, the new one comes, and the field itself has changed.
  const gone = compare(before, undefined, schema, depth).removed;
  const come = compare(undefined, after, schema, depth).changed;
  return { changed: node(true, come.children), removed: node(false, gone.children) };
}

const asMap = (value: unknown): JsonObject => (isObject(value) ? value : {});

function compareLeaf(before: unknown, after: unknown): FieldChanges {
  if (before === undefined) return CHANGED;
  if (after === undefined) return REMOVED;
  return equalJson(before, after) ? NO_CHANGES : CHANGED;
}

/** A map or list that comes or goes as a whole is itself among the fields that come or go. */
function withSelf(before: unknown, after: unknown, changes: FieldChanges): FieldChanges {
  if (before === undefined) return { changed: node(true, changes.changed.children), removed: changes.removed };
  if (after === undefined) return { changed: changes.changed, removed: node(true, changes.removed.children) };
  return changes;
}

/** Gathers the changes of children into those of their parent; makes no maps where nothing changed. */
class Gathered {
  #changed: Map<PathElement, FieldSet> | undefined;
  #removed: Map<PathElement, FieldSet> | undefined;

  add(element: PathElement, changes: FieldChanges): void {
    if (!isEmpty(changes.changed)) (this.#changed ??= new Map()).set(element, changes.changed);
    if (!isEmpty(changes.removed)) (this.#removed ??= new Map()).set(element, changes.removed);
  }

  changes(): FieldChanges {
    if (this.#changed === undefined && this.#removed === undefined) return NO_CHANGES;
    return {
      changed: this.#changed ? node(false, this.#changed) : EMPTY,
      removed: this.#removed ? node(false, this.#removed) : EMPTY,
    };
  }
}

interface MapPair {
  readonly left: JsonObject;
  readonly right: JsonObject;
  readonly before: unknown;
  readonly after: unknown;
  readonly schema: Schema | undefined;
  readonly depth: number;
}

function compareMaps({ left, right, before, after, schema, depth }: MapPair): FieldChanges {
  const gathered = new Gathered();
  const visit = (name: string, was: unknown, is: unknown) => {
    if (was === is) return;
    if (was === undefined && before !== undefined) was = valueWhenAbsent(schema, name);
    if (is === undefined && after !== undefined) is = valueWhenAbsent(schema, name);
    gathered.add(fieldElement(name), compare(was, is, fieldSchema(schema, name), depth + 1));
  };
  for (const name of Object.keys(right)) visit(name, field(left, name), right[name]);
  for (const name of Object.keys(left)) if (!Object.hasOwn(right, name)) visit(name, left[name], undefined);
  return gathered.changes();
}

const EMPTY_STRUCT: JsonObject = {};

/** Structs that Kubernetes' own types hold by value, so that they are always there, be it empty; the API schemas do not say which. */
const HELD_BY_VALUE = new Set(['metadata', 'spec', 'status', 'template', 'strategy', 'updateStrategy']);

/**
 * What Kubernetes has in the place of a field that the JSON leaves out: an empty struct or list where its types have no way to be without. So nobody comes
 * to own `spec` itself by setting a field in it, while `rollingUpdate` (a pointer there) is owned by whoever brings it.
 */
function valueWhenAbsent(schema: Schema | undefined, name: string): unknown {
  const child = schema?.properties && field(schema.properties, name);
  // Only the types of Kubernetes' own API have names; in custom resources everything can be absent.
  if (child === undefined || schema?.title === undefined) return undefined;
  const required = schema.required?.includes(name) ?? false;
  if (child.type === 'array') return required && listShape(child).relation !== 'atomic' ? null : undefined;
  const isStruct = child.properties !== undefined && !isAtomicMap(child);
  return isStruct && (required || HELD_BY_VALUE.has(name)) ? EMPTY_STRUCT : undefined;
}

const NO_ITEMS: ReadonlyMap<PathElement, NamedItems> = new Map();

function compareLists(before: unknown, after: unknown, schema: Schema | undefined, depth: number): FieldChanges {
  const shape = listShape(schema);
  const [left, right] = [isArray(before) ? before : [], isArray(after) ? after : []];
  if (shape.relation === 'atomic' || (left.length === 0 && right.length === 0)) return compareLeaf(before, after);
  const [was, is] = [nameItems(shape, left), nameItems(shape, right)];
  if ('fault' in was || 'fault' in is) return compareLeaf(before, after);
  const gathered = new Gathered();
  const visit = (element: PathElement, old: NamedItems | undefined, present: NamedItems | undefined) => {
    const single = (old?.items.length ?? 1) === 1 && (present?.items.length ?? 1) === 1;
    const changes = single
      ? compare(old?.items[0], present?.items[0], shape.items, depth + 1)
      : compareLeaf(old?.items, present?.items);
    gathered.add(element, changes);
  };
  for (const [element, items] of is) visit(element, was.get(element), items);
  for (const [element, items] of was.size > 0 ? was : NO_ITEMS) if (!is.has(element)) visit(element, items, undefined);
  return withSelf(before, after, gathered.changes());
}

/** What stands in the place of a container that is emptied, but is not itself of the fields that go. */
export type Emptied = (container: JsonObject | readonly unknown[]) => unknown;

/** A field that is there, as every field with a null is. */
export const asNull: Emptied = () => null;
/** As a user would write it. */
export const asEmpty: Emptied = (container) => (isArray(container) ? [] : {});

/** The value without the fields of a set: containers of it go whole, and so do list items of which nothing is left, for they have lost their names. Undefined where nothing is left. */
export function removeFields(
  value: unknown,
  set: FieldSet,
  schema: Schema | undefined,
  emptied: Emptied = asEmpty,
): unknown {
  if (isEmpty(set)) return value;
  if (isObject(value)) return isAtomicMap(schema) ? value : removeFromMap(value, set, schema, emptied);
  if (isArray(value)) return removeFromList(value, set, schema, emptied);
  return value;
}

function removeFromMap(map: JsonObject, set: FieldSet, schema: Schema | undefined, emptied: Emptied): unknown {
  const kept: [string, unknown][] = [];
  for (const [name, value] of Object.entries(map)) {
    const doomed = below(set, fieldElement(name));
    if (doomed.member) continue;
    const rest = removeFields(value, doomed, fieldSchema(schema, name), emptied);
    kept.push([name, rest === undefined ? emptied(value as JsonObject) : rest]);
  }
  return kept.length > 0 ? Object.fromEntries(kept) : undefined;
}

function removeFromList(
  list: readonly unknown[],
  set: FieldSet,
  schema: Schema | undefined,
  emptied: Emptied,
): unknown {
  const shape = listShape(schema);
  if (shape.relation === 'atomic') return list;
  const named = nameItems(shape, list);
  if ('fault' in named) return list;
  const kept: unknown[] = [];
  for (const { element, items } of named.values()) {
    const doomed = below(set, element);
    if (doomed.member) continue;
    for (const item of items) {
      const rest = removeFields(item, doomed, shape.items, emptied);
      if (rest !== undefined) kept.push(rest);
    }
  }
  return kept.length > 0 ? kept : undefined;
}
