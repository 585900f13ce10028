/**
 * Durable consumers of the log, made by the API server for event consumers of one namespace: what each may fetch is its filter, which its user cannot change. A durable begins with a snapshot (the newest record of every
 * subject) and then has every change. Where retention is about to remove something that a durable has not acknowledged, the durable goes first (`laggards`, called by `trim.ts`): its next fetch fails, and it asks to
 * begin afresh; nothing is missed silently.
 */
import type { SubscriptionOptions } from 'nats';
import { ERROR, JetStreamError, describe } from './answers.ts';
import type { LogConnection } from './connection.ts';
import type { ConnectionSettings } from './connection-settings.ts';
import { openForStream } from './open.ts';
import type { FollowFilter, Plane } from './event-log.ts';
import type { Closable } from './jetstream.ts';
import { CONSUMER_SERVICE } from './nats-accounts.ts';
import { streamInfo } from './streams.ts';
import { DEFAULT_PREFIX, consumerSubjects, streamNames } from './subjects.ts';
import type { StreamNames } from './subjects.ts';

/** What a durable brings. */
export interface DurableFilter {
  readonly namespace: string;
  /** Absent: every kind. */
  readonly resources?: readonly Pick<FollowFilter, 'group' | 'resource'>[];
  /** Absent: both. */
  readonly plane?: Plane;
}

export interface DurableSpec {
  readonly name: string;
  /** Of the object that it belongs to. */
  readonly owner: string;
  readonly filter: DurableFilter;
}

export interface DurableState {
  readonly name: string;
  readonly owner: string;
  readonly createdAt: string;
  /** Everything that it brings up to here has been acknowledged. */
  readonly acknowledged: number;
  /** Delivered and not acknowledged. */
  readonly unacknowledged: number;
  /** Not delivered yet. */
  readonly pending: number;
}

/** What the API server answers to consumers that ask by NATS: `undefined` where nobody has such a durable. */
export interface ConsumerService {
  begin(durable: string): Promise<{ readonly revision: number } | undefined>;
}

export interface Durables extends Closable {
  readonly stream: string;
  /** Begins (afresh, if there is one) with a snapshot. Everything up to `revision` is the snapshot; after it comes every change. */
  begin(spec: DurableSpec): Promise<{ readonly revision: number }>;
  /** A durable under another name that goes on where `from` has come to. */
  succeed(from: string, spec: DurableSpec): Promise<void>;
  /** No error where there is none. */
  remove(name: string): Promise<void>;
  state(name: string): Promise<DurableState | undefined>;
  list(): Promise<readonly DurableState[]>;
  /** Answers consumers until closed; several servers share the work. */
  serve(service: ConsumerService): void;
}

interface ConsumerInfo {
  readonly name: string;
  readonly created: string;
  readonly config: {
    readonly metadata?: Readonly<Record<string, string>>;
    readonly filter_subject?: string;
    readonly filter_subjects?: readonly string[];
  };
  readonly delivered: { readonly stream_seq: number };
  readonly ack_floor: { readonly stream_seq: number };
  readonly num_ack_pending: number;
  readonly num_pending: number;
}

/** In a durable's metadata: whose it is, and the log's last sequence before its snapshot was taken. */
const OWNER = 'reckon-consumer';
const FROM = 'reckon-from';
const ACK_WAIT_NS = 60_000_000_000;
const MAX_UNACKNOWLEDGED = 1_000;

/** For the API server; waits until the log is there. */
export async function openDurables(options: ConnectionSettings & { readonly prefix?: string }): Promise<Durables> {
  const names = streamNames(options.prefix);
  return new JetStreamDurables(await openForStream(options, names.log), names);
}

class JetStreamDurables implements Durables {
  readonly #connection: LogConnection;
  readonly #names: StreamNames;

  constructor(connection: LogConnection, names: StreamNames) {
    this.#connection = connection;
    this.#names = names;
  }

  get connected(): boolean {
    return this.#connection.connected;
  }

  get stream(): string {
    return this.#names.log;
  }

