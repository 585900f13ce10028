/**
 * The errors of this room, and the one place that tells "PostgreSQL cannot serve us now" from "the query is wrong". Callers translate them: StateUnavailableError is the API server's 503,
 * HistoryGoneError its 410 Gone.
 */

/** PostgreSQL cannot be reached, is starting or stopping, or did not answer in time. Nothing is wrong with the request: try again later. */
export class StateUnavailableError extends Error {
  override readonly name = 'StateUnavailableError';
}

/** The projection has not yet reached the sequence that was asked for, or not again. */
export class HistoryBehindError extends Error {
  override readonly name = 'HistoryBehindError';
  readonly sequence: number;
  readonly cursor: number;
  constructor(sequence: number, cursor: number, rebuildingTo?: number) {
    super(
      rebuildingTo === undefined
        ? `history has been recorded up to sequence ${cursor}, and ${sequence} was asked for`
        : `the projection is being rebuilt from the log, and has come to sequence ${cursor} of ${rebuildingTo}`,
    );
    this.sequence = sequence;
    this.cursor = cursor;
  }
}

/** What was asked for lies where the log had been trimmed before the projection could record it. `until`: from here on history is exact again. */
export class HistoryGoneError extends Error {
  override readonly name = 'HistoryGoneError';
  readonly until: number;
  constructor(after: number, until: number) {
    super(`history between sequences ${after} and ${until} was trimmed from the log before it was recorded`);
    this.until = until;
  }
}

/** The database has migrations that this program does not know. */
export class DatabaseNewerError extends Error {
  override readonly name = 'DatabaseNewerError';
}

const UNAVAILABLE_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ETIMEDOUT',
  'EPIPE',
  'ENOENT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  '57P01',
  '57P02',
  '57P03',
  '57P04',
  '57014',
  '25006',
  '55P03',
  '40P01',
]);
const UNAVAILABLE_MESSAGE =
  /connection terminated|connection error|timeout exceeded|query read timeout|client has encountered|cannot use a pool after|client was closed/i;

export function isUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof AggregateError && error.errors.some(isUnavailable)) return true;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  // Classes 08 (connection exception) and 53 (insufficient resources).
  return UNAVAILABLE_CODES.has(code) || /^(08|53)/.test(code) || UNAVAILABLE_MESSAGE.test(error.message);
}

/** Within this a caller is told that the database does not answer, however many statements were still to come. */
const ANSWER_DEADLINE_MS = 2_900;

/** Runs `work`; what PostgreSQL's absence throws becomes a StateUnavailableError, everything else passes. */
export async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    throw new StateUnavailableError('the state database cannot be reached', { cause: error });
  }
}

/** As `translated`, and rejects with StateUnavailableError when the answer takes too long; what is under way then ends by its own time-outs. */
export async function answered<T>(work: () => Promise<T>): Promise<T> {
  const deadline = new AbortController();
  const late = new Promise<never>((_, reject) => {
    const timer = setTimeout(
      () => reject(new StateUnavailableError('the state database did not answer in time')),
      ANSWER_DEADLINE_MS,
    );
    deadline.signal.addEventListener('abort', () => clearTimeout(timer));
  });
  try {
    return await Promise.race([translated(work), late]);
  } finally {
    deadline.abort();
  }
}
