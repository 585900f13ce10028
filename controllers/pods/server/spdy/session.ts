/**
 * One connection that speaks SPDY/3.1, as its answering end: streams that the peer opens, each a Duplex. No flow control of single streams (no Kubernetes client has it): a stream that nobody reads holds up the
 * connection, and so the sender. Used by port-forward.ts and remote-command.ts.
 */
import { Duplex } from 'node:stream';
import { encodeFrame, FrameReader, type Frame } from './frames.ts';
import { HeaderReader, HeaderWriter, type Headers } from './header-block.ts';

/** Open at once. */
const MAX_STREAMS = 2_000;
const RESET = { protocolError: 1, refused: 3, cancel: 5 } as const;
/** A peer that is gone is noticed by writing to it, also while a stream that nobody reads keeps us from reading. */
const PING_MS = 30_000;

/** There is nobody to send to any more. */
class EndedError extends Error {
  override readonly name = 'EndedError';
}

export interface SpdyStream extends Duplex {
  readonly headers: Headers;
}

type Done = (error?: Error | null) => void;

class PeerStream extends Duplex implements SpdyStream {
  readonly id: number;
  readonly headers: Headers;
  readonly #session: SpdySession;
  /** Called when more may be pushed. */
  #wanted: () => void = () => undefined;

  constructor(session: SpdySession, id: number, headers: Headers) {
    super({ allowHalfOpen: true });
    this.#session = session;
    this.id = id;
    this.headers = headers;
    // Who uses the stream hears of it by 'close'; one that nobody uses must not end the process.
    this.on('error', () => undefined);
  }

  /** Resolves when the reader has room again. */
  async give(bytes: Buffer): Promise<void> {
    if (this.destroyed || bytes.length === 0 || this.push(bytes)) return;
    await new Promise<void>((resolve) => {
      this.#wanted = resolve;
    });
  }

  override _read(): void {
    this.#wanted();
  }

  override _write(bytes: Buffer, _: BufferEncoding, done: Done): void {
    void this.#send(bytes, { last: false, done });
  }

  override _final(done: Done): void {
    void this.#send(Buffer.alloc(0), { last: true, done });
  }

  async #send(bytes: Buffer, { last, done }: { last: boolean; done: Done }): Promise<void> {
    try {
      await this.#session.send({ type: 'data', streamId: this.id, bytes, last });
    } catch (error) {
      return done(error as Error);
    }
    done();
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#wanted();
    this.#session.forget(this);
    const whole = this.readableEnded && this.writableFinished;
    if (!whole)
      void this.#session.send({ type: 'reset', streamId: this.id, status: RESET.cancel }).catch(() => undefined);
    done(error);
  }
}

export class SpdySession {
  readonly #connection: Duplex;
  readonly #streams = new Map<number, PeerStream>();
  readonly #headerReader = new HeaderReader();
  readonly #headerWriter = new HeaderWriter();
  readonly #onStream: (stream: SpdyStream) => void;
  #newest = 0;
  #pings = 0;

  /** `onStream` throws to refuse the stream. */
  constructor(connection: Duplex, onStream: (stream: SpdyStream) => void) {
    this.#connection = connection;
    this.#onStream = onStream;
    // Each stream that waits for room listens.
    connection.setMaxListeners(0);
  }

  /** Resolves when the connection has ended, by whichever side; its streams have ended by then. Rejects when the peer does not speak SPDY. */
  async run(): Promise<void> {
    const reader = new FrameReader();
    const endStreams = (): void => {
      for (const stream of this.#streams.values()) stream.destroy();
    };
    this.#connection.once('close', endStreams);
    const pinging = setInterval(() => {
      void this.send({ type: 'ping', id: (this.#pings += 2) }).catch(() => undefined);
    }, PING_MS);
    try {
      for await (const chunk of this.#connection) {
        for (const frame of reader.push(chunk as Buffer)) {
          if (frame.type === 'goaway') return;
          await this.#handle(frame);
        }
      }
    } catch (error) {
      // That the peer is gone is how most connections end.
      if (!this.#connection.errored && !(error instanceof EndedError)) throw error;
    } finally {
      clearInterval(pinging);
      endStreams();
      this.#headerReader.close();
      this.#connection.destroy();
    }
  }

  /** Ends the connection once what was written has been sent. */
  close(): void {
    this.#connection.end();
  }

  forget(stream: PeerStream): void {
    if (this.#streams.get(stream.id) === stream) this.#streams.delete(stream.id);
  }

  /** Resolves when the connection takes more. */
  async send(frame: Frame): Promise<void> {
    const connection = this.#connection;
    if (connection.destroyed || connection.writableEnded) throw new EndedError('the connection has ended');
    let roomy = true;
    for (const bytes of encodeFrame(frame)) roomy = connection.write(bytes);
    if (roomy) return;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        connection.off('drain', go).off('close', go);
        resolve();
      };
      connection.on('drain', go).on('close', go);
    });
  }

  async #handle(frame: Exclude<Frame, { type: 'goaway' }>): Promise<void> {
    switch (frame.type) {
      case 'open':
        return this.#open(frame.streamId, await this.#headerReader.read(frame.block), frame.last);
      case 'reply':
      case 'headers':
        // Nothing in them concerns us, but the compression goes on over them.
        await this.#headerReader.read(frame.block);
        return;
      case 'data': {
        const stream = this.#streams.get(frame.streamId);
        await stream?.give(frame.bytes);
        if (frame.last) stream?.push(null);
        return;
      }
      case 'reset':
        this.#streams.get(frame.streamId)?.destroy();
        return;
      case 'ping':
        // Odd ones are the peer's own and are sent back.
        if (frame.id % 2 === 1) await this.send(frame);
        return;
      default:
        frame satisfies never;
    }
  }

  async #open(id: number, headers: Headers, last: boolean): Promise<void> {
    const refuse = (status: number) => this.send({ type: 'reset', streamId: id, status });
    if (id % 2 === 0 || id <= this.#newest) return refuse(RESET.protocolError);
    this.#newest = id;
    if (this.#streams.size >= MAX_STREAMS) return refuse(RESET.refused);
    const stream = new PeerStream(this, id, headers);
    this.#streams.set(id, stream);
    const block = this.#headerWriter.write(new Map());
    await this.send({ type: 'reply', streamId: id, block, last: false });
    if (last) stream.push(null);
    try {
      this.#onStream(stream);
    } catch {
      stream.destroy();
    }
  }
}
