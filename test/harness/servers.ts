/**
 * What a test file asks for its share of the real servers: a database of its own (cloned from the migrated template), a prefix of its own for streams and subjects, and where NATS, Docker and kubectl are.
 */
import { randomBytes } from 'node:crypto';
import { cloneTemplate, dropDatabase, startTestServers, testPassword, type ServerAddresses } from './test-servers.ts';

/** What of tap's `t` is needed. */
export interface Teardown {
  teardown(handler: () => Promise<void> | void): void;
}

export interface Servers extends ServerAddresses {
  /** Of the owner. `databaseUrlAs` gives it to another role. */
  readonly databaseUrl: string;
  databaseUrlAs(role: 'reckon_owner' | 'reckon_projection' | 'reckon_agent' | 'reckon_reader'): string;
  /** As in `/var/run/docker.sock`. */
  readonly dockerSocket: string;
  /** For streams and subjects: lower case, unique. */
  readonly prefix: string;
}

let own: Promise<ServerAddresses> | undefined;

export async function servers(t: Teardown): Promise<Servers> {
  const addresses = await serverAddresses();
  const prefix = uniqueName();
  await cloneTemplate(addresses.postgresUrl, prefix);
  t.teardown(() => dropDatabase(addresses.postgresUrl, prefix));
  const databaseUrlAs: Servers['databaseUrlAs'] = (role) => {
    const url = new URL(`${addresses.postgresUrl}/${prefix}`);
    url.username = role;
    url.password = testPassword;
    return url.href;
  };
  return {
    ...addresses,
    databaseUrl: databaseUrlAs('reckon_owner'),
    databaseUrlAs,
    dockerSocket: new URL(addresses.dockerHost).pathname,
    prefix,
  };
}

/** Begins with a letter; good as a database, a stream prefix, or a part of any Kubernetes name. */
export function uniqueName(): string {
  return `t${randomBytes(6).toString('hex')}`;
}

/** Those of the whole run, or, for a file that is run by itself, servers that end with it. */
export function serverAddresses(): Promise<ServerAddresses> {
  const handed = process.env['RECKON_TEST_SERVERS'];
  if (handed) return Promise.resolve(JSON.parse(handed) as ServerAddresses);
  own ??= startTestServers(() => undefined).then(async ({ addresses, stop }) => {
    // At the very end: the subtest that happens to ask first is not the only one that needs them. Imported here, since tap takes a process over that merely loads it (a benchmark).
    const { default: root } = await import('tap');
    root.teardown(stop);
    return addresses;
  });
  return own;
}
