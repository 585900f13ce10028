/**
 * GET of one object: as new as the log itself unless the client says which version will do.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
 */
import { keyOf, type Call } from '../call.ts';
import { present } from '../custom-resources/presentation.ts';
import { badRequest, futureRevision, notFound } from '../errors.ts';
import { standpoint, type Standpoint } from '../memory/moment.ts';
import { sendEntry } from '../respond.ts';
import { entryId, type Entry } from '../store/entry.ts';

export async function get(call: Call): Promise<void> {
  const { entry, asOfMs } = await findAsked(call);
  await sendEntry(asOfMs === undefined ? call : { ...call, asOfMs }, entry);
}

/** The object the call names, at the moment of `?at=` if there is one, else as `find` has it. Throws NotFound. */
export async function findAsked(call: Call): Promise<{ entry: Entry; asOfMs?: number }> {
  const moment = await momentOf(call);
  if (!moment) return { entry: await find(call) };
  return { entry: await findAt(call, moment.revision), asOfMs: moment.timeMs };
}

/** Where a read with `?at=` stands; the answer says so in its `Reckon-Revision` header. Undefined for a read of the present. */
export async function momentOf(call: Call): Promise<Standpoint | undefined> {
  const at = call.query.get('at');
  if (at === null) return undefined;
  for (const other of ['resourceVersion', 'resourceVersionMatch'])
    if (call.query.get(other)) throw badRequest(`at: cannot be given together with ${other}`);
  const moment = await standpoint(call, at, 'at');
  call.response.setHeader('Reckon-Revision', String(moment.revision));
  return moment;
}

/** The object as it stood at a past revision. Throws NotFound where it was not alive. */
async function findAt(call: Call, revision: number): Promise<Entry> {
  const { definition, services, target } = call;
  const entry = await services.past?.entryAt(definition, keyOf(call), revision);
  if (!entry) throw notFound(definition, target.name);
  return entry;
}

/** The object the call names, read by the call's `resourceVersion`. Throws NotFound. */
export async function find(call: Call): Promise<Entry> {
  const { definition, services, target } = call;
  await readAtLeast(call, call.query.get('resourceVersion'));
  const entry = services.store.cache(definition).get(entryId(keyOf(call)));
  if (!entry) throw notFound(definition, target.name);
  return present(definition, entry);
}

/** Unset: everything acknowledged so far. `0`: whatever is at hand. N: N or newer. */
export async function readAtLeast(
  call: Pick<Call, 'definition' | 'services'>,
  resourceVersion: string | null,
): Promise<void> {
  const { definition, services } = call;
  if (resourceVersion === null || resourceVersion === '') return services.store.current(definition);
  const wanted = parseRevision(resourceVersion);
  const stream = services.store.stream(definition);
  if (wanted > stream.position) await notInTheFuture(call, wanted);
  await stream.reached(wanted);
}

/** A revision that the log does not have yet can be waited for; one far beyond it is no revision of this log. https://kubernetes.io/docs/reference/using-api/api-concepts/#unavailable-resource-versions */
async function notInTheFuture(call: Pick<Call, 'definition' | 'services'>, wanted: number): Promise<void> {
  const stream = call.services.store.stream(call.definition);
  await call.services.store.current(call.definition);
  if (wanted > stream.position) throw futureRevision(wanted, stream.position);
}

export function parseRevision(value: string): number {
  if (!/^\d{1,15}$/.test(value))
    throw badRequest(
      `resourceVersion: Invalid value: ${JSON.stringify(value)}: expected a decimal revision as the server hands them out`,
    );
  return Number(value);
}
