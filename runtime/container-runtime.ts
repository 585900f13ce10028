/**
 * The container runtime port: everything that the node agent asks of an engine, in our words. `docker/` talks to a Docker engine, `simulated/` keeps an engine in
 * memory; one contract test (test/runtime) runs against both. Every call ends: with an answer, with a RuntimeCallError that says what the engine objected to, or
 * with a RuntimeUnavailableError when no engine answered in time.
 */
import type { Readable, Writable } from 'node:stream';

export type ContainerState = 'created' | 'running' | 'paused' | 'exited' | 'dead' | 'removing';

/** What is mounted into a container. `bind`: a path of the node. `volume`: a volume of the engine, by name. `tmpfs`: memory. */
export type Mount =
  | {
      readonly kind: 'bind';
      readonly source: string;
      readonly target: string;
      readonly readOnly: boolean;
      readonly propagation?: 'private' | 'rslave' | 'rshared';
    }
  | { readonly kind: 'volume'; readonly volume: string; readonly target: string; readonly readOnly: boolean }
  | { readonly kind: 'tmpfs'; readonly target: string; readonly sizeBytes?: number };

export type ContainerNetwork =
  | { readonly kind: 'network'; readonly network: string; readonly address?: string }
  | { readonly kind: 'container'; readonly containerId: string }
  | { readonly kind: 'host' };

export interface PortBinding {
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly hostPort: number;
  readonly hostAddress?: string;
}

/** A container to be made. Absent fields are the image's own, or the engine's default. */
export interface ContainerSpec {
  /** Unique in the engine: a second create of the same name is refused with reason `conflict`. */
  readonly name: string;
  readonly image: string;
  readonly entrypoint?: readonly string[];
  readonly arguments?: readonly string[];
  readonly environment: readonly { readonly name: string; readonly value: string }[];
  readonly workingDirectory?: string;
  /** `user`, `user:group`, as numbers or names. */
  readonly user?: string;
  readonly supplementalGroups?: readonly number[];
  readonly hostname?: string;
  /** With the host name in front, the full name of the container to itself. */
  readonly domainName?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly mounts: readonly Mount[];
  readonly network: ContainerNetwork;
  readonly ports?: readonly PortBinding[];
  readonly hostAliases?: readonly { readonly address: string; readonly hostname: string }[];
  readonly memoryBytes?: number;
  /** Processor time per 100 ms, in microseconds. */
  readonly cpuQuotaMicros?: number;
  readonly cpuShares?: number;
  readonly oomScoreAdjustment?: number;
  readonly privileged?: boolean;
  readonly addCapabilities?: readonly string[];
  readonly dropCapabilities?: readonly string[];
  readonly readOnlyRootFilesystem?: boolean;
  readonly noNewPrivileges?: boolean;
  /** Not held back by the engine's own profile of system calls, or of AppArmor. */
  readonly seccompUnconfined?: boolean;
  readonly appArmorUnconfined?: boolean;
  readonly sysctls?: Readonly<Record<string, string>>;
  readonly hostProcesses?: boolean;
  readonly hostIpc?: boolean;
  /** Share the process namespace of this container. */
  readonly processesOf?: string;
  readonly tty?: boolean;
  readonly stdin?: boolean;
  readonly stdinOnce?: boolean;
}

/** One container as the engine sees it. Times are milliseconds since the epoch; absent where they have not come. */
export interface Container {
  readonly id: string;
  readonly name: string;
  /** The reference that it was created from. */
  readonly image: string;
  readonly imageId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: ContainerState;
  readonly createdAtMs: number;
  readonly startedAtMs?: number;
  readonly finishedAtMs?: number;
  readonly exitCode: number;
  readonly outOfMemory: boolean;
  /** Why it could not be started; `''` when there was nothing. */
  readonly error: string;
  readonly tty: boolean;
  /** The process on the node; 0 when it does not run. */
  readonly processId: number;
  /** Its address on the network that it was given. */
  readonly address?: string;
  readonly volumes: readonly string[];
  /** The engine did not say in time how it is: the rest is what its list says, or what was known of it before. */
  readonly unread?: true;
}

export interface Image {
  readonly id: string;
  readonly tags: readonly string[];
  /** `name@sha256:…` as a registry knows it; empty for images that were built here. */
  readonly digests: readonly string[];
  readonly sizeBytes: number;
  readonly user: string;
}

/** What a registry asks for before it gives an image. */
export type RegistryCredentials = { readonly serverAddress: string } & (
  { readonly username: string; readonly password: string } | { readonly identityToken: string }
);

export interface PullProgress {
  readonly layers: number;
  readonly layersDone: number;
  readonly bytes: number;
  readonly bytesDone: number;
}

export interface PullOptions {
  readonly credentials?: RegistryCredentials;
  readonly onProgress?: (progress: PullProgress) => void;
  readonly signal?: AbortSignal;
}

export interface Volume {
  readonly name: string;
  readonly driver: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Where it lies on the node; `''` in a simulated engine. */
  readonly mountpoint: string;
  readonly createdAtMs: number;
}

export interface Network {
  readonly id: string;
  readonly name: string;
  readonly subnet: string;
  readonly gateway: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The bridge device on the node. */
  readonly bridge: string;
}

export interface LogOptions {
  readonly follow?: boolean;
  readonly tailLines?: number;
  readonly sinceMs?: number;
  readonly timestamps?: boolean;
  readonly stdout?: boolean;
  readonly stderr?: boolean;
  readonly signal?: AbortSignal;
}

