/**
 * One member of a transaction, judged and computed exactly as if it came alone: authorized, then handed to the verb, which completes, defaults and validates it on the staged store. Nothing is written here. Called by
 * `transaction.ts`.
 */
import { attributesOfTarget } from '../authorization/attributes.ts';
import { asObject, fieldValidationOf } from '../body.ts';
import { provenance, type Call } from '../call.ts';
import { present } from '../custom-resources/presentation.ts';
import { alreadyExists, badRequest, conflict, methodNotAllowed, notFound, unsupportedMediaType } from '../errors.ts';
import { checkOptions } from '../request-options.ts';
import type { RequestVerb } from '../request.ts';
import { decode, entryId, type Entry } from '../store/entry.ts';
import { createObject } from '../verbs/create.ts';
import { checkDeleteOptions, deleteNewest } from '../verbs/delete.ts';
import { applyObject, patchObject, patchOf, patchTypesOf } from '../verbs/patch.ts';
import { changeObject, checkPlace } from '../verbs/update.ts';
import { PATCH_FORMS, type Operation } from './operations.ts';
import type { StagedStore } from './staged-store.ts';

/** `unchanged`: it was so already. `deleting`: marked, and held by a grace period or finalizers. */
export type Outcome = 'created' | 'changed' | 'unchanged' | 'deleted' | 'deleting';

export interface Prepared {
  readonly outcome: Outcome;
  readonly entry: Entry;
}

const REQUEST_VERBS: Readonly<Record<Operation['verb'], RequestVerb>> = {
  create: 'create',
  update: 'update',
  apply: 'patch',
  patch: 'patch',
  delete: 'delete',
};

/** Throws the StatusError that the single write would be refused with. */
export async function prepare(call: Call, operation: Operation, store: StagedStore): Promise<Prepared> {
  const member = memberCall(call, operation, store);
  member.services.authorizer.require(member.identity, attributesOfTarget(member.target));
  checkOptions(member);
  const { definition, verb, preconditions } = operation;
  if (!definition.verbs.includes(member.target.verb)) throw methodNotAllowed(verb);
  const cache = store.cache(definition);
  const standing = cache.get(entryId(operation));
  const before = standing && (await present(definition, standing));
  checkPreconditions(operation, before);
  const prepared = await WRITES[verb](member, operation, before);
  const isConditional = Object.keys(preconditions).length > 0;
  if (prepared.outcome !== 'unchanged' || !isConditional || !before) return prepared;
  // Only a record can hold the log to what was demanded of an object that stays as it is.
  return { outcome: 'unchanged', entry: await touch(member, before) };
}

function memberCall(call: Call, operation: Operation, store: StagedStore): Call {
  const { definition, namespace, name, subresource, verb, reason } = operation;
  const { group, version, resource } = definition;
  const query = new URLSearchParams(call.query);
  // The whole is tried, or written; a member does not decide that for itself.
  query.delete('dryRun');
  return {
    ...call,
    ...(reason && { reason: { ...call.reason, ...reason } }),
    services: { ...call.services, store },
    definition,
    query,
    target: { verb: REQUEST_VERBS[verb], group, version, resource, namespace, name, subresource, subpath: '' },
  };
}

function checkPreconditions({ definition, name, preconditions }: Operation, standing: Entry | undefined): void {
  const { absent, uid, resourceVersion } = preconditions;
  if (absent === true && standing) throw alreadyExists(definition, name);
  if (!standing) {
    if (uid !== undefined || resourceVersion !== undefined || absent === false) throw notFound(definition, name);
    return;
  }
  const failed = (what: string, wanted: string, found: string) =>
    conflict(
      definition,
      name,
      `Precondition failed: ${what} in precondition: ${wanted}, ${what} in object meta: ${found}`,
    );
  if (uid !== undefined && uid !== standing.uid) throw failed('UID', uid, standing.uid);
  if (resourceVersion !== undefined && resourceVersion !== String(standing.sequence))
    throw failed('ResourceVersion', resourceVersion, String(standing.sequence));
}

type Write = (member: Call, operation: Operation, before: Entry | undefined) => Promise<Prepared>;

const WRITES: Readonly<Record<Operation['verb'], Write>> = {
  async create(member, operation) {
    const object = objectOf(member, operation);
    if (object.metadata.resourceVersion) throw badRequest('resourceVersion should not be set on objects to be created');
    const { managedFields } = operation;
    const entry = await createObject(member, object, { verb: 'create', ...(managedFields && { managedFields }) });
    return { outcome: 'created', entry };
  },
  async update(member, operation, before) {
    const object = objectOf(member, operation);
    checkPlace(member, object);
    const entry = await changeObject(member, () => structuredClone(object), {
      verb: 'update',
      managedFields: () => operation.managedFields,
    });
    return { outcome: entry === before ? 'unchanged' : 'changed', entry };
  },
  async apply(member, { object }, before) {
    const { entry, created } = await applyObject(
      member,
      { value: structuredClone(object), duplicates: [] },
      fieldValidationOf(member),
    );
    return { outcome: created ? 'created' : entry === before ? 'unchanged' : 'changed', entry };
  },
  async patch(member, { patch, definition }, before) {
    if (!patch) throw badRequest('patch: Required value: what to change');
    const form = PATCH_FORMS[patch.form];
    const offered = patchTypesOf(definition);
    if (!offered.includes(form)) throw unsupportedMediaType(form, offered);
    const compute = patchOf(form, patch.value, definition.schema);
    const { entry } = await patchObject(member, { compute, faults: [] }, fieldValidationOf(member));
    return { outcome: entry === before ? 'unchanged' : 'changed', entry };
  },
  async delete(member, { propagationPolicy, gracePeriodSeconds }) {
    const options = {
      ...(propagationPolicy !== undefined && { propagationPolicy }),
      ...(gracePeriodSeconds !== undefined && { gracePeriodSeconds }),
    };
    checkDeleteOptions(member, options);
    const { entry, gone } = await deleteNewest(member, options);
    return { outcome: gone ? 'deleted' : 'deleting', entry };
  },
};

function objectOf(member: Call, { object, definition }: Operation) {
  return asObject(member, {
    value: structuredClone(object),
    duplicates: [],
    definition,
    validation: fieldValidationOf(member),
  });
}

function touch(member: Call, entry: Entry): Promise<Entry> {
  const { definition, services } = member;
  return services.store.append({
    definition,
    key: entry.key,
    verb: 'update',
    plane: 'desired',
    guard: entry.sequence,
    object: decode(entry.stored ?? entry),
    ...provenance(member),
  });
}
