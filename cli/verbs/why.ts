/** `reckon why`: how an object came to be, what became of it, and what happened to its containers; first the first cause. */
import { objectMeant, questionPath } from './kinds.ts';
import { reasonLines, type VersionSummary } from './history.ts';
import { changeLines, clock, who, type Screen } from './terminal.ts';
import type { Verb } from './verb.ts';

interface KnownStep extends VersionSummary {
  readonly object: { readonly kind: string; readonly namespace: string; readonly name: string };
  readonly also: readonly Step[];
}

type Step = KnownStep | { readonly revision: number; readonly withheld?: true; readonly unknown?: true };

interface Happened {
  readonly time: string;
  readonly kind: string;
  readonly node: string;
  readonly containerName?: string;
  readonly exitCode?: number;
  readonly message?: string;
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

interface Why {
  readonly object: { readonly kind: string; readonly name: string };
  readonly alive: boolean;
  readonly chain: readonly Step[];
  readonly end?: readonly Step[];
  readonly state: {
    readonly phase?: string;
    readonly conditions?: readonly Condition[];
    readonly waiting?: readonly { readonly container: string; readonly reason?: string; readonly message?: string }[];
  };
  readonly happened?: readonly Happened[];
}

export const why: Verb = {
  summary: 'the chain of causes from a user to an object, and what happened to its containers',
  usage: 'reckon why <kind>/<name> [-n <namespace>] [-o json]',
  examples: [
    'reckon why pod/web-5d9f-x    who asked for it, how, and why it died; days later too',
    'reckon why rs/web-5d9f       which change of the Deployment made it',
  ],
  flags: {},
  async run({ words, connection, screen }) {
    const meant = await objectMeant(connection, words.names);
    const { body } = await connection.get(questionPath('why', meant, connection.namespace));
    if (words.text('output') === 'json') return screen.write(JSON.stringify(body, undefined, 2));
    const { object, alive, chain, end, state, happened = [] } = body as Why;
    const phase = alive ? (state.phase ? `is ${state.phase}` : 'is there') : 'is gone';
    screen.write(screen.paint('bold', `${object.kind} ${object.name} ${phase}`));
    section('How it came to be', chain, screen);
    if (end) section(alive ? 'Why it is going' : 'Why it went', end, screen);
    if (happened.length > 0) screen.write(`\n${screen.paint('bold', 'What happened to its containers')}`);
    for (const event of happened) screen.write(`  ${eventLine(event, screen)}`);
    const complaints = alive && !ENDED.has(state.phase ?? '') ? complaintsOf(state) : [];
    if (complaints.length > 0) screen.write(`\n${screen.paint('bold', 'What it waits for')}`);
    for (const complaint of complaints) screen.write(`  ${complaint}`);
  },
};

/** Phases of a pod that waits for nothing any more. */
const ENDED = new Set(['Succeeded', 'Failed']);

function complaintsOf({ conditions = [], waiting = [] }: Why['state']): string[] {
  const told = (what: string, reason?: string, message?: string): string =>
    [what, reason, message].filter(Boolean).join(': ');
  return [
    ...conditions.map(({ type, status, reason, message }) =>
      told(status === 'True' ? type : `not ${type}`, reason, message),
    ),
    ...waiting.map(({ container, reason, message }) => told(container, reason, message)),
  ];
}

function section(title: string, steps: readonly Step[], screen: Screen): void {
  screen.write(`\n${screen.paint('bold', title)}`);
  for (const step of [...steps].reverse()) {
    for (const line of stepLines(step, screen)) screen.write(`  ${line}`);
  }
}

function stepLines(step: Step, screen: Screen): string[] {
  if (!('object' in step)) return [`(revision ${step.revision}: ${step.withheld ? 'not for you to see' : 'not kept'})`];
  const { revision, time, actor, verb, object, changes, also, because, source } = step;
  const what = `${screen.paint('bold', verb)} ${object.kind} ${object.name}`;
  const beside = also.map((other) =>
    'object' in other && other.plane === 'desired'
      ? screen.paint(
          'dim',
          `          when ${who(other.actor)} did ${other.verb} ${other.object.kind} ${other.object.name}`,
        )
      : '',
  );
  return [
    `${clock(time)}  ${who(actor)}: ${what}${screen.paint('dim', `  (revision ${revision})`)}`,
    ...reasonLines({ ...(because && { because }), ...(source && { source }) }, screen).map(
      (line) => `          ${line}`,
    ),
    ...beside.filter(Boolean),
    ...changeLines(screen, changes).map((line) => `          ${line}`),
  ];
}

const BAD = new Set(['oom', 'killing', 'exited', 'dead', 'unhealthy', 'evicted']);

const WORDS: Readonly<Record<string, string>> = {
  oom: 'killed: out of memory',
  stopping: 'is told to stop',
  killing: 'is killed',
};

function eventLine({ time, kind, node, containerName, exitCode, message }: Happened, screen: Screen): string {
  const word = WORDS[kind] ?? kind;
  const code = exitCode === undefined ? '' : `, exit code ${exitCode}`;
  const isBad = BAD.has(kind) && exitCode !== 0;
  const text = `${containerName ?? 'sandbox'} ${isBad ? screen.paint('red', word + code) : word + code}`;
  return `${clock(time)}  ${text} on ${node}${message ? `: ${message}` : ''}`;
}
