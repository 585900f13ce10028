/**
 * PUT of a whole object over the stored one. With a resourceVersion in it, it stands only on that version; some kinds demand one, and some are made by it where they are not there.
 */
import { GuardError } from '../../event-log/event-log.ts';
import { readObject } from '../body.ts';
import { keyOf, type Call } from '../call.ts';
import { badRequest, invalid, staleWrite, StatusError } from '../errors.ts';
import { present } from '../custom-resources/presentation.ts';
import { sendWritten } from '../respond.ts';
import { entryId, type Entry } from '../store/entry.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { Turns } from '../store/turns.ts';
import { checkNew, createObject } from './create.ts';
import { find } from './get.ts';
import { isOfStatus, mayTryAgain, writeChange } from './write.ts';

export async function update(call: Call): Promise<void> {
  const proposed = await readObject(call);
  proposed.metadata.name ||= call.target.name;
  checkPlace(call, proposed);
  const { entry, created } = await put(call, proposed);
  await sendWritten(call, entry, created ? 201 : 200);
}

async function put(call: Call, proposed: ApiObject): Promise<{ entry: Entry; created: boolean }> {
  const { resourceVersion, uid } = proposed.metadata;
  const change = async () => {
    const propose = () => {
      if (!resourceVersion) requireVersion(call);
      return structuredClone(proposed);
    };
    return { entry: await changeObject(call, propose, { verb: 'update' }), created: false };
  };
  // Whoever names a version or a life means an object that was there.
  if (!call.definition.createsOnUpdate || call.target.subresource || resourceVersion || uid) return change();
  try {
    return await change();
  } catch (error) {
    if (reasonOf(error) !== 'NotFound') throw error;
  }
  checkNew(call, proposed);
  try {
    return { entry: await createObject(call, structuredClone(proposed), { verb: 'create' }), created: true };
  } catch (error) {
    // Somebody else made it meanwhile.
    if (reasonOf(error) !== 'AlreadyExists') throw error;
    return change();
  }
}

const reasonOf = (error: unknown): string | undefined => (error instanceof StatusError ? error.reason : undefined);

/** Throws Invalid where the kind is never overwritten blindly. */
function requireVersion({ definition, target }: Call): void {
  if (!definition.updatesOnVersion && !definition.custom) return;
  const message = 'Invalid value: 0x0: must be specified for an update';
  throw invalid({ ...definition, kind: definition.resource }, target.name, [
    { reason: 'FieldValueInvalid', message, field: 'metadata.resourceVersion' },
  ]);
}

/** Throws BadRequest for an object that calls itself otherwise than the URL does. */
export function checkPlace(call: Call, { metadata }: ApiObject): void {
  const { target, definition } = call;
  if (metadata.name !== target.name)
    throw badRequest(`the name of the object (${metadata.name}) does not match the name on the URL (${target.name})`);
  if (definition.namespaced && metadata.namespace && metadata.namespace !== target.namespace)
    throw badRequest(
      `the namespace of the provided object does not match the namespace sent on the request: ${metadata.namespace}, ${target.namespace}`,
    );
}

/** Called again on the newer object when the write was overtaken; may throw a StatusError of its own. */
export type Propose = (current: Entry) => ApiObject | Promise<ApiObject>;

/**
 * Reads, computes, appends; again when another write came first. The first attempt stands on what is at hand, which another API server may have left behind: the log's guard keeps a write from
 * standing on it, and neither a refusal nor "nothing to change" is believed before the object is known to be the newest.
 */
export async function changeObject(
  call: Call,
  propose: Propose,
  options: {
    verb: 'update' | 'patch' | 'apply' | 'delete';
    managedFields?: () => readonly unknown[] | undefined;
    subresource?: string;
  },
): Promise<Entry> {
  const { subresource: asked } = call.target;
  const subresource = options.subresource ?? (isOfStatus(asked) ? asked : undefined);
  const write = async (entry: Entry): Promise<Entry> => {
    const proposed = await propose(entry);
    const managedFields = options.managedFields?.();
    return writeChange(call, entry, proposed, {
      verb: options.verb,
      ...(managedFields && { managedFields }),
      ...(subresource && { subresource }),
    });
  };
  const entry = await findForWrite(call);
  const outcome = await write(entry).catch(refusalOf);
  if (!(outcome instanceof Error) && outcome !== entry) return outcome;
  if (!(outcome instanceof GuardError)) {
    await call.services.store.current(call.definition);
    if ((await find({ ...call, query: AT_HAND })) === entry) {
      if (outcome instanceof StatusError) throw outcome;
      return entry;
    }
  }
  return turns.run(`${call.definition.group}/${call.definition.resource}/${entry.id}`, async () => {
    for (let attempt = 0; ; attempt++) {
      await call.services.store.current(call.definition);
      const newest = await find({ ...call, query: AT_HAND });
      try {
        return await write(newest);
      } catch (error) {
        if (!(error instanceof GuardError)) throw error;
        if (!mayTryAgain(error, attempt)) throw staleWrite(call.definition, call.target.name);
      }
    }
  });
}

function refusalOf(error: unknown): StatusError | GuardError {
  if (error instanceof StatusError || error instanceof GuardError) return error;
  throw error;
}

/** Of those who were overtaken. */
const turns = new Turns();

const AT_HAND = new URLSearchParams({ resourceVersion: '0' });

/** What is at hand will do; only what seems not to exist is looked for in the log. */
async function findForWrite(call: Call): Promise<Entry> {
  const entry = call.services.store.cache(call.definition).get(entryId(keyOf(call)));
  return entry ? present(call.definition, entry) : find({ ...call, query: new URLSearchParams() });
}
