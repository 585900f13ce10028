/**
 * One object as the API server keeps it: the serialized bytes that go to clients, beside the small index that selectors and guards need. Entries are immutable; a new
 * record makes a new entry. Built by `resource-cache.ts` from log records.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { ObjectKey } from '../../event-log/event-log.ts';
import { fieldValue } from './selectors.ts';

export interface Entry {
  readonly key: ObjectKey;
  /** `namespace/name`; the order of lists. */
  readonly id: string;
  /** The record's sequence: the object's resourceVersion. */
  readonly sequence: number;
  readonly uid: string;
  /** The version that the object was written in. */
  readonly apiVersion: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Values of the resource's selectable fields. */
  readonly fields: Readonly<Record<string, string>>;
  /** The object's JSON with `resourceVersion` in it. */
  readonly bytes: Buffer;
  /** The entry as it stands in the log, where this one is how it reads under the present schema of a custom kind. */
  readonly stored?: Entry;
}

/** The order of lists: that of the ids, whatever the database sorts by. */
export const byId = (a: Pick<Entry, 'id'>, b: Pick<Entry, 'id'>): number => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);

export const entryId = (key: Pick<ObjectKey, 'namespace' | 'name'>): string => `${key.namespace}/${key.name}`;

/** What a field selector compares. A field that became selectable after the entry was made is looked up in the object, once. */
export function fieldOf(entry: Entry, path: string): string {
  const fields = entry.fields as Record<string, string>;
  return (fields[path] ??= fieldValue(decode(entry), path));
}

/** A fresh, mutable copy of the object. */
export const decode = (entry: Entry): ApiObject => JSON.parse(entry.bytes.toString()) as ApiObject;

/** `object` is the record's payload; its resourceVersion is set here, to the record's sequence. */
export function makeEntry(options: {
  key: ObjectKey;
  sequence: number;
  object: ApiObject;
  selectableFields: readonly string[];
}): Entry {
  const { key, sequence, object, selectableFields } = options;
  object.metadata.resourceVersion = String(sequence);
  const fields: Record<string, string> = { 'metadata.name': key.name, 'metadata.namespace': key.namespace };
  for (const path of selectableFields) fields[path] = fieldValue(object, path);
  return {
    key,
    id: entryId(key),
    sequence,
    uid: object.metadata.uid ?? '',
    apiVersion: object.apiVersion,
    labels: object.metadata.labels ?? {},
    fields,
    bytes: Buffer.from(JSON.stringify(object)),
  };
}
