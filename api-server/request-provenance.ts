/** What a request says about why it is made: the records that it answers to, a reason in words, and what it was made from. Kept with every record that it writes. Called by `server.ts`. */
import type { IncomingMessage } from 'node:http';
import { MAX_CAUSES, MAX_REASON_LENGTH, type Reason } from '../event-log/event-log.ts';
import { badRequest } from './errors.ts';

/** `Reckon-Cause`: revisions, separated by commas. Throws BadRequest. */
export function causesOf({ headers }: Pick<IncomingMessage, 'headers'>): number[] {
  const header = headers['reckon-cause'];
  if (typeof header !== 'string' || header === '') return [];
  const causes = header.split(',').map(Number);
  if (causes.length > MAX_CAUSES || !causes.every((cause) => Number.isSafeInteger(cause) && cause > 0)) {
    throw badRequest(
      `Reckon-Cause: expected up to ${MAX_CAUSES} revisions separated by commas, got ${JSON.stringify(header.slice(0, 100))}`,
    );
  }
  return causes;
}

/** `Reckon-Because` and `Reckon-Source`, each one line of text, percent-encoded. Throws BadRequest. */
export function reasonOf({ headers }: Pick<IncomingMessage, 'headers'>): Reason | undefined {
  const because = textOf('Reckon-Because', headers['reckon-because']);
  const source = textOf('Reckon-Source', headers['reckon-source']);
  if (because === undefined && source === undefined) return undefined;
  return { ...(because !== undefined && { because }), ...(source !== undefined && { source }) };
}

function textOf(name: string, header: string | string[] | undefined): string | undefined {
  if (typeof header !== 'string' || header === '') return undefined;
  const refused = (why: string) =>
    badRequest(`${name}: Invalid value: ${JSON.stringify(header.slice(0, 100))}: ${why}`);
  let text: string;
  try {
    text = decodeURIComponent(header);
  } catch {
    throw refused('expected text in UTF-8, percent-encoded');
  }
  const fault = faultOfReason(text);
  if (fault) throw refused(fault);
  return text;
}

/** Why a text cannot be kept as a reason. */
export function faultOfReason(text: string): string | undefined {
  if (text.length > MAX_REASON_LENGTH) return `expected at most ${MAX_REASON_LENGTH} characters, got ${text.length}`;
  return /\p{Cc}|\p{Cs}/u.test(text) ? 'expected one line without control characters' : undefined;
}
