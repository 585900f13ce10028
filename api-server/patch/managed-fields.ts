/**
 * `metadata.managedFields`: who set which field. Read and written here only; `trackUpdate` is called on every create, update and patch, apply.ts on
 * server-side apply. The rules are KEP 555's and those of Kubernetes' field manager
 * (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
 */
import type { ApiObject, Schema } from '../../api-schemas/schema.ts';
import { badRequest } from '../errors.ts';
import {
  difference,
  EMPTY,
  equalSets,
  fromFieldsV1,
  isEmpty,
  setOf,
  toFieldsV1,
  union,
  type FieldSet,
} from './field-set.ts';
import { compareFields, excluding, type FieldChanges } from './field-walk.ts';
import { field, isArray, isEmptyObject, isObject, type JsonObject } from './json.ts';
import { fieldElement } from './path-element.ts';
import type { OtherVersions } from './versions.ts';

export type Operation = 'Apply' | 'Update';

/** One entry as it stands in an object. */
export interface ManagedFieldsEntry {
  readonly manager: string;
  readonly operation: Operation;
  readonly apiVersion: string;
  /** RFC 3339 in whole seconds. */
  readonly time?: string;
  readonly fieldsType: 'FieldsV1';
  readonly fieldsV1: JsonObject;
  readonly subresource?: string;
}

/** One entry with its fields as a set. */
export interface Manager {
  readonly manager: string;
  readonly operation: Operation;
  readonly apiVersion: string;
  readonly subresource: string;
  readonly time: string | undefined;
  readonly fields: FieldSet;
  /** The fields as they stood in the stored object; written back as they are where the set has not changed. */
  readonly stored?: JsonObject;
}

/** Managers by identity. */
export type Managers = ReadonlyMap<string, Manager>;

/** More entries of operation Update than this are merged, oldest first. */
export const MAX_UPDATE_MANAGERS = 10;
const ANCIENT_CHANGES = 'ancient-changes';

/** A manager's name is cut to this length when it is taken from the user agent. */
const MAX_MANAGER_LENGTH = 128;

const path = (...names: string[]) => names.map(fieldElement);

/** Fields that nobody owns: they name the object or belong to the server. */
export const NEVER_MANAGED: FieldSet = setOf(
  path('apiVersion'),
  path('kind'),
  path('metadata'),
  ...[
    'name',
    'namespace',
    'uid',
    'resourceVersion',
    'generation',
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
  ].map((name) => path('metadata', name)),
  ...['selfLink', 'clusterName', 'managedFields'].map((name) => path('metadata', name)),
);

/** A set of whole fields, such as `[['status']]`: for `resetFields`, what an endpoint does not let its callers change. */
export const fieldsNamed = (paths: readonly (readonly string[])[]): FieldSet =>
  setOf(...paths.map((names) => path(...names)));

/** The manager that a request acts as: its `fieldManager` parameter, or else what stands before the slash in its user agent. */
export function managerName(fieldManager: string | undefined, userAgent: string | undefined): string {
  if (fieldManager) return fieldManager;
  const product = (userAgent ?? '').split('/', 1)[0] ?? '';
  return product.replaceAll(/[^\x20-\x7e]/g, '').slice(0, MAX_MANAGER_LENGTH) || 'unknown';
}

/** Appliers are the same whatever version they apply; updaters are one manager per version. */
export const identityOf = ({ manager, operation, apiVersion, subresource }: Omit<Manager, 'time' | 'fields'>): string =>
  JSON.stringify(
    operation === 'Apply' ? [manager, operation, subresource] : [manager, operation, apiVersion, subresource],
  );

/** The managers of an object; throws BadRequest where its managedFields are not well formed. */
export function readManagers(entries: unknown): Managers {
  if (entries === undefined || entries === null) return new Map();
  if (!isArray(entries)) throw badRequest('metadata.managedFields must be a list');
  return new Map(entries.map(readManager).map((manager) => [identityOf(manager), manager]));
}

function readManager(entry: unknown, index: number): Manager {
  const at = `metadata.managedFields[${index}]`;
  if (!isObject(entry)) throw badRequest(`${at} must be an object`);
  const text = (name: string): string => {
    const value = field(entry, name) ?? '';
    if (typeof value !== 'string') throw badRequest(`${at}.${name} must be a string`);
    return value;
  };
  const operation = text('operation');
  if (operation !== 'Apply' && operation !== 'Update')
    throw badRequest(`${at}.operation must be \`Apply\` or \`Update\``);
  if (text('apiVersion') === '') throw badRequest(`${at}.apiVersion must not be empty`);
  if (text('fieldsType') !== 'FieldsV1') throw badRequest(`${at}.fieldsType must be FieldsV1`);
  const stored = field(entry, 'fieldsV1') ?? {};
  const fields = fromFieldsV1(stored);
  return {
    manager: text('manager'),
    operation,
    apiVersion: text('apiVersion'),
    subresource: text('subresource'),
    time: text('time') || undefined,
    fields,
    stored: stored as JsonObject,
  };
}

