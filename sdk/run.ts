/**
 * Runs controllers: connects to the event log and the API server, follows what the controllers follow, waits to lead, and drives each. The built-in processes and custom controllers start
 * here and nowhere else.
 */
import { setMaxListeners } from 'node:events';
import { openLogReader } from '../event-log/jetstream.ts';
import type { FollowerReport, LogReader } from '../event-log/event-log.ts';
import type { Client } from './client.ts';
import { type AnyController, ControllerLoop, type ControllerLoopOptions } from './controller-loop.ts';
import type { ResourceRef } from './controller.ts';
import { EventRecorder } from './events.ts';
import { HttpClient } from './http-client.ts';
import { type ApiAccess, readKubeconfig } from './kubeconfig.ts';
import { KUBERNETES_LEASE_TIMES, Leader, type LeaseTimes } from './leader.ts';
import { isEphemeral, LogWorld } from './log-world.ts';
import { createLogger, type Logger } from './logger.ts';
import { countRequest, meterPlace, setLeading } from './metrics.ts';
import { METRICS_ADDRESS } from './metrics-address.ts';
import { serveMetrics } from './metrics-server.ts';
import { processIdentity } from './process-identity.ts';

export interface RunOptions {
  /**
   * Path of the kubeconfig with the identity that these controllers write as, or one for each controller by its name: then every one writes under its own while they share one view of the
   * log. Default: RECKON_KUBECONFIG, then KUBECONFIG.
   */
  readonly kubeconfig?: string | ((controller: string) => string);
  /** Where the event log is, with the user to read it as. Default: NATS_URL. */
  readonly natsUrl?: string;
  /** Prefix of streams and subjects. Default `reckon`. */
  readonly streamPrefix?: string;
  readonly logger?: Logger;
  /** Whether one replica leads. Default true; controllers of scope `node` never elect. */
  readonly leaderElection?: boolean;
  /** Names this replica in Leases. Default: the machine, boot and process. */
  readonly identity?: string;
  readonly leaseTimes?: LeaseTimes;
  /** `[HOST:]PORT` at which this process serves its metrics to Prometheus. Default: RECKON_METRICS_ADDRESS; without either it opens no port. */
  readonly metricsAddress?: string;
  /** Already open, in place of what the addresses above name. */
  readonly access?: ApiAccess;
  readonly logs?: OpenLogs;
}

export interface OpenLogs {
  readonly main: LogReader;
  readonly ephemeral?: LogReader;
  close?(): Promise<void>;
}

export interface RunningControllers {
  /** Lets what runs end (bounded), releases the Leases, closes the connections. */
  stop(): Promise<void>;
  readonly world: LogWorld;
  readonly client: Client;
  /** The names of the controllers that lead now. */
  leading(): readonly string[];
  /** Where this process serves its metrics; undefined where it does not. */
  readonly metricsPort: number | undefined;
}

const DRAIN_EVENTS_MS = 2_000;

/** Resolves once the log's present has been read; from then on it runs until stopped. Rejects when the log cannot be opened. */
export async function runControllers(
  controllers: readonly AnyController[],
  options: RunOptions = {},
): Promise<RunningControllers> {
  const names = controllers.map((controller) => controller.name);
  const logger = options.logger ?? createLogger({ name: names.join(',') });
  const metricsAddress = options.metricsAddress ?? process.env[METRICS_ADDRESS];
  const metrics = metricsAddress ? await serveMetrics(metricsAddress) : undefined;
  const clients = new Map(names.map((name) => [name, openClient(name, options)]));
  const [client] = clients.values();
  if (!client) throw new Error('there is no controller to run');
  const resources = followedBy(controllers);
  const logs = options.logs ?? (await openLogs(resources, options, logger));
  const identity = options.identity ?? processIdentity();
  const follower = { names, process: identity };
  const world = new LogWorld({ log: logs.main, ephemeralLog: logs.ephemeral, resources, follower, logger });
  const driven = new Map<string, Driven>();
  const answering = resources.every(isEphemeral)
    ? undefined
    : logs.main.answerFollowers(identity, () =>
        controllers.map((each) => reportOf(each.name, world.position, driven.get(each.name))),
      );
  const followsLog = !resources.every(isEphemeral);
  const forget = meterPlace({
    controllers: names,
    position: () => (followsLog ? world.position : undefined),
    lag: async () => (followsLog ? Math.max(0, (await logs.main.lastSequence()) - world.position) : undefined),
  });
  await world.filled();
  logger.info({ controllers: names, position: world.position }, 'following the log');
  const stopping = new AbortController();
  // Each controller of the process waits for it.
  setMaxListeners(0, stopping.signal);
  const recorders: EventRecorder[] = [];
  const running = controllers.map((controller) => {
    const own = clients.get(controller.name) ?? client;
    const log = logger.child({ controller: controller.name });
    const recorder = new EventRecorder(own, log);
    recorders.push(recorder);
    return runOne({
      controller,
      world,
      client: own,
      recorder,
      logger: log,
      stopping: stopping.signal,
      driven,
      identity,
      options,
    });
  });
  const stop = async (): Promise<void> => {
    stopping.abort();
    await Promise.all(running);
    const drained = Promise.all(recorders.map((recorder) => recorder.drain()));
    await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, DRAIN_EVENTS_MS).unref())]);
    answering?.();
    forget();
    await world.close();
    await logs.close?.();
    for (const each of clients.values()) each.close();
    await metrics?.close();
    logger.info({ controllers: names }, 'stopped');
  };
  let stopped: Promise<void> | undefined;
  return {
    stop: () => (stopped ??= stop()),
    world,
    client,
    leading: () => [...driven.keys()],
    metricsPort: metrics?.port,
  };
}

