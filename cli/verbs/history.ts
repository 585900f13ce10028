/** `reckon history`: every version of an object: when, who, what, and in answer to what. */
import { objectMeant, questionPath } from './kinds.ts';
import { changeLines, clock, who, type FieldChange, type Screen } from './terminal.ts';
import type { Verb } from './verb.ts';

export interface VersionSummary {
  readonly revision: number;
  readonly time: string;
  readonly actor: string;
  readonly verb: string;
  readonly plane: string;
  readonly first?: true;
  readonly causes: readonly number[];
  readonly because?: string;
  readonly source?: string;
  readonly changes: readonly FieldChange[];
  readonly hidden: number;
}

interface History {
  readonly metadata: { readonly continue?: string };
  readonly items: readonly VersionSummary[];
}

export const history: Verb = {
  summary: 'every version of an object, with what changed, by whom and in answer to what',
  usage: 'reckon history <kind>/<name> [-n <namespace>] [--status | --all] [--limit <versions>] [-o json]',
  examples: [
    'reckon history deploy/web             newest first; writes of status alone are only counted',
    'reckon history pod/web-x --status     with what became of its status',
    'reckon history cm/settings -o json    for programs',
  ],
  flags: { status: { type: 'boolean' }, all: { type: 'boolean' }, limit: { type: 'string' } },
  async run({ words, connection, screen }) {
    const meant = await objectMeant(connection, words.names);
    const fields = words.has('all') ? 'all' : words.has('status') ? 'status' : 'wanted';
    const query = { fields, limit: words.text('limit') };
    const { body } = await connection.get(questionPath('history', meant, connection.namespace), query);
    if (words.text('output') === 'json') return screen.write(JSON.stringify(body, undefined, 2));
    const { items, metadata } = body as History;
    show(items, screen);
    if (metadata.continue) screen.write(screen.paint('dim', '… older versions: --limit shows more'));
  },
};

function show(items: readonly VersionSummary[], screen: Screen): void {
  let quiet: VersionSummary[] = [];
  const tell = (): void => {
    if (quiet.length > 0) screen.write(screen.paint('dim', `          … ${quietly(quiet)}`));
    quiet = [];
  };
  for (const version of items) {
    const isQuiet = !version.first && version.verb !== 'delete' && version.changes.length === 0;
    if (isQuiet) {
      quiet.push(version);
      continue;
    }
    tell();
    screen.write(headline(version, screen));
    for (const line of reasonLines(version, screen)) screen.write(`            ${line}`);
    for (const line of changeLines(screen, version.changes)) screen.write(`            ${line}`);
  }
  tell();
}

const quietly = (versions: readonly VersionSummary[]): string => {
  const writers = [...new Set(versions.map(({ actor }) => who(actor)))].join(', ');
  return `${versions.length} ${versions.length === 1 ? 'write' : 'writes'} of status or bookkeeping by ${writers}`;
};

/** What its author said about it. */
export function reasonLines({ because, source }: Pick<VersionSummary, 'because' | 'source'>, screen: Screen): string[] {
  return [because && `because ${because}`, source && `from ${source}`].flatMap((line) =>
    line ? [screen.paint('dim', line)] : [],
  );
}

function headline({ revision, time, actor, verb, causes }: VersionSummary, screen: Screen): string {
  const because = causes.length === 0 ? '' : screen.paint('dim', `   answers ${causes.join(', ')}`);
  return `${screen.paint('cyan', String(revision).padEnd(8))}  ${clock(time)}  ${screen.paint('bold', verb)} by ${who(actor)}${because}`;
}
