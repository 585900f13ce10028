/**
 * Regular expressions that users write: in the dialect of Go (RE2), and in time linear to the text, so that no pattern can hold the server up. Each is compiled once. Used by the validation of custom objects, by that of their
 * definitions, and by `matches`, `find` and `findAll` in CEL.
 */
import { RE2JS } from 're2js';

/** Compiling takes some milliseconds for so many characters. */
export const MAX_PATTERN_LENGTH = 16_384;
/** What a match may cost: characters of the text times instructions of the pattern. About a second where the pattern is at its worst. */
const MAX_WORK = 50_000_000;
const MAX_REMEMBERED = 2_000;

/** Compiled patterns, least lately used first; what is wrong with one that cannot be compiled. */
const compiled = new Map<string, RE2JS | string>();

function compile(pattern: string): RE2JS | string {
  const known = compiled.get(pattern);
  if (known !== undefined) {
    compiled.delete(pattern);
    compiled.set(pattern, known);
    return known;
  }
  const result = attempt(pattern);
  if (compiled.size >= MAX_REMEMBERED) compiled.delete(compiled.keys().next().value as string);
  compiled.set(pattern, result);
  return result;
}

function attempt(pattern: string): RE2JS | string {
  if (pattern.length > MAX_PATTERN_LENGTH) return `it is longer than ${MAX_PATTERN_LENGTH} characters`;
  try {
    return RE2JS.compile(pattern);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** What is wrong with a pattern, in Go's words; undefined for a good one. */
export function patternFault(pattern: string): string | undefined {
  const result = compile(pattern);
  return typeof result === 'string' ? result : undefined;
}

/** Throws where the pattern is no good, or the two together are too much work. */
export function usable(pattern: string, text: string): RE2JS {
  const result = compile(pattern);
  if (typeof result === 'string') throw new Error(`invalid regular expression: ${result}`);
  if (text.length * result.programSize() > MAX_WORK)
    throw new Error('the text is too long to be matched against so large a regular expression');
  return result;
}

/** Whether the pattern is found anywhere in the text. Throws as `usable`. */
export const isFound = (pattern: string, text: string): boolean => usable(pattern, text).test(text);
