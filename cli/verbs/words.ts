/** The words after a verb: flags that all verbs share, and those of one. */
import { parseArgs, type ParseArgsConfig } from 'node:util';

/** The words were not understood; the message says which. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

type Flags = NonNullable<ParseArgsConfig['options']>;

export const SHARED = {
  namespace: { type: 'string', short: 'n' },
  output: { type: 'string', short: 'o' },
  kubeconfig: { type: 'string' },
  context: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies Flags;

export interface Words {
  readonly names: readonly string[];
  text(flag: string): string | undefined;
  has(flag: string): boolean;
  /** Of a flag that may be given several times. */
  list(flag: string): readonly string[];
}

export function readWords(words: readonly string[], own: Flags): Words {
  const options = { ...SHARED, ...own };
  try {
    const { values, positionals } = parseArgs({ args: [...words], options, allowPositionals: true, strict: true });
    const given = values as Readonly<Record<string, string | boolean | readonly string[] | undefined>>;
    return {
      names: positionals,
      text: (flag) => (typeof given[flag] === 'string' ? given[flag] : undefined),
      has: (flag) => given[flag] === true,
      list: (flag) => (Array.isArray(given[flag]) ? (given[flag] as readonly string[]) : []),
    };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

const TIME_OF_DAY = /^([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?$/;

/** A time of day is the user's own; everything else goes to the server as it is. */
export function momentWord(text: string, now = new Date()): string {
  const match = TIME_OF_DAY.exec(text.trim());
  if (!match) return text;
  const [, hours, minutes, seconds = '0'] = match;
  const meant = new Date(now);
  meant.setHours(Number(hours), Number(minutes), Number(seconds), 0);
  if (meant > now) meant.setDate(meant.getDate() - 1);
  return meant.toISOString();
}
