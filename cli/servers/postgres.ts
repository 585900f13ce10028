/**
 * The embedded PostgreSQL: made once (cluster, roles, database), then started. Run by the supervisor and by the test harness.
 *
 * As root the server runs as another user, who usually cannot enter the folders above ours. So it is never told their names: it starts inside its data folder
 * (the folder is entered while still root) and is told `/proc/self/cwd`.
 */
import { spawn } from 'node:child_process';
import { chown, mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import type { Login } from '../instance.ts';
import type { PostgresPrograms } from '../set-up/postgres.ts';
import { PROMPT_RESTART, type ProcessSpec } from '../start/supervised-process.ts';
import { withParentDeathSignal } from './parent-death.ts';

export interface PostgresOptions {
  readonly programs: PostgresPrograms;
  readonly folder: string;
  readonly host: string;
  readonly port: number;
  readonly superuser: Login;
  /** Made with the cluster; the first owns the database. */
  readonly roles: readonly Login[];
  readonly database: string;
  readonly maxConnections?: number;
  /** Only for tests, whose data may be lost. */
  readonly unsafeFast?: boolean;
}

const here = '/proc/self/cwd';
const readyTimeoutMs = 60_000;
const defaultMaxConnections = 100;

/** Makes the cluster where there is none. A kill in the middle leaves nothing half made: the folder gets its name last. */
export async function prepareCluster(options: PostgresOptions): Promise<{ created: boolean }> {
  const data = path.join(options.folder, 'data');
  if (await stat(path.join(data, 'PG_VERSION')).catch(() => undefined)) return { created: false };
  const work = path.join(options.folder, 'data.new');
  const passwordFile = path.join(options.folder, 'password.new');
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true, mode: 0o700 });
  await writeFile(passwordFile, `${options.superuser.password}\n`, { mode: 0o600 });
  const { user } = options.programs;
  if (user !== undefined) {
    await chown(work, user.uid, user.gid);
    await chown(passwordFile, user.uid, user.gid);
  }
  const password = await open(passwordFile, 'r');
  try {
    const flags = [
      '--auth=scram-sha-256',
      '--pwfile=/proc/self/fd/3',
      '--locale=C.UTF-8',
      '--encoding=UTF8',
      ...(options.unsafeFast ? ['--no-sync'] : []),
    ];
    await runOnce(
      options,
      work,
      options.programs.initdb,
      [`--pgdata=${here}`, `--username=${options.superuser.user}`, ...flags],
      { extraFd: password.fd },
    );
    await runOnce(options, work, options.programs.postgres, ['--single', '-D', here, 'postgres'], {
      input: firstStatements(options),
    });
  } finally {
    await password.close();
    await rm(passwordFile, { force: true });
  }
  await rename(work, data);
  return { created: true };
}

/** One statement a line, as the single-user server wants them. Its log is not kept, since it would hold the passwords. */
function firstStatements(options: PostgresOptions): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;
  const roles = options.roles.map(({ user, password }) => `CREATE ROLE ${user} LOGIN PASSWORD ${quoted(password)};`);
  return [
    ...roles,
    `CREATE DATABASE ${options.database} OWNER ${options.roles[0]?.user};`,
    `REVOKE ALL ON DATABASE ${options.database} FROM PUBLIC;`,
    ...grants(options),
    '',
  ].join('\n');
}

function grants(options: PostgresOptions): string[] {
  return options.roles.slice(1).map(({ user }) => `GRANT CONNECT ON DATABASE ${options.database} TO ${user};`);
}

async function runOnce(
  options: PostgresOptions,
  cwd: string,
  program: string,
  args: readonly string[],
  give: { extraFd?: number; input?: string },
): Promise<void> {
  const { user } = options.programs;
  const child = spawn(program, args, {
    cwd,
    env: serverEnvironment(),
    stdio: ['pipe', 'pipe', 'pipe', ...(give.extraFd === undefined ? [] : [give.extraFd])],
    ...(user ?? {}),
  });
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(give.input ?? '');
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const failed = code !== 0 || (give.input !== undefined && /\b(ERROR|FATAL):/.test(said));
  if (failed)
    throw new Error(
      `${path.basename(program)} failed with code ${code}: ${said.slice(-1500).replaceAll(/PASSWORD '[^']*'/g, "PASSWORD '…'")}`,
    );
}

export async function postgresProcess(options: PostgresOptions): Promise<ProcessSpec> {
  const settings: Record<string, string | number> = {
    listen_addresses: options.host,
    port: options.port,
    unix_socket_directories: '',
    max_connections: options.maxConnections ?? defaultMaxConnections,
    shared_buffers: '64MB',
    log_min_messages: 'warning',
    log_line_prefix: '',
    // What a dead peer holds is let go of within half a minute.
    tcp_keepalives_idle: 10,
    tcp_keepalives_interval: 5,
    tcp_keepalives_count: 3,
    ...(options.unsafeFast ? { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' } : {}),
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const { user } = options.programs;
  const plain: readonly [string, ...string[]] = [options.programs.postgres, '-D', here, ...flags];
  const [command, ...args] = await withParentDeathSignal('INT', plain, user);
  return {
    name: 'postgres',
    command,
    args,
    cwd: path.join(options.folder, 'data'),
    environment: serverEnvironment(),
    ...(command === options.programs.postgres && user !== undefined ? { runAs: user } : {}),
    // Fast shutdown: sessions are ended, nothing is waited for.
    stopSignal: 'SIGINT',
    ports: [{ port: options.port, host: options.host, what: 'PostgreSQL', flag: '--postgres-port' }],
    ready: () => answers(options.host, options.port),
    readyTimeoutMs,
    restart: PROMPT_RESTART,
  };
}

function serverEnvironment(): Record<string, string> {
  return { LC_ALL: 'C.UTF-8', LC_MESSAGES: 'C', TZ: 'UTC', PATH: process.env['PATH'] ?? '' };
}

const startupCode = 196608;
const starting = '57P03';

/** Begins a session as nobody: a server that is up asks for a password or refuses the name; one that is starting says so (57P03). */
function answers(host: string, port: number): Promise<boolean> {
  const words = Buffer.from('user\0reckon_probe\0database\0postgres\0\0');
  const head = Buffer.alloc(8);
  head.writeInt32BE(words.length + 8, 0);
  head.writeInt32BE(startupCode, 4);
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1000 }, () => socket.write(Buffer.concat([head, words])));
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('data', (data) => end(!data.toString('latin1').includes(starting)));
    socket.once('error', () => end(false));
    socket.once('timeout', () => end(false));
    socket.once('close', () => end(false));
  });
}
