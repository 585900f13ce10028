/** The downward API: facts of a pod, its containers and its node, for environment variables and files. https://kubernetes.io/docs/concepts/workloads/pods/downward-api/ */
import type { Container as PodContainer, ResourceFieldSelector } from '../../api-schemas/types/core-v1.ts';
import type { Pod } from './observation.ts';
import { slotsOf, specOf } from './pod-shape.ts';
import { quantityValue } from './quantities.ts';
import { UnresolvedReferenceError } from './references.ts';

export interface DownwardFacts {
  readonly pod: Pod;
  readonly address: string;
  readonly hostAddresses: readonly string[];
  readonly nodeName: string;
  /** What the node can give; stands in for limits that are not set. */
  readonly allocatable: Readonly<Record<string, string>>;
}

export function fieldValue(path: string, facts: DownwardFacts): string {
  const { metadata } = facts.pod;
  const subscript = /^metadata\.(labels|annotations)\['(.*)'\]$/.exec(path);
  if (subscript !== null) return metadata[subscript[1] as 'labels' | 'annotations']?.[subscript[2] ?? ''] ?? '';
  switch (path) {
    case 'metadata.name':
      return metadata.name;
    case 'metadata.namespace':
      return metadata.namespace ?? '';
    case 'metadata.uid':
      return metadata.uid ?? '';
    case 'metadata.labels':
      return quotedLines(metadata.labels ?? {});
    case 'metadata.annotations':
      return quotedLines(metadata.annotations ?? {});
    case 'spec.nodeName':
      return facts.nodeName;
    case 'spec.serviceAccountName':
      return specOf(facts.pod).serviceAccountName ?? 'default';
    case 'status.podIP':
    case 'status.podIPs':
      return facts.address;
    case 'status.hostIP':
      return facts.hostAddresses[0] ?? '';
    case 'status.hostIPs':
      return facts.hostAddresses.join(',');
    default:
      throw new UnresolvedReferenceError(`unsupported fieldPath: ${path}`);
  }
}

function quotedLines(map: Readonly<Record<string, string>>): string {
  return Object.entries(map)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

export function resourceValue(
  selector: ResourceFieldSelector,
  facts: DownwardFacts,
  own: PodContainer | undefined,
): string {
  const container =
    selector.containerName === undefined
      ? own
      : slotsOf(facts.pod).find(({ name }) => name === selector.containerName)?.container;
  if (container === undefined)
    throw new UnresolvedReferenceError(`container ${selector.containerName ?? ''} not found`);
  const [kind = '', ...rest] = selector.resource.split('.');
  const name = rest.join('.');
  const given =
    kind === 'limits'
      ? (container.resources?.limits?.[name] ?? facts.allocatable[name])
      : container.resources?.requests?.[name];
  const value = quantityValue(given) ?? 0;
  const divisor = quantityValue(selector.divisor) ?? 1;
  return String(Math.ceil(value / (divisor === 0 ? 1 : divisor)));
}
