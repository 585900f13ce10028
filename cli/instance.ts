/**
 * An instance of Reckon and its home folder (`.reckon/`, or RECKON_HOME): ports, address ranges, certificates and credentials are chosen at the first start and kept. `start/` makes or loads it; the
 * processes that it starts load it to learn where they belong.
 *
 *     instance.json     who it is, its ports and address ranges          credentials.json   passwords and the Secrets' key
 *     pki/              the authority, sa.key, <identity>.crt, .key       kubeconfig         the admin's; kubeconfigs/<identity>
 *     nats/ postgres/   the servers' data; nats/reader.creds             logs/ run/         logs, and the pid of every process
 */
import { randomBytes, randomInt } from 'node:crypto';
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import {
  credsFile,
  issueUser,
  newSeeds,
  stillSays,
  type NatsSeeds,
  type UserRights,
} from '../event-log/nats-accounts.ts';
import { newTokenKey } from '../api-server/authentication/token-keys.ts';
import { chooseRanges, choosePort, machineAddress, addressOf, numberOf } from './instance/addresses.ts';
import {
  createAuthority,
  isCurrent,
  issueCertificate,
  type Identity,
  type KeyAndCertificate,
} from './instance/certificates.ts';
import { writeKubeconfig } from './instance/kubeconfig.ts';
import { EMBEDDED_MAX_TRANSACTION, rightsOf } from './servers/nats.ts';

export type PortName = 'api' | 'nats' | 'postgres' | 'agent';

export interface InstanceSettings {
  readonly clusterId: string;
  readonly ports: Readonly<Record<PortName, number>>;
  readonly podCidr: string;
  readonly serviceCidr: string;
  /** `30000-32767`. */
  readonly nodePortRange: string;
  readonly nodeName: string;
  readonly dockerNetwork: string;
  readonly nftTable: string;
}

export interface Login {
  readonly user: string;
  readonly password: string;
}

/** `system` tells the server of accounts that have changed, and nothing else. */
export type NatsRole = 'apiServer' | 'reader' | 'system';

export type DatabaseRole = 'owner' | 'projection' | 'agent' | 'reader';

export interface Credentials {
  /** A user's JWT stands in the place of its name, and its seed in that of its password. */
  readonly nats: Readonly<Record<NatsRole, Login>> & { readonly seeds: NatsSeeds };
  readonly postgres: { readonly superuser: Login } & Readonly<Record<DatabaseRole, Login>>;
  /** 32 bytes in base64; wraps the data keys of Secrets. */
  readonly secretsKey: string;
}

export interface Instance {
  /** Absolute. */
  readonly home: string;
  readonly settings: InstanceSettings;
  readonly credentials: Credentials;
}

export const databaseName = 'reckon';
export const loopback = '127.0.0.1';

const preferredPorts: Record<PortName, number> = { api: 6443, nats: 4222, postgres: 5432, agent: 10250 };

export function homeFolder(): string {
  return path.resolve(process.env['RECKON_HOME'] || '.reckon');
}

export interface OpenOptions {
  readonly home: string;
  /** Override, and from then on replace, what was chosen. */
  readonly ports?: Partial<Record<PortName, number>>;
}

/** Makes the home folder at the first call, completes it where a newer Reckon wants more, and renews certificates. */
export async function openInstance(options: OpenOptions): Promise<Instance> {
  const { home } = options;
  for (const folder of ['', 'pki', 'kubeconfigs', 'nats', 'postgres', 'logs', 'run'])
    await mkdir(path.join(home, folder), { recursive: true, mode: 0o700 });
  await chmod(home, 0o700);
  const settings = await settle(home, options.ports ?? {});
  const held = await readJson<Partial<Credentials>>(path.join(home, 'credentials.json'));
  const credentials: Credentials = { ...newCredentials(), ...held, nats: await natsLogins(held?.nats) };
  await writeJson(path.join(home, 'credentials.json'), credentials);
  const { user, password } = credentials.nats.reader;
  await writeFile(readerCreds(home), credsFile({ jwt: user, seed: password }), { mode: 0o600 });
  return { home, settings, credentials };
}

/** The reader's login as NATS clients of any language take it. */
const readerCreds = (home: string): string => path.join(home, 'nats', 'reader.creds');

const natsNames: Record<NatsRole, string> = {
  apiServer: 'reckon-api-server',
  reader: 'reckon-reader',
  system: 'reckon-system',
};

