/**
 * Who is who at NATS: an operator, three accounts and their users, as signed JWTs (https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt). The log's account holds the streams;
 * the consumers' account has nothing of its own and reaches, through imports, no more than the fetching and acknowledging of durables; the system account is for telling the server of changes. Used by `cli/` for the
 * embedded server, by `consumer-access.ts`, and by whoever issues credentials.
 *
 * Consumers have an account apart because JetStream sends what it delivers, and its "408 Request Timeout", to whatever reply subject a fetch names, with the server's own rights: tried on 2.15.1, a user of the
 * log's account who may only fetch can delete any stream by naming `$JS.API.STREAM.DELETE.<stream>`. In an account without JetStream nobody listens there.
 */
import { createAccount, createOperator, createUser, fromSeed } from '@nats-io/nkeys';
import { decode, encodeAccount, encodeOperator, encodeUser } from '@nats-io/jwt';
import type { Account, OperatorLimits, Permissions, User } from '@nats-io/jwt';
import { streamNames } from './subjects.ts';

/** Seeds of the four keys; whoever has them is the operator. */
export interface NatsSeeds {
  readonly operator: string;
  readonly system: string;
  readonly log: string;
  readonly consumers: string;
}

/** What a user of an account may do; absent: everything within the account. */
export interface UserRights {
  readonly publish: { readonly allow: readonly string[]; readonly deny?: readonly string[] };
  readonly subscribe: { readonly allow: readonly string[]; readonly deny?: readonly string[] };
}

/** A JWT, and the seed that proves who shows it. */
export interface NatsUser {
  readonly jwt: string;
  readonly seed: string;
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const keyOf = (seed: string) => fromSeed(new TextEncoder().encode(seed));

export const publicKeyOf = (seed: string): string => keyOf(seed).getPublicKey();
export const newSigningKey = (): { seed: string; publicKey: string } => {
  const pair = createAccount();
  return { seed: text(pair.getSeed()), publicKey: pair.getPublicKey() };
};

export function newSeeds(): NatsSeeds {
  return {
    operator: text(createOperator().getSeed()),
    system: text(createAccount().getSeed()),
    log: text(createAccount().getSeed()),
    consumers: text(createAccount().getSeed()),
  };
}

/** The library's default is 0 of everything, which NATS takes literally. */
const UNLIMITED: Partial<OperatorLimits> = {
  conn: -1,
  subs: -1,
  data: -1,
  payload: -1,
  leaf: -1,
  imports: -1,
  exports: -1,
  wildcards: true,
};
const JETSTREAM: Partial<OperatorLimits> = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };

/** The requests of a consumer that the API server answers: `begin` starts a durable afresh, `info` tells how far it is. */
export const CONSUMER_SERVICE = 'reckon-consumers';
/**
 * What consumers give their client library as the prefix of JetStream's API. `$JS.API` itself is taken: in an account without streams the server answers it, and says that there are none.
 */
export const CONSUMER_API_PREFIX = 'RECKON.API';

/** What crosses from the consumers' account into the log's, and, where it has another name there, by which. */
function crossings(stream: string): readonly { subject: string; local?: string; stream?: true }[] {
  return [
    {
      subject: `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`,
      local: `${CONSUMER_API_PREFIX}.CONSUMER.MSG.NEXT.${stream}.$1`,
      stream: true,
    },
    { subject: `$JS.ACK.${stream}.>` },
    { subject: `${CONSUMER_SERVICE}.*.begin` },
    // JetStream answers only those whose own account has streams; client libraries ask before they fetch.
    { subject: `${CONSUMER_SERVICE}.*.info`, local: `${CONSUMER_API_PREFIX}.CONSUMER.INFO.${stream}.$1` },
  ];
}

/** The server's configuration in operator mode, but for where it listens and stores. */
export async function operatorSettings(seeds: NatsSeeds): Promise<{ operator: string; system_account: string }> {
  const system = publicKeyOf(seeds.system);
  return {
    operator: await encodeOperator('reckon', keyOf(seeds.operator), { system_account: system }),
    system_account: system,
  };
}

