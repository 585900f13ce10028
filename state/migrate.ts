/**
 * Brings a database up to the code: called by `npm start` before anything else uses it, and by the tests for their template. Safe to call from several starters at once.
 */
import { Kysely, PostgresDialect, sql } from 'kysely';
import { migrations } from '../migrations/index.ts';
import { newPool } from './database.ts';
import { DatabaseNewerError, translated } from './errors.ts';

/** An arbitrary number that is ours: 'reckon' in a phone's letters. */
const MIGRATION_LOCK = 732566;
const STATEMENT_TIMEOUT_MS = 300_000;

export interface Migrated {
  /** The migration that the database stands at, and how many were run now. */
  readonly version: number;
  readonly applied: number;
}

/** All or nothing, in one transaction. Rejects with DatabaseNewerError, StateUnavailableError, or what a migration threw. */
export async function migrate(databaseUrl: string): Promise<Migrated> {
  const pool = newPool({
    databaseUrl,
    applicationName: 'reckon migrate',
    maxConnections: 1,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
  });
  const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) });
  try {
    return await translated(() => db.transaction().execute(run));
  } finally {
    await db.destroy();
  }
}

async function run(db: Kysely<unknown>): Promise<Migrated> {
  await sql`select pg_advisory_xact_lock(${MIGRATION_LOCK})`.execute(db);
  await sql`create table if not exists migrations (number integer primary key, name text not null, applied_at timestamptz not null default now())`.execute(
    db,
  );
  const done = await sql<{ number: number; name: string }>`select number, name from migrations order by number`.execute(
    db,
  );
  const version = done.rows.at(-1)?.number ?? 0;
  if (version > migrations.length) {
    throw new DatabaseNewerError(
      `The database is at migration ${version} (${done.rows.at(-1)?.name}), and this program knows ${migrations.length}: it was used by a newer Reckon. Start that one, or restore an older database.`,
    );
  }
  for (const [index, migration] of migrations.entries()) {
    if (index < version) continue;
    await migration.up(db);
    await sql`insert into migrations (number, name) values (${index + 1}, ${migration.name})`.execute(db);
  }
  return { version: migrations.length, applied: migrations.length - version };
}