/** Makes what is missing, and issues anew what says something else than it should by now. */
async function natsLogins(held: Partial<Credentials['nats']> | undefined): Promise<Credentials['nats']> {
  const seeds = held?.seeds ?? newSeeds();
  const login = async (role: NatsRole, rights: UserRights): Promise<Login> => {
    const name = natsNames[role];
    const before = held?.seeds && held[role];
    if (before !== undefined && stillSays(before.user, { name, rights })) return before;
    const signer = role === 'system' ? seeds.system : seeds.log;
    const { jwt, seed } = await issueUser({ name, signer, rights }, before?.password);
    return { user: jwt, password: seed };
  };
  const writer = natsNames.apiServer;
  return {
    apiServer: await login('apiServer', rightsOf({ user: writer, may: 'writer' }, writer)),
    reader: await login('reader', rightsOf({ user: natsNames.reader, may: 'reader' }, writer)),
    system: await login('system', {
      publish: { allow: ['$SYS.REQ.CLAIMS.UPDATE', '$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP'] },
      subscribe: { allow: [`_INBOX.${natsNames.system}.>`] },
    }),
    seeds,
  };
}

/** Rejects with a sentence when there is none. */
export async function loadInstance(home: string): Promise<Instance> {
  const settings = await readJson<InstanceSettings>(path.join(home, 'instance.json'));
  const credentials = await readJson<Credentials>(path.join(home, 'credentials.json'));
  if (settings === undefined || credentials === undefined)
    throw new Error(
      `There is no Reckon instance in ${home}: \`reckon start\` makes one, and RECKON_HOME names another folder.`,
    );
  return { home, settings, credentials };
}

async function settle(home: string, ports: Partial<Record<PortName, number>>): Promise<InstanceSettings> {
  const file = path.join(home, 'instance.json');
  const held = await readJson<InstanceSettings>(file);
  const settings = held === undefined ? await newSettings(ports) : { ...held, ports: { ...held.ports, ...ports } };
  if (JSON.stringify(settings) !== JSON.stringify(held)) await writeJson(file, settings);
  return settings;
}

async function newSettings(wanted: Partial<Record<PortName, number>>): Promise<InstanceSettings> {
  const taken = new Set(Object.values(wanted));
  const ports: Partial<Record<PortName, number>> = { ...wanted };
  for (const name of Object.keys(preferredPorts) as PortName[]) {
    ports[name] ??= await choosePort(preferredPorts[name], taken);
    taken.add(ports[name]);
  }
  const clusterId = letters(8);
  const ranges = await chooseRanges(randomInt(2 ** 20));
  const nodeName =
    hostname()
      .toLowerCase()
      .replaceAll(/[^a-z0-9.-]/g, '-')
      .replaceAll(/^[^a-z0-9]+|[^a-z0-9]+$/g, '') || 'node';
  return {
    clusterId,
    ports: ports as Record<PortName, number>,
    ...ranges,
    nodePortRange: '30000-32767',
    nodeName,
    dockerNetwork: `reckon-${clusterId}`,
    nftTable: `reckon_${clusterId}`,
  };
}

/** Begins with a letter, so that it can stand in any name. */
function letters(count: number): string {
  const alphabet = 'bcdfghjklmnpqrstvwxz';
  return Array.from({ length: count }, () => alphabet[randomInt(alphabet.length)]).join('');
}

function newCredentials(): Omit<Credentials, 'nats'> {
  const login = (user: string): Login => ({ user, password: randomBytes(24).toString('base64url') });
  return {
    postgres: {
      superuser: login('postgres'),
      owner: login('reckon_owner'),
      projection: login('reckon_projection'),
      agent: login('reckon_agent'),
      reader: login('reckon_reader'),
    },
    secretsKey: randomBytes(32).toString('base64'),
  };
}

// --- Certificates -------------------------------------------------------------------------------------------------------------------------------------------------

export const apiServerIdentity = 'api-server';
export const adminIdentity = 'admin';
/** The node agent is the controller `pods`, and goes by its node's name. */
export const agentIdentity = 'pods';

