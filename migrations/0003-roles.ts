/**
 * Roles with the least rights for each kind of process: `reckon_projection` writes the projection, `reckon_agent` the runtime state, `reckon_reader` reads. Where
 * whoever made the database has made them (as the embedded one's set-up does), they only get their rights here; where they are missing they are created without a password, if the owner may; else
 * everything connects as the owner.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export const name = 'roles';

export async function up(db: Kysely<unknown>): Promise<void> {
  // Roles belong to the whole server: another database of it may be creating the same ones at this moment.
  for (const role of ['reckon_projection', 'reckon_agent', 'reckon_reader']) {
    await sql`
      do $$ begin
        if not exists (select from pg_roles where rolname = ${sql.lit(role)}) then
          create role ${sql.id(role)} login;
        end if;
      exception when insufficient_privilege or duplicate_object or unique_violation then null;
      end $$`.execute(db);
  }
  await grant(db, 'reckon_projection', 'select, insert, update, delete, truncate', [
    'resources',
    'records',
    'lifetimes',
    'gaps',
    'projection',
    'snapshot_keys',
  ]);
  await grant(db, 'reckon_projection', 'select', ['objects', 'history']);
  const observed = ['nodes', 'containers', 'images', 'volumes', 'addresses', 'usage'];
  await grant(db, 'reckon_agent', 'select, insert, update, delete', observed);
  await grant(db, 'reckon_agent', 'select, insert', ['runtime_events']);
  await grant(db, 'reckon_reader', 'select', [
    'resources',
    'records',
    'lifetimes',
    'gaps',
    'projection',
    'objects',
    'history',
    ...observed,
    'runtime_events',
  ]);
}

async function grant(db: Kysely<unknown>, role: string, rights: string, tables: readonly string[]): Promise<void> {
  await sql`
    do $$ begin
      if exists (select from pg_roles where rolname = ${sql.lit(role)}) then
        grant ${sql.raw(rights)} on ${sql.join(tables.map((table) => sql.id(table)))} to ${sql.id(role)};
      end if;
    end $$`.execute(db);
}
