/**
 * Server-side apply: `application/apply-patch+yaml`. A manager states the fields that it wants; they are merged into the live object, fields that it
 * wanted before and no one else owns are removed, and fields of others that it would change are conflicts unless it forces. The rules are KEP 555's and
 * https://kubernetes.io/docs/reference/using-api/server-side-apply/. Called by the patch verb, which defaults and validates the result.
 */
import type { ApiObject, Schema } from '../../api-schemas/schema.ts';
import { badRequest } from '../errors.ts';
import { refuse, type ApplyConflict, type Refusal } from './apply-conflicts.ts';
import {
  difference,
  EMPTY,
  ensureNamedFieldsAreMembers,
  equalSets,
  has,
  intersection,
  isEmpty,
  paths,
  recursiveDifference,
  union,
  type FieldSet,
} from './field-set.ts';
import {
  asEmpty,
  asNull,
  compareFields,
  excluding,
  fieldsOf,
  removeFields,
  type Emptied,
  type FieldChanges,
} from './field-walk.ts';
import { checkDepth, equalJson, isArray, isObject, type JsonObject } from './json.ts';
import { lastAppliedFields, withLastApplied } from './last-applied.ts';
import {
  compareManagers,
  identityOf,
  managedFieldsOf,
  NEVER_MANAGED,
  readManagers,
  trackUpdate,
  wholeSeconds,
  withFields,
  withoutManagedFields,
  writeManagers,
  type ManagedFieldsEntry,
  type Manager,
  type Managers,
} from './managed-fields.ts';
import { typeFaults } from './typed-check.ts';
import { mergeBySchema } from './typed-merge.ts';
import type { OtherVersions } from './versions.ts';

export interface Apply {
  /** The stored object; undefined where there is none yet. */
  readonly live: ApiObject | undefined;
  readonly config: ApiObject;
  readonly manager: string;
  readonly force: boolean;
  readonly schema: Schema;
  /** Nulls are values where the schema of a custom kind takes them; everywhere else they are nothing. */
  readonly keepNulls?: boolean;
  /** RFC 3339. */
  readonly time: string;
  readonly subresource?: string;
  /** See trackUpdate. */
  readonly resetFields?: FieldSet;
}

export type Applied =
  | { readonly kind: 'applied'; readonly object: ApiObject; readonly managedFields: readonly ManagedFieldsEntry[] }
  | Refusal;

/** kubectl's name when it applies server-side; only for it does the annotation of client-side apply count. */
const KUBECTL = 'kubectl';
const BEFORE_FIRST_APPLY = 'before-first-apply';

/** An object that is wanted in another version. */
interface Wanted {
  readonly object: JsonObject;
  readonly apiVersion: string;
}

/** A computation that is handed each object that it wants in another version. */
type Asking<T> = Generator<Wanted, T, JsonObject>;

/** Throws BadRequest for a configuration that cannot be applied; the object that it returns carries no managedFields and is not defaulted yet. */
export function applyPatch(request: Apply): Applied {
  const steps = apply(request, undefined);
  let step = steps.next();
  // All versions name fields alike.
  while (!step.done) step = steps.next(step.value.object);
  return step.value;
}

/** The same of a kind whose versions name fields otherwise: each manager's fields are compared in the version that it wrote. */
export async function applyAcrossVersions(request: Apply, versions: OtherVersions): Promise<Applied> {
  const steps = apply(request, versions);
  let step = steps.next();
  while (!step.done) {
    const { object, apiVersion } = step.value;
    const [converted = object] = await versions.convert([object], apiVersion);
    step = steps.next(converted);
  }
  return step.value;
}

function* apply(request: Apply, versions: OtherVersions | undefined): Asking<Applied> {
  const { live, config } = request;
  checkConfig(request);
  const schemaOf = (apiVersion: string) =>
    versions && apiVersion !== config.apiVersion ? versions.schemaOf(apiVersion) : request.schema;
  const state: State = {
    ...request,
    live: live ? withoutManagedFields(live) : {},
    managers: new Map([...managersOf(request)].filter(([, { apiVersion }]) => schemaOf(apiVersion))),
    self: selfOf(request),
    resetFields: request.resetFields ?? EMPTY,
    // One that is not told apart has the fields of the version that is applied.
    versionOf: ({ apiVersion }) => (versions ? apiVersion : config.apiVersion),
    schemaOf: (apiVersion) => schemaOf(apiVersion) ?? request.schema,
  };
  const outcome = yield* attempt(state);
  const conflicts = request.force ? [] : standing(outcome.conflicts, request);
  if (conflicts.length > 0) return refuse(conflicts);
  const told = request.manager === KUBECTL ? withLastApplied(outcome.object, config) : outcome.object;
  const object = (request.keepNulls ? told : dropNulls(told)) as ApiObject;
  return { kind: 'applied', object, managedFields: writeManagers(settle(state, outcome, object)) };
}