export interface TlsFiles {
  /** PEM, all three. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Brings the authority, every identity's certificate and every kubeconfig about. `controllers` are their names. */
export async function issueIdentities(instance: Instance, controllers: readonly string[]): Promise<void> {
  const nowMs = Date.now();
  const { home, settings } = instance;
  const held = await readPair(home, 'ca');
  const authority = held ?? createAuthority(`reckon ${settings.clusterId}`, nowMs);
  if (held === undefined) await writePair(home, 'ca', authority);
  await tokenKeys(home);
  const server = `https://${loopback}:${settings.ports.api}`;
  for (const [name, identity] of identities(settings, controllers)) {
    const before = await readPair(home, name);
    const pair =
      before !== undefined && isCurrent(before, authority, identity, nowMs)
        ? before
        : issueCertificate(authority, identity, nowMs);
    if (pair !== before) await writePair(home, name, pair);
    if (name === apiServerIdentity) continue;
    await writeKubeconfig(kubeconfigFile(home, name), {
      server,
      ca: authority.cert,
      user: identity.commonName,
      credentials: pair,
    });
  }
}

/** Where the keys for tokens of service accounts are: PEM, the first signs, all are believed. */
export const tokenKeysFile = (home: string): string => path.join(home, 'pki', 'sa.key');

/** Made at the first call and kept. */
export async function tokenKeys(home: string): Promise<string> {
  const held = await readText(tokenKeysFile(home));
  if (held !== undefined) return held;
  const key = newTokenKey();
  await writeTokenKeys(home, key);
  return key;
}

/** In one step: an API server may be reading. */
export async function writeTokenKeys(home: string, keys: string): Promise<void> {
  const next = `${tokenKeysFile(home)}.${process.pid}.new`;
  await writeFile(next, keys, { mode: 0o600 });
  await rename(next, tokenKeysFile(home));
}

export function kubeconfigFile(home: string, identity: string): string {
  return identity === adminIdentity ? path.join(home, 'kubeconfig') : path.join(home, 'kubeconfigs', identity);
}

export async function readTls(home: string, identity: string): Promise<TlsFiles> {
  const authority = await readPair(home, 'ca');
  const pair = await readPair(home, identity);
  if (authority === undefined || pair === undefined)
    throw new Error(
      `There is no certificate for ${identity} in ${path.join(home, 'pki')}: \`reckon start\` makes them.`,
    );
  return { ca: authority.cert, ...pair };
}

function identities(settings: InstanceSettings, controllers: readonly string[]): Map<string, Identity> {
  const addresses = [
    ...new Set([loopback, '::1', machineAddress(), addressOf(numberOf(settings.serviceCidr.split('/')[0]!) + 1)]),
  ];
  const services = [
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    'kubernetes.default.svc.cluster.local',
  ];
  const all = new Map<string, Identity>([
    [
      apiServerIdentity,
      {
        commonName: 'system:apiserver',
        organizations: ['system:masters'],
        hosts: ['localhost', ...services, ...addresses],
      },
    ],
    [adminIdentity, { commonName: 'admin', organizations: ['system:masters'], hosts: [] }],
  ]);
  for (const name of controllers)
    all.set(name, { commonName: `system:controller:${name}`, organizations: ['system:controllers'], hosts: [] });
  all.set(agentIdentity, {
    commonName: `system:node:${settings.nodeName}`,
    organizations: ['system:nodes'],
    hosts: [settings.nodeName, 'localhost', ...addresses],
  });
  return all;
}

async function readPair(home: string, name: string): Promise<KeyAndCertificate | undefined> {
  const file = path.join(home, 'pki', name);
  const [cert, key] = await Promise.all([readText(`${file}.crt`), readText(`${file}.key`)]);
  return cert === undefined || key === undefined ? undefined : { cert, key };
}

async function writePair(home: string, name: string, pair: KeyAndCertificate): Promise<void> {
  const file = path.join(home, 'pki', name);
  await writeFile(`${file}.key`, pair.key, { mode: 0o600 });
  await writeFile(`${file}.crt`, pair.cert);
}

// --- Where the servers are ----------------------------------------------------------------------------------------------------------------------------------------

/** With the login in it; NATS_URL wins, and of those who only follow the log, NATS_READER_URL. */
export function natsUrl(instance: Instance, who: NatsRole): string {
  const { user, password } = instance.credentials.nats[who];
  const given = process.env['NATS_URL'];
  if (given) return (who === 'reader' && process.env['NATS_READER_URL']) || given;
  return `nats://${user}:${password}@${loopback}:${instance.settings.ports.nats}`;
}

/** Members of a transaction: what the embedded server is configured to take, or what RECKON_MAX_TRANSACTION says of the one that NATS_URL names. Absent: JetStream's own number. */
export function maxTransaction(): number | undefined {
  if (!process.env['NATS_URL']) return EMBEDDED_MAX_TRANSACTION;
  const given = process.env['RECKON_MAX_TRANSACTION'];
  if (!given) return undefined;
  if (!/^[1-9]\d{0,5}$/.test(given))
    throw new Error(
      `RECKON_MAX_TRANSACTION is '${given}': expected the server's jetstream.limits.batch.max_msgs, a number from 1`,
    );
  return Number(given);
}

/** With the role's login in it; DATABASE_URL wins. */
export function databaseUrl(instance: Instance, role: DatabaseRole | 'superuser'): string {
  const { user, password } = instance.credentials.postgres[role];
  return (
    process.env['DATABASE_URL'] ||
    `postgres://${user}:${password}@${loopback}:${instance.settings.ports.postgres}/${databaseName}`
  );
}

// --- Files --------------------------------------------------------------------------------------------------------------------------------------------------------

async function readText(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

async function readJson<T>(file: string): Promise<T | undefined> {
  const text = await readText(file);
  return text === undefined ? undefined : (JSON.parse(text) as T);
}

/** In one step, so that a kill at any instant leaves the old file or the new one. */
async function writeJson(file: string, value: unknown): Promise<void> {
  const next = `${file}.${process.pid}.new`;
  await writeFile(next, `${JSON.stringify(value, undefined, 2)}\n`, { mode: 0o600 });
  await rename(next, file);
}
