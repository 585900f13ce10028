/**
 * Forgets what the log can tell again, and has it projected anew; history from below the log's floor stays. Called by `reckon projection rebuild`.
 *
 * The projection's row says meanwhile that it is being rebuilt, and how far it had come (`rebuilding_to`), so that readers are told to wait rather than told too little. Everything is in that row and the log: whoever is killed in
 * the middle, this program or the one that projects, the next projection goes on from the last batch.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { LogReader } from '../event-log/event-log.ts';
import { newClient } from './database.ts';
import { rewindTo } from './projection/rewind.ts';
import { TRIMMING_LOCK } from './trimming.ts';
import { ProjectionWriter, readCursor } from './projection/writer.ts';
import { runProjection, type ProjectionOptions } from './projection.ts';

export interface RebuildOptions extends ProjectionOptions {
  readonly onProgress?: (progress: RebuildProgress) => void;
}

/** Sequences: what was the log's first and last when the rebuild began, and how far it has come. */
export interface RebuildProgress {
  readonly floor: number;
  readonly position: number;
  readonly target: number;
}

const STATEMENT_TIMEOUT_MS = 1_800_000;
const PROGRESS_POLL_MS = 250;
/** Below PostgreSQL's `deadlock_timeout` (1 s), so that it is never a reader who is turned away. */
const LOCK_TIMEOUT_MS = 500;
const LOCK_WAIT_MS = 60_000;

/** Somebody reads the tables in a query, or trims the log, for longer than one waits. Nothing has been changed. */
export class ProjectionInUseError extends Error {
  override readonly name = 'ProjectionInUseError';
}

/** Where a projection process runs, it notices and does the work; where none runs, this call does. Resolves once the projection has reached the log's end as it was at the start. */
export async function rebuildProjection(options: RebuildOptions): Promise<void> {
  const { databaseUrl, log } = options;
  const client = newClient({
    databaseUrl,
    applicationName: 'reckon projection rebuild',
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
  });
  const done = new AbortController();
  const signal = AbortSignal.any([options.signal, done.signal]);
  let running: Promise<void> | undefined;
  try {
    await client.connect();
    const { floor, target } = await begin(client, log, signal);
    running = runProjection({ ...options, signal });
    for (;;) {
      const { position, rebuildingTo } = await readCursor(client, '');
      options.onProgress?.({ floor, position, target });
      if (rebuildingTo === undefined) return;
      await sleep(PROGRESS_POLL_MS, undefined, { signal });
    }
  } finally {
    done.abort();
    await running;
    await client.end().catch(() => undefined);
  }
}

/** One transaction, tried again while somebody holds the tables. */
async function begin(
  client: pg.Client,
  log: LogReader,
  signal: AbortSignal,
): Promise<{ floor: number; target: number }> {
  const writer = new ProjectionWriter(client, () => undefined);
  const untilMs = performance.now() + LOCK_WAIT_MS;
  for (;;) {
    try {
      return await writer.transaction(async () => {
        await client.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
        // The floor may not rise between here and the commit: what the log lets go meanwhile would be nowhere.
        await client.query('select pg_advisory_xact_lock($1)', [TRIMMING_LOCK]);
        const floor = await log.floor();
        const target = await log.lastSequence();
        const { position } = await readCursor(client, 'for update');
        if (position >= floor) await rewindTo(client, floor - 1);
        await client.query('update projection set rebuilding_to = case when $1 > sequence then $1 end', [target]);
        return { floor, target };
      });
    } catch (error) {
      if (!isLockTimeout(error)) throw error;
      if (performance.now() > untilMs)
        throw new ProjectionInUseError(
          `the projection is in use by a long query, or the log is being trimmed; nothing was changed after ${LOCK_WAIT_MS / 1_000} s of waiting`,
          { cause: error },
        );
      await sleep(PROGRESS_POLL_MS, undefined, { signal });
    }
  }
}

const isLockTimeout = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === '55P03';
