/**
 * Tenants: database roles that see the namespaces given to them, through the views of the schema `reckon`, and nothing else (migration `sql`). Called by `reckon tenant`; the connection must be of somebody who may create
 * roles and grant on our tables: the embedded database's superuser, or whoever DATABASE_URL names.
 */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { newClient } from './database.ts';
import { translated } from './errors.ts';

export interface Tenant {
  /** The role's name. */
  readonly role: string;
  /** `*`: all of them, and what belongs to none. */
  readonly namespaces: readonly string[];
}

/** So many sessions a tenant may have at a time. */
export const TENANT_CONNECTIONS = 10;
const STATEMENT_TIMEOUT_MS = 30_000;
/** What lies below the views; row-level security stands on those that hold rows of namespaces. */
const BASE_TABLES = ['resources', 'records', 'lifetimes', 'containers', 'runtime_events', 'usage', 'nodes'];
const ROLE_PREFIX = 'tenant_';
const NAME = /^[a-z][a-z0-9_]{0,49}$/;

export class TenantError extends Error {
  override readonly name = 'TenantError';
}

export const roleOf = (name: string): string => {
  const plain = name.replaceAll('-', '_');
  if (!NAME.test(plain))
    throw new TenantError(
      `'${name}' cannot name a tenant: expected up to 50 lower-case letters, digits, '-' or '_', a letter first`,
    );
  return `${ROLE_PREFIX}${plain}`;
};

/** Makes the role, or gives an existing one a new password and these namespaces instead of its own. */
export async function grantTenant(
  databaseUrl: string,
  name: string,
  namespaces: readonly string[],
): Promise<Tenant & { password: string }> {
  const role = roleOf(name);
  const password = randomBytes(24).toString('base64url');
  await asAdministrator(databaseUrl, async (client) => {
    const id = pg.escapeIdentifier(role);
    const { rowCount } = await client.query('select from pg_roles where rolname = $1', [role]);
    await client.query(
      `${rowCount === 0 ? 'create' : 'alter'} role ${id} login noinherit nosuperuser nocreatedb nocreaterole noreplication nobypassrls ` +
        `connection limit ${TENANT_CONNECTIONS} password ${pg.escapeLiteral(password)}`,
    );
    const settings = {
      search_path: 'reckon',
      default_transaction_read_only: 'on',
      statement_timeout: `${STATEMENT_TIMEOUT_MS}ms`,
      idle_in_transaction_session_timeout: '60s',
    };
    for (const [setting, value] of Object.entries(settings))
      await client.query(`alter role ${id} set ${setting} = ${pg.escapeLiteral(value)}`);
    const database = pg.escapeIdentifier(client.database ?? '');
    await client.query(`revoke temporary on database ${database} from public`);
    await client.query(`grant connect on database ${database} to ${id}`);
    await client.query(`grant usage on schema reckon to ${id}`);
    await client.query(`grant select on all tables in schema reckon to ${id}`);
    await client.query(`grant select on ${BASE_TABLES.map((table) => `public.${table}`).join(', ')} to ${id}`);
    await client.query('delete from public.tenants where role = $1', [role]);
    await client.query('insert into public.tenants (role, namespace) select $1, unnest($2::text[])', [
      role,
      [...new Set(namespaces)],
    ]);
  });
  return { role, namespaces, password };
}

/** Its sessions end too. Rejects with TenantError when there is none. */
export async function revokeTenant(databaseUrl: string, name: string): Promise<void> {
  const role = roleOf(name);
  await asAdministrator(databaseUrl, async (client) => {
    const { rowCount } = await client.query('select from pg_roles where rolname = $1', [role]);
    if (rowCount === 0) throw new TenantError(`There is no tenant ${name}.`);
    const id = pg.escapeIdentifier(role);
    await client.query('delete from public.tenants where role = $1', [role]);
    await client.query(`alter role ${id} nologin`);
    await client.query(`drop owned by ${id}`);
    await client.query(`drop role ${id}`);
    await client.query('select pg_terminate_backend(pid) from pg_stat_activity where usename = $1', [role]);
  });
}

export async function listTenants(databaseUrl: string): Promise<readonly Tenant[]> {
  return asAdministrator(databaseUrl, async (client) => {
    const { rows } = await client.query<{ role: string; namespaces: string[] }>(
      'select role::text, array_agg(namespace order by namespace) as namespaces from public.tenants group by role order by role',
    );
    return rows;
  });
}

/** In one transaction. */
async function asAdministrator<T>(databaseUrl: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = newClient({ databaseUrl, applicationName: 'reckon tenant', statementTimeoutMs: STATEMENT_TIMEOUT_MS });
  return translated(async () => {
    await client.connect();
    try {
      await client.query('begin');
      const result = await work(client);
      await client.query('commit');
      return result;
    } finally {
      await client.end();
    }
  });
}
