/**
 * JSON Patch, RFC 6902 with RFC 6901 pointers: `application/json-patch+json`. Called by the patch verb. All operations take effect or none does: the
 * document is never changed in place, each operation copies only the nodes on its path. As in Kubernetes, an array index may be negative (counted from
 * the end), `test` against null holds where a field is absent, and `replace` sets a field that is absent; unlike there, `copy` from nowhere is a fault.
 */
import { badRequest, StatusError, tooLarge } from '../errors.ts';
import {
  checkDepth,
  copyJson,
  equalJson,
  field,
  isArray,
  isObject,
  kindOf,
  setField,
  type JsonObject,
} from './json.ts';

/** Kubernetes' limit on the operations of one patch. */
export const MAX_JSON_PATCH_OPERATIONS = 10_000;

/** Kubernetes' bound on what all `copy` operations of one patch may add: a copy of the whole into itself doubles it each time. */
export const MAX_COPIED_BYTES = 3 * 1024 * 1024;

const VERBS = ['add', 'remove', 'replace', 'move', 'copy', 'test'] as const;
type OperationName = (typeof VERBS)[number];

/** One operation, its pointers taken apart. */
interface Operation {
  readonly op: OperationName;
  readonly path: Pointer;
  readonly from: Pointer;
  readonly value: unknown;
}

type Pointer = readonly string[];

/** Throws BadRequest for a patch that is not one, Invalid (422, as Kubernetes) for an operation that does not fit the document; both name the operation. */
export function jsonPatch(document: JsonObject, patch: unknown): JsonObject {
  if (!isArray(patch)) throw badRequest(`a JSON patch is an array of operations, got ${kindOf(patch)}`);
  if (patch.length > MAX_JSON_PATCH_OPERATIONS) {
    throw tooLarge(
      `The allowed maximum operations in a JSON patch is ${MAX_JSON_PATCH_OPERATIONS}, got ${patch.length}`,
    );
  }
  const budget = { bytes: MAX_COPIED_BYTES };
  let result: unknown = document;
  patch.map(readOperation).forEach((operation, index) => {
    result = apply(result, operation, budget, describe(patch[index], index));
  });
  if (!isObject(result)) throw new StatusError('Invalid', `the JSON patch turns the object into ${kindOf(result)}`);
  return result;
}

const MEMBERS: ReadonlySet<string> = new Set(['op', 'path', 'from', 'value']);

/** Paths such as `[0].foo` of what an operation has and no operation has any use for. */
export function unknownMembers(patch: unknown): string[] {
  if (!isArray(patch)) return [];
  return patch.flatMap((operation, index) =>
    isObject(operation)
      ? Object.keys(operation).flatMap((member) => (MEMBERS.has(member) ? [] : [`[${index}].${member}`]))
      : [],
  );
}

const describe = (operation: unknown, index: number): string => {
  const { op, path } = isObject(operation) ? operation : {};
  return `operation ${index}${typeof op === 'string' && typeof path === 'string' ? ` (${op} ${path.slice(0, 200)})` : ''} of the JSON patch`;
};

function readOperation(raw: unknown, index: number): Operation {
  const what = describe(raw, index);
  if (!isObject(raw)) throw badRequest(`${what}: must be an object, got ${kindOf(raw)}`);
  const op = VERBS.find((verb) => verb === field(raw, 'op'));
  if (op === undefined) throw badRequest(`${what}: op must be one of ${VERBS.join(', ')}`);
  const hasValue = Object.hasOwn(raw, 'value');
  if ((op === 'add' || op === 'replace' || op === 'test') && !hasValue) throw badRequest(`${what}: value is missing`);
  const from = op === 'move' || op === 'copy' ? readPointer(field(raw, 'from'), 'from', what) : [];
  const path = readPointer(field(raw, 'path'), 'path', what);
  if (op === 'move' && from.length < path.length && from.every((token, place) => token === path[place])) {
    throw badRequest(`${what}: a value cannot be moved into itself`);
  }
  return { op, path, from, value: field(raw, 'value') };
}

function readPointer(raw: unknown, name: string, what: string): Pointer {
  if (typeof raw !== 'string')
    throw badRequest(`${what}: ${name} must be a JSON pointer, got ${raw === undefined ? 'nothing' : kindOf(raw)}`);
  if (raw === '') return [];
  if (!raw.startsWith('/')) throw badRequest(`${what}: ${name} must begin with /`);
  if (/~(?![01])/.test(raw)) throw badRequest(`${what}: ${name} has a ~ that is neither ~0 nor ~1`);
  const tokens = raw
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
  checkDepth(tokens.length, `${what}: ${name}`);
  if (tokens.includes('__proto__')) throw badRequest(`${what}: ${name} may not name __proto__`);
  return tokens;
}

