/** The container runtime port on a Docker engine, through dockerode. Made by the node agent; DOCKER_HOST and its companions say which engine. */
import Docker from 'dockerode';
import type { Readable } from 'node:stream';
import {
  RuntimeCallError,
  RuntimeTimeoutError,
  type Container,
  type ContainerRuntime,
  type ContainerSpec,
  type ExecOptions,
  type Image,
  type LogOptions,
  type Network,
  type PullOptions,
  type RuntimeEvent,
  type RuntimeInfo,
  type Session,
  type Usage,
  type Volume,
} from '../container-runtime.ts';
import { normalizeImageReference } from '../image-reference.ts';
import { call, CALL_TIMEOUT_MS, PATIENCE_MS, START_TIMEOUT_MS, statusCodeOf, unlessMissing } from './calls.ts';
import { containerFromInspection, containerFromList, createBody } from './container-body.ts';
import { followEvents } from './event-stream.ts';
import { importImage, pullImage } from './images.ts';
import { killRemains } from './remains.ts';
import { openAttachment, openExec, openLogs } from './sessions.ts';

/** So many containers are inspected at once when a list is read. */
const INSPECT_CONCURRENCY = 8;

export class DockerRuntime implements ContainerRuntime {
  readonly kind = 'docker';
  readonly #docker: Docker;

  constructor(options?: Docker.DockerOptions) {
    this.#docker = new Docker(options);
  }

