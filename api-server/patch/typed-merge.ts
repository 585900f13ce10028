/**
 * Merging an applied configuration into the live object, field by field as the schema says: structs and maps merge, keyed lists and sets merge by key,
 * everything else is replaced. Nothing is removed here; what an applier no longer wants is pruned afterwards, by ownership (apply.ts). As
 * structured-merge-diff's Merge (KEP 555).
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { badRequest } from '../errors.ts';
import { checkDepth, field, isArray, isEmptyObject, isObject, setField, type JsonObject } from './json.ts';
import { fieldSchema } from './field-set.ts';
import { isAtomicMap } from './field-walk.ts';
import { listShape, nameItems, type ListShape, type NamedItems } from './list-shape.ts';
import { fieldElement, printElement, type PathElement } from './path-element.ts';

/** `config` merged into `live`. Neither is changed. Throws BadRequest where the items of a keyed list cannot be told apart. */
export function mergeBySchema(live: JsonObject, config: JsonObject, schema: Schema): JsonObject {
  return mergeMaps(live, config, schema, []);
}

/** Undefined stands for "not there"; a null in the configuration takes the place of a scalar and leaves maps and keyed lists alone. */
function merge(live: unknown, config: unknown, schema: Schema | undefined, path: readonly PathElement[]): unknown {
  if (config === undefined) return live;
  if (live === undefined) return config;
  checkDepth(path.length, 'the configuration');
  if (isObject(live) && (config === null || isObject(config))) {
    const wanted = config ?? {};
    if (isAtomicMap(schema) || (isEmptyObject(live) && isEmptyObject(wanted))) return config;
    return mergeMaps(live, wanted, schema, path);
  }
  if (isArray(live) && (config === null || isArray(config))) {
    const shape = listShape(schema);
    const wanted = config ?? [];
    if (shape.relation === 'atomic' || (live.length === 0 && wanted.length === 0)) return config;
    return mergeLists(live, wanted, shape, path);
  }
  return config;
}

function mergeMaps(
  live: JsonObject,
  config: JsonObject,
  schema: Schema | undefined,
  path: readonly PathElement[],
): JsonObject {
  const merged: Record<string, unknown> = { ...live };
  for (const name of Object.keys(config)) {
    setField(
      merged,
      name,
      merge(field(live, name), config[name], fieldSchema(schema, name), [...path, fieldElement(name)]),
    );
  }
  return merged;
}

function mergeLists(
  live: readonly unknown[],
  config: readonly unknown[],
  shape: ListShape,
  path: readonly PathElement[],
): readonly unknown[] {
  const wanted = nameItems(shape, config);
  if ('fault' in wanted) throw badRequest(`${path.map(printElement).join('')}: ${wanted.fault}`);
  const present = nameItems(shape, live);
  // A stored list whose items cannot be told apart has nothing to merge with.
  if ('fault' in present) return config;
  const merged: unknown[] = [];
  for (const element of mergedOrder([...present.keys()], [...wanted.keys()])) {
    const [old, item] = [present.get(element), wanted.get(element)];
    merged.push(...mergeItem(old, item, shape, [...path, element]));
  }
  return merged;
}

function mergeItem(
  old: NamedItems | undefined,
  item: NamedItems | undefined,
  shape: ListShape,
  path: readonly PathElement[],
): readonly unknown[] {
  if (item === undefined) return old?.items ?? [];
  // Duplicates in the stored list give way to the one item of the configuration.
  const before = old?.items.length === 1 ? old.items[0] : undefined;
  return [merge(before, item.items[0], shape.items, path)];
}

/**
 * The order of a merged list: the configuration's order for its own items, the live order for the others, each of which stays behind the shared item that
 * it followed.
 */
export function mergedOrder(live: readonly PathElement[], config: readonly PathElement[]): PathElement[] {
  const inLive = new Set(live);
  const inConfig = new Set(config);
  const shared = config.filter((element) => inLive.has(element));
  const order: PathElement[] = [];
  let nextShared = 0;
  let [l, c] = [0, 0];
  while (l < live.length || c < config.length) {
    const [left, right] = [live[l], config[c]];
    if (left !== undefined && right !== undefined) {
      if (left === right) {
        order.push(left);
        l++;
        c++;
        nextShared++;
        continue;
      }
      if (inConfig.has(left) && nextShared < shared.length && shared[nextShared] !== left) {
        // Shared, but its turn is another: it is taken where the configuration has it.
        l++;
        continue;
      }
    }
    if (left !== undefined && !inConfig.has(left)) {
      order.push(left);
      l++;
    } else if (right !== undefined) {
      order.push(right);
      c++;
      if (shared[nextShared] === right) nextShared++;
    } else {
      // Only shared items are left on the live side, and the configuration has placed them already.
      l++;
    }
  }
  return order;
}
