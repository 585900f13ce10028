/**
 * Credentials of event consumers. Each is signed with a signing key of its own under the consumers' account, and the key is thrown away: the account lists the keys of those consumers that stand, so taking a key off the
 * list (`allow`) ends the connections that it signed for and refuses new ones, and the list follows from the consumers alone. For an external NATS its operator supplies one signing key; then a
 * consumer's credentials end with its durable, which is the only thing that they name. Used by the API server.
 */
import { LogConnection } from './connection.ts';
import type { ConnectionSettings } from './connection-settings.ts';
import { LogUnavailableError } from './event-log.ts';
import { NoAnswerError, NoResponderError } from './answers.ts';
import {
  CONSUMER_API_PREFIX,
  CONSUMER_SERVICE,
  accountJwts,
  credsFile,
  issueUser,
  newSigningKey,
  publicKeyOf,
  type NatsSeeds,
} from './nats-accounts.ts';

export type ConsumerAccessOptions =
  /** Ours: the keys of the accounts, and how to tell the server. */
  | { readonly kind: 'own'; readonly seeds: NatsSeeds; readonly system: ConnectionSettings }
  /** The operator's: the consumers' account, and the seed of one of its signing keys. */
  | { readonly kind: 'supplied'; readonly account: string; readonly signingSeed: string };

export interface IssuedCredentials {
  /** A creds file. */
  readonly credentials: string;
  /** Public keys: of who signed, and of the user. */
  readonly issuer: string;
  readonly user: string;
  /** Under which alone the user may listen for answers. */
  readonly inboxPrefix: string;
  /** Of JetStream's API, as its client library must be told. */
  readonly apiPrefix: string;
}

export interface ConsumerAccess {
  /** Whether `allow` can withdraw credentials; otherwise a durable under another name must. */
  readonly withdraws: boolean;
  issue(consumer: { name: string; stream: string; durable: string; expiresAtMs?: number }): Promise<IssuedCredentials>;
  /** From now on these issuers' credentials are good, and no others. Rejects with LogUnavailableError. */
  allow(issuers: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

const TIMEOUT_MS = 5_000;

export async function openConsumerAccess(options: ConsumerAccessOptions): Promise<ConsumerAccess> {
  if (options.kind === 'supplied') {
    const { account, signingSeed } = options;
    return {
      withdraws: false,
      issue: (consumer) => issue({ ...consumer, account, signingSeed }),
      allow: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
  }
  const { seeds, system } = options;
  const connection = await LogConnection.open(system);
  return {
    withdraws: true,
    issue: (consumer) =>
      issue({ ...consumer, account: publicKeyOf(seeds.consumers), signingSeed: newSigningKey().seed }),
    allow: (issuers) => tell(connection, seeds, issuers),
    close: () => connection.close(),
  };
}

async function issue(consumer: {
  name: string;
  stream: string;
  durable: string;
  expiresAtMs?: number;
  account: string;
  signingSeed: string;
}): Promise<IssuedCredentials> {
  const { name, stream, durable, account, signingSeed, expiresAtMs } = consumer;
  const inboxPrefix = `_INBOX_${durable}`;
  const user = await issueUser({
    name,
    account,
    signer: signingSeed,
    rights: {
      publish: {
        allow: [
          `${CONSUMER_API_PREFIX}.CONSUMER.MSG.NEXT.${stream}.${durable}`,
          `${CONSUMER_API_PREFIX}.CONSUMER.INFO.${stream}.${durable}`,
          `$JS.ACK.${stream}.${durable}.>`,
          `${CONSUMER_SERVICE}.${durable}.begin`,
        ],
      },
      subscribe: { allow: [`${inboxPrefix}.>`] },
    },
    ...(expiresAtMs !== undefined && { expiresAtMs }),
  });
  return {
    credentials: credsFile(user),
    issuer: publicKeyOf(signingSeed),
    user: user.publicKey,
    inboxPrefix,
    apiPrefix: CONSUMER_API_PREFIX,
  };
}

async function tell(connection: LogConnection, seeds: NatsSeeds, issuers: readonly string[]): Promise<void> {
  const [, jwt] = (await accountJwts(seeds, issuers)).consumers;
  try {
    await connection.untilConnected(Date.now() + TIMEOUT_MS);
    const answer = await connection.request('$SYS.REQ.CLAIMS.UPDATE', jwt, { timeoutMs: TIMEOUT_MS });
    const { error } = answer.json<{ error?: { description?: string } }>();
    if (error) throw new Error(`NATS refused the consumers' account: ${error.description ?? 'no reason given'}`);
  } catch (cause) {
    if (cause instanceof NoAnswerError || cause instanceof NoResponderError)
      throw new LogUnavailableError(`NATS could not be told who may consume: ${cause.message}`, { cause });
    throw cause;
  }
}
