/**
 * The few pieces of DER (ITU-T X.690) that certificates and requests for them are made of. Node reads certificates but can neither write them nor read requests; this much is enough to. Used by `certificate.ts` and
 * `signing-request.ts`.
 */

/** A tag, a length and contents. */
function element(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(contents);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length: number[] = [];
  for (let rest = body.length; rest > 0; rest >>>= 8) length.unshift(rest & 0xff);
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length, ...length]), body]);
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => element(0x30, ...parts);
/** One element needs no sorting. */
export const setOf = (part: Uint8Array): Buffer => element(0x31, part);
export const boolean = (value: boolean): Buffer => element(0x01, Buffer.from([value ? 0xff : 0]));
export const octetString = (bytes: Uint8Array): Buffer => element(0x04, bytes);
export const utf8String = (text: string): Buffer => element(0x0c, Buffer.from(text, 'utf8'));
/** `unused`: how many bits of the last byte are none. */
export const bitString = (bytes: Uint8Array, unused = 0): Buffer => element(0x03, Buffer.from([unused]), bytes);
/** `[number]`, constructed: explicit tagging. */
export const explicit = (number: number, ...parts: readonly Uint8Array[]): Buffer => element(0xa0 | number, ...parts);
/** `[number]`, primitive: implicit tagging. */
export const implicit = (number: number, bytes: Uint8Array): Buffer => element(0x80 | number, bytes);

/** A positive integer from its big-endian bytes. */
export function integer(bytes: Uint8Array): Buffer {
  const first = bytes[0] ?? 0;
  return element(0x02, first >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}

export function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const groups = [part & 0x7f];
    for (let left = part >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return element(0x06, Buffer.from(bytes));
}

/** RFC 5280, 4.1.2.5: two digits of the year up to 2049. */
export function time(date: Date): Buffer {
  const digits = date.toISOString().replaceAll(/[-:T]/g, '').slice(0, 14);
  return date.getUTCFullYear() < 2050
    ? element(0x17, Buffer.from(`${digits.slice(2)}Z`))
    : element(0x18, Buffer.from(`${digits}Z`));
}

// --- Reading ------------------------------------------------------------------------------------------------------------------------------------------------------

/** The bytes are not what they should be. */
export class DerError extends Error {
  override readonly name = 'DerError';
}

export interface Element {
  readonly tag: number;
  readonly contents: Buffer;
  /** Tag and length included. */
  readonly whole: Buffer;
}

/** Lengths of up to four bytes; more is no certificate. */
const MAX_LENGTH_BYTES = 4;

/** The element that the bytes begin with, and what follows it. */
function next(bytes: Buffer): { element: Element; rest: Buffer } {
  const [tag, first] = bytes;
  if (tag === undefined || first === undefined) throw new DerError('it ends too early');
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  const isWhole = lengthBytes <= MAX_LENGTH_BYTES && first !== 0x80 && bytes.length >= 2 + lengthBytes;
  if (!isWhole) throw new DerError('a length cannot be read');
  const length = lengthBytes === 0 ? first : bytes.readUIntBE(2, lengthBytes);
  const start = 2 + lengthBytes;
  if (bytes.length < start + length) throw new DerError('it ends too early');
  return {
    element: { tag, contents: bytes.subarray(start, start + length), whole: bytes.subarray(0, start + length) },
    rest: bytes.subarray(start + length),
  };
}

/** The elements that follow each other in the bytes. Throws DerError. */
export function readAll(bytes: Buffer): Element[] {
  const elements: Element[] = [];
  for (let rest = bytes; rest.length > 0;) {
    const found = next(rest);
    elements.push(found.element);
    rest = found.rest;
  }
  return elements;
}

/** The parts of the one element that the bytes are. Throws DerError where it is another. */
export function readParts(bytes: Buffer, tag: number): Element[] {
  const [element, ...more] = readAll(bytes);
  if (element?.tag !== tag || more.length > 0) throw new DerError(`expected one element with tag ${tag}`);
  return readAll(element.contents);
}

export function readObjectIdentifier({ tag, contents }: Element): string {
  if (tag !== 0x06 || contents.length === 0) throw new DerError('expected an object identifier');
  const numbers: number[] = [];
  let value = 0;
  for (const byte of contents) {
    value = value * 128 + (byte & 0x7f);
    if ((byte & 0x80) !== 0) continue;
    numbers.push(value);
    value = 0;
  }
  const [first = 0, ...rest] = numbers;
  const root = Math.min(2, Math.floor(first / 40));
  return [root, first - root * 40, ...rest].join('.');
}

const TEXT_TAGS: ReadonlyMap<number, BufferEncoding> = new Map([
  [0x0c, 'utf8'],
  [0x12, 'latin1'],
  [0x13, 'latin1'],
  [0x14, 'latin1'],
  [0x16, 'latin1'],
]);

/** Two bytes a letter, the greater first: what Windows and Java may write. */
const BMP_STRING = 0x1e;

export function readText({ tag, contents }: Element): string {
  if (tag === BMP_STRING && contents.length % 2 === 0) return Buffer.from(contents).swap16().toString('utf16le');
  const encoding = TEXT_TAGS.get(tag);
  if (encoding === undefined) throw new DerError('expected a text');
  return contents.toString(encoding);
}
