/**
 * How a stored custom object reads under the present schema of its kind: in the version that is asked for, without fields that the schema no longer has, and with the defaults that it has gained. The log keeps every object as it
 * was written; nothing is rewritten when a schema changes. Each object is worked out once a schema, and so once for all who watch it. Called wherever an entry of the cache goes out or is changed. Where a webhook has to be
 * asked the answer is a promise, which rejects with a StatusError.
 */
import type { ApiObject, ResourceDefinition, Schema } from '../../api-schemas/schema.ts';
import { applyDefaults } from '../admission/defaults.ts';
import { decode, type Entry } from '../store/entry.ts';
import { decodeCustom } from './decode.ts';
import { inVersion } from './versions.ts';

type Known = WeakMap<Entry, Entry | Promise<Entry>>;

const presented = new WeakMap<Schema, Known>();
/** Objects whose conversion stands or falls with that of others. */
const inBatch = new WeakSet<Promise<Entry>>();

function knownOf(schema: Schema): Known {
  let known = presented.get(schema);
  if (!known) presented.set(schema, (known = new WeakMap()));
  return known;
}

/** The entry itself for a built-in kind, and wherever the object reads as it stands. */
export function present(definition: ResourceDefinition, entry: Entry): Entry | Promise<Entry> {
  if (!definition.custom) return entry;
  const known = knownOf(definition.schema);
  const standing = known.get(entry);
  if (standing instanceof Promise && inBatch.has(standing))
    // An object that the webhook cannot convert is no fault of its neighbours.
    return standing.catch(() => present(definition, entry));
  if (standing) return standing;
  if (isConverted(definition, entry)) {
    convert(definition, [entry], known);
    return known.get(entry) ?? entry;
  }
  const result = presentNow(definition, entry);
  remember(known, entry, result);
  return result;
}

/** The same of many; what a webhook has to convert goes to it together. */
export function presentAll(
  definition: ResourceDefinition,
  entries: readonly Entry[],
): readonly Entry[] | Promise<readonly Entry[]> {
  if (!definition.custom) return entries;
  if (!definition.custom.convert) return entries.map((entry) => present(definition, entry) as Entry);
  const known = knownOf(definition.schema);
  const fresh = entries.filter((entry) => !known.has(entry) && isConverted(definition, entry));
  if (fresh.length > 0) convert(definition, fresh, known);
  return Promise.all(entries.map(async (entry) => known.get(entry) ?? present(definition, entry)));
}

/** Entries as they stand, but for those that would show the fields of another version under the name of the one that is asked for. */
export function inAskedVersion(
  definition: ResourceDefinition,
  entries: readonly Entry[],
): readonly Entry[] | Promise<readonly Entry[]> {
  if (!entries.some((entry) => isConverted(definition, entry))) return entries;
  return presentAll(definition, entries);
}

const isConverted = ({ group, version, custom }: ResourceDefinition, { apiVersion }: Entry): boolean =>
  custom?.convert !== undefined && apiVersion !== `${group}/${version}`;

function remember(known: Known, entry: Entry, result: Entry): void {
  known.set(entry, result);
  known.set(result, result);
}

function presentNow({ group, version, schema }: ResourceDefinition, entry: Entry): Entry {
  const object: ApiObject = decode(entry);
  object.apiVersion = `${group}/${version}`;
  decodeCustom(object, schema);
  applyDefaults(object, schema);
  return reading(entry, object);
}

/** The entry as an object that was made of it reads; itself where that is no other. */
function reading(entry: Entry, object: ApiObject): Entry {
  const text = JSON.stringify(object);
  if (text.length === entry.bytes.length && text === entry.bytes.toString()) return entry;
  // What selectors compare is looked up in the object as it reads now.
  const { namespace, name } = entry.key;
  const fields = { 'metadata.name': name, 'metadata.namespace': namespace };
  const labels = object.metadata.labels ?? {};
  return { ...entry, apiVersion: object.apiVersion, labels, fields, bytes: Buffer.from(text), stored: entry };
}

/** Leaves with each entry the promise of how it reads, for all who ask meanwhile. A failure is forgotten: who asks next tries again. */
function convert(definition: ResourceDefinition, entries: readonly Entry[], known: Known): void {
  const conversion = converted(definition, entries);
  for (const [index, entry] of entries.entries()) {
    const promise = conversion.then(
      (results) => {
        const result = results[index] as Entry;
        remember(known, entry, result);
        return result;
      },
      (error: unknown) => {
        known.delete(entry);
        throw error;
      },
    );
    // Whoever waits for it hears of its failure; nobody may.
    promise.catch(() => undefined);
    if (entries.length > 1) inBatch.add(promise);
    known.set(entry, promise);
  }
}

/** As in Kubernetes, an object has the defaults of the version that it is stored in when the webhook sees it, and those of no other afterwards. */
async function converted(definition: ResourceDefinition, entries: readonly Entry[]): Promise<readonly Entry[]> {
  const { group, version, custom } = definition;
  const objects = entries.map((entry) => {
    const object = decode(entry);
    const schema = custom?.schemaOf(object.apiVersion.slice(group.length + 1));
    if (schema) {
      decodeCustom(object, schema);
      applyDefaults(object, schema);
    }
    return object;
  });
  const results = await inVersion(definition, objects, version);
  return entries.map((entry, index) => reading(entry, results[index] as ApiObject));
}