  async begin(spec: DurableSpec): Promise<{ revision: number }> {
    const before = await this.#lastSequence();
    await this.remove(spec.name);
    await this.#create(spec, { deliver_policy: 'last_per_subject' }, before);
    return { revision: await this.#lastSequence() };
  }

  async succeed(from: string, spec: DurableSpec): Promise<void> {
    const info = await this.#info(from);
    const snapshot = Number(info?.config.metadata?.[FROM] ?? 0);
    // In the middle of its snapshot there is no place to go on from.
    if (!info || positionOf(info) < snapshot) await this.begin(spec);
    else
      await this.#create(spec, { deliver_policy: 'by_start_sequence', opt_start_seq: positionOf(info) + 1 }, snapshot);
    await this.remove(from);
  }

  async remove(name: string): Promise<void> {
    await removeDurable(this.#connection, this.stream, name);
  }

  async state(name: string): Promise<DurableState | undefined> {
    const info = await this.#info(name);
    return info && toState(info);
  }

  async list(): Promise<readonly DurableState[]> {
    return (await listDurables(this.#connection, this.stream)).map(toState);
  }

  serve(service: ConsumerService): void {
    const { logger } = this.#connection;
    const root = this.#names.prefix === DEFAULT_PREFIX ? CONSUMER_SERVICE : `${this.#names.prefix}-consumers`;
    const answer = async (durable: string, question: string): Promise<object> => {
      if (question === 'begin') return (await service.begin(durable)) ?? NOBODY;
      // As JetStream would say it.
      return this.#connection.read<object>(`CONSUMER.INFO.${this.stream}.${durable}`);
    };
    const subject = `${root}.*.*`;
    const options: SubscriptionOptions = {
      queue: 'api-servers',
      callback: (error, message) => {
        if (error) return;
        const [, durable = '', question = ''] = message.subject.split('.');
        answer(durable, question).then(
          (body) => message.respond(JSON.stringify(body)),
          (cause: unknown) => {
            const [code, errCode] = cause instanceof JetStreamError ? [cause.code, cause.errCode] : [503, 0];
            if (code === 503) logger.warn({ durable, err: describe(cause) }, 'a consumer could not be answered');
            message.respond(JSON.stringify({ error: { code, err_code: errCode, description: describe(cause) } }));
          },
        );
      },
    };
    this.#connection.serve(subject, options);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  async #create(spec: DurableSpec, start: object, snapshotFrom: number): Promise<void> {
    await this.#connection.read(`CONSUMER.CREATE.${this.stream}.${spec.name}`, {
      stream_name: this.stream,
      config: {
        ...start,
        name: spec.name,
        durable_name: spec.name,
        ack_policy: 'explicit',
        ack_wait: ACK_WAIT_NS,
        max_ack_pending: MAX_UNACKNOWLEDGED,
        max_deliver: -1,
        replay_policy: 'instant',
        filter_subjects: consumerSubjects(this.#names.prefix, spec.filter),
        metadata: { [OWNER]: spec.owner, [FROM]: String(snapshotFrom) },
      },
    });
  }

  async #info(name: string): Promise<ConsumerInfo | undefined> {
    try {
      return await this.#connection.read<ConsumerInfo>(`CONSUMER.INFO.${this.stream}.${name}`);
    } catch (error) {
      if (error instanceof JetStreamError && error.errCode === ERROR.consumerNotFound) return undefined;
      throw error;
    }
  }

  async #lastSequence(): Promise<number> {
    return (await streamInfo(this.#connection, this.stream)).state.last_seq;
  }
}

const NOBODY = { error: { code: 404, description: 'no consumer has this durable: its credentials were withdrawn' } };

const toState = (info: ConsumerInfo): DurableState => ({
  name: info.name,
  owner: info.config.metadata?.[OWNER] ?? '',
  createdAt: info.created,
  acknowledged: positionOf(info),
  unacknowledged: info.num_ack_pending,
  pending: info.num_pending,
});

/** Nothing that it brings at or below is still to be acknowledged. */
const positionOf = (info: ConsumerInfo): number =>
  info.num_ack_pending === 0 ? info.delivered.stream_seq : info.ack_floor.stream_seq;

async function removeDurable(connection: LogConnection, stream: string, name: string): Promise<void> {
  try {
    await connection.read(`CONSUMER.DELETE.${stream}.${name}`);
  } catch (error) {
    if (error instanceof JetStreamError && error.errCode === ERROR.consumerNotFound) return;
    throw error;
  }
}

/** Ours: those that belong to an event consumer. */
async function listDurables(connection: LogConnection, stream: string): Promise<readonly ConsumerInfo[]> {
  const found: ConsumerInfo[] = [];
  for (let offset = 0; ;) {
    const page = await connection.read<{ total: number; consumers?: readonly ConsumerInfo[] }>(
      `CONSUMER.LIST.${stream}`,
      { offset },
    );
    const consumers = page.consumers ?? [];
    found.push(...consumers.filter(({ config }) => config.metadata?.[OWNER] !== undefined));
    offset += consumers.length;
    if (consumers.length === 0 || offset >= page.total) return found;
  }
}

/** A record that is about to be removed. */
export interface Doomed {
  readonly sequence: number;
  readonly subject: string;
}

/** Removes the durables that would miss one of the records. Resolves to their names. */
export async function removeLaggards(
  connection: LogConnection,
  stream: string,
  doomed: readonly Doomed[],
): Promise<readonly string[]> {
  if (doomed.length === 0) return [];
  const late = (await listDurables(connection, stream)).filter((info) => wouldMiss(info, doomed));
  for (const { name } of late) await removeDurable(connection, stream, name);
  return late.map(({ name }) => name);
}

function wouldMiss(info: ConsumerInfo, doomed: readonly Doomed[]): boolean {
  // What was there when the snapshot was taken is in it, or was superseded then.
  const from = Math.max(positionOf(info), Number(info.config.metadata?.[FROM] ?? 0));
  const filters = (info.config.filter_subjects ?? [info.config.filter_subject ?? '>']).map((each) => each.split('.'));
  return doomed.some(({ sequence, subject }) => {
    if (sequence <= from) return false;
    const tokens = subject.split('.');
    return filters.some(
      (filter) =>
        filter.length === tokens.length && filter.every((token, index) => token === '*' || token === tokens[index]),
    );
  });
}
