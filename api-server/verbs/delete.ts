/**
 * DELETE of one object or of a collection. What has finalizers, or a grace period to spend, is marked and stays until they are gone; everything else ends at once, with a tombstone that
 * carries the final object.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import { GuardError } from '../../event-log/event-log.ts';
import { pruneUnknown } from '../admission/prune.ts';
import { readValue } from '../body.ts';
import { isDryRun, keyOf, provenance, type Call } from '../call.ts';
import { presentAll } from '../custom-resources/presentation.ts';
import { badRequest, conflict, notFound, staleWrite, StatusError, success } from '../errors.ts';
import { isTrue } from '../request.ts';
import { checkDryRun, notSupported, refused } from '../request-options.ts';
import { sendJson, sendList, sendWritten, writtenAllTheSame } from '../respond.ts';
import { decode, entryId, type Entry } from '../store/entry.ts';
import type { Change } from '../store/object-store.ts';
import { readAtLeast } from './get.ts';
import { entryFilter, selects } from './list.ts';
import { isFinished, timestamp } from './write.ts';

/** meta/v1 DeleteOptions, from the body or the query. */
export interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: string;
  readonly orphanDependents?: boolean;
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
  readonly dryRun?: readonly string[];
}

/** An object may change so often while it is being deleted; status reports of a busy agent are the usual reason. */
const MAX_DELETE_RETRIES = 20;
const OPTIONS_KIND = 'DeleteOptions';
const POLICIES = ['Background', 'Foreground', 'Orphan'];
export const FOREGROUND_FINALIZER = 'foregroundDeletion';
export const ORPHAN_FINALIZER = 'orphan';

async function readOptions(call: Call): Promise<DeleteOptions> {
  const hasBody =
    Number(call.request.headers['content-length'] ?? 0) > 0 || call.request.headers['transfer-encoding'] !== undefined;
  const body = hasBody ? await readValue(call) : {};
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw badRequest('the body of a delete must be a DeleteOptions object');
  const { kind = OPTIONS_KIND } = body as { kind?: unknown };
  if (kind !== OPTIONS_KIND)
    throw badRequest(`the body of a delete must be a ${OPTIONS_KIND} object, got ${JSON.stringify(kind)}`);
  const schema = call.services.registry.type('io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions');
  const { mistyped } = schema ? pruneUnknown(body, schema) : { mistyped: [] };
  if (mistyped.length > 0)
    throw badRequest(`DeleteOptions in version "v1" cannot be handled as a DeleteOptions: ${mistyped.join(', ')}`);
  const options = { ...(body as DeleteOptions) } as { -readonly [K in keyof DeleteOptions]: DeleteOptions[K] };
  const grace = call.query.get('gracePeriodSeconds');
  if (grace !== null) options.gracePeriodSeconds = Number(grace);
  // Less than none is the least there is.
  if (typeof options.gracePeriodSeconds === 'number' && options.gracePeriodSeconds < 0) options.gracePeriodSeconds = 1;
  const policy = call.query.get('propagationPolicy');
  if (policy !== null) options.propagationPolicy = policy;
  if (call.query.has('orphanDependents')) options.orphanDependents = isTrue(call.query.get('orphanDependents'));
  checkDeleteOptions(call, options);
  return options;
}

/** Throws Invalid for what a deletion cannot be asked to do. */
export function checkDeleteOptions(call: Pick<Call, 'target'>, options: DeleteOptions): void {
  const dryRun: unknown = options.dryRun ?? [];
  for (const value of Array.isArray(dryRun) ? dryRun : [dryRun]) checkDryRun(call, value);
  const { gracePeriodSeconds, propagationPolicy, orphanDependents } = options;
  if (gracePeriodSeconds !== undefined && (!Number.isSafeInteger(gracePeriodSeconds) || gracePeriodSeconds < 0))
    throw refused(
      call,
      'gracePeriodSeconds',
      'FieldValueInvalid',
      `Invalid value: ${JSON.stringify(gracePeriodSeconds)}: expected whole seconds, 0 or more`,
    );
  if (propagationPolicy && !POLICIES.includes(propagationPolicy))
    throw notSupported(call, 'propagationPolicy', propagationPolicy, POLICIES);
  if (propagationPolicy && orphanDependents !== undefined)
    throw refused(
      call,
      'propagationPolicy',
      'FieldValueInvalid',
      `Invalid value: ${JSON.stringify(propagationPolicy)}: orphanDependents and deletionPropagation cannot be both set`,
    );
}

