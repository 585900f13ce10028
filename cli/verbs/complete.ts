/**
 * What the next word after `reckon …` may be: verbs, flags and their values, and, asked of the API server while that answers quickly, kinds, names, namespaces. The scripts of `completion.ts` call it with the words so far, the
 * last of them begun or empty; it never fails and never says anything but candidates.
 */
import { readMergedKubeconfig, kubeconfigFiles } from './kubeconfig-files.ts';
import { Connection } from './connection.ts';
import { kindsOf, pathOf } from './kinds.ts';
import { SHARED } from './words.ts';
import { outputsOf, type Verb } from './verb.ts';

const PATIENCE_MS = 2_000;
/** These verbs ask about objects. */
const OF_OBJECTS = new Set(['get', 'history', 'diff', 'why', 'restore']);
const VALUES: Readonly<Record<string, readonly string[]>> = {
  plane: ['desired', 'observed'],
  at: ['now', '5m', '1h', '2h', '1d'],
  from: ['5m', '1h', '2h', '1d'],
  to: ['now', '5m', '1h', '2h', '1d'],
};
/** Of the one command with -o that is no verb. */
const SQL_OUTPUTS = ['table', 'json', 'csv'];
const ACTIONS: Readonly<Record<string, readonly string[]>> = {
  consumer: ['create', 'list', 'get', 'rotate', 'delete'],
  tenant: ['create', 'list', 'delete'],
  'token-key': ['list', 'rotate', 'retire'],
  completion: ['bash', 'zsh', 'fish'],
  projection: ['rebuild'],
};

type Flags = Readonly<Record<string, { readonly type: string; readonly short?: string }>>;

export interface Completing {
  readonly verbs: Readonly<Record<string, Verb>>;
  /** Those that are no verbs of the API server. */
  readonly commands: readonly string[];
  /** After `reckon`; the last is being typed. */
  readonly words: readonly string[];
}

export async function candidates(completing: Completing): Promise<string[]> {
  const words = joined(completing.words);
  const found = await candidatesOf({ ...completing, words });
  const last = completing.words.at(-1) ?? '';
  const given = SEPARATOR.test(last) ? '' : last;
  // Bash completes what stands after the sign alone.
  return found.map((word) => word.slice((words.at(-1) ?? '').length - given.length));
}

/** At these, bash cuts words: `--namespace`, `=`, `shop`; `system`, `:`, `node`. Other shells never hand over one by itself. */
const SEPARATOR = /^[=:]+$/;

function joined(words: readonly string[]): string[] {
  const whole: string[] = [];
  for (const [index, word] of words.entries()) {
    const isPart = index > 0 && (SEPARATOR.test(word) || SEPARATOR.test(words[index - 1] ?? ''));
    if (isPart) whole.push(`${whole.pop() ?? ''}${word}`);
    else whole.push(word);
  }
  return whole;
}

async function candidatesOf({ verbs, commands, words }: Completing): Promise<string[]> {
  const [name = '', ...rest] = words;
  const typed = words.at(-1) ?? '';
  const fitting = (all: readonly string[]): string[] =>
    [...new Set(all)].filter((each) => each.startsWith(typed)).sort();
  if (rest.length === 0) return fitting([...Object.keys(verbs), ...commands]);
  const verb = verbs[name];
  const flags: Flags = { ...SHARED, ...verb?.flags };
  const values = async (long: string): Promise<readonly string[]> =>
    long === 'output' ? (verb ? outputsOf(verb) : SQL_OUTPUTS) : (VALUES[long] ?? (await valuesOf(long, rest)));
  const before = rest.at(-2) ?? '';
  const flag = Object.entries(flags).find(
    ([long, { short }]) => before === `--${long}` || before === `-${short ?? ''}`,
  );
  if (flag && flag[1].type === 'string') return fitting(await values(flag[0]));
  const [, assigned] = /^--([a-z-]+)=/.exec(typed) ?? [];
  if (assigned !== undefined) {
    if (flags[assigned]?.type !== 'string') return [];
    return fitting((await values(assigned)).map((value) => `--${assigned}=${value}`));
  }
  if (typed.startsWith('-')) return fitting(Object.keys(flags).map((long) => `--${long}`));
  const places = rest.filter((word, index) => !word.startsWith('-') && !takesValue(rest[index - 1], flags));
  if (ACTIONS[name] && places.length === 1) return fitting(ACTIONS[name]);
  if (name === 'consumer' && places.length === 2) return fitting(await namesOf(rest, 'eventconsumers', ''));
  if (!OF_OBJECTS.has(name)) return [];
  const [kind, begun] = places.length > 1 ? [places[0] ?? '', undefined] : (typed.split('/') as [string, string?]);
  if (places.length > 1) return fitting(await namesOf(rest, kind, ''));
  return fitting(begun === undefined ? await kinds(rest) : await namesOf(rest, kind, `${kind}/`));
}

const takesValue = (word: string | undefined, flags: Flags): boolean =>
  word !== undefined &&
  Object.entries(flags).some(
    ([long, { type, short }]) => type === 'string' && (word === `--${long}` || word === `-${short ?? ''}`),
  );

async function valuesOf(flag: string, words: readonly string[]): Promise<string[]> {
  if (flag === 'context')
    return Object.keys(readMergedKubeconfig(kubeconfigFiles(valueOf(words, 'kubeconfig'))).contexts);
  if (flag === 'namespace') return namesOf(words, 'namespaces', '');
  return [];
}

const kinds = (words: readonly string[]): Promise<string[]> =>
  asking(words, async (connection) => (await kindsOf(connection)).map(({ resource }) => resource));

function namesOf(words: readonly string[], kindWord: string, prefix: string): Promise<string[]> {
  return asking(words, async (connection) => {
    const kind = (await kindsOf(connection)).find(({ names }) => names.includes(kindWord.toLowerCase()));
    if (!kind) return [];
    const { body } = await connection.get(pathOf(kind, connection.namespace), { limit: '500' }, NAMES);
    return (body as { items: { metadata: { name: string } }[] }).items.map(
      ({ metadata }) => `${prefix}${metadata.name}`,
    );
  });
}

const NAMES = 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json';

/** `--long value`, `--long=value`, `-s value` or `-svalue`. */
const valueOf = (words: readonly string[], long: string, short?: string): string | undefined => {
  for (const [index, word] of words.entries()) {
    if (word === `--${long}` || (short !== undefined && word === `-${short}`)) return words[index + 1];
    if (word.startsWith(`--${long}=`)) return word.slice(long.length + 3);
    if (short !== undefined && !word.startsWith('--') && word.startsWith(`-${short}`)) return word.slice(2);
  }
  return undefined;
};

async function asking(words: readonly string[], ask: (connection: Connection) => Promise<string[]>): Promise<string[]> {
  const connection = new Connection({
    kubeconfig: valueOf(words, 'kubeconfig'),
    context: valueOf(words, 'context'),
    namespace: valueOf(words, 'namespace', 'n'),
    timeoutMs: PATIENCE_MS,
  });
  try {
    return await ask(connection);
  } finally {
    connection.close();
  }
}
