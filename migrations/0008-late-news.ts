/**
 * An engine may hear only after a container's end that memory was the reason: then `oom` is noted behind `exited`. Otherwise as 0002 has it.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export const name = 'late-news';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create or replace function note_container_change() returns trigger language plpgsql as $$
    declare
      fact containers%rowtype;
      what text;
    begin
      if tg_op = 'DELETE' then
        fact := old;
        what := 'removed';
      else
        fact := new;
        what := case
          when new.state in ('exited', 'dead') then case when new.oom_killed then 'oom' else 'exited' end
          when new.state = 'running' then 'started'
          else new.state end;
        if tg_op = 'UPDATE' and new.state = old.state and new.started_at is not distinct from old.started_at
          and (what <> 'oom' or old.oom_killed) then
          return null;
        end if;
      end if;
      insert into runtime_events (node, kind, container_id, pod_uid, pod_namespace, pod_name, container_name, attempt, exit_code, causes, detail)
      values (fact.node, what, fact.id, fact.pod_uid, fact.pod_namespace, fact.pod_name, fact.container_name, fact.attempt,
        case when what in ('exited', 'oom', 'removed') then fact.exit_code end, fact.causes,
        case when what in ('exited', 'oom', 'removed') then to_jsonb(fact) end);
      return null;
    end $$`.execute(db);
}
