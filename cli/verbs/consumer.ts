/** `reckon consumer`: who outside the cluster may read the events of a namespace from NATS, and how far each has come. */
import { writeFile } from 'node:fs/promises';
import type { Connection } from './connection.ts';
import { kindsOf } from './kinds.ts';
import { columns, type Screen } from './terminal.ts';
import type { Verb } from './verb.ts';
import { UsageError, type Words } from './words.ts';

interface Consumer {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly creationTimestamp: string };
  readonly spec: { readonly resources?: readonly string[]; readonly plane?: string };
  readonly status?: { readonly issuedAt?: string; readonly expiresAt?: string };
}

interface Position {
  readonly status: {
    readonly state: string;
    readonly acknowledged?: number;
    readonly unacknowledged?: number;
    readonly pending?: number;
  };
}

interface Credentials {
  readonly status: {
    readonly credentials: string;
    readonly stream: string;
    readonly durable: string;
    readonly inboxPrefix: string;
    readonly apiPrefix: string;
    readonly expirationTimestamp?: string;
  };
}

interface Asked {
  readonly words: Words;
  readonly connection: Connection;
  readonly screen: Screen;
  readonly path: string;
}

const ACTIONS: Readonly<Record<string, (asked: Asked, name: string) => Promise<void>>> = {
  async create(asked, name) {
    const { connection, words, path } = asked;
    const resources = await wantedKinds(asked);
    const plane = words.text('plane');
    const object = {
      apiVersion: 'log.reckon.dev/v1',
      kind: 'EventConsumer',
      metadata: { name },
      spec: { ...(resources && { resources }), ...(plane !== undefined && { plane }) },
    };
    await connection.post(path, {}, object);
    await issue(asked, name);
  },
  rotate: (asked, name) => issue(asked, name),
  async get({ connection, words, screen, path }, name) {
    const target = `${path}/${encodeURIComponent(name)}`;
    const { body: object } = await connection.get(target);
    const { body: position } = await connection.get(`${target}/position`);
    if (words.text('output') === 'json')
      return screen.write(
        JSON.stringify({ ...(object as Consumer), position: (position as Position).status }, undefined, 2),
      );
    show(screen, object as Consumer, position as Position);
  },
  async delete({ connection, screen, path }, name) {
    await connection.delete(`${path}/${encodeURIComponent(name)}`);
    screen.write(`Consumer ${name} is deleted: its credentials are worth nothing now.`);
  },
};

export const consumer: Verb = {
  summary: 'who may read the events of a namespace from NATS, with credentials for nothing else',
  usage:
    'reckon consumer create <name> [--kinds <kinds>] [--plane desired|observed] [--expires <seconds>] [--creds <file>]\n' +
    'reckon consumer list [-A] | get <name> | rotate <name> [--creds <file>] | delete <name>      [-n <namespace>] [-o json]',
  examples: [
    'reckon consumer create billing -n shop                   every event of the namespace; credentials in billing.creds',
    'reckon consumer create audit -n shop --kinds deploy,cm   of these kinds alone',
    'reckon consumer get billing -n shop                      how far it has come',
    'reckon consumer rotate billing -n shop                   new credentials; the old ones end at once',
    'reckon consumer delete billing -n shop                   and its connections end',
  ],
  flags: {
    kinds: { type: 'string' },
    plane: { type: 'string' },
    expires: { type: 'string' },
    creds: { type: 'string' },
    'all-namespaces': { type: 'boolean', short: 'A' },
  },
  async run({ words, connection, screen }) {
    const [action = '', name, ...more] = words.names;
    const place = words.has('all-namespaces') ? '' : `/namespaces/${encodeURIComponent(connection.namespace)}`;
    const asked: Asked = { words, connection, screen, path: `/apis/log.reckon.dev/v1${place}/eventconsumers` };
    if (action === 'list' && name === undefined) return list(asked);
    const act = Object.hasOwn(ACTIONS, action) ? ACTIONS[action] : undefined;
    if (!act) throw new UsageError(`What of consumers? create, list, get, rotate or delete, not '${action}'.`);
    if (name === undefined || more.length > 0) throw new UsageError(`\`reckon consumer ${action}\` wants one name.`);
    await act(asked, name);
  },
};

