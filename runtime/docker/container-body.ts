/** Our description of a container as Docker's body for `POST /containers/create`, and Docker's inspection as our Container. Pure; used by docker-runtime.ts. */
import type Docker from 'dockerode';
import type { Container, ContainerSpec, ContainerState, Mount } from '../container-runtime.ts';

/** A container's log is turned over at this size; five pieces are kept, as Kubernetes does. */
const LOG_CONFIG = { Type: 'json-file', Config: { 'max-size': '10m', 'max-file': '5' } };

export function createBody(spec: ContainerSpec): Docker.ContainerCreateOptions {
  const ports = spec.ports ?? [];
  const body: Docker.ContainerCreateOptions = {
    name: spec.name,
    Image: spec.image,
    Env: spec.environment.map(({ name, value }) => `${name}=${value}`),
    Labels: { ...spec.labels },
    Tty: spec.tty ?? false,
    OpenStdin: spec.stdin ?? false,
    StdinOnce: spec.stdinOnce ?? false,
    AttachStdin: false,
    AttachStdout: false,
    AttachStderr: false,
    HostConfig: hostConfig(spec),
  };
  if (spec.entrypoint !== undefined) body.Entrypoint = [...spec.entrypoint];
  if (spec.arguments !== undefined) body.Cmd = [...spec.arguments];
  if (spec.workingDirectory !== undefined) body.WorkingDir = spec.workingDirectory;
  if (spec.user !== undefined) body.User = spec.user;
  if (spec.hostname !== undefined) body.Hostname = spec.hostname;
  if (spec.domainName !== undefined) body.Domainname = spec.domainName;
  if (ports.length > 0)
    body.ExposedPorts = Object.fromEntries(ports.map((port) => [`${port.containerPort}/${port.protocol}`, {}]));
  if (spec.network.kind === 'network') {
    const address = spec.network.address;
    body.NetworkingConfig = {
      EndpointsConfig: {
        [spec.network.network]: address === undefined ? {} : { IPAMConfig: { IPv4Address: address } },
      },
    } as NonNullable<Docker.ContainerCreateOptions['NetworkingConfig']>;
  }
  return body;
}

function hostConfig(spec: ContainerSpec): Docker.HostConfig {
  const tmpfs = spec.mounts.filter((mount) => mount.kind === 'tmpfs');
  const host: Docker.HostConfig = {
    NetworkMode:
      spec.network.kind === 'network'
        ? spec.network.network
        : spec.network.kind === 'host'
          ? 'host'
          : `container:${spec.network.containerId}`,
    RestartPolicy: { Name: 'no' },
    LogConfig: LOG_CONFIG,
    Mounts: spec.mounts.flatMap(dockerMount),
    Privileged: spec.privileged ?? false,
    ReadonlyRootfs: spec.readOnlyRootFilesystem ?? false,
    CapAdd: [...(spec.addCapabilities ?? [])],
    CapDrop: [...(spec.dropCapabilities ?? [])],
    GroupAdd: (spec.supplementalGroups ?? []).map(String),
    SecurityOpt: [
      ...(spec.noNewPrivileges === true ? ['no-new-privileges'] : []),
      ...(spec.seccompUnconfined === true ? ['seccomp=unconfined'] : []),
      ...(spec.appArmorUnconfined === true ? ['apparmor=unconfined'] : []),
    ],
  };
  if (tmpfs.length > 0) {
    host.Tmpfs = Object.fromEntries(
      tmpfs.map((mount) => [mount.target, mount.sizeBytes === undefined ? '' : `size=${mount.sizeBytes}`]),
    );
  }
  if (spec.memoryBytes !== undefined) {
    host.Memory = spec.memoryBytes;
    host.MemorySwap = spec.memoryBytes;
  }
  if (spec.cpuQuotaMicros !== undefined) {
    host.CpuPeriod = 100_000;
    host.CpuQuota = spec.cpuQuotaMicros;
  }
  if (spec.cpuShares !== undefined) host.CpuShares = spec.cpuShares;
  if (spec.oomScoreAdjustment !== undefined) host.OomScoreAdj = spec.oomScoreAdjustment;
  if (spec.sysctls !== undefined) host.Sysctls = { ...spec.sysctls };
  if (spec.hostProcesses === true) host.PidMode = 'host';
  else if (spec.processesOf !== undefined) host.PidMode = `container:${spec.processesOf}`;
  if (spec.hostIpc === true) host.IpcMode = 'host';
  else if (spec.network.kind === 'container') host.IpcMode = `container:${spec.network.containerId}`;
  else host.IpcMode = 'shareable';
  if (spec.hostAliases !== undefined && spec.network.kind !== 'container') {
    host.ExtraHosts = spec.hostAliases.map(({ hostname, address }) => `${hostname}:${address}`);
  }
  if (spec.ports !== undefined && spec.ports.length > 0) {
    const bindings: Record<string, { HostPort: string; HostIp?: string }[]> = {};
    for (const port of spec.ports) {
      const key = `${port.containerPort}/${port.protocol}`;
      (bindings[key] ??= []).push({
        HostPort: String(port.hostPort),
        ...(port.hostAddress === undefined ? {} : { HostIp: port.hostAddress }),
      });
    }
    host.PortBindings = bindings;
  }
  return host;
}

