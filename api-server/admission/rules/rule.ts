/**
 * The shape of a rule in code: it sees one object of its type, wherever that stands, and reports faults. The rules of this folder are plain functions; which
 * type each belongs to stands in `catalogue.ts`. Also the few readers that let a rule look at an object whose structure may be unsound.
 */
import type { Fault } from '../fault.ts';

export type JsonObject = Record<string, unknown>;

export interface Visit {
  readonly value: JsonObject;
  /** The same object as it is stored, on update. */
  readonly old: JsonObject | undefined;
  /** Where it stands: `spec.template.spec`; the empty string for the whole object. */
  readonly path: string;
  readonly report: (...faults: Fault[]) => void;
}

export type Rule = (visit: Visit) => void;

export const objectAt = (value: unknown): JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};

export const objectsAt = (value: unknown): readonly JsonObject[] => (Array.isArray(value) ? value.map(objectAt) : []);

export const textAt = (value: unknown): string => (typeof value === 'string' ? value : '');

export const textsAt = (value: unknown): readonly string[] => (Array.isArray(value) ? value.map(textAt) : []);

export const stringsAt = (value: unknown): Readonly<Record<string, string>> =>
  objectAt(value) as Record<string, string>;

/** `spec.containers[0]` below `spec`. */
export const below = (path: string, field: string, index?: number): string =>
  `${path === '' ? field : `${path}.${field}`}${index === undefined ? '' : `[${index}]`}`;

/** JSON equality, whatever the order of the keys. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return (
      Array.isArray(a) &&
      Array.isArray(b) &&
      a.length === b.length &&
      a.every((item, index) => sameJson(item, b[index]))
    );
  }
  const left = Object.entries(a).filter(([, value]) => value !== undefined);
  const right = Object.entries(b).filter(([, value]) => value !== undefined);
  return (
    left.length === right.length &&
    left.every(([key, value]) => Object.hasOwn(b, key) && sameJson(value, (b as JsonObject)[key]))
  );
}