  async info(): Promise<RuntimeInfo> {
    const info = (await call('info', () => this.#docker.info())) as Record<string, string | number>;
    return {
      id: String(info['ID'] ?? ''),
      name: 'docker',
      version: String(info['ServerVersion'] ?? ''),
      cpus: Number(info['NCPU'] ?? 0),
      memoryBytes: Number(info['MemTotal'] ?? 0),
      architecture: String(info['Architecture'] ?? ''),
      operatingSystem: String(info['OSType'] ?? 'linux'),
      osImage: String(info['OperatingSystem'] ?? ''),
      kernelVersion: String(info['KernelVersion'] ?? ''),
    };
  }

  async listContainers(labels: Readonly<Record<string, string>>): Promise<readonly Container[]> {
    const listed = await call('list containers', (abortSignal) =>
      this.#docker.listContainers({ all: true, filters: { label: labelFilter(labels) }, abortSignal }),
    );
    const waiting = listed.values();
    const found: Container[] = [];
    const reader = async (): Promise<void> => {
      for (const summary of waiting) {
        const container = await this.#read(summary);
        if (container !== undefined) found.push(container);
      }
    };
    await Promise.all(Array.from({ length: INSPECT_CONCURRENCY }, reader));
    return found;
  }

  /** What the list says of it stands in where the engine hangs over it, or cannot make sense of it. */
  async #read(summary: Docker.ContainerInfo): Promise<Container | undefined> {
    try {
      return await this.#inspect(summary.Id, PATIENCE_MS);
    } catch (error) {
      if (error instanceof RuntimeTimeoutError || error instanceof RuntimeCallError) return containerFromList(summary);
      throw error;
    }
  }

  inspectContainer(id: string): Promise<Container | undefined> {
    return this.#inspect(id, CALL_TIMEOUT_MS);
  }

  async #inspect(id: string, timeoutMs: number): Promise<Container | undefined> {
    const inspection = await unlessMissing(
      call('inspect container', (abortSignal) => this.#docker.getContainer(id).inspect({ abortSignal }), timeoutMs),
    );
    return inspection === undefined ? undefined : containerFromInspection(inspection);
  }

  async createContainer(spec: ContainerSpec): Promise<string> {
    const { name, ...body } = createBody(spec);
    // dockerode puts the whole body in the query as well, unless told which is which; a large environment would not fit there.
    const options = (abortSignal: AbortSignal): Docker.ContainerCreateOptions =>
      ({ _query: { name }, _body: body, abortSignal }) as Docker.ContainerCreateOptions;
    const container = await call(
      'create container',
      (abortSignal) => this.#docker.createContainer(options(abortSignal)),
      START_TIMEOUT_MS,
    );
    return container.id;
  }

  async startContainer(id: string): Promise<void> {
    await call(
      'start container',
      (abortSignal) => tolerate([304], this.#docker.getContainer(id).start({ abortSignal })),
      START_TIMEOUT_MS,
    );
  }

  async signalContainer(id: string, signal: string): Promise<void> {
    await call('signal container', (abortSignal) =>
      tolerate([404, 409], this.#docker.getContainer(id).kill({ signal, abortSignal })),
    );
  }

  async removeContainer(id: string, options?: { readonly force?: boolean }): Promise<void> {
    // 409 also says that a removal is already under way; then it is done.
    await call(
      'remove container',
      async (abortSignal) => {
        try {
          await tolerate(
            [404],
            this.#docker.getContainer(id).remove({ v: true, force: options?.force ?? false, abortSignal }),
          );
        } catch (error) {
          if (statusCodeOf(error) !== 409 || !String((error as Error).message).includes('already in progress'))
            throw error;
        }
      },
      START_TIMEOUT_MS,
    );
  }

  killRemains(id: string): Promise<number> {
    return killRemains(id);
  }

  async stopSignal(id: string): Promise<string> {
    const { Config: config } = await call('inspect container', (abortSignal) =>
      this.#docker.getContainer(id).inspect({ abortSignal }),
    );
    return ((config as { StopSignal?: string }).StopSignal ?? 'SIGTERM').replace(/^SIG/, '');
  }

  logs(id: string, options: LogOptions): Promise<Readable> {
    return openLogs(this.#docker, id, options);
  }

  exec(id: string, options: ExecOptions): Promise<Session> {
    return openExec(this.#docker, id, options);
  }

  attach(id: string, options: Omit<ExecOptions, 'command'>): Promise<Session> {
    return openAttachment(this.#docker, id, options);
  }

  async usage(id: string): Promise<Usage> {
    const stats = (await call('stats', (abortSignal) =>
      this.#docker.getContainer(id).stats({ stream: false, 'one-shot': true, abortSignal } as { stream: false }),
    )) as unknown as Docker.ContainerStats;
    const memory = stats.memory_stats as { usage?: number; stats?: Record<string, number> };
    const used = memory.usage ?? 0;
    const inactive = memory.stats?.['total_inactive_file'] ?? memory.stats?.['inactive_file'] ?? 0;
    const networks = Object.values(stats.networks ?? {});
    return {
      cpuNanoseconds: stats.cpu_stats.cpu_usage.total_usage,
      memoryBytes: used,
      memoryWorkingSetBytes: Math.max(0, used - inactive),
      receivedBytes: networks.reduce((sum, network) => sum + network.rx_bytes, 0),
      sentBytes: networks.reduce((sum, network) => sum + network.tx_bytes, 0),
    };
  }

  async inspectImage(reference: string): Promise<Image | undefined> {
    const found = await unlessMissing(call('inspect image', () => this.#docker.getImage(reference).inspect()));
    if (found === undefined) return undefined;
    return {
      id: found.Id,
      tags: found.RepoTags ?? [],
      digests: found.RepoDigests ?? [],
      sizeBytes: found.Size,
      user: found.Config?.User ?? '',
    };
  }

  async listImages(): Promise<readonly Image[]> {
    const images = await call('list images', (abortSignal) => this.#docker.listImages({ abortSignal }));
    return images.map((image) => ({
      id: image.Id,
      tags: (image.RepoTags ?? []).filter((tag) => tag !== '<none>:<none>'),
      digests: (image.RepoDigests ?? []).filter((digest) => !digest.startsWith('<none>')),
      sizeBytes: image.Size,
      user: '',
    }));
  }

  pullImage(reference: string, options?: PullOptions): Promise<void> {
    return pullImage(this.#docker, normalizeImageReference(reference), options ?? {});
  }

  importImage(reference: string, tar: Readable, changes: readonly string[]): Promise<string> {
    return importImage(this.#docker, { reference, tar, changes });
  }

  async ensureVolume(name: string, labels: Readonly<Record<string, string>>): Promise<Volume> {
    await call('create volume', (abortSignal) =>
      this.#docker.createVolume({ Name: name, Labels: { ...labels }, abortSignal } as Docker.VolumeCreateOptions),
    );
    const volume = await this.inspectVolume(name);
    if (volume === undefined) throw new RuntimeCallError('not-found', `volume ${name} vanished as it was made`);
    return volume;
  }

  async inspectVolume(name: string): Promise<Volume | undefined> {
    const found = await unlessMissing(
      call('inspect volume', (abortSignal) => this.#docker.getVolume(name).inspect({ abortSignal })),
    );
    return found === undefined ? undefined : volumeFrom(found);
  }

  async listVolumes(labels: Readonly<Record<string, string>>): Promise<readonly Volume[]> {
    const { Volumes: volumes } = await call('list volumes', (abortSignal) =>
      this.#docker.listVolumes({
        filters: { label: labelFilter(labels) },
        abortSignal,
      } as unknown as Docker.VolumeListOptions),
    );
    return (volumes ?? []).map(volumeFrom);
  }

  async removeVolume(name: string): Promise<void> {
    await call('remove volume', (abortSignal) => tolerate([404], this.#docker.getVolume(name).remove({ abortSignal })));
  }

  async ensureNetwork(wanted: {
    readonly name: string;
    readonly subnet: string;
    readonly bridge: string;
    readonly labels: Readonly<Record<string, string>>;
  }): Promise<Network> {
    const existing = await unlessMissing(call('inspect network', () => this.#docker.getNetwork(wanted.name).inspect()));
    if (existing === undefined) {
      await call(
        'create network',
        (abortSignal) =>
          tolerate(
            [409],
            this.#docker.createNetwork({
              Name: wanted.name,
              CheckDuplicate: true,
              Driver: 'bridge',
              IPAM: { Driver: 'default', Config: [{ Subnet: wanted.subnet, Gateway: firstAddress(wanted.subnet) }] },
              Options: { 'com.docker.network.bridge.name': wanted.bridge },
              Labels: { ...wanted.labels },
              abortSignal,
            }),
          ),
        START_TIMEOUT_MS,
      );
    }
    const info = existing ?? (await call('inspect network', () => this.#docker.getNetwork(wanted.name).inspect()));
    const config = info.IPAM?.Config?.[0];
    return {
      id: info.Id,
      name: info.Name,
      subnet: config?.['Subnet'] ?? wanted.subnet,
      gateway: config?.['Gateway'] ?? firstAddress(wanted.subnet),
      labels: info.Labels ?? {},
      bridge: info.Options?.['com.docker.network.bridge.name'] ?? `br-${info.Id.slice(0, 12)}`,
    };
  }

  async removeNetwork(name: string): Promise<void> {
    await call('remove network', (abortSignal) =>
      tolerate([404], this.#docker.getNetwork(name).remove({ abortSignal })),
    );
  }

  events(options: {
    readonly labels: Readonly<Record<string, string>>;
    readonly signal: AbortSignal;
  }): AsyncIterable<RuntimeEvent> {
    return followEvents(this.#docker, options);
  }
}

function labelFilter(labels: Readonly<Record<string, string>>): string[] {
  return Object.entries(labels).map(([key, value]) => `${key}=${value}`);
}

async function tolerate(statuses: readonly number[], promise: Promise<unknown>): Promise<void> {
  try {
    await promise;
  } catch (error) {
    const status = statusCodeOf(error);
    if (status === undefined || !statuses.includes(status)) throw error;
  }
}

function volumeFrom(info: Docker.VolumeInspectInfo): Volume {
  const created = Date.parse((info as { CreatedAt?: string }).CreatedAt ?? '');
  return {
    name: info.Name,
    driver: info.Driver,
    labels: info.Labels ?? {},
    mountpoint: info.Mountpoint,
    createdAtMs: Number.isNaN(created) ? 0 : created,
  };
}

function firstAddress(subnet: string): string {
  const parts = (subnet.split('/')[0] ?? '').split('.').map(Number);
  const last = parts.length - 1;
  parts[last] = (parts[last] ?? 0) + 1;
  return parts.join('.');
}
