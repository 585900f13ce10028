/**
 * PUT of a whole object over the stored one. With a resourceVersion in it, it stands only on that version.
 */
import { GuardError } from '../../event-log/event-log.ts';
import { readObject } from '../body.ts';
import { keyOf, type Call } from '../call.ts';
import { badRequest, staleWrite, type StatusError } from '../errors.ts';
import { sendEntry } from '../respond.ts';
import { entryId, type Entry } from '../store/entry.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { find } from './get.ts';
import { MAX_RETRIES, writeChange } from './write.ts';

export async function update(call: Call): Promise<void> {
  const { target } = call;
  const proposed = await readObject(call);
  proposed.metadata.name ||= target.name;
  if (proposed.metadata.name !== target.name) {
    throw badRequest(
      `the name of the object (${proposed.metadata.name}) does not match the name on the URL (${target.name})`,
    );
  }
  const entry = await changeObject(call, () => structuredClone(proposed), { verb: 'update' });
  call.response.setHeader('Reckon-Revision', entry.sequence);
  sendEntry(call, entry);
}

/** Called again on the newer object when the write was overtaken; may throw a StatusError of its own. */
export type Propose = (current: Entry) => ApiObject | Promise<ApiObject>;

/**
 * Reads, computes, appends; again when another write came first. A proposal that names a resourceVersion is refused by `writeChange` instead of repeated.
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
  for (let attempt = 0; ; attempt++) {
    const proposed = await propose(entry);
    try {
      const managedFields = options.managedFields?.();
      return await writeChange(call, entry, proposed, {
        verb: options.verb,
        ...(managedFields && { managedFields }),
        ...(subresource && { subresource }),
      });
    } catch (error) {
      if (!(error instanceof GuardError)) throw error;
      if (attempt >= MAX_RETRIES) throw overtaken(call);
      await call.services.store.current(call.definition);
      entry = await find({ ...call, query: AT_HAND });
    }
  }
}

const AT_HAND = new URLSearchParams({ resourceVersion: '0' });

/** The guard makes a write on an old object fail, so what is at hand will do; only what seems not to exist is looked for in the log. */
async function findForWrite(call: Call): Promise<Entry> {
  const cache = call.services.store.cache(call.definition);
  return cache.get(entryId(keyOf(call))) ?? find({ ...call, query: new URLSearchParams() });
}

const overtaken = (call: Call): StatusError => staleWrite(call.definition, call.target.name);
