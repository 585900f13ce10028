/** One version of an object as `history.ts` answers with it, and the columns and rows that it is read from. */
import { sql } from 'kysely';
import type { ObjectKey, Plane, Reason, Verb } from '../event-log/event-log.ts';

/** One record of the log. `object` is its JSON, byte for byte; a tombstone's is the final object. */
export interface Version {
  readonly sequence: number;
  readonly key: ObjectKey;
  readonly plane: Plane;
  readonly verb: Verb;
  readonly uid: string;
  readonly actor: string;
  readonly requestId: string;
  readonly writeId: string;
  readonly time: string;
  readonly causes: readonly number[];
  readonly reason?: Reason;
  readonly transaction?: { readonly id: string; readonly place: number; readonly count: number };
  readonly object: string;
}

/** A version and what the object was before it, for watches that select. `previous` is absent for an object's first version. */
export interface Change extends Version {
  readonly previous?: string;
}

/** Of the record `r`: its lifetime `l` and its resource `k`. */
export const joinNames = sql`join lifetimes l on l.first_sequence = r.lifetime join resources k on k.id = r.resource`;

export const versionColumns = sql`
  r.sequence, k."group", k.resource, l.namespace, l.name, l.uid, r.plane, r.verb, r.actor, r.request_id, r.write_id, r.time, r.causes,
  r.transaction_id, r.transaction_place, r.transaction_count, r.because, r.source, r.object`;

export interface VersionRow {
  readonly sequence: number;
  readonly group: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly plane: Plane;
  readonly verb: Verb;
  readonly actor: string;
  readonly request_id: string;
  readonly write_id: string;
  readonly time: string;
  readonly causes: number[] | null;
  readonly transaction_id: string | null;
  readonly transaction_place: number | null;
  readonly transaction_count: number | null;
  readonly because: string | null;
  readonly source: string | null;
  readonly object: string;
}

export function toVersion(row: VersionRow): Version {
  const { transaction_id: id, transaction_place: place, transaction_count: count, because, source } = row;
  return {
    sequence: row.sequence,
    key: {
      group: row.group,
      resource: row.resource,
      namespace: row.namespace,
      name: row.name,
    },
    plane: row.plane,
    verb: row.verb,
    uid: row.uid,
    actor: row.actor,
    requestId: row.request_id,
    writeId: row.write_id,
    time: row.time,
    causes: row.causes ?? [],
    object: row.object,
    ...((because !== null || source !== null) && {
      reason: { ...(because !== null && { because }), ...(source !== null && { source }) },
    }),
    ...(id === null || place === null || count === null
      ? {}
      : {
          transaction: {
            id,
            place,
            count,
          },
        }),
  };
}

export function toChange(row: VersionRow & { previous: string | null }): Change {
  return { ...toVersion(row), ...(row.previous === null ? {} : { previous: row.previous }) };
}
