/**
 * What every write has in common: turning a proposed object into the record that is appended. Create, update, patch, delete and the subresources prepare a proposal; here it is defaulted,
 * checked, given its metadata and field ownership, and appended under the guard it was computed on.
 */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import { timestamp as timestampOf } from '../../api-schemas/timestamps.ts';
import type { GuardError, Plane, Verb } from '../../event-log/event-log.ts';
import { applyDefaults } from '../admission/defaults.ts';
import { validate } from '../admission/validate.ts';
import { isDryRun, keyOf, managerOf, provenance, spokenIn, type Call } from '../call.ts';
import { conversionOf } from '../conversion/conversions.ts';
import { asStored, otherVersions } from '../custom-resources/versions.ts';
import { conflict, invalid, staleWrite } from '../errors.ts';
import type { FieldSet } from '../patch/field-set.ts';
import { changesElsewhere, fieldsNamed, sameButForTimes, trackUpdate } from '../patch/managed-fields.ts';
import { charges, inTurn, isResourceQuota } from '../policy/resource-quotas.ts';
import { isAllocationLock } from '../store/allocation.ts';
import { decode, makeEntry, type Entry } from '../store/entry.ts';
import type { Kind } from '../strategy/kinds.ts';

/** How often a write that computes its object from the stored one is computed again when it was overtaken. */
const MAX_RETRIES = 10;
/** And when only something that many writes share was: the allocation of a number, a quota. */
const MAX_SHARED_RETRIES = 100;

export const mayTryAgain = (error: GuardError, attempt: number): boolean =>
  attempt < (isAllocationLock(error.key) || isResourceQuota(error.key) ? MAX_SHARED_RETRIES : MAX_RETRIES);

/** The present as API objects hold it: RFC 3339 in whole seconds. */
export const timestamp = (ms = Date.now()): string => timestampOf(ms);

/** Server-side apply has computed the field ownership itself; everything else is tracked by comparing. */
export interface WriteOptions {
  readonly verb: Verb;
  readonly managedFields?: readonly unknown[];
  readonly subresource?: string;
}

function check(call: Call, object: ApiObject, old: ApiObject | undefined, { subresource }: WriteOptions): void {
  const faults = validate(object, old, call.definition, isOfStatus(subresource) ? { subresource: 'status' } : {});
  if (old) faults.push(...(conversionOf(spokenIn(call))?.changeFaults?.(object, old) ?? []));
  if (faults.length > 0)
    throw invalid(call.definition, object.metadata.name || object.metadata.generateName || '', faults);
}

/** Subresources by which the status is written and nothing else. */
export const isOfStatus = (subresource: string | undefined): boolean =>
  subresource === 'status' || subresource === 'approval';

const STATUS = fieldsNamed([['status']]);
const WANTED = fieldsNamed([['spec'], ['metadata']]);
const NOTHING = fieldsNamed([]);

/** What the endpoint does not let its callers change, and so not own: the status, or on the status subresource everything that is wanted. */
export function resetFieldsOf({ subresources }: ResourceDefinition, subresource: string | undefined): FieldSet {
  if (isOfStatus(subresource)) return WANTED;
  return subresources.some(({ name }) => name === 'status') ? STATUS : NOTHING;
}

async function ownership(
  call: Call,
  before: ApiObject | undefined,
  after: ApiObject,
  options: WriteOptions,
): Promise<unknown[]> {
  if (options.managedFields) return [...options.managedFields];
  const { definition } = call;
  const versions = otherVersions(definition);
  const elsewhere = versions && before && (await changesElsewhere(before, after, versions));
  return trackUpdate({
    ...(elsewhere && { elsewhere }),
    before,
    after,
    manager: managerOf(call),
    ...(options.subresource && { subresource: options.subresource }),
    time: timestamp(),
    schema: definition.schema,
    resetFields: resetFieldsOf(definition, options.subresource),
  });
}

function own(object: ApiObject, managedFields: unknown[]): void {
  if (managedFields.length > 0) object.metadata.managedFields = managedFields;
  else delete object.metadata.managedFields;
}

