/**
 * The projection: the event log made queryable. Written by `state/projection.ts` alone, read by `state/history.ts` and by people in SQL. All of it can be dropped and
 * rebuilt from the log as far as the log reaches back; what lies below the log's floor stands only here.
 *
 *   resources    one small number for each (group, resource), so that rows and indexes stay narrow.
 *   records      every record of the log, once: the row is the record. `object` is the record's JSON byte for byte (type json, not jsonb: jsonb refuses `\u0000`, loses the
 *                bytes, and was measured at a third of json's write speed; sealed fields of Secrets stay sealed). `lifetime` says which life of the object it belongs to;
 *                `causes` is null when there are none. Names, namespaces and uids are in `lifetimes` only, which saves a third of the bytes of a small object's version.
 *   lifetimes    one row for each life of an object, from its first known record to its end. `first_sequence` identifies it; `sequence` is its newest record;
 *                `desired_sequence` its newest record that was not status alone; `ended_sequence` is null while it lives, else the tombstone's sequence (or, where the
 *                tombstone was trimmed from the log before the projection saw it, the log's floor at that time). Alive at S means first_sequence <= S < ended_sequence.
 *                A name that is deleted and created again has two lifetimes. `lifetime_span` with its GiST index finds what was alive at S without touching the dead.
 *   gaps         where the projection fell behind the log's floor: records with `after` < sequence < `floor` may be missing, and the state of the objects is not exactly
 *                known for `after` < sequence < `until`.
 *   projection   one row. `sequence`: everything up to here is in, and here is no middle of a transaction. `record_sequence` and `write_id`: the last record written, by which
 *                a power cut that lost unacknowledged records is noticed. `floor`: the log's floor when last looked at. `generation` counts rewinds and rebuilds.
 *   snapshot_keys  empty but within the transaction that takes a snapshot.
 *
 *   objects      view: the living objects, each with its newest record.
 *   history      view: every record with the object's names.
 *
 * Events and Leases (the ephemeral stream) are not projected: the log keeps Events for a week by itself. Should `why` want them for longer, they get a table of their own with an
 * expiry, not rows here.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export const name = 'projection';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create type plane as enum ('desired', 'observed')`.execute(db);
  await sql`create type verb as enum ('create', 'update', 'patch', 'apply', 'delete')`.execute(db);
  await sql`
    create table resources (
      id smallint generated always as identity primary key,
      "group" text not null,
      resource text not null,
      unique ("group", resource)
    )`.execute(db);
  await createRecords(db);
  await createLifetimes(db);
  await createCursor(db);
  await createViews(db);
}

async function createRecords(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table records (
      sequence bigint primary key,
      lifetime bigint not null,
      time timestamptz not null,
      transaction_place integer,
      transaction_count integer,
      plane plane not null,
      verb verb not null,
      resource smallint not null,
      actor text not null,
      request_id text not null,
      write_id text not null,
      transaction_id text,
      causes bigint[],
      object json not null
    )`.execute(db);
  // Compressed objects stay in the row up to a page: one read a version, and no second table to vacuum.
  await sql`alter table records alter column object set storage main`.execute(db);
  await sql`create index records_lifetime on records (lifetime, sequence)`.execute(db);
  await sql`create index records_resource on records (resource, sequence)`.execute(db);
  await sql`create index records_causes on records using gin (causes) where causes is not null`.execute(db);
}

async function createLifetimes(db: Kysely<unknown>): Promise<void> {
  // The newest sequence changes with every record and is in no index, so with room on the page the update stays on it.
  await sql`
    create table lifetimes (
      first_sequence bigint primary key,
      sequence bigint not null,
      desired_sequence bigint not null,
      ended_sequence bigint,
      created_at timestamptz not null,
      resource smallint not null references resources,
      namespace text collate "C" not null,
      name text collate "C" not null,
      uid text not null
    ) with (fillfactor = 80)`.execute(db);
  await sql`create unique index lifetimes_living on lifetimes (resource, namespace, name) where ended_sequence is null`.execute(
    db,
  );
  await sql`create index lifetimes_name on lifetimes (resource, namespace, name, first_sequence)`.execute(db);
  await sql`create index lifetimes_uid on lifetimes (uid)`.execute(db);
  // The resource is folded into the range (48 bits are for the sequence), so that one range index is selective by both without an extension.
  await sql`
    create function lifetime_span(resource smallint, first_sequence bigint, ended_sequence bigint) returns int8range
    language sql immutable parallel safe
    return int8range(
      (resource::bigint << 48) | first_sequence,
      (resource::bigint << 48) | coalesce(ended_sequence, (1::bigint << 48) - 1))`.execute(db);
  await sql`
    create function lifetime_moment(resource smallint, sequence bigint) returns bigint
    language sql immutable parallel safe
    return (resource::bigint << 48) | sequence`.execute(db);
  await sql`create index lifetimes_span on lifetimes using gist (lifetime_span(resource, first_sequence, ended_sequence))`.execute(
    db,
  );
}

async function createCursor(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table gaps (
      after bigint primary key,
      floor bigint not null,
      until bigint not null,
      found_at timestamptz not null default now()
    )`.execute(db);
  await sql`
    create table projection (
      only_row boolean primary key default true check (only_row),
      sequence bigint not null default 0,
      record_sequence bigint not null default 0,
      write_id text not null default '',
      floor bigint not null default 1,
      generation bigint not null default 0,
      updated_at timestamptz not null default now()
    )`.execute(db);
  await sql`insert into projection default values`.execute(db);
  // No temporary table: a role with least rights may not be allowed any.
  await sql`create unlogged table snapshot_keys (resource smallint not null, namespace text not null, name text not null)`.execute(
    db,
  );
}

async function createViews(db: Kysely<unknown>): Promise<void> {
  await sql`
    create view objects as
    select k."group", k.resource, l.namespace, l.name, l.uid, l.sequence, l.desired_sequence, l.created_at, r.time as changed_at, r.actor, r.object
    from lifetimes l
    join resources k on k.id = l.resource
    join records r on r.sequence = l.sequence
    where l.ended_sequence is null`.execute(db);
  await sql`
    create view history as
    select r.sequence, r.plane, k."group", k.resource, l.namespace, l.name, l.uid, r.verb, r.actor, r.request_id, r.write_id, r.time,
      coalesce(r.causes, '{}') as causes, r.transaction_id, r.transaction_place, r.transaction_count, r.object
    from records r
    join lifetimes l on l.first_sequence = r.lifetime
    join resources k on k.id = r.resource`.execute(db);
}
