/**
 * How a stored custom object reads under the present schema of its kind: in the version that is asked for, without fields that the schema no longer has, and with the defaults that it has gained. The log keeps every object as it
 * was written; nothing is rewritten when a schema changes. Each object is worked out once a schema. Called wherever an entry of the cache goes out or is changed.
 */
import type { ApiObject, ResourceDefinition, Schema } from '../../api-schemas/schema.ts';
import { applyDefaults } from '../admission/defaults.ts';
import { decode, type Entry } from '../store/entry.ts';
import { decodeCustom } from './decode.ts';

const presented = new WeakMap<Schema, WeakMap<Entry, Entry>>();

/** The entry itself for a built-in kind, and wherever the object reads as it stands. */
export function present(definition: ResourceDefinition, entry: Entry): Entry {
  if (!definition.custom) return entry;
  const { schema } = definition;
  let known = presented.get(schema);
  if (!known) presented.set(schema, (known = new WeakMap()));
  let result = known.get(entry);
  if (!result) {
    result = presentNow(definition, entry);
    known.set(entry, result);
    known.set(result, result);
  }
  return result;
}

export function presentAll(definition: ResourceDefinition, entries: readonly Entry[]): readonly Entry[] {
  return definition.custom ? entries.map((entry) => present(definition, entry)) : entries;
}

function presentNow({ group, version, schema }: ResourceDefinition, entry: Entry): Entry {
  const object: ApiObject = decode(entry);
  object.apiVersion = `${group}/${version}`;
  decodeCustom(object, schema);
  applyDefaults(object, schema);
  const text = JSON.stringify(object);
  if (text.length === entry.bytes.length && text === entry.bytes.toString()) return entry;
  // What selectors compare is looked up in the object as it reads now.
  const { namespace, name } = entry.key;
  const fields = { 'metadata.name': name, 'metadata.namespace': namespace };
  return { ...entry, apiVersion: object.apiVersion, fields, bytes: Buffer.from(text), stored: entry };
}
