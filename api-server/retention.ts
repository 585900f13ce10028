/**
 * Keeps the log within its retention window, and makes deleted Secrets unreadable once they can no longer be brought back. Runs in every API server, since only they may change the log;
 * runs are idempotent, so several servers do no harm.
 */
import type { Logger } from 'pino';
import type { SecretKeys } from '../event-log/keys.ts';
import { DEFAULT_RETENTION_MS, trim } from '../event-log/trim.ts';
import { whileRecorded } from '../state/trimming.ts';
import type { Past } from './store/past.ts';

export interface RetentionOptions {
  readonly natsUrl: string;
  readonly databaseUrl: string;
  readonly prefix?: string;
  readonly keys: SecretKeys;
  readonly past: Past;
  /** Whether an object with this uid stands. */
  readonly isLive: (uid: string) => boolean;
  /** Default 7 days. */
  readonly retentionMs?: number;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

const INTERVAL_MS = 60 * 60 * 1000;
const FIRST_AFTER_MS = 60 * 1000;

/** Returns at once; ends with the signal. */
export function startRetention(options: RetentionOptions): void {
  const { logger, signal } = options;
  const unexplained = new Set<string>();
  let timer: NodeJS.Timeout;
  const run = async (): Promise<void> => {
    try {
      await retainOnce(options, unexplained);
    } catch (error) {
      if (!signal.aborted) logger.warn({ err: error }, 'retention could not run; it will be tried again');
    }
    if (!signal.aborted) timer = setTimeout(() => void run(), INTERVAL_MS * (0.75 + Math.random() / 2));
  };
  timer = setTimeout(() => void run(), FIRST_AFTER_MS * (1 + Math.random()));
  signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
}

/** `unexplained`: keys that the history knew nothing of at the last run, which may belong to a write in flight then. */
export async function retainOnce(options: RetentionOptions, unexplained: Set<string>): Promise<void> {
  const { natsUrl, prefix, keys, past, isLive, logger } = options;
  const retentionMs = options.retentionMs ?? DEFAULT_RETENTION_MS;
  const report = await whileRecorded(options, (keepAfter, held) =>
    trim({ url: natsUrl, logger, signal: held, retentionMs, keepAfter, ...(prefix !== undefined && { prefix }) }),
  );
  if (report.superseded + report.tombstones > 0) logger.info({ ...report }, 'trimmed the log');
  for (const uid of (await keys.all()).keys()) {
    if (isLive(uid)) continue;
    const endedAt = await past.endOf(uid);
    const due =
      endedAt === undefined
        ? unexplained.has(uid)
        : endedAt !== 'never' && Date.parse(endedAt) < Date.now() - retentionMs;
    if (endedAt === undefined) unexplained.add(uid);
    if (!due) continue;
    await keys.destroy(uid);
    unexplained.delete(uid);
    logger.info({ uid }, 'destroyed the key of a deleted Secret');
  }
}