function dockerMount(mount: Mount): Docker.MountSettings[] {
  switch (mount.kind) {
    case 'bind':
      return [
        {
          Type: 'bind',
          Source: mount.source,
          Target: mount.target,
          ReadOnly: mount.readOnly,
          // Where nothing is asked for the engine knows best: private, but not for a folder that holds the engine's own, such as `/`.
          ...(mount.propagation === undefined
            ? {}
            : { BindOptions: { Propagation: mount.propagation } as NonNullable<Docker.MountSettings['BindOptions']> }),
        },
      ];
    case 'volume':
      // Kubernetes does not copy what the image has at the mount point into the volume; Docker does unless told.
      return [
        {
          Type: 'volume',
          Source: mount.volume,
          Target: mount.target,
          ReadOnly: mount.readOnly,
          VolumeOptions: { NoCopy: true } as NonNullable<Docker.MountSettings['VolumeOptions']>,
        },
      ];
    case 'tmpfs':
      return [];
    default:
      return mount satisfies never;
  }
}

export function containerFromInspection(inspection: Docker.ContainerInspectInfo): Container {
  const { State: state, NetworkSettings: network } = inspection;
  const endpoints = Object.values(network.Networks ?? {});
  const fixed = endpoints
    .map((endpoint) => (endpoint as { IPAMConfig?: { IPv4Address?: string } | null }).IPAMConfig?.IPv4Address)
    .find(Boolean);
  const given = endpoints.map((endpoint) => endpoint.IPAddress).find((found) => found !== '');
  // One that runs without an address has lost its network, whatever it was promised.
  const address = given ?? (state.Status === 'running' ? undefined : fixed);
  const startedAtMs = engineTime(state.StartedAt);
  const finishedAtMs = engineTime(state.FinishedAt);
  return {
    id: inspection.Id,
    name: inspection.Name.replace(/^\//, ''),
    image: inspection.Config.Image,
    imageId: inspection.Image,
    labels: inspection.Config.Labels ?? {},
    state: containerState(state.Status),
    createdAtMs: engineTime(inspection.Created) ?? 0,
    ...(startedAtMs === undefined ? {} : { startedAtMs }),
    ...(finishedAtMs === undefined ? {} : { finishedAtMs }),
    exitCode: state.ExitCode,
    outOfMemory: state.OOMKilled,
    error: state.Error,
    tty: inspection.Config.Tty,
    processId: state.Pid,
    ...(address === undefined || address === '' ? {} : { address }),
    volumes: inspection.Mounts.flatMap((mount) =>
      mount.Type === 'volume' && mount.Name !== undefined ? [mount.Name] : [],
    ),
  };
}

/** What a line of Docker's list tells: its state as the engine last noted it, and not how it ended. */
export function containerFromList(summary: Docker.ContainerInfo): Container {
  const endpoint = Object.values(summary.NetworkSettings?.Networks ?? {})[0];
  const address = endpoint?.IPAddress || endpoint?.IPAMConfig?.IPv4Address;
  return {
    id: summary.Id,
    name: (summary.Names[0] ?? '').replace(/^\//, ''),
    image: summary.Image,
    imageId: summary.ImageID,
    labels: summary.Labels,
    state: containerState(summary.State),
    createdAtMs: summary.Created * 1000,
    exitCode: 0,
    outOfMemory: false,
    error: '',
    tty: false,
    processId: 0,
    ...(address === undefined || address === '' ? {} : { address }),
    volumes: summary.Mounts.flatMap((mount) =>
      mount.Type === 'volume' && mount.Name !== undefined ? [mount.Name] : [],
    ),
    unread: true,
  };
}

/** Docker says `restarting` only of containers with a restart policy, which ours never have. */
export function containerState(status: string): ContainerState {
  switch (status) {
    case 'created':
    case 'running':
    case 'paused':
    case 'exited':
    case 'dead':
    case 'removing':
      return status;
    default:
      return 'running';
  }
}

/** Docker writes year 1 for a time that has not come. */
function engineTime(text: string | undefined): number | undefined {
  if (text === undefined || text === '' || text.startsWith('0001-')) return undefined;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}
