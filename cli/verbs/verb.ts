/** What a verb of `reckon` that asks the API server is: one file beside this one, listed in `index.ts`. */
import type { ParseArgsConfig } from 'node:util';
import type { Connection } from './connection.ts';
import type { Screen } from './terminal.ts';
import type { Words } from './words.ts';

export interface Verb {
  readonly summary: string;
  readonly usage: string;
  readonly examples: readonly string[];
  readonly flags: NonNullable<ParseArgsConfig['options']>;
  /** What -o may be; json alone unless said. */
  readonly outputs?: readonly string[];
  /** Throws UsageError, ApiError and ApiUnreachableError. */
  run(question: { words: Words; connection: Connection; screen: Screen }): Promise<void>;
}

export const outputsOf = ({ outputs = ['json'] }: Pick<Verb, 'outputs'>): readonly string[] => outputs;