/** The kinds whose deletion answers with the object that is gone, as in Kubernetes; all others answer with a Status. */
const ANSWERED_WITH_OBJECT: ReadonlySet<string> = new Set([
  'persistentvolumeclaims',
  'persistentvolumes',
  'pods',
  'podtemplates',
  'resourcequotas',
  'serviceaccounts',
  'services',
]);

export async function deleteOne(call: Call): Promise<void> {
  const options = await readOptions(call);
  const { definition, response } = call;
  const { entry, gone } = await deleteNewest(call, options);
  if (!gone || (definition.group === '' && ANSWERED_WITH_OBJECT.has(definition.resource))) {
    const waits = !gone && (options.propagationPolicy === 'Foreground' || options.orphanDependents === false);
    return sendWritten(call, entry, waits ? 202 : 200);
  }
  response.setHeader('Reckon-Revision', entry.sequence);
  const { group, resource: kind } = definition;
  sendJson(call, 200, success({ name: entry.key.name, ...(group && { group }), kind, uid: entry.uid }));
}

/** A precondition counts as failed only on an object that is known to be the newest. */
export async function deleteNewest(call: Call, options: DeleteOptions): Promise<{ entry: Entry; gone: boolean }> {
  const { definition, services } = call;
  const cache = services.store.cache(definition);
  const id = entryId(keyOf(call));
  let verified = !cache.get(id);
  if (verified) await services.store.current(definition);
  for (let attempt = 0; ; attempt++) {
    const entry = cache.get(id);
    if (!entry) throw notFound(definition, call.target.name);
    try {
      return await deleteEntry(call, entry, options);
    } catch (error) {
      const doubtful = error instanceof StatusError && !verified;
      if (!doubtful && !(error instanceof GuardError)) throw error;
      if (attempt >= MAX_DELETE_RETRIES) throw staleWrite(definition, call.target.name);
      await services.store.current(definition);
      verified = true;
    }
  }
}

export async function deleteCollection(call: Call): Promise<void> {
  const options = await readOptions(call);
  const { definition, services } = call;
  await readAtLeast(call, null);
  const entries = await selected(call, services.store.cache(definition).list());
  const deleted = await Promise.all(entries.map((entry) => deleteLatest(call, entry, options)));
  const page = { entries: deleted, revision: services.store.stream(definition).position };
  await sendList(call, page).catch((error: unknown) => Promise.reject(writtenAllTheSame(error)));
}

/** As they are stored. Objects of a custom kind are selected by how they read; without selectors that need not be known, and no webhook has to be there for them to be deleted. */
async function selected(call: Call, entries: readonly Entry[]): Promise<readonly Entry[]> {
  const filter = entryFilter(call);
  if (!filter) return entries;
  const read = selects(call) ? await presentAll(call.definition, entries) : entries;
  return read.filter(filter).map((entry) => entry.stored ?? entry);
}

/** An object of a collection may change while the collection is deleted; it is deleted all the same. */
async function deleteLatest(call: Call, first: Entry, options: DeleteOptions): Promise<Entry> {
  const { definition, services } = call;
  let entry = first;
  for (let attempt = 0; ; attempt++) {
    try {
      return (await deleteEntry(call, entry, options)).entry;
    } catch (error) {
      if (!(error instanceof GuardError)) throw error;
      await services.store.current(definition);
      const latest = services.store.cache(definition).get(entryId(entry.key));
      if (!latest || latest.uid !== entry.uid) return entry;
      if (attempt >= MAX_DELETE_RETRIES) throw staleWrite(definition, entry.key.name);
      entry = latest;
    }
  }
}

