/**
 * The channels of a WebSocket, as Kubernetes numbers them in the first byte of each message, each as a Duplex. v5 can also close one, which is how a client says that its input has ended. Used by remote-command.ts
 * and port-forward.ts.
 */
import { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

/** Best first. */
export const CHANNEL_PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'] as const;

const CLOSE = 255;

class Channel extends Duplex {
  readonly #webSocket: WebSocket;
  readonly #mark: Buffer;
  readonly #wanted: () => void;

  constructor(webSocket: WebSocket, number: number, wanted: () => void) {
    super({ allowHalfOpen: true });
    this.#webSocket = webSocket;
    this.#mark = Buffer.from([number]);
    this.#wanted = wanted;
    // Who uses the channel hears of it by 'close'.
    this.on('error', () => undefined);
  }

  override _read(): void {
    this.#wanted();
  }

  /** One message at a time: whoever writes waits for the network. */
  override _write(bytes: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#webSocket.send(Buffer.concat([this.#mark, bytes]), done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#wanted();
    done(error);
  }
}

export class Channels {
  readonly #webSocket: WebSocket;
  readonly #channels: readonly Channel[];
  /** Channels whose reader has no room: nothing more is read from the network until they have. */
  readonly #full = new Set<Channel>();
  /** Channels that the client has closed: what it says on them afterwards is none of their input. */
  readonly #closed = new Set<Channel>();

  constructor(webSocket: WebSocket, count: number) {
    this.#webSocket = webSocket;
    this.#channels = Array.from({ length: count }, (_, number): Channel => {
      const channel: Channel = new Channel(webSocket, number, () => this.#roomIn(channel));
      return channel;
    });
    webSocket.on('message', (message: Buffer) => this.#receive(message));
    webSocket.once('close', () => {
      for (const channel of this.#channels) channel.destroy();
    });
  }

  of(number: number): Duplex {
    const channel = this.#channels[number];
    if (!channel) throw new RangeError(`there is no channel ${number}`);
    return channel;
  }

  #receive(message: Buffer): void {
    const [number] = message;
    if (number === CLOSE) return this.#close(this.#channels[message[1] ?? CLOSE]);
    const channel = this.#channels[number ?? CLOSE];
    if (!channel || message.length < 2 || channel.destroyed || this.#closed.has(channel)) return;
    if (channel.push(message.subarray(1))) return;
    this.#full.add(channel);
    this.#webSocket.pause();
  }

  #close(channel: Channel | undefined): void {
    if (!channel || this.#closed.has(channel)) return;
    this.#closed.add(channel);
    channel.push(null);
  }

  #roomIn(channel: Channel): void {
    if (this.#full.delete(channel) && this.#full.size === 0) this.#webSocket.resume();
  }
}
