/**
 * Keeps the registry in step with the CustomResourceDefinitions of the log: every API server follows the same log, so each serves a kind from the moment its definition is established, and none of them is told. Started
 * by `main.ts` once the cache is full.
 */
import type { Logger } from 'pino';
import { setMaxListeners } from 'node:events';
import type { Registry } from '../../api-schemas/registry.ts';
import type { ResourceDefinition } from '../../api-schemas/schema.ts';
import type { CustomResourceDefinition } from '../../api-schemas/types/apiextensions-v1.ts';
import { decode, type Entry } from '../store/entry.ts';
import type { ObjectStore, Store } from '../store/object-store.ts';
import type { NodeConnections } from '../subresources/node-connections.ts';
import { webhookConversion } from './conversion-webhook.ts';
import { isEstablished, resourceDefinitions } from './resource-definitions.ts';

export const CRD_GROUP = 'apiextensions.k8s.io';
export const CRD_RESOURCE = 'customresourcedefinitions';

export interface FollowDefinitions {
  readonly registry: Registry;
  readonly store: ObjectStore;
  /** By which webhooks behind Services are reached. */
  readonly nodes: NodeConnections;
  readonly logger: Logger;
  /** How long a webhook may take; default as in Kubernetes. */
  readonly webhookTimeoutMs?: number | undefined;
  /** Of the server's end. */
  readonly signal: AbortSignal;
}

/** Serves what is established now, and from now on what becomes so. */
export function followDefinitions(options: FollowDefinitions): void {
  const { registry, store, logger, signal } = options;
  const crds = registry.byResource(CRD_GROUP, 'v1', CRD_RESOURCE);
  if (!crds) throw new Error(`there is no schema of ${CRD_RESOURCE}`);
  const cache = store.cache(crds);
  /** What is served for each definition, by its name. */
  const served = new Map<string, { readonly definitions: readonly Served[]; readonly retire: AbortController }>();

  const serve = (entry: Entry): void => {
    try {
      const retire = new AbortController();
      setMaxListeners(0, retire.signal);
      const wanted = servedBy(entry, options, retire.signal);
      const standing = served.get(entry.key.name);
      const withdrawn = standing?.definitions.filter((one) => !wanted.some((other) => sameResource(one, other))) ?? [];
      for (const one of withdrawn) registry.remove(one.group, one.version, one.resource);
      for (const one of wanted) registry.add(one);
      if (wanted.length > 0) served.set(entry.key.name, { definitions: wanted, retire });
      else served.delete(entry.key.name);
      standing?.retire.abort();
    } catch (error) {
      logger.error({ err: error, definition: entry.key.name }, 'a CustomResourceDefinition cannot be served');
    }
  };
  const withdraw = (name: string): void => {
    const standing = served.get(name);
    for (const { group, version, resource } of standing?.definitions ?? []) registry.remove(group, version, resource);
    served.delete(name);
    standing?.retire.abort();
  };
  const beginAgain = (): Promise<void> =>
    store
      .stream(crds)
      .reached(0)
      .then(begin, () => (signal.aborted ? undefined : beginAgain()));
  const begin = (): void => {
    const entries = cache.list();
    const present = new Set(entries.map(({ key }) => key.name));
    for (const name of [...served.keys()]) if (!present.has(name)) withdraw(name);
    for (const entry of entries) serve(entry);
    cache.watch({
      event: ({ type, entry, previous }) => {
        if (type === 'DELETED') withdraw(entry.key.name);
        else if (!previous || concernsServing(entry, previous)) serve(entry);
      },
      // The cache is being filled again, once whoever says so is done; what is served stays served meanwhile.
      lost: () => void Promise.resolve().then(beginAgain),
    });
  };
  begin();
}

/**
 * That there is no such resource is believed only of what is newest: another API server may have answered already that its definition is established. Only groups with a dot can have custom kinds.
 */
export async function knowsResource(
  { registry, store }: { readonly registry: Registry; readonly store: Store },
  { group, version, resource }: Pick<ResourceDefinition, 'group' | 'version' | 'resource'>,
): Promise<boolean> {
  const known = () => registry.byResource(group, version, resource) !== undefined;
  const crds = registry.byResource(CRD_GROUP, 'v1', CRD_RESOURCE);
  if (known() || !group.includes('.') || !crds) return known();
  await store.current(crds);
  return known();
}

type Served = ReturnType<typeof resourceDefinitions>[number];

const parse = (entry: Entry): CustomResourceDefinition => decode(entry) as unknown as CustomResourceDefinition;

function servedBy(
  entry: Entry,
  { registry, store, nodes, logger, webhookTimeoutMs: timeoutMs }: FollowDefinitions,
  retired: AbortSignal,
): readonly Served[] {
  const definition = parse(entry);
  if (!isEstablished(definition)) return [];
  const reach = { registry, store, nodes };
  const convert = webhookConversion(definition, { reach, logger, ...(timeoutMs !== undefined && { timeoutMs }) });
  // What is built in is never replaced.
  return resourceDefinitions(definition, { registry, parse: () => parse(entry), retired, convert }).filter(
    ({ group, version, resource, kind }) =>
      [registry.byResource(group, version, resource), registry.byKind(group, version, kind)].every(
        (known) => known === undefined || known.custom?.definition === definition.metadata.name,
      ),
  );
}

const sameResource = (a: Served, b: Served): boolean =>
  a.group === b.group && a.version === b.version && a.resource === b.resource;

/** Whether anything that serving depends on has changed; what a condition says, or who owns which field, does not count. */
function concernsServing(entry: Entry, previous: Entry): boolean {
  const essence = (one: Entry): string => {
    const { metadata, spec, status } = parse(one);
    const conditions = status?.conditions?.map(({ type, status: holds }) => `${type}=${holds}`).sort();
    return JSON.stringify([
      metadata.uid,
      metadata.deletionTimestamp !== undefined,
      spec,
      status?.acceptedNames,
      conditions,
    ]);
  };
  return essence(entry) !== essence(previous);
}
