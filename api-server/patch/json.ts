/**
 * How this room looks at JSON: values are never changed in place (results share with the current object what did not change), only own properties count,
 * so that keys such as `__proto__` and `constructor` are ordinary keys, and nesting is bounded. Every other file of the room reads values through this one.
 */
import { badRequest } from '../errors.ts';

/** A JSON object as parsed; `unknown` inside, because it comes from outside. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** How deep an object, a patch or a set of fields may be nested; deeper ones are refused, so that no walk can exhaust the stack. */
export const MAX_NESTING = 256;

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const isArray = (value: unknown): value is readonly unknown[] => Array.isArray(value);

/** The kind of a value as error messages name it. */
export const kindOf = (value: unknown): string => (value === null ? 'null' : isArray(value) ? 'array' : typeof value);

/** Own property or undefined: never what an object inherits. */
export const field = <T>(object: Readonly<Record<string, T>>, key: string): T | undefined =>
  Object.hasOwn(object, key) ? object[key] : undefined;

/** Sets a property of an object that we are building; plain assignment to `__proto__` would change its prototype instead. */
export function setField(target: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

export const isEmptyObject = (object: JsonObject): boolean => {
  for (const key in object) if (Object.hasOwn(object, key)) return false;
  return true;
};

/** Throws where a walk has gone deeper than MAX_NESTING; `what` opens the sentence. */
export function checkDepth(depth: number, what: string): void {
  if (depth > MAX_NESTING) throw badRequest(`${what} is nested more than ${MAX_NESTING} levels deep`);
}

/** A copy that shares nothing: what a patch brings is copied into the result, so that the patch can be applied again whatever becomes of that. */
export function copyJson(value: unknown, what: string, depth = 0): unknown {
  checkDepth(depth, what);
  if (isArray(value)) return value.map((item) => copyJson(item, what, depth + 1));
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, copyJson(item, what, depth + 1)]));
}

/** Equality of JSON values: the order of keys does not matter, the order of lists does. */
export function equalJson(left: unknown, right: unknown, depth = 0): boolean {
  if (left === right) return true;
  checkDepth(depth, 'the object');
  if (isArray(left)) {
    if (!isArray(right) || left.length !== right.length) return false;
    return left.every((item, index) => equalJson(item, right[index], depth + 1));
  }
  if (!isObject(left) || !isObject(right)) return false;
  const keys = Object.keys(left);
  if (keys.length !== Object.keys(right).length) return false;
  return keys.every((key) => Object.hasOwn(right, key) && equalJson(left[key], right[key], depth + 1));
}
