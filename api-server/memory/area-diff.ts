/** What is different about a namespace, or the cluster, between two moments: which objects came, went and changed, and how. Asked for under `/apis/log.reckon.dev/v1/[namespaces/{ns}/]diff`; see `questions.ts`. */
import type { Call } from '../call.ts';
import { badRequest, tooLarge } from '../errors.ts';
import { sendJson } from '../respond.ts';
import type { OpenDifference } from '../store/past.ts';
import { changesBetween, type FieldChange, type Fields } from './field-changes.ts';
import { fieldsOf, MEMORY_API_VERSION, pastOf } from './history.ts';
import { mayRead } from './may-read.ts';
import { standpoint } from './moment.ts';

/** More objects than this are not compared at once. */
export const MAX_DIFFERENCES = 5_000;

/** `replaced`: deleted, and made again under its name. */
export type DifferenceState = 'created' | 'changed' | 'deleted' | 'replaced';

export interface ObjectDifference {
  readonly object: { group: string; resource: string; kind: string; namespace?: string; name: string };
  readonly state: DifferenceState;
  readonly changes: readonly FieldChange[];
  readonly hidden: number;
}

export async function areaDiff(call: Call): Promise<void> {
  const past = pastOf(call);
  const { query, target } = call;
  const wanted = query.get('from');
  if (wanted === null) throw badRequest('from: Required value: the moment to compare with, such as 2h or a revision');
  const fields = fieldsOf(call);
  const from = (await standpoint(call, wanted, 'from')).revision;
  const to = (await standpoint(call, query.get('to') ?? 'now', 'to')).revision;
  const [early, late] = [Math.min(from, to), Math.max(from, to)];
  const namespace = target.namespace === '' ? undefined : target.namespace;
  const found = await past.differences({ from: early, to: late, namespace, limit: MAX_DIFFERENCES + 1 });
  if (found.length > MAX_DIFFERENCES)
    throw tooLarge(
      `more than ${MAX_DIFFERENCES} objects differ; ask for one namespace, or for moments that lie closer`,
    );
  const kinds = new Set(call.services.registry.resources().map(({ group, resource }) => `${group}/${resource}`));
  const known = found
    .filter(({ key }) => kinds.has(`${key.group}/${key.resource}`) && mayRead(call, key))
    .map((each) => (from <= to ? each : turned(each)))
    .map((each) => ({ each, told: toldOf(each, fields) }));
  const items = known.map(({ told }) => told).filter(({ state, changes }) => state !== 'changed' || changes.length > 0);
  sendJson(call, 200, {
    kind: 'DiffList',
    apiVersion: MEMORY_API_VERSION,
    ...(namespace !== undefined && { namespace }),
    from: { revision: from },
    to: { revision: to },
    items,
    /** Objects of which only what `fields` leaves out differs. */
    hidden: known.length - items.length,
  });
}

const turned = ({ key, before, after }: OpenDifference): OpenDifference => ({
  key,
  ...(after && { before: after }),
  ...(before && { after: before }),
});

function toldOf({ key, before, after }: OpenDifference, fields: Fields): ObjectDifference {
  const { group, resource, namespace, name } = key;
  const kind = (after ?? before)?.object.kind ?? '';
  const object = { group, resource, kind, ...(namespace !== '' && { namespace }), name };
  const state = !before ? 'created' : !after ? 'deleted' : before.uid === after.uid ? 'changed' : 'replaced';
  const compared = before && after ? changesBetween(before.object, after.object, fields) : { changes: [], hidden: 0 };
  return { object, state, ...compared };
}
