#!/usr/bin/env node
/** The `reckon` command: reads the words, and hands over to one file a verb. */
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import type { PortName } from './instance.ts';
import { SetUpError } from './set-up/requirement.ts';
import { METRICS_ADDRESS } from '../sdk/metrics-address.ts';

const help = (
  verbs: readonly string[],
  examples: readonly string[],
): string => `reckon: a Kubernetes-style declarative reconciler built on an event log

Usage
  reckon start [flags]              set up, run everything, apply the example, show the log until Ctrl-C
  reckon run <controllers...>       run these controllers in one process (also: projection, or a path to a module of yours)
  reckon api-server                 run an API server
  reckon projection rebuild         make the projection anew from the log
  reckon set-up                     bring what this machine lacks, and nothing more
  reckon sql "<statement>"          ask the cluster and its history in SQL (docs/sql.md)
  reckon tenant create|list|delete  logins to the database that see some namespaces and nothing else
  reckon token-key list|rotate|retire   the keys that sign tokens of service accounts
  reckon completion bash|zsh|fish   completion for your shell: source <(reckon completion bash)
  reckon version                    print the version
  reckon help                       print this

Asking the API server, each with --help
${verbs.join('\n')}

Flags of start
  --runtime docker|simulated        simulated runs no containers and needs no Docker         (default docker)
  --no-hello                        leave the example out
  --controllers a,b                 only these (and projection, if named)                    (default all)
  --api-port, --nats-port, --postgres-port, --agent-port <number>
                                    instead of what was chosen at the first start; kept
  --api-processes <number>          so many processes of the API server serve together       (default 1)
  --metrics [host:]port             each process of controllers serves its metrics, at this port and those after it
Flags of run
  --metrics [host:]port             serve this process's metrics (docs/operating.md)         (default RECKON_METRICS_ADDRESS)
Flags of api-server
  --port <number>  --host <address>
  --processes <number>              so many serve that address together, for machines with more cores (default 1)

Environment
  RECKON_HOME       where the instance lives                                                 (default .reckon)
  NATS_URL, DATABASE_URL, DOCKER_HOST   use these instead of what Reckon would start
  NATS_REPLICAS                         on how many servers of a NATS cluster the log stands
  NATS_READER_URL                       the same NATS, with the login of those who only follow the log
  RECKON_MAX_TRANSACTION   members of a transaction that the server at NATS_URL takes        (default 1000)
  RECKON_LOG_LEVEL  debug, info, warn or error                                               (default info)

Examples
  npm start                                         everything, on this machine
  npm start -- --runtime simulated --no-hello       without containers
  RECKON_HOME=/tmp/second npm start                 a second instance beside the first
  reckon run deployments replicasets                two controllers, in a process of their own
${examples.map((line) => `  ${line}`).join('\n')}
`;

const portFlags: Record<string, PortName> = {
  'api-port': 'api',
  'nats-port': 'nats',
  'postgres-port': 'postgres',
  'agent-port': 'agent',
};

/** The words were not understood; the message says which. */
class UsageError extends Error {
  override readonly name = 'UsageError';
}

async function main(words: readonly string[]): Promise<number> {
  const [command = 'help', ...rest] = words;
  switch (command) {
    case 'start':
      return startCommand(rest);
    case 'run': {
      const { positionals, values } = parse(rest, { metrics: { type: 'string' } });
      if (positionals.length === 0)
        throw new UsageError('`reckon run` wants at least one controller, such as `reckon run deployments`.');
      const { runNamed } = await import('./run.ts');
      await runNamed(positionals, { metricsAddress: metricsAddress(values['metrics']) });
      return 0;
    }
    case 'api-server': {
      const { values } = parse(rest, {
        port: { type: 'string' },
        host: { type: 'string' },
        processes: { type: 'string' },
      });
      const { runApiServer } = await import('./api-server.ts');
      await runApiServer({
        ...(values['port'] === undefined ? {} : { port: portNumber('port', values['port']) }),
        ...(values['host'] === undefined ? {} : { host: String(values['host']) }),
        processes: processCount('processes', values['processes']),
      });
      return 0;
    }
    case 'projection': {
      if (rest.join(' ') !== 'rebuild') throw new UsageError('There is `reckon projection rebuild`.');
      const { rebuild } = await import('./projection.ts');
      await rebuild();
      return 0;
    }
    case 'sql': {
      const { sqlCommand } = await import('./sql.ts');
      return sqlCommand(rest);
    }
    case 'tenant': {
      const { tenantCommand } = await import('./tenant.ts');
      return tenantCommand(rest);
    }
    case 'token-key': {
      const { tokenKeyCommand } = await import('./token-key.ts');
      return tokenKeyCommand(rest);
    }
    case 'set-up': {
      const { values } = parse(rest, { runtime: { type: 'string' } });
      const { setUp } = await import('./set-up/set-up.ts');
      await setUp({
        runtime: runtimeOf(values['runtime']),
        hello: true,
        say: (line) => void process.stderr.write(`${line}\n`),
      });
      return 0;
    }
    case 'version':
    case '--version': {
      const { programVersion } = await import('./start/start.ts');
      process.stdout.write(`reckon ${await programVersion()}\n`);
      return 0;
    }
    case 'help':
    case '--help':
    case '-h':
      return helpCommand();
    case '__complete': {
      const { complete } = await import('./verbs/index.ts');
      await complete(rest, COMMANDS);
      return 0;
    }
    case 'completion': {
      const { completionScript, SHELLS } = await import('./verbs/completion.ts');
      const script = completionScript(rest[0]);
      if (script === undefined || rest.length > 1)
        throw new UsageError(`\`reckon completion\` wants a shell: ${SHELLS.join(', ')}.`);
      process.stdout.write(script);
      return 0;
    }
    default: {
      const { ask, isVerb } = await import('./verbs/index.ts');
      if (isVerb(command)) return ask(command, rest);
      throw new UsageError(`There is no command \`${command}\`.`);
    }
  }
}

