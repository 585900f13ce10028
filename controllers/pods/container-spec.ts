/** A container of a pod as the engine is asked to make it. Reads nothing but what it is given (and, for subPaths, the pod's own folder). Called by the agent's operations. */
import type { Container as PodContainer, PodSpec } from '../../api-schemas/types/core-v1.ts';
import type { ContainerNetwork, ContainerSpec, Mount, PortBinding } from '../../runtime/container-runtime.ts';
import { PAUSE_IMAGE } from '../../runtime/pause-image.ts';
import type { DownwardFacts } from './downward.ts';
import { containerEnvironment, expand } from './environment.ts';
import { containerName, SANDBOX_NAME } from './labels.ts';
import type { Pod } from './observation.ts';
import { identityOf, slotsOf, specOf } from './pod-shape.ts';
import { quantityValue } from './quantities.ts';
import type { References } from './references.ts';

export interface SpecInput {
  readonly pod: Pod;
  readonly facts: DownwardFacts;
  readonly references: References;
  readonly attempt: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly network: string;
  /** Absent for pods in the node's own network. */
  readonly address?: string;
  /** Of the running sandbox that the container joins. */
  readonly sandboxId?: string;
  /** Of the running container whose processes it is to see. */
  readonly processesOf?: string;
  /** Volumes, and files of the agent's own such as `resolv.conf`. */
  readonly mounts: readonly Mount[];
  /** What `runAsNonRoot` is checked against where the spec names no user. */
  readonly imageUser: string;
}

/** The pod's security settings forbid to run it so. */
export class SecurityError extends Error {
  override readonly name = 'SecurityError';
}

const MIN_CPU_SHARES = 2;
const CPU_PERIOD_MICROS = 100_000;
const MIN_CPU_QUOTA_MICROS = 1_000;

export function containerSpec(container: PodContainer, input: SpecInput): ContainerSpec {
  const { pod, attempt } = input;
  const spec = specOf(pod);
  const environment = containerEnvironment(container, input.facts, input.references);
  const security = container.securityContext ?? {};
  const user = userOf(container, input);
  const ownNetwork = input.sandboxId === undefined;
  const entrypoint = container.command?.map((part) => expand(part, environment));
  // A command without arguments does not get the image's own.
  const args = container.args?.map((part) => expand(part, environment)) ?? (entrypoint === undefined ? undefined : []);
  return {
    name: containerName(identityOf(pod), container.name, attempt),
    image: container.image ?? '',
    ...(entrypoint === undefined ? {} : { entrypoint }),
    ...(args === undefined ? {} : { arguments: args }),
    environment: [...environment].map(([name, value]) => ({ name, value })),
    ...(container.workingDir === undefined ? {} : { workingDirectory: container.workingDir }),
    ...(user === undefined ? {} : { user }),
    ...groups(pod),
    labels: input.labels,
    mounts: input.mounts,
    ...(ownNetwork
      ? networkPart(pod, input)
      : { network: { kind: 'container', containerId: input.sandboxId ?? '' } as const }),
    ...resources(container),
    ...oomScore(container, input),
    privileged: security.privileged ?? false,
    addCapabilities: (security.capabilities?.add ?? []).map(String),
    dropCapabilities: (security.capabilities?.drop ?? []).map(String),
    readOnlyRootFilesystem: security.readOnlyRootFilesystem ?? false,
    noNewPrivileges: security.allowPrivilegeEscalation === false,
    seccompUnconfined: (security.seccompProfile ?? spec.securityContext?.seccompProfile)?.type === 'Unconfined',
    appArmorUnconfined: (security.appArmorProfile ?? spec.securityContext?.appArmorProfile)?.type === 'Unconfined',
    hostProcesses: spec.hostPID ?? false,
    ...(spec.hostIPC === true ? { hostIpc: true } : {}),
    ...processes(spec, input),
    tty: container.tty ?? false,
    stdin: container.stdin ?? false,
    stdinOnce: container.stdinOnce ?? false,
  };
}