/** The conflicts that remain: what kubectl set by client-side apply is its own, it takes that along when it moves to server-side apply. */
function standing(
  conflicts: readonly ApplyConflict[],
  { live, config, manager, schema }: Apply,
): readonly ApplyConflict[] {
  if (conflicts.length === 0 || manager !== KUBECTL || live === undefined) return conflicts;
  const own = lastAppliedFields(live, config.apiVersion, schema) ?? EMPTY;
  return conflicts.filter(({ path }) => !has(own, path));
}

interface State extends Omit<Apply, 'live' | 'resetFields'> {
  readonly live: JsonObject;
  readonly managers: Managers;
  readonly self: Manager;
  readonly resetFields: FieldSet;
  readonly versionOf: (manager: Manager) => string;
  readonly schemaOf: (apiVersion: string) => Schema;
}

interface Outcome {
  readonly object: JsonObject;
  /** By the version of those who are to be told. */
  readonly changes: ReadonlyMap<string, FieldChanges>;
  readonly conflicts: readonly ApplyConflict[];
  readonly managers: Managers;
}

function checkConfig({ config, schema, live }: Apply): void {
  if (managedFieldsOf(config) !== undefined && managedFieldsOf(config) !== null)
    throw badRequest('metadata.managedFields must be nil');
  const { name, namespace } = (config.metadata as ApiObject['metadata'] | undefined) ?? live?.metadata ?? { name: '' };
  requireTyped(config, schema, { name, namespace });
}

/** Nobody can own a field that the schema does not have: throws BadRequest for a configuration with one, or with a value of the wrong kind. */
export function requireTyped(
  config: JsonObject,
  schema: Schema,
  { name, namespace = '' }: { readonly name: string; readonly namespace?: string | undefined },
): void {
  const faults = typeFaults(config, schema);
  if (faults.length === 0) return;
  const about = `${namespace}/${name}; ${String(config['apiVersion'])}, Kind=${String(config['kind'])}`;
  const list = faults.length === 1 ? (faults[0] ?? '') : `errors:\n${faults.map((fault) => `  ${fault}`).join('\n')}`;
  throw badRequest(`failed to create typed patch object (${about}): ${list}`);
}

/** Who owns what before this apply. An object that was never tracked is given one manager for all that stands in it. */
function managersOf({ live, schema, time }: Apply): Managers {
  if (live === undefined) return new Map();
  const managers = readManagers(managedFieldsOf(live));
  if (managers.size > 0) return managers;
  return readManagers(trackUpdate({ before: undefined, after: live, manager: BEFORE_FIRST_APPLY, schema, time }));
}

const selfOf = ({ manager, config, subresource, time }: Apply): Manager => ({
  manager,
  operation: 'Apply',
  apiVersion: config.apiVersion,
  subresource: subresource ?? '',
  time: wholeSeconds(time),
  fields: EMPTY,
});

/** Merge, prune, and see what that would change for others. */
function* attempt(state: State): Asking<Outcome> {
  const { live, config, schema, self, resetFields, versionOf } = state;
  const identity = identityOf(self);
  const wanted = recursiveDifference(fieldsOf(config, schema), resetFields);
  const managers = new Map(state.managers).set(identity, { ...self, fields: wanted });
  const merged = mergeBySchema(live, config, schema);
  const object = yield* prune({ state, merged, last: state.managers.get(identity), managers });
  const changes = yield* changesOf(state, object);
  const conflicts = [...managers]
    .filter(([other]) => other !== identity)
    .map(([, manager]) => manager)
    .sort(compareIdentities)
    .flatMap((manager) => {
      const { changed = EMPTY } = changes.get(versionOf(manager)) ?? {};
      return [...paths(intersection(manager.fields, changed))].map((path) => ({ manager, path }));
    });
  return { object, changes, conflicts, managers };
}

const compareIdentities = (left: Manager, right: Manager): number => {
  const [a, b] = [identityOf(left), identityOf(right)];
  return a < b ? -1 : a > b ? 1 : compareManagers(left, right);
};