const readManagersOrNone = (entries: unknown): Managers => {
  try {
    return readManagers(entries);
  } catch {
    return new Map();
  }
};

/** The entries in Kubernetes' order: appliers first, then by time, manager, version, subresource; managers that own nothing are left out. */
export function writeManagers(managers: Managers): ManagedFieldsEntry[] {
  return [...managers.values()]
    .filter(({ fields }) => !isEmpty(fields))
    .sort(compareManagers)
    .map(({ manager, operation, apiVersion, time, fields, stored, subresource }) => ({
      manager,
      operation,
      apiVersion,
      ...(time !== undefined && { time }),
      fieldsType: 'FieldsV1',
      fieldsV1: stored ?? toFieldsV1(fields),
      ...(subresource !== '' && { subresource }),
    }));
}

export const compareManagers = (left: Manager, right: Manager): number =>
  compareText(left.operation, right.operation) ||
  compareText(left.time ?? '', right.time ?? '') ||
  compareText(left.manager, right.manager) ||
  compareText(left.apiVersion, right.apiVersion) ||
  compareText(left.subresource, right.subresource);

const compareText = (left: string, right: string): number => (left < right ? -1 : left > right ? 1 : 0);

/** RFC 3339 in whole seconds, as entries carry it. */
export const wholeSeconds = (time: string): string => time.replace(/\.\d+(?=Z|[+-])/, '');

/** The manager with other fields; the same manager where they are the same. */
export function withFields(manager: Manager, fields: FieldSet): Manager {
  if (fields === manager.fields || equalSets(fields, manager.fields)) return manager;
  const { manager: name, operation, apiVersion, subresource, time } = manager;
  return { manager: name, operation, apiVersion, subresource, time, fields };
}

/** The object as fields are compared: its managedFields are about its fields and not among them. */
export function withoutManagedFields(object: JsonObject): JsonObject {
  const metadata = field(object, 'metadata');
  if (!isObject(metadata) || !Object.hasOwn(metadata, 'managedFields')) return object;
  const { managedFields: _dropped, ...rest } = metadata;
  return { ...object, metadata: rest };
}

export const managedFieldsOf = (object: JsonObject | undefined): unknown => {
  const metadata = object && field(object, 'metadata');
  return isObject(metadata) ? field(metadata, 'managedFields') : undefined;
};

export interface Update {
  /** The stored object; undefined for a create. */
  readonly before: ApiObject | undefined;
  /** What is about to be stored, defaulted, with the managedFields that the request carried, if any. */
  readonly after: ApiObject;
  readonly manager: string;
  /** RFC 3339. */
  readonly time: string;
  readonly schema: Schema;
  /** Such as `status`; a request to a subresource cannot set managedFields itself. */
  readonly subresource?: string;
  /** Fields that this endpoint ignores in what callers send (`fieldsNamed([['status']])` on the main one): nobody comes to own them through it. */
  readonly resetFields?: FieldSet;
  /** See changesElsewhere. */
  readonly elsewhere?: ChangesElsewhere;
}

/** What changed as the other versions tell it in which an object's managers wrote; undefined for a version that is no more. */
export type ChangesElsewhere = ReadonlyMap<string, FieldChanges | undefined>;

/** Only for a kind whose versions name fields otherwise. */
export async function changesElsewhere(
  before: ApiObject,
  after: ApiObject,
  { schemaOf, convert }: OtherVersions,
): Promise<ChangesElsewhere> {
  const managers = [before, after].flatMap((object) => [...readManagersOrNone(managedFieldsOf(object)).values()]);
  const versions = new Set(managers.map(({ apiVersion }) => apiVersion));
  versions.delete(after.apiVersion);
  const changes = new Map<string, FieldChanges | undefined>();
  for (const version of versions) {
    const schema = schemaOf(version);
    if (!schema) changes.set(version, undefined);
    else {
      const [then = {}, now = {}] = await convert([before, after].map(withoutManagedFields), version);
      changes.set(version, compareFields(then, now, schema));
    }
  }
  return changes;
}

/**
 * The managedFields of `after` once `manager` has written it: fields it added or changed become its own and no one else's, removed fields are nobody's.
 * An empty answer means that the object carries none.
 */