/** Marks or ends one object. Rejects with GuardError when it has moved on. */
async function deleteEntry(call: Call, entry: Entry, options: DeleteOptions): Promise<{ entry: Entry; gone: boolean }> {
  const { change, gone } = deletionOf(call, entry, options);
  if (!change || isDryRun(call) || options.dryRun?.includes('All')) return { entry, gone };
  return { entry: await call.services.store.append(change), gone };
}

/**
 * The record that deletes the object: its tombstone, or the mark of a deletion that waits for grace or finalizers. No change where it is marked already. Throws what stands against it. `amend` says what the object's
 * last status is to tell.
 */
export function deletionOf(
  call: Call,
  entry: Entry,
  options: DeleteOptions,
  amend: (object: ApiObject) => void = () => undefined,
): { change: Change | undefined; gone: boolean } {
  const { definition, services } = call;
  checkPreconditions(call, entry, options);
  const object = decode(entry);
  const kind = services.kinds.of(definition);
  kind.refuseDelete?.(object, call);
  const before = JSON.stringify(object);
  amend(object);
  mark(object, {
    graceSeconds: kind.gracePeriodSeconds?.(object, options.gracePeriodSeconds) ?? 0,
    policy: policyOf(options),
    hasGeneration: definition.hasGeneration,
  });
  kind.prepareDelete?.(object);
  const gone = isFinished(object, kind.finalizers?.(object));
  if (!gone && JSON.stringify(object) === before) return { change: undefined, gone };
  const change = {
    definition,
    key: entry.key,
    verb: gone ? 'delete' : 'update',
    plane: 'desired',
    guard: entry.sequence,
    object,
    ...provenance(call),
  } as const;
  return { change, gone };
}

function checkPreconditions(call: Call, entry: Entry, { preconditions }: DeleteOptions): void {
  const { name } = entry.key;
  if (preconditions?.uid && preconditions.uid !== entry.uid) {
    throw conflict(
      call.definition,
      name,
      `Precondition failed: UID in precondition: ${preconditions.uid}, UID in object meta: ${entry.uid}`,
    );
  }
  if (preconditions?.resourceVersion && preconditions.resourceVersion !== String(entry.sequence)) {
    throw conflict(
      call.definition,
      name,
      `Precondition failed: ResourceVersion in precondition: ${preconditions.resourceVersion}, ResourceVersion in object meta: ${entry.sequence}`,
    );
  }
}

function policyOf({ propagationPolicy, orphanDependents }: DeleteOptions): string | undefined {
  if (orphanDependents !== undefined) return orphanDependents ? 'Orphan' : 'Background';
  return propagationPolicy;
}

/** Sets what a deletion sets; a second deletion may shorten the grace, never lengthen it. */
function mark(
  object: ApiObject,
  options: { graceSeconds: number; policy: string | undefined; hasGeneration: boolean },
): void {
  const { metadata } = object;
  const { graceSeconds, policy, hasGeneration } = options;
  const finalizers = new Set(metadata.finalizers ?? []);
  if (policy !== undefined) {
    finalizers.delete(FOREGROUND_FINALIZER);
    finalizers.delete(ORPHAN_FINALIZER);
    if (policy === 'Foreground') finalizers.add(FOREGROUND_FINALIZER);
    if (policy === 'Orphan') finalizers.add(ORPHAN_FINALIZER);
  }
  if (finalizers.size > 0) metadata.finalizers = [...finalizers];
  else delete metadata.finalizers;
  if (metadata.deletionTimestamp !== undefined && graceSeconds >= (metadata.deletionGracePeriodSeconds ?? 0)) return;
  if (metadata.deletionTimestamp === undefined && hasGeneration) metadata.generation = (metadata.generation ?? 0) + 1;
  metadata.deletionTimestamp = timestamp(Date.now() + graceSeconds * 1000);
  metadata.deletionGracePeriodSeconds = graceSeconds;
}
