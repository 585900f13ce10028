/**
 * The instance's own certificate authority and the certificates it signs: for the API server, the node agent, the admin and every controller (ECDSA P-256). An identity
 * is the certificate's subject: CN is the user, each O a group (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates).
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';
import { isIP } from 'node:net';
import {
  bitString,
  boolean,
  explicit,
  implicit,
  integer,
  objectIdentifier,
  octetString,
  sequence,
  setOf,
  time,
  utf8String,
} from './der.ts';

export interface KeyAndCertificate {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

export interface Identity {
  readonly commonName: string;
  readonly organizations: readonly string[];
  /** DNS names and IP addresses that a server answers by; empty for a mere client. */
  readonly hosts: readonly string[];
}

const DAY_MS = 24 * 3600 * 1000;
const authorityDays = 3650;
const leafDays = 365;
/** A certificate that runs out sooner than this is made anew at the next start. */
const renewBeforeDays = 90;
const backdateMs = 5 * 60 * 1000;

const oid = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
};

export function createAuthority(commonName: string, nowMs: number): KeyAndCertificate {
  const { publicKey, privateKey } = newKeys();
  const name = distinguishedName({ commonName, organizations: [], hosts: [] });
  const keyIdentifier = keyIdentifierOf(publicKey);
  const cert = certificate({
    issuer: name,
    subject: name,
    publicKey,
    signingKey: privateKey,
    nowMs,
    days: authorityDays,
    extensions: [
      extension(oid.basicConstraints, sequence(boolean(true)), true),
      // keyCertSign and cRLSign.
      extension(oid.keyUsage, bitString(Buffer.from([0b00000110]), 1), true),
      extension(oid.subjectKeyIdentifier, octetString(keyIdentifier)),
    ],
  });
  return { cert, key: pem(privateKey) };
}

export function issueCertificate(authority: KeyAndCertificate, identity: Identity, nowMs: number): KeyAndCertificate {
  const { publicKey, privateKey } = newKeys();
  const signer = createPrivateKey(authority.key);
  const extensions = [
    extension(oid.basicConstraints, sequence(), true),
    // digitalSignature.
    extension(oid.keyUsage, bitString(Buffer.from([0b10000000]), 7), true),
    extension(
      oid.extendedKeyUsage,
      sequence(
        ...(identity.hosts.length > 0 ? [objectIdentifier(oid.serverAuth)] : []),
        objectIdentifier(oid.clientAuth),
      ),
    ),
    extension(oid.subjectKeyIdentifier, octetString(keyIdentifierOf(publicKey))),
    extension(oid.authorityKeyIdentifier, sequence(implicit(0, keyIdentifierOf(createPublicKey(signer))))),
  ];
  if (identity.hosts.length > 0)
    extensions.push(extension(oid.subjectAltName, sequence(...identity.hosts.map(generalName))));
  const cert = certificate({
    issuer: subjectOf(authority.cert),
    subject: distinguishedName(identity),
    publicKey,
    signingKey: signer,
    nowMs,
    days: leafDays,
    extensions,
  });
  return { cert, key: pem(privateKey) };
}

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

interface CertificateParts {
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly publicKey: KeyObject;
  readonly signingKey: KeyObject;
  readonly nowMs: number;
  readonly days: number;
  readonly extensions: readonly Buffer[];
}

/** RFC 5280, 4.1. */
function certificate(parts: CertificateParts): string {
  const algorithm = sequence(objectIdentifier(oid.ecdsaWithSha256));
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  const toBeSigned = sequence(
    explicit(0, integer(Buffer.from([2]))),
    integer(serial),
    algorithm,
    parts.issuer,
    sequence(time(new Date(parts.nowMs - backdateMs)), time(new Date(parts.nowMs + parts.days * DAY_MS))),
    parts.subject,
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    explicit(3, sequence(...parts.extensions)),
  );
  const signature = sign('sha256', toBeSigned, parts.signingKey);
  const base64 = sequence(toBeSigned, algorithm, bitString(signature)).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${base64.replaceAll(/(.{64})/g, '$1\n').trimEnd()}\n-----END CERTIFICATE-----\n`;
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(objectIdentifier(id), ...(critical ? [boolean(true)] : []), octetString(value));
}

function distinguishedName(identity: Identity): Buffer {
  const attribute = (type: string, value: string): Buffer => setOf(sequence(objectIdentifier(type), utf8String(value)));
  return sequence(
    ...identity.organizations.map((organization) => attribute(oid.organization, organization)),
    attribute(oid.commonName, identity.commonName),
  );
}

/** Our own authority's name is its CN alone. */
function subjectOf(cert: string): Buffer {
  const commonName = /CN=(.*)/.exec(new X509Certificate(cert).subject)?.[1];
  if (commonName === undefined) throw new Error('the certificate authority has no CN in its subject');
  return distinguishedName({ commonName, organizations: [], hosts: [] });
}

function generalName(host: string): Buffer {
  if (isIP(host) === 4) return implicit(7, Buffer.from(host.split('.').map(Number)));
  if (isIP(host) === 6) return implicit(7, ipv6Bytes(host));
  return implicit(2, Buffer.from(host, 'ascii'));
}

function ipv6Bytes(address: string): Buffer {
  const [head = '', tail] = address.split('::');
  const groups = (text: string | undefined): number[] =>
    text ? text.split(':').map((group) => Number.parseInt(group, 16)) : [];
  const front = groups(head);
  const back = groups(tail);
  const all =
    tail === undefined ? front : [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

function keyIdentifierOf(publicKey: KeyObject): Buffer {
  return createHash('sha1')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest();
}

function newKeys(): { publicKey: KeyObject; privateKey: KeyObject } {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

function pem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}
