/**
 * One ephemeral, ordered, acknowledgement-free pull consumer: messages in order, or the news that it is lost (gap, silence, disconnect, deletion), upon which its
 * owner makes another. Bounded: it asks for more only as what it has is taken. Used by the follower and the trimmer.
 */
import type { Msg, MsgHdrs, Subscription } from 'nats';
import type { LogConnection } from './connection.ts';
import type { StoredMessage } from './record.ts';

export interface Delivery extends StoredMessage {
  /** How many messages the consumer had left to deliver after this one. */
  readonly pending: number;
}

/** `quiet`: the server says that it has nothing more to deliver just now, having looked through the stream up to `through`. `waited`: nothing came in the time given, or the signal fired. */
export type Pulled =
  | { readonly kind: 'deliveries'; readonly deliveries: readonly Delivery[] }
  | { readonly kind: 'quiet'; readonly through: number }
  | { readonly kind: 'waited' }
  | { readonly kind: 'lost'; readonly reason: string };

export interface ConsumerStart {
  readonly deliver: 'last_per_subject' | { readonly from: number };
  readonly filterSubjects: readonly string[];
  readonly headersOnly?: boolean;
  /** Kept by the server with the consumer. */
  readonly metadata?: Readonly<Record<string, string>>;
}

interface ConsumerAnswer {
  readonly name: string;
  readonly num_pending: number;
  readonly delivered: { readonly consumer_seq: number };
}

const NANOSECONDS_PER_MS = 1_000_000;
const BATCH = 500;
const PULL_BYTES = 16 * 1024 * 1024;
const TAKE_BYTES = 4 * 1024 * 1024;
const EXPIRES_MS = 30_000;
export const HEARTBEAT_MS = 2_000;
const SILENCE_MS = 5_500;
const INACTIVE_MS = 60_000;

export class PullConsumer {
  readonly #connection: LogConnection;
  readonly #stream: string;
  #name = '';
  readonly #inbox: string;
  #subscription: Subscription | undefined;
  #buffer: Delivery[] = [];
  #bufferBytes = 0;
  /** By pull number: how many messages it may still bring. */
  #outstanding = 0;
  #pullNumber = 0;
  #received = 0;
  #quiet = false;
  #lookedThrough = 0;
  #lost: string | undefined;
  #wake: (() => void) | undefined;
  #lastHeard = Date.now();
  #watchdog: NodeJS.Timeout | undefined;
  #stopListening: () => void = () => undefined;
  /** How many messages matched at the moment of creation. */
  pendingAtStart = 0;

  constructor(connection: LogConnection, stream: string) {
    this.#connection = connection;
    this.#stream = stream;
    this.#inbox = connection.newInbox();
  }

