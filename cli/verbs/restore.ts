/** `reckon restore`: shows what would have to be written so that things are asked for as they were, asks, and has it written as one transaction. */
import { createInterface } from 'node:readline/promises';
import { ApiError } from '../../sdk/client.ts';
import { refusalLines, RefusedError, type Refusal } from './apply.ts';
import type { Connection } from './connection.ts';
import { referenceName, type ObjectReference } from './diff.ts';
import { meant } from './kinds.ts';
import { changeLines, type FieldChange, type Screen } from './terminal.ts';
import type { Verb } from './verb.ts';
import { momentWord, UsageError } from './words.ts';

interface RestoreResult {
  readonly to: { readonly revision: number };
  readonly from: { readonly revision: number };
  readonly revision?: number;
  readonly items: readonly {
    readonly action: string;
    readonly object: ObjectReference;
    readonly changes: readonly FieldChange[];
    readonly losses: readonly string[];
  }[];
  readonly cannot: readonly { readonly object: ObjectReference; readonly why: string }[];
  readonly leftToControllers: number;
  readonly refusals?: readonly Refusal[];
}

const RESTORES = '/apis/log.reckon.dev/v1/restores';

export const restore: Verb = {
  summary:
    'asks again for what was asked for at a moment: undeletes, undoes, takes away what came since; all or nothing',
  usage:
    'reckon restore namespace <name> | <kind>[/<name>] | cluster --to <moment> [-n <namespace>] [--dry-run | --yes] [-o json]',
  examples: [
    'reckon restore namespace shop --to 10:42             shows the plan, and asks',
    'reckon restore deploy/web -n shop --to 2h --yes      one object, without asking',
    'reckon restore configmaps -n shop --to 1234 --dry-run   only the plan',
  ],
  flags: {
    to: { type: 'string' },
    yes: { type: 'boolean', short: 'y' },
    'dry-run': { type: 'boolean' },
  },
  async run({ words, connection, screen }) {
    const to = words.text('to');
    if (to === undefined) throw new UsageError('--to says to which moment, such as --to 10:42.');
    const scope = await scopeOf(words.names, connection);
    const ask = async (moment: string, query: Record<string, string>): Promise<RestoreResult> => {
      const body = { kind: 'Restore', apiVersion: 'log.reckon.dev/v1', to: moment, ...scope };
      return (await connection.post(RESTORES, query, body)).body as RestoreResult;
    };
    const plan = await ask(momentWord(to), { dryRun: 'All' });
    const asJson = words.text('output') === 'json';
    const isDone = plan.items.length === 0 || words.has('dry-run');
    if (asJson && isDone) return screen.write(JSON.stringify(plan, undefined, 2));
    if (!asJson) show(plan, words.names[0] === 'cluster', screen);
    if (plan.refusals)
      throw new RefusedError(['This cannot be written:', ...refusalLines(plan.refusals, screen)].join('\n'));
    if (isDone) return;
    if (!words.has('yes') && !(await isConfirmed(asJson)))
      throw new Error('Nothing was written. --yes says so without being asked.');
    const done = await ask(String(plan.to.revision), {}).catch((error: unknown) => {
      const refusals = error instanceof ApiError ? (error.details?.['refusals'] as Refusal[] | undefined) : undefined;
      throw refusals ? new RefusedError(['Nothing was written:', ...refusalLines(refusals, screen)].join('\n')) : error;
    });
    if (asJson) return screen.write(JSON.stringify(done, undefined, 2));
    screen.write(`\nRestored: it stands since revision ${done.revision ?? done.from.revision}.`);
    const place = 'object' in scope && 'namespace' in scope ? ` -n ${connection.namespace}` : '';
    const undo = `reckon restore ${words.names.join(' ')}${place} --to ${done.from.revision}`;
    screen.write(screen.paint('dim', `To undo it: ${undo}`));
  },
};

async function scopeOf(names: readonly string[], connection: Connection): Promise<Record<string, unknown>> {
  if (names.length === 1 && names[0] === 'cluster') return { cluster: true };
  const { kind, name } = await meant(connection, names);
  if (kind.group === '' && kind.resource === 'namespaces' && name !== undefined) return { namespace: name };
  const apiVersion = kind.group === '' ? kind.version : `${kind.group}/${kind.version}`;
  return {
    ...(kind.namespaced && { namespace: connection.namespace }),
    object: { apiVersion, kind: kind.kind, ...(name !== undefined && { name }) },
  };
}

const MARKS: Readonly<Record<string, readonly ['green' | 'red' | 'yellow', string]>> = {
  create: ['green', '+ create'],
  change: ['yellow', '~ change'],
  delete: ['red', '- delete'],
};

function show(plan: RestoreResult, isCluster: boolean, screen: Screen): void {
  const { items, cannot, leftToControllers, to, from } = plan;
  screen.write(screen.paint('bold', `To revision ${to.revision}, from revision ${from.revision}`));
  if (items.length === 0) screen.write('  nothing has to be written');
  for (const { action, object, changes } of items) {
    const [style, text] = MARKS[action] ?? ['yellow', action];
    screen.write(`  ${screen.paint(style, text)}  ${referenceName(object, isCluster)}`);
    for (const line of changeLines(screen, changes)) screen.write(`        ${line}`);
  }
  if (leftToControllers > 0)
    screen.write(screen.paint('dim', `  … ${leftToControllers} that controllers keep are left to them`));
  const lost = [
    ...cannot.map(({ object, why }) => ({ object, why })),
    ...items.flatMap(({ object, losses }) => losses.map((why) => ({ object, why }))),
  ];
  if (lost.length > 0) screen.write(`\n${screen.paint('bold', 'What does not come back')}`);
  for (const { object, why } of lost) screen.write(`  ${referenceName(object, isCluster)}: ${why}`);
}

async function isConfirmed(isQuiet: boolean): Promise<boolean> {
  if (isQuiet || !process.stdin.isTTY) return false;
  const dialogue = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await dialogue.question('\nRestore this? [y/N] ')).trim());
  } finally {
    dialogue.close();
  }
}