/** Completes a new object and appends it. Rejects with GuardError when something by this name has come to be meanwhile. */
export async function writeNew(
  call: Call,
  proposed: ApiObject,
  options: WriteOptions & { guard: number },
): Promise<Entry> {
  const { definition, services } = call;
  const object = proposed;
  const { metadata } = object;
  if (definition.namespaced) metadata.namespace = call.target.namespace;
  else delete metadata.namespace;
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata['selfLink'];
  delete metadata.resourceVersion;
  if (hasStatus(call)) delete object['status'];
  const kind = services.kinds.of(definition);
  return inTurn(call, () => alone(kind, () => completeNew(call, kind, object, options)));
}

/** Writes of a kind whose objects claim numbers go one by one, or they would refuse each other. */
function alone<T>(kind: Kind, write: () => Promise<T>): Promise<T> {
  return kind.claims ? kind.claims.queue.run(write) : write();
}

/** What an object claims that it did not before: its allocation must be the only one since it was looked for. */
function newClaims(kind: Kind, object: ApiObject, old: ApiObject | undefined): boolean {
  const before = new Set(old && kind.claims?.of(old));
  return kind.claims?.of(object).some((claim) => !before.has(claim)) ?? false;
}

async function completeNew(
  call: Call,
  kind: Kind,
  object: ApiObject,
  options: WriteOptions & { guard: number },
): Promise<Entry> {
  const { definition, services } = call;
  const { metadata } = object;
  kind.beforeDefaults?.(object, undefined);
  applyDefaults(object, definition.schema);
  delete metadata.generation;
  if (definition.hasGeneration) metadata.generation = 1;
  metadata.uid = randomUUID();
  metadata.creationTimestamp = timestamp();
  await kind.prepareCreate?.(object, call);
  check(call, object, undefined, options);
  await kind.admit?.(object, undefined, call);
  const alongside = await charges(call, object, undefined);
  own(object, await ownership(call, undefined, object, options));
  const key = keyOf(call, metadata.name);
  if (isDryRun(call)) return unstored(call, object, 0);
  return services.store.append({
    definition,
    key,
    verb: options.verb,
    plane: 'desired',
    guard: options.guard,
    object: await asStored(definition, object),
    allocates: newClaims(kind, object, undefined),
    alongside,
    ...provenance(call),
  });
}

const hasStatus = (call: Call): boolean => call.definition.subresources.some(({ name }) => name === 'status');

/** An answer for what was not, or need not be, appended. */
function unstored(call: Call, object: ApiObject, sequence: number): Entry {
  const entry = makeEntry({
    key: keyOf(call, object.metadata.name),
    sequence,
    object,
    selectableFields: call.definition.selectableFields,
  });
  if (sequence > 0) return entry;
  delete object.metadata.resourceVersion;
  return { ...entry, bytes: Buffer.from(JSON.stringify(object)) };
}

/** The metadata that no client may change: taken over from what is stored. */
function keepSystemMetadata(object: ApiObject, old: ApiObject): void {
  const { metadata } = object;
  for (const field of [
    'uid',
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'generation',
    'generateName',
  ] as const) {
    const value = old.metadata[field];
    if (value === undefined) delete metadata[field];
    else (metadata as Record<string, unknown>)[field] = value;
  }
  if (old.metadata.namespace) metadata.namespace = old.metadata.namespace;
  delete metadata['selfLink'];
}

/**
 * Completes a change to a stored object and appends it, unless it changes nothing. `proposed` may name a resourceVersion or a uid, which must then be the stored one. Rejects with GuardError
 * when the object has moved on since `entry`.
 */
export async function writeChange(
  call: Call,
  entry: Entry,
  proposed: ApiObject,
  options: WriteOptions,
): Promise<Entry> {
  const kind = call.services.kinds.of(call.definition);
  return alone(kind, () => completeChange(call, entry, proposed, options));
}