function processes(spec: PodSpec, input: SpecInput): Pick<ContainerSpec, 'processesOf'> {
  const processesOf = input.processesOf ?? (spec.shareProcessNamespace === true ? input.sandboxId : undefined);
  return processesOf === undefined ? {} : { processesOf };
}

/** The container that holds the network of a pod of several containers. */
export function sandboxSpec(input: SpecInput): ContainerSpec {
  const { pod } = input;
  return {
    name: containerName(identityOf(pod), SANDBOX_NAME, input.attempt),
    image: PAUSE_IMAGE,
    environment: [],
    labels: input.labels,
    mounts: input.mounts,
    ...networkPart(pod, input),
    cpuShares: MIN_CPU_SHARES,
    readOnlyRootFilesystem: true,
  };
}

/** What whoever holds the pod's network is given: address, name, ports, host entries, kernel settings. */
function networkPart(
  pod: Pod,
  input: SpecInput,
): Pick<ContainerSpec, 'network' | 'hostname' | 'domainName' | 'ports' | 'hostAliases' | 'sysctls'> {
  const spec = specOf(pod);
  const sysctls = Object.fromEntries((spec.securityContext?.sysctls ?? []).map(({ name, value }) => [name, value]));
  const kernel = Object.keys(sysctls).length === 0 ? {} : { sysctls };
  if (spec.hostNetwork === true) return { network: { kind: 'host' }, ...kernel };
  const network: ContainerNetwork = {
    kind: 'network',
    network: input.network,
    ...(input.address === undefined ? {} : { address: input.address }),
  };
  const hostname = spec.hostname ?? pod.metadata.name.slice(0, 63).replace(/[-.]+$/, '');
  const aliases = (spec.hostAliases ?? []).flatMap(({ ip = '', hostnames = [] }) =>
    hostnames.map((name) => ({ address: ip, hostname: name })),
  );
  const common = { network, ports: portBindings(pod), hostAliases: aliases, ...kernel };
  if (spec.subdomain === undefined || spec.subdomain === '') return { ...common, hostname };
  const domainName = `${spec.subdomain}.${pod.metadata.namespace ?? ''}.svc.${CLUSTER_DOMAIN}`;
  return spec.setHostnameAsFQDN === true
    ? { ...common, hostname: `${hostname}.${domainName}` }
    : { ...common, hostname, domainName };
}

export const CLUSTER_DOMAIN = 'cluster.local';

function portBindings(pod: Pod): PortBinding[] {
  return slotsOf(pod).flatMap(({ container }) =>
    (container.ports ?? []).flatMap((port) =>
      port.hostPort === undefined || port.hostPort === 0
        ? []
        : [
            {
              containerPort: port.containerPort,
              hostPort: port.hostPort,
              protocol: (port.protocol ?? 'TCP').toLowerCase() as PortBinding['protocol'],
              ...(port.hostIP === undefined || port.hostIP === '' ? {} : { hostAddress: port.hostIP }),
            },
          ],
    ),
  );
}

function userOf(container: PodContainer, input: SpecInput): string | undefined {
  const own = container.securityContext ?? {};
  const shared = specOf(input.pod).securityContext ?? {};
  const user = own.runAsUser ?? shared.runAsUser;
  const group = own.runAsGroup ?? shared.runAsGroup;
  if (own.runAsNonRoot ?? shared.runAsNonRoot) {
    const effective = user === undefined ? input.imageUser.split(':')[0] : String(user);
    if (effective === undefined || effective === '' || effective === '0' || effective === 'root') {
      throw new SecurityError(
        user === 0
          ? "container's runAsUser breaks non-root policy"
          : 'container has runAsNonRoot and image will run as root',
      );
    }
    if (user === undefined && !/^\d+$/.test(effective)) {
      throw new SecurityError(
        `container has runAsNonRoot and image has non-numeric user (${effective}), cannot verify user is non-root`,
      );
    }
  }
  if (user === undefined && group === undefined) return undefined;
  const name = user === undefined ? input.imageUser.split(':')[0] || '0' : String(user);
  return group === undefined ? name : `${name}:${group}`;
}

