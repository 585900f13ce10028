/** `reckon diff`: what is different about an object between two moments. */
import { objectMeant, questionPath } from './kinds.ts';
import { changeLines, type FieldChange } from './terminal.ts';
import type { Verb } from './verb.ts';
import { momentWord, UsageError } from './words.ts';

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

export const diff: Verb = {
  summary: 'what changed about an object between two moments',
  usage: 'reckon diff <kind>/<name> --from <moment> [--to <moment>] [-n <namespace>] [--status | --all] [-o json]',
  examples: [
    'reckon diff deploy/web --from 2h                 since two hours ago',
    'reckon diff cm/settings --from 1200 --to 1300    between two revisions',
  ],
  flags: {
    from: { type: 'string' },
    to: { type: 'string' },
    status: { type: 'boolean' },
    all: { type: 'boolean' },
  },
  async run({ words, connection, screen }) {
    const from = words.text('from');
    if (from === undefined) throw new UsageError('--from says which moment to compare with, such as --from 2h.');
    const meant = await objectMeant(connection, words.names);
    const fields = words.has('all') ? 'all' : words.has('status') ? 'status' : 'wanted';
    const query = { from: momentWord(from), to: momentWord(words.text('to') ?? 'now'), fields };
    const { body } = await connection.get(questionPath('diff', meant, connection.namespace), query);
    if (words.text('output') === 'json') return screen.write(JSON.stringify(body, undefined, 2));
    const found = body as Diff;
    const side = ({ revision, exists }: Side): string => `revision ${revision}${exists ? '' : ' (not there)'}`;
    screen.write(
      screen.paint('bold', `${meant.kind.kind} ${meant.name ?? ''}, from ${side(found.from)} to ${side(found.to)}`),
    );
    for (const line of changeLines(screen, found.changes)) screen.write(`  ${line}`);
    if (found.changes.length > 0) return;
    screen.write(found.hidden > 0 ? '  nothing but status or bookkeeping (--all shows it)' : '  nothing');
  },
};
