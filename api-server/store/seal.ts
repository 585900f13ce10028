/**
 * Seals the secret fields of an object before it is appended and opens them again on the way in: envelope encryption, AES-256-GCM. Every object has a data key of its own; the data key,
 * wrapped by the instance's key, lives in the keys stream, so that destroying it destroys every copy of the object in the log.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { ApiObject } from '../../api-schemas/schema.ts';

/** Where wrapped data keys are kept, by object uid. The log room's key stream. */
export interface KeyStore {
  get(uid: string): Promise<Uint8Array | undefined>;
  /** Resolves to the key that stands: another API server may have been first. */
  put(uid: string, wrapped: Uint8Array): Promise<Uint8Array>;
}

/** The one field that takes the place of the sealed ones in the log. */
export const SEALED_FIELD = 'reckonSealed';

const ALGORITHM = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;
const DATA_KEY_BYTES = 32;

function encrypt(key: Uint8Array, plain: Uint8Array, context: string): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(ALGORITHM, key, iv).setAAD(Buffer.from(context));
  const body = Buffer.concat([cipher.update(plain), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), body]);
}

function decrypt(key: Uint8Array, sealed: Uint8Array, context: string): Buffer {
  const iv = sealed.subarray(0, IV_BYTES);
  const decipher = createDecipheriv(ALGORITHM, key, iv).setAAD(Buffer.from(context));
  decipher.setAuthTag(sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
  return Buffer.concat([decipher.update(sealed.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]);
}

export class Sealer {
  readonly #instanceKey: Uint8Array;
  readonly #keys: KeyStore;
  /** Unwrapped data keys by uid; bounded, oldest out first. */
  readonly #cache = new Map<string, Uint8Array>();
  static readonly CACHED_KEYS = 10_000;

  /** `instanceKey`: 32 bytes. */
  constructor(instanceKey: Uint8Array, keys: KeyStore) {
    this.#instanceKey = instanceKey;
    this.#keys = keys;
  }

  /** A copy of the object as it goes into the log. Makes and stores a data key for an object that has none yet. */
  async seal(object: ApiObject, fields: readonly string[]): Promise<ApiObject> {
    const uid = object.metadata.uid ?? '';
    const open = { ...object };
    const secret: Record<string, unknown> = {};
    for (const field of fields) {
      if (open[field] !== undefined) secret[field] = open[field];
      delete open[field];
    }
    if (Object.keys(secret).length === 0) return object;
    const key = (await this.#dataKey(uid)) ?? (await this.#newDataKey(uid));
    return { ...open, [SEALED_FIELD]: encrypt(key, Buffer.from(JSON.stringify(secret)), uid).toString('base64') };
  }

  /** Opens in place. An object whose key was destroyed stays without its secret fields. */
  async unseal(object: ApiObject): Promise<void> {
    await this.open(object);
  }

  /** The same; false where the key was destroyed, and the secret fields with it. */
  async open(object: ApiObject): Promise<boolean> {
    const sealed = object[SEALED_FIELD];
    if (typeof sealed !== 'string') return true;
    delete object[SEALED_FIELD];
    const uid = object.metadata.uid ?? '';
    const key = await this.#dataKey(uid);
    if (key) Object.assign(object, JSON.parse(decrypt(key, Buffer.from(sealed, 'base64'), uid).toString()));
    return key !== undefined;
  }

  async #dataKey(uid: string): Promise<Uint8Array | undefined> {
    const cached = this.#cache.get(uid);
    if (cached) return cached;
    const wrapped = await this.#keys.get(uid);
    if (!wrapped) return undefined;
    return this.#remember(uid, decrypt(this.#instanceKey, wrapped, uid));
  }

  async #newDataKey(uid: string): Promise<Uint8Array> {
    const wrapped = await this.#keys.put(uid, encrypt(this.#instanceKey, randomBytes(DATA_KEY_BYTES), uid));
    return this.#remember(uid, decrypt(this.#instanceKey, wrapped, uid));
  }

  #remember(uid: string, key: Uint8Array): Uint8Array {
    if (this.#cache.size >= Sealer.CACHED_KEYS) this.#cache.delete(this.#cache.keys().next().value as string);
    this.#cache.set(uid, key);
    return key;
  }
}
