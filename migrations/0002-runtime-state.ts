/**
 * Runtime state: what the node agents have observed. Written by `state/runtime-state.ts` on behalf of agents alone, read by controllers, by `reckon` and in SQL. Nothing here is the truth
 * of anything: an agent that starts writes it all again from what its engine says.
 *
 *   nodes           one row a node. `heartbeat_at` is by this database's clock, so that ages compare; `snapshot_at` is when the node's tables were last made equal to the engine.
 *   containers      the containers that are there now (a removed one is gone from here; its end is in runtime_events). `causes`: the log sequences its labels carry.
 *   images, volumes, addresses   what the engine holds, and which pod has which address.
 *   usage           the newest figures a container; unlogged, since they are stale in seconds anyhow.
 *   runtime_events  what happened to containers, kept until trimmed by age: written by a trigger whenever a container's row appears, changes state or goes, so that no path that writes
 *                   containers can forget it; agents add what only they know (a failed probe, an eviction). `detail` is the container's last row for `exited`, `oom` and `removed`.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export const name = 'runtime-state';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table nodes (
      name text primary key,
      heartbeat_at timestamptz not null default now(),
      snapshot_at timestamptz,
      boot_id text,
      capacity jsonb not null default '{}',
      info jsonb not null default '{}'
    ) with (fillfactor = 50)`.execute(db);
  await createContainers(db);
  await sql`
    create table images (
      node text not null, id text not null, tags text[] not null, size_bytes bigint not null, observed_at timestamptz not null default now(),
      primary key (node, id)
    )`.execute(db);
  await sql`
    create table volumes (
      node text not null, name text not null, driver text not null, mountpoint text, labels jsonb not null, size_bytes bigint, created_at timestamptz,
      observed_at timestamptz not null default now(),
      primary key (node, name)
    )`.execute(db);
  await sql`
    create table addresses (
      node text not null, address text not null, pod_uid text, pod_namespace text, pod_name text, observed_at timestamptz not null default now(),
      primary key (node, address)
    )`.execute(db);
  await sql`
    create unlogged table usage (
      node text not null, id text not null, cpu_nanoseconds bigint not null, memory_bytes bigint not null, observed_at timestamptz not null default now(),
      primary key (node, id)
    ) with (fillfactor = 50)`.execute(db);
  await createEvents(db);
}

async function createContainers(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table containers (
      node text not null,
      id text not null,
      pod_uid text,
      pod_namespace text,
      pod_name text,
      container_name text,
      attempt integer not null,
      image text not null,
      image_id text,
      state text not null,
      pid integer,
      exit_code integer,
      oom_killed boolean not null,
      created_at timestamptz,
      started_at timestamptz,
      finished_at timestamptz,
      address text,
      labels jsonb not null,
      causes bigint[] not null,
      observed_at timestamptz not null default now(),
      primary key (node, id)
    )`.execute(db);
  await sql`create index containers_pod on containers (pod_uid)`.execute(db);
  await sql`create index containers_causes on containers using gin (causes)`.execute(db);
}

async function createEvents(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table runtime_events (
      id bigint generated always as identity primary key,
      time timestamptz not null default now(),
      node text not null,
      kind text not null,
      container_id text,
      pod_uid text,
      pod_namespace text,
      pod_name text,
      container_name text,
      attempt integer,
      exit_code integer,
      message text,
      causes bigint[] not null default '{}',
      detail jsonb
    )`.execute(db);
  await sql`create index runtime_events_pod on runtime_events (pod_uid, id)`.execute(db);
  await sql`create index runtime_events_node on runtime_events (node, id)`.execute(db);
  await sql`create index runtime_events_time on runtime_events using brin (time)`.execute(db);
  await sql`create index runtime_events_causes on runtime_events using gin (causes)`.execute(db);
  await sql`
    create function note_container_change() returns trigger language plpgsql as $$
    declare
      fact containers%rowtype;
      what text;
    begin
      if tg_op = 'DELETE' then
        fact := old;
        what := 'removed';
      else
        fact := new;
        if tg_op = 'UPDATE' and new.state = old.state and new.started_at is not distinct from old.started_at then
          return null;
        end if;
        what := case new.state
          when 'running' then 'started'
          when 'exited' then case when new.oom_killed then 'oom' else 'exited' end
          when 'dead' then case when new.oom_killed then 'oom' else 'exited' end
          else new.state end;
      end if;
      insert into runtime_events (node, kind, container_id, pod_uid, pod_namespace, pod_name, container_name, attempt, exit_code, causes, detail)
      values (fact.node, what, fact.id, fact.pod_uid, fact.pod_namespace, fact.pod_name, fact.container_name, fact.attempt,
        case when what in ('exited', 'oom', 'removed') then fact.exit_code end, fact.causes,
        case when what in ('exited', 'oom', 'removed') then to_jsonb(fact) end);
      return null;
    end $$`.execute(db);
  await sql`
    create trigger containers_noted after insert or update or delete on containers
    for each row execute function note_container_change()`.execute(db);
}
