/**
 * Brings what this machine lacks, in order, saying each step in a line. `reckon start`, `reckon set-up` and the test run all begin with it; where nothing is
 * lacking it takes a fraction of a second.
 */
import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { busybox } from './busybox.ts';
import { dockerEngine, enginePackages, type DockerEngine } from './docker-engine.ts';
import { kubectl } from './kubectl.ts';
import { natsServer, type Program } from './nats-server.ts';
import { iproute, nftables } from './nftables.ts';
import { postgres, type PostgresPrograms } from './postgres.ts';
import { installPackages, isRoot } from './privilege.ts';
import { SetUpError, type Requirement, type SetUpContext } from './requirement.ts';

export interface SetUpOptions {
  readonly runtime: 'docker' | 'simulated';
  /** Whether the example's image will be built. */
  readonly hello: boolean;
  say(line: string): void;
}

/** What was found or brought. Absent: not needed, because NATS_URL or DATABASE_URL names another, or the runtime is simulated. */
export interface SetUp {
  readonly kubectl: Program;
  readonly natsServer?: Program;
  readonly postgres?: PostgresPrograms;
  readonly docker?: DockerEngine;
  readonly busybox?: string;
}

export async function setUp(options: SetUpOptions): Promise<SetUp> {
  const context: SetUpContext = { cacheFolder: cacheFolder(), say: (line) => options.say(`set-up: ${line}`) };
  await mkdir(context.cacheFolder, { recursive: true });
  const withDocker = options.runtime === 'docker';
  if (withDocker) await bringPackages(context);
  const found = {
    kubectl: await bring(kubectl, context),
    ...(process.env['NATS_URL'] ? {} : { natsServer: await bring(natsServer, context) }),
    ...(process.env['DATABASE_URL'] ? {} : { postgres: await bring(postgres, context) }),
  };
  if (!withDocker) return found;
  await bring(nftables, context);
  await bring(iproute, context);
  const docker = await bring(dockerEngine, context);
  return { ...found, docker, ...(options.hello ? { busybox: await bring(busybox, context) } : {}) };
}

/** All that root must install, in one go, so that at most one command has to be asked for. */
async function bringPackages(context: SetUpContext): Promise<void> {
  const missing = [...(await enginePackages())];
  for (const requirement of [nftables, iproute] as readonly Requirement<unknown>[]) {
    if ((await requirement.find(context)) === undefined) missing.push(...(requirement.packages ?? []));
  }
  if (missing.length === 0) return;
  try {
    await installPackages(missing, context.say);
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    throw new SetUpError(`${error.message}\n(\`--runtime simulated\` runs everything but containers, without these.)`, {
      cause: error,
    });
  }
}

/** Finds it, or brings it. Rejects with SetUpError. */
export async function bring<Found>(requirement: Requirement<Found>, context: SetUpContext): Promise<Found> {
  let found = await requirement.find(context);
  if (found === undefined && requirement.install !== undefined) {
    try {
      await requirement.install(context);
    } catch (error) {
      if (error instanceof SetUpError && error.message === requirement.otherwise) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new SetUpError(`${requirement.otherwise}\n(What was tried: ${reason})`, { cause: error });
    }
    found = await requirement.find(context);
  }
  if (found === undefined) throw new SetUpError(requirement.otherwise);
  context.say(`${requirement.name}: ${requirement.describe(found)}`);
  return found;
}

/** Root's is machine-wide, since the user that runs PostgreSQL must reach it too. */
export function cacheFolder(): string {
  if (process.env['RECKON_CACHE']) return path.resolve(process.env['RECKON_CACHE']);
  if (isRoot) return '/var/cache/reckon';
  return path.join(process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache'), 'reckon');
}
