/**
 * SQL for people: the views of the schema `reckon` (docs/sql.md), and tenants, whose roles see the namespaces that are given to them and nothing else.
 *
 * The views run with the rights of whoever asks (security_invoker), and row-level security stands on the tables below them, so that nothing is seen through a view, a function or an error that the tables would not show.
 * The owner of the tables and the roles of our own processes see every row; any other role those that `tenants` gives it. `session_user` decides: nobody can become another by SET ROLE.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export const name = 'sql';

/** Of each table: what makes a row visible to a tenant. */
const VISIBLE: Readonly<Record<string, string>> = {
  lifetimes: 'namespace = any((select tenant_namespaces())::text[])',
  records:
    'exists (select from lifetimes l where l.first_sequence = lifetime and l.namespace = any((select tenant_namespaces())::text[]))',
  containers: 'pod_namespace = any((select tenant_namespaces())::text[])',
  runtime_events: 'pod_namespace = any((select tenant_namespaces())::text[])',
  usage:
    'exists (select from containers c where c.node = usage.node and c.id = usage.id and c.pod_namespace = any((select tenant_namespaces())::text[]))',
  nodes: 'false',
};
const OWN_ROLES = ['reckon_projection', 'reckon_agent', 'reckon_reader'];

export async function up(db: Kysely<unknown>): Promise<void> {
  await createTenants(db);
  for (const [table, visible] of Object.entries(VISIBLE)) await protect(db, table, visible);
  await sql`create schema reckon`.execute(db);
  await createViews(db);
  await createRuntimeViews(db);
  await sql`
    do $$ begin
      if exists (select from pg_roles where rolname = 'reckon_reader') then
        grant usage on schema reckon to reckon_reader;
        grant select on all tables in schema reckon to reckon_reader;
      end if;
    end $$`.execute(db);
}

async function createTenants(db: Kysely<unknown>): Promise<void> {
  // `*` is every namespace, and what belongs to none.
  await sql`
    create table tenants (
      role name not null,
      namespace text collate "C" not null,
      created_at timestamptz not null default now(),
      primary key (role, namespace)
    )`.execute(db);
  await sql`
    create function tenant_namespaces() returns text[]
    language sql stable security definer parallel safe set search_path from current
    return (select coalesce(array_agg(namespace), '{}') from tenants where role = session_user)`.execute(db);
  await sql`
    create function tenant_sees_all() returns boolean
    language sql stable security definer parallel safe set search_path from current
    return exists (select from tenants where role = session_user and namespace = '*')`.execute(db);
}

async function protect(db: Kysely<unknown>, table: string, visible: string): Promise<void> {
  await sql`alter table ${sql.id(table)} enable row level security`.execute(db);
  await sql`
    create policy tenants on ${sql.id(table)} for select to public
    using ((select tenant_sees_all()) or ${sql.raw(visible)})`.execute(db);
  for (const role of OWN_ROLES) {
    await sql`
      do $$ begin
        if exists (select from pg_roles where rolname = ${sql.lit(role)}) then
          create policy ${sql.id(role)} on ${sql.id(table)} to ${sql.id(role)} using (true) with check (true);
        end if;
      end $$`.execute(db);
  }
}

async function createViews(db: Kysely<unknown>): Promise<void> {
  await sql`
    create view reckon.objects with (security_invoker, security_barrier) as
    select k."group", k.resource, l.namespace, l.name, l.uid, l.sequence as revision, l.created_at, r.time as changed_at, r.actor, r.verb, r.object
    from lifetimes l
    join resources k on k.id = l.resource
    join records r on r.sequence = l.sequence
    where l.ended_sequence is null`.execute(db);
  await sql`
    create view reckon.history with (security_invoker, security_barrier) as
    select r.sequence as revision, r.time, r.actor, r.verb, r.plane, k."group", k.resource, l.namespace, l.name, l.uid,
      r.because, r.source, coalesce(r.causes, '{}') as causes, r.transaction_id, r.request_id, r.object
    from records r
    join lifetimes l on l.first_sequence = r.lifetime
    join resources k on k.id = r.resource`.execute(db);
  await sql`
    create view reckon.causes with (security_invoker, security_barrier) as
    select e.revision, e.time, e.actor, e.verb, e."group", e.resource, e.namespace, e.name,
      cause.revision as cause_revision, c.time as cause_time, c.actor as cause_actor, c.verb as cause_verb,
      c."group" as cause_group, c.resource as cause_resource, c.namespace as cause_namespace, c.name as cause_name
    from reckon.history e
    cross join lateral unnest(e.causes) as cause (revision)
    left join reckon.history c on c.revision = cause.revision`.execute(db);
}

async function createRuntimeViews(db: Kysely<unknown>): Promise<void> {
  await sql`
    create view reckon.pods with (security_invoker, security_barrier) as
    select o.namespace, o.name, o.uid, o.revision,
      o.object #>> '{spec,nodeName}' as node,
      o.object #>> '{status,phase}' as phase,
      o.object #>> '{status,podIP}' as ip,
      coalesce((
        select bool_and((s ->> 'ready')::boolean) from json_array_elements(o.object #> '{status,containerStatuses}') s), false) as ready,
      coalesce((
        select sum((s ->> 'restartCount')::integer) from json_array_elements(o.object #> '{status,containerStatuses}') s), 0) as restarts,
      array(select c ->> 'image' from json_array_elements(o.object #> '{spec,containers}') c) as images,
      (select w ->> 'kind' || '/' || (w ->> 'name') from json_array_elements(o.object #> '{metadata,ownerReferences}') w
        where (w ->> 'controller')::boolean limit 1) as owner,
      o.object #> '{metadata,labels}' as labels,
      o.created_at
    from reckon.objects o
    where o."group" = '' and o.resource = 'pods'`.execute(db);
  await sql`
    create view reckon.containers with (security_invoker, security_barrier) as
    select c.pod_namespace as namespace, c.pod_name as pod, c.container_name as container, c.node, c.image, c.state, c.attempt as restarts,
      c.exit_code, c.oom_killed, c.address, c.created_at, c.started_at, c.finished_at, u.memory_bytes, u.cpu_nanoseconds, c.causes, c.id
    from containers c
    left join usage u on u.node = c.node and u.id = c.id`.execute(db);
  await sql`
    create view reckon.container_events with (security_invoker, security_barrier) as
    select e.time, e.pod_namespace as namespace, e.pod_name as pod, e.container_name as container, e.node, e.kind, e.attempt as restarts, e.exit_code, e.message, e.causes
    from runtime_events e`.execute(db);
  await sql`
    create view reckon.nodes with (security_invoker, security_barrier) as
    select n.name, n.heartbeat_at, now() - n.heartbeat_at as heartbeat_age, n.capacity, n.info,
      (select count(*) from containers c where c.node = n.name and c.state = 'running') as running_containers
    from nodes n`.execute(db);
}
