/**
 * Reads PKCS#10 certificate signing requests (RFC 2986), as CertificateSigningRequests carry them. Anybody may send one: everything is bounded, and nothing is believed before the signature shows that whoever asks
 * holds the key. Used by the API server, which refuses what cannot be read, and by the controller that signs.
 */
import { createPublicKey, verify, type KeyObject } from 'node:crypto';
import { DerError, readAll, readObjectIdentifier, readParts, readText, type Element } from './der.ts';

export interface SigningRequest {
  readonly commonName: string;
  readonly organizations: readonly string[];
  /** DER of the whole name, as it was asked for. */
  readonly subject: Buffer;
  readonly publicKey: KeyObject;
  readonly dnsNames: readonly string[];
  readonly addresses: readonly string[];
  readonly emails: readonly string[];
  readonly uris: readonly string[];
}

/** What is sent is no request, or not one of whoever holds the key. The message says why. */
export class SigningRequestError extends Error {
  override readonly name = 'SigningRequestError';
}

const SEQUENCE = 0x30;
const SET = 0x31;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const ATTRIBUTES = 0xa0;
const NULL = Buffer.from([0x05, 0x00]);
const COMMON_NAME = '2.5.4.3';
const ORGANIZATION = '2.5.4.10';
const EXTENSION_REQUEST = '1.2.840.113549.1.9.14';
const SUBJECT_ALTERNATIVE_NAME = '2.5.29.17';

/** By the signature's object identifier; undefined: the key says it. */
const DIGESTS: ReadonlyMap<string, string | undefined> = new Map([
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.3.101.112', undefined],
]);

const BEGIN = /^-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*\r?$/m;
const BASE64 = /^[A-Za-z0-9+/=\s]+$/;

/** The first block of a text, around which others may stand (`openssl req -text` puts the request in words before it). */
function firstBlock(pem: string): { type: string; base64: string } | undefined {
  const begin = BEGIN.exec(pem);
  const type = begin?.[1];
  if (!begin || type === undefined) return undefined;
  const start = begin.index + begin[0].length;
  const end = pem.indexOf(`\n-----END ${type}-----`, start);
  const base64 = end < 0 ? '' : pem.slice(start, end);
  return BASE64.test(base64) ? { type, base64 } : undefined;
}

/** Throws SigningRequestError. */
export function readSigningRequest(pem: string): SigningRequest {
  const block = firstBlock(pem);
  if (block?.type !== 'CERTIFICATE REQUEST')
    throw new SigningRequestError('PEM block type must be CERTIFICATE REQUEST');
  try {
    return readRequest(Buffer.from(block.base64, 'base64'));
  } catch (cause) {
    if (cause instanceof SigningRequestError) throw cause;
    const why = cause instanceof DerError ? cause.message : 'its key cannot be read';
    throw new SigningRequestError(`the request cannot be read: ${why}`, { cause });
  }
}

function readRequest(der: Buffer): SigningRequest {
  const [info, algorithm, signature] = readParts(der, SEQUENCE);
  if (!info || !algorithm || signature?.tag !== BIT_STRING) throw new DerError('it is no signed request');
  const [, name, key, ...attributes] = readParts(info.whole, SEQUENCE);
  if (!name || !key) throw new DerError('it has no subject or no key');
  const publicKey = createPublicKey({ key: key.whole, format: 'der', type: 'spki' });
  const [identifier, parameters, ...more] = readParts(algorithm.whole, SEQUENCE);
  const isPlain = more.length === 0 && (parameters?.whole ?? NULL).equals(NULL);
  if (!isPlain || signature.contents[0] !== 0) throw new DerError('its signature is not in the usual form');
  const digest = identifier && readObjectIdentifier(identifier);
  if (digest === undefined || !DIGESTS.has(digest))
    throw new SigningRequestError(`the request is signed by an algorithm that is not supported: ${digest ?? 'none'}`);
  // The first byte of a bit string says how many bits of the last are none.
  if (!verify(DIGESTS.get(digest), info.whole, publicKey, signature.contents.subarray(1)))
    throw new SigningRequestError('the signature of the request does not belong to its key');
  const names = attributes
    .filter(({ tag }) => tag === ATTRIBUTES)
    .flatMap(({ contents }) => alternativeNames(contents));
  const ofKind = (kind: GeneralName['kind']) => names.filter((each) => each.kind === kind).map(({ text }) => text);
  return {
    commonName: valuesOf(name, COMMON_NAME).at(-1) ?? '',
    organizations: valuesOf(name, ORGANIZATION),
    subject: name.whole,
    publicKey,
    dnsNames: ofKind('dns'),
    addresses: ofKind('address'),
    emails: ofKind('email'),
    uris: ofKind('uri'),
  };
}

/** The values of one attribute of a name. */
function valuesOf(name: Element, wanted: string): string[] {
  return readParts(name.whole, SEQUENCE)
    .flatMap((relative) => readParts(relative.whole, SET))
    .flatMap((pair) => {
      const [type, value] = readParts(pair.whole, SEQUENCE);
      return type && value && readObjectIdentifier(type) === wanted ? [readText(value)] : [];
    });
}

interface GeneralName {
  readonly kind: 'dns' | 'address' | 'email' | 'uri' | 'other';
  readonly text: string;
}

function alternativeNames(attributes: Buffer): GeneralName[] {
  return readAll(attributes).flatMap((attribute) => {
    const [type, values] = readParts(attribute.whole, SEQUENCE);
    if (!type || values?.tag !== SET || readObjectIdentifier(type) !== EXTENSION_REQUEST) return [];
    return readAll(values.contents)
      .flatMap((extensions) => readParts(extensions.whole, SEQUENCE))
      .flatMap((extension) => {
        const [id, ...rest] = readParts(extension.whole, SEQUENCE);
        const value = rest.find(({ tag }) => tag === OCTET_STRING);
        if (!id || !value || readObjectIdentifier(id) !== SUBJECT_ALTERNATIVE_NAME) return [];
        return readParts(value.contents, SEQUENCE).map(generalName);
      });
  });
}

/** RFC 5280, 4.2.1.6: the kind is the tag. */
function generalName({ tag, contents }: Element): GeneralName {
  switch (tag) {
    case 0x81:
      return { kind: 'email', text: contents.toString('latin1') };
    case 0x82:
      return { kind: 'dns', text: contents.toString('latin1') };
    case 0x86:
      return { kind: 'uri', text: contents.toString('latin1') };
    case 0x87:
      return { kind: 'address', text: addressText(contents) };
    default:
      return { kind: 'other', text: '' };
  }
}

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return [...bytes].join('.');
  if (bytes.length !== 16) throw new DerError('an address is neither IPv4 nor IPv6');
  return Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16)).join(':');
}
