/**
 * GET of a collection: one consistent revision, in pages if the client asks for pages. Every page of a list comes from the snapshot that its first page was taken from.
 */
import { randomUUID } from 'node:crypto';
import type { Call } from '../call.ts';
import { presentAll } from '../custom-resources/presentation.ts';
import { badRequest, expired, invalidOption } from '../errors.ts';
import { sendList } from '../respond.ts';
import { fieldOf, type Entry } from '../store/entry.ts';
import { tooOld } from '../store/past.ts';
import { METADATA_FIELDS, parseFieldSelector, parseLabelSelector } from '../store/selectors.ts';
import { momentOf, parseRevision, readAtLeast } from './get.ts';

export type EntryPredicate = (entry: Entry) => boolean;

/** The call's namespace, label selector and field selector in one predicate; undefined when everything matches. */
export function entryFilter(call: Pick<Call, 'query' | 'target' | 'definition'>): EntryPredicate | undefined {
  const { query, target, definition } = call;
  const labels = parseLabelSelector(query.get('labelSelector'));
  const fields = parseFieldSelector(query.get('fieldSelector'), [...METADATA_FIELDS, ...definition.selectableFields]);
  const namespace = definition.namespaced ? target.namespace : '';
  if (target.name !== '') fields.push({ field: 'metadata.name', value: target.name, negated: false });
  if (!labels && fields.length === 0 && namespace === '') return undefined;
  return (entry) =>
    (namespace === '' || entry.key.namespace === namespace) &&
    (!labels || labels(entry.labels)) &&
    fields.every(({ field, value, negated }) => (fieldOf(entry, field) === value) !== negated);
}

/** A list whose remaining pages are still wanted. */
interface Snapshot {
  /** What was listed: a token is good for nothing else. */
  readonly scope: string;
  readonly revision: number;
  readonly entries: readonly Entry[];
  /** Of a list of the past. */
  readonly asOfMs?: number;
  readonly expiresAt: number;
}

const SNAPSHOT_LIFE_MS = 5 * 60_000;
/** More unfinished paged lists than this, and the oldest must begin again. */
const MAX_SNAPSHOTS = 1_000;
const snapshots = new Map<string, Snapshot>();

export async function list(call: Call): Promise<void> {
  const { query } = call;
  const limit = Number(query.get('limit') ?? '0');
  if (!Number.isSafeInteger(limit) || limit < 0)
    throw badRequest(
      `limit: Invalid value: ${JSON.stringify(query.get('limit'))}: expected a whole number of objects, 0 or more`,
    );
  const token = query.get('continue');
  checkRevisionMatch(call, token);
  const { snapshot, start } = token ? resume(token, scopeOf(call)) : { snapshot: await take(call), start: 0 };
  if (snapshot.asOfMs !== undefined) call.response.setHeader('Reckon-Revision', String(snapshot.revision));
  const end = limit > 0 ? Math.min(start + limit, snapshot.entries.length) : snapshot.entries.length;
  const remaining = snapshot.entries.length - end;
  const asOf = snapshot.asOfMs === undefined ? call : { ...call, asOfMs: snapshot.asOfMs };
  sendList(asOf, {
    entries: start === 0 && remaining === 0 ? snapshot.entries : snapshot.entries.slice(start, end),
    revision: snapshot.revision,
    ...(remaining > 0 && { continueToken: suspend(snapshot, end), ...(!selects(call) && { remaining }) }),
  });
}

const selects = ({ query }: Call): boolean => Boolean(query.get('labelSelector') || query.get('fieldSelector'));

function scopeOf({ definition, target, query }: Call): string {
  const { group, resource } = definition;
  return JSON.stringify([group, resource, target.namespace, query.get('labelSelector'), query.get('fieldSelector')]);
}

