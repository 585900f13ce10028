/**
 * The projection: follows the event log from its own cursor and writes it into PostgreSQL in log order, batch by batch, the cursor in the same transaction. `reckon run projection` calls
 * `runProjection`, in as many processes as one likes: one writes, the others wait warm for its lock. `rebuild.ts` makes it begin again.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { FollowerReport, LogReader } from '../event-log/event-log.ts';
import { newClient } from './database.ts';
import { Intake } from './projection/intake.ts';
import { reset } from './projection/reset.ts';
import { agrees, lastAgreement, rewindTo } from './projection/rewind.ts';
import { CursorMovedError, ProjectionWriter, readCursor } from './projection/writer.ts';
import type { Cursor } from './projection/writer.ts';

/** What this room logs to: a constant message and fields. pino's loggers are such. */
export interface StateLogger {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
}

export interface ProjectionOptions {
  readonly databaseUrl: string;
  readonly log: LogReader;
  readonly signal: AbortSignal;
  readonly logger: StateLogger;
  /** Called after each commit with the position that readers now see. */
  readonly onPosition?: (position: number) => void;
}

/** 'reckon' in a phone's letters, and one. */
const PROJECTION_LOCK = 732567;
const LOCK_POLL_MS = 500;
const STATEMENT_TIMEOUT_MS = 60_000;
/** After so long without a batch the next one is preceded by a look whether the log still agrees: a server that came back may have lost records and given their sequences to others. */
const QUIET_MS = 500;
/** And when nothing comes at all, one looks this often. */
const IDLE_CHECK_MS = 2_000;
const MIN_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5_000;

/** As which it is shown among the log's followers. */
const NAME = 'projection';

/** What a projecting process knows of itself. */
interface Standing {
  /** Names it among the log's followers. */
  readonly process: string;
  /** It holds the lock, and so is the one that writes. */
  writes: boolean;
  /** What has gathered up to here comes next. */
  seen: number;
  /** Readers see everything up to here. */
  done: number;
  /** Why it does not go on just now. */
  fault: string | undefined;
}

/** Runs until the signal. Neither PostgreSQL's nor NATS' absence ends it. */
export async function runProjection(options: ProjectionOptions): Promise<void> {
  const standing: Standing = { process: randomUUID(), writes: false, seen: 0, done: 0, fault: undefined };
  const stopAnswering = options.log.answerFollowers(standing.process, () => [reportOf(standing)]);
  try {
    await projectAlways(options, standing);
  } finally {
    stopAnswering();
  }
}

const reportOf = ({ writes, seen, done, fault }: Standing): FollowerReport => ({
  name: NAME,
  role: writes ? 'leads' : 'standby',
  seen: Math.max(seen, done),
  ...(seen > done && { owes: done + 1 }),
  ...(fault !== undefined && { fault }),
});

async function projectAlways(options: ProjectionOptions, standing: Standing): Promise<void> {
  const { signal, logger } = options;
  let backoffMs = MIN_BACKOFF_MS;
  while (!signal.aborted) {
    const startedMs = performance.now();
    try {
      await projectOnce(options, standing);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof CursorMovedError) {
        logger.info({ reason: error.message }, 'projection begins again from its cursor');
        await sleep(MIN_BACKOFF_MS, undefined, { signal }).catch(() => undefined);
        continue;
      }
      if (performance.now() - startedMs > MAX_BACKOFF_MS) backoffMs = MIN_BACKOFF_MS;
      standing.fault = error instanceof Error ? error.message : String(error);
      logger.warn({ error: standing.fault, backoffMs }, 'projection interrupted, trying again');
      await sleep(backoffMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
      backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
    }
  }
}

/** One session: connect, wait for the lock, agree with the log, follow. Always ends by throwing, or by the signal. */
async function projectOnce(options: ProjectionOptions, standing: Standing): Promise<void> {
  const { databaseUrl, log, logger, signal } = options;
  const client = newClient({
    databaseUrl,
    applicationName: 'reckon projection',
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
  });
  const lost = new AbortController();
  client.on('error', (error) => lost.abort(error));
  client.on('end', () => lost.abort(new Error('the connection to PostgreSQL was closed')));
  try {
    await client.connect();
    standing.fault = undefined;
    await waitForLock(client, signal);
    standing.writes = true;
    // What a crash of PostgreSQL could lose is the newest batches together with their cursor, and the log has them.
    await client.query('set synchronous_commit = off');
    const onUnreadable = (sequence: number, reason: string): void =>
      logger.warn({ sequence, reason }, 'record passed over: it cannot be read');
    const writer = new ProjectionWriter(client, onUnreadable);
    const inner = AbortSignal.any([signal, lost.signal]);
    for (;;) {
      let cursor = await agree(log, writer, logger);
      if (cursor.position < cursor.floor - 1) {
        logger.warn(
          { floor: cursor.floor, position: cursor.position },
          'projection lies below the floor of the log and is set to its snapshot',
        );
        cursor = await reset(log, writer, cursor, inner);
      }
      logger.info({ position: cursor.position }, 'projection follows the log');
      await follow({ ...options, signal: inner }, { writer, from: cursor, standing, onUnreadable });
      signal.throwIfAborted();
      lost.signal.throwIfAborted();
      await sleep(MIN_BACKOFF_MS, undefined, { signal });
    }
  } finally {
    standing.writes = false;
    await client.end().catch(() => undefined);
  }
}

