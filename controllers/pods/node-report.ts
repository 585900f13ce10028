/**
 * The agent's own Node: registered when it starts, its status written to the log only where it changes, and its heartbeat in PostgreSQL, where it floods no log. Started by index.ts; the `nodes` controller
 * judges a node by the heartbeat.
 */
import { timestamp } from '../../api-schemas/timestamps.ts';
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

export const HEARTBEAT_MS = 5_000;
/** Others write to the Node too: who taints it, for one. */
const REPORT_TRIES = 4;
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
  #beat: (() => Promise<void>) | undefined;

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
    this.#beat = beat;
    const timer = setInterval(() => void beat(), HEARTBEAT_MS);
    this.#options.signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  }

  /** What is reported has changed: nobody is to wait for the next beat. */
  changed(): void {
    void this.#beat?.();
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
    const { world, facts, logger, signal } = this.#options;
    for (let tries = 0; tries < REPORT_TRIES && !signal.aborted; tries++) {
      try {
        // What was just written is not in the World yet.
        const standing = tries === 0 ? world.get<Node>(NODES, '', facts.nodeName) : undefined;
        const base = standing ?? (await this.#register());
        return await this.#reportOn(base);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && (error.is('Conflict') || error.is('NotFound'))) continue;
        logger.warn({ err: error }, 'the node could not be reported; it will be tried again');
        return;
      }
    }
  }

  async #reportOn(base: Node): Promise<void> {
    const { client, facts, signal } = this.#options;
    const labels = this.#labels();
    const lacksRange = base.spec?.podCIDR === undefined;
    let node = base;
    if (lacksRange || Object.entries(labels).some(([key, value]) => base.metadata.labels?.[key] !== value)) {
      const patch = {
        metadata: { labels },
        ...(lacksRange ? { spec: { podCIDR: facts.podCidr, podCIDRs: [facts.podCidr] } } : {}),
      };
      const target = { resource: NODES, name: facts.nodeName };
      node = await client.patch<Node & ApiObject>(target, patch, { because: 'the node says what it is', signal });
    }
    const status = this.#status(node);
    if (sameJson(status, node.status ?? {})) return;
    const options = { subresource: 'status', because: 'the node has changed', signal } as const;
    await client.update(NODES, { ...node, status } as unknown as ApiObject, options);
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
  const time = timestamp(Date.now());
  const changed = old?.status !== now.status;
  return {
    type,
    ...now,
    lastHeartbeatTime: time,
    lastTransitionTime: changed ? time : (old?.lastTransitionTime ?? time),
  } as NodeCondition;
}
