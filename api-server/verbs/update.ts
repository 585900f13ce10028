/**
 * PUT of a whole object over the stored one. With a resourceVersion in it, it stands only on that version.
 */
import { GuardError } from '../../event-log/event-log.ts';
import { readObject } from '../body.ts';
import { keyOf, type Call } from '../call.ts';
import { badRequest, staleWrite, StatusError } from '../errors.ts';
import { sendEntry } from '../respond.ts';
import { entryId, type Entry } from '../store/entry.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { find } from './get.ts';
import { mayTryAgain, writeChange } from './write.ts';

export async function update(call: Call): Promise<void> {
  const proposed = await readObject(call);
  proposed.metadata.name ||= call.target.name;
  checkPlace(call, proposed);
  const entry = await changeObject(call, () => structuredClone(proposed), { verb: 'update' });
  call.response.setHeader('Reckon-Revision', entry.sequence);
  sendEntry(call, entry);
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
  const subresource = options.subresource ?? (call.target.subresource === 'status' ? 'status' : undefined);
  let entry = await findForWrite(call);
  let verified = false;
  for (let attempt = 0; ; attempt++) {
    let refusal: StatusError | undefined;
    try {
      const proposed = await propose(entry);
      const managedFields = options.managedFields?.();
      const written = await writeChange(call, entry, proposed, {
        verb: options.verb,
        ...(managedFields && { managedFields }),
        ...(subresource && { subresource }),
      });
      if (written !== entry || verified) return written;
    } catch (error) {
      if (error instanceof GuardError) {
        if (!mayTryAgain(error, attempt)) throw staleWrite(call.definition, call.target.name);
      } else if (error instanceof StatusError && !verified) refusal = error;
      else throw error;
    }
    await call.services.store.current(call.definition);
    verified = true;
    const newest = await find({ ...call, query: AT_HAND });
    if (newest === entry && refusal) throw refusal;
    if (newest === entry) return entry;
    entry = newest;
  }
}

const AT_HAND = new URLSearchParams({ resourceVersion: '0' });

/** What is at hand will do; only what seems not to exist is looked for in the log. */
async function findForWrite(call: Call): Promise<Entry> {
  const cache = call.services.store.cache(call.definition);
  return cache.get(entryId(keyOf(call))) ?? find({ ...call, query: new URLSearchParams() });
}
