/** The process `reckon run pods`: the node agent, its Node, its record in PostgreSQL, and its server for logs and exec. */
import { existsSync, mkdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { ContainerRuntime } from '../../runtime/container-runtime.ts';
import { DockerRuntime } from '../../runtime/docker/docker-runtime.ts';
import { SimulatedRuntime } from '../../runtime/simulated/simulated-runtime.ts';
import type { Logger } from '../../sdk/logger.ts';
import { runControllers } from '../../sdk/run.ts';
import { openAgentState } from '../../state/runtime-state.ts';
import { NodeAgent } from './agent.ts';
import { nodeCapacity, NodeReport } from './node-report.ts';
import { persistentVolumesController } from './persistent-volumes.ts';
import { RuntimeRecorder } from './recorder.ts';
import { AgentServer } from './server/server.ts';

/** What the command line gives to a controller that is more than a loop. */
export interface AgentProcessContext {
  readonly home: string;
  readonly kubeconfig: string;
  readonly natsUrl: string;
  readonly databaseUrl: string;
  readonly runtime: 'docker' | 'simulated';
  /** As DOCKER_HOST has it. */
  readonly dockerHost: string;
  readonly settings: {
    readonly clusterId: string;
    readonly ports: { readonly agent: number };
    readonly podCidr: string;
    readonly nodeName: string;
    readonly dockerNetwork: string;
  };
  /** PEM. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly logger: Logger;
}

/** The release of Kubernetes whose behaviour this is. */
const VERSION = 'v1.32.0';
const ENGINE_RETRY_MS = 2_000;
/** So long what is under way may take to end when the process is told to stop. */
const STOP_GRACE_MS = 5_000;

export async function start(context: AgentProcessContext): Promise<{ stop(): Promise<void> }> {
  const { logger, settings, home } = context;
  if (!existsSync(home)) mkdirSync(home, { recursive: true, mode: 0o700 });
  const runtime: ContainerRuntime =
    context.runtime === 'simulated' ? new SimulatedRuntime() : dockerRuntime(context.dockerHost);
  const info = await engineInfo(runtime, logger);
  const resources = await nodeCapacity(info, home);
  const hostAddresses = [machineAddress()];
  const stopping = new AbortController();
  const agent = new NodeAgent({
    runtime,
    instance: settings.clusterId,
    nodeName: settings.nodeName,
    hostAddresses,
    home,
    network: settings.dockerNetwork,
    podCidr: settings.podCidr,
    allocatable: resources.allocatable,
    logger,
  });
  const running = await runControllers(
    [agent.controller, persistentVolumesController({ runtime, nodeName: settings.nodeName, news: agent.volumeNews })],
    {
      kubeconfig: context.kubeconfig,
      natsUrl: context.natsUrl,
      logger,
    },
  );
  await agent.started;
  const server = new AgentServer({ agent: agent.context, tls: context.tls, port: settings.ports.agent, logger });
  await server.listen();
  const state = openAgentState(context.databaseUrl, { applicationName: 'reckon pods' });
  new RuntimeRecorder(agent.context, state).start(stopping.signal);
  const report = new NodeReport({
    facts: {
      nodeName: settings.nodeName,
      hostAddresses,
      podCidr: settings.podCidr,
      agentPort: settings.ports.agent,
      home,
      version: VERSION,
    },
    info,
    resources,
    runtime,
    runtimeAvailable: () => agent.context.cache.available,
    client: running.client,
    world: running.world,
    state,
    logger,
    signal: stopping.signal,
  });
  agent.onAvailability = () => report.changed();
  await report.start();
  return {
    async stop() {
      stopping.abort();
      await server.close();
      await running.stop();
      await Promise.race([agent.idle(), new Promise((resolve) => setTimeout(resolve, STOP_GRACE_MS).unref())]);
      await state.close();
    },
  };
}

/** Other ways than a socket are dockerode's own to read, with their companions such as DOCKER_CERT_PATH. */
function dockerRuntime(dockerHost: string): DockerRuntime {
  return dockerHost.startsWith('unix://')
    ? new DockerRuntime({ socketPath: dockerHost.slice('unix://'.length) })
    : new DockerRuntime();
}

/** Waits for an engine: it may be starting as this does. */
async function engineInfo(
  runtime: ContainerRuntime,
  logger: Logger,
): Promise<Awaited<ReturnType<ContainerRuntime['info']>>> {
  for (let tries = 0; ; tries++) {
    try {
      return await runtime.info();
    } catch (error) {
      if (tries === 0) logger.warn({ err: error }, 'no container engine answers; waiting for one');
      await new Promise((resolve) => setTimeout(resolve, ENGINE_RETRY_MS));
    }
  }
}

/** By which others reach this machine; the loopback's where it has no other. */
function machineAddress(): string {
  const all = Object.entries(networkInterfaces()).flatMap(([name, list]) =>
    (list ?? []).map((entry) => ({ name, ...entry })),
  );
  const outside = all.find(
    ({ name, family, internal }) => family === 'IPv4' && !internal && !/^(docker|br-|veth|rk-)/.test(name),
  );
  return outside?.address ?? '127.0.0.1';
}
