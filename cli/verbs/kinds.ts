/** Finds the resource that a user means by `deploy/web`, `po web-x` or `certificates.example.com`, as kubectl does: through discovery. */
import type { Connection } from './connection.ts';
import { UsageError } from './words.ts';

export interface Kind {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

export interface Meant {
  readonly kind: Kind;
  /** Absent: all of them. */
  readonly name: string | undefined;
}

interface DiscoveredResource {
  readonly resource: string;
  readonly responseKind: { readonly kind: string };
  readonly scope: string;
  readonly singularResource?: string;
  readonly shortNames?: readonly string[];
}

interface Discovery {
  readonly items: readonly {
    readonly metadata: { readonly name?: string };
    readonly versions: readonly { readonly version: string; readonly resources?: readonly DiscoveredResource[] }[];
  }[];
}

const ACCEPT = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

/** `kind/name`, `kind name` or `kind`. */
export async function meant(connection: Connection, words: readonly string[]): Promise<Meant> {
  const [first = '', ...rest] = words;
  const [kindWord = '', ...parts] = first.split('/');
  const names = [...parts, ...rest].filter(Boolean);
  if (kindWord === '') throw new UsageError('Say what, such as deploy/web.');
  if (names.length > 1) throw new UsageError(`One object at a time: ${words.join(' ')} names several.`);
  return { kind: await kindOf(connection, kindWord), name: names[0] };
}

/** The same, of one object. */
export async function objectMeant(connection: Connection, words: readonly string[]): Promise<Required<Meant>> {
  const { kind, name } = await meant(connection, words);
  if (name === undefined) throw new UsageError(`Say which of the ${kind.resource}, such as ${kind.resource}/web.`);
  return { kind, name };
}

async function kindOf(connection: Connection, word: string): Promise<Kind> {
  const asked = word.toLowerCase();
  const found = (await kindsOf(connection)).find(({ names }) => names.includes(asked));
  if (!found) throw new UsageError(`The server has no kind of objects called '${word}'.`);
  return found;
}

/** Every kind that the server has, in the order of its discovery, with the words by which one may mean it. */
export async function kindsOf(connection: Connection): Promise<readonly (Kind & { names: readonly string[] })[]> {
  const answers = await Promise.all(['/api', '/apis'].map((root) => connection.get(root, {}, ACCEPT)));
  return answers
    .flatMap(({ body }) => (body as Discovery).items)
    .flatMap(({ metadata, versions }) => {
      const group = metadata.name ?? '';
      return versions.flatMap(({ version, resources = [] }) =>
        resources.map((each) => ({
          group,
          version,
          resource: each.resource,
          kind: each.responseKind.kind,
          namespaced: each.scope === 'Namespaced',
          names: namesOf(each, group),
        })),
      );
    });
}

function namesOf(
  { resource, responseKind, singularResource, shortNames }: DiscoveredResource,
  group: string,
): string[] {
  const plain = [resource, singularResource ?? '', responseKind.kind.toLowerCase(), ...(shortNames ?? [])];
  return [...plain, `${resource}.${group}`, `${singularResource ?? ''}.${group}`].filter(Boolean);
}

/** The path of a collection or an object. */
export function pathOf(kind: Kind, namespace: string | undefined, name?: string): string {
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
  const place = kind.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${root}${place}/${kind.resource}${name === undefined ? '' : `/${encodeURIComponent(name)}`}`;
}

/** The path of a question about an object. */
export function questionPath(question: string, { kind, name }: Required<Meant>, namespace: string): string {
  const place = kind.namespaced ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  const group = kind.group === '' ? 'core' : kind.group;
  return `/apis/log.reckon.dev/v1${place}/${question}/${group}/${kind.resource}/${encodeURIComponent(name ?? '')}`;
}
