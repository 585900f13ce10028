/**
 * Reads a context of a kubeconfig: where the API server is and with which certificate to speak to it. Several files are merged as kubectl merges them. Client certificates and tokens, embedded or in files beside the kubeconfig
 * (https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/). Used by `run.ts` and by anything else that speaks to the API.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { EXEC_API_VERSIONS, type ExecPlugin, type InteractiveMode } from './exec-credentials.ts';

export interface ApiAccess {
  /** Such as `https://127.0.0.1:6443`. */
  readonly server: string;
  readonly ca: Buffer | undefined;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
  readonly token: string | undefined;
  /** A program that gives the token or the certificate. */
  readonly exec?: ExecPlugin;
  /** The name that the server's certificate must have, where it is not the address's. */
  readonly serverName?: string;
  /** Whoever answers is believed. */
  readonly insecure?: boolean;
  /** As whom the user acts, where the kubeconfig says so. */
  readonly headers?: Readonly<Record<string, string | string[]>>;
  /** The context's. */
  readonly namespace?: string;
}

type Entry = Readonly<Record<string, unknown>>;

interface Placed {
  readonly entry: Entry;
  /** Where it stands: what it names is relative to that. */
  readonly file: string;
}

/** What one file says, or several together. */
export interface Kubeconfig {
  readonly files: readonly string[];
  readonly currentContext: string | undefined;
  readonly clusters: Readonly<Record<string, Placed>>;
  readonly users: Readonly<Record<string, Placed>>;
  readonly contexts: Readonly<Record<string, Placed>>;
}

/** The first file that says something decides. Throws with a sentence that names the file and what is wrong in it. */
export function mergeKubeconfigs(files: readonly string[]): Kubeconfig {
  let currentContext: string | undefined;
  const merged: Record<'clusters' | 'users' | 'contexts', Record<string, Placed>> = {
    clusters: {},
    users: {},
    contexts: {},
  };
  for (const file of files) {
    const config = contentOf(file);
    const current = config['current-context'];
    if (typeof current === 'string' && current !== '') currentContext ??= current;
    for (const [list, field] of [
      ['clusters', 'cluster'],
      ['users', 'user'],
      ['contexts', 'context'],
    ] as const) {
      for (const each of listOf(config, list, file)) {
        const entry = each[field];
        if (typeof each['name'] === 'string' && typeof entry === 'object' && entry !== null)
          merged[list][each['name']] ??= { entry: entry as Entry, file };
      }
    }
  }
  return { files, currentContext, ...merged };
}

const isEntry = (value: unknown): value is Entry =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function contentOf(file: string): Entry {
  const text = readFileSync(file, 'utf8');
  let content: unknown;
  try {
    content = parse(text, { logLevel: 'error' }) ?? {};
  } catch (cause) {
    throw new Error(`${file} is no YAML: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (!isEntry(content))
    throw new Error(`${file} is no kubeconfig: expected an object with clusters, users and contexts`);
  return content;
}

function listOf(config: Entry, list: string, file: string): readonly Entry[] {
  const entries = config[list] ?? [];
  if (!Array.isArray(entries) || !entries.every(isEntry))
    throw new Error(`${file}: ${list} must be a list of named objects`);
  return entries;
}

/** `named` instead of the current context. Throws with a sentence that names the file and what is wrong in it. */
export function readKubeconfig(files: string | readonly string[], named?: string): ApiAccess {
  const config = mergeKubeconfigs(typeof files === 'string' ? [files] : files);
  const current = named ?? config.currentContext;
  if (current === undefined) throw new Error(`${config.files.join(', ')} names no current-context`);
  const context = find(config, 'contexts', current).entry;
  const cluster = find(config, 'clusters', String(context['cluster']));
  const user = find(config, 'users', String(context['user']));
  const server = cluster.entry['server'];
  if (typeof server !== 'string')
    throw new Error(`${cluster.file}: cluster ${String(context['cluster'])} names no server`);
  const exec = execOf(user, cluster);
  const headers = impersonation(user);
  const serverName = cluster.entry['tls-server-name'];
  return {
    server: server.replace(/\/+$/, ''),
    ca: bytes(cluster, 'certificate-authority'),
    cert: bytes(user, 'client-certificate'),
    key: bytes(user, 'client-key'),
    token: tokenOf(user),
    ...(exec && { exec }),
    ...(Object.keys(headers).length > 0 && { headers }),
    ...(typeof serverName === 'string' && { serverName }),
    ...(cluster.entry['insecure-skip-tls-verify'] === true && { insecure: true }),
    ...(typeof context['namespace'] === 'string' && { namespace: context['namespace'] }),
  };
}

function find(config: Kubeconfig, list: 'clusters' | 'users' | 'contexts', name: string): Placed {
  const found = Object.hasOwn(config[list], name) ? config[list][name] : undefined;
  if (!found) throw new Error(`${config.files.join(', ')}: there is no '${name}' among its ${list}`);
  return found;
}

const placed = (file: string, named: string): string => path.resolve(path.dirname(file), named);

/** What stands in the file that a field names. */
function named({ entry, file }: Placed, field: string): Buffer | undefined {
  const name = entry[field];
  if (typeof name !== 'string') return undefined;
  try {
    return readFileSync(placed(file, name));
  } catch (cause) {
    throw new Error(`${file}: ${field} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  }
}

function bytes(place: Placed, field: string): Buffer | undefined {
  const embedded = place.entry[`${field}-data`];
  return typeof embedded === 'string' ? Buffer.from(embedded, 'base64') : named(place, field);
}

function tokenOf(place: Placed): string | undefined {
  const { token } = place.entry;
  return typeof token === 'string' ? token : named(place, 'tokenFile')?.toString('utf8').trim();
}

const textsOf = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string') : [];

/** https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation */
function impersonation({ entry }: Placed): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  if (typeof entry['as'] === 'string') headers['impersonate-user'] = entry['as'];
  if (typeof entry['as-uid'] === 'string') headers['impersonate-uid'] = entry['as-uid'];
  const groups = textsOf(entry['as-groups']);
  if (groups.length > 0) headers['impersonate-group'] = [...groups];
  const extra = isEntry(entry['as-user-extra']) ? entry['as-user-extra'] : {};
  for (const [name, values] of Object.entries(extra))
    headers[`impersonate-extra-${encodeURIComponent(name.toLowerCase())}`] = [...textsOf(values)];
  return headers;
}

