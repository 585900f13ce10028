/**
 * The keys of service account tokens: the first of a file signs, all of it are believed, so that a key can be followed by another without a token that is refused. Used by `service-account-tokens.ts`, and by the command that makes
 * new ones.
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';

export interface VerifyingKey {
  /** The `kid` of tokens and of the published set. */
  readonly id: string;
  readonly public: KeyObject;
}

export interface TokenKeys {
  readonly signing: VerifyingKey & { readonly private: KeyObject };
  /** By id, the signing one first. */
  readonly verifying: ReadonlyMap<string, VerifyingKey>;
}

const BLOCK = /-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----/g;
const CURVE = 'prime256v1';

/** PEM. */
export function newTokenKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** The blocks of PEM that a text holds, each ending its line. */
export const pemBlocks = (text: string): readonly string[] => [...text.matchAll(BLOCK)].map(([block]) => `${block}\n`);

/** Throws with a sentence: the first block must be a private key, the others may be public ones, all of them EC keys on P-256. */
export function readTokenKeys(text: string): TokenKeys {
  const blocks = pemBlocks(text);
  const [first] = blocks;
  if (first === undefined) throw new Error('there is no key for the tokens of service accounts');
  if (!first.includes(' PRIVATE KEY-----'))
    throw new Error('the first key for the tokens of service accounts must be a private one: it signs');
  const verifying = blocks.map((block, index) => {
    const key = readPublic(block, index + 1);
    const der = key.export({ type: 'spki', format: 'der' });
    return { id: createHash('sha256').update(der).digest('base64url'), public: key };
  });
  const [newest] = verifying;
  if (!newest) throw new Error('there is no key for the tokens of service accounts');
  return {
    signing: { ...newest, private: createPrivateKey(first) },
    verifying: new Map(verifying.map((key) => [key.id, key])),
  };
}

function readPublic(block: string, place: number): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey(block);
  } catch (cause) {
    throw new Error(`key ${place} for the tokens of service accounts cannot be read`, { cause });
  }
  if (key.asymmetricKeyDetails?.namedCurve !== CURVE)
    throw new Error(`key ${place} for the tokens of service accounts must be an EC key on P-256`);
  return key;
}
