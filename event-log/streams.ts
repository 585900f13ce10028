/**
 * The three streams: what each is like, and bringing them about. Idempotent; called whenever a writer opens. Readers only wait until the stream is there.
 */
import { LogUnavailableError } from './event-log.ts';
import { ERROR, JetStreamError, NoAnswerError, NoResponderError, describe, isPassing } from './answers.ts';
import { sleep } from './sleep.ts';
import type { LogConnection } from './connection.ts';
import { EPHEMERAL_TOMBSTONE_SECONDS } from './record.ts';
import type { StreamNames } from './subjects.ts';

const NANOSECONDS_PER_SECOND = 1_000_000_000;
const RETRY_MS = 200;

export interface StreamInfo {
  readonly config: Record<string, unknown>;
  readonly created: string;
  readonly state: {
    readonly first_seq: number;
    readonly last_seq: number;
    readonly messages: number;
    readonly last_ts: string;
  };
}

/** Ours. What is not said here is the server's default. */
function streamConfigs(names: StreamNames, replicas: number | undefined): Record<string, unknown>[] {
  const { prefix } = names;
  const common = {
    storage: 'file',
    retention: 'limits',
    max_age: 0,
    max_msgs: -1,
    max_bytes: -1,
    // Where nobody says how many, those that an operator has given a stream stay.
    ...(replicas !== undefined && { num_replicas: replicas }),
    allow_direct: false,
  };
  return [
    {
      ...common,
      name: names.log,
      description: 'Reckon: every API object, wanted and reported state',
      subjects: [`${prefix}.desired.>`, `${prefix}.observed.>`, `${prefix}.floor`],
      discard: 'new',
      allow_atomic: true,
      // A purge with a wildcard would take the newest records of live objects with it.
      deny_purge: true,
    },
    {
      ...common,
      name: names.ephemeral,
      description: 'Reckon: Leases and Events, the newest record of each',
      subjects: [`${prefix}.ephemeral.>`],
      max_msgs_per_subject: 1,
      allow_atomic: true,
      allow_msg_ttl: true,
      subject_delete_marker_ttl: EPHEMERAL_TOMBSTONE_SECONDS * NANOSECONDS_PER_SECOND,
    },
    {
      ...common,
      name: names.keys,
      description: 'Reckon: wrapped data keys of Secrets, by uid',
      subjects: [`${prefix}.keys.>`],
      max_msgs_per_subject: 1,
      discard: 'new',
    },
  ];
}

/** Creates what is missing and verifies what is there; waits for a server that is still starting. */
export async function ensureStreams(
  connection: LogConnection,
  options: { names: StreamNames; replicas: number | undefined; timeoutMs: number },
): Promise<void> {
  for (const config of streamConfigs(options.names, options.replicas)) {
    await untilReady(connection, options.timeoutMs, () => ensureStream(connection, config));
  }
}

/** For a reader, which may not create it. */
export async function awaitStream(connection: LogConnection, stream: string, timeoutMs: number): Promise<void> {
  await untilReady(connection, timeoutMs, async () => {
    await streamInfo(connection, stream);
  });
}

export function streamInfo(connection: LogConnection, stream: string, timeoutMs?: number): Promise<StreamInfo> {
  return connection.api<StreamInfo>(`STREAM.INFO.${stream}`, undefined, timeoutMs);
}

async function ensureStream(connection: LogConnection, config: Record<string, unknown>): Promise<void> {
  const name = String(config['name']);
  let existing: StreamInfo;
  try {
    existing = await streamInfo(connection, name);
  } catch (error) {
    if (!(error instanceof JetStreamError) || error.errCode !== ERROR.streamNotFound) throw error;
    // Two writers that open at once both create it; the same configuration twice is no error.
    await connection.api(`STREAM.CREATE.${name}`, config);
    connection.logger.info({ stream: name }, 'created the stream');
    return;
  }
  const differing = Object.keys(config).filter(
    (field) => JSON.stringify(existing.config[field] ?? absent(config[field])) !== JSON.stringify(config[field]),
  );
  if (differing.length === 0) return;
  try {
    await connection.api(`STREAM.UPDATE.${name}`, { ...existing.config, ...config });
    connection.logger.info({ stream: name, fields: differing }, 'brought the stream in line');
  } catch (cause) {
    if (cause instanceof JetStreamError && !isPassing(cause)) {
      throw new Error(
        `the stream ${name} is not what Reckon needs (${differing.join(', ')}) and could not be changed: ${cause.message}`,
        { cause },
      );
    }
    throw cause;
  }
}

/** The server leaves out what is false, zero or empty. */
function absent(wanted: unknown): unknown {
  if (typeof wanted === 'boolean') return false;
  return typeof wanted === 'number' ? 0 : '';
}

async function untilReady(connection: LogConnection, timeoutMs: number, attempt: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    try {
      await connection.untilConnected(deadline);
      await attempt();
      return;
    } catch (cause) {
      const passing =
        cause instanceof NoAnswerError ||
        cause instanceof NoResponderError ||
        (cause instanceof JetStreamError && (isPassing(cause) || cause.errCode === ERROR.streamNotFound));
      if (!passing) throw cause;
      if (Date.now() > deadline) throw new LogUnavailableError(`the log is not ready: ${describe(cause)}`, { cause });
      await sleep(RETRY_MS);
    }
  }
}
