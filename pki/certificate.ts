/**
 * Writes X.509 certificates (RFC 5280): for an instance's own identities (`cli/instance/certificates.ts`) and for whoever asks the cluster for one (`controllers/certificatesigningrequests`).
 */
import { createHash, createPublicKey, randomBytes, sign, X509Certificate, type KeyObject } from 'node:crypto';
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

/** Who a certificate names. */
export interface Subject {
  readonly commonName: string;
  readonly organizations: readonly string[];
}

/** What a leaf may be used for, as CertificateSigningRequests name it. */
export type Usage = 'digital signature' | 'key encipherment' | 'client auth' | 'server auth';

/** Clocks differ. */
export const BACKDATE_MS = 5 * 60 * 1000;

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
};

const EXTENDED: ReadonlyMap<Usage, string> = new Map([
  ['server auth', '1.3.6.1.5.5.7.3.1'],
  ['client auth', '1.3.6.1.5.5.7.3.2'],
]);
const DIGITAL_SIGNATURE = 0b10000000;
const KEY_ENCIPHERMENT = 0b00100000;
const CERTIFICATE_AND_LIST_SIGNING = 0b00000110;

interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface Signer {
  /** PEM. */
  readonly cert: string;
  /** On P-256. */
  readonly key: KeyObject;
}

/** PEM of an authority's certificate, signed by itself. */
export function authorityCertificate(options: Validity & { commonName: string; key: KeyObject }): string {
  const { commonName, key } = options;
  const publicKey = createPublicKey(key);
  const name = distinguishedName({ commonName, organizations: [] });
  return certificate({
    ...options,
    issuer: name,
    subject: name,
    publicKey,
    extensions: [
      extension(oid.basicConstraints, sequence(boolean(true)), true),
      extension(oid.keyUsage, bitString(Buffer.from([CERTIFICATE_AND_LIST_SIGNING]), 1), true),
      extension(oid.subjectKeyIdentifier, octetString(keyIdentifierOf(publicKey))),
    ],
  });
}

export interface Leaf extends Validity {
  /** DER, as `distinguishedName` makes it. */
  readonly subject: Buffer;
  /** DNS names and IP addresses. */
  readonly hosts: readonly string[];
  readonly publicKey: KeyObject;
  readonly usages: readonly Usage[];
}

/** PEM. */
export function leafCertificate(signer: Signer, leaf: Leaf): string {
  const extended = leaf.usages.flatMap((usage) => EXTENDED.get(usage) ?? []);
  const isEnciphering = leaf.usages.includes('key encipherment');
  const keyUsage = DIGITAL_SIGNATURE | (isEnciphering ? KEY_ENCIPHERMENT : 0);
  const authorityIdentifier = implicit(0, keyIdentifierOf(createPublicKey(signer.key)));
  return certificate({
    ...leaf,
    issuer: subjectOf(signer.cert),
    key: signer.key,
    extensions: [
      extension(oid.basicConstraints, sequence(), true),
      extension(oid.keyUsage, bitString(Buffer.from([keyUsage]), isEnciphering ? 5 : 7), true),
      extension(oid.extendedKeyUsage, sequence(...extended.map(objectIdentifier))),
      extension(oid.subjectKeyIdentifier, octetString(keyIdentifierOf(leaf.publicKey))),
      extension(oid.authorityKeyIdentifier, sequence(authorityIdentifier)),
      ...(leaf.hosts.length > 0 ? [extension(oid.subjectAltName, sequence(...leaf.hosts.map(generalName)))] : []),
    ],
  });
}

interface CertificateParts extends Validity {
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly publicKey: KeyObject;
  readonly key: KeyObject;
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
    sequence(time(new Date(parts.notBeforeMs)), time(new Date(parts.notAfterMs))),
    parts.subject,
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    explicit(3, sequence(...parts.extensions)),
  );
  const signature = sign('sha256', toBeSigned, parts.key);
  const base64 = sequence(toBeSigned, algorithm, bitString(signature)).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${base64.replaceAll(/(.{64})/g, '$1\n').trimEnd()}\n-----END CERTIFICATE-----\n`;
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(objectIdentifier(id), ...(critical ? [boolean(true)] : []), octetString(value));
}

/** DER of an X.501 name. */
export function distinguishedName(subject: Subject): Buffer {
  const attribute = (type: string, value: string): Buffer => setOf(sequence(objectIdentifier(type), utf8String(value)));
  return sequence(
    ...subject.organizations.map((organization) => attribute(oid.organization, organization)),
    attribute(oid.commonName, subject.commonName),
  );
}

/** Our own authority's name is its CN alone. */
function subjectOf(cert: string): Buffer {
  const commonName = /CN=(.*)/.exec(new X509Certificate(cert).subject)?.[1];
  if (commonName === undefined) throw new Error('the certificate authority has no CN in its subject');
  return distinguishedName({ commonName, organizations: [] });
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
