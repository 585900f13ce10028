/**
 * A whole instance in a temporary home, as `npm start` makes it (without the example): for tests that kill processes, watch kubectl, or look into containers.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPortFree } from '../../cli/instance/addresses.ts';
import { kubeconfigFile, loadInstance, type Instance } from '../../cli/instance.ts';
import { runCommand, type CommandResult } from '../../cli/set-up/command.ts';
import { removeEverythingOf } from './docker-cleaning.ts';
import { pauseProcess } from './pausing.ts';
import { serverAddresses, type Teardown } from './servers.ts';

export interface StartReckonOptions {
  /** Absent: all. */
  readonly controllers?: readonly string[];
  readonly runtime?: 'docker' | 'simulated';
  /** Of the API server; absent: one. */
  readonly apiProcesses?: number;
  /** Applies the example, as `npm start` does; `start` then waits for its last line. */
  readonly hello?: boolean;
  readonly environment?: Readonly<Record<string, string>>;
}

export interface KubectlOptions {
  /** For `-f -`; anything but a string is sent as JSON. */
  readonly input?: unknown;
  readonly timeoutMs?: number;
}

export interface RunningReckon {
  readonly home: string;
  readonly instance: Instance;
  readonly kubeconfig: string;
  readonly dockerHost: string;
  /** What the terminal showed since the last start. */
  output(): string;
  /** Rejects, with what kubectl said, when it fails. */
  kubectl(words: string, options?: KubectlOptions): Promise<string>;
  /** The same without judging; words may be given one by one where they hold spaces. */
  tryKubectl(words: string | readonly string[], options?: KubectlOptions): Promise<CommandResult>;
  /** Undefined while it is down. */
  pid(name: string): Promise<number | undefined>;
  /** `supervisor`, `nats`, `postgres`, `api-server`, `projection`, `deployments`, … Resolves to the pid that got the signal; after a SIGSTOP when it stands. */
  kill(name: string, signal: NodeJS.Signals): Promise<number>;
  /** Waits until the process runs under another pid than this. */
  restarted(name: string, pid: number, timeoutMs?: number): Promise<void>;
  /** The names of the processes that run now. */
  processes(): Promise<readonly string[]>;
  logs(name: string): Promise<string>;
  /** Ctrl-C. The home stays, and so do the containers. */
  stop(): Promise<void>;
  /** Again, from the same home. */
  start(): Promise<void>;
}

const compiled = path.join(import.meta.dirname, '..', '..');
const startLimitMs = 150_000;
const stopLimitMs = 40_000;
const kubectlLimitMs = 60_000;
const pollMs = 50;
const keptOutput = 64 * 1024;

/** The test's end stops it and removes its home, containers, volumes, networks and nftables table. */
export async function startReckon(t: Teardown, options: StartReckonOptions = {}): Promise<RunningReckon> {
  const { kubectl, dockerHost: sharedEngine } = await serverAddresses();
  const dockerHost = options.environment?.['DOCKER_HOST'] ?? sharedEngine;
  const home = await mkdtemp(path.join(tmpdir(), 'reckon-home-'));
  const flags = [
    'start',
    ...(options.hello ? [] : ['--no-hello']),
    ...(await portFlags()),
    '--runtime',
    options.runtime ?? 'docker',
  ];
  if (options.apiProcesses !== undefined) flags.push('--api-processes', String(options.apiProcesses));
  if (options.controllers !== undefined) flags.push('--controllers', options.controllers.join(','));
  const supervisor = new SupervisorHandle(home, flags, options.environment ?? {});
  t.teardown(async () => {
    await supervisor.stop();
    const instance = await loadInstance(home).catch(() => undefined);
    if (instance !== undefined && options.runtime !== 'simulated') await removeEverythingOf(instance, dockerHost);
    await rm(home, { recursive: true, force: true });
  });
  const start = async (): Promise<void> => {
    await supervisor.start();
    if (options.hello) await supervisor.shows(/Ctrl-C stops Reckon|did not come up/, startLimitMs);
  };
  await start();
  const kubeconfig = kubeconfigFile(home, 'admin');
  const tryKubectl: RunningReckon['tryKubectl'] = (words, { input, timeoutMs = kubectlLimitMs } = {}) => {
    const args = typeof words === 'string' ? words.split(/\s+/).filter(Boolean) : words;
    const given = input === undefined ? {} : { input: typeof input === 'string' ? input : JSON.stringify(input) };
    // A cache of its own: kubectl keeps what it discovers by the server's address, and ports are used again.
    return runCommand(kubectl, ['--kubeconfig', kubeconfig, '--cache-dir', path.join(home, 'kubectl-cache'), ...args], {
      timeoutMs,
      ...given,
    });
  };
  return {
    home,
    instance: await loadInstance(home),
    kubeconfig,
    dockerHost,
    output: () => supervisor.said,
    tryKubectl,
    async kubectl(words, kubectlOptions) {
      const { code, stdout, stderr } = await tryKubectl(words, kubectlOptions);
      if (code !== 0) throw new Error(`kubectl ${words}: ${stderr}${stdout}`);
      return stdout;
    },
    pid: (name) => pidOf(home, name),
    async kill(name, signal) {
      const pid = await pidOf(home, name);
      if (pid === undefined) throw new Error(`${name} does not run`);
      if (signal === 'SIGSTOP') await pauseProcess(pid);
      else process.kill(pid, signal);
      return pid;
    },
    async restarted(name, before, timeoutMs = 60_000) {
      const untilMs = Date.now() + timeoutMs;
      for (;;) {
        const pid = await pidOf(home, name);
        if (pid !== undefined && pid !== before) return;
        if (Date.now() > untilMs) throw new Error(`${name} was not started again within ${timeoutMs} ms`);
        await sleep(pollMs);
      }
    },
    processes: () => runningProcesses(home),
    logs: (name) => readFile(path.join(home, 'logs', `${name}.log`), 'utf8').catch(() => ''),
    stop: () => supervisor.stop(),
    start,
  };
}

