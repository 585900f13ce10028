/** `reckon diff`: what is different about an object, a namespace or the cluster between two moments. */
import type { Connection } from './connection.ts';
import { meant, questionPath, type Kind } from './kinds.ts';
import { changeLines, type FieldChange, type Screen } from './terminal.ts';
import type { Verb } from './verb.ts';
import { momentWord, UsageError, type Words } from './words.ts';

interface Side {
  readonly revision: number;
  readonly exists: boolean;
}

interface Diff {
  readonly from: Side;
  readonly to: Side;
  readonly changes: readonly FieldChange[];
  readonly hidden: number;
}

interface DiffList {
  readonly from: Pick<Side, 'revision'>;
  readonly to: Pick<Side, 'revision'>;
  readonly items: readonly {
    readonly object: ObjectReference;
    readonly state: string;
    readonly changes: readonly FieldChange[];
  }[];
  readonly hidden: number;
}

export interface ObjectReference {
  readonly group: string;
  readonly resource: string;
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
}

export const diff: Verb = {
  summary: 'what changed about an object, a namespace or the cluster between two moments',
  usage:
    'reckon diff [<kind>[/<name>]] --from <moment> [--to <moment>] [-n <namespace> | -A] [--status | --all] [-o json]',
  examples: [
    'reckon diff deploy/web --from 2h                 since two hours ago',
    'reckon diff cm/settings --from 1200 --to 1300    between two revisions',
    'reckon diff --from 10:42 -n shop                 everything in a namespace; -A: in the cluster',
  ],
  flags: {
    from: { type: 'string' },
    to: { type: 'string' },
    status: { type: 'boolean' },
    all: { type: 'boolean' },
    'all-namespaces': { type: 'boolean', short: 'A' },
  },
  async run({ words, connection, screen }) {
    const from = words.text('from');
    if (from === undefined) throw new UsageError('--from says which moment to compare with, such as --from 2h.');
    const about = words.names.length > 0 ? await meant(connection, words.names) : undefined;
    const fields = words.has('all') ? 'all' : words.has('status') ? 'status' : 'wanted';
    const query = { from: momentWord(from), to: momentWord(words.text('to') ?? 'now'), fields };
    if (about?.name === undefined) return area({ words, connection, screen, query, kind: about?.kind });
    const named = { kind: about.kind, name: about.name };
    const { body } = await connection.get(questionPath('diff', named, connection.namespace), query);
    if (words.text('output') === 'json') return screen.write(JSON.stringify(body, undefined, 2));
    const found = body as Diff;
    const side = ({ revision, exists }: Side): string => `revision ${revision}${exists ? '' : ' (not there)'}`;
    screen.write(
      screen.paint('bold', `${named.kind.kind} ${named.name}, from ${side(found.from)} to ${side(found.to)}`),
    );
    for (const line of changeLines(screen, found.changes)) screen.write(`  ${line}`);
    if (found.changes.length > 0) return;
    screen.write(found.hidden > 0 ? '  nothing but status or bookkeeping (--all shows it)' : '  nothing');
  },
};

async function area(question: {
  words: Words;
  connection: Connection;
  screen: Screen;
  query: Readonly<Record<string, string>>;
  kind: Kind | undefined;
}): Promise<void> {
  const { words, connection, screen, query, kind } = question;
  const everywhere = words.has('all-namespaces') || kind?.namespaced === false;
  const place = everywhere ? '' : `/namespaces/${encodeURIComponent(connection.namespace)}`;
  const { body } = await connection.get(`/apis/log.reckon.dev/v1${place}/diff`, query);
  const found = body as DiffList;
  const items = found.items.filter(
    ({ object }) => !kind || (object.group === kind.group && object.resource === kind.resource),
  );
  if (words.text('output') === 'json') return screen.write(JSON.stringify({ ...found, items }, undefined, 2));
  const where = everywhere ? 'The cluster' : `Namespace ${connection.namespace}`;
  screen.write(screen.paint('bold', `${where}, from revision ${found.from.revision} to revision ${found.to.revision}`));
  for (const { object, state, changes } of items) {
    screen.write(`  ${stateMark(state, screen)} ${referenceName(object, everywhere)}`);
    for (const line of changeLines(screen, changes)) screen.write(`      ${line}`);
  }
  if (items.length === 0) screen.write('  nothing');
  if (found.hidden > 0)
    screen.write(
      screen.paint(
        'dim',
        `  … and status or bookkeeping of ${found.hidden} ${found.hidden === 1 ? 'other' : 'others'}`,
      ),
    );
}

const MARKS: Readonly<Record<string, readonly ['green' | 'red' | 'yellow', string]>> = {
  created: ['green', '+ created '],
  deleted: ['red', '- deleted '],
  changed: ['yellow', '~ changed '],
  replaced: ['yellow', '± replaced'],
};

function stateMark(state: string, screen: Screen): string {
  const [style, text] = MARKS[state] ?? ['yellow', state];
  return screen.paint(style, text);
}

/** `deployment.apps/web`, with its namespace where several are told of. */
export function referenceName({ group, kind, name, namespace }: ObjectReference, withNamespace: boolean): string {
  const place = withNamespace && namespace !== undefined ? ` in ${namespace}` : '';
  return `${kind.toLowerCase()}${group === '' ? '' : `.${group}`}/${name}${place}`;
}
