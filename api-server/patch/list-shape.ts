/**
 * What the schema says about a list: replaced as a whole (atomic), a set of scalars, or a map keyed by fields of its items; and how an item of such a
 * list is named. From KEP 555 and https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy. Read by every typed walk of this room.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { field, isArray, isObject, kindOf } from './json.ts';
import { keyElement, valueElement, type PathElement } from './path-element.ts';

export interface ListShape {
  readonly relation: 'atomic' | 'set' | 'map';
  /** Sorted, as they stand in a path element; empty unless `relation` is `map`. */
  readonly keys: readonly { readonly name: string; readonly default: unknown }[];
  readonly items: Schema | undefined;
}

const ATOMIC: ListShape = { relation: 'atomic', keys: [], items: undefined };
const known = new WeakMap<Schema, ListShape>();

export function listShape(schema: Schema | undefined): ListShape {
  if (schema === undefined) return ATOMIC;
  let shape = known.get(schema);
  if (shape === undefined) known.set(schema, (shape = readShape(schema)));
  return shape;
}

function readShape(schema: Schema): ListShape {
  const items = schema.items;
  const relation = relationOf(schema);
  const keys = relation === 'map' ? keyNames(schema) : [];
  return {
    relation,
    items,
    keys: keys
      .toSorted()
      .map((name) => ({ name, default: items?.properties && field(items.properties, name)?.default })),
  };
}

const keyNames = (schema: Schema): readonly string[] =>
  schema['x-kubernetes-list-map-keys'] ?? [schema['x-kubernetes-patch-merge-key'] ?? 'name'];

/** Lists that name no type of their own but merge under strategic merge patch are keyed the same way; all other lists are atomic. */
function relationOf(schema: Schema): ListShape['relation'] {
  const declared = schema['x-kubernetes-list-type'];
  if (declared !== undefined) return declared;
  if (!schema['x-kubernetes-patch-strategy']?.split(',').includes('merge')) return 'atomic';
  return schema['x-kubernetes-patch-merge-key'] === undefined ? 'set' : 'map';
}

/** How an item of a set or map list is named, or why it cannot be. Keys that the item leaves out take their schema's default (`protocol: TCP`). */
export function itemElement(
  shape: ListShape,
  item: unknown,
): { readonly element: PathElement } | { readonly fault: string } {
  if (shape.relation === 'set') {
    if (isArray(item) || isObject(item)) return { fault: `an item of a set must be a scalar, got ${kindOf(item)}` };
    return { element: valueElement(item) };
  }
  if (!isObject(item)) return { fault: `an item of a keyed list must be an object, got ${kindOf(item)}` };
  const entries: [string, unknown][] = [];
  for (const key of shape.keys) {
    const value = field(item, key.name) ?? key.default;
    if (value === undefined)
      return {
        fault: `associative list with keys has an element that omits key field "${key.name}" (and doesn't have default value)`,
      };
    if (isArray(value) || isObject(value))
      return { fault: `key field "${key.name}" must be a scalar, got ${kindOf(value)}` };
    entries.push([key.name, value]);
  }
  return { element: keyElement(entries) };
}

/** One name of a list with the items that bear it: one, or more where a stored list has duplicates. */
export interface NamedItems {
  readonly element: PathElement;
  readonly items: readonly unknown[];
}

/** The items of a list by name in list order, or the first fault found; then callers take the list as atomic, or refuse it. */
export function nameItems(
  shape: ListShape,
  list: readonly unknown[],
): ReadonlyMap<PathElement, NamedItems> | { readonly fault: string } {
  const named = new Map<PathElement, { element: PathElement; items: unknown[] }>();
  for (const [index, item] of list.entries()) {
    const name = itemElement(shape, item);
    if ('fault' in name) return { fault: `element ${index}: ${name.fault}` };
    const found = named.get(name.element);
    if (found) found.items.push(item);
    else named.set(name.element, { element: name.element, items: [item] });
  }
  return named;
}
