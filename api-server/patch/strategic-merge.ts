/**
 * Strategic merge patch, `application/strategic-merge-patch+json`: a merge patch that knows from the schema which lists merge by a key, and that takes
 * directives (`$patch`, `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`). The rules are those of
 * https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md. Called by the patch verb; lists are
 * merged in strategic-lists.ts.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { badRequest } from '../errors.ts';
import { fieldSchema } from './field-set.ts';
import { checkDepth, field, isArray, isObject, kindOf, setField, type JsonObject } from './json.ts';
import { deleteFromList, mergeList, orderList, type ListPatch } from './strategic-lists.ts';

export const PATCH = '$patch';
const RETAIN_KEYS = '$retainKeys';
const ORDER_PREFIX = '$setElementOrder/';
const DELETE_PREFIX = '$deleteFromPrimitiveList/';

/** `current` with the patch merged in. Neither is changed. Throws BadRequest, naming the path, for a patch that contradicts itself or lacks a merge key. */
export function strategicMergePatch(current: JsonObject, patch: JsonObject, schema: Schema): JsonObject {
  return mergeObject(current, patch, schema, []) ?? {};
}

export type PatchPath = readonly (string | number)[];

/** A refusal that names the place: `.spec.containers[0].name`. */
export const fault = (path: PatchPath, why: string) =>
  badRequest(`strategic merge patch: ${path.length === 0 ? 'the patch' : path.map(printStep).join('')}: ${why}`);

const printStep = (step: string | number): string => (typeof step === 'number' ? `[${step}]` : `.${step}`);

/** An object of the patch taken apart: what it says about its fields, and its directives. */
interface Directives {
  readonly fields: ReadonlyMap<string, unknown>;
  readonly patch: unknown;
  readonly retainKeys: readonly string[] | undefined;
  readonly order: ReadonlyMap<string, readonly unknown[]>;
  readonly deletions: ReadonlyMap<string, readonly unknown[]>;
}

function readDirectives(patch: JsonObject, path: PatchPath): Directives {
  const fields = new Map<string, unknown>();
  const order = new Map<string, readonly unknown[]>();
  const deletions = new Map<string, readonly unknown[]>();
  let retainKeys: readonly string[] | undefined;
  for (const [key, value] of Object.entries(patch)) {
    if (key === PATCH) continue;
    if (key === RETAIN_KEYS) {
      if (!isArray(value) || !value.every((name) => typeof name === 'string'))
        throw fault([...path, key], 'must be a list of field names');
      retainKeys = value;
    } else if (key.startsWith(ORDER_PREFIX)) {
      order.set(key.slice(ORDER_PREFIX.length), asList(value, [...path, key]));
    } else if (key.startsWith(DELETE_PREFIX)) {
      deletions.set(key.slice(DELETE_PREFIX.length), asList(value, [...path, key]));
    } else {
      fields.set(key, value);
    }
  }
  return { fields, patch: field(patch, PATCH), retainKeys, order, deletions };
}

function asList(value: unknown, path: PatchPath): readonly unknown[] {
  if (!isArray(value)) throw fault(path, `must be a list, got ${kindOf(value)}`);
  return value;
}

/** Undefined where the object is deleted. */
export function mergeObject(
  current: JsonObject,
  patch: JsonObject,
  schema: Schema | undefined,
  path: PatchPath,
): JsonObject | undefined {
  checkDepth(path.length, 'the patch');
  const directives = readDirectives(patch, path);
  switch (directives.patch) {
    case undefined:
    case 'merge':
      break;
    case 'replace':
      return asFresh(Object.fromEntries(directives.fields), path) as JsonObject;
    case 'delete':
      return {};
    default:
      throw fault([...path, PATCH], `must be "delete", "replace" or "merge", got ${JSON.stringify(directives.patch)}`);
  }
  const merged: Record<string, unknown> = { ...current };
  if (directives.retainKeys) retainOnly(merged, directives, directives.retainKeys, path);
  for (const [key, value] of directives.fields) mergeField({ merged, current, key, value, directives, schema, path });
  for (const [key, order] of directives.order) {
    // Lists that the patch also changes have been put in order with the change.
    const list = field(merged, key);
    if (directives.fields.has(key) || !isArray(list)) continue;
    setField(merged, key, orderList(list, { ...listPatch(schema, key, [...path, key]), order, live: list }));
  }
  // After the ordering, which counts the items to be deleted in.
  for (const [key, toDelete] of directives.deletions) deleteItems(merged, key, toDelete, path);
  return merged;
}

