/**
 * The instance's own certificate authority and the certificates it signs: for the API server, the node agent, the admin and every controller (ECDSA P-256). An identity
 * is the certificate's subject: CN is the user, each O a group (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates).
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate, type KeyObject } from 'node:crypto';
import { isIP } from 'node:net';
import {
  authorityCertificate,
  BACKDATE_MS,
  distinguishedName,
  leafCertificate,
  type Subject,
} from '../../pki/certificate.ts';

export interface KeyAndCertificate {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

export interface Identity extends Subject {
  /** DNS names and IP addresses that a server answers by; empty for a mere client. */
  readonly hosts: readonly string[];
}

const DAY_MS = 24 * 3600 * 1000;
const authorityDays = 3650;
const leafDays = 365;
/** A certificate that runs out sooner than this is made anew at the next start. */
const renewBeforeDays = 90;

export function createAuthority(commonName: string, nowMs: number): KeyAndCertificate {
  const { privateKey } = newKeys();
  const cert = authorityCertificate({ commonName, key: privateKey, ...validFor(authorityDays, nowMs) });
  return { cert, key: pem(privateKey) };
}

export function issueCertificate(authority: KeyAndCertificate, identity: Identity, nowMs: number): KeyAndCertificate {
  const { publicKey, privateKey } = newKeys();
  const { hosts } = identity;
  const cert = leafCertificate(
    { cert: authority.cert, key: createPrivateKey(authority.key) },
    {
      subject: distinguishedName(identity),
      hosts,
      publicKey,
      usages: ['digital signature', ...(hosts.length > 0 ? (['server auth'] as const) : []), 'client auth'],
      ...validFor(leafDays, nowMs),
    },
  );
  return { cert, key: pem(privateKey) };
}

const validFor = (days: number, nowMs: number) => ({
  notBeforeMs: nowMs - BACKDATE_MS,
  notAfterMs: nowMs + days * DAY_MS,
});

/** False when it runs out soon, was signed by another authority, or names other hosts. */
export function isCurrent(
  held: KeyAndCertificate,
  authority: KeyAndCertificate,
  identity: Identity,
  nowMs: number,
): boolean {
  const parsed = new X509Certificate(held.cert);
  if (Date.parse(parsed.validTo) - nowMs < renewBeforeDays * DAY_MS) return false;
  if (!parsed.verify(createPublicKey(createPrivateKey(authority.key)))) return false;
  return identity.hosts.every(
    (host) => (isIP(host) === 0 ? parsed.checkHost(host) : parsed.checkIP(host)) !== undefined,
  );
}

function newKeys(): { publicKey: KeyObject; privateKey: KeyObject } {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

function pem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}