class SupervisorHandle {
  readonly #home: string;
  readonly #flags: readonly string[];
  readonly #environment: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;
  said = '';

  constructor(home: string, flags: readonly string[], environment: Readonly<Record<string, string>>) {
    this.#home = home;
    this.#flags = flags;
    this.#environment = environment;
  }

  async start(): Promise<void> {
    const { NATS_URL: _nats, DATABASE_URL: _database, npm_lifecycle_event: _npm, ...inherited } = process.env;
    const child = fork(path.join(compiled, 'cli', 'main.js'), this.#flags, {
      env: { ...inherited, ...this.#environment, RECKON_HOME: this.#home },
      execArgv: ['--enable-source-maps'],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      // The runner's Ctrl-C is not the instance's.
      detached: true,
    });
    this.#child = child;
    this.said = '';
    const hear = (chunk: Buffer): void => {
      this.said = (this.said + chunk.toString()).slice(-keptOutput);
      if (process.env['RECKON_TEST_LOG']) process.stderr.write(chunk);
    };
    child.stdout?.on('data', hear);
    child.stderr?.on('data', hear);
    const ready = new Promise<void>((resolve, reject) => {
      child.on('message', () => resolve());
      child.once('exit', () => reject(new Error(`the instance did not start: ${this.said}`)));
      setTimeout(() => reject(new Error(`the instance did not start in time: ${this.said}`)), startLimitMs).unref();
    });
    await ready;
  }

  async shows(pattern: RegExp, timeoutMs: number): Promise<void> {
    const untilMs = Date.now() + timeoutMs;
    while (!pattern.test(this.said)) {
      if (Date.now() > untilMs) throw new Error(`the instance did not show ${pattern} in time: ${this.said}`);
      await sleep(pollMs);
    }
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGINT');
    const impatience = setTimeout(() => child.kill('SIGKILL'), stopLimitMs);
    await exited;
    clearTimeout(impatience);
  }
}

async function pidOf(home: string, name: string): Promise<number | undefined> {
  const text = await readFile(path.join(home, 'run', `${name}.pid`), 'utf8').catch(() => '');
  return Number(text) || undefined;
}

async function runningProcesses(home: string): Promise<readonly string[]> {
  const text = await readFile(path.join(home, 'run', 'processes.json'), 'utf8');
  return Object.keys(JSON.parse(text) as Record<string, unknown>);
}

/** Ports of its own, so that instances of files that run side by side do not choose the same. */
async function portFlags(): Promise<readonly string[]> {
  const flags: string[] = [];
  for (const name of ['api', 'nats', 'postgres', 'agent']) {
    let port = 0;
    do port = randomInt(15_000, 24_000);
    while (flags.includes(String(port)) || !(await isPortFree(port)));
    flags.push(`--${name}-port`, String(port));
  }
  return flags;
}
