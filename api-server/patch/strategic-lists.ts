/**
 * How strategic merge patch merges lists: items of objects by their merge key, scalars as a set; and in which order the result stands. Called by
 * strategic-merge.ts for lists whose schema says `x-kubernetes-patch-strategy: merge`. The order follows
 * https://github.com/kubernetes/design-proposals-archive/blob/main/cli/preserve-order-in-strategic-merge-patch.md.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { field, isArray, isObject, kindOf, type JsonObject } from './json.ts';
import { asFresh, fault, mergeObject, PATCH, type PatchPath } from './strategic-merge.ts';

export interface ListPatch {
  /** Undefined for lists of scalars. */
  readonly mergeKey: string | undefined;
  readonly items: Schema | undefined;
  readonly path: PatchPath;
  /** `$setElementOrder`, where the patch has one: the order that its items shall have. */
  readonly order: readonly unknown[] | undefined;
  /** The list as it was: the order of the items that the patch does not name. */
  readonly live: readonly unknown[];
}

/** What identifies an item: the value of its merge key, or the scalar itself. */
type Key = string | number | boolean | null;

export function mergeList(current: readonly unknown[], patch: readonly unknown[], list: ListPatch): readonly unknown[] {
  if (current.length === 0 && patch.length === 0) return current;
  if (![...current, ...patch].some(isObject)) return mergeScalars(current, patch, list);
  if (list.mergeKey === undefined) throw fault(list.path, 'a list of objects without a merge key cannot be merged');
  return mergeObjects(current, patch, list.mergeKey, list);
}

function mergeScalars(current: readonly unknown[], patch: readonly unknown[], list: ListPatch): readonly unknown[] {
  const merged = [...new Set([...current, ...patch].map((item, index) => scalarKey(item, [...list.path, index])))];
  if (list.order) checkOrder(patch, list.order, list);
  return orderList(merged, { ...list, order: list.order ?? patch });
}

function mergeObjects(
  current: readonly unknown[],
  patch: readonly unknown[],
  mergeKey: string,
  list: ListPatch,
): readonly unknown[] {
  const keyAt = (item: unknown, index: number): Key => objectKey(item, mergeKey, [...list.path, index]);
  const additions: JsonObject[] = [];
  const deleted = new Set<Key>();
  let replace = false;
  patch.forEach((item, index) => {
    if (!isObject(item))
      throw fault(
        [...list.path, index],
        `list element types are not identical: expected an object, got ${kindOf(item)}`,
      );
    const directive = field(item, PATCH);
    if (directive === undefined) additions.push(item);
    else if (directive === 'delete') deleted.add(keyAt(item, index));
    else if (directive === 'replace') replace = true;
    else
      throw fault(
        [...list.path, index, PATCH],
        directive === 'merge' ? 'merging lists cannot yet be specified in the patch' : 'must be "delete" or "replace"',
      );
  });
  if (replace) return additions.map((item, index) => asFresh(item, [...list.path, index]));
  additions.forEach(keyAt);
  if (list.order) checkOrder(additions, list.order, list);
  const merged = current.filter((item, index) => !deleted.has(keyAt(item, index)));
  const places = new Map<Key, number>();
  // The first of several items with one key is the one that is merged into.
  merged.forEach((item, index) => places.has(keyAt(item, index)) || places.set(keyAt(item, index), index));
  for (const [index, item] of additions.entries()) {
    const here = [...list.path, index];
    const place = places.get(keyAt(item, index));
    if (place === undefined) places.set(keyAt(item, index), merged.push(asFresh(item, here)) - 1);
    else merged[place] = mergeObject(merged[place] as JsonObject, item, list.items, here);
  }
  return orderList(merged, { ...list, order: list.order ?? additions });
}

export function deleteFromList(
  list: readonly unknown[],
  toDelete: readonly unknown[],
  path: PatchPath,
): readonly unknown[] {
  const doomed = new Set(toDelete.map((item, index) => scalarKey(item, [...path, index])));
  return list.filter((item) => isObject(item) || isArray(item) || !doomed.has(item as Key));
}

/**
 * The list in order: items that `order` names stand as it has them, the others as they stood, and where both have a place in the live list an item that
 * was in front stays in front.
 */
export function orderList(merged: readonly unknown[], list: ListPatch): readonly unknown[] {
  const key = (item: unknown, index: number): Key =>
    isObject(item) && list.mergeKey !== undefined
      ? objectKey(item, list.mergeKey, [...list.path, index])
      : scalarKey(item, [...list.path, index]);
  const wanted = places((list.order ?? []).map(key));
  const live = places(list.live.map(key));
  const rank = (ranks: ReadonlyMap<Key, number>) => (left: Keyed, right: Keyed) =>
    (ranks.get(left.key) ?? Infinity) - (ranks.get(right.key) ?? Infinity) || 0;
  const keyed = merged.map((item, index) => ({ item, key: key(item, index) }));
  const named = keyed.filter((entry) => wanted.has(entry.key)).sort(rank(wanted));
  const others = keyed.filter((entry) => !wanted.has(entry.key)).sort(rank(live));
  const ordered: unknown[] = [];
  let next = 0;
  for (const entry of named) {
    const place = live.get(entry.key);
    for (let other = others[next]; other !== undefined && isBefore(live.get(other.key), place); other = others[++next])
      ordered.push(other.item);
    ordered.push(entry.item);
  }
  return [...ordered, ...others.slice(next).map((entry) => entry.item)];
}

interface Keyed {
  readonly item: unknown;
  readonly key: Key;
}

const isBefore = (left: number | undefined, right: number | undefined): boolean =>
  left !== undefined && right !== undefined && left < right;

function places(keys: readonly Key[]): ReadonlyMap<Key, number> {
  const found = new Map<Key, number>();
  keys.forEach((key, index) => found.has(key) || found.set(key, index));
  return found;
}

/** The items of the patch must stand in the order that `$setElementOrder` names, and all be named there. */
function checkOrder(patch: readonly unknown[], order: readonly unknown[], list: ListPatch): void {
  if (order.length === 0 || patch.length === 0) return;
  const keys = (items: readonly unknown[]) => items.map((item, index) => itemKey(item, list, index));
  const ordered = keys(order);
  let at = 0;
  for (const key of keys(patch)) {
    const found = ordered.indexOf(key, at);
    if (found < 0) throw fault(list.path, "the order in patch list doesn't match $setElementOrder list");
    at = found + 1;
  }
}

const itemKey = (item: unknown, list: ListPatch, index: number): Key =>
  list.mergeKey === undefined
    ? scalarKey(item, [...list.path, index])
    : objectKey(item, list.mergeKey, [...list.path, index]);

function objectKey(item: unknown, mergeKey: string, path: PatchPath): Key {
  if (!isObject(item))
    throw fault(path, `list element types are not identical: expected an object, got ${kindOf(item)}`);
  const key = field(item, mergeKey);
  if (key === undefined || key === null)
    throw fault(path, `the item does not contain the declared merge key: ${mergeKey}`);
  return scalarKey(key, [...path, mergeKey]);
}

function scalarKey(value: unknown, path: PatchPath): Key {
  if (value !== null && (typeof value === 'object' || value === undefined))
    throw fault(path, `must be a scalar, got ${kindOf(value)}`);
  return value as Key;
}
