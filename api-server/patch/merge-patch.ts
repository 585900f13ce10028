/**
 * JSON Merge Patch, RFC 7396: `application/merge-patch+json`. Called by the patch verb, and the only patch besides JSON Patch that custom resources take.
 */
import { checkDepth, copyJson, field, isObject, setField, type JsonObject } from './json.ts';

/** `current` with the patch merged in: objects merge, null removes, anything else replaces. Neither argument is changed, and the result shares nothing with the patch. */
export function mergePatch(current: JsonObject, patch: JsonObject): JsonObject {
  return mergeObject(current, patch, 0);
}

function mergeObject(current: JsonObject, patch: JsonObject, depth: number): JsonObject {
  checkDepth(depth, 'the patch');
  const merged: Record<string, unknown> = { ...current };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) {
      delete merged[key];
    } else if (isObject(value)) {
      // Where there was no object, the patch is merged into an empty one: that drops the nulls inside it.
      const before = field(merged, key);
      setField(merged, key, mergeObject(isObject(before) ? before : {}, value, depth + 1));
    } else {
      setField(merged, key, copyJson(value, 'the patch', depth + 1));
    }
  }
  return merged;
}
