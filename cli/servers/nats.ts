/**
 * The embedded NATS server: its configuration (synchronous persistence; who may publish, who may only read) and how it is started. Run by the supervisor, which gives it accounts whose users are JWTs, so that
 * credentials come and go without a restart, and by the test harness, which gives it users by name.
 */
import { existsSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { followerSubjects } from '../../event-log/followers.ts';
import {
  accountJwts,
  CONSUMER_SERVICE,
  operatorSettings,
  type NatsSeeds,
  type UserRights,
} from '../../event-log/nats-accounts.ts';
import type { Login } from '../instance.ts';
import { PROMPT_RESTART, type ProcessSpec } from '../start/supervised-process.ts';
import { withParentDeathSignal } from './parent-death.ts';

export interface NatsServerOptions {
  readonly program: string;
  /** Holds the configuration and the streams. */
  readonly folder: string;
  readonly host: string;
  readonly port: number;
  readonly serverName: string;
  /** The keys of its accounts; absent: `users`. */
  readonly accounts?: NatsSeeds;
  readonly users?: readonly NatsUser[];
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
/** Members of an atomic batch. Tried on 2.15.1: 10,000 are stored in 1 to 4 s, and none is torn by `kill -9`; the API server needs as long to prepare them. */
export const EMBEDDED_MAX_TRANSACTION = 5_000;
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

const { question, answers } = followerSubjects();

const answersTo = (user: string): string => `_INBOX.${user}.>`;

/** A writer's answers come to a subject of its own, which no reader may listen to: wrapped keys are among them. */
export function rightsOf({ user, may }: Pick<NatsUser, 'user' | 'may'>, writer: string): UserRights {
  switch (may) {
    case 'writer':
      return {
        publish: { allow: ['reckon.>', '$JS.>', '_R_.>', question, `${answers}.*`] },
        subscribe: { allow: [answersTo(user), `${CONSUMER_SERVICE}.>`, question, `${answers}.*`] },
      };
    case 'reader':
      // No plain subscription to the subjects: that would show records before they are durable.
      return {
        publish: { allow: [...readerRequests, `${answers}.*`], deny: keysRequests },
        subscribe: { allow: ['_INBOX.>', question], deny: [answersTo(writer)] },
      };
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
      limits: { batch: { max_msgs: EMBEDDED_MAX_TRANSACTION } },
      ...(options.sync === 'default' ? {} : { sync_interval: 'always' }),
    },
    ...(options.withoutLogin === undefined ? {} : { no_auth_user: options.withoutLogin }),
    ...(options.accounts === undefined
      ? { authorization: { users: (options.users ?? []).map(namedUser) } }
      : await operatorMode(options.accounts, options.folder)),
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
    restart: PROMPT_RESTART,
  };
}

const namedUser = (user: NatsUser, _index: number, users: readonly NatsUser[]): object => ({
  user: user.user,
  password: user.password,
  permissions: rightsOf(user, users.find(({ may }) => may === 'writer')?.user ?? 'nobody'),
});

/**
 * The accounts' JWTs lie in a folder that the server reads, and writes when it is told of changes. The consumers' account, which changes as consumers come and go, is only laid down where there is none.
 */
async function operatorMode(seeds: NatsSeeds, folder: string): Promise<object> {
  const jwts = path.join(folder, 'accounts');
  await mkdir(jwts, { recursive: true, mode: 0o700 });
  const { consumers, ...ours } = await accountJwts(seeds);
  const fileOf = (account: string): string => path.join(jwts, `${account}.jwt`);
  for (const [account, jwt] of Object.values(ours)) await writeFile(fileOf(account), jwt, { mode: 0o600 });
  if (!existsSync(fileOf(consumers[0]))) await writeFile(fileOf(consumers[0]), consumers[1], { mode: 0o600 });
  await adoptStreams(path.join(folder, 'jetstream', 'jetstream'), ours.log[0]);
  return {
    ...(await operatorSettings(seeds)),
    resolver: { type: 'full', dir: jwts, allow_delete: false, interval: '2m' },
  };
}

/** Before there were accounts, the streams belonged to the server's one nameless account. */
async function adoptStreams(store: string, account: string): Promise<void> {
  const [nameless, ours] = [path.join(store, '$G'), path.join(store, account)];
  if (existsSync(path.join(nameless, 'streams')) && !existsSync(ours)) await rename(nameless, ours);
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
