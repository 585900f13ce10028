/** The verbs of `reckon` that ask the API server. Called by `main.ts` with the words after the verb; resolves to the exit code: 0, 1 when the server refused or could not be reached, 2 for words not understood. */
import { ApiError, ApiUnreachableError } from '../../sdk/client.ts';
import { apply } from './apply.ts';
import { Connection } from './connection.ts';
import { consumer } from './consumer.ts';
import { diff } from './diff.ts';
import { get } from './get.ts';
import { history } from './history.ts';
import { restore } from './restore.ts';
import { status } from './status.ts';
import { terminal, whileWaiting } from './terminal.ts';
import { outputsOf, type Verb } from './verb.ts';
import { wait } from './wait.ts';
import { why } from './why.ts';
import { readWords, UsageError } from './words.ts';

const VERBS: Readonly<Record<string, Verb>> = { apply, get, history, diff, why, restore, status, wait, consumer };

export const isVerb = (name: string): boolean => Object.hasOwn(VERBS, name);

/** A line each, for `reckon help`. */
export const verbLines = (): string[] =>
  Object.entries(VERBS).map(([name, { summary }]) => `  ${`reckon ${name}`.padEnd(18)}${summary}`);

/** The first example of each. */
export const verbExamples = (): string[] => Object.values(VERBS).flatMap(({ examples }) => examples.slice(0, 1));

/** What may come next, one a line; nothing where it cannot be told. */
export async function complete(words: readonly string[], commands: readonly string[]): Promise<void> {
  const { candidates } = await import('./complete.ts');
  const found = await candidates({ verbs: VERBS, commands, words }).catch(() => []);
  if (found.length > 0) process.stdout.write(`${found.join('\n')}\n`);
}

export async function ask(name: string, given: readonly string[]): Promise<number> {
  const verb = VERBS[name];
  const screen = terminal();
  const complain = (message: string): void => void process.stderr.write(`reckon: ${message}\n`);
  if (!verb) throw new Error(`there is no verb ${name}`);
  let connection: Connection | undefined;
  try {
    const words = readWords(given, verb.flags);
    if (words.has('help')) {
      screen.write(helpOf(verb));
      return 0;
    }
    const output = words.text('output');
    if (output !== undefined && !outputsOf(verb).includes(output))
      throw new UsageError(`-o is ${outputsOf(verb).join(', ')}, not '${output}'.`);
    connection = new Connection({
      kubeconfig: words.text('kubeconfig'),
      context: words.text('context'),
      namespace: words.text('namespace'),
    });
    await whileWaiting(verb.run({ words, connection, screen }));
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      complain(`${error.message} \`reckon ${name} --help\` tells more.`);
      return 2;
    }
    if (error instanceof ApiError) complain(`Error from server (${error.reason}): ${error.message}`);
    else if (error instanceof ApiUnreachableError) complain(error.message);
    else complain(error instanceof Error ? error.message : String(error));
    return 1;
  } finally {
    connection?.close();
  }
}

const helpOf = ({ summary, usage, examples }: Verb): string =>
  `${usage}\n\n${summary.charAt(0).toUpperCase()}${summary.slice(1)}.\n\nA moment is a revision (1234), a time (2026-03-01T10:42:00Z), a time of day (10:42), how long ago (90s, 2h, 1d12h), or now.\n\nExamples\n${examples.map((line) => `  ${line}`).join('\n')}`;
