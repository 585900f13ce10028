/** How calls to the engine end: every one has a time-out, and every error of dockerode becomes one of the port's two. Used by the files beside it. */
import { RuntimeCallError, RuntimeTimeoutError, RuntimeUnavailableError } from '../container-runtime.ts';

/** Long enough for an engine under load, short enough that a hung one is noticed. */
export const CALL_TIMEOUT_MS = 20_000;
/** So long a list waits for what is to be said of one container: one over which the engine hangs is not to hold up the others. */
export const PATIENCE_MS = 5_000;
/** Making and starting a container sets up disks and networks. Whoever is given up on is tried again, and found by its name where it was made after all. */
export const START_TIMEOUT_MS = 40_000;

const UNAVAILABLE_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ENOTFOUND',
  'EHOSTUNREACH',
  'ETIMEDOUT',
  'EACCES',
  'ABORT_ERR',
  'UND_ERR_SOCKET',
]);

/** Runs one call with a signal that aborts it after `timeoutMs`. */
export async function call<T>(
  what: string,
  run: (abortSignal: AbortSignal) => Promise<T>,
  timeoutMs = CALL_TIMEOUT_MS,
): Promise<T> {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const timedOut = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new RuntimeTimeoutError(`${what}: the engine did not answer within ${timeoutMs / 1000} s`));
      controller.abort();
    }, timeoutMs);
  });
  try {
    return await Promise.race([run(controller.signal), timedOut]);
  } catch (error) {
    throw translate(what, error);
  } finally {
    clearTimeout(timer);
  }
}

export function statusCodeOf(error: unknown): number | undefined {
  const code = (error as { statusCode?: unknown }).statusCode;
  return typeof code === 'number' ? code : undefined;
}

/** Resolves to undefined where the engine says that the thing is not there. */
export async function unlessMissing<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof RuntimeCallError && error.reason === 'not-found') return undefined;
    throw error;
  }
}

/** Any error of a call as one of the port's errors. */
export function translate(what: string, error: unknown): Error {
  if (error instanceof RuntimeUnavailableError || error instanceof RuntimeCallError) return error;
  const status = statusCodeOf(error);
  if (status === undefined) {
    const code = (error as { code?: string }).code ?? '';
    const message = error instanceof Error ? error.message : String(error);
    if (UNAVAILABLE_CODES.has(code) || message.includes('socket hang up') || message.includes('aborted')) {
      return new RuntimeUnavailableError(`${what}: no container engine answers (${code === '' ? message : code})`, {
        cause: error,
      });
    }
    return new RuntimeCallError('failed', `${what}: ${message}`, { cause: error });
  }
  return new RuntimeCallError(
    status === 404 ? 'not-found' : status === 409 ? 'conflict' : status === 400 ? 'invalid' : 'failed',
    engineMessage(error),
    { cause: error },
  );
}

/** What the engine itself said, without dockerode's frame around it. */
function engineMessage(error: unknown): string {
  const json = (error as { json?: { message?: unknown } | null }).json;
  if (json !== null && typeof json?.message === 'string') return json.message;
  return (error instanceof Error ? error.message : String(error)).replace(/^\(HTTP code \d+\) .*? - /, '').trim();
}