/** Follows until the signal, or until the log says that it cannot go on from where the projection stands. */
async function follow(
  options: ProjectionOptions,
  session: {
    writer: ProjectionWriter;
    from: Cursor;
    standing: Standing;
    onUnreadable: (sequence: number, reason: string) => void;
  },
): Promise<void> {
  const { log, signal } = options;
  const { writer, from, standing, onUnreadable } = session;
  options.onPosition?.(from.position);
  const stop = new AbortController();
  const inner = AbortSignal.any([signal, stop.signal]);
  const follower = { names: [NAME], process: standing.process };
  const followed = log.follow({ from: { after: resumeAt(from) }, follower, signal: inner, onUnreadable });
  const intake = new Intake(followed, inner, (position) => (standing.seen = position));
  let cursor = from;
  standing.seen = standing.done = cursor.position;
  let lastBatchMs = -Infinity;
  try {
    while (!signal.aborted) {
      const batch = await intake.next(IDLE_CHECK_MS);
      if (batch === 'ended' || batch === 'reset') return;
      if (performance.now() - lastBatchMs > QUIET_MS) await check(log, writer, cursor, batch === 'idle');
      if (batch === 'idle') continue;
      lastBatchMs = performance.now();
      if (batch.records.length === 0 && batch.position <= cursor.position) continue;
      cursor = await writer.write(cursor, batch.records, Math.max(batch.position, cursor.position));
      standing.done = cursor.position;
      options.onPosition?.(cursor.position);
    }
  } finally {
    stop.abort();
    await intake.closed;
  }
}

/** Floor records and unreadable ones leave no row, so one resumes at the last row rather than at the position, unless the log no longer goes back so far. */
function resumeAt(cursor: Cursor): number {
  return Math.max(cursor.recordSequence, Math.min(cursor.position, cursor.floor - 1));
}

/** Throws CursorMovedError when the projection has to begin again: it was rewound by a rebuild, or the log has lost what the projection holds. */
async function check(log: LogReader, writer: ProjectionWriter, cursor: Cursor, idle: boolean): Promise<void> {
  if (idle) {
    const stands = await readCursor(writer.client, '');
    if (stands.generation !== cursor.generation || stands.position !== cursor.position)
      throw new CursorMovedError('the projection was rewound');
  }
  let agreed: boolean;
  try {
    agreed = await agrees(log, cursor);
  } catch (error) {
    // Nothing can be said while the log is away; before a batch is written it has to be known.
    if (idle) return;
    throw error;
  }
  if (!agreed) throw new CursorMovedError('the log has lost records that the projection holds');
}

/** On start: rewinds where the log disagrees, and notes the log's floor. */
async function agree(log: LogReader, writer: ProjectionWriter, logger: StateLogger): Promise<Cursor> {
  const { client } = writer;
  let cursor = await writer.readCursor();
  if (!(await agrees(log, cursor))) {
    const to = await lastAgreement(log, client, cursor);
    if (to < cursor.recordSequence) {
      logger.warn(
        { from: cursor.position, to },
        'the log has lost records that were never acknowledged: projection rewound',
      );
      await writer.transaction(() => rewindTo(client, to));
      cursor = await writer.readCursor();
    }
  }
  const floor = await log.floor();
  if (floor > cursor.floor) await client.query('update projection set floor = $1', [floor]);
  const last = await log.lastSequence();
  if (cursor.position > last) {
    // Only records without a row were lost: the position may not stand above what will be given out again.
    await client.query('update projection set sequence = record_sequence, generation = generation + 1');
  }
  // Nor does a rebuild wait for what was lost.
  await client.query(
    `update projection set rebuilding_to = case when least(rebuilding_to, $1) > sequence then least(rebuilding_to, $1) end
     where rebuilding_to is not null`,
    [last],
  );
  return writer.readCursor();
}

async function waitForLock(client: pg.Client, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const { rows } = await client.query<{ locked: boolean }>('select pg_try_advisory_lock($1) as locked', [
      PROJECTION_LOCK,
    ]);
    if (rows[0]?.locked === true) return;
    await sleep(LOCK_POLL_MS, undefined, { signal });
  }
}
