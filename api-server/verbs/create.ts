/**
 * POST of a new object. A name that is taken is a conflict that the log decides; a generated name is tried again.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import { GuardError } from '../../event-log/event-log.ts';
import type { Attributes } from '../authorization/attributes.ts';
import { readObject } from '../body.ts';
import { keyOf, spokenIn, type Call } from '../call.ts';
import { conversionOf } from '../conversion/conversions.ts';
import { alreadyExists, badRequest, forbidden, invalid, methodNotAllowed, notFound } from '../errors.ts';
import { sendWritten } from '../respond.ts';
import { review } from '../reviews.ts';
import { bindings } from '../subresources/binding.ts';
import { entryId, type Entry } from '../store/entry.ts';
import { suffix } from '../strategy/generated-name.ts';
import { mayTryAgain, writeNew, type WriteOptions } from './write.ts';

const MAX_GENERATED_PREFIX = 58;

export async function create(call: Call): Promise<void> {
  if (call.definition.group === '' && call.definition.resource === 'bindings') return bindings(call);
  if (call.definition.storage === 'none') return review(call);
  const object = await readObject(call);
  checkNew(call, object);
  const { namespace } = object.metadata;
  if (call.definition.namespaced && namespace && namespace !== call.target.namespace) {
    throw badRequest(
      `the namespace of the provided object does not match the namespace sent on the request: ${namespace}, ${call.target.namespace}`,
    );
  }
  if (object.metadata.resourceVersion) throw badRequest('resourceVersion should not be set on objects to be created');
  const entry = await createObject(call, object, { verb: 'create' });
  await sendWritten(call, entry, 201);
}

/** What the shape that the client speaks demands beside what is demanded of every object. */
export function checkNew(call: Call, object: ApiObject): void {
  const conversion = conversionOf(spokenIn(call));
  const faults = conversion?.newFaults?.(conversion.fromStored(object)) ?? [];
  if (faults.length > 0)
    throw invalid(spokenIn(call), object.metadata.name || object.metadata.generateName || '', faults);
}

/** Appends a new object under its own or a generated name. Also the create half of server-side apply, and of a PUT. */
export async function createObject(call: Call, proposed: ApiObject, options: WriteOptions): Promise<Entry> {
  const { definition, services, target } = call;
  const { generateName } = proposed.metadata;
  const generated = !proposed.metadata.name && generateName !== undefined && generateName !== '';
  requireLasting(call);
  await requireNamespace(call, proposed.metadata.name || generateName || '');
  if (target.verb !== 'create') services.authorizer.require(call.identity, creationOf(call));
  const cache = services.store.cache(definition);
  // What is written is completed in place; another attempt begins with what was proposed.
  const original = JSON.stringify(proposed);
  for (let attempt = 0; ; attempt++) {
    const object = attempt === 0 ? proposed : (JSON.parse(original) as ApiObject);
    if (generated) object.metadata.name = generateName.slice(0, MAX_GENERATED_PREFIX) + suffix();
    const id = entryId(keyOf(call, object.metadata.name));
    const existing = cache.get(id);
    try {
      if (existing) throw new GuardError(existing.key);
      return await writeNew(call, object, { ...options, guard: cache.guard(id) });
    } catch (error) {
      if (!(error instanceof GuardError)) throw error;
      // Only what is still there after a look at the log itself is there: another API server may have deleted it.
      const taken = existing !== undefined && !generated && attempt > 0;
      if (taken || !mayTryAgain(error, attempt)) throw alreadyExists(definition, object.metadata.name);
      await services.store.refreshGuard(definition, keyOf(call, object.metadata.name));
    }
  }
}

/** Who may patch what stands may not thereby make it. */
function creationOf({ target }: Call): Attributes {
  const { group, resource, subresource, namespace, name } = target;
  return { verb: 'create', group, resource, subresource, namespace, name };
}

/** Nothing is made of a kind that is on its way out. */
function requireLasting({ definition }: Call): void {
  if (definition.custom?.terminating)
    throw methodNotAllowed('create', 'not allowed while custom resource definition is terminating');
}

/** An object can be made only in a namespace that exists and is not on its way out. */
async function requireNamespace(call: Call, name: string): Promise<void> {
  const { definition, services, target } = call;
  if (!definition.namespaced) return;
  const namespaces = services.registry.byResource('', 'v1', 'namespaces');
  if (!namespaces) return;
  const cache = services.store.cache(namespaces);
  const id = entryId({ namespace: '', name: target.namespace });
  if (!cache.get(id)) await services.store.current(namespaces);
  const entry = cache.get(id);
  if (!entry) throw notFound(namespaces, target.namespace);
  if (entry.fields['status.phase'] === 'Terminating') {
    throw forbidden(
      definition,
      name,
      `unable to create new content in namespace ${target.namespace} because it is being terminated`,
      [
        {
          reason: 'NamespaceTerminating',
          message: `namespace ${target.namespace} is being terminated`,
          field: 'metadata.namespace',
        },
      ],
    );
  }
}
