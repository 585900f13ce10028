/**
 * Discovery: what groups, versions and resources the server has, in the aggregated form that kubectl asks for first and in the older form of a document a version. Made from the registry; kept by
 * `documents.ts`. https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
 */
import { createHash } from 'node:crypto';
import type { Registry } from '../../api-schemas/registry.ts';
import type { ResourceDefinition } from '../../api-schemas/schema.ts';

/** The Kubernetes whose API this is. */
export const KUBERNETES_VERSION = { major: '1', minor: '32', gitVersion: 'v1.32.0+reckon' } as const;

export const versionInfo = () => ({
  ...KUBERNETES_VERSION,
  gitCommit: '',
  gitTreeState: 'clean',
  buildDate: '1970-01-01T00:00:00Z',
  goVersion: process.version,
  compiler: 'node',
  platform: `${process.platform}/${process.arch === 'x64' ? 'amd64' : process.arch}`,
});

/**
 * Kubernetes' order of its groups. Clients look a plural up in the first group that has it, so that a custom kind of the same name never stands before a built-in one.
 * From `APIServicePriority` of kube-apiserver's aggregator.
 */
const GROUP_ORDER = [
  '',
  'apps',
  'events.k8s.io',
  'authentication.k8s.io',
  'authorization.k8s.io',
  'autoscaling',
  'batch',
  'certificates.k8s.io',
  'networking.k8s.io',
  'policy',
  'rbac.authorization.k8s.io',
  'storage.k8s.io',
  'apiextensions.k8s.io',
  'scheduling.k8s.io',
  'coordination.k8s.io',
  'node.k8s.io',
  'discovery.k8s.io',
];

/** Kubernetes' groups, then our own, then users'. */
function groupRank(group: string, definitions: readonly ResourceDefinition[]): number {
  const place = GROUP_ORDER.indexOf(group);
  if (place >= 0) return place;
  return definitions.some(({ custom }) => custom) ? GROUP_ORDER.length + 1 : GROUP_ORDER.length;
}

/** Groups in order, core first; versions of a group with the preferred one first. */
export function groups(registry: Registry): Map<string, Map<string, ResourceDefinition[]>> {
  const byGroup = new Map<string, Map<string, ResourceDefinition[]>>();
  for (const definition of registry.resources()) {
    let versions = byGroup.get(definition.group);
    if (!versions) byGroup.set(definition.group, (versions = new Map()));
    versions.set(definition.version, [...(versions.get(definition.version) ?? []), definition]);
  }
  const ranked = [...byGroup].map(([group, versions]) => ({
    group,
    versions: new Map([...versions].sort(([a], [b]) => compareVersions(a, b))),
    rank: groupRank(group, [...versions.values()].flat()),
  }));
  ranked.sort((a, b) => a.rank - b.rank || (a.group < b.group ? -1 : 1));
  return new Map(ranked.map(({ group, versions }) => [group, versions]));
}

/** Kubernetes' order of versions: stable before beta before alpha, greater before lesser. */
export function compareVersions(a: string, b: string): number {
  const rank = (version: string): [stability: number, major: number, minor: number] => {
    const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version);
    if (!match) return [3, 0, 0];
    return [match[2] === undefined ? 0 : match[2] === 'beta' ? 1 : 2, -Number(match[1]), -Number(match[3] ?? 0)];
  };
  const [left, right] = [rank(a), rank(b)];
  for (const index of [0, 1, 2] as const) if (left[index] !== right[index]) return left[index] - right[index];
  return a < b ? -1 : a > b ? 1 : 0;
}

const storageHash = ({ group, version, kind }: ResourceDefinition): string =>
  createHash('sha256').update(`${group}/${version}/${kind}`).digest('base64').slice(0, 11) + '=';

const kindOf = ({ group, version, kind }: { group: string; version: string; kind: string }) => ({
  group,
  version,
  kind,
});

function aggregatedResource(definition: ResourceDefinition) {
  const { resource, singular, namespaced, verbs, shortNames, categories, subresources } = definition;
  return {
    resource,
    responseKind: kindOf(definition),
    scope: namespaced ? 'Namespaced' : 'Cluster',
    singularResource: singular,
    verbs,
    ...(shortNames.length > 0 && { shortNames }),
    ...(categories.length > 0 && { categories }),
    ...(subresources.length > 0 && {
      subresources: subresources.map((subresource) => ({
        subresource: subresource.name,
        responseKind: kindOf(withParent(subresource, definition)),
        verbs: subresource.verbs,
      })),
    }),
  };
}

/** A subresource that names no group of its own is of its parent's. */
function withParent<T extends { group: string; version: string }>(subresource: T, parent: ResourceDefinition): T {
  return subresource.version === '' ? { ...subresource, group: parent.group, version: parent.version } : subresource;
}

/** `/api` (core) or `/apis` (all others) as an APIGroupDiscoveryList. */
export function aggregated(registry: Registry, options: { core: boolean; apiVersion: 'v2' | 'v2beta1' }) {
  const items = [...groups(registry)]
    .filter(([group]) => (group === '') === options.core)
    .map(([group, versions]) => ({
      metadata: { ...(group !== '' && { name: group }), creationTimestamp: null },
      versions: [...versions].map(([version, definitions]) => ({
        version,
        freshness: 'Current',
        resources: definitions.map(aggregatedResource),
      })),
    }));
  return {
    kind: 'APIGroupDiscoveryList',
    apiVersion: `apidiscovery.k8s.io/${options.apiVersion}`,
    metadata: {},
    items,
  };
}

/** `/api`. */
export const apiVersions = () => ({ kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] });

function apiGroup(group: string, versions: ReadonlyMap<string, unknown>) {
  const listed = [...versions.keys()].map((version) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: group, versions: listed, preferredVersion: listed[0] };
}

/** `/apis`. */
export function apiGroupList(registry: Registry) {
  const listed = [...groups(registry)]
    .filter(([group]) => group !== '')
    .map(([group, versions]) => apiGroup(group, versions));
  return { kind: 'APIGroupList', apiVersion: 'v1', groups: listed };
}

/** `/apis/<group>`; undefined for a group that is not served. */
export function oneGroup(registry: Registry, group: string) {
  const versions = group === '' ? undefined : groups(registry).get(group);
  return versions && { kind: 'APIGroup', apiVersion: 'v1', ...apiGroup(group, versions) };
}

/** `/api/v1` or `/apis/<group>/<version>`; undefined for a version that is not served. */
export function apiResourceList(registry: Registry, group: string, version: string) {
  const definitions = groups(registry).get(group)?.get(version);
  if (!definitions) return undefined;
  const resources = definitions.flatMap((definition) => {
    const { resource, singular, namespaced, kind, verbs, shortNames, categories, subresources } = definition;
    const main = {
      name: resource,
      singularName: singular,
      namespaced,
      kind,
      verbs,
      ...(shortNames.length > 0 && { shortNames }),
      ...(categories.length > 0 && { categories }),
      ...(definition.storage !== 'none' && { storageVersionHash: storageHash(definition) }),
    };
    const parts = subresources.map((subresource) => ({
      name: `${resource}/${subresource.name}`,
      singularName: '',
      namespaced,
      ...(subresource.group !== '' &&
        subresource.group !== group && { group: subresource.group, version: subresource.version }),
      kind: subresource.kind,
      verbs: subresource.verbs,
    }));
    return [main, ...parts];
  });
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? version : `${group}/${version}`,
    resources,
  };
}
