/**
 * Keeps a rebuild of the projection from beginning while the log is trimmed: what a trimmer takes from the log is only in the projection, and a rebuild forgets what it believes the log still has. Held by whoever trims.
 */
import { newClient } from './database.ts';
import { isUnavailable, StateUnavailableError } from './errors.ts';

/** The projection's lock, and one. */
export const TRIMMING_LOCK = 732568;
const STATEMENT_TIMEOUT_MS = 2_500;

/**
 * Runs `work` with the sequence up to which everything is recorded; nobody takes any of that away before it ends. Its signal ends with the given one, and when the connection that holds the lock is lost. Any number may hold it at
 * once. Rejects with StateUnavailableError where PostgreSQL is away or a rebuild is just beginning.
 */
export async function whileRecorded<T>(
  options: { readonly databaseUrl: string; readonly signal: AbortSignal },
  work: (recordedUpTo: number, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { databaseUrl, signal } = options;
  const client = newClient({
    databaseUrl,
    applicationName: 'reckon retention',
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
  });
  const lost = new AbortController();
  client.on('error', (error) => lost.abort(error));
  client.on('end', () => lost.abort(new Error('the connection to PostgreSQL was closed')));
  try {
    let recordedUpTo: number;
    try {
      await client.connect();
      await client.query('select pg_advisory_lock_shared($1)', [TRIMMING_LOCK]);
      const { rows } = await client.query<{ sequence: number }>('select sequence from projection');
      recordedUpTo = rows[0]!.sequence;
    } catch (cause) {
      if (!isUnavailable(cause)) throw cause;
      throw new StateUnavailableError('the state database cannot be reached', { cause });
    }
    return await work(recordedUpTo, AbortSignal.any([signal, lost.signal]));
  } finally {
    await client.end().catch(() => undefined);
  }
}
