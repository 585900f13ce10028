/**
 * The one implementation of the event log, on NATS JetStream. `openEventLog` is for the API server (and the trimmer's process), `openLogReader` for everyone who only follows.
 */
import { randomBytes } from 'node:crypto';
import { DEFAULT_MAX_TRANSACTION, LogUnavailableError, MAX_CAUSES, TooLargeError } from './event-log.ts';
import type {
  Appended,
  EventLog,
  Followed,
  Follower,
  FollowerReport,
  FollowOptions,
  LogReader,
  LogRecord,
  ObjectKey,
  Write,
} from './event-log.ts';
import type { LogConnection } from './connection.ts';
import type { ConnectionSettings } from './connection-settings.ts';
import { follow } from './follow.ts';
import { answerFollowers, askFollowers } from './followers.ts';
import { DEFAULT_TUNING, GroupCommit } from './group-commit.ts';
import type { GroupCommitTuning } from './group-commit.ts';
import { openForStream, openWithStreams } from './open.ts';
import { Publisher } from './publisher.ts';
import { StreamReader } from './reader.ts';
import { toOutgoing } from './record.ts';
import type { StreamKind } from './record.ts';
import { Settle } from './settle.ts';
import { streamNames } from './subjects.ts';
import type { StreamNames } from './subjects.ts';
import { Unacknowledged } from './unacknowledged.ts';

export interface OpenLogOptions extends ConnectionSettings {
  /** First subject token and, in capitals, stream name; default `reckon`. */
  readonly prefix?: string;
  readonly stream: StreamKind;
}

export interface OpenEventLogOptions extends OpenLogOptions {
  /** Of the streams. Absent: 1 of those that this call makes, and of those that are there as many as they have. */
  readonly replicas?: number;
  /** An append settles within this; default 10 s. */
  readonly timeoutMs?: number;
  /** What the server is configured to take in one batch, where that is not JetStream's own number. */
  readonly maxTransaction?: number;
  readonly tuning?: GroupCommitTuning;
}

export interface Closable {
  close(): Promise<void>;
  /** False while there is no connection to NATS; for readiness probes. */
  readonly connected: boolean;
}

const DEFAULT_TIMEOUT_MS = 10_000;

/** Creates the streams where they are missing. Rejects with LogUnavailableError when NATS cannot be reached in time, with a plain Error when it is too old. */
export async function openEventLog(options: OpenEventLogOptions): Promise<EventLog & Closable> {
  const names = streamNames(options.prefix);
  return new JetStreamLog(await openWithStreams(options), names, options);
}

/** For a process whose NATS user may not publish. Waits until the stream is there. */
export async function openLogReader(options: OpenLogOptions): Promise<LogReader & Closable> {
  const names = streamNames(options.prefix);
  const connection = await openForStream(options, names[options.stream]);
  return new JetStreamReader(connection, new StreamReader(connection, names, options.stream));
}

class JetStreamReader implements LogReader, Closable {
  protected readonly connection: LogConnection;
  protected readonly reader: StreamReader;
  protected readonly unacknowledged = new Unacknowledged();

  constructor(connection: LogConnection, reader: StreamReader) {
    this.connection = connection;
    this.reader = reader;
  }

  get connected(): boolean {
    return this.connection.connected;
  }

  follow(options: FollowOptions): AsyncIterable<Followed> {
    return follow({ reader: this.reader, unacknowledged: this.unacknowledged }, options);
  }

  lastSequence(): Promise<number> {
    return this.reader.lastSequence();
  }

  async floor(): Promise<number> {
    return (await this.reader.floor()).floor;
  }

  recordAt(sequence: number): Promise<LogRecord | undefined> {
    return this.reader.recordAt(sequence);
  }

  newest(key: ObjectKey): Promise<LogRecord | undefined> {
    return this.reader.newest(key);
  }

  answerFollowers(process: string, reports: () => readonly FollowerReport[]): () => void {
    return answerFollowers(this.reader, process, reports);
  }

  followers(): Promise<readonly Follower[]> {
    return askFollowers(this.reader);
  }

  close(): Promise<void> {
    return this.connection.close();
  }
}

class JetStreamLog extends JetStreamReader implements EventLog {
  readonly maxTransaction: number;
  readonly #prefix: string;
  readonly #commit: GroupCommit;
  /** With the counter it makes ids that no other process, and no other run of this one, makes. */
  readonly #instance = randomBytes(9).toString('base64url');
  #count = 0;

  constructor(connection: LogConnection, names: StreamNames, options: OpenEventLogOptions) {
    super(connection, new StreamReader(connection, names, options.stream));
    this.maxTransaction = options.maxTransaction ?? DEFAULT_MAX_TRANSACTION;
    this.#prefix = names.prefix;
    this.#commit = new GroupCommit({
      connection,
      publisher: new Publisher({
        connection,
        unacknowledged: this.unacknowledged,
        settle: new Settle(this.reader),
        newId: () => this.#newId(),
      }),
      timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      maxTransaction: this.maxTransaction,
      tuning: options.tuning ?? DEFAULT_TUNING,
    });
  }

  async append(write: Write): Promise<Appended> {
    const outgoing = toOutgoing(checked(write), {
      prefix: this.#prefix,
      stream: this.reader.kind,
      writeId: this.#newId(),
    });
    const [appended] = await this.#commit.enqueue([outgoing], false);
    if (!appended) throw new LogUnavailableError('the log gave no sequence');
    return appended;
  }

  async transaction(writes: readonly Write[]): Promise<readonly Appended[]> {
    const [only] = writes;
    if (!only) return [];
    if (writes.length === 1) return [await this.append(only)];
    const id = this.#newId();
    const members = writes.map((write, index) =>
      toOutgoing(checked(write), {
        prefix: this.#prefix,
        stream: this.reader.kind,
        writeId: this.#newId(),
        transaction: { id, place: index + 1, count: writes.length },
      }),
    );
    if (new Set(members.map((member) => member.object)).size < members.length)
      throw new Error('a transaction writes an object only once');
    return this.#commit.enqueue(members, true);
  }

  override async close(): Promise<void> {
    this.#commit.close();
    await super.close();
  }

  #newId(): string {
    this.#count += 1;
    return `${this.#instance}-${this.#count.toString(36)}`;
  }
}

/** What would make a record that no follower can read, or a guard that JetStream would misunderstand, is a fault of the caller. */
function checked(write: Write): Write {
  if (!Number.isSafeInteger(write.guard) || write.guard < 0) throw new Error(`the guard ${write.guard} is no sequence`);
  if (write.causes.length > MAX_CAUSES) throw new TooLargeError(`a record names ${MAX_CAUSES} causes at most`);
  if (write.uid === '') throw new Error('a write needs a uid');
  if (!write.object.startsWith('{') || !write.object.endsWith('}'))
    throw new Error('the object of a write must be a JSON object without white space around it');
  return write;
}
