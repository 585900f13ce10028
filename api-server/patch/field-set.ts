/**
 * Sets of field paths, the currency of field ownership: who owns which fields of an object. Immutable trees; every operation shares what it did not
 * change. The operations, and `fieldsV1` as the form in which sets are stored, are those of KEP 555 (structured-merge-diff's fieldpath.Set).
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { badRequest } from '../errors.ts';
import { checkDepth, field, isObject, kindOf, type JsonObject } from './json.ts';
import { compareElements, fieldName, printElement, readElement, type PathElement } from './path-element.ts';

/** A node of the tree. Nodes that are neither members nor have members below do not occur, but for the empty set itself. */
export interface FieldSet {
  /** Whether the path that leads here is itself in the set. Never true of the root: nobody owns "the object". */
  readonly member: boolean;
  readonly children: ReadonlyMap<PathElement, FieldSet>;
}

export type Path = readonly PathElement[];

const NO_CHILDREN: ReadonlyMap<PathElement, FieldSet> = new Map();

export const EMPTY: FieldSet = { member: false, children: NO_CHILDREN };

/** A member with nothing below. */
export const LEAF: FieldSet = { member: true, children: NO_CHILDREN };

export const isEmpty = (set: FieldSet): boolean => !set.member && set.children.size === 0;

export const node = (member: boolean, children: ReadonlyMap<PathElement, FieldSet>): FieldSet =>
  children.size > 0 ? { member, children } : member ? LEAF : EMPTY;

export function setOf(...paths: readonly Path[]): FieldSet {
  return paths.reduce(
    (set, path) =>
      union(
        set,
        path.reduceRight<FieldSet>((below, element) => node(false, new Map([[element, below]])), LEAF),
      ),
    EMPTY,
  );
}

export function has(set: FieldSet, path: Path): boolean {
  let at: FieldSet | undefined = set;
  for (const element of path) at = at?.children.get(element);
  return at?.member ?? false;
}

/** The part below one step. */
export const below = (set: FieldSet, element: PathElement): FieldSet => set.children.get(element) ?? EMPTY;

export function union(left: FieldSet, right: FieldSet): FieldSet {
  if (isEmpty(left) || left === right) return right;
  if (isEmpty(right)) return left;
  const children = new Map(left.children);
  for (const [element, child] of right.children) {
    const other = children.get(element);
    children.set(element, other === undefined ? child : union(other, child));
  }
  return node(left.member || right.member, children);
}

export function intersection(left: FieldSet, right: FieldSet): FieldSet {
  const children = new Map<PathElement, FieldSet>();
  for (const [element, child] of left.children) {
    const other = right.children.get(element);
    if (other !== undefined) keep(children, element, intersection(child, other));
  }
  return node(left.member && right.member, children);
}

/** What is in `left` and not in `right`, path by path: a parent in `right` takes nothing from below it. */
export function difference(left: FieldSet, right: FieldSet): FieldSet {
  if (isEmpty(right)) return left;
  const children = new Map<PathElement, FieldSet>();
  for (const [element, child] of left.children) {
    const other = right.children.get(element);
    keep(children, element, other === undefined ? child : difference(child, other));
  }
  return node(left.member && !right.member, children);
}

/** As `difference`, but a member of `right` takes everything below it too. */
export function recursiveDifference(left: FieldSet, right: FieldSet): FieldSet {
  if (right.member) return EMPTY;
  if (isEmpty(right)) return left;
  const children = new Map<PathElement, FieldSet>();
  for (const [element, child] of left.children) {
    const other = right.children.get(element);
    keep(children, element, other === undefined ? child : recursiveDifference(child, other));
  }
  return node(left.member, children);
}

/** The members with nothing below them. */
export function leaves(set: FieldSet): FieldSet {
  const children = new Map<PathElement, FieldSet>();
  for (const [element, child] of set.children) keep(children, element, leaves(child));
  return node(set.member && set.children.size === 0, children);
}

function keep(children: Map<PathElement, FieldSet>, element: PathElement, child: FieldSet): void {
  if (!isEmpty(child)) children.set(element, child);
}

export function equalSets(left: FieldSet, right: FieldSet): boolean {
  if (left === right) return true;
  if (left.member !== right.member || left.children.size !== right.children.size) return false;
  for (const [element, child] of left.children) {
    const other = right.children.get(element);
    if (other === undefined || !equalSets(child, other)) return false;
  }
  return true;
}

/**
 * The set with every named field that leads to a member made a member: who owns `spec.replicas` counts as owning `spec` when fields are pruned. Named
 * means declared in `properties`; keys of maps and items of lists are owned only where they are listed.
 */
export function ensureNamedFieldsAreMembers(set: FieldSet, schema: Schema | undefined): FieldSet {
  const children = new Map<PathElement, FieldSet>();
  for (const [element, child] of set.children) {
    const name = fieldName(element);
    const named = name !== undefined && schema?.properties !== undefined && Object.hasOwn(schema.properties, name);
    const ensured = ensureNamedFieldsAreMembers(child, childSchema(schema, element));
    children.set(element, named && !ensured.member ? node(true, ensured.children) : ensured);
  }
  return node(set.member, children);
}

/** The schema of what a step leads to, where there is one. */
export function childSchema(schema: Schema | undefined, element: PathElement): Schema | undefined {
  const name = fieldName(element);
  return name === undefined ? schema?.items : fieldSchema(schema, name);
}

export function fieldSchema(schema: Schema | undefined, name: string): Schema | undefined {
  const declared = schema?.properties && field(schema.properties, name);
  if (declared !== undefined) return declared;
  return isObject(schema?.additionalProperties) ? (schema.additionalProperties as Schema) : undefined;
}

/** Every member's path, at each level the members first, in Kubernetes' order. */
export function* paths(set: FieldSet, prefix: Path = []): Generator<Path> {
  const elements = sortedElements(set);
  for (const element of elements) if (below(set, element).member) yield [...prefix, element];
  for (const element of elements) yield* paths(below(set, element), [...prefix, element]);
}

/** `.spec.containers[name="web"].image` */
export const printPath = (path: Path): string => path.map(printElement).join('');

const sortedElements = (set: FieldSet): PathElement[] => [...set.children.keys()].sort(compareElements);

/** The set as `fieldsV1`: `{"f:labels":{".":{},"f:app":{}}}`, where `.` says that the node above is itself a member. */
export function toFieldsV1(set: FieldSet): JsonObject {
  const fields: Record<string, unknown> = {};
  if (set.member && set.children.size > 0) fields['.'] = {};
  for (const element of sortedElements(set)) fields[element] = toFieldsV1(below(set, element));
  return fields;
}

/** The set that a `fieldsV1` stands for; throws BadRequest where it is none. */
export function fromFieldsV1(fields: unknown): FieldSet {
  return readNode(fields, false, 0);
}

function readNode(fields: unknown, isChild: boolean, depth: number): FieldSet {
  checkDepth(depth, 'fieldsV1');
  if (!isObject(fields)) throw badRequest(`fieldsV1 must consist of objects, got ${kindOf(fields)}`);
  const children = new Map<PathElement, FieldSet>();
  let member = false;
  for (const key of Object.keys(fields)) {
    if (key === '.') {
      member = isChild;
      continue;
    }
    const element = readElement(key);
    if (element === undefined) throw badRequest(`fieldsV1 has a path element of unknown form: ${key.slice(0, 100)}`);
    const child = readNode(fields[key], true, depth + 1);
    const same = children.get(element);
    children.set(element, same === undefined ? child : union(same, child));
  }
  return node(member || (isChild && children.size === 0), children);
}