export function trackUpdate(update: Update): ManagedFieldsEntry[] {
  const { before, after, manager, schema } = update;
  const known = managersFor(update);
  // An object whose managedFields were reset is not tracked again until somebody applies it, or it would look as if the next writer had set everything.
  if (known.size === 0 && before?.metadata.uid) return [];
  const changes = compareFields(before ? withoutManagedFields(before) : {}, withoutManagedFields(after), schema);
  const self: Manager = {
    manager,
    operation: 'Update',
    apiVersion: after.apiVersion,
    subresource: update.subresource ?? '',
    time: wholeSeconds(update.time),
    fields: EMPTY,
  };
  return writeManagers(capUpdateManagers(takeOver(known, { changes, self, ...update })));
}

/** The managers to start from: those the request sets, where it may and they can be read, or else those of the stored object. */
function managersFor({ before, after, subresource }: Update): Managers {
  const stored = managedFieldsOf(before);
  if (subresource) return readManagersOrNone(stored);
  const requested = managedFieldsOf(after);
  if (requested === undefined || requested === null || requested === stored) return readManagersOrNone(stored);
  if (isReset(requested)) return new Map();
  const managers = readManagersOrNone(requested);
  if (managers.size === 0) return readManagersOrNone(stored);
  return new Map([...managers].map(([identity, { stored: _theirs, ...manager }]) => [identity, manager]));
}

/** `[]` and `[{}]` ask for the managedFields to be cleared. */
const isReset = (entries: unknown): boolean =>
  isArray(entries) &&
  (entries.length === 0 || (entries.length === 1 && isObject(entries[0]) && isEmptyObject(entries[0])));

interface TakeOver extends Pick<Update, 'resetFields' | 'elsewhere'> {
  readonly changes: FieldChanges;
  readonly self: Manager;
}

function takeOver(known: Managers, { changes, self, resetFields = EMPTY, elsewhere }: TakeOver): Managers {
  const managers = new Map<string, Manager>();
  const here = excluding(changes, resetFields);
  for (const [identity, manager] of known) {
    const told = elsewhere?.has(manager.apiVersion) ? elsewhere.get(manager.apiVersion) : changes;
    if (!told) continue;
    const { changed, removed } = excluding(told, resetFields);
    const left = withFields(manager, difference(difference(manager.fields, changed), removed));
    if (!isEmpty(left.fields)) managers.set(identity, left);
  }
  const gained = difference(here.changed, NEVER_MANAGED);
  if (isEmpty(gained)) return managers;
  const identity = identityOf(self);
  const previous = managers.get(identity);
  // The time moves with the values, even where the same fields stay owned.
  const merged = previous
    ? withFields({ ...previous, time: self.time }, union(previous.fields, gained))
    : { ...self, fields: gained };
  const original = known.get(identity);
  const unchanged = original?.stored !== undefined && equalSets(original.fields, merged.fields);
  return managers.set(identity, unchanged ? { ...merged, stored: original.stored } : merged);
}

/** Merges the oldest updaters of a version into one entry until at most MAX_UPDATE_MANAGERS are left (versions apart, which stay apart). */
function capUpdateManagers(managers: Managers): Managers {
  const updaters = [...managers.entries()].filter(([, manager]) => manager.operation === 'Update');
  let excess = updaters.length - MAX_UPDATE_MANAGERS;
  if (excess <= 0) return managers;
  updaters.sort(([, left], [, right]) => compareManagers(left, right));
  const capped = new Map(managers);
  const firstOfVersion = new Map<string, string>();
  for (const [identity, manager] of updaters) {
    if (excess <= 0) break;
    const first = firstOfVersion.get(manager.apiVersion);
    if (first === undefined) {
      firstOfVersion.set(manager.apiVersion, identity);
      continue;
    }
    const bucket = {
      manager: ANCIENT_CHANGES,
      operation: 'Update',
      apiVersion: manager.apiVersion,
      subresource: '',
    } as const;
    const bucketIdentity = identityOf(bucket);
    const into = capped.get(bucketIdentity) ?? capped.get(first);
    if (!capped.has(bucketIdentity)) capped.delete(first);
    if (bucketIdentity === identity) continue;
    capped.delete(identity);
    capped.set(bucketIdentity, { ...bucket, time: manager.time, fields: union(into?.fields ?? EMPTY, manager.fields) });
    excess--;
  }
  return capped;
}

/** Whether two lists of entries differ in nothing but times: then nothing has changed and the old ones may stand. */
export function sameButForTimes(left: unknown, right: unknown): boolean {
  const [a, b] = [readManagersOrNone(left), readManagersOrNone(right)];
  return (
    a.size === b.size &&
    [...a].every(([identity, manager]) => equalSets(manager.fields, b.get(identity)?.fields ?? EMPTY))
  );
}
