/**
 * Servers of their own for the tests of this room, which stop and start them: PostgreSQL and NATS on free ports in a folder that goes away, and fresh databases and streams on them.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { natsProcess } from '../../cli/servers/nats.ts';
import { postgresProcess, prepareCluster } from '../../cli/servers/postgres.ts';
import { natsServer } from '../../cli/set-up/nats-server.ts';
import { postgres } from '../../cli/set-up/postgres.ts';
import type { Requirement } from '../../cli/set-up/requirement.ts';
import { cacheFolder } from '../../cli/set-up/set-up.ts';
import { SupervisedProcess } from '../../cli/start/supervised-process.ts';
import type { ProcessSpec } from '../../cli/start/supervised-process.ts';

const host = '127.0.0.1';
const login = { user: 'postgres', password: 'for-tests' };
const context = { cacheFolder: cacheFolder(), say: () => undefined };

export interface Server {
  readonly url: string;
  /** Where its data is. */
  readonly folder: string;
  stop(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Stops it and removes its data. */
  remove(): Promise<void>;
}

export async function startPostgres(): Promise<Server & { createDatabase(): Promise<string> }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-test-postgres-'));
  const programs = await found(postgres);
  const port = await freePort();
  const options = { programs, folder, host, port, superuser: login, roles: [], database: 'unused' };
  await prepareCluster({ ...options, roles: [{ user: 'unused', password: 'unused' }] });
  const server = await started(
    folder,
    await postgresProcess(options),
    `postgres://${login.user}:${login.password}@${host}:${port}`,
  );
  const createDatabase = async (): Promise<string> => {
    const name = `test_${randomBytes(6).toString('hex')}`;
    await query(`${server.url}/postgres`, `create database ${name}`);
    return `${server.url}/${name}`;
  };
  return { ...server, createDatabase };
}

export async function startNats(): Promise<Server> {
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-test-nats-'));
  const { path: program } = await found(natsServer);
  const port = await freePort();
  const spec = await natsProcess({
    program,
    folder,
    host,
    port,
    serverName: 'test',
    users: [{ ...login, may: 'everything' }],
    sync: 'default',
  });
  return started(folder, spec, `nats://${login.user}:${login.password}@${host}:${port}`);
}

/** One statement on a connection of its own; rows as pg parses them by default. */
export async function query<Row extends pg.QueryResultRow = Record<string, unknown>>(
  databaseUrl: string,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'test' });
  await client.connect();
  try {
    return (await client.query<Row>(text, values)).rows;
  } finally {
    await client.end();
  }
}

async function started(folder: string, spec: ProcessSpec, url: string): Promise<Server> {
  await mkdir(folder, { recursive: true });
  let running = newProcess(spec);
  await running.start(AbortSignal.timeout(60_000));
  const ended = async (): Promise<void> => running.stop();
  const server: Server = {
    url,
    folder,
    stop: ended,
    kill: async () => {
      running.kill();
      await running.stop();
    },
    start: async () => {
      running = newProcess(spec);
      await running.start(AbortSignal.timeout(60_000));
    },
    remove: async () => {
      await running.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return server;
}

function newProcess(spec: ProcessSpec): SupervisedProcess {
  const show = (...words: unknown[]): void => (
    process.env['SHOW_SERVERS'] ? process.stderr.write(`${words.join(' ')}\n`) : undefined,
    undefined
  );
  return new SupervisedProcess(spec, { started: () => undefined, ended: show, output: show });
}

async function found<Found>(requirement: Requirement<Found>): Promise<Found> {
  if ((await requirement.find(context)) === undefined) await requirement.install?.(context);
  const it = await requirement.find(context);
  if (it === undefined) throw new Error(`${requirement.name} is missing: npm test sets it up`);
  return it;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
