/**
 * Reads the wire format of protobuf, bounds-checked: whatever the bytes say, a read stays inside the buffer or throws WireError. Used by `message-decoder.ts`.
 * https://protobuf.dev/programming-guides/encoding/
 */

/** The bytes are not what they should be; the message says why and where. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

const MAX_VARINT_BYTES = 10;

export class WireReader {
  readonly #buffer: Buffer;
  #position: number;
  readonly end: number;

  constructor(buffer: Buffer, start = 0, end = buffer.length) {
    this.#buffer = buffer;
    this.#position = start;
    this.end = end;
  }

  get done(): boolean {
    return this.#position >= this.end;
  }

  /** Field number and wire type, as `number << 3 | type`. */
  tag(): number {
    const tag = this.uint32();
    if (tag >>> 3 === 0) throw this.#fault('field number 0');
    return tag;
  }

  uint32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        if (value > 0xffffffff) break;
        return value;
      }
    }
    throw this.#fault('a length or tag beyond 32 bits');
  }

  /** A signed 64-bit integer; beyond 2^53 it is rounded, as JSON numbers are. */
  int64(): number {
    let low = 0;
    let high = 0;
    for (let index = 0; index < MAX_VARINT_BYTES; index++) {
      const byte = this.#byte();
      const bits = byte & 0x7f;
      if (index < 4) low += bits * 2 ** (7 * index);
      else high += bits * 2 ** (7 * (index - 4));
      if (byte >= 0x80) continue;
      if (high < 2 ** 24) return low + high * 2 ** 28;
      return Number(BigInt.asIntN(64, BigInt(low) + (BigInt(high) << 28n)));
    }
    throw this.#fault('a varint of more than 10 bytes');
  }

  bool(): boolean {
    return this.int64() !== 0;
  }

  double(): number {
    const at = this.#take(8);
    return this.#buffer.readDoubleLE(at);
  }

  bytes(): Buffer {
    const length = this.uint32();
    const at = this.#take(length);
    return this.#buffer.subarray(at, at + length);
  }

  string(): string {
    const length = this.uint32();
    const at = this.#take(length);
    return this.#buffer.toString('utf8', at, at + length);
  }

  /** A reader over an embedded message. */
  message(): WireReader {
    const length = this.uint32();
    const at = this.#take(length);
    return new WireReader(this.#buffer, at, at + length);
  }

  skip(wireType: number): void {
    switch (wireType) {
      case VARINT:
        this.int64();
        return;
      case FIXED64:
        this.#take(8);
        return;
      case BYTES:
        this.#take(this.uint32());
        return;
      case FIXED32:
        this.#take(4);
        return;
      default:
        throw this.#fault(`wire type ${wireType}`);
    }
  }

  #byte(): number {
    const byte = this.#position < this.end ? this.#buffer[this.#position] : undefined;
    if (byte === undefined) throw this.#fault('unexpected end');
    this.#position += 1;
    return byte;
  }

  #take(length: number): number {
    const at = this.#position;
    if (length > this.end - at) throw this.#fault('unexpected end');
    this.#position = at + length;
    return at;
  }

  #fault(says: string): WireError {
    return new WireError(`proto: ${says} at offset ${this.#position}`);
  }
}