/** Beside the verbs that ask the API server. */
const COMMANDS = [
  'start',
  'run',
  'api-server',
  'projection',
  'set-up',
  'sql',
  'tenant',
  'token-key',
  'completion',
  'version',
  'help',
];

async function helpCommand(): Promise<number> {
  const { verbExamples, verbLines } = await import('./verbs/index.ts');
  process.stdout.write(help(verbLines(), verbExamples()));
  return 0;
}

async function startCommand(words: readonly string[]): Promise<number> {
  const { values } = parse(words, {
    runtime: { type: 'string' },
    'no-hello': { type: 'boolean' },
    controllers: { type: 'string' },
    'api-port': { type: 'string' },
    'nats-port': { type: 'string' },
    'postgres-port': { type: 'string' },
    'agent-port': { type: 'string' },
    'api-processes': { type: 'string' },
    metrics: { type: 'string' },
  });
  const ports: Partial<Record<PortName, number>> = {};
  for (const [flag, name] of Object.entries(portFlags)) {
    if (values[flag] !== undefined) ports[name] = portNumber(flag, values[flag]);
  }
  const { start } = await import('./start/start.ts');
  return start({
    runtime: runtimeOf(values['runtime']),
    hello: values['no-hello'] !== true,
    ports,
    apiProcesses: processCount('api-processes', values['api-processes']),
    metricsAddress: metricsAddress(values['metrics']),
    ...(values['controllers'] === undefined
      ? {}
      : { controllers: String(values['controllers']).split(',').filter(Boolean) }),
  });
}

/** Of the API server, on one address. */
const MAX_WORKERS = 64;

type Flags = Record<string, { type: 'string' | 'boolean' }>;

function parse(words: readonly string[], flags: Flags): { values: Record<string, unknown>; positionals: string[] } {
  try {
    return parseArgs({ args: [...words], options: flags, allowPositionals: true, strict: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function portNumber(flag: string, value: unknown): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1 || number > 65535)
    throw new UsageError(`--${flag} wants a port from 1 to 65535, not '${String(value)}'.`);
  return number;
}

function processCount(flag: string, value: unknown = 1): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1 || number > MAX_WORKERS)
    throw new UsageError(`--${flag} wants a number from 1 to ${MAX_WORKERS}, not '${String(value)}'.`);
  return number;
}

/** Undefined: nobody asks for metrics. */
function metricsAddress(flag: unknown): string | undefined {
  return (typeof flag === 'string' && flag) || process.env[METRICS_ADDRESS] || undefined;
}

function runtimeOf(value: unknown): 'docker' | 'simulated' {
  if (value === undefined || value === 'docker') return 'docker';
  if (value === 'simulated') return 'simulated';
  throw new UsageError(`--runtime is docker or simulated, not '${String(value)}'.`);
}

/** One line, as everything else that a child writes. */
function reportToSupervisor(error: unknown): void {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  process.stderr.write(`${JSON.stringify({ level: 'error', time: new Date().toISOString(), msg: message, stack })}\n`);
}

process.setSourceMapsEnabled(true);
// Most of what our processes run, they run a few hundred times in a while: V8 spends more on optimizing it than that ever gives back. Optimizing seven times later than by default takes 15 % of the processor time off a rollout; what a
// loaded server runs is optimized all the same.
setFlagsFromString('--interrupt-budget=500000');
try {
  process.exitCode = await main(process.argv.slice(2));
  // What is done is done: an idle connection must not hold the process.
  process.exit();
} catch (error) {
  if (process.channel) reportToSupervisor(error);
  else if (error instanceof UsageError) process.stderr.write(`reckon: ${error.message} \`reckon help\` tells more.\n`);
  else if (error instanceof SetUpError) process.stderr.write(`\nreckon: ${error.message}\n`);
  else process.stderr.write(`reckon: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
}
