/**
 * Parses JSON bodies: valid UTF-8, bounded depth, an error that says where; and, when asked, finds the fields that are given twice. Called by `body.ts` and the patches.
 */
import { badRequest } from '../errors.ts';
import { MAX_DEPTH } from './depth.ts';
import { findFault } from './json-fault.ts';

export interface Parsed {
  readonly value: unknown;
  /** Paths of fields that are given twice, such as `spec.replicas`; empty unless they were asked for. */
  readonly duplicates: readonly string[];
}

const MAX_DUPLICATES = 100;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false });

/** Throws BadRequest for what is not JSON, with the offset of the fault. */
export function parseJson(body: Uint8Array, { duplicates }: { duplicates: boolean }): Parsed {
  refuseDepth(body);
  let text: string;
  try {
    text = utf8.decode(body);
  } catch (cause) {
    throw badRequest('the body of the request is not valid UTF-8', { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw badRequest(`couldn't get version/kind; json parse error: ${explain(text, cause)}`, { cause });
  }
  return { value, duplicates: duplicates && mayRepeat(text, value) ? findDuplicates(text) : [] };
}

/** What is the same when it is written again has no field twice: so it is with what most programs send, and that is soon seen. */
const mayRepeat = (text: string, value: unknown): boolean =>
  JSON.stringify(value) !== (text.endsWith('\n') ? text.slice(0, -1) : text);

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Brackets outside strings, counted on the bytes: a byte of a longer UTF-8 sequence is never one of them. */
function refuseDepth(body: Uint8Array): void {
  let depth = 0;
  let inString = false;
  for (let index = 0; index < body.length; index++) {
    const byte = body[index];
    if (inString) {
      if (byte === BACKSLASH) index++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > MAX_DEPTH) throw badRequest(`the body nests deeper than ${MAX_DEPTH} levels (at offset ${index})`);
    } else if (byte === 0x7d || byte === 0x5d) depth--;
  }
}

function explain(text: string, cause: unknown): string {
  if (text.trim() === '') return 'unexpected end of JSON input (the body is empty)';
  const fault = findFault(text);
  if (!fault) return cause instanceof Error ? cause.message : String(cause);
  const { offset, expected } = fault;
  const before = text.slice(0, offset);
  const place = `offset ${offset} (line ${before.split('\n').length}, column ${offset - before.lastIndexOf('\n')})`;
  if (offset >= text.length) return `unexpected end of JSON input at ${place}: expected ${expected}`;
  return `invalid character ${JSON.stringify(text[offset])} at ${place}: expected ${expected}`;
}

interface Level {
  /** Undefined in a list. */
  readonly seen: Set<string> | undefined;
  readonly path: string;
  /** Of the field or item that is being read. */
  at: string;
  index: number;
}

const STRING = /"(?:[^"\\]|\\.)*"/y;
const NEXT = /["{}[\],]/g;

/** Only for text that JSON.parse has accepted. One pass over the brackets, commas and strings. */
export function findDuplicates(text: string): string[] {
  const found: string[] = [];
  const stack: Level[] = [];
  let expectKey = false;
  let position = 0;
  for (;;) {
    NEXT.lastIndex = position;
    const match = NEXT.exec(text);
    if (!match || found.length >= MAX_DUPLICATES) return found;
    position = NEXT.lastIndex;
    const top = stack.at(-1);
    switch (match[0]) {
      case '"': {
        STRING.lastIndex = match.index;
        STRING.test(text);
        position = STRING.lastIndex;
        if (!expectKey || !top?.seen) break;
        const key = JSON.parse(text.slice(match.index, position)) as string;
        top.at = top.path === '' ? key : `${top.path}.${key}`;
        if (top.seen.has(key)) found.push(top.at);
        top.seen.add(key);
        expectKey = false;
        break;
      }
      case '{':
        stack.push({ seen: new Set(), path: top?.at ?? '', at: '', index: 0 });
        expectKey = true;
        break;
      case '[': {
        const path = top?.at ?? '';
        stack.push({ seen: undefined, path, at: `${path}[0]`, index: 0 });
        expectKey = false;
        break;
      }
      case ',':
        if (top && !top.seen) top.at = `${top.path}[${++top.index}]`;
        expectKey = top?.seen !== undefined;
        break;
      default:
        stack.pop();
        expectKey = false;
    }
  }
}