function groups(pod: Pod): { supplementalGroups?: number[] } {
  const { supplementalGroups = [], fsGroup } = specOf(pod).securityContext ?? {};
  const all = fsGroup === undefined ? supplementalGroups : [...supplementalGroups, fsGroup];
  return all.length === 0 ? {} : { supplementalGroups: all };
}

function resources(container: PodContainer): Pick<ContainerSpec, 'memoryBytes' | 'cpuQuotaMicros' | 'cpuShares'> {
  const limits = container.resources?.limits ?? {};
  const requests = container.resources?.requests ?? {};
  const memory = quantityValue(limits['memory']);
  const cpuLimit = quantityValue(limits['cpu']);
  const cpuRequest = quantityValue(requests['cpu']) ?? cpuLimit ?? 0;
  return {
    ...(memory === undefined || memory === 0 ? {} : { memoryBytes: Math.floor(memory) }),
    ...(cpuLimit === undefined || cpuLimit === 0
      ? {}
      : { cpuQuotaMicros: Math.max(MIN_CPU_QUOTA_MICROS, Math.round(cpuLimit * CPU_PERIOD_MICROS)) }),
    cpuShares: Math.max(MIN_CPU_SHARES, Math.round(cpuRequest * 1024)),
  };
}

/**
 * Who goes first when memory runs out, by the pod's quality of service. https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior
 * Guaranteed pods are left as they are: to go below zero takes a privilege that not every machine gives.
 */
function oomScore(container: PodContainer, { pod, facts }: SpecInput): { oomScoreAdjustment?: number } {
  const { qosClass } = pod.status ?? {};
  if (qosClass === 'BestEffort') return { oomScoreAdjustment: 1000 };
  if (qosClass !== 'Burstable') return {};
  const capacity = quantityValue(facts.allocatable['memory']) ?? 0;
  const requested = quantityValue(container.resources?.requests?.['memory']) ?? 0;
  const share = capacity === 0 ? 0 : requested / capacity;
  return { oomScoreAdjustment: Math.min(999, Math.max(2, Math.round(1000 - 1000 * share))) };
}

/** What stands in `/etc/resolv.conf`, by the pod's dnsPolicy; undefined leaves the engine's own. */
export function resolverConfiguration(pod: Pod, clusterDns: readonly string[], nodeResolver: string): string {
  const spec = specOf(pod);
  const policy = spec.dnsPolicy ?? 'ClusterFirst';
  const cluster = policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && spec.hostNetwork !== true);
  const given =
    policy === 'None'
      ? { nameservers: [], searches: [], options: [] }
      : cluster
        ? clusterResolver(pod, clusterDns)
        : parseResolver(nodeResolver);
  const nameservers = [...new Set([...given.nameservers, ...(spec.dnsConfig?.nameservers ?? [])])].slice(0, 3);
  const searches = [...new Set([...given.searches, ...(spec.dnsConfig?.searches ?? [])])];
  const options = new Map(given.options.map((option) => [option.split(':')[0] ?? '', option]));
  for (const { name = '', value } of spec.dnsConfig?.options ?? [])
    options.set(name, value === undefined ? name : `${name}:${value}`);
  return [
    ...(searches.length === 0 ? [] : [`search ${searches.join(' ')}`]),
    ...nameservers.map((address) => `nameserver ${address}`),
    ...(options.size === 0 ? [] : [`options ${[...options.values()].join(' ')}`]),
    '',
  ].join('\n');
}

interface Resolver {
  readonly nameservers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

function clusterResolver(pod: Pod, clusterDns: readonly string[]): Resolver {
  const namespace = pod.metadata.namespace ?? '';
  return {
    nameservers: clusterDns,
    searches: [`${namespace}.svc.${CLUSTER_DOMAIN}`, `svc.${CLUSTER_DOMAIN}`, CLUSTER_DOMAIN],
    options: ['ndots:5'],
  };
}

function parseResolver(text: string): Resolver {
  const words = (keyword: string): string[] =>
    text.split('\n').flatMap((line) => {
      const [first, ...rest] = line.trim().split(/\s+/);
      return first === keyword ? rest : [];
    });
  return { nameservers: words('nameserver'), searches: words('search'), options: words('options') };
}
