/**
 * Why each record was written, in the words of whoever wrote it: `because`, a sentence, and `source`, what the change was made from (a file and its digest). Both are null where nobody said. The view
 * `history` shows them.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export const name = 'reasons';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table records add column because text, add column source text`.execute(db);
  await sql`
    create or replace view history as
    select r.sequence, r.plane, k."group", k.resource, l.namespace, l.name, l.uid, r.verb, r.actor, r.request_id, r.write_id, r.time,
      coalesce(r.causes, '{}') as causes, r.transaction_id, r.transaction_place, r.transaction_count, r.object, r.because, r.source
    from records r
    join lifetimes l on l.first_sequence = r.lifetime
    join resources k on k.id = r.resource`.execute(db);
}
