/**
 * The embedded NATS server: its configuration (synchronous persistence; who may publish, who may only read) and how it is started. Run by the supervisor and by the test harness.
 */
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import type { Login } from '../instance.ts';
import type { ProcessSpec } from '../start/supervised-process.ts';
import { withParentDeathSignal } from './parent-death.ts';

export interface NatsServerOptions {
  readonly program: string;
  /** Holds the configuration and the streams. */
  readonly folder: string;
  readonly host: string;
  readonly port: number;
  readonly serverName: string;
  readonly users: readonly NatsUser[];
  /** Whoever comes without a login is this user. Only for tests. */
  readonly withoutLogin?: string;
  /** Absent: every write is synced before it is acknowledged. Tests that lose no power may do without. */
  readonly sync?: 'always' | 'default';
}

export interface NatsUser extends Login {
  /** `writer`: publishes to the log and makes its streams. `reader`: follows it. `everything`: for tests, under prefixes of their own. */
  readonly may: 'writer' | 'reader' | 'everything';
}

/** An object has at most 1.5 MiB; a record may carry some more around it. */
const maxPayloadBytes = 8 * 1024 * 1024;
const readyTimeoutMs = 30_000;
const keysStream = 'RECKON_KEYS';

/**
 * What a reader may ask: stream information, consumers of its own and single records. Consumers are made by name under the stream, so the stream that holds the Secrets'
 * keys can be left out one by one.
 */
const readerRequests = [
  '$JS.API.INFO',
  '$JS.API.STREAM.NAMES',
  '$JS.API.STREAM.INFO.*',
  '$JS.API.STREAM.MSG.GET.*',
  '$JS.API.CONSUMER.>',
  '$JS.API.DIRECT.GET.>',
  '$JS.ACK.>',
  '$JS.FC.>',
];
const keysRequests = [
  `$JS.API.STREAM.MSG.GET.${keysStream}`,
  `$JS.API.DIRECT.GET.${keysStream}`,
  `$JS.API.DIRECT.GET.${keysStream}.>`,
  `$JS.API.CONSUMER.*.${keysStream}`,
  `$JS.API.CONSUMER.*.${keysStream}.>`,
  `$JS.API.CONSUMER.*.*.${keysStream}`,
  `$JS.API.CONSUMER.*.*.${keysStream}.>`,
];

const answersTo = (user: string): string => `_INBOX.${user}.>`;

/** A writer's answers come to a subject of its own, which no reader may listen to: wrapped keys are among them. */
function permissionsOf({ user, may }: NatsUser, users: readonly NatsUser[]): object {
  switch (may) {
    case 'writer':
      return { publish: { allow: ['reckon.>', '$JS.>'] }, subscribe: { allow: [answersTo(user)] } };
    case 'reader': {
      const writers = users.filter((other) => other.may === 'writer').map((other) => answersTo(other.user));
      // No plain subscription to the subjects: that would show records before they are durable.
      return {
        publish: { allow: readerRequests, deny: keysRequests },
        subscribe: { allow: ['_INBOX.>'], deny: writers },
      };
    }
    case 'everything':
      return { publish: { allow: ['>'] }, subscribe: { allow: ['>'] } };
    default:
      return may satisfies never;
  }
}

/** Writes the configuration and says how to run it. */
export async function natsProcess(options: NatsServerOptions): Promise<ProcessSpec> {
  const configuration = {
    server_name: options.serverName,
    host: options.host,
    port: options.port,
    max_payload: maxPayloadBytes,
    jetstream: {
      store_dir: path.join(options.folder, 'jetstream'),
      ...(options.sync === 'default' ? {} : { sync_interval: 'always' }),
    },
    ...(options.withoutLogin === undefined ? {} : { no_auth_user: options.withoutLogin }),
    authorization: {
      users: options.users.map((user) => ({
        user: user.user,
        password: user.password,
        permissions: permissionsOf(user, options.users),
      })),
    },
  };
  const file = path.join(options.folder, 'nats-server.conf');
  // The configuration language takes JSON as it is.
  await writeFile(file, JSON.stringify(configuration, undefined, 2), { mode: 0o600 });
  const [command, ...args] = await withParentDeathSignal('TERM', [options.program, '--config', file]);
  return {
    name: 'nats',
    command,
    args,
    stopSignal: 'SIGTERM',
    ports: [{ port: options.port, host: options.host, what: 'NATS', flag: '--nats-port' }],
    ready: () => greets(options.host, options.port),
    readyTimeoutMs,
  };
}

/** The server speaks first: `INFO {…}`. It listens only once its streams are recovered. */
function greets(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1000 });
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('data', (data) => end(data.toString().startsWith('INFO')));
    socket.once('error', () => end(false));
    socket.once('timeout', () => end(false));
  });
}