function retainOnly(
  merged: Record<string, unknown>,
  { fields }: Directives,
  retainKeys: readonly string[],
  path: PatchPath,
): void {
  const retained = new Set(retainKeys);
  for (const [key, value] of fields) {
    if (value !== null && !retained.has(key))
      throw fault(
        [...path, RETAIN_KEYS],
        `must name every field that the patch sets, and leaves out ${JSON.stringify(key)}`,
      );
  }
  for (const key of Object.keys(merged)) if (!retained.has(key)) delete merged[key];
}

function deleteItems(
  merged: Record<string, unknown>,
  key: string,
  toDelete: readonly unknown[],
  path: PatchPath,
): void {
  const list = field(merged, key);
  if (isArray(list)) setField(merged, key, deleteFromList(list, toDelete, [...path, `${DELETE_PREFIX}${key}`]));
}

interface FieldMerge {
  readonly merged: Record<string, unknown>;
  /** The object before any directive. */
  readonly current: JsonObject;
  readonly key: string;
  readonly value: unknown;
  readonly directives: Directives;
  readonly schema: Schema | undefined;
  readonly path: PatchPath;
}

function mergeField({ merged, current, key, value, directives, schema, path }: FieldMerge): void {
  const here = [...path, key];
  if (value === null) {
    delete merged[key];
    return;
  }
  const before = field(merged, key);
  const child = fieldSchema(schema, key);
  if (isObject(value) && isObject(before) && !strategies(child).includes('replace')) {
    setOrDelete(merged, key, mergeObject(before, value, child, here));
  } else if (isArray(value) && (isArray(before) || directives.order.has(key)) && strategies(child).includes('merge')) {
    const live = field(current, key);
    const list = { ...listPatch(schema, key, here), order: directives.order.get(key), live: isArray(live) ? live : [] };
    setField(merged, key, mergeList(isArray(before) ? before : [], value, list));
  } else {
    setOrDelete(merged, key, asFresh(value, here));
  }
}

function setOrDelete(target: Record<string, unknown>, key: string, value: unknown): void {
  if (value === undefined) delete target[key];
  else setField(target, key, value);
}

const strategies = (schema: Schema | undefined): readonly string[] =>
  schema?.['x-kubernetes-patch-strategy']?.split(',') ?? [];

const listPatch = (
  schema: Schema | undefined,
  key: string,
  path: PatchPath,
): Pick<ListPatch, 'mergeKey' | 'items' | 'path'> => {
  const list = fieldSchema(schema, key);
  return { mergeKey: list?.['x-kubernetes-patch-merge-key'], items: list?.items, path };
};

/**
 * What the patch brings where there was nothing: without nulls and directives, which have nothing to act on. Undefined for what deletes itself. (Where
 * nothing was, Kubernetes 1.32 drops a map that says `$patch: replace` with all that is in it; that is taken for a mistake, and its content is set.)
 */
export function asFresh(value: unknown, path: PatchPath): unknown {
  checkDepth(path.length, 'the patch');
  if (isArray(value))
    return value.map((item, index) => asFresh(item, [...path, index])).filter((item) => item !== undefined);
  if (!isObject(value)) return value;
  const { fields, patch } = readDirectives(value, path);
  if (patch === 'delete') return undefined;
  // An item with a directive says something about the list that it stands in, and is no item.
  if (patch !== undefined && typeof path.at(-1) === 'number') return undefined;
  return Object.fromEntries(
    [...fields]
      .map(([key, item]) => [key, item === null ? undefined : asFresh(item, [...path, key])] as const)
      .filter(([, item]) => item !== undefined),
  );
}
