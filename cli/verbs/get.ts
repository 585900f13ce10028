/** `reckon get`: what kubectl get shows, as of any moment. */
import { stringify } from 'yaml';
import { meant, pathOf } from './kinds.ts';
import type { Verb } from './verb.ts';
import { momentWord } from './words.ts';
import { columns } from './terminal.ts';

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';

interface Table {
  readonly columnDefinitions: readonly { readonly name: string; readonly priority: number }[];
  readonly rows: readonly {
    readonly cells: readonly unknown[];
    readonly object: { readonly metadata: { readonly namespace?: string; readonly name: string } };
  }[];
}

export const get: Verb = {
  summary: 'objects as they are, or as they stood at a moment',
  usage: 'reckon get <kind>[/<name>] [--at <moment>] [-n <namespace> | -A] [-l <selector>] [-o json|yaml|wide|name]',
  examples: [
    'reckon get pods --at 2h                     two hours ago',
    'reckon get deploy/web --at 10:42 -o yaml    at 10:42 by your clock',
    'reckon get pvc -A --at 1234                 at revision 1234, in every namespace',
  ],
  flags: {
    at: { type: 'string' },
    selector: { type: 'string', short: 'l' },
    'all-namespaces': { type: 'boolean', short: 'A' },
  },
  outputs: ['json', 'yaml', 'wide', 'name'],
  async run({ words, connection, screen }) {
    const output = words.text('output') ?? '';
    const { kind, name } = await meant(connection, words.names);
    const everywhere = words.has('all-namespaces') && name === undefined;
    const at = words.text('at');
    const query = {
      ...(at !== undefined && { at: momentWord(at) }),
      labelSelector: words.text('selector'),
    };
    const target = pathOf(kind, everywhere ? undefined : connection.namespace, name);
    const whole = output === 'json' || output === 'yaml';
    const { body, revision } = await connection.get(target, query, whole ? undefined : TABLE);
    if (output === 'json') return screen.write(JSON.stringify(body, undefined, 2));
    if (output === 'yaml') return screen.write(stringify(body).trimEnd());
    const table = body as Table;
    if (output === 'name') {
      for (const { object } of table.rows) screen.write(`${kind.resource}/${object.metadata.name}`);
      return;
    }
    for (const line of columns(rowsOf(table, { wide: output === 'wide', everywhere }))) screen.write(line);
    if (table.rows.length === 0) screen.write(`There are no ${kind.resource}${at === undefined ? '' : ' then'}.`);
    if (at !== undefined && revision !== undefined) screen.write(screen.paint('dim', `(as of revision ${revision})`));
  },
};

function rowsOf(table: Table, options: { wide: boolean; everywhere: boolean }): string[][] {
  if (table.rows.length === 0) return [];
  const shown = table.columnDefinitions.map(({ priority }) => priority === 0 || options.wide);
  const visible = (cells: readonly unknown[]): string[] =>
    cells.filter((_, index) => shown[index]).map((cell) => (cell === null || cell === '' ? '<none>' : String(cell)));
  const head = visible(table.columnDefinitions.map(({ name }) => name.toUpperCase()));
  const rows = table.rows.map(({ cells, object }) => [
    ...(options.everywhere ? [object.metadata.namespace ?? ''] : []),
    ...visible(cells),
  ]);
  return [[...(options.everywhere ? ['NAMESPACE'] : []), ...head], ...rows];
}
