/**
 * GET of a collection: one consistent revision, in pages if the client asks for pages. Every page of a list comes from the snapshot that its first page was taken from.
 */
import { createHash } from 'node:crypto';
import type { Call } from '../call.ts';
import { presentAll } from '../custom-resources/presentation.ts';
import { badRequest, invalidOption } from '../errors.ts';
import { sendList } from '../respond.ts';
import { fieldOf, type Entry } from '../store/entry.ts';
import { tooOld } from '../store/past.ts';
import { METADATA_FIELDS, parseFieldSelector, parseLabelSelector } from '../store/selectors.ts';
import { momentOf, parseRevision, readAtLeast } from './get.ts';
import { resume, SNAPSHOT_LIFE_MS, suspend, type Retake, type Snapshot } from './pages.ts';

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

/** The part of it that asks where an object stands and by what name: no conversion changes that, and what is elsewhere need not be converted, nor be convertible. */
export function placeFilter({
  query,
  target,
  definition,
}: Pick<Call, 'query' | 'target' | 'definition'>): EntryPredicate {
  const fields = parseFieldSelector(query.get('fieldSelector'), [...METADATA_FIELDS, ...definition.selectableFields]);
  const named = fields.filter(({ field }) => (METADATA_FIELDS as readonly string[]).includes(field));
  const namespace = definition.namespaced ? target.namespace : '';
  return (entry) =>
    (namespace === '' || entry.key.namespace === namespace) &&
    (target.name === '' || entry.key.name === target.name) &&
    named.every(({ field, value, negated }) => (fieldOf(entry, field) === value) !== negated);
}

export async function list(call: Call): Promise<void> {
  const { query } = call;
  const limit = Number(query.get('limit') ?? '0');
  if (!Number.isSafeInteger(limit))
    throw badRequest(`limit: Invalid value: ${JSON.stringify(query.get('limit'))}: expected a whole number of objects`);
  const token = query.get('continue');
  checkRevisionMatch(call, token);
  const { snapshot, start } = token
    ? await resume(call.services, { text: token, scope: scopeOf(call), retake: retakeOf(call) })
    : { snapshot: await take(call), start: 0 };
  if (snapshot.asOfMs !== undefined) call.response.setHeader('Reckon-Revision', String(snapshot.revision));
  const end = limit > 0 ? Math.min(start + limit, snapshot.entries.length) : snapshot.entries.length;
  const remaining = snapshot.entries.length - end;
  const asOf = snapshot.asOfMs === undefined ? call : { ...call, asOfMs: snapshot.asOfMs };
  await sendList(asOf, {
    entries: start === 0 && remaining === 0 ? snapshot.entries : snapshot.entries.slice(start, end),
    revision: snapshot.revision,
    ...(remaining > 0 && {
      continueToken: suspend(call.services, snapshot, end),
      ...(!selects(call) && { remaining }),
    }),
  });
}

/** The same list once more, for a server that did not keep it. */
function retakeOf(call: Call): Retake {
  const { definition, services, target } = call;
  const query = new URLSearchParams(call.query);
  for (const option of ['at', 'resourceVersion', 'resourceVersionMatch']) query.delete(option);
  return {
    async at({ revision, asOfMs }) {
      if (!services.past || definition.storage !== 'log') return undefined;
      await services.past.momentAt(revision);
      const stood = await services.past.entriesAt(definition, revision, target.namespace);
      const entries = asOfMs === undefined ? await presentAll(definition, there(call, stood)) : stood;
      const filter = entryFilter(call);
      return filter ? entries.filter(filter) : entries;
    },
    now: () => take({ ...call, query }),
  };
}

export const selects = ({ query }: Pick<Call, 'query'>): boolean =>
  Boolean(query.get('labelSelector') || query.get('fieldSelector'));

function scopeOf({ definition, target, query }: Call): string {
  const { group, resource } = definition;
  const scope = [group, resource, target.namespace, query.get('labelSelector'), query.get('fieldSelector')];
  // Selectors may be long, and the token that carries this stands in a URL beside them.
  return createHash('sha256').update(JSON.stringify(scope)).digest('base64url').slice(0, 22);
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
  if (query.has('sendInitialEvents'))
    throw invalidOption('ListOptions', {
      reason: 'FieldValueForbidden',
      field: 'sendInitialEvents',
      message: 'Forbidden: sendInitialEvents is forbidden for list',
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
    const entries = await presentAll(definition, there(call, past.entries));
    return {
      scope: scopeOf(call),
      revision: past.revision,
      entries: filter ? entries.filter(filter) : entries,
      expiresAt,
    };
  }
  await readAtLeast(call, query.get('resourceVersion'));
  // Both at one moment: a conversion may take a while.
  const revision = services.store.stream(definition).position;
  const entries = await presentAll(definition, there(call, services.store.cache(definition).list()));
  return {
    scope: scopeOf(call),
    revision,
    entries: filter ? entries.filter(filter) : entries,
    expiresAt,
  };
}

const there = (call: Call, entries: readonly Entry[]): readonly Entry[] =>
  call.definition.custom ? entries.filter(placeFilter(call)) : entries;

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
