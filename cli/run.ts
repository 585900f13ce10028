/**
 * `reckon run <controllers…>`: any set of controllers in one process. A controller is a folder of `controllers/`, or a module of the user's own, given as a path; it exports `controller`
 * (or a list `controllers`), which the SDK drives, or `start(context)` where it is more than a loop.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Logger } from 'pino';
import { openLogReader } from '../event-log/jetstream.ts';
import type { Controller } from '../sdk/controller.ts';
import { createLogger } from '../sdk/logger.ts';
import { runControllers } from '../sdk/run.ts';
import { runProjection } from '../state/projection.ts';
import { levelFromEnvironment } from './api-server.ts';
import {
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
import { controllerNames, projectionName } from './start/processes.ts';
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

export async function runNamed(names: readonly string[]): Promise<void> {
  const instance = await loadInstance(homeFolder());
  const logger = createLogger({ name: names.join(','), ...levelFromEnvironment() });
  const running = await Promise.all(names.map((name) => runOne(name, instance, logger)));
  await runUntilTold({ stop: async () => void (await Promise.all(running.map((one) => one.stop()))) }, logger);
}

async function runOne(name: string, instance: Instance, parent: Logger): Promise<Stoppable> {
  if (name === projectionName) return startProjection(instance, parent);
  const file = modulePath(name);
  const module = (await import(pathToFileURL(file).href)) as ControllerModule;
  const identity = path.basename(path.dirname(file)) === name ? name : 'admin';
  const logger = parent.child({ controller: name });
  const kubeconfig = process.env['RECKON_KUBECONFIG'] || kubeconfigFile(instance.home, identity);
  const url = natsUrl(instance, 'reader');
  if (module.start !== undefined) {
    const role: DatabaseRole = agentRole.has(name) ? 'agent' : 'reader';
    return module.start({
      name,
      home: instance.home,
      kubeconfig,
      natsUrl: url,
      databaseUrl: databaseUrl(instance, role),
      runtime: process.env['RECKON_RUNTIME'] === 'simulated' ? 'simulated' : 'docker',
      dockerHost: process.env['DOCKER_HOST'] || 'unix:///var/run/docker.sock',
      settings: instance.settings,
      tls: await readTls(instance.home, identity),
      logger,
    });
  }
  const controllers = module.controllers ?? (module.controller === undefined ? [] : [module.controller]);
  if (controllers.length === 0) throw new Error(`${file} exports neither \`controller\` nor \`start\`.`);
  return runControllers(controllers, { kubeconfig, natsUrl: url, logger });
}

function modulePath(name: string): string {
  if (/[./\\]/.test(name)) {
    const file = path.resolve(name);
    if (!existsSync(file)) throw new Error(`There is no ${file}.`);
    return file;
  }
  const file = path.join(import.meta.dirname, '..', 'controllers', name, 'index.js');
  if (!existsSync(file))
    throw new Error(`There is no controller ${name}. There are: ${[projectionName, ...controllerNames()].join(', ')}.`);
  return file;
}

async function startProjection(instance: Instance, parent: Logger): Promise<Stoppable> {
  const logger = parent.child({ controller: projectionName });
  const log = await openLogReader({
    url: natsUrl(instance, 'reader'),
    stream: 'log',
    logger,
    clientName: 'reckon projection',
  });
  const ending = new AbortController();
  const running = runProjection({
    databaseUrl: databaseUrl(instance, 'projection'),
    log,
    signal: ending.signal,
    logger,
  });
  return {
    async stop() {
      ending.abort();
      await running;
      await log.close();
    },
  };
}