function apply(document: unknown, operation: Operation, budget: CopyBudget, what: string): unknown {
  const { op, path, from, value } = operation;
  switch (op) {
    case 'add':
      return edit(document, path, { kind: 'add', value: copyJson(value, what) }, what);
    case 'remove':
      return edit(document, path, { kind: 'remove' }, what);
    case 'replace':
      return edit(document, path, { kind: 'replace', value: copyJson(value, what) }, what);
    case 'copy': {
      const copied = existing(document, from, what);
      spend(budget, copied, what);
      return edit(document, path, { kind: 'add', value: copyJson(copied, what) }, what);
    }
    case 'move': {
      const moved = existing(document, from, what);
      return edit(edit(document, from, { kind: 'remove' }, what), path, { kind: 'add', value: moved }, what);
    }
    case 'test':
      if (!equalJson(tested(document, path, what), value))
        throw fault(what, 'the test failed: the value there is another');
      return document;
    default:
      return op satisfies never;
  }
}

interface CopyBudget {
  bytes: number;
}

/** Takes the rough size of a value from the budget; stops as soon as that is spent, however large the value. */
function spend(budget: CopyBudget, value: unknown, what: string, depth = 0): void {
  checkDepth(depth, what);
  budget.bytes -= typeof value === 'string' ? value.length + 2 : 4;
  if (budget.bytes < 0) throw tooLarge(`${what}: the copies of one patch may not exceed ${MAX_COPIED_BYTES} bytes`);
  if (isArray(value)) {
    for (const item of value) spend(budget, item, what, depth + 1);
  } else if (isObject(value)) {
    for (const key of Object.keys(value)) {
      budget.bytes -= key.length + 3;
      spend(budget, value[key], what, depth + 1);
    }
  }
}

const fault = (what: string, why: string) => new StatusError('Invalid', `${what}: ${why}`);

function read(document: unknown, path: Pointer): unknown {
  return path.reduce<unknown>((value, token) => {
    if (isObject(value)) return field(value, token);
    if (!isArray(value)) return undefined;
    const index = arrayIndex(token, value.length);
    return index === undefined ? undefined : value[index];
  }, document);
}

/** The value that `test` compares: null where a field is absent, a fault where there is nothing that could have it. */
function tested(document: unknown, path: Pointer, what: string): unknown {
  const value = read(document, path);
  if (value === undefined && !isObject(read(document, path.slice(0, -1))))
    throw fault(what, 'there is nothing to test');
  return value ?? null;
}

function existing(document: unknown, path: Pointer, what: string): unknown {
  const value = read(document, path);
  if (value === undefined) throw fault(what, 'there is nothing at from');
  return value;
}

type Edit = { readonly kind: 'add' | 'replace'; readonly value: unknown } | { readonly kind: 'remove' };

/** `node` with the edit made at `path`, copying the nodes on the way; pointers are at most MAX_NESTING long, so the recursion is bounded. */
function edit(node: unknown, path: Pointer, change: Edit, what: string): unknown {
  const [token, ...rest] = path;
  if (token === undefined) {
    if (change.kind === 'remove') throw fault(what, 'the whole object cannot be removed');
    return change.value;
  }
  if (isArray(node)) return editArray(node, token, rest, change, what);
  if (!isObject(node)) throw fault(what, `there is no object or array to hold ${JSON.stringify(token)}`);
  const copy: Record<string, unknown> = { ...node };
  if (rest.length === 0 && change.kind !== 'remove') {
    setField(copy, token, change.value);
    return copy;
  }
  if (!Object.hasOwn(node, token)) throw fault(what, `there is no ${JSON.stringify(token)}`);
  if (rest.length === 0) delete copy[token];
  else setField(copy, token, edit(node[token], rest, change, what));
  return copy;
}

function editArray(list: readonly unknown[], token: string, rest: Pointer, change: Edit, what: string): unknown {
  const last = rest.length === 0;
  if (last && change.kind === 'add') {
    // An element may be added just after the last one, which `-` also names.
    const index = token === '-' ? list.length : arrayIndex(token, list.length + 1);
    if (index === undefined)
      throw fault(what, `${JSON.stringify(token)} is not an index from 0 to ${list.length}, or -`);
    return list.toSpliced(index, 0, change.value);
  }
  const index = arrayIndex(token, list.length);
  if (index === undefined)
    throw fault(what, `${JSON.stringify(token)} is not an index into an array of ${list.length}`);
  if (last && change.kind === 'remove') return list.toSpliced(index, 1);
  return list.with(index, edit(list[index], rest, change, what));
}

/** The index that a token means in an array of this length, or undefined: no leading zeros, negative counts from the end. */
function arrayIndex(token: string, length: number): number | undefined {
  if (!/^(0|-?[1-9][0-9]{0,9})$/.test(token)) return undefined;
  const index = Number(token) < 0 ? Number(token) + length : Number(token);
  return index >= 0 && index < length ? index : undefined;
}
