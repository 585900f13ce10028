/**
 * The facts that agents observe, as they are handed to and read from `runtime-state.ts`. Times are RFC 3339; an absent fact is unknown or does not apply.
 */
import type { ColumnType, Generated } from 'kysely';

export interface ContainerFacts {
  /** The engine's id. */
  readonly id: string;
  /** Set when read. */
  readonly node?: string;
  readonly podUid?: string;
  readonly podNamespace?: string;
  readonly podName?: string;
  readonly containerName?: string;
  /** Counts the restarts of the pod's container, from 0. */
  readonly attempt: number;
  readonly image: string;
  readonly imageId?: string;
  /** The engine's word: `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`. */
  readonly state: string;
  readonly pid?: number;
  readonly exitCode?: number;
  readonly oomKilled: boolean;
  readonly createdAt?: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly address?: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Log sequences that led to this container. */
  readonly causes: readonly number[];
  /** Set when read: when the row last changed. */
  readonly observedAt?: string;
}

export interface ImageFacts {
  readonly id: string;
  readonly tags: readonly string[];
  readonly sizeBytes: number;
}

export interface VolumeFacts {
  readonly name: string;
  readonly driver: string;
  readonly mountpoint?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly sizeBytes?: number;
  readonly createdAt?: string;
}

export interface AddressFacts {
  readonly address: string;
  readonly podUid?: string;
  readonly podNamespace?: string;
  readonly podName?: string;
}

export interface UsageFacts {
  /** The container's id. */
  readonly id: string;
  /** Processor time since the container's start. */
  readonly cpuNanoseconds: number;
  readonly memoryBytes: number;
  readonly observedAt?: string;
}

/** What an agent says of its node with each heartbeat; anything beside the named fields is kept as `info`. */
export interface NodeInfo {
  readonly bootId?: string;
  readonly capacity?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

export interface NodeState {
  readonly name: string;
  readonly heartbeatAt: string;
  readonly heartbeatAgeMs: number;
  readonly snapshotAt?: string;
  readonly bootId?: string;
  readonly capacity: Readonly<Record<string, string>>;
  readonly info: Readonly<Record<string, unknown>>;
}

export interface RuntimeEvent {
  readonly id: number;
  readonly time: string;
  readonly node: string;
  /** Noted by the database: `created`, `started`, `exited`, `oom`, `removed` and the engine's other states. Agents add their own. */
  readonly kind: string;
  readonly containerId?: string;
  readonly podUid?: string;
  readonly podNamespace?: string;
  readonly podName?: string;
  readonly containerName?: string;
  readonly attempt?: number;
  readonly exitCode?: number;
  readonly message?: string;
  readonly causes?: readonly number[];
  readonly detail?: unknown;
}

type Json = ColumnType<unknown, string, string>;

/** The columns that queries name one by one. */
export interface RuntimeTables {
  nodes: {
    name: string;
    heartbeat_at: Generated<string>;
    snapshot_at: string | null;
    boot_id: string | null;
    capacity: Json;
    info: Json;
  };
  containers: {
    node: string;
    id: string;
    pod_uid: string | null;
    container_name: string | null;
    attempt: number;
    state: string;
  };
  runtime_events: {
    id: Generated<number>;
    time: Generated<string>;
    node: string;
    kind: string;
    pod_uid: string | null;
  };
}
