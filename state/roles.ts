/**
 * What the supervisor does to a database server beside migrating it: waits until it answers, makes the database, and gives the roles of `migrations/0003-roles.ts` their passwords.
 */
import pg from 'pg';
import { setTimeout as sleep } from 'node:timers/promises';
import { newClient } from './database.ts';
import { isUnavailable, StateUnavailableError, translated } from './errors.ts';

export type RoleName = 'reckon_projection' | 'reckon_agent' | 'reckon_reader';

const STATEMENT_TIMEOUT_MS = 10_000;
const POLL_MS = 100;

/** Resolves once the server accepts connections to the URL's database; rejects with StateUnavailableError after `timeoutMs`, or with what is wrong with the URL. */
export async function waitForDatabase(databaseUrl: string, timeoutMs: number): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    try {
      await withClient(databaseUrl, (client) => client.query('select 1'));
      return;
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      if (performance.now() > endMs) throw new StateUnavailableError(`PostgreSQL did not answer within ${timeoutMs} ms`, { cause: error });
      await sleep(POLL_MS);
    }
  }
}

/** Creates the database if it is not there; `serverUrl` names another one, such as `postgres`. */
export async function createDatabase(serverUrl: string, database: string): Promise<void> {
  await withClient(serverUrl, async (client) => {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [database]);
    if (rowCount === 0) await client.query(`create database ${pg.escapeIdentifier(database)}`);
  });
}

/** Lets processes log in with their own role. The owner of the roles calls it; roles that could not be created are left out, and those processes connect as the owner. */
export async function setRolePasswords(databaseUrl: string, passwords: Readonly<Record<RoleName, string>>): Promise<readonly RoleName[]> {
  return withClient(databaseUrl, async (client) => {
    const set: RoleName[] = [];
    for (const [role, password] of Object.entries(passwords) as [RoleName, string][]) {
      const { rowCount } = await client.query('select from pg_roles where rolname = $1', [role]);
      if (rowCount === 0) continue;
      await client.query(`alter role ${pg.escapeIdentifier(role)} login password ${pg.escapeLiteral(password)}`);
      set.push(role);
    }
    return set;
  });
}

async function withClient<T>(databaseUrl: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  return translated(async () => {
    const client = newClient({ databaseUrl, applicationName: 'reckon set-up', statementTimeoutMs: STATEMENT_TIMEOUT_MS });
    try {
      await client.connect();
      return await work(client);
    } finally {
      await client.end().catch(() => undefined);
    }
  });
}
