/** `reckon sql`: one question to the views of docs/sql.md, with the reader's login of this folder's instance, or with whatever --database names (a tenant's, say). Called by `main.ts`; resolves to the exit code. */
import { readFile } from 'node:fs/promises';
import { StateUnavailableError } from '../state/errors.ts';
import { askSql, SqlError, type SqlAnswer } from '../state/ask.ts';
import { databaseUrl, homeFolder, loadInstance } from './instance.ts';
import { columns, terminal } from './verbs/terminal.ts';
import { readWords, UsageError } from './verbs/words.ts';

const help = `reckon sql "<statement>" [-f <file>] [-o table|json|csv] [--database <url>] [--timeout <seconds>] [--psql]

Asks the views objects, history, causes, pods, containers, container_events, nodes and projection (docs/sql.md), read-only.

Examples
  reckon sql "select namespace, name, phase from pods where not ready"
  reckon sql "select actor, count(*) from history group by 1 order by 2 desc" -o csv
  reckon sql -f report.sql -o json
  psql "$(reckon sql --psql)"                   the same login for psql and dashboards`;

const flags = {
  file: { type: 'string', short: 'f' },
  database: { type: 'string' },
  timeout: { type: 'string' },
  psql: { type: 'boolean' },
} as const;

const DEFAULT_TIMEOUT_SECONDS = 30;
const FORMS: Readonly<Record<string, (answer: SqlAnswer) => string[]>> = {
  table: asTable,
  csv: ({ columns: head, rows }) => [head, ...rows].map((row) => row.map(csvCell).join(',')),
  json: ({ values }) => [JSON.stringify(values, undefined, 2)],
};

export async function sqlCommand(given: readonly string[]): Promise<number> {
  const screen = terminal();
  const complain = (message: string): void => void process.stderr.write(`reckon: ${message}\n`);
  try {
    const words = readWords(given, flags);
    if (words.has('help')) {
      screen.write(help);
      return 0;
    }
    const form = FORMS[words.text('output') ?? 'table'];
    if (!form) throw new UsageError(`-o is table, json or csv, not '${words.text('output')}'.`);
    const text = words.has('psql') ? '' : await statementOf(words.names, words.text('file'));
    const timeoutMs = 1000 * secondsOf(words.text('timeout'));
    const url = words.text('database') ?? databaseUrl(await loadInstance(homeFolder()), 'reader');
    if (words.has('psql')) {
      screen.write(`${url}${url.includes('?') ? '&' : '?'}options=-csearch_path%3Dreckon`);
      return 0;
    }
    const answer = await askSql(url, text, { timeoutMs });
    for (const line of form(answer)) screen.write(line);
    if (answer.rebuilding) {
      const { revision, of } = answer.rebuilding;
      complain(
        `the projection is being rebuilt (revision ${revision} of ${of}): of objects and history, rows are missing.`,
      );
    }
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      complain(`${error.message} \`reckon sql --help\` tells more.`);
      return 2;
    }
    if (error instanceof SqlError) {
      const { message, position } = error;
      complain(
        `${message}${position === undefined ? '' : `, at character ${position}`}\nThe views and their columns are in docs/sql.md.`,
      );
    } else if (error instanceof StateUnavailableError) {
      const why = error.cause instanceof Error ? `: ${error.cause.message}` : '';
      complain(`the database cannot be reached${why}. Is the instance running? --database names another.`);
    } else complain(error instanceof Error ? error.message : String(error));
    return 1;
  }
}

async function statementOf(names: readonly string[], file: string | undefined): Promise<string> {
  if (file !== undefined && names.length === 0) return readFile(file === '-' ? '/dev/stdin' : file, 'utf8');
  const [text, ...more] = names;
  if (text === undefined || file !== undefined || more.length > 0)
    throw new UsageError('One statement, in quotes, or -f with a file.');
  return text;
}

function secondsOf(given: string | undefined): number {
  const seconds = given === undefined ? DEFAULT_TIMEOUT_SECONDS : Number(given);
  if (!(seconds > 0 && seconds <= 3600)) throw new UsageError(`--timeout wants seconds up to 3600, not '${given}'.`);
  return seconds;
}

function asTable({ columns: head, rows }: SqlAnswer): string[] {
  const cells = rows.map((row) => row.map((cell) => (cell === null ? '-' : cell.replaceAll(/\s+/g, ' '))));
  return [
    ...columns([head.map((name) => name.toUpperCase()), ...cells]),
    `(${rows.length} ${rows.length === 1 ? 'row' : 'rows'})`,
  ];
}

const csvCell = (cell: string | null): string =>
  cell === null ? '' : /[",\r\n]/.test(cell) || cell === '' ? `"${cell.replaceAll('"', '""')}"` : cell;
