/** How cells look into objects, which may lack anything; and the few forms in which Kubernetes prints what it finds. Used by the cells beside it. */

export type JsonObject = Readonly<Record<string, unknown>>;

export interface CellInput {
  readonly object: JsonObject;
  readonly nowMs: number;
}

/** A cell's text or number. */
export type Cell = (input: CellInput) => string | number | boolean;

export const NONE = '<none>';
export const UNSET = '<unset>';

/** The value at the end of the fields, if they are all there. */
export function at(object: unknown, ...fields: string[]): unknown {
  let value = object;
  for (const field of fields) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, field)) return undefined;
    value = (value as JsonObject)[field];
  }
  return value;
}

export const objectAt = (object: unknown, ...fields: string[]): JsonObject => {
  const value = at(object, ...fields);
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
};

export const listAt = (object: unknown, ...fields: string[]): readonly unknown[] => {
  const value = at(object, ...fields);
  return Array.isArray(value) ? value : [];
};

export const textAt = (object: unknown, ...fields: string[]): string => {
  const value = at(object, ...fields);
  return typeof value === 'string'
    ? value
    : typeof value === 'number' || typeof value === 'boolean'
      ? String(value)
      : '';
};

export const numberAt = (object: unknown, ...fields: string[]): number => {
  const value = at(object, ...fields);
  return typeof value === 'number' ? value : 0;
};

/** `a=b,c=d`, sorted by key; `<none>` for no labels. */
export function formatLabels(labels: JsonObject): string {
  const pairs = Object.keys(labels)
    .sort()
    .map((key) => `${key}=${textAt(labels, key)}`);
  return pairs.length === 0 ? NONE : pairs.join(',');
}

/** A label selector as `kubectl get -l` would take it. */
export function formatSelector(selector: JsonObject): string {
  const equal = Object.entries(objectAt(selector, 'matchLabels')).map(
    ([key, value]) => [key, `${key}=${String(value)}`] as const,
  );
  const others = listAt(selector, 'matchExpressions').map((requirement) => {
    const key = textAt(requirement, 'key');
    const values = listAt(requirement, 'values').map(String).sort().join(',');
    switch (textAt(requirement, 'operator')) {
      case 'In':
        return [key, `${key} in (${values})`] as const;
      case 'NotIn':
        return [key, `${key} notin (${values})`] as const;
      case 'Exists':
        return [key, key] as const;
      default:
        return [key, `!${key}`] as const;
    }
  });
  const all = [...equal, ...others].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, text]) => text);
  return all.length === 0 ? NONE : all.join(',');
}

const MAX_SHOWN = 3;

/** Three at most, and how many more there are. */
export function shortList(items: readonly string[], nothing: string): string {
  if (items.length === 0) return nothing;
  const shown = items.slice(0, MAX_SHOWN).join(',');
  return items.length > MAX_SHOWN ? `${shown} + ${items.length - MAX_SHOWN} more...` : shown;
}

export const orNone = (text: string): string => (text === '' ? NONE : text);
