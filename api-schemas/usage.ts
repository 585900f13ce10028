/**
 * What an object uses of the ResourceQuotas of its namespace, and which quotas it counts towards. Asked by the API server before it admits an object, and by the controller that counts what stands: so both always
 * mean the same. https://kubernetes.io/docs/concepts/policy/resource-quotas/
 */
import { amounts, podLimits, podRequests, type Amounts } from './pod-resources.ts';
import { formatQuantity, parseQuantity } from './quantity.ts';
import type { ApiObject } from './schema.ts';
import type {
  Container,
  PersistentVolumeClaim,
  Pod,
  PodSpec,
  ResourceQuota,
  ScopedResourceSelectorRequirement,
  Service,
} from './types/core-v1.ts';

export interface ObjectType {
  readonly group: string;
  readonly resource: string;
}

const ONE = 1_000_000_000n;

/** Kinds that are counted under their bare name too, not only as `count/<resource>`. */
const PLAIN_COUNTS: ReadonlySet<string> = new Set([
  'configmaps',
  'persistentvolumeclaims',
  'replicationcontrollers',
  'resourcequotas',
  'secrets',
  'services',
]);

const COMPUTE: ReadonlySet<string> = new Set(['cpu', 'memory', 'ephemeral-storage']);

/** The name under which objects of this type are counted. */
export const countName = ({ group, resource }: ObjectType): string =>
  group === '' ? `count/${resource}` : `count/${resource}.${group}`;

/** By the names that a quota's `hard` may bear. */
export function usageOf(type: ObjectType, object: ApiObject): Amounts {
  const count = { [countName(type)]: ONE };
  if (type.group !== '') return count;
  const plain = PLAIN_COUNTS.has(type.resource) ? { ...count, [type.resource]: ONE } : count;
  switch (type.resource) {
    case 'pods':
      return isOver(object as Pod & ApiObject) ? plain : { ...plain, ...podUsage((object as Pod & ApiObject).spec) };
    case 'services':
      return { ...plain, ...serviceUsage(object as Service & ApiObject) };
    case 'persistentvolumeclaims':
      return { ...plain, ...claimUsage(object as PersistentVolumeClaim & ApiObject) };
    default:
      return plain;
  }
}

const isOver = ({ status }: Pod): boolean => status?.phase === 'Succeeded' || status?.phase === 'Failed';

function podUsage(spec: PodSpec | undefined): Amounts {
  const usage: Record<string, bigint> = { pods: ONE };
  for (const [name, amount] of Object.entries(podRequests(spec))) {
    if (COMPUTE.has(name) || name.startsWith('hugepages-')) usage[name] = amount;
    usage[`requests.${name}`] = amount;
  }
  for (const [name, amount] of Object.entries(podLimits(spec))) if (COMPUTE.has(name)) usage[`limits.${name}`] = amount;
  return usage;
}

function serviceUsage({ spec }: Service): Amounts {
  const isBalanced = spec?.type === 'LoadBalancer';
  const hasPorts = spec?.type === 'NodePort' || (isBalanced && spec.allocateLoadBalancerNodePorts !== false);
  return {
    ...(hasPorts && { 'services.nodeports': BigInt(spec.ports?.length ?? 0) * ONE }),
    ...(isBalanced && { 'services.loadbalancers': ONE }),
  };
}

function claimUsage({ spec }: PersistentVolumeClaim): Amounts {
  const storage = amounts(spec?.resources?.requests)['storage'];
  const ofClass = spec?.storageClassName ? `${spec.storageClassName}.storageclass.storage.k8s.io/` : undefined;
  return {
    ...(ofClass && { [`${ofClass}persistentvolumeclaims`]: ONE }),
    ...(storage !== undefined && { 'requests.storage': storage }),
    ...(ofClass && storage !== undefined && { [`${ofClass}requests.storage`]: storage }),
  };
}

