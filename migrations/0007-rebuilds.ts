/**
 * Says in the projection's own row that it is being rebuilt, and how far it had come before: `rebuilding_to` is null once `sequence` has reached it. A reader so tells "there is none" from "not there yet". For people the view
 * `reckon.projection` shows it, tenants included: it holds nothing but positions.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export const name = 'rebuilds';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table projection add column rebuilding_to bigint`.execute(db);
  // With its owner's rights, unlike the other views: of the table below it nobody else need see anything.
  await sql`
    create view reckon.projection as
    select sequence as revision, rebuilding_to, updated_at from projection`.execute(db);
  await sql`grant select on reckon.projection to public`.execute(db);
}
