/**
 * Connections to PostgreSQL as every file of this room wants them: small pools with time-outs, a name that shows in pg_stat_activity, sequences as numbers, times as RFC 3339 text and JSON documents
 * as they stand. Nobody outside this room opens a connection.
 */
import { Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';

export interface ConnectionOptions {
  readonly databaseUrl: string;
  /** Shows as `application_name`: `reckon <process>`. */
  readonly applicationName: string;
}

export interface PoolOptions extends ConnectionOptions {
  readonly maxConnections: number;
  readonly statementTimeoutMs: number;
}

/** Together under the 3 s within which a caller is told that the database is away. */
const CONNECT_TIMEOUT_MS = 2_000;
const ANSWER_GRACE_MS = 300;
const IDLE_TIMEOUT_MS = 30_000;

const INT8 = 20;
const INT8_ARRAY = 1016;
const JSON_TEXT = 114;
const TIMESTAMPTZ = 1184;

/** Sequences are below 2^53 and come as numbers; `json` stays the text it is; `jsonb` is parsed. */
export const typeParsers: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    switch (oid) {
      case INT8:
        return Number;
      case INT8_ARRAY:
        return (text: string) => (text === '{}' ? [] : text.slice(1, -1).split(',').map(Number));
      case JSON_TEXT:
        return (text: string) => text;
      case TIMESTAMPTZ:
        return (text: string) => new Date(text).toISOString();
      default:
        return pg.types.getTypeParser(oid, format as 'text') as (text: string) => unknown;
    }
  },
} as pg.CustomTypesConfig;

/** A client that is not connected yet, for work that must stay on one session. */
export function newClient(options: ConnectionOptions & { readonly statementTimeoutMs: number }): pg.Client {
  const client = new pg.Client({
    connectionString: options.databaseUrl,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: options.statementTimeoutMs,
    query_timeout: options.statementTimeoutMs + ANSWER_GRACE_MS,
    keepAlive: true,
    types: typeParsers,
  });
  // Without a listener a lost connection would end the process; the next query on it says so anyway.
  client.on('error', () => undefined);
  return client;
}

/** A pool that connects when first used and again whenever a connection was lost. */
export function newPool(options: PoolOptions): pg.Pool {
  const pool = new pg.Pool({
    connectionString: options.databaseUrl,
    application_name: options.applicationName,
    max: options.maxConnections,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    statement_timeout: options.statementTimeoutMs,
    query_timeout: options.statementTimeoutMs + ANSWER_GRACE_MS,
    keepAlive: true,
    allowExitOnIdle: true,
    types: typeParsers,
  });
  pool.on('error', () => undefined);
  // The pool listens only to clients that are idle. One that is lost while it is lent says so to its query; without a listener of its own it would also end the process.
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}

export function newKysely<Tables>(options: PoolOptions): Kysely<Tables> {
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool: newPool(options) }) });
}