export interface ExecOptions {
  readonly command: readonly string[];
  readonly tty?: boolean;
  readonly stdin?: boolean;
  readonly stdout?: boolean;
  readonly stderr?: boolean;
}

/** A running command in, or an attachment to, a container. With a tty everything comes on `stdout`. */
export interface Session {
  readonly stdin: Writable | undefined;
  readonly stdout: Readable;
  readonly stderr: Readable;
  resize(width: number, height: number): Promise<void>;
  /** The command's exit code, once its output has ended. For an attachment, the container's. */
  readonly exitCode: Promise<number>;
  /** Lets go; the command itself may go on. */
  close(): void;
}

export interface Usage {
  readonly cpuNanoseconds: number;
  readonly memoryBytes: number;
  readonly memoryWorkingSetBytes: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

export interface RuntimeInfo {
  readonly id: string;
  /** Such as `docker` and `20.10.24`. */
  readonly name: string;
  readonly version: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly architecture: string;
  readonly operatingSystem: string;
  readonly osImage: string;
  readonly kernelVersion: string;
}

/**
 * What the engine says as it happens. `resync`: the stream began, or began again after a break, so that anything may have been missed: list afresh. `down`: the
 * stream broke.
 */
export type RuntimeEvent =
  | { readonly kind: 'resync' }
  | { readonly kind: 'down'; readonly reason: string }
  | {
      readonly kind: 'container';
      readonly action: string;
      readonly id: string;
      readonly labels: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'image'; readonly action: string; readonly reference: string }
  | { readonly kind: 'volume'; readonly action: string; readonly name: string }
  | { readonly kind: 'network'; readonly action: string; readonly name: string };

export interface ContainerRuntime {
  /** `simulated` engines have no processes and no network: probes and hooks are not tried there. */
  readonly kind: 'docker' | 'simulated';
  info(): Promise<RuntimeInfo>;

  /** Every container that has all these labels, stopped ones too. One over which the engine hangs is there as well, `unread`, and holds up no other. */
  listContainers(labels: Readonly<Record<string, string>>): Promise<readonly Container[]>;
  /** By id or name; undefined when there is none. */
  inspectContainer(id: string): Promise<Container | undefined>;
  createContainer(spec: ContainerSpec): Promise<string>;
  /** A started one stays as it is. */
  startContainer(id: string): Promise<void>;
  /** Sends a signal (`TERM`, `KILL`, …) and does not wait. Nothing happens to one that does not run or is not there. */
  signalContainer(id: string, signal: string): Promise<void>;
  /** Removes a container that does not run, with its anonymous volumes; `force` kills it first. One that is not there is done. */
  removeContainer(id: string, options?: { readonly force?: boolean }): Promise<void>;
  /**
   * Kills what still runs on this machine of a container that the engine takes for ended, as when its supervisor was killed and it lost sight of it. Resolves to how many processes these were; none where
   * the engine runs elsewhere.
   */
  killRemains(id: string): Promise<number>;
  /** The signal that the image or the container asks to be stopped with; `TERM` by default. */
  stopSignal(id: string): Promise<string>;
  logs(id: string, options: LogOptions): Promise<Readable>;
  /** Both are refused as a conflict where the container does not run. */
  exec(id: string, options: ExecOptions): Promise<Session>;
  attach(id: string, options: Omit<ExecOptions, 'command'>): Promise<Session>;
  usage(id: string): Promise<Usage>;

  /** By reference or id, as the engine resolves it; undefined when it is not there. */
  inspectImage(reference: string): Promise<Image | undefined>;
  listImages(): Promise<readonly Image[]>;
  /** Rejects with a RuntimeCallError whose message is the registry's or the engine's reason. */
  pullImage(reference: string, options?: PullOptions): Promise<void>;
  /** Makes an image out of one filesystem tar, without any registry. `changes` are Dockerfile instructions. Resolves to the image's id. */
  importImage(reference: string, tar: Readable, changes: readonly string[]): Promise<string>;

  /** Made if it is not there; one that is there is left as it is. */
  ensureVolume(name: string, labels: Readonly<Record<string, string>>): Promise<Volume>;
  inspectVolume(name: string): Promise<Volume | undefined>;
  listVolumes(labels: Readonly<Record<string, string>>): Promise<readonly Volume[]>;
  /** One that is not there is done; one in use is refused with reason `conflict`. */
  removeVolume(name: string): Promise<void>;

  /** A bridge network with this subnet (its first address is the gateway), made if it is not there. */
  ensureNetwork(network: {
    readonly name: string;
    readonly subnet: string;
    readonly bridge: string;
    readonly labels: Readonly<Record<string, string>>;
  }): Promise<Network>;
  removeNetwork(name: string): Promise<void>;

  /** Endless; reconnects by itself, with a `down` and a `resync` around each break. Ends when the signal is aborted. */
  events(options: {
    readonly labels: Readonly<Record<string, string>>;
    readonly signal: AbortSignal;
  }): AsyncIterable<RuntimeEvent>;
}

/** No engine answered, or not in time. What was asked for may or may not have happened. */
export class RuntimeUnavailableError extends Error {
  override readonly name: string = 'RuntimeUnavailableError';
}

/** The engine took the call and did not answer in time: it hangs, or hangs over this one thing. */
export class RuntimeTimeoutError extends RuntimeUnavailableError {
  override readonly name = 'RuntimeTimeoutError';
}

/** The engine refused. `conflict`: the name is taken or the thing is in use. */
export class RuntimeCallError extends Error {
  override readonly name = 'RuntimeCallError';
  readonly reason: 'not-found' | 'conflict' | 'invalid' | 'failed';
  constructor(reason: RuntimeCallError['reason'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}
