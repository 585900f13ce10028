/** `reckon apply --atomic`: server-side apply of several objects as one transaction. */
import { ApiError } from '../../sdk/client.ts';
import type { Connection } from './connection.ts';
import { kindsOf } from './kinds.ts';
import { readManifests, type Manifest } from './manifests.ts';
import type { Screen } from './terminal.ts';
import type { Verb } from './verb.ts';
import { UsageError } from './words.ts';

export const TRANSACTIONS = '/apis/log.reckon.dev/v1/transactions';

interface Member {
  readonly index: number;
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly outcome: string;
}

export interface Refusal extends Omit<Member, 'outcome'> {
  readonly status: {
    readonly message: string;
    readonly details?: { readonly causes?: readonly { readonly field?: string; readonly message: string }[] };
  };
}

/** The whole was refused; the message tells what stands against each object. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}

export const apply: Verb = {
  summary: 'several objects at once, all or none: if one is refused, nothing is written',
  usage:
    'reckon apply --atomic -f <file|folder|-> [-f …] [-R] [-n <namespace>] [--dry-run] [--force-conflicts] [--field-manager <name>] [-o json]',
  examples: [
    'reckon apply --atomic -f shop/                       every .json, .yaml and .yml file of a folder',
    'reckon apply --atomic -R -f shop/ --dry-run          of its folders too; judge all of it, write nothing',
    'kustomize build prod | reckon apply --atomic -f -    what another program makes',
  ],
  flags: {
    atomic: { type: 'boolean' },
    filename: { type: 'string', short: 'f', multiple: true },
    recursive: { type: 'boolean', short: 'R' },
    'dry-run': { type: 'boolean' },
    'force-conflicts': { type: 'boolean' },
    'field-manager': { type: 'string' },
  },
  async run({ words, connection, screen }) {
    if (!words.has('atomic'))
      throw new UsageError(
        'reckon applies all or nothing: say --atomic. `kubectl apply` writes one object after the other.',
      );
    const files = words.list('filename');
    if (files.length === 0 || words.names.length > 0) throw new UsageError('Say which files, such as -f shop/.');
    const manifests = await readManifests(files, { recursive: words.has('recursive') });
    if (manifests.length === 0) throw new UsageError(`There is no object in ${files.join(', ')}.`);
    const operations = await operationsOf(manifests, connection, words.text('namespace'));
    const query = {
      fieldManager: words.text('field-manager') ?? 'reckon',
      fieldValidation: 'Strict',
      force: words.has('force-conflicts') ? 'true' : undefined,
      dryRun: words.has('dry-run') ? 'All' : undefined,
    };
    const body = { kind: 'Transaction', apiVersion: 'log.reckon.dev/v1', operations };
    const answer = await connection.post(TRANSACTIONS, query, body).catch((error: unknown) => {
      throw asRefusal(error, manifests, screen) ?? error;
    });
    if (words.text('output') === 'json') return screen.write(JSON.stringify(answer.body, undefined, 2));
    const { members, revision } = answer.body as { members: readonly Member[]; revision: number };
    for (const member of members) screen.write(`${nameOf(member)} ${outcomeOf(member, screen)}`);
    screen.write(screen.paint('dim', closing(members, revision, words.has('dry-run'))));
  },
};

/** Objects without a namespace get the one that is meant, as kubectl gives it to them. Throws UsageError. */
async function operationsOf(manifests: readonly Manifest[], connection: Connection, asked: string | undefined) {
  const kinds = await kindsOf(connection);
  return manifests.map(({ object, source, file }) => {
    const { apiVersion, kind } = object;
    const known = kinds.find((each) => each.kind === kind && apiVersionOf(each) === apiVersion);
    const metadata = { ...(object['metadata'] as Record<string, unknown> | undefined) };
    if (known?.namespaced) {
      metadata['namespace'] ??= connection.namespace;
      if (asked !== undefined && metadata['namespace'] !== asked)
        throw new UsageError(
          `${file}: ${String(kind)} ${String(metadata['name'])} is of the namespace ${String(metadata['namespace'])}, and -n says ${asked}.`,
        );
    }
    return { verb: 'apply', object: { ...object, metadata }, source };
  });
}

const apiVersionOf = ({ group, version }: { group: string; version: string }): string =>
  group === '' ? version : `${group}/${version}`;

/** `deployment.apps/web`, as kubectl says it. */
function nameOf({ apiVersion, kind, name }: Pick<Member, 'apiVersion' | 'kind' | 'name'>): string {
  const group = apiVersion.includes('/') ? `.${apiVersion.split('/')[0]}` : '';
  return `${kind.toLowerCase()}${group}/${name}`;
}

function outcomeOf({ outcome }: Member, screen: Screen): string {
  if (outcome === 'unchanged') return screen.paint('dim', outcome);
  return screen.paint(outcome === 'created' ? 'green' : 'yellow', outcome);
}

function closing(members: readonly Member[], revision: number, isDryRun: boolean): string {
  const changed = members.filter(({ outcome }) => outcome !== 'unchanged').length;
  if (isDryRun) return `Nothing was written: this was a dry run. ${changed} of ${members.length} would change.`;
  return changed === 0 ? 'Nothing had to change.' : `All of it stands since revision ${revision}.`;
}

/** Of an answer that says what stands against each member; undefined for any other error. */
function asRefusal(error: unknown, manifests: readonly Manifest[], screen: Screen): RefusedError | undefined {
  if (!(error instanceof ApiError)) return undefined;
  const refusals = error.details?.['refusals'] as readonly Refusal[] | undefined;
  if (!refusals) return undefined;
  const lines = refusalLines(refusals, screen, (index) => manifests[index]?.file ?? '');
  const count = `${refusals.length} of ${manifests.length} objects ${refusals.length === 1 ? 'was' : 'were'} refused`;
  return new RefusedError([`Nothing was written: ${count}.`, ...lines].join('\n'));
}

export function refusalLines(
  refusals: readonly Refusal[],
  screen: Screen,
  whence: (index: number) => string = () => '',
): string[] {
  return refusals.flatMap((refusal) => {
    const { status, index, namespace } = refusal;
    const place = namespace === '' ? '' : ` in ${namespace}`;
    const causes = status.details?.causes ?? [];
    const faults =
      causes.length > 0
        ? causes.map(({ field, message }) => (field ? `${field}: ${message}` : message))
        : [status.message];
    const file = whence(index);
    return [
      `  ${screen.paint('bold', `${nameOf(refusal)}${place}`)}${file === '' ? '' : `  (${file})`}`,
      ...faults.map((fault) => `    ${fault}`),
    ];
  });
}
