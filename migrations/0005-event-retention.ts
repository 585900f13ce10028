/**
 * What happened to containers is kept for a time and then goes. An agent may let it go when it is old, and not otherwise: the trail of what was done is not the agent's to wipe.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export const name = 'event-retention';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function prune_runtime_events(keep interval, at_most integer) returns bigint
    language sql security definer set search_path from current as $$
      with old as (
        select id from runtime_events where time < now() - greatest(keep, interval '1 day')
        order by id limit at_most for update skip locked
      ), gone as (
        delete from runtime_events using old where runtime_events.id = old.id returning 1
      )
      select count(*) from gone
    $$`.execute(db);
  await sql`revoke execute on function prune_runtime_events(interval, integer) from public`.execute(db);
  await sql`
    do $$ begin
      if exists (select from pg_roles where rolname = 'reckon_agent') then
        grant execute on function prune_runtime_events(interval, integer) to reckon_agent;
      end if;
    end $$`.execute(db);
}
