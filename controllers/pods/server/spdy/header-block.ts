/**
 * Header blocks of SPDY/3.1: names and values, compressed over the life of a connection with a dictionary that both ends know. Reading follows the peer's zlib stream; writing needs no compressor, because zlib
 * also carries bytes as they are. Used by session.ts. https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/#TOC-2.6.10-Name-Value-Header-Block
 */
import { constants, createInflate } from 'node:zlib';

export type Headers = ReadonlyMap<string, string>;

/** Of one block, inflated. Kubernetes' own are some dozens of bytes. */
export const MAX_HEADER_BYTES = 64 * 1024;

/** The words of the dictionary, each behind its length; then the rest as it is. */
const WORDS = [
  ...'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges'.split(
    ' ',
  ),
  ...'age allow authorization cache-control connection content-base content-encoding content-language'.split(' '),
  ...'content-length content-location content-md5 content-range content-type date etag expect expires'.split(' '),
  ...'from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified'.split(' '),
  ...'location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after'.split(' '),
  ...'server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method'.split(' '),
  ...['get', 'status', '200 OK', 'version', 'HTTP/1.1', 'url', 'public', 'set-cookie', 'keep-alive', 'origin'],
];
const REST = [
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505',
  '203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized',
  '403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable',
  'Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT',
  'chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,',
  'text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.',
];

export const DICTIONARY = Buffer.concat([...WORDS.map(lengthAndText), ...REST.map((text) => Buffer.from(text))]);

function lengthAndText(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export class HeaderError extends Error {
  override readonly name = 'HeaderError';
}

/** The blocks of one connection, in the order in which they came. */
export class HeaderReader {
  readonly #inflate = createInflate({ dictionary: DICTIONARY });
  #chunks: Buffer[] = [];
  #size = 0;
  #failure: Error | undefined;

  constructor() {
    this.#inflate.on('data', (chunk: Buffer) => {
      this.#size += chunk.length;
      if (this.#size <= MAX_HEADER_BYTES) this.#chunks.push(chunk);
      else this.#inflate.destroy(new HeaderError(`a header block is longer than ${MAX_HEADER_BYTES} bytes`));
    });
    this.#inflate.on('error', (error) => (this.#failure = error));
  }

  /** Rejects with HeaderError for what is no header block; the connection cannot be read any further then. */
  async read(block: Buffer): Promise<Headers> {
    this.#chunks = [];
    this.#size = 0;
    await new Promise<void>((resolve) => {
      if (this.#failure || this.#inflate.destroyed) return resolve();
      this.#inflate.once('close', resolve);
      this.#inflate.write(block);
      this.#inflate.flush(constants.Z_SYNC_FLUSH, () => {
        this.#inflate.off('close', resolve);
        resolve();
      });
    });
    if (this.#failure) throw new HeaderError(this.#failure.message, { cause: this.#failure });
    return parse(Buffer.concat(this.#chunks));
  }

  close(): void {
    this.#inflate.destroy();
  }
}

function parse(bytes: Buffer): Headers {
  const headers = new Map<string, string>();
  let at = 0;
  const number = (): number => {
    if (at + 4 > bytes.length) throw new HeaderError('a header block ends too early');
    at += 4;
    return bytes.readUInt32BE(at - 4);
  };
  const text = (): string => {
    const length = number();
    if (at + length > bytes.length) throw new HeaderError('a header block ends too early');
    at += length;
    return bytes.toString('utf8', at - length, at);
  };
  for (let count = number(); count > 0; count--) headers.set(text().toLowerCase(), text());
  return headers;
}

/** How a zlib stream begins that uses the dictionary: method, flags, the dictionary's Adler-32. */
const ZLIB_HEADER = Buffer.from([0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2]);
/** An empty piece: a reader hands out what came before it, and does not look for more (Go's ends the connection over that). */
const FLUSH = Buffer.from([0x00, 0x00, 0x00, 0xff, 0xff]);

/** The other way: each block as one stored piece of the connection's zlib stream. */
export class HeaderWriter {
  #begun = false;

  write(headers: Headers): Buffer {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(headers.size);
    const pairs = [...headers].flatMap(([name, value]) => [lengthAndText(name), lengthAndText(value)]);
    const content = Buffer.concat([count, ...pairs]);
    if (content.length > 0xffff) throw new HeaderError('the headers are too long');
    const stored = Buffer.alloc(5);
    stored.writeUInt16LE(content.length, 1);
    stored.writeUInt16LE(~content.length & 0xffff, 3);
    const opening = this.#begun ? [] : [ZLIB_HEADER];
    this.#begun = true;
    return Buffer.concat([...opening, stored, content, FLUSH]);
  }
}