const MODES: readonly unknown[] = ['Never', 'IfAvailable', 'Always'] satisfies InteractiveMode[];

/** Throws with a sentence for what kubectl would refuse, too. */
function execOf({ entry, file }: Placed, cluster: Placed): ExecPlugin | undefined {
  if (entry['auth-provider'] !== undefined)
    throw new Error(
      `${file}: a user with an auth-provider: Kubernetes knows those no longer; name a program (exec) instead`,
    );
  const given = entry['exec'];
  if (given === undefined || given === null) return undefined;
  if (!isEntry(given)) throw new Error(`${file}: exec must be an object that names a command`);
  const { apiVersion, command, args, env, installHint, provideClusterInfo } = given;
  if (typeof command !== 'string' || command === '') throw new Error(`${file}: exec names no command`);
  if (typeof apiVersion !== 'string' || !EXEC_API_VERSIONS.includes(apiVersion))
    throw new Error(
      `${file}: exec has the apiVersion ${JSON.stringify(apiVersion)}, expected ${EXEC_API_VERSIONS.join(' or ')}`,
    );
  const isOld = apiVersion.endsWith('beta1');
  const interactiveMode = given['interactiveMode'] ?? (isOld ? 'IfAvailable' : undefined);
  if (!MODES.includes(interactiveMode))
    throw new Error(`${file}: exec must say an interactiveMode: Never, IfAvailable or Always`);
  const variables = Array.isArray(env) ? env.filter(isEntry) : [];
  return {
    apiVersion,
    // One with a folder in it is meant from where the kubeconfig lies; a bare one is looked for on the PATH.
    command: command.includes('/') ? placed(file, command) : command,
    args: textsOf(args),
    environment: Object.fromEntries(
      variables.flatMap(({ name, value }) => (typeof name === 'string' ? [[name, String(value ?? '')]] : [])),
    ),
    interactiveMode: interactiveMode as InteractiveMode,
    installHint: typeof installHint === 'string' ? installHint : undefined,
    cluster: provideClusterInfo === true ? clusterInfo(cluster) : undefined,
  };
}

const EXEC_EXTENSION = 'client.authentication.k8s.io/exec';
const CLUSTER_FIELDS = ['server', 'tls-server-name', 'insecure-skip-tls-verify', 'proxy-url', 'disable-compression'];

/** What a program is told of the cluster, under the names that a kubeconfig has, with what the cluster keeps for it. */
function clusterInfo(cluster: Placed): Record<string, unknown> {
  const { entry } = cluster;
  const authority = bytes(cluster, 'certificate-authority')?.toString('base64');
  const extensions = Array.isArray(entry['extensions']) ? entry['extensions'].filter(isEntry) : [];
  const config = extensions.find(({ name }) => name === EXEC_EXTENSION)?.['extension'];
  return {
    ...Object.fromEntries(
      CLUSTER_FIELDS.flatMap((field) => (entry[field] === undefined ? [] : [[field, entry[field]]])),
    ),
    ...(authority !== undefined && { 'certificate-authority-data': authority }),
    ...(config !== undefined && { config }),
  };
}