async function completeChange(call: Call, entry: Entry, proposed: ApiObject, options: WriteOptions): Promise<Entry> {
  const { definition, services } = call;
  const old = decode(entry);
  // What has come to have a default since it was written is no change of this write.
  if (!definition.custom) applyDefaults(old, definition.schema);
  const object = proposed;
  checkPreconditions(call, entry, object);
  keepSystemMetadata(object, old);
  if (isOfStatus(options.subresource)) keepAllButStatus(object, old, definition);
  else if (hasStatus(call) && !options.subresource) setOrDelete(object, 'status', old['status']);
  const kind = services.kinds.of(definition);
  kind.beforeDefaults?.(object, old);
  applyDefaults(object, definition.schema);
  await kind.prepareUpdate?.(object, old, call);
  if (definition.hasGeneration && contentChanged(object, old, hasStatus(call)))
    object.metadata.generation = (old.metadata.generation ?? 0) + 1;
  check(call, object, old, options);
  own(object, await ownership(call, old, object, options));
  object.metadata.resourceVersion = String(entry.sequence);
  if (unchanged(object, old) && isStoredAsWanted(definition, entry)) return entry;
  await kind.admit?.(object, old, call);
  const alongside = await charges(call, object, old);
  if (isDryRun(call)) return unstored(call, object, entry.sequence);
  const finished = isFinished(object, kind.finalizers?.(object));
  return services.store.append({
    definition,
    key: entry.key,
    verb: finished ? 'delete' : options.verb,
    plane: finished ? 'desired' : planeOf(object, old),
    guard: entry.sequence,
    object: await asStored(definition, object),
    allocates: newClaims(kind, object, old),
    alongside,
    ...provenance(call),
  });
}

function checkPreconditions(call: Call, entry: Entry, object: ApiObject): void {
  const { uid, resourceVersion } = object.metadata;
  if (uid && uid !== entry.uid) {
    throw conflict(
      call.definition,
      entry.key.name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${entry.uid}`,
    );
  }
  if (resourceVersion && resourceVersion !== '0' && resourceVersion !== String(entry.sequence))
    throw staleWrite(call.definition, entry.key.name);
}

function setOrDelete(object: ApiObject, field: string, value: unknown): void {
  if (value === undefined) delete object[field];
  else object[field] = value;
}

/** A write to the status subresource changes the status, and of a built-in kind the annotations, where it has any. */
function keepAllButStatus(object: ApiObject, old: ApiObject, { custom }: ResourceDefinition): void {
  for (const field of new Set([...Object.keys(object), ...Object.keys(old)])) {
    if (field !== 'status' && field !== 'metadata') setOrDelete(object, field, structuredClone(old[field]));
  }
  const { managedFields, annotations } = object.metadata;
  object.metadata = structuredClone(old.metadata);
  if (managedFields) object.metadata.managedFields = managedFields;
  if (annotations && !custom) object.metadata.annotations = annotations;
}

const withoutBookkeeping = (object: ApiObject): Record<string, unknown> => {
  const { managedFields: _, resourceVersion: __, generation: ___, ...metadata } = object.metadata;
  return { ...object, metadata };
};

/** Anything but metadata and status: what `metadata.generation` counts. A status that has no subresource of its own is content like any other. */
function contentChanged(object: ApiObject, old: ApiObject, hasStatus: boolean): boolean {
  const content = ({ metadata: _, ...rest }: ApiObject): Record<string, unknown> => {
    if (hasStatus) delete rest['status'];
    return rest;
  };
  return !isDeepStrictEqual(content(object), content(old));
}

/** Otherwise a write that changes nothing brings the object into the version that is stored now. */
const isStoredAsWanted = ({ group, custom }: ResourceDefinition, { stored, apiVersion }: Entry): boolean =>
  !custom || (stored?.apiVersion ?? apiVersion) === `${group}/${custom.storageVersion}`;

function planeOf(object: ApiObject, old: ApiObject): Plane {
  const { status: _, ...wanted } = withoutBookkeeping(object);
  const { status: __, ...oldWanted } = withoutBookkeeping(old);
  return isDeepStrictEqual(wanted, oldWanted) ? 'observed' : 'desired';
}

/** Field ownership counts as a change only where owners or fields differ, not the time of it. */
function unchanged(object: ApiObject, old: ApiObject): boolean {
  return (
    isDeepStrictEqual(withoutBookkeeping(object), withoutBookkeeping(old)) &&
    sameButForTimes(object.metadata.managedFields, old.metadata.managedFields)
  );
}

/** Marked for deletion, its grace spent, and nobody holds it any longer. */
export function isFinished(object: ApiObject, kindFinalizers: readonly string[] = []): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds, finalizers } = object.metadata;
  return (
    deletionTimestamp !== undefined &&
    (deletionGracePeriodSeconds ?? 0) === 0 &&
    (finalizers ?? []).length === 0 &&
    kindFinalizers.length === 0
  );
}
