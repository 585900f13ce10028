/**
 * Reads a context of a kubeconfig: where the API server is and with which certificate to speak to it. Several files are merged as kubectl merges them. Client certificates and tokens, embedded or in files beside the kubeconfig
 * (https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/). Used by `run.ts` and by anything else that speaks to the API.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';

export interface ApiAccess {
  /** Such as `https://127.0.0.1:6443`. */
  readonly server: string;
  readonly ca: Buffer | undefined;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
  readonly token: string | undefined;
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
  return {
    server: server.replace(/\/+$/, ''),
    ca: bytes(cluster, 'certificate-authority'),
    cert: bytes(user, 'client-certificate'),
    key: bytes(user, 'client-key'),
    token: tokenOf(user),
    ...(typeof context['namespace'] === 'string' && { namespace: context['namespace'] }),
  };
}

function find(config: Kubeconfig, list: 'clusters' | 'users' | 'contexts', name: string): Placed {
  const found = Object.hasOwn(config[list], name) ? config[list][name] : undefined;
  if (!found) throw new Error(`${config.files.join(', ')}: there is no '${name}' among its ${list}`);
  return found;
}

const placed = (file: string, named: string): string => path.resolve(path.dirname(file), named);

function bytes({ entry, file }: Placed, field: string): Buffer | undefined {
  const embedded = entry[`${field}-data`];
  if (typeof embedded === 'string') return Buffer.from(embedded, 'base64');
  const named = entry[field];
  return typeof named === 'string' ? readFileSync(placed(file, named)) : undefined;
}

function tokenOf({ entry, file }: Placed): string | undefined {
  if (typeof entry['token'] === 'string') return entry['token'];
  const named = entry['tokenFile'];
  return typeof named === 'string' ? readFileSync(placed(file, named), 'utf8').trim() : undefined;
}