  /** Rejects as `LogConnection.api` does. */
  async open(start: ConsumerStart): Promise<void> {
    this.#stopListening = this.#connection.onChange(
      (connected) => connected || this.#lose('the connection to NATS is lost'),
    );
    this.#subscription = this.#connection.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => error ?? this.#take(message),
    });
    try {
      const answer = await this.#connection.api<ConsumerAnswer>(`CONSUMER.CREATE.${this.#stream}`, {
        stream_name: this.#stream,
        config: {
          ack_policy: 'none',
          replay_policy: 'instant',
          mem_storage: true,
          num_replicas: 1,
          inactive_threshold: INACTIVE_MS * NANOSECONDS_PER_MS,
          ...(start.metadata && { metadata: start.metadata }),
          ...(start.headersOnly && { headers_only: true }),
          ...(start.deliver === 'last_per_subject'
            ? { deliver_policy: 'last_per_subject' }
            : { deliver_policy: 'by_start_sequence', opt_start_seq: Math.max(1, start.deliver.from) }),
          filter_subjects: start.filterSubjects,
        },
      });
      this.#name = answer.name;
      this.pendingAtStart = answer.num_pending;
    } catch (error) {
      this.close();
      throw error;
    }
    this.#lastHeard = Date.now();
    this.#watchdog = setInterval(() => this.#watch(), HEARTBEAT_MS / 2);
    this.#watchdog.unref();
    this.#pull();
  }

  /** Waits for something. */
  async next(signal: AbortSignal, timeoutMs?: number): Promise<Pulled> {
    if (this.#buffer.length === 0 && !this.#lost && !this.#quiet) await this.#wait(signal, timeoutMs);
    // What arrived before the consumer was lost is in order and good.
    if (this.#buffer.length > 0) return { kind: 'deliveries', deliveries: this.#shift() };
    if (this.#lost !== undefined) return { kind: 'lost', reason: this.#lost };
    if (!this.#quiet) return { kind: 'waited' };
    this.#quiet = false;
    return { kind: 'quiet', through: this.#lookedThrough };
  }

  /** Asks the server: true if it has nothing to deliver and has delivered exactly what has arrived here. */
  async drained(): Promise<boolean> {
    const info = await this.#connection.api<ConsumerAnswer>(`CONSUMER.INFO.${this.#stream}.${this.#name}`);
    return info.num_pending === 0 && info.delivered.consumer_seq === this.#received && this.#buffer.length === 0;
  }

  close(): void {
    clearInterval(this.#watchdog);
    this.#stopListening();
    this.#subscription?.unsubscribe();
    this.#lose('closed');
    this.#buffer = [];
    if (this.#name === '' || !this.#connection.connected) return;
    this.#connection.publish(`$JS.API.CONSUMER.DELETE.${this.#stream}.${this.#name}`);
    this.#name = '';
  }

  #take(message: Msg): void {
    this.#lastHeard = Date.now();
    if (this.#lost !== undefined) return;
    const { headers } = message;
    if (message.reply?.startsWith('$JS.ACK.')) {
      const delivery = toDelivery(message);
      if (delivery.consumerSequence !== this.#received + 1) {
        this.#lose(`message ${this.#received + 1} of the consumer is missing`);
        return;
      }
      this.#received += 1;
      this.#outstanding = Math.max(0, this.#outstanding - 1);
      this.#buffer.push(delivery);
      this.#bufferBytes += message.data.byteLength;
      this.#quiet = false;
      this.#notify();
      return;
    }
    if (headers?.code === 100) {
      // Heartbeats come only while there is nothing to deliver; a higher number than ours means that messages were lost on the way.
      const last = Number(headers.get('Nats-Last-Consumer'));
      if (Number.isSafeInteger(last) && last > this.#received) this.#lose('messages were lost on the way');
      else if (this.#buffer.length === 0) {
        this.#lookedThrough = Math.max(this.#lookedThrough, Number(headers.get('Nats-Last-Stream')) || 0);
        this.#hush();
      }
      return;
    }
    if (headers && endsPull(headers)) {
      const left = Number(headers.get('Nats-Pending-Messages'));
      this.#outstanding = Math.max(0, this.#outstanding - (Number.isSafeInteger(left) ? left : BATCH));
      this.#pull();
      return;
    }
    this.#lose(headers ? `${headers.code} ${headers.description}` : 'an unexpected message');
  }

  #hush(): void {
    this.#quiet = true;
    this.#notify();
  }

  /** Keeps up to two pulls under way, as long as the buffer is nearly empty. */
  #pull(): void {
    while (
      this.#lost === undefined &&
      this.#buffer.length + this.#outstanding <= BATCH &&
      this.#bufferBytes < PULL_BYTES &&
      this.#connection.connected
    ) {
      this.#outstanding += BATCH;
      this.#pullNumber += 1;
      const request = {
        batch: BATCH,
        max_bytes: Math.max(PULL_BYTES, 2 * this.#connection.maxPayloadBytes),
        expires: EXPIRES_MS * NANOSECONDS_PER_MS,
        idle_heartbeat: HEARTBEAT_MS * NANOSECONDS_PER_MS,
      };
      this.#connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${this.#stream}.${this.#name}`, JSON.stringify(request), {
        reply: `${this.#inbox}.${this.#pullNumber}`,
      });
    }
  }

  #shift(): readonly Delivery[] {
    let bytes = 0;
    let count = 0;
    while (count < this.#buffer.length && count < BATCH && bytes < TAKE_BYTES) {
      bytes += this.#buffer[count]?.data.byteLength ?? 0;
      count += 1;
    }
    const taken = this.#buffer.splice(0, count);
    this.#bufferBytes -= bytes;
    this.#pull();
    return taken;
  }

  #wait(signal: AbortSignal, timeoutMs: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', finish);
        this.#wake = undefined;
        resolve();
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(finish, timeoutMs);
      this.#wake = finish;
      if (signal.aborted) finish();
      else signal.addEventListener('abort', finish, { once: true });
    });
  }

  #watch(): void {
    // Without a pull under way the server has no reason to say anything.
    if (this.#outstanding > 0 && Date.now() - this.#lastHeard > SILENCE_MS) this.#lose('the server has fallen silent');
    if (this.#outstanding === 0) this.#lastHeard = Date.now();
  }

  #lose(reason: string): void {
    this.#lost ??= reason;
    this.#notify();
  }

  #notify(): void {
    this.#wake?.();
  }
}

/** One pull is over, for want of time or messages or because its bytes are used up; the consumer itself lives on. */
function endsPull(headers: MsgHdrs): boolean {
  if (headers.code === 408 || headers.code === 404) return true;
  return headers.code === 409 && /^(Batch Completed|Message Size Exceeds MaxBytes)/.test(headers.description);
}

/** `$JS.ACK.<stream>.<consumer>.<times>.<stream sequence>.<consumer sequence>.<time>.<pending>`, or with domain and account in front (ADR-15). */
/** The client looks through all names for each that it is asked for, and a record is asked for a dozen. */
function headerValues({ headers }: Msg): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const [name, [first = '']] of headers ?? []) values.set(name, first);
  return values;
}

function toDelivery(message: Msg): Delivery & { consumerSequence: number } {
  const tokens = (message.reply ?? '').split('.');
  const at = tokens.length > 9 ? 7 : 5;
  let values: ReadonlyMap<string, string> | undefined;
  return {
    sequence: Number(tokens[at]),
    consumerSequence: Number(tokens[at + 1]),
    storedAtMs: Math.floor(Number(tokens[at + 2]) / NANOSECONDS_PER_MS),
    pending: Number(tokens[at + 3]),
    subject: message.subject,
    header: (name) => (values ??= headerValues(message)).get(name),
    data: message.data,
  };
}
