/**
 * The agent's own Node: registered when it starts, its status written to the log only where it changes, and its heartbeat in PostgreSQL, where it floods no log. Started by index.ts; the `nodes` controller
 * judges a node by the heartbeat.
 */
import { readFile, statfs } from 'node:fs/promises';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Node, NodeCondition } from '../../api-schemas/types/core-v1.ts';
import type { ContainerRuntime, RuntimeInfo } from '../../runtime/container-runtime.ts';
import { ApiError, type Client } from '../../sdk/client.ts';
import type { Logger } from '../../sdk/logger.ts';
import { sameJson } from '../../sdk/same-json.ts';
import type { World } from '../../sdk/world.ts';
import type { AgentState } from '../../state/runtime-state.ts';
import { NODES } from './sources.ts';
import { formatTime } from './timestamps.ts';

export const HEARTBEAT_MS = 5_000;
const MAX_PODS = 250;
/** Kept back for the node itself. */
const RESERVED_MEMORY_BYTES = 128 * 2 ** 20;

export interface NodeFacts {
  readonly nodeName: string;
  readonly hostAddresses: readonly string[];
  readonly podCidr: string;
  readonly agentPort: number;
  readonly home: string;
  readonly version: string;
}

export interface Capacity {
  readonly capacity: Readonly<Record<string, string>>;
  readonly allocatable: Readonly<Record<string, string>>;
}

export async function nodeCapacity(info: RuntimeInfo, home: string): Promise<Capacity> {
  const disk = await statfs(home);
  const kibibytes = (bytes: number): string => `${Math.floor(bytes / 1024)}Ki`;
  const fixed = { cpu: String(info.cpus), pods: String(MAX_PODS) };
  return {
    capacity: {
      ...fixed,
      memory: kibibytes(info.memoryBytes),
      'ephemeral-storage': kibibytes(disk.blocks * disk.bsize),
    },
    allocatable: {
      ...fixed,
      memory: kibibytes(Math.max(0, info.memoryBytes - RESERVED_MEMORY_BYTES)),
      'ephemeral-storage': kibibytes(disk.blocks * disk.bsize * 0.9),
    },
  };
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: 'amd64', aarch64: 'arm64' };

export interface NodeReportOptions {
  readonly facts: NodeFacts;
  readonly info: RuntimeInfo;
  readonly resources: Capacity;
  readonly runtime: ContainerRuntime;
  readonly runtimeAvailable: () => boolean;
  readonly client: Client;
  readonly world: World;
  readonly state: AgentState | undefined;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

export class NodeReport {
  readonly #options: NodeReportOptions;
  #bootId = '';
  #machineId = '';
  #stateDown = false;

  constructor(options: NodeReportOptions) {
    this.#options = options;
  }