/** https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list */
function checkRevisionMatch({ query }: Call, token: string | null): void {
  const match = query.get('resourceVersionMatch') ?? '';
  const revision = query.get('resourceVersion') ?? '';
  const forbid = (message: string) =>
    invalidOption('ListOptions', {
      reason: 'FieldValueForbidden',
      field: 'resourceVersionMatch',
      message: `Forbidden: ${message}`,
    });
  if (token && revision !== '' && revision !== '0')
    throw badRequest('specifying resource version is not allowed when using continue');
  if (match === '') return;
  if (match !== 'Exact' && match !== 'NotOlderThan')
    throw invalidOption('ListOptions', {
      reason: 'FieldValueNotSupported',
      field: 'resourceVersionMatch',
      message: `Unsupported value: ${JSON.stringify(match)}: supported values: "Exact", "NotOlderThan"`,
    });
  if (token) throw forbid('resourceVersionMatch is forbidden when continue is provided');
  if (revision === '') throw forbid('resourceVersionMatch is forbidden unless resourceVersion is provided');
  if (match === 'Exact' && revision === '0')
    throw forbid('resourceVersionMatch "exact" is forbidden for resourceVersion "0"');
}

async function take(call: Call): Promise<Snapshot> {
  const { definition, services, query } = call;
  const filter = entryFilter(call);
  const expiresAt = Date.now() + SNAPSHOT_LIFE_MS;
  const moment = await momentOf(call);
  if (moment) {
    const { revision, timeMs: asOfMs } = moment;
    const entries = (await services.past?.entriesAt(definition, revision, call.target.namespace)) ?? [];
    return { scope: scopeOf(call), revision, entries: filter ? entries.filter(filter) : entries, asOfMs, expiresAt };
  }
  if (query.get('resourceVersionMatch') === 'Exact') {
    const past = await entriesAt(call, parseRevision(query.get('resourceVersion') ?? ''));
    const { revision, entries } = { ...past, entries: presentAll(definition, past.entries) };
    return { scope: scopeOf(call), revision, entries: filter ? entries.filter(filter) : entries, expiresAt };
  }
  await readAtLeast(call, query.get('resourceVersion'));
  const entries = presentAll(definition, services.store.cache(definition).list());
  return {
    scope: scopeOf(call),
    revision: services.store.stream(definition).position,
    entries: filter ? entries.filter(filter) : entries,
    expiresAt,
  };
}

/** Every object of the call's resource as it stood at a past revision. In the middle of a transaction nothing ever stood: then it is the end of it. */
async function entriesAt(call: Call, asked: number): Promise<Pick<Snapshot, 'revision' | 'entries'>> {
  const { definition, services } = call;
  await readAtLeast(call, String(asked));
  if (services.store.stream(definition).position === asked)
    return { revision: asked, entries: services.store.cache(definition).list() };
  if (!services.past || definition.storage !== 'log') throw tooOld(asked);
  const revision = await services.past.momentAt(asked);
  return { revision, entries: await services.past.entriesAt(definition, revision) };
}

function suspend(snapshot: Snapshot, start: number): string {
  const now = Date.now();
  for (const [id, { expiresAt }] of snapshots) if (expiresAt < now) snapshots.delete(id);
  if (snapshots.size >= MAX_SNAPSHOTS) snapshots.delete(snapshots.keys().next().value as string);
  const id = randomUUID();
  snapshots.set(id, snapshot);
  return Buffer.from(JSON.stringify({ id, start })).toString('base64url');
}

function resume(token: string, scope: string): { snapshot: Snapshot; start: number } {
  let read: { id?: unknown; start?: unknown };
  try {
    read = JSON.parse(Buffer.from(token, 'base64url').toString()) as typeof read;
  } catch (cause) {
    throw badRequest('continue key is not valid: expected the token of an earlier page', { cause });
  }
  const snapshot = snapshots.get(String(read.id));
  if (!snapshot || typeof read.start !== 'number') {
    throw expired(
      'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.',
    );
  }
  if (snapshot.scope !== scope)
    throw badRequest('continue key is not valid: it belongs to a list of something else, or with other selectors');
  return { snapshot, start: read.start };
}
