/**
 * What a pod asks of a node, in plain numbers: processors in billionths, memory in bytes, and so on for every resource name. Init containers run one after another, so only the largest
 * counts, together with the sidecars that run by then. https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
 */
import { parseQuantity } from '../../api-schemas/quantity.ts';
import type { Container, Pod, PodSpec } from '../../api-schemas/types/core-v1.ts';

/** Amounts by resource name, in billionths of its unit. */
export type Amounts = Readonly<Record<string, bigint>>;

/** A port on the node that a pod wants for itself. */
export interface HostPort {
  readonly protocol: string;
  /** `0.0.0.0`: every address of the node. */
  readonly address: string;
  readonly port: number;
}

const ANY_ADDRESS = '0.0.0.0';

/** Unreadable quantities count as nothing; validation keeps them out. */
export function amounts(quantities: Readonly<Record<string, string>> | undefined): Record<string, bigint> {
  return Object.fromEntries(
    Object.entries(quantities ?? {}).map(([name, text]) => [name, parseQuantity(text)?.nanos ?? 0n]),
  );
}

export function add(left: Amounts, right: Amounts): Record<string, bigint> {
  const sum: Record<string, bigint> = { ...left };
  for (const [name, amount] of Object.entries(right)) sum[name] = (sum[name] ?? 0n) + amount;
  return sum;
}

function greatest(left: Amounts, right: Amounts): Record<string, bigint> {
  const result: Record<string, bigint> = { ...left };
  for (const [name, amount] of Object.entries(right)) if (amount > (result[name] ?? 0n)) result[name] = amount;
  return result;
}

const requestsOf = (container: Container): Amounts =>
  amounts({ ...container.resources?.limits, ...container.resources?.requests });

const isSidecar = ({ restartPolicy }: Container): boolean => restartPolicy === 'Always';

/** The pod's requests, one pod's place included. */
export function podRequests(spec: PodSpec | undefined): Amounts {
  let sidecars: Amounts = {};
  let largestStep: Amounts = {};
  for (const container of spec?.initContainers ?? []) {
    const together = add(sidecars, requestsOf(container));
    if (isSidecar(container)) sidecars = together;
    largestStep = greatest(largestStep, together);
  }
  const running = (spec?.containers ?? []).map(requestsOf).reduce(add, sidecars);
  return add(add(greatest(running, largestStep), amounts(spec?.overhead)), { pods: 1_000_000_000n });
}

export function hostPorts({ spec }: Pod): HostPort[] {
  const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? []).filter(isSidecar)];
  return containers.flatMap(({ ports }) =>
    (ports ?? []).flatMap(({ hostPort, hostIP, protocol }) =>
      hostPort ? [{ protocol: protocol ?? 'TCP', address: hostIP || ANY_ADDRESS, port: hostPort }] : [],
    ),
  );
}

/** Whether both cannot be had on one node. */
export const portsConflict = (a: HostPort, b: HostPort): boolean =>
  a.port === b.port &&
  a.protocol === b.protocol &&
  (a.address === b.address || a.address === ANY_ADDRESS || b.address === ANY_ADDRESS);

/** Whether a pod no longer holds what it asked for. */
export const isOver = (pod: Pod): boolean => pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';

/** The claims that a pod mounts, by name; those of ephemeral volumes bear the pod's name. */
export const claimNames = ({ metadata, spec }: Pod): string[] =>
  (spec?.volumes ?? []).flatMap((volume) => {
    if (volume.persistentVolumeClaim) return [volume.persistentVolumeClaim.claimName];
    return volume.ephemeral ? [`${metadata.name}-${volume.name}`] : [];
  });