interface OneController extends Omit<ControllerLoopOptions, 'mayAct' | 'leaseLeftMs' | 'signal'> {
  readonly stopping: AbortSignal;
  /** Those that act now, by their names. */
  readonly driven: Map<string, Driven>;
  /** Of the process: the holder of its Leases. */
  readonly identity: string;
  readonly options: RunOptions;
}

interface Driven {
  readonly loop: ControllerLoop;
  /** Absent where every replica acts. */
  readonly leader: Leader | undefined;
}

/** What a controller of this process tells whoever asks how far it is. */
function reportOf(name: string, seen: number, driven: Driven | undefined): FollowerReport {
  // One that was paused may find out only by its clock that it leads no more.
  if (!driven || driven.leader?.mayAct() === false) return { name, role: 'standby', seen };
  return { name, ...(driven.leader && { role: 'leads' }), seen, ...driven.loop.progress() };
}

/** Ends once the stop has been asked for and what ran has ended. */
async function runOne(one: OneController): Promise<void> {
  const { controller, client, world, recorder, logger, stopping, driven, identity, options } = one;
  const drive = async (signal: AbortSignal, leader?: Leader): Promise<void> => {
    // Only the stop is gentle: where the lead is lost, everything ends at once.
    const lost = new AbortController();
    const loop = new ControllerLoop({
      controller,
      world,
      client,
      recorder,
      logger,
      mayAct: () => leader?.mayAct() ?? true,
      leaseLeftMs: leader && (() => leader.leaseLeftMs()),
      lease: leader && { name: controller.name, holder: identity },
      signal: lost.signal,
    });
    driven.set(controller.name, { loop, leader });
    await controller.start?.({ client, world, enqueue: (key) => loop.enqueue(key), signal });
    loop.start();
    await ended(signal);
    if (!stopping.aborted) lost.abort();
    await loop.stop();
    driven.delete(controller.name);
  };
  if (options.leaderElection === false || controller.scope === 'node') return drive(stopping);
  const times = options.leaseTimes ?? KUBERNETES_LEASE_TIMES;
  const leader = new Leader({ name: controller.name, identity, client, logger, times });
  setLeading(controller.name, false);
  return leader.run(stopping, async (signal) => {
    setLeading(controller.name, true);
    await drive(signal, leader).finally(() => setLeading(controller.name, false));
  });
}

function openClient(controller: string, options: RunOptions): HttpClient {
  return new HttpClient({
    access: options.access ?? readKubeconfig(kubeconfigPath(controller, options)),
    userAgent: `reckon-controller/${controller}`,
    onEnd: countRequest,
  });
}

function kubeconfigPath(controller: string, options: RunOptions): string {
  const named = typeof options.kubeconfig === 'function' ? options.kubeconfig(controller) : options.kubeconfig;
  const path = named ?? process.env['RECKON_KUBECONFIG'] ?? process.env['KUBECONFIG'];
  if (!path) throw new Error('no kubeconfig: pass `kubeconfig`, or set RECKON_KUBECONFIG');
  return path;
}

function followedBy(controllers: readonly AnyController[]): ResourceRef[] {
  return controllers.flatMap((controller) => [
    controller.resource,
    ...controller.watches.map((watch) => watch.resource),
  ]);
}

async function openLogs(resources: readonly ResourceRef[], options: RunOptions, logger: Logger): Promise<OpenLogs> {
  const url = options.natsUrl ?? process.env['NATS_URL'];
  if (!url) throw new Error('no event log: pass `natsUrl`, or set NATS_URL');
  const settings = {
    url,
    logger,
    clientName: `reckon ${resources.map(({ resource }) => resource).join(',')}`.slice(0, 100),
    ...(options.streamPrefix && { prefix: options.streamPrefix }),
  };
  const main = await openLogReader({ ...settings, stream: 'log' });
  if (!resources.some(isEphemeral)) return { main, close: () => main.close() };
  const ephemeral = await openLogReader({ ...settings, stream: 'ephemeral' });
  return { main, ephemeral, close: async () => void (await Promise.all([main.close(), ephemeral.close()])) };
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
