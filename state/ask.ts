/** One question in SQL, as `reckon sql` puts it: read-only, within a time and with its answer as PostgreSQL writes it. */
import pg from 'pg';
import { newClient } from './database.ts';
import { translated } from './errors.ts';

export interface SqlAnswer {
  readonly columns: readonly string[];
  /** Null is null; everything else as text, or, in `values`, as JSON. */
  readonly rows: readonly (readonly (string | null)[])[];
  /** The same by column, with numbers, booleans, lists and documents as what they are. */
  readonly values: readonly Readonly<Record<string, unknown>>[];
  /** The projection is being rebuilt: it has come to one revision of another, and the answer is of what is there. */
  readonly rebuilding?: { readonly revision: number; readonly of: number };
}

/** What is wrong with a statement, and where (from 1). */
export class SqlError extends Error {
  override readonly name = 'SqlError';
  readonly position: number | undefined;
  constructor(message: string, position: number | undefined, options: ErrorOptions) {
    super(message, options);
    this.position = position;
  }
}

/** Several statements answer with the last. Rejects with SqlError and StateUnavailableError. */
export async function askSql(databaseUrl: string, text: string, options: { timeoutMs: number }): Promise<SqlAnswer> {
  const client = newClient({ databaseUrl, applicationName: 'reckon sql', statementTimeoutMs: options.timeoutMs });
  return translated(async () => {
    await client.connect();
    try {
      await client.query('set search_path = reckon');
      await client.query('begin read only');
      const before = await rebuildingOf(client);
      const answered = (await client.query({ text, rowMode: 'array', types: AS_TEXT })) as unknown as
        pg.QueryArrayResult<(string | null)[]> | pg.QueryArrayResult<(string | null)[]>[];
      // A rebuild may have begun since, or ended.
      const rebuilding = (await rebuildingOf(client)) ?? before;
      const last = Array.isArray(answered) ? answered.at(-1) : answered;
      const fields = last?.fields ?? [];
      const rows = last?.rows ?? [];
      const values = rows.map((row) =>
        Object.fromEntries(
          fields.map(({ name, dataTypeID }, index) => [name, valueOf(dataTypeID, row[index] ?? null)]),
        ),
      );
      return { columns: fields.map(({ name }) => name), rows, values, ...(rebuilding && { rebuilding }) };
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.code === undefined || /^(08|53|57P)/.test(error.code))
        throw error;
      const hint = error.hint === undefined ? '' : ` (${error.hint})`;
      throw new SqlError(`${error.message}${hint}`, error.position === undefined ? undefined : Number(error.position), {
        cause: error,
      });
    } finally {
      await client.end();
    }
  });
}

async function rebuildingOf(client: pg.Client): Promise<SqlAnswer['rebuilding']> {
  const { rows } = await client.query<{ revision: number; of: number }>(
    'select revision, rebuilding_to as of from projection where rebuilding_to is not null',
  );
  return rows[0];
}

const AS_TEXT: pg.CustomTypesConfig = { getTypeParser: () => (text: string) => text } as pg.CustomTypesConfig;

const NUMBERS = new Set([20, 21, 23, 26, 700, 701, 1700]);
const DOCUMENTS = new Set([114, 3802]);
const NUMBER_LISTS = new Set([1005, 1007, 1016]);
const TEXT_LIST = 1009;
const BOOLEAN = 16;
const TIMESTAMPTZ = 1184;

function valueOf(type: number, text: string | null): unknown {
  if (text === null) return null;
  if (NUMBERS.has(type)) return Number(text);
  if (DOCUMENTS.has(type)) return JSON.parse(text) as unknown;
  if (type === BOOLEAN) return text === 't';
  if (type === TIMESTAMPTZ) return new Date(text).toISOString();
  if (NUMBER_LISTS.has(type)) return text === '{}' ? [] : text.slice(1, -1).split(',').map(Number);
  if (type === TEXT_LIST) return (pg.types.getTypeParser(TEXT_LIST as never) as (list: string) => unknown)(text);
  return text;
}
