/** Makes PKCS#10 requests for tests, as `openssl req` would. */
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { distinguishedName } from '../../pki/certificate.ts';
import {
  bitString,
  explicit,
  implicit,
  integer,
  objectIdentifier,
  octetString,
  sequence,
  setOf,
} from '../../pki/der.ts';

export interface RequestOptions {
  readonly commonName: string;
  readonly organizations?: readonly string[];
  readonly dnsNames?: readonly string[];
  /** Default its own. */
  readonly signedBy?: KeyObject;
}

/** `request` and `key` in PEM. */
export function signingRequest({ commonName, organizations = [], dnsNames = [], signedBy }: RequestOptions): {
  request: string;
  key: string;
} {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const names = sequence(...dnsNames.map((name) => implicit(2, Buffer.from(name))));
  const extensions = sequence(sequence(objectIdentifier('2.5.29.17'), octetString(names)));
  const attribute = sequence(objectIdentifier('1.2.840.113549.1.9.14'), setOf(extensions));
  const info = sequence(
    integer(Buffer.from([0])),
    distinguishedName({ commonName, organizations }),
    publicKey.export({ type: 'spki', format: 'der' }),
    dnsNames.length > 0 ? explicit(0, attribute) : explicit(0),
  );
  const algorithm = sequence(objectIdentifier('1.2.840.10045.4.3.2'));
  const der = sequence(info, algorithm, bitString(sign('sha256', info, signedBy ?? privateKey)));
  const lines = der
    .toString('base64')
    .replaceAll(/(.{64})/g, '$1\n')
    .trimEnd();
  return {
    request: `-----BEGIN CERTIFICATE REQUEST-----\n${lines}\n-----END CERTIFICATE REQUEST-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}