/** What the apply changes, in every version that a manager wrote in. */
function* changesOf(state: State, object: JsonObject): Asking<ReadonlyMap<string, FieldChanges>> {
  const { live, config, managers, self, versionOf, schemaOf, resetFields } = state;
  const changes = new Map<string, FieldChanges>();
  const others = [...managers].filter(([identity]) => identity !== identityOf(self));
  for (const version of new Set(others.map(([, manager]) => versionOf(manager)))) {
    const then = yield* inVersion({ object: live, apiVersion: version }, config.apiVersion);
    const now = yield* inVersion({ object, apiVersion: version }, config.apiVersion);
    changes.set(version, excluding(compareFields(then, now, schemaOf(version)), resetFields));
  }
  return changes;
}

/** `is` is the version that the object is in. */
function* inVersion(wanted: Wanted, is: string): Asking<JsonObject> {
  return wanted.apiVersion === is ? wanted.object : yield wanted;
}

interface Prune {
  readonly state: State;
  readonly merged: JsonObject;
  /** The manager with what it applied last time. */
  readonly last: Manager | undefined;
  /** Everybody, the manager with what it applies now. */
  readonly managers: Managers;
}

/**
 * Removes what the manager applied last time, does not apply now, and nobody else owns. In three steps: take out all of it; put back what anybody owns, version by version, that of last time first;
 * put back what went with it without having been the manager's (defaulted fields of an item that stays because another owns a field of it).
 */
function* prune({ state, merged, last, managers }: Prune): Asking<JsonObject> {
  if (!last || isEmpty(last.fields)) return merged;
  const { config, versionOf, schemaOf } = state;
  const at = versionOf(last);
  const named = (set: FieldSet, version: string) => ensureNamedFieldsAreMembers(set, schemaOf(version));
  const fieldsIn = (object: JsonObject, version: string) => named(fieldsOf(object, schemaOf(version)), version);
  const without = (object: JsonObject, set: FieldSet, version: string, emptied: Emptied = asNull) =>
    asObject(removeFields(object, set, schemaOf(version), emptied));
  let version = at;
  let whole = yield* inVersion({ object: merged, apiVersion: at }, config.apiVersion);
  let pruned = without(whole, named(last.fields, at), at);
  const owners = [...managers.values()];
  for (const next of new Set([at, ...owners.map(versionOf)])) {
    whole = yield* inVersion({ object: whole, apiVersion: next }, version);
    pruned = yield* inVersion({ object: pruned, apiVersion: next }, version);
    version = next;
    const mine = owners.filter((owner) => versionOf(owner) === next);
    const owned = mine.reduce((set, { fields }) => union(set, fields), EMPTY);
    const kept = union(fieldsIn(pruned, next), named(owned, next));
    pruned = without(whole, difference(fieldsIn(whole, next), kept), next);
  }
  whole = yield* inVersion({ object: whole, apiVersion: at }, version);
  pruned = yield* inVersion({ object: pruned, apiVersion: at }, version);
  const gone = difference(fieldsIn(whole, at), fieldsIn(pruned, at));
  const rest = without(whole, intersection(gone, named(last.fields, at)), at, asEmpty);
  return yield* inVersion({ object: rest, apiVersion: config.apiVersion }, at);
}

const asObject = (value: unknown): JsonObject => (isObject(value) ? value : {});

/** Who owns what afterwards: others lose what changed or went, the manager owns what it applied. */
function settle(state: State, { changes, managers }: Outcome, object: JsonObject): Managers {
  const identity = identityOf(state.self);
  const previous = state.managers.get(identity);
  const settled = new Map<string, Manager>();
  for (const [other, manager] of managers) {
    if (other === identity) continue;
    const { changed = EMPTY, removed = EMPTY } = changes.get(state.versionOf(manager)) ?? {};
    settled.set(other, withFields(manager, difference(difference(manager.fields, changed), removed)));
  }
  const applied = difference(managers.get(identity)?.fields ?? EMPTY, NEVER_MANAGED);
  const same =
    previous !== undefined && equalSets(previous.fields, applied) && previous.apiVersion === state.self.apiVersion;
  // Applying the same again changes nothing at all, times included.
  return settled.set(identity, same && equalJson(state.live, object) ? previous : { ...state.self, fields: applied });
}

/** A null in the configuration gives the field up to its default: it does not stand in the object. */
function dropNulls(value: unknown, depth = 0): unknown {
  checkDepth(depth, 'the object');
  if (isArray(value)) return value.map((item) => dropNulls(item, depth + 1));
  if (!isObject(value)) return value;
  const kept = Object.entries(value).filter(([, item]) => item !== null);
  return Object.fromEntries(kept.map(([name, item]) => [name, dropNulls(item, depth + 1)]));
}
