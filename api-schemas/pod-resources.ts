/**
 * What a pod asks for, in plain numbers: processors in billionths, memory in bytes, and so on for every resource name. Init containers run one after another, so only the largest counts, together with
 * the sidecars that run by then. Read by the scheduler, by `usage.ts` and by the LimitRanges of the API server.
 * https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
 */
import { parseQuantity } from './quantity.ts';
import type { Container, PodSpec } from './types/core-v1.ts';

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

export function greatest(left: Amounts, right: Amounts): Record<string, bigint> {
  const result: Record<string, bigint> = { ...left };
  for (const [name, amount] of Object.entries(right)) {
    const known = result[name];
    if (known === undefined || amount > known) result[name] = amount;
  }
  return result;
}

const requestsOf = (container: Container): Amounts =>
  amounts({ ...container.resources?.limits, ...container.resources?.requests });
const limitsOf = (container: Container): Amounts => amounts(container.resources?.limits);

/** A container that is to run beside the others though it is an init container. */
export const isSidecar = ({ restartPolicy }: Container): boolean => restartPolicy === 'Always';

function together(spec: PodSpec | undefined, of: (container: Container) => Amounts): Amounts {
  let sidecars: Amounts = {};
  let largestStep: Amounts = {};
  for (const container of spec?.initContainers ?? []) {
    const step = add(sidecars, of(container));
    if (isSidecar(container)) sidecars = step;
    largestStep = greatest(largestStep, step);
  }
  return greatest((spec?.containers ?? []).map(of).reduce(add, sidecars), largestStep);
}

/** The requests of all containers, and what the pod's runtime takes for itself. */
export const podRequests = (spec: PodSpec | undefined): Amounts =>
  add(together(spec, requestsOf), amounts(spec?.overhead));

/** The limits of all containers; the runtime's own share counts where there is a limit at all. */
export function podLimits(spec: PodSpec | undefined): Amounts {
  const limits = together(spec, limitsOf);
  const overhead = Object.entries(amounts(spec?.overhead)).filter(([name]) => (limits[name] ?? 0n) > 0n);
  return add(limits, Object.fromEntries(overhead));
}
