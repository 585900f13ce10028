/**
 * What JetStream can answer, and what it means for the caller: an error it states, no answer at all, or nobody there to answer. Used wherever this room asks it something.
 */
import type { Msg } from 'nats';

/** JetStream answered, with an error: the request was understood and nothing came of it. */
export class JetStreamError extends Error {
  override readonly name = 'JetStreamError';
  readonly code: number;
  readonly errCode: number;
  constructor(code: number, errCode: number, description: string) {
    super(`${description} (${errCode})`);
    this.code = code;
    this.errCode = errCode;
  }
}

/** No answer came: a time-out, or the connection was cut. What was asked may or may not have been done. */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError';
}

/** Nobody listens on the subject (JetStream is not up yet, or has no such stream): surely nothing was done. */
export class NoResponderError extends Error {
  override readonly name = 'NoResponderError';
}

export function parseAnswer<Answer>(message: Msg): Answer {
  const answer = message.json<Answer & { error?: { code?: number; err_code?: number; description?: string } }>();
  if (answer.error)
    throw new JetStreamError(
      answer.error.code ?? 500,
      answer.error.err_code ?? 0,
      answer.error.description ?? 'JetStream error',
    );
  return answer;
}

/** Errors that go away by waiting: no leader yet, a stream that is being recovered, a server that is starting or has no room, a cluster of which not enough servers are there. */
export function isPassing(error: JetStreamError): boolean {
  return error.code === 503 || PASSING.has(error.errCode);
}

/** JetStream's own numbers (server/errors.json). */
export const ERROR = {
  wrongLastSequence: 10071,
  /** Another write to the subject is being stored at this moment: not a conflict. */
  inFlight: 10164,
  batchIncomplete: 10176,
  batchTooLarge: 10199,
  messageTooLarge: 10054,
  noMessage: 10037,
  messageDeleteFailed: 10057,
  streamNotFound: 10059,
  consumerNotFound: 10014,
  insufficientResources: 10023,
  streamOffline: 10118,
  noPeers: 10005,
} as const;

const PASSING: ReadonlySet<number> = new Set([ERROR.insufficientResources, ERROR.streamOffline, ERROR.noPeers]);

export function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
