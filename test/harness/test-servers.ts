/**
 * The servers that test files share: one NATS, one PostgreSQL with a migrated template database. `run-tests.ts` starts them once for a whole run; a test file that is run by itself starts its own.
 */
import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { migrate } from '../../state/migrate.ts';
import { choosePort } from '../../cli/instance/addresses.ts';
import { natsProcess } from '../../cli/servers/nats.ts';
import { postgresProcess, prepareCluster } from '../../cli/servers/postgres.ts';
import { setUp } from '../../cli/set-up/set-up.ts';
import { SupervisedProcess, type ProcessObserver, type ProcessSpec } from '../../cli/start/supervised-process.ts';

/** What test files need to know; handed to them in RECKON_TEST_SERVERS. */
export interface ServerAddresses {
  readonly natsUrl: string;
  /** Of the superuser, without a database: `postgres://…:5432`. */
  readonly postgresUrl: string;
  readonly dockerHost: string;
  readonly kubectl: string;
  readonly busybox: string;
}

export interface TestServers {
  readonly addresses: ServerAddresses;
  stop(): Promise<void>;
}

export const templateDatabase = 'reckon_template';
export const testPassword = 'for-tests';
const host = '127.0.0.1';
/** Anywhere away from the ports that the system gives out by itself: two files that are run by themselves at the same moment must not choose the same. */
const anyPort = (): Promise<number> => choosePort(randomInt(24_000, 29_900), new Set());
const maxConnections = 300;

export async function startTestServers(say: (line: string) => void): Promise<TestServers> {
  const found = await setUp({ runtime: 'docker', hello: true, say });
  if (
    found.natsServer === undefined ||
    found.postgres === undefined ||
    found.docker === undefined ||
    found.busybox === undefined
  ) {
    throw new Error('the tests use servers of their own: unset NATS_URL and DATABASE_URL');
  }
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-test-'));
  const login = (user: string) => ({ user, password: testPassword });
  const nats = await natsProcess({
    program: found.natsServer.path,
    folder,
    host,
    port: await anyPort(),
    serverName: 'reckon-test',
    users: [{ ...login('test'), may: 'everything' }],
    withoutLogin: 'test',
  });
  const database = {
    programs: found.postgres,
    folder,
    host,
    port: await anyPort(),
    superuser: login('postgres'),
    roles: ['reckon_owner', 'reckon_projection', 'reckon_agent', 'reckon_reader'].map(login),
    database: templateDatabase,
    maxConnections,
    unsafeFast: true,
  };
  await prepareCluster(database);
  const running = [nats, await postgresProcess(database)].map(
    (spec) => new SupervisedProcess(spec, observer(spec, say)),
  );
  const stop = async (): Promise<void> => {
    await Promise.all(running.map((process) => process.stop()));
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await Promise.all(running.map((process) => process.start(AbortSignal.timeout(60_000))));
    await migrate(`postgres://reckon_owner:${testPassword}@${host}:${database.port}/${templateDatabase}`);
  } catch (error) {
    await stop();
    throw error;
  }
  const addresses = {
    natsUrl: `nats://test:${testPassword}@${host}:${nats.ports?.[0]?.port}`,
    postgresUrl: `postgres://postgres:${testPassword}@${host}:${database.port}`,
    dockerHost: found.docker.host,
    kubectl: found.kubectl.path,
    busybox: found.busybox,
  };
  return { addresses, stop };
}

/** A clone of the migrated template. */
export async function cloneTemplate(postgresUrl: string, name: string): Promise<void> {
  await execute(
    postgresUrl,
    `create database ${pg.escapeIdentifier(name)} template ${templateDatabase} owner reckon_owner`,
  );
}

/** Whoever is still connected is thrown out; a server that is gone needs no tidying. */
export async function dropDatabase(postgresUrl: string, name: string): Promise<void> {
  await execute(postgresUrl, `drop database if exists ${pg.escapeIdentifier(name)} with (force)`).catch(
    () => undefined,
  );
}

async function execute(postgresUrl: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: `${postgresUrl}/postgres` });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function observer(spec: ProcessSpec, say: (line: string) => void): ProcessObserver {
  return {
    started: () => undefined,
    ended: (_, how, again) =>
      again === undefined ? undefined : say(`${spec.name} ended (${how}) and is started again`),
    output: (_, line) => (/\b(ERR|FATAL|PANIC)\b/.test(line) && process.env['RECKON_TEST_LOG'] ? say(line) : undefined),
  };
}
