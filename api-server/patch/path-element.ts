/**
 * One step of a field path in the form in which `fieldsV1` writes it: `f:image` (a field), `k:{"name":"web"}` (an item of a keyed list), `v:"a"` (a
 * member of a set), `i:3` (an index). The string is the identity; equal steps are equal strings. From KEP 555 and structured-merge-diff's fieldpath.
 */
import { isObject } from './json.ts';

export type PathElement = string;

export const fieldElement = (name: string): PathElement => `f:${name}`;

export const valueElement = (value: unknown): PathElement => `v:${JSON.stringify(value)}`;

/** `entries` sorted by name. */
export const keyElement = (entries: readonly (readonly [name: string, value: unknown])[]): PathElement =>
  `k:{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;

/** The field name of a field step, undefined for other steps. */
export const fieldName = (element: PathElement): string | undefined =>
  element.startsWith('f:') ? element.slice(2) : undefined;

/** A step as a client wrote it, brought to the one form in which we write it; undefined where it is none. */
export function readElement(raw: string): PathElement | undefined {
  try {
    switch (raw.slice(0, 2)) {
      case 'f:':
        return raw;
      case 'i:':
        return /^i:(0|-?[1-9][0-9]*)$/.test(raw) ? raw : undefined;
      case 'v:':
        return valueElement(JSON.parse(raw.slice(2)));
      case 'k:': {
        const key: unknown = JSON.parse(raw.slice(2));
        return isObject(key) ? keyElement(sortedEntries(key)) : undefined;
      }
      default:
        return undefined;
    }
  } catch {
    return undefined;
  }
}

const byName = (left: readonly [string, unknown], right: readonly [string, unknown]) =>
  left[0] < right[0] ? -1 : left[0] > right[0] ? 1 : 0;

const sortedEntries = (key: Readonly<Record<string, unknown>>) => Object.entries(key).sort(byName);

/** As messages show it: `.image`, `[name="web"]`, `[="a"]`, `[3]`. */
export function printElement(element: PathElement): string {
  const rest = element.slice(2);
  switch (element[0]) {
    case 'f':
      return `.${rest}`;
    case 'k':
      return `[${sortedEntries(JSON.parse(rest) as Record<string, unknown>)
        .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
        .join(',')}]`;
    case 'v':
      return `[=${rest}]`;
    default:
      return `[${rest}]`;
  }
}

const KIND_ORDER = 'fkvi';

/** Kubernetes' order of steps: fields, keyed items, set members, indexes; numbers by value. */
export function compareElements(left: PathElement, right: PathElement): number {
  if (left === right) return 0;
  const kind = left[0];
  if (kind !== right[0]) return KIND_ORDER.indexOf(kind ?? '') - KIND_ORDER.indexOf(right[0] ?? '');
  if (kind === 'f') return left < right ? -1 : 1;
  const [leftValue, rightValue] = [JSON.parse(left.slice(2)) as unknown, JSON.parse(right.slice(2)) as unknown];
  return kind === 'k' ? compareKeys(leftValue, rightValue) : compareScalars(leftValue, rightValue);
}

function compareKeys(left: unknown, right: unknown): number {
  const [leftEntries, rightEntries] = [
    sortedEntries(left as Record<string, unknown>),
    sortedEntries(right as Record<string, unknown>),
  ];
  for (const [index, leftEntry] of leftEntries.entries()) {
    const rightEntry = rightEntries[index];
    if (rightEntry === undefined) return 1;
    const order = byName(leftEntry, rightEntry) || compareScalars(leftEntry[1], rightEntry[1]);
    if (order !== 0) return order;
  }
  return leftEntries.length - rightEntries.length;
}

const SCALAR_ORDER = ['number', 'string', 'boolean', 'object'];

function compareScalars(left: unknown, right: unknown): number {
  if (typeof left !== typeof right) return SCALAR_ORDER.indexOf(typeof left) - SCALAR_ORDER.indexOf(typeof right);
  if (typeof left === 'object') return compareText(JSON.stringify(left), JSON.stringify(right));
  return compareText(left as string, right as string);
}

const compareText = (left: string, right: string) => (left < right ? -1 : left > right ? 1 : 0);
