/**
 * Docker's framing of output without a tty: eight bytes of header (stream number, three zeros, length) before each piece. Read here by the logs, exec and attach
 * of the docker runtime.
 */
import { PassThrough, type Readable } from 'node:stream';
import { finished } from 'node:stream/promises';

const HEADER_BYTES = 8;

/** Calls `onPiece` for every piece in order. */
export class FrameReader {
  #buffered: Buffer = Buffer.alloc(0);
  readonly #onPiece: (stream: 'stdout' | 'stderr', bytes: Buffer) => void;

  constructor(onPiece: (stream: 'stdout' | 'stderr', bytes: Buffer) => void) {
    this.#onPiece = onPiece;
  }

  push(chunk: Buffer): void {
    let rest = this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk]);
    while (rest.length >= HEADER_BYTES) {
      const end = HEADER_BYTES + rest.readUInt32BE(4);
      if (rest.length < end) break;
      this.#onPiece(rest[0] === 2 ? 'stderr' : 'stdout', rest.subarray(HEADER_BYTES, end));
      rest = rest.subarray(end);
    }
    this.#buffered = rest;
  }
}

export interface SplitOutput {
  readonly stdout: PassThrough;
  readonly stderr: PassThrough;
}

/** Splits framed output in two streams, or passes a tty's raw output through; slows the source down when its reader is slow. */
export function splitOutput(source: Readable, tty: boolean): SplitOutput {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const write = (target: PassThrough, bytes: Buffer): void => {
    if (target.writableEnded || target.destroyed) return;
    if (!target.write(bytes)) {
      source.pause();
      target.once('drain', () => source.resume());
    }
  };
  const frames = new FrameReader((stream, bytes) => write(stream === 'stderr' ? stderr : stdout, bytes));
  source.on('data', (chunk: Buffer) => (tty ? write(stdout, chunk) : frames.push(chunk)));
  const end = (): void => {
    stdout.end();
    stderr.end();
  };
  finished(source, { writable: false }).then(end, end);
  return { stdout, stderr };
}

/** Both streams as one, in the order in which the engine sent them. */
export function mergedOutput(source: Readable, tty: boolean): Readable {
  const merged = new PassThrough();
  const write = (bytes: Buffer): void => {
    if (merged.writableEnded || merged.destroyed) return;
    if (!merged.write(bytes)) {
      source.pause();
      merged.once('drain', () => source.resume());
    }
  };
  const frames = new FrameReader((_, bytes) => write(bytes));
  source.on('data', (chunk: Buffer) => (tty ? write(chunk) : frames.push(chunk)));
  const end = (): void => void merged.end();
  finished(source, { writable: false }).then(end, end);
  merged.on('close', () => source.destroy());
  return merged;
}
