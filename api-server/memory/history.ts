/**
 * The history of one object, version by version, and the difference between two moments of it. Asked for under `/apis/log.reckon.dev/v1/…/history/…` and `…/diff/…`; see `questions.ts`.
 */
import type { Call } from '../call.ts';
import { keyOf } from '../call.ts';
import { badRequest, expired, notFound, unavailable } from '../errors.ts';
import { sendJson } from '../respond.ts';
import { decode } from '../store/entry.ts';
import type { OpenVersion, Past } from '../store/past.ts';
import { changesBetween, FIELDS, type FieldChange, type Fields } from './field-changes.ts';
import { standpoint } from './moment.ts';

export const MEMORY_API_VERSION = 'log.reckon.dev/v1';

const DEFAULT_PAGE = 50;
const MAX_HISTORY_PAGE = 200;

/** One version, without the object: who, when, in answer to what, and what it changed. */
export interface VersionSummary {
  readonly revision: number;
  readonly time: string;
  readonly actor: string;
  readonly verb: string;
  readonly plane: string;
  readonly uid: string;
  /** The object came to be with it. */
  readonly first?: true;
  readonly requestId: string;
  readonly causes: readonly number[];
  /** In the words of the actor. */
  readonly because?: string;
  /** What it was made from, such as a file and its digest. */
  readonly source?: string;
  readonly transaction?: { readonly id: string; readonly place: number; readonly count: number };
  /** From the version before it; none for the first of a life. */
  readonly changes: readonly FieldChange[];
  /** How many more the `fields` that were asked for leave out. */
  readonly hidden: number;
}

export function summaryOf(version: OpenVersion, previous: OpenVersion | undefined, fields: Fields): VersionSummary {
  const { sequence, time, actor, verb, plane, uid, requestId, causes, reason, transaction } = version;
  const known = previous?.uid === uid;
  const { changes, hidden } = known
    ? changesBetween(previous.object, version.object, fields)
    : { changes: [], hidden: 0 };
  const told = { revision: sequence, time, actor, verb, plane, uid, requestId, causes, ...reason };
  return { ...told, ...(!known && { first: true as const }), ...(transaction && { transaction }), changes, hidden };
}

/** The past, of a kind that has one. Throws 503 and 410. */
export function pastOf({ services, definition }: Pick<Call, 'services' | 'definition'>): Past {
  if (!services.past) throw unavailable('this API server runs without a database, and so without the past');
  if (definition.storage !== 'log') throw expired(`${definition.resource} are not kept in the history`);
  return services.past;
}

export async function history(call: Call): Promise<void> {
  const past = pastOf(call);
  const { definition, target, services } = call;
  const fields = fieldsOf(call);
  const limit = wholeNumber(call, 'limit', DEFAULT_PAGE, MAX_HISTORY_PAGE);
  const before = wholeNumber(call, 'continue', Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  await services.store.current(definition);
  await past.momentAt(services.store.stream(definition).position);
  const versions = await past.versions(keyOf(call), { before, limit: limit + 1 });
  if (versions.length === 0 && !call.query.has('continue')) throw notFound(definition, target.name);
  const items = versions.slice(0, limit).map((version, index) => summaryOf(version, versions[index + 1], fields));
  const last = versions.length > limit ? items.at(-1) : undefined;
  sendJson(call, 200, {
    kind: 'History',
    apiVersion: MEMORY_API_VERSION,
    metadata: last ? { continue: String(last.revision) } : {},
    object: objectOf(call),
    items,
  });
}

export async function diff(call: Call): Promise<void> {
  const past = pastOf(call);
  const { definition, query, target } = call;
  const wanted = query.get('from');
  if (wanted === null) throw badRequest('from: Required value: the moment to compare with, such as 2h or a revision');
  const fields = fieldsOf(call);
  const [from, to] = [await standpoint(call, wanted, 'from'), await standpoint(call, query.get('to') ?? 'now', 'to')];
  const [before, after] = await Promise.all([
    past.entryAt(definition, keyOf(call), from.revision),
    past.entryAt(definition, keyOf(call), to.revision),
  ]);
  if (!before && !after) throw notFound(definition, target.name);
  const side = (entry: typeof before, revision: number) => ({
    revision,
    exists: entry !== undefined,
    ...(entry && { resourceVersion: String(entry.sequence) }),
  });
  sendJson(call, 200, {
    kind: 'Diff',
    apiVersion: MEMORY_API_VERSION,
    object: objectOf(call),
    from: side(before, from.revision),
    to: side(after, to.revision),
    ...changesBetween(before && decode(before), after && decode(after), fields),
  });
}

export const objectOf = ({ definition, target }: Pick<Call, 'definition' | 'target'>) => ({
  group: definition.group,
  resource: definition.resource,
  kind: definition.kind,
  ...(definition.namespaced && { namespace: target.namespace }),
  name: target.name,
});

export function fieldsOf({ query }: Pick<Call, 'query'>): Fields {
  const given = query.get('fields') ?? 'wanted';
  const fields = FIELDS.find((each) => each === given);
  if (!fields)
    throw badRequest(`fields: Invalid value: ${JSON.stringify(given)}: expected one of ${FIELDS.join(', ')}`);
  return fields;
}

function wholeNumber({ query }: Call, parameter: string, absent: number, max: number): number {
  const given = query.get(parameter);
  if (given === null || given === '') return absent;
  if (!/^\d{1,15}$/.test(given) || Number(given) < 1)
    throw badRequest(`${parameter}: Invalid value: ${JSON.stringify(given)}: expected a whole number from 1`);
  return Math.min(Number(given), max);
}
