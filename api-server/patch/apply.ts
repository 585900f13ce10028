/**
 * Server-side apply: `application/apply-patch+yaml`. A manager states the fields that it wants; they are merged into the live object, fields that it
 * wanted before and no one else owns are removed, and fields of others that it would change are conflicts unless it forces. The rules are KEP 555's and
 * https://kubernetes.io/docs/reference/using-api/server-side-apply/. Called by the patch verb, which defaults and validates the result.
 */
import type { ApiObject, Schema } from '../../api-schemas/schema.ts';
import { badRequest } from '../errors.ts';
import {
  difference,
  EMPTY,
  ensureNamedFieldsAreMembers,
  equalSets,
  has,
  intersection,
  isEmpty,
  paths,
  printPath,
  recursiveDifference,
  union,
  type FieldSet,
  type Path,
} from './field-set.ts';
import { compareFields, excluding, fieldsOf, removeFields, type FieldChanges } from './field-walk.ts';
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

/** A field that the configuration would change and another manager owns. */
export interface ApplyConflict {
  readonly manager: Manager;
  readonly path: Path;
}

export type Applied =
  | { readonly kind: 'applied'; readonly object: ApiObject; readonly managedFields: readonly ManagedFieldsEntry[] }
  | { readonly kind: 'conflicts'; readonly message: string; readonly causes: readonly ConflictCause[] };

/** As it stands in `details.causes` of the 409. */
export interface ConflictCause {
  readonly reason: 'FieldManagerConflict';
  readonly message: string;
  readonly field: string;
}

/** kubectl's name when it applies server-side; only for it does the annotation of client-side apply count. */
const KUBECTL = 'kubectl';
const BEFORE_FIRST_APPLY = 'before-first-apply';

/** Throws BadRequest for a configuration that cannot be applied; the object that it returns carries no managedFields and is not defaulted yet. */
export function applyPatch(request: Apply): Applied {
  const { live, config } = request;
  checkConfig(request);
  const state: State = {
    ...request,
    live: live ? withoutManagedFields(live) : {},
    managers: managersOf(request),
    self: selfOf(request),
    resetFields: request.resetFields ?? EMPTY,
  };
  const outcome = attempt(state);
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
}

interface Outcome {
  readonly object: JsonObject;
  readonly changes: FieldChanges;
  readonly conflicts: readonly ApplyConflict[];
  readonly managers: Managers;
}

function checkConfig({ config, schema, live }: Apply): void {
  if (managedFieldsOf(config) !== undefined && managedFieldsOf(config) !== null)
    throw badRequest('metadata.managedFields must be nil');
  const faults = typeFaults(config, schema);
  if (faults.length > 0) {
    const { name, namespace } = (config.metadata as ApiObject['metadata'] | undefined) ??
      live?.metadata ?? { name: '' };
    const about = `${namespace ? `${namespace}/` : ''}${name}; ${config.apiVersion}, Kind=${config.kind}`;
    const list = faults.length === 1 ? (faults[0] ?? '') : `errors:\n${faults.map((fault) => `  ${fault}`).join('\n')}`;
    throw badRequest(`failed to create typed patch object (${about}): ${list}`);
  }
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
function attempt(state: State): Outcome {
  const { live, config, schema, self, resetFields } = state;
  const identity = identityOf(self);
  const wanted = recursiveDifference(fieldsOf(config, schema), resetFields);
  const managers = new Map(state.managers).set(identity, { ...self, fields: wanted });
  const merged = mergeBySchema(live, config, schema);
  const object = prune({ merged, last: state.managers.get(identity)?.fields ?? EMPTY, managers, schema });
  const changes = excluding(compareFields(live, object, schema), resetFields);
  const conflicts = [...managers]
    .filter(([other]) => other !== identity)
    .map(([, manager]) => manager)
    .sort(compareIdentities)
    .flatMap((manager) => [...paths(intersection(manager.fields, changes.changed))].map((path) => ({ manager, path })));
  return { object, changes, conflicts, managers };
}

const compareIdentities = (left: Manager, right: Manager): number => {
  const [a, b] = [identityOf(left), identityOf(right)];
  return a < b ? -1 : a > b ? 1 : compareManagers(left, right);
};

interface Prune {
  readonly merged: JsonObject;
  /** What the manager applied last time. */
  readonly last: FieldSet;
  /** Everybody, the manager with what it applies now. */
  readonly managers: Managers;
  readonly schema: Schema;
}

/**
 * Removes what the manager applied last time, does not apply now, and nobody else owns. In three steps: take out all of it; put back what anybody owns;
 * put back what went with it without having been the manager's (defaulted fields of an item that stays because another owns a field of it).
 */
function prune({ merged, last, managers, schema }: Prune): JsonObject {
  if (isEmpty(last)) return merged;
  const named = (set: FieldSet) => ensureNamedFieldsAreMembers(set, schema);
  const fieldsIn = (object: JsonObject) => named(fieldsOf(object, schema));
  const without = (set: FieldSet) => asObject(removeFields(merged, set, schema));
  const all = fieldsIn(merged);
  const owned = [...managers.values()].reduce((set, manager) => union(set, manager.fields), EMPTY);
  const stripped = without(named(last));
  const restored = without(difference(all, union(fieldsIn(stripped), named(owned))));
  return without(intersection(difference(all, fieldsIn(restored)), named(last)));
}

const asObject = (value: unknown): JsonObject => (isObject(value) ? value : {});

/** Who owns what afterwards: others lose what changed or went, the manager owns what it applied. */
function settle(state: State, { changes, managers }: Outcome, object: JsonObject): Managers {
  const identity = identityOf(state.self);
  const previous = state.managers.get(identity);
  const settled = new Map<string, Manager>();
  for (const [other, manager] of managers) {
    if (other !== identity)
      settled.set(other, withFields(manager, difference(difference(manager.fields, changes.changed), changes.removed)));
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

function refuse(conflicts: readonly ApplyConflict[]): Applied {
  const causes = conflicts.map(({ manager, path }) => ({
    reason: 'FieldManagerConflict' as const,
    message: `conflict with ${printManager(manager)}`,
    field: printPath(path),
  }));
  return { kind: 'conflicts', message: conflictMessage(conflicts), causes };
}

/** Kubernetes' sentence: one conflict on one line, several grouped by manager. */
function conflictMessage(conflicts: readonly ApplyConflict[]): string {
  const [first] = conflicts;
  if (conflicts.length === 1 && first)
    return `Apply failed with 1 conflict: conflict with ${printManager(first.manager)}: ${printPath(first.path)}`;
  const byManager = new Map<string, string[]>();
  for (const { manager, path } of conflicts) {
    const heading = `conflicts with ${printManager(manager)}:`;
    byManager.set(heading, [...(byManager.get(heading) ?? []), `- ${printPath(path)}`]);
  }
  return `Apply failed with ${conflicts.length} conflicts: ${[...byManager].flatMap(([heading, lines]) => [heading, ...lines]).join('\n')}`;
}

function printManager({ manager, subresource, operation, apiVersion }: Manager): string {
  const name = `${JSON.stringify(manager)}${subresource === '' ? '' : ` with subresource ${JSON.stringify(subresource)}`}`;
  return operation === 'Update' ? `${name} using ${apiVersion}` : name;
}