  /** Registers the node, then beats until the signal is aborted. */
  async start(): Promise<void> {
    this.#bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim();
    this.#machineId = (await readFile('/etc/machine-id', 'utf8').catch(() => '')).trim();
    const beat = async (): Promise<void> => {
      await Promise.all([this.#heartbeat(), this.#report()]);
    };
    await beat();
    const timer = setInterval(() => void beat(), HEARTBEAT_MS);
    this.#options.signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  }

  async #heartbeat(): Promise<void> {
    const { state, facts, resources, info, logger, runtimeAvailable } = this.#options;
    if (state === undefined) return;
    try {
      await state.heartbeat(facts.nodeName, {
        bootId: this.#bootId,
        capacity: resources.capacity,
        runtime: `${info.name}://${info.version}`,
        runtimeAvailable: runtimeAvailable(),
        addresses: facts.hostAddresses,
      });
      if (this.#stateDown) logger.info('PostgreSQL answers; the heartbeat goes on');
      this.#stateDown = false;
    } catch (error) {
      if (!this.#stateDown) logger.warn({ err: error }, 'PostgreSQL does not answer; the node goes on without it');
      this.#stateDown = true;
    }
  }

  async #report(): Promise<void> {
    const { client, world, facts, logger, signal } = this.#options;
    try {
      const standing = world.get<Node>(NODES, '', facts.nodeName);
      const base = standing ?? (await this.#register());
      const labels = this.#labels();
      if (
        Object.entries(labels).some(([key, value]) => base.metadata.labels?.[key] !== value) ||
        base.spec?.podCIDR === undefined
      ) {
        await client.patch(
          { resource: NODES, name: facts.nodeName },
          {
            metadata: { labels },
            ...(base.spec?.podCIDR === undefined
              ? { spec: { podCIDR: facts.podCidr, podCIDRs: [facts.podCidr] } }
              : {}),
          },
          { because: 'the node says what it is', signal },
        );
        return;
      }
      const status = this.#status(base);
      if (sameJson(status, base.status ?? {})) return;
      await client.update(NODES, { ...base, status } as unknown as ApiObject, {
        subresource: 'status',
        because: 'the node has changed',
        signal,
      });
    } catch (error) {
      if (signal.aborted || (error instanceof ApiError && error.is('Conflict'))) return;
      logger.warn({ err: error }, 'the node could not be reported; it will be tried again');
    }
  }

  async #register(): Promise<Node> {
    const { client, facts, signal } = this.#options;
    const node = {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: facts.nodeName, labels: this.#labels() },
      spec: { podCIDR: facts.podCidr, podCIDRs: [facts.podCidr] },
    };
    try {
      return await client.create<Node & ApiObject>(NODES, node, { because: 'the agent has started', signal });
    } catch (error) {
      if (!(error instanceof ApiError && error.is('AlreadyExists'))) throw error;
      return client.get<Node & ApiObject>({ resource: NODES, name: facts.nodeName });
    }
  }

  #labels(): Record<string, string> {
    const { facts, info } = this.#options;
    const architecture = ARCHITECTURES[info.architecture] ?? info.architecture;
    return {
      'kubernetes.io/hostname': facts.nodeName,
      'kubernetes.io/os': info.operatingSystem,
      'kubernetes.io/arch': architecture,
    };
  }

  #status(node: Node): Record<string, unknown> {
    const { facts, info, resources, runtimeAvailable } = this.#options;
    const available = runtimeAvailable();
    const ready = available
      ? { status: 'True', reason: 'KubeletReady', message: 'the node agent is ready' }
      : { status: 'False', reason: 'KubeletNotReady', message: 'container runtime is down' };
    const before = node.status?.conditions ?? [];
    const own = [
      condition(before, 'MemoryPressure', {
        status: 'False',
        reason: 'KubeletHasSufficientMemory',
        message: 'the node has sufficient memory available',
      }),
      condition(before, 'DiskPressure', {
        status: 'False',
        reason: 'KubeletHasNoDiskPressure',
        message: 'the node has no disk pressure',
      }),
      condition(before, 'PIDPressure', {
        status: 'False',
        reason: 'KubeletHasSufficientPID',
        message: 'the node has sufficient PID available',
      }),
      condition(before, 'Ready', ready),
    ];
    const types = new Set(own.map(({ type }) => type));
    return {
      ...node.status,
      capacity: resources.capacity,
      allocatable: resources.allocatable,
      conditions: [...before.filter(({ type }) => !types.has(type)), ...own],
      addresses: [
        ...facts.hostAddresses.map((address) => ({ type: 'InternalIP', address })),
        { type: 'Hostname', address: facts.nodeName },
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: facts.agentPort } },
      nodeInfo: {
        architecture: ARCHITECTURES[info.architecture] ?? info.architecture,
        bootID: this.#bootId,
        containerRuntimeVersion: `${info.name}://${info.version}`,
        kernelVersion: info.kernelVersion,
        kubeProxyVersion: facts.version,
        kubeletVersion: facts.version,
        machineID: this.#machineId,
        operatingSystem: info.operatingSystem,
        osImage: info.osImage,
        systemUUID: this.#machineId,
      },
    };
  }
}

/** Heartbeats are PostgreSQL's: `lastHeartbeatTime` says when the condition was last reported anew. */
function condition(
  before: readonly NodeCondition[],
  type: string,
  now: { status: string; reason: string; message: string },
): NodeCondition {
  const old = before.find((known) => known.type === type);
  const same =
    old !== undefined && old.status === now.status && old.reason === now.reason && old.message === now.message;
  if (same) return old;
  const time = formatTime(Date.now());
  const changed = old?.status !== now.status;
  return {
    type,
    ...now,
    lastHeartbeatTime: time,
    lastTransitionTime: changed ? time : (old?.lastTransitionTime ?? time),
  } as NodeCondition;
}
