/**
 * Reads by sequence and by object, always answered by the stream's leader (never a direct get, which a lagging replica may answer). Used by both kinds of log,
 * by the settlement of unknown outcomes and by the follower.
 */
import { setImmediate as endOfTurn } from 'node:timers/promises';
import type { LogRecord, ObjectKey } from './event-log.ts';
import { ERROR, JetStreamError } from './answers.ts';
import type { LogConnection } from './connection.ts';
import { toRecord } from './record.ts';
import type { StoredMessage, StreamKind } from './record.ts';
import { floorSubject, guardSubject } from './subjects.ts';
import type { StreamNames } from './subjects.ts';
import { streamInfo } from './streams.ts';
import type { StreamInfo } from './streams.ts';

interface MessageAnswer {
  readonly message: {
    readonly subject: string;
    readonly seq: number;
    readonly hdrs?: string;
    readonly data?: string;
    readonly time: string;
  };
}

/** What the trimmer writes before it deletes anything. */
export interface Floor {
  /** The lowest sequence from which the log is complete. */
  readonly floor: number;
  /** The floor before this one. */
  readonly previous: number;
}

export const FIRST_FLOOR: Floor = { floor: 1, previous: 1 };

export class StreamReader {
  readonly connection: LogConnection;
  readonly names: StreamNames;
  readonly kind: StreamKind;
  readonly stream: string;
  /** Never rejects. */
  #reading: Promise<unknown> = Promise.resolve();
  #next: Promise<number> | undefined;

  constructor(connection: LogConnection, names: StreamNames, kind: StreamKind) {
    this.connection = connection;
    this.names = names;
    this.kind = kind;
    this.stream = kind === 'log' ? names.log : names.ephemeral;
  }

  /**
   * Whoever asks while one read is under way shares the next one, which begins after all of them have asked: at the end of a turn of the event loop, so that requests which arrive together share one.
   */
  lastSequence(): Promise<number> {
    this.#next ??= this.#nextRead();
    return this.#next;
  }

  async #nextRead(): Promise<number> {
    await this.#reading;
    await endOfTurn();
    this.#next = undefined;
    const read = this.#readLastSequence();
    this.#reading = read.catch(() => undefined);
    return read;
  }

  async #readLastSequence(): Promise<number> {
    return (await this.connection.read<StreamInfo>(`STREAM.INFO.${this.stream}`)).state.last_seq;
  }

  info(): Promise<StreamInfo> {
    return streamInfo(this.connection, this.stream);
  }

  async floor(): Promise<Floor> {
    if (this.kind === 'ephemeral') return FIRST_FLOOR;
    const message = await this.message({ last_by_subj: floorSubject(this.names.prefix) });
    return message ? parseFloor(message) : FIRST_FLOOR;
  }

  async recordAt(sequence: number): Promise<LogRecord | undefined> {
    return sequence < 1 ? undefined : this.#record({ seq: sequence });
  }

  async newest(key: ObjectKey): Promise<LogRecord | undefined> {
    return this.#record({ last_by_subj: guardSubject(this.names.prefix, key) });
  }

  /** Undefined where there is none. */
  async message(
    query: { seq?: number; next_by_subj?: string; last_by_subj?: string },
    timeoutMs?: number,
  ): Promise<StoredMessage | undefined> {
    try {
      const answer = await this.connection.read<MessageAnswer>(`STREAM.MSG.GET.${this.stream}`, query, timeoutMs);
      return toStored(answer.message);
    } catch (error) {
      if (error instanceof JetStreamError && error.errCode === ERROR.noMessage) return undefined;
      throw error;
    }
  }

  async #record(query: { seq?: number; last_by_subj?: string }): Promise<LogRecord | undefined> {
    const message = await this.message(query);
    if (!message) return undefined;
    const record = toRecord(this.names.prefix, message);
    return typeof record === 'string' ? undefined : record;
  }
}

export function parseFloor(message: StoredMessage): Floor {
  const body = JSON.parse(Buffer.from(message.data).toString('utf8')) as Partial<Floor>;
  const { floor, previous } = body;
  if (!Number.isSafeInteger(floor) || !Number.isSafeInteger(previous))
    throw new Error(`the floor record ${message.sequence} is malformed`);
  return { floor: floor as number, previous: previous as number };
}

function toStored(message: MessageAnswer['message']): StoredMessage {
  const headers = new Map<string, string>();
  for (const line of Buffer.from(message.hdrs ?? '', 'base64')
    .toString('utf8')
    .split('\r\n')
    .slice(1)) {
    const colon = line.indexOf(':');
    if (colon > 0) headers.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return {
    sequence: message.seq,
    subject: message.subject,
    header: (name) => headers.get(name),
    data: Buffer.from(message.data ?? '', 'base64'),
    storedAtMs: Date.parse(message.time),
  };
}
