/** What an error means for a key: whether it is looked at again, when, what is logged of it, and what the next attempt is told. Called by `controller-loop.ts`. */
import type { ObjectKey } from '../event-log/event-log.ts';
import { NotLeadingError, SupersededError, type AnyAction } from './carry-out.ts';
import { ApiError, isAway } from './client.ts';
import { type ActionFailure, type ResourceRef, TerminalError } from './controller.ts';
import type { Logger } from './logger.ts';
import type { Outcome, Work } from './work-queue.ts';

const CONFLICT_BACK_OFF_MS = 500;
/** So many conflicts in a row are no longer the world moving on. */
const MAX_CONFLICTS = 10;
/** While the API server or the log is away, nobody waits long after it is back. */
export const AWAY_BACK_OFF_MS = 2_000;

export function judge(
  error: unknown,
  work: Work,
  options: { readonly logger: Logger; readonly memory: { lastFailure: ActionFailure | undefined } },
): Outcome {
  const { logger, memory } = options;
  const fields = { key: describeKey(work.key), failures: work.failures + 1, err: error };
  // The lease was not renewed in time, but may yet be: then nobody else looks at the key.
  if (error instanceof NotLeadingError) return { kind: 'failed', maxBackOffMs: CONFLICT_BACK_OFF_MS };
  if (error instanceof SupersededError) return { kind: 'again' };
  if (error instanceof ApiError && (error.is('Conflict') || error.is('NotFound')) && work.failures < MAX_CONFLICTS) {
    logger.debug(fields, 'the world moved on meanwhile; observing again');
    return { kind: 'failed', maxBackOffMs: CONFLICT_BACK_OFF_MS };
  }
  memory.lastFailure ??= failureOf(error);
  if (error instanceof TerminalError) {
    logger.error(fields, 'trying again cannot help; the key rests until it changes');
    return { kind: 'done' };
  }
  if (isAway(error)) {
    logger.warn(
      { ...fields, err: undefined, error: error.message },
      'the API server did not serve; observing again soon',
    );
    return { kind: 'failed', maxBackOffMs: AWAY_BACK_OFF_MS };
  }
  logger.error(fields, 'reconciling failed; observing again after a while');
  return { kind: 'failed' };
}

export const describeKey = (key: ObjectKey): string => (key.namespace ? `${key.namespace}/${key.name}` : key.name);

export function failureOf(error: unknown, action?: AnyAction): ActionFailure {
  const about = {
    verb: action?.verb ?? '',
    ...(action && 'resource' in action && { resource: action.resource as ResourceRef }),
  };
  if (error instanceof ApiError) return { ...about, reason: error.reason, message: error.message };
  return error instanceof Error
    ? { ...about, reason: error.name, message: error.message }
    : { ...about, reason: 'Error', message: String(error) };
}
