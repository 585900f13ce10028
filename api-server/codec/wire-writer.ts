/**
 * Writes the wire format of protobuf from back to front, so that the length of an embedded message is known by the time it is written and one pass over one buffer suffices (as Go's
 * generated code does it). Callers write fields, and the parts of a field, in reverse. Used by `message-encoder.ts`.
 */
const FIRST_SIZE_BYTES = 1024;

export class WireWriter {
  #buffer: Buffer;
  #start: number;

  constructor(firstSizeBytes = FIRST_SIZE_BYTES) {
    this.#buffer = Buffer.allocUnsafe(firstSizeBytes);
    this.#start = firstSizeBytes;
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#buffer.length - this.#start;
  }

  finish(): Buffer {
    return this.#buffer.subarray(this.#start);
  }

  tag(field: number, wireType: number): void {
    this.uint32((field << 3) | wireType);
  }

  uint32(value: number): void {
    let size = 1;
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) size += 1;
    const at = this.#make(size);
    for (let index = 0, rest = value; index < size; index++, rest = Math.floor(rest / 128)) {
      this.#buffer[at + index] = (rest % 128) | (index < size - 1 ? 0x80 : 0);
    }
  }

  /** Any integer; a negative one takes ten bytes. */
  int64(value: number): void {
    if (value >= 0 && value <= Number.MAX_SAFE_INTEGER) return this.uint32(value);
    const bytes: number[] = [];
    for (let rest = BigInt.asUintN(64, BigInt(Math.trunc(value))); ; rest >>= 7n) {
      if (rest < 0x80n) {
        bytes.push(Number(rest));
        break;
      }
      bytes.push(Number(rest & 0x7fn) | 0x80);
    }
    const at = this.#make(bytes.length);
    for (const [index, byte] of bytes.entries()) this.#buffer[at + index] = byte;
  }

  double(value: number): void {
    this.#buffer.writeDoubleLE(value, this.#make(8));
  }

  /** Text with its length before it. */
  string(value: string): void {
    const size = Buffer.byteLength(value);
    const at = this.#make(size);
    this.#buffer.write(value, at, 'utf8');
    this.uint32(size);
  }

  /** Bytes with their length before them. */
  bytes(value: Uint8Array): void {
    this.raw(value);
    this.uint32(value.length);
  }

  raw(value: Uint8Array): void {
    const at = this.#make(value.length);
    this.#buffer.set(value, at);
  }

  /** Room for that many bytes before all that is written; answers where it begins. */
  #make(size: number): number {
    if (size > this.#start) {
      const used = this.length;
      const grown = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, used + size));
      this.#buffer.copy(grown, grown.length - used, this.#start);
      this.#start = grown.length - used;
      this.#buffer = grown;
    }
    this.#start -= size;
    return this.#start;
  }
}
