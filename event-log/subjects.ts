/**
 * How an object's key becomes a subject and back. Pure. One object has one subject in each plane; one wildcard (`guardSubject`) covers both, and is what
 * every write is guarded by. Used by everything in this room that names a subject.
 */
import type { FollowFilter, ObjectKey, Plane } from './event-log.ts';

/** `ephemeral` is the one plane of the second stream (Leases, Events). */
export type SubjectPlane = Plane | 'ephemeral';

const PLAIN = /^[A-Za-z0-9_-]+$/;
const CORE = 'core';
const CLUSTER_SCOPED = '_';

/** The names of one instance's streams and the first token of its subjects. Tests use a prefix of their own. */
export interface StreamNames {
  readonly prefix: string;
  readonly log: string;
  readonly ephemeral: string;
  readonly keys: string;
}

export const DEFAULT_PREFIX = 'reckon';

export function streamNames(prefix: string = DEFAULT_PREFIX): StreamNames {
  if (!PLAIN.test(prefix)) throw new Error(`the prefix '${prefix}' may have only letters, digits, '_' and '-'`);
  const upper = prefix.toUpperCase();
  return { prefix, log: upper, ephemeral: `${upper}_EPHEMERAL`, keys: `${upper}_KEYS` };
}

/** Percent-encodes every byte outside `[A-Za-z0-9_-]`, so that any name is one subject token. */
export function escapeToken(text: string): string {
  if (PLAIN.test(text)) return text;
  let escaped = '';
  for (const byte of Buffer.from(text, 'utf8')) {
    const character = String.fromCharCode(byte);
    escaped += PLAIN.test(character) ? character : escapeByte(byte);
  }
  return escaped;
}

export function unescapeToken(token: string): string {
  return token.includes('%') ? decodeURIComponent(token) : token;
}

/** `<group>.<resource>.<namespace>.<name>`: identifies the object whatever the plane. */
export function objectTokens(key: ObjectKey): string {
  if (key.resource === '' || key.name === '') throw new Error('an object key needs a resource and a name');
  return `${groupToken(key.group)}.${escapeToken(key.resource)}.${namespaceToken(key.namespace)}.${escapeToken(key.name)}`;
}

export function objectSubject(prefix: string, plane: SubjectPlane, key: ObjectKey): string {
  return `${prefix}.${plane}.${objectTokens(key)}`;
}

/** Matches the object in every plane of its stream. */
export function guardSubject(prefix: string, key: ObjectKey): string {
  return `${prefix}.*.${objectTokens(key)}`;
}

export function floorSubject(prefix: string): string {
  return `${prefix}.floor`;
}

export function keySubject(prefix: string, uid: string): string {
  return `${prefix}.keys.${escapeToken(uid)}`;
}

/** Undefined where the subject is none of an object's. */
export function parseSubject(prefix: string, subject: string): { plane: SubjectPlane; key: ObjectKey } | undefined {
  if (!subject.startsWith(`${prefix}.`)) return undefined;
  const [plane, group, resource, namespace, name, ...more] = subject.slice(prefix.length + 1).split('.');
  if (plane !== 'desired' && plane !== 'observed' && plane !== 'ephemeral') return undefined;
  if (!group || !resource || !namespace || !name || more.length > 0) return undefined;
  try {
    const key: ObjectKey = {
      group: group === CORE ? '' : unescapeToken(group),
      resource: unescapeToken(resource),
      namespace: namespace === CLUSTER_SCOPED ? '' : unescapeToken(namespace),
      name: unescapeToken(name),
    };
    return { plane, key };
  } catch {
    return undefined;
  }
}

/**
 * Subjects that cover exactly what the filters cover, none within another (JetStream refuses a consumer whose filters overlap).
 * No filter at all gives the whole stream, floor records included.
 */
export function filterSubjects(
  prefix: string,
  planes: readonly SubjectPlane[],
  filters: readonly FollowFilter[] | undefined,
): string[] {
  if (filters === undefined)
    return planes.includes('ephemeral')
      ? [`${prefix}.ephemeral.>`]
      : [...planes.map((plane) => `${prefix}.${plane}.>`), floorSubject(prefix)];
  const subjects = new Set<string>();
  for (const filter of filters) {
    const wanted = filter.plane === undefined || planes.includes('ephemeral') ? planes : [filter.plane];
    const namespace = filter.namespace === undefined ? '*' : namespaceToken(filter.namespace);
    for (const plane of wanted) subjects.add(`${prefix}.${plane}.${kindTokens(filter)}.${namespace}.*`);
  }
  return [...subjects].filter((subject) => {
    const wider = subject.split('.').with(-2, '*').join('.');
    return wider === subject || !subjects.has(wider);
  });
}

const kindTokens = ({ group, resource }: Pick<FollowFilter, 'group' | 'resource'>): string =>
  `${group === '*' ? '*' : groupToken(group)}.${resource === '*' ? '*' : escapeToken(resource)}`;

/** What a consumer of one namespace may see: of these kinds, or of all; of one plane, or of both. */
export function consumerSubjects(
  prefix: string,
  filter: { namespace: string; resources?: readonly { group: string; resource: string }[]; plane?: Plane },
): string[] {
  const planes: readonly Plane[] = filter.plane === undefined ? ['desired', 'observed'] : [filter.plane];
  const kinds = filter.resources?.map(({ group, resource }) => `${groupToken(group)}.${escapeToken(resource)}`) ?? [
    '*.*',
  ];
  const namespace = namespaceToken(filter.namespace);
  return [...new Set(planes.flatMap((plane) => kinds.map((kind) => `${prefix}.${plane}.${kind}.${namespace}.*`)))];
}

function groupToken(group: string): string {
  if (group === '') return CORE;
  return group === CORE ? escapeFirst(group) : escapeToken(group);
}

function namespaceToken(namespace: string): string {
  if (namespace === '') return CLUSTER_SCOPED;
  return namespace === CLUSTER_SCOPED ? escapeFirst(namespace) : escapeToken(namespace);
}

/** A group really called `core`, or a namespace really called `_`, must not read back as the empty one. */
function escapeFirst(text: string): string {
  return escapeByte(text.charCodeAt(0)) + escapeToken(text.slice(1));
}

function escapeByte(byte: number): string {
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}
