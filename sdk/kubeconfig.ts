/**
 * Reads a context of a kubeconfig: where the API server is and with which certificate to speak to it. Client certificates only, embedded or in files beside the kubeconfig
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

/** `named` instead of the current context. Throws with a sentence that names the file and what is wrong in it. */
export function readKubeconfig(file: string, named?: string): ApiAccess {
  const config = parse(readFileSync(file, 'utf8')) as Record<string, unknown> | null;
  const current = named ?? config?.['current-context'];
  if (typeof current !== 'string') throw new Error(`${file} names no current-context`);
  const context = find(config, 'contexts', 'context', current, file);
  const cluster = find(config, 'clusters', 'cluster', String(context['cluster']), file);
  const user = find(config, 'users', 'user', String(context['user']), file);
  const server = cluster['server'];
  if (typeof server !== 'string') throw new Error(`${file}: cluster ${String(context['cluster'])} names no server`);
  return {
    server: server.replace(/\/+$/, ''),
    ca: bytes(cluster, 'certificate-authority', file),
    cert: bytes(user, 'client-certificate', file),
    key: bytes(user, 'client-key', file),
    token: typeof user['token'] === 'string' ? user['token'] : undefined,
    ...(typeof context['namespace'] === 'string' && { namespace: context['namespace'] }),
  };
}

function find(
  config: Record<string, unknown> | null,
  list: string,
  field: string,
  name: string,
  file: string,
): Record<string, unknown> {
  const entries = (config?.[list] ?? []) as readonly Record<string, unknown>[];
  const entry = entries.find((candidate) => candidate['name'] === name)?.[field];
  if (typeof entry !== 'object' || entry === null) throw new Error(`${file}: there is no '${name}' among its ${list}`);
  return entry as Record<string, unknown>;
}

function bytes(entry: Record<string, unknown>, field: string, file: string): Buffer | undefined {
  const embedded = entry[`${field}-data`];
  if (typeof embedded === 'string') return Buffer.from(embedded, 'base64');
  const named = entry[field];
  return typeof named === 'string' ? readFileSync(path.resolve(path.dirname(file), named)) : undefined;
}
