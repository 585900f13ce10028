/**
 * The frames of SPDY/3.1, from bytes and to bytes; header blocks stay as they are (header-block.ts reads them). Pure, and bounded: data is handed on as it comes, whatever length its frame announces. Used by
 * session.ts. https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/#TOC-2.2-Framing
 */

export type Frame =
  | { readonly type: 'open'; readonly streamId: number; readonly block: Buffer; readonly last: boolean }
  | { readonly type: 'reply'; readonly streamId: number; readonly block: Buffer; readonly last: boolean }
  | { readonly type: 'headers'; readonly streamId: number; readonly block: Buffer; readonly last: boolean }
  | { readonly type: 'data'; readonly streamId: number; readonly bytes: Buffer; readonly last: boolean }
  | { readonly type: 'reset'; readonly streamId: number; readonly status: number }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'goaway' };

export class FrameError extends Error {
  override readonly name = 'FrameError';
}

const HEAD_BYTES = 8;
const CONTROL = 0x8000;
const VERSION = 3;
/** The peer will send no more on this stream. */
const FINISHED = 0x01;
const MAX_CONTROL_BYTES = 64 * 1024;
/** As a frame's head can tell it. */
const MAX_DATA_BYTES = 0xffffff;
const MAX_STREAM_ID = 0x7fffffff;
const TYPES = { open: 1, reply: 2, reset: 3, ping: 6, goaway: 7, headers: 8 } as const;
/** Known, and nothing follows from them here: SETTINGS, WINDOW_UPDATE, CREDENTIAL. */
const IGNORED: readonly number[] = [4, 9, 10];

interface DataInProgress {
  readonly streamId: number;
  readonly finishes: boolean;
  left: number;
}

export class FrameReader {
  #pending: Buffer = Buffer.alloc(0);
  #data: DataInProgress | undefined;

  /** What has become whole by these bytes. Throws FrameError; the connection cannot be read any further then. */
  *push(chunk: Buffer): Generator<Frame> {
    let bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#pending = Buffer.alloc(0);
    for (;;) {
      if (this.#data) {
        const piece = bytes.subarray(0, this.#data.left);
        bytes = bytes.subarray(piece.length);
        if (piece.length === 0) return;
        yield this.#takeData(this.#data, piece);
        continue;
      }
      if (bytes.length < HEAD_BYTES) break;
      const length = bytes.readUIntBE(5, 3);
      if ((bytes.readUInt16BE(0) & CONTROL) === 0) {
        const begun = {
          streamId: bytes.readUInt32BE(0) & MAX_STREAM_ID,
          finishes: ((bytes[4] ?? 0) & FINISHED) !== 0,
          left: length,
        };
        bytes = bytes.subarray(HEAD_BYTES);
        if (length > 0) this.#data = begun;
        else yield { type: 'data', streamId: begun.streamId, bytes: Buffer.alloc(0), last: begun.finishes };
        continue;
      }
      if (length > MAX_CONTROL_BYTES) throw new FrameError(`a control frame of ${length} bytes is too long`);
      if (bytes.length < HEAD_BYTES + length) break;
      const frame = control(bytes.subarray(0, HEAD_BYTES), bytes.subarray(HEAD_BYTES, HEAD_BYTES + length));
      bytes = bytes.subarray(HEAD_BYTES + length);
      if (frame) yield frame;
    }
    // A copy: the bytes given are the caller's.
    this.#pending = Buffer.from(bytes);
  }

  #takeData(data: DataInProgress, piece: Buffer): Frame {
    data.left -= piece.length;
    if (data.left === 0) this.#data = undefined;
    return { type: 'data', streamId: data.streamId, bytes: piece, last: data.left === 0 && data.finishes };
  }
}

function control(head: Buffer, body: Buffer): Frame | undefined {
  const version = head.readUInt16BE(0) & ~CONTROL;
  if (version !== VERSION) throw new FrameError(`a frame of version ${version}, expected ${VERSION}`);
  const type = head.readUInt16BE(2);
  const last = ((head[4] ?? 0) & FINISHED) !== 0;
  const need = (length: number): void => {
    if (body.length < length) throw new FrameError(`a frame of type ${type} ends too early`);
  };
  const streamId = (): number => body.readUInt32BE(0) & MAX_STREAM_ID;
  switch (type) {
    case TYPES.open:
      need(10);
      return { type: 'open', streamId: streamId(), block: body.subarray(10), last };
    case TYPES.reply:
      need(4);
      return { type: 'reply', streamId: streamId(), block: body.subarray(4), last };
    case TYPES.headers:
      need(4);
      return { type: 'headers', streamId: streamId(), block: body.subarray(4), last };
    case TYPES.reset:
      need(8);
      return { type: 'reset', streamId: streamId(), status: body.readUInt32BE(4) };
    case TYPES.ping:
      need(4);
      return { type: 'ping', id: body.readUInt32BE(0) };
    case TYPES.goaway:
      return { type: 'goaway' };
    default:
      if (IGNORED.includes(type)) return undefined;
      throw new FrameError(`a frame of the unknown type ${type}`);
  }
}

/** One frame; of `data`, its head comes apart from its bytes, which are not copied. */
export function encodeFrame(frame: Frame): readonly Buffer[] {
  if (frame.type === 'data') {
    if (frame.bytes.length > MAX_DATA_BYTES) throw new FrameError('the data is too long for one frame');
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32BE(frame.streamId);
    head.writeUInt8(frame.last ? FINISHED : 0, 4);
    head.writeUIntBE(frame.bytes.length, 5, 3);
    return frame.bytes.length === 0 ? [head] : [head, frame.bytes];
  }
  const body = bodyOf(frame);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt16BE(CONTROL | VERSION);
  head.writeUInt16BE(TYPES[frame.type], 2);
  head.writeUInt8('last' in frame && frame.last ? FINISHED : 0, 4);
  head.writeUIntBE(body.length, 5, 3);
  return [Buffer.concat([head, body])];
}

function bodyOf(frame: Exclude<Frame, { type: 'data' }>): Buffer {
  switch (frame.type) {
    case 'open':
      // No stream that it belongs to, priority 0, no slot.
      return Buffer.concat([numbers(frame.streamId, 0), Buffer.alloc(2), frame.block]);
    case 'reply':
    case 'headers':
      return Buffer.concat([numbers(frame.streamId), frame.block]);
    case 'reset':
      return numbers(frame.streamId, frame.status);
    case 'ping':
      return numbers(frame.id);
    case 'goaway':
      return numbers(0, 0);
    default:
      return frame satisfies never;
  }
}

function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, 4 * index);
  return bytes;
}
