/**
 * What changed between two versions of an object, field by field, as a person would point at it: `spec.template.spec.containers["web"].image`, from and to. Pure. Used by the history, the differences
 * and the answers to why.
 */

export interface FieldChange {
  readonly path: string;
  /** Absent: the field was not there. */
  readonly from?: unknown;
  /** Absent: the field is there no more. */
  readonly to?: unknown;
}

/** `wanted`: what people and controllers asked for, without status and bookkeeping. `status`: that too. `all`: every field. */
export type Fields = 'wanted' | 'status' | 'all';
export const FIELDS: readonly Fields[] = ['wanted', 'status', 'all'];

/** What every write touches and nobody means. */
const BOOKKEEPING = [
  'metadata.managedFields',
  'metadata.resourceVersion',
  'metadata.generation',
  'metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"]',
];

/** Lists whose members carry one of these are compared member by member, in whatever order they stand. */
const MEMBER_KEYS = ['name', 'type', 'mountPath', 'topologyKey', 'ip', 'uid', 'key'];

/** `hidden` counts the changes that `fields` leaves out. */
export function changesBetween(
  before: object | undefined,
  after: object | undefined,
  fields: Fields = 'wanted',
): { changes: readonly FieldChange[]; hidden: number } {
  const found: FieldChange[] = [];
  compare('', before ?? {}, after ?? {}, found);
  const changes = found.filter(({ path }) => isShown(path, fields));
  return { changes, hidden: found.length - changes.length };
}

function isShown(path: string, fields: Fields): boolean {
  if (fields === 'all') return true;
  if (BOOKKEEPING.some((hidden) => isAtOrBelow(path, hidden))) return false;
  return fields === 'status' || !isAtOrBelow(path, 'status');
}

const isAtOrBelow = (path: string, root: string): boolean =>
  path === root || path.startsWith(`${root}.`) || path.startsWith(`${root}[`);

function compare(path: string, from: unknown, to: unknown, found: FieldChange[]): void {
  if (Object.is(from, to)) return;
  if (isMap(from) && isMap(to)) return compareFields(path, from, to, found);
  if (Array.isArray(from) && Array.isArray(to)) {
    const key = memberKey([...(from as unknown[]), ...(to as unknown[])]);
    const members = (list: readonly unknown[]): [string, unknown][] =>
      list.map((member, index) => [
        key === undefined ? String(index) : JSON.stringify((member as Record<string, unknown>)[key]),
        member,
      ]);
    const [before, after] = [new Map(members(from)), new Map(members(to))];
    // Two members of one name: only their places tell them apart.
    if (before.size === from.length && after.size === to.length) return compareMembers(path, before, after, found);
    if (JSON.stringify(from) === JSON.stringify(to)) return;
  }
  found.push({ path, ...(from !== undefined && { from }), ...(to !== undefined && { to }) });
}

function compareFields(
  path: string,
  from: Record<string, unknown>,
  to: Record<string, unknown>,
  found: FieldChange[],
): void {
  for (const field of new Set([...Object.keys(from), ...Object.keys(to)])) {
    const plain = /^[A-Za-z_$][\w$-]*$/.test(field);
    const below = plain ? (path === '' ? field : `${path}.${field}`) : `${path}[${JSON.stringify(field)}]`;
    compare(below, from[field], to[field], found);
  }
}

function compareMembers(
  path: string,
  before: ReadonlyMap<string, unknown>,
  after: ReadonlyMap<string, unknown>,
  found: FieldChange[],
): void {
  for (const id of new Set([...before.keys(), ...after.keys()]))
    compare(`${path}[${id}]`, before.get(id), after.get(id), found);
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The field by which all members can be told apart; undefined for lists of anything else. */
function memberKey(members: readonly unknown[]): string | undefined {
  return MEMBER_KEYS.find((key) => members.every((member) => isMap(member) && typeof member[key] === 'string'));
}
