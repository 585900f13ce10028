/**
 * `reckon start`, which is `npm start`: set-up, servers, migrations, API server, controllers, the example, and then the log until Ctrl-C. Started again, it finds everything as it is.
 */
import { readFile } from 'node:fs/promises';
import https from 'node:https';
import path from 'node:path';
import { migrate } from '../../state/migrate.ts';
import {
  adminIdentity,
  apiServerIdentity,
  databaseName,
  databaseUrl,
  homeFolder,
  issueIdentities,
  kubeconfigFile,
  loopback,
  openInstance,
  readTls,
  type Instance,
  type PortName,
} from '../instance.ts';
import { natsProcess } from '../servers/nats.ts';
import { postgresProcess, prepareCluster, type PostgresOptions } from '../servers/postgres.ts';
import { SetUpError } from '../set-up/requirement.ts';
import { setUp, type SetUp } from '../set-up/set-up.ts';
import { showHello } from './hello.ts';
import { LogView } from './log-view.ts';
import { ProcessRecords } from './process-records.ts';
import { withMetrics } from './metrics-targets.ts';
import { controllerNames, controllerSpecs, ownProcessSpec, projectionName } from './processes.ts';
import { PROMPT_RESTART, type ProcessSpec } from './supervised-process.ts';
import { Supervisor } from './supervisor.ts';
import { writePrograms } from './terminal-programs.ts';
import { untilStopped } from './until-stopped.ts';

export interface StartOptions {
  readonly runtime: 'docker' | 'simulated';
  readonly hello: boolean;
  readonly ports: Partial<Record<PortName, number>>;
  /** How many processes of the API server serve together. */
  readonly apiProcesses: number;
  /** `[HOST:]PORT` of the first process's metrics, the others' on the ports after it; undefined: nobody asks for them. */
  readonly metricsAddress: string | undefined;
  /** Which controllers (and `projection`); absent: all. */
  readonly controllers?: readonly string[];
}

/** Resolves with the exit code once everything has stopped. */
export async function start(options: StartOptions): Promise<number> {
  const startedMs = Date.now();
  const home = homeFolder();
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  const records = new ProcessRecords(home);
  const other = records.runningSupervisor();
  if (other !== undefined) {
    say(
      `Reckon already runs from ${home} (process ${other}). Stop it with Ctrl-C there, or give this one a home of its own: RECKON_HOME=… npm start`,
    );
    return 1;
  }
  const log = new LogView({
    folder: path.join(home, 'logs'),
    colour: process.stderr.isTTY === true && !process.env['NO_COLOR'],
    level: process.env['RECKON_LOG_LEVEL'] ?? 'info',
    write: (text) => void process.stderr.write(text),
  });
  const stopped = untilStopped(say, () => supervisor.kill());
  const supervisor = new Supervisor(log, records, stopped.signal);
  try {
    const found = await setUp({ runtime: options.runtime, hello: options.hello, say });
    const instance = await openInstance({ home, ports: options.ports });
    const programs = await writePrograms(home);
    const orphans = await records.takeOver();
    if (orphans.length > 0)
      log.note('warn', 'ended what a killed supervisor had left behind', { processes: orphans.join(', ') });
    await bringUp({ options, found, instance, supervisor });
    log.note('info', 'everything is started', {
      processes: supervisor.names().length,
      afterMs: Date.now() - startedMs,
    });
    process.send?.({ ready: true });
    if (options.hello) await showHello({ instance, found, runtime: options.runtime, say, signal: stopped.signal });
    else
      say(
        `\nReckon runs. kubeconfig: ${kubeconfigFile(home, adminIdentity)}    programs: ${programs}    Ctrl-C stops it.\n`,
      );
    await stopped.asked;
  } catch (error) {
    if (!stopped.signal.aborted) {
      say(`\nreckon: ${explain(error)}`);
      process.exitCode = 1;
    }
  }
  await supervisor.stop();
  records.end();
  await log.close();
  if (stopped.signal.aborted) say('Reckon has stopped. Containers run on; `npm start` finds them as they are.');
  return process.exitCode === undefined ? 0 : Number(process.exitCode);
}

interface BringUp {
  readonly options: StartOptions;
  readonly found: SetUp;
  readonly instance: Instance;
  readonly supervisor: Supervisor;
}

async function bringUp({ options, found, instance, supervisor }: BringUp): Promise<void> {
  const controllers = controllerNames();
  await issueIdentities(instance, controllers);
  await supervisor.startTier(await serverSpecs(instance, found));
  await migrate(databaseUrl(instance, 'owner'));
  const child = {
    instance,
    environment: {
      RECKON_RUNTIME: options.runtime,
      ...(found.docker === undefined ? {} : { DOCKER_HOST: found.docker.host }),
    },
  };
  const tls = await readTls(instance.home, adminIdentity);
  const apiServer = ownProcessSpec(
    apiServerIdentity,
    ['api-server', '--processes', String(options.apiProcesses)],
    child,
  );
  const { ports } = instance.settings;
  await supervisor.startTier([
    {
      ...apiServer,
      ports: [{ port: ports.api, host: loopback, what: 'the API server', flag: '--api-port' }],
      ready: () => isReady(ports.api, tls),
      restart: PROMPT_RESTART,
    },
  ]);
  const wanted = options.controllers ?? [projectionName, ...controllers];
  const specs = controllerSpecs(wanted, child).map((spec) =>
    spec.name === 'pods'
      ? { ...spec, ports: [{ port: ports.agent, host: loopback, what: 'the node agent', flag: '--agent-port' }] }
      : spec,
  );
  await supervisor.startTier(await withMetrics(specs, { instance, address: options.metricsAddress }));
}

/** The embedded ones: none where NATS_URL and DATABASE_URL name others. */
async function serverSpecs(instance: Instance, found: SetUp): Promise<readonly ProcessSpec[]> {
  const { home, settings, credentials } = instance;
  const specs: ProcessSpec[] = [];
  if (found.natsServer !== undefined) {
    specs.push(
      await natsProcess({
        program: found.natsServer.path,
        folder: path.join(home, 'nats'),
        host: loopback,
        port: settings.ports.nats,
        serverName: `reckon-${settings.clusterId}`,
        accounts: credentials.nats.seeds,
      }),
    );
  }
  if (found.postgres !== undefined) {
    const { superuser, owner, projection, agent, reader } = credentials.postgres;
    const options: PostgresOptions = {
      programs: found.postgres,
      folder: path.join(home, 'postgres'),
      host: loopback,
      port: settings.ports.postgres,
      superuser,
      roles: [owner, projection, agent, reader],
      database: databaseName,
    };
    await prepareCluster(options);
    specs.push(await postgresProcess(options));
  }
  return specs;
}

function isReady(port: number, tls: { ca: string; cert: string; key: string }): Promise<boolean> {
  return new Promise((resolve) => {
    const request = https.get(
      { host: loopback, port, path: '/readyz', ...tls, timeout: 2000, agent: false },
      (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      },
    );
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(false));
  });
}

/** A sentence for what a person can mend, a stack for what only we can. */
function explain(error: unknown): string {
  if (error instanceof SetUpError || !(error instanceof Error))
    return String(error instanceof Error ? error.message : error);
  return process.env['RECKON_LOG_LEVEL'] === 'debug' ? (error.stack ?? error.message) : error.message;
}

/** The version of this program. */
export async function programVersion(): Promise<string> {
  const file = path.join(import.meta.dirname, '..', '..', '..', 'package.json');
  return (JSON.parse(await readFile(file, 'utf8')) as { version: string }).version;
}