/** From when on the object uses nothing though it stands: a pod whose grace is long over, which its node cannot end. Milliseconds; Infinity: never. */
export function releasedAtMs({ group, resource }: ObjectType, { metadata }: ApiObject): number {
  const { deletionTimestamp, deletionGracePeriodSeconds = 0 } = metadata;
  if (group !== '' || resource !== 'pods' || deletionTimestamp === undefined) return Infinity;
  return Date.parse(deletionTimestamp) + deletionGracePeriodSeconds * 1000;
}

/** Only pods have scopes: a quota with any is about nothing else. */
export function isInScope(quota: ResourceQuota, type: ObjectType, object: ApiObject): boolean {
  const { scopes = [], scopeSelector } = quota.spec ?? {};
  const requirements: readonly ScopedResourceSelectorRequirement[] = [
    ...scopes.map((scopeName) => ({ scopeName, operator: 'Exists' }) as ScopedResourceSelectorRequirement),
    ...(scopeSelector?.matchExpressions ?? []),
  ];
  if (requirements.length === 0) return true;
  if (type.group !== '' || type.resource !== 'pods') return false;
  return requirements.every((requirement) => meets(object as Pod & ApiObject, requirement));
}

function meets({ spec, status }: Pod, { scopeName, operator, values }: ScopedResourceSelectorRequirement): boolean {
  switch (scopeName) {
    case 'Terminating':
      return spec?.activeDeadlineSeconds !== undefined;
    case 'NotTerminating':
      return spec?.activeDeadlineSeconds === undefined;
    case 'BestEffort':
      return status?.qosClass === 'BestEffort';
    case 'NotBestEffort':
      return status?.qosClass !== 'BestEffort';
    case 'CrossNamespacePodAffinity':
      return reachesOtherNamespaces(spec);
    case 'PriorityClass':
      return selects(operator, values ?? [], spec?.priorityClassName ?? '');
    default:
      return false;
  }
}

function selects(operator: string, values: readonly string[], name: string): boolean {
  switch (operator) {
    case 'In':
      return values.includes(name);
    case 'NotIn':
      return !values.includes(name);
    case 'Exists':
      return name !== '';
    default:
      return name === '';
  }
}

function reachesOtherNamespaces(spec: PodSpec | undefined): boolean {
  const { podAffinity, podAntiAffinity } = spec?.affinity ?? {};
  return [podAffinity, podAntiAffinity]
    .flatMap((affinity) => [
      ...(affinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []),
      ...(affinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map(
        ({ podAffinityTerm }) => podAffinityTerm,
      ),
    ])
    .some(({ namespaces = [], namespaceSelector }) => namespaces.length > 0 || namespaceSelector !== undefined);
}

/** What every container must say where a quota limits it. */
const TO_BE_SAID = ['cpu', 'limits.cpu', 'limits.memory', 'memory', 'requests.cpu', 'requests.memory'];

/** What the containers of a pod leave unsaid though the quota limits it, as `limits.cpu for: main; …`; empty when nothing is. */
export function leftUnsaid(quota: ResourceQuota, { spec }: Pod): string {
  const hard = quota.spec?.hard ?? {};
  const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? [])];
  return TO_BE_SAID.filter((name) => hard[name] !== undefined)
    .map((name) => [name, containers.filter((container) => !says(container, name)).map((each) => each.name)] as const)
    .filter(([, silent]) => silent.length > 0)
    .map(([name, silent]) => `${name} for: ${[...new Set(silent)].sort().join(',')}`)
    .join('; ');
}

function says({ resources }: Container, name: string): boolean {
  const [kind, resource] = name.includes('.') ? (name.split('.') as [string, string]) : ['requests', name];
  return (kind === 'limits' ? resources?.limits : resources?.requests)?.[resource] !== undefined;
}

/** An amount as the quota writes its own bound of that name. */
export function shownLike(bound: string | undefined, nanos: bigint): string {
  return formatQuantity({ nanos, format: parseQuantity(bound ?? '')?.format ?? 'decimal' });
}