async function list({ connection, words, screen, path }: Asked): Promise<void> {
  const { body } = await connection.get(path);
  if (words.text('output') === 'json') return screen.write(JSON.stringify(body, undefined, 2));
  const { items } = body as { items: readonly Consumer[] };
  if (items.length === 0)
    return screen.write('There are no consumers here. `reckon consumer create <name>` makes one.');
  const rows = items.map(({ metadata, spec, status }) => [
    metadata.namespace,
    metadata.name,
    spec.resources?.join(',') ?? 'everything',
    status?.issuedAt ?? 'no credentials',
    status?.expiresAt ?? 'never',
  ]);
  for (const line of columns([['NAMESPACE', 'NAME', 'SEES', 'ISSUED', 'EXPIRES'], ...rows])) screen.write(line);
}

async function issue({ connection, words, screen, path }: Asked, name: string): Promise<void> {
  const query = { expirationSeconds: words.text('expires') };
  const { body } = await connection.post(`${path}/${encodeURIComponent(name)}/credentials`, query, {});
  if (words.text('output') === 'json') return screen.write(JSON.stringify(body, undefined, 2));
  const { credentials, stream, durable, inboxPrefix, apiPrefix } = (body as Credentials).status;
  const file = words.text('creds') ?? `${name}.creds`;
  await writeFile(file, credentials, { mode: 0o600 });
  for (const line of columns([
    ['credentials', `${file}   (shown to nobody again)`],
    ['stream', stream],
    ['consumer', durable],
    ['inbox prefix', inboxPrefix],
    ['API prefix', apiPrefix],
  ]))
    screen.write(line);
  screen.write('docs/consumers.md shows programs that read with them.');
}

async function wantedKinds({ words, connection }: Asked): Promise<string[] | undefined> {
  const given = words.text('kinds');
  if (given === undefined) return undefined;
  const known = await kindsOf(connection);
  const resources = given.split(',').map((word) => {
    const asked = word.trim().toLowerCase();
    const kind = known.find(({ names }) => names.includes(asked));
    if (!kind) throw new UsageError(`--kinds: the server has no kind of objects called '${word.trim()}'.`);
    if (!kind.namespaced) throw new UsageError(`--kinds: ${kind.resource} belong to no namespace.`);
    return `${kind.group === '' ? 'core' : kind.group}/${kind.resource}`;
  });
  return [...new Set(resources)];
}

const STATES: Readonly<Record<string, string>> = {
  NoCredentials: 'has no credentials yet (`reckon consumer rotate` issues them)',
  UpToDate: 'up to date',
  Behind: 'behind',
  MustBeginAfresh: 'was away for longer than the log is kept: it must begin afresh (docs/consumers.md)',
};

function show(screen: Screen, { metadata, spec, status }: Consumer, { status: position }: Position): void {
  const { state, acknowledged, unacknowledged, pending } = position;
  const counts =
    pending === undefined
      ? ''
      : `, everything up to revision ${acknowledged} is acknowledged, ${unacknowledged} delivered and not acknowledged, ${pending} to come`;
  for (const line of columns([
    ['name', metadata.name],
    ['namespace', metadata.namespace],
    ['sees', `${spec.resources?.join(', ') ?? 'everything'}${spec.plane ? `, ${spec.plane} alone` : ''}`],
    ['issued', status?.issuedAt ?? '-'],
    ['expires', status?.expiresAt ?? 'never'],
    ['state', `${STATES[state] ?? state}${counts}`],
  ]))
    screen.write(line);
}
