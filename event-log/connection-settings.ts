/**
 * How to reach NATS, as this room's openers take it, and what that makes of the client's options; and which servers are refused. Used by `connection.ts`.
 */
import { readFileSync } from 'node:fs';
import { jwtAuthenticator } from 'nats';
import type { ConnectionOptions, NatsConnection } from 'nats';
import { parseCredsFile, userName } from './nats-accounts.ts';
import type { NatsUser } from './nats-accounts.ts';
import { escapeToken } from './subjects.ts';

/** pino's shape. */
export interface LogLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export const silentLogger: LogLogger = { info: () => undefined, warn: () => undefined, error: () => undefined };

export interface ConnectionSettings {
  /**
   * One or several, comma-separated: `nats://127.0.0.1:4222`. Credentials in the first are honoured: `user:password@`, a user's JWT and its seed in their places, or `?creds=/path/of/a/file.creds`.
   */
  readonly url: string;
  readonly user?: string;
  readonly password?: string;
  /** Shown by NATS' own monitoring. */
  readonly clientName?: string;
  readonly logger?: LogLogger;
  /** How long opening may take, streams included. */
  readonly openTimeoutMs?: number;
}

const MINIMUM_VERSION = [2, 15, 1] as const;
function serverUrls(settings: ConnectionSettings): URL[] {
  return settings.url.split(',').map((text) => new URL(text.includes('://') ? text.trim() : `nats://${text.trim()}`));
}

export interface ServerAddress {
  /** `host:port`. */
  readonly host: string;
  readonly hostname: string;
  readonly port: number;
}

const DEFAULT_OPEN_TIMEOUT_MS = 30_000;

export const openTimeoutOf = ({ openTimeoutMs }: ConnectionSettings): number =>
  openTimeoutMs ?? DEFAULT_OPEN_TIMEOUT_MS;

const DEFAULT_PORT = 4222;

/** Those of the settings, and others of which they have told, given as `host:port`. */
export function serverAddresses(settings: ConnectionSettings, others: Iterable<string> = []): ServerAddress[] {
  const urls = [...serverUrls(settings), ...[...others].map((host) => new URL(`nats://${host}`))];
  return urls.map(({ hostname, port }) => {
    const number = Number(port || DEFAULT_PORT);
    return { host: `${hostname}:${number}`, hostname: hostname.replace(/^\[|\]$/g, ''), port: number };
  });
}

function loginOf(settings: ConnectionSettings): { user: string; pass: string } {
  const [url] = serverUrls(settings);
  return {
    user: settings.user ?? decodeURIComponent(url?.username ?? ''),
    pass: settings.password ?? decodeURIComponent(url?.password ?? ''),
  };
}

/** Undefined where the login is a user and a password, or none. Throws with a sentence when the creds file is none. */
function jwtOf(settings: ConnectionSettings): NatsUser | undefined {
  const file = serverUrls(settings)[0]?.searchParams.get('creds');
  if (file) {
    try {
      return parseCredsFile(readFileSync(file, 'utf8'));
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`the NATS credentials ${file} cannot be used: ${why}`, { cause });
    }
  }
  const { user, pass } = loginOf(settings);
  return user.startsWith('eyJ') && pass.startsWith('SU') ? { jwt: user, seed: pass } : undefined;
}

/** Answers come under a prefix of the user's own, so that permissions can keep one user from listening to another's. */
export function inboxPrefixOf(settings: ConnectionSettings): string {
  const jwt = jwtOf(settings);
  const user = jwt === undefined ? loginOf(settings).user : (userName(jwt.jwt) ?? '');
  return user === '' ? '_INBOX' : `_INBOX.${escapeToken(user)}`;
}

export function natsOptions(settings: ConnectionSettings): ConnectionOptions {
  const urls = serverUrls(settings);
  const login = loginOf(settings);
  const jwt = jwtOf(settings);
  return {
    servers: urls.map((url) => url.host),
    name: settings.clientName ?? 'reckon',
    inboxPrefix: inboxPrefixOf(settings),
    ...(jwt === undefined
      ? login.user !== '' && login
      : { authenticator: jwtAuthenticator(jwt.jwt, new TextEncoder().encode(jwt.seed)) }),
    ...(urls.some((url) => url.protocol === 'tls:') && { tls: {} }),
    timeout: 5_000,
    pingInterval: 3_000,
    maxPingOut: 2,
    noAsyncTraces: true,
  };
}

export class OldServerError extends Error {
  override readonly name = 'OldServerError';
}

export function refuseOldServer(nats: NatsConnection): void {
  const version = nats.info?.version ?? 'unknown';
  if (atLeast(version, MINIMUM_VERSION)) {
    if (nats.info?.jetstream !== true)
      throw new OldServerError(
        'this nats-server runs without JetStream: start it with a `jetstream {}` block in its configuration',
      );
    return;
  }
  throw new OldServerError(
    `nats-server ${version} is too old: Reckon needs ${MINIMUM_VERSION.join('.')} or newer (atomic batches). ` +
      'Get it from https://github.com/nats-io/nats-server/releases, or unset NATS_URL and let `npm start` bring its own.',
  );
}

export function atLeast(version: string, minimum: readonly number[]): boolean {
  const parts = /^(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1).map(Number);
  if (!parts) return false;
  for (const [index, least] of minimum.entries()) {
    const part = parts[index] ?? 0;
    if (part !== least) return part > least;
  }
  return true;
}
