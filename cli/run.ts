/**
 * `reckon run <controllers…>`: any set of controllers in one process. A controller is a folder of `controllers/`, or a module of the user's own, given as a path; it exports `controller`
 * (or a list `controllers`), which the SDK drives, or `start(context)` where it is more than a loop.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Logger } from 'pino';
import type { Controller } from '../sdk/controller.ts';
import { createLogger } from '../sdk/logger.ts';
import { METRICS_ADDRESS } from '../sdk/metrics-address.ts';
import { serveMetrics } from '../sdk/metrics-server.ts';
import { runControllers } from '../sdk/run.ts';
import { levelFromEnvironment } from './api-server.ts';
import {
  adminIdentity,
  databaseUrl,
  homeFolder,
  kubeconfigFile,
  loadInstance,
  natsUrl,
  readTls,
  type DatabaseRole,
  type Instance,
  type InstanceSettings,
  type TlsFiles,
} from './instance.ts';
import { controllerNames, isModule, projectionName } from './start/processes.ts';
import { runUntilTold, type Stoppable } from './until-told.ts';

/** What `start` is given. */
export interface ControllerContext {
  readonly name: string;
  readonly home: string;
  /** Path of a kubeconfig with the controller's own identity. */
  readonly kubeconfig: string;
  readonly natsUrl: string;
  readonly databaseUrl: string;
  readonly runtime: 'docker' | 'simulated';
  /** As DOCKER_HOST has it. */
  readonly dockerHost: string;
  readonly settings: InstanceSettings;
  readonly tls: TlsFiles;
  readonly logger: Logger;
}

interface ControllerModule {
  readonly controller?: Controller;
  readonly controllers?: readonly Controller[];
  start?(context: ControllerContext): Promise<Stoppable>;
}

/** These record what they observe on the node. */
const agentRole = new Set(['pods', 'nodes', 'volumes', 'services']);

export async function runNamed(
  names: readonly string[],
  { metricsAddress }: { readonly metricsAddress: string | undefined },
): Promise<void> {
  const instance = await loadInstance(homeFolder());
  const logger = createLogger({ name: names.join(','), ...levelFromEnvironment() });
  // Before anything is begun, so that a port that is taken is all that there is to tell. Controllers that are started below find it served.
  if (metricsAddress !== undefined) {
    process.env[METRICS_ADDRESS] = metricsAddress;
    await serveMetrics(metricsAddress);
  }
  const modules = await Promise.all(
    names.filter((name) => name !== projectionName).map((name) => load(name, instance)),
  );
  const running = await Promise.all([
    ...(names.includes(projectionName) ? [projection(instance, logger)] : []),
    ...modules.flatMap((loaded) => (loaded.module.start === undefined ? [] : [startOne(loaded, instance, logger)])),
    ...runTogether(
      modules.filter(({ module }) => module.start === undefined),
      instance,
      logger,
    ),
  ]);
  await runUntilTold({ stop: async () => void (await Promise.all(running.map((one) => one.stop()))) }, logger);
}

/** Brought along by nobody who does not run it: what speaks to PostgreSQL is half of what a process takes to start. */
const projection = async (instance: Instance, logger: Logger): Promise<Stoppable> =>
  (await import('./projection.ts')).startProjection(instance, logger);

interface Loaded {
  readonly name: string;
  readonly file: string;
  readonly module: ControllerModule;
  /** Whose certificate it writes with. */
  readonly identity: string;
  readonly kubeconfig: string;
}

async function load(name: string, instance: Instance): Promise<Loaded> {
  const file = modulePath(name);
  const module = (await import(pathToFileURL(file).href)) as ControllerModule;
  const identity = path.basename(path.dirname(file)) === name ? name : adminIdentity;
  return {
    name,
    file,
    module,
    identity,
    kubeconfig: process.env['RECKON_KUBECONFIG'] || kubeconfigFile(instance.home, identity),
  };
}

async function startOne(
  { name, module, identity, kubeconfig }: Loaded,
  instance: Instance,
  logger: Logger,
): Promise<Stoppable> {
  const role: DatabaseRole = agentRole.has(name) ? 'agent' : 'reader';
  const started = await module.start?.({
    name,
    home: instance.home,
    kubeconfig,
    natsUrl: natsUrl(instance, 'reader'),
    databaseUrl: databaseUrl(instance, role),
    runtime: process.env['RECKON_RUNTIME'] === 'simulated' ? 'simulated' : 'docker',
    dockerHost: process.env['DOCKER_HOST'] || 'unix:///var/run/docker.sock',
    settings: instance.settings,
    tls: await readTls(instance.home, identity),
    logger: logger.child({ controller: name }),
  });
  return started ?? { stop: async () => undefined };
}

/** All plain controllers of the process share one view of the log; each writes under its own name. */
function runTogether(modules: readonly Loaded[], instance: Instance, logger: Logger): Promise<Stoppable>[] {
  const kubeconfigs = new Map<string, string>();
  const controllers = modules.flatMap(({ file, module, kubeconfig }) => {
    const all = module.controllers ?? (module.controller === undefined ? [] : [module.controller]);
    if (all.length === 0) throw new Error(`${file} exports neither \`controller\` nor \`start\`.`);
    for (const controller of all) kubeconfigs.set(controller.name, kubeconfig);
    return all;
  });
  if (controllers.length === 0) return [];
  const kubeconfig = (name: string): string => kubeconfigs.get(name) ?? '';
  return [runControllers(controllers, { kubeconfig, natsUrl: natsUrl(instance, 'reader'), logger })];
}

function modulePath(name: string): string {
  if (isModule(name)) {
    const file = path.resolve(name);
    if (!existsSync(file)) throw new Error(`There is no ${file}.`);
    return file;
  }
  const file = path.join(import.meta.dirname, '..', 'controllers', name, 'index.js');
  if (!existsSync(file))
    throw new Error(`There is no controller ${name}. There are: ${[projectionName, ...controllerNames()].join(', ')}.`);
  return file;
}