/** The accounts' JWTs by their public keys. `issuers`: the keys whose signature under a consumer's JWT is good. */
export async function accountJwts(
  seeds: NatsSeeds,
  issuers: readonly string[] = [],
): Promise<{ log: [string, string]; system: [string, string]; consumers: [string, string] }> {
  const { log: stream } = streamNames();
  const account = async (name: string, seed: string, settings: Partial<Account>): Promise<[string, string]> => {
    const signer = keyOf(seeds.operator);
    return [publicKeyOf(seed), await encodeAccount(name, keyOf(seed), settings, { signer })];
  };
  return {
    system: await account('system', seeds.system, { limits: UNLIMITED as OperatorLimits }),
    log: await account('log', seeds.log, {
      limits: { ...UNLIMITED, ...JETSTREAM } as OperatorLimits,
      exports: crossings(stream).map(({ subject, stream: many }) => ({
        name: subject,
        subject,
        type: 'service',
        ...(many && { response_type: 'Stream' as const }),
      })),
    } as Partial<Account>),
    consumers: await account('consumers', seeds.consumers, {
      limits: UNLIMITED as OperatorLimits,
      signing_keys: [...issuers],
      imports: crossings(stream).map(({ subject, local }) => ({
        name: subject,
        subject,
        type: 'service',
        account: publicKeyOf(seeds.log),
        ...(local && { local_subject: local }),
      })),
    } as Partial<Account>),
  };
}

export interface NewUser {
  readonly name: string;
  /** Signs: the account's own, or one of its signing keys. */
  readonly signer: string;
  /** Public key; where the signer is not the account's own. */
  readonly account?: string;
  readonly rights?: UserRights;
  readonly expiresAtMs?: number;
}

/** A user with a key of its own that is kept nowhere else. */
export async function issueUser(
  user: NewUser,
  seed: string = text(createUser().getSeed()),
): Promise<NatsUser & { readonly publicKey: string }> {
  const { name, signer, account, rights, expiresAtMs } = user;
  const permissions = rights && {
    pub: rights.publish as Permissions['pub'],
    sub: rights.subscribe as Permissions['sub'],
  };
  const issuer = account === undefined ? keyOf(signer) : account;
  const jwt = await encodeUser(name, keyOf(seed), issuer, { ...permissions } as Partial<User>, {
    ...(account !== undefined && { signer: keyOf(signer) }),
    ...(expiresAtMs !== undefined && { exp: Math.floor(expiresAtMs / 1000) }),
  });
  return { jwt, seed, publicKey: publicKeyOf(seed) };
}

/** Whether a JWT says what it would say if it were issued now. */
export function stillSays(jwt: string, { name, rights }: Pick<NewUser, 'name' | 'rights'>): boolean {
  try {
    const claims = decode<User>(jwt);
    return (
      claims.name === name &&
      JSON.stringify([claims.nats.pub ?? {}, claims.nats.sub ?? {}]) ===
        JSON.stringify([rights?.publish ?? {}, rights?.subscribe ?? {}])
    );
  } catch {
    return false;
  }
}

/** The name in a user's JWT, whoever signed it (to verify that takes longer than to connect); undefined for anything else. */
export function userName(jwt: string): string | undefined {
  try {
    const { name } = JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString()) as { name?: unknown };
    return typeof name === 'string' ? name : undefined;
  } catch {
    return undefined;
  }
}

/** As `nsc` and every NATS client have it. */
export const credsFile = ({ jwt, seed }: NatsUser): string =>
  `-----BEGIN NATS USER JWT-----
${jwt}
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.
NKEYs are sensitive and should be treated as secrets.

-----BEGIN USER NKEY SEED-----
${seed}
------END USER NKEY SEED------

*************************************************************
`;

/** The two parts of a creds file. Throws with a sentence. */
export function parseCredsFile(content: string): NatsUser {
  const part = (what: string): string | undefined =>
    new RegExp(`-+BEGIN ${what}-+\\s+(\\S+)\\s+-+END`).exec(content)?.[1];
  const jwt = part('NATS USER JWT');
  const seed = part('USER NKEY SEED');
  if (jwt === undefined || seed === undefined) throw new Error('it holds no NATS USER JWT and USER NKEY SEED');
  return { jwt, seed };
}
