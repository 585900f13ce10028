/**
 * What a pod asks of a node, in plain numbers: processors in billionths, memory in bytes, and so on for every resource name. Init containers run one after another, so only the largest
 * counts. https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
 */
import { parseQuantity } from '../../api-schemas/quantity.ts';
import type { Container, Pod, PodSpec } from '../../api-schemas/types/core-v1.ts';

/** Amounts by resource name, in billionths of its unit. */
export type Amounts = Readonly<Record<string, bigint>>;

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

/** The pod's requests, one pod's place included. */
export function podRequests(spec: PodSpec | undefined): Amounts {
  const sidecars = (spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always');
  const steps = (spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy !== 'Always');
  const running = [...(spec?.containers ?? []), ...sidecars].map(requestsOf).reduce(add, {});
  const largest = steps.map(requestsOf).reduce(greatest, running);
  return add(add(largest, amounts(spec?.overhead)), { pods: 1_000_000_000n });
}

/** Host ports as `protocol/address/port`. */
export function hostPorts(pod: Pod): string[] {
  return (pod.spec?.containers ?? []).flatMap(({ ports }) =>
    (ports ?? []).flatMap(({ hostPort, hostIP, protocol }) =>
      hostPort ? [`${protocol ?? 'TCP'}/${hostIP || '0.0.0.0'}/${hostPort}`] : [],
    ),
  );
}

/** Whether a pod still holds what it asked for. */
export const isOver = (pod: Pod): boolean => pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
