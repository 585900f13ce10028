/**
 * One child process that is kept running: started, watched, started again with back-off when it dies, stopped cleanly. The supervisor has one for each server and
 * each process of ours.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPortFree } from '../instance/addresses.ts';

export interface ProcessSpec {
  /** `nats`, `api-server`, `deployments`; its log and pid files bear it. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly runAs?: { readonly uid: number; readonly gid: number };
  readonly stopSignal: 'SIGTERM' | 'SIGINT';
  /** A channel to a process of ours: when it closes, the supervisor is gone and the child ends itself. */
  readonly channel?: boolean;
  /** Checked before the first start, so that a taken port is named instead of a crash being shown. */
  readonly ports?: readonly PortUse[];
  /** Absent: running is ready enough. */
  readonly ready?: () => Promise<boolean>;
  readonly readyTimeoutMs?: number;
  readonly restart?: RestartPolicy;
}

/** A process that ends is started again after 100 ms, then twice as long each time. */
export interface RestartPolicy {
  /** The longest that it waits. */
  readonly lastBackoffMs: number;
  /** Having run this long, it begins again with the shortest back-off. */
  readonly settledMs: number;
}

/** For what everything else waits for: the servers and the API server. */
export const PROMPT_RESTART: RestartPolicy = { lastBackoffMs: 1_000, settledMs: 10_000 };
const PATIENT_RESTART: RestartPolicy = { lastBackoffMs: 5_000, settledMs: 20_000 };

export interface PortUse {
  readonly port: number;
  readonly host: string;
  /** As a person calls it. */
  readonly what: string;
  /** By which it can be moved. */
  readonly flag: string;
}

export interface ProcessObserver {
  started(name: string, pid: number): void;
  ended(name: string, how: string, again: { readonly inMs: number } | undefined): void;
  output(name: string, line: string): void;
}

const firstBackoffMs = 100;
/** So many deaths before it was ever ready are not bad luck. */
const hopelessFailures = 4;
const readyPollMs = 50;
const defaultReadyTimeoutMs = 60_000;
const stopGraceMs = 15_000;
/** A line longer than this is cut into several. */
const maxLineLength = 64 * 1024;

export class SupervisedProcess {
  readonly name: string;
  readonly #spec: ProcessSpec;
  readonly #observer: ProcessObserver;
  #child: ChildProcess | undefined;
  #startedMs = 0;
  #failures = 0;
  #restart: NodeJS.Timeout | undefined;
  #stopping = false;
  /** What it said first since it was last launched: where it dies at once, that tells why. */
  #firstLine = '';
  #exited: Promise<void> = Promise.resolve();

  constructor(spec: ProcessSpec, observer: ProcessObserver) {
    this.name = spec.name;
    this.#spec = spec;
    this.#observer = observer;
  }

  /** Resolves when it is ready; rejects with a sentence when a port is taken or it does not get ready in time. */
  async start(signal: AbortSignal): Promise<void> {
    await this.#refuseTakenPorts();
    this.#launch();
    const { ready, readyTimeoutMs = defaultReadyTimeoutMs } = this.#spec;
    if (ready === undefined) return;
    const untilMs = Date.now() + readyTimeoutMs;
    while (!(await ready())) {
      signal.throwIfAborted();
      if (this.#failures >= hopelessFailures)
        throw new Error(`${this.name} does not start: ${this.#firstLine || 'it says nothing'}`);
      if (Date.now() > untilMs)
        throw new Error(
          `${this.name} did not get ready within ${Math.round(readyTimeoutMs / 1000)} s; its log tells why.`,
        );
      await sleep(readyPollMs);
    }
  }

  /** Asks it to end, and ends it if it does not. Resolves when it is gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restart);
    const child = this.#child;
    if (child === undefined) return;
    child.kill(this.#spec.stopSignal);
    const impatience = setTimeout(() => child.kill('SIGKILL'), stopGraceMs);
    await this.#exited;
    clearTimeout(impatience);
  }

  /** At once, with no chance to tidy up. */
  kill(): void {
    this.#stopping = true;
    clearTimeout(this.#restart);
    this.#child?.kill('SIGKILL');
  }

  async #refuseTakenPorts(): Promise<void> {
    for (const { port, host, what, flag } of this.#spec.ports ?? []) {
      if (await isPortFree(port, host)) continue;
      throw new Error(
        `Port ${port} of ${host}, where ${what} should listen, is taken by another program: stop that, or choose another port with ${flag}.`,
      );
    }
  }

  #launch(): void {
    const { command, args, cwd, environment, runAs, channel } = this.#spec;
    this.#startedMs = Date.now();
    this.#firstLine = '';
    const child = spawn(command, args, {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe', ...(channel ? (['ipc'] as const) : [])],
      // In a group of its own: Ctrl-C is for the supervisor, which stops the children in order.
      detached: true,
      ...(cwd === undefined ? {} : { cwd }),
      ...(runAs ?? {}),
    });
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      let done = false;
      const end = (how: string): void => {
        if (done) return;
        done = true;
        this.#child = undefined;
        resolve();
        this.#afterEnd(how);
      };
      child.once('error', (error) => end(error.message));
      child.once('exit', (code, signal) => end(signal === null ? `exit code ${code}` : `signal ${signal}`));
    });
    if (child.pid !== undefined) this.#observer.started(this.name, child.pid);
    for (const stream of [child.stdout, child.stderr]) this.#readLines(stream);
  }

  #readLines(stream: NodeJS.ReadableStream | null): void {
    let rest = '';
    stream?.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > maxLineLength) {
        lines.push(rest);
        rest = '';
      }
      for (const line of lines) if (line.trim() !== '') this.#hear(line);
    });
    stream?.on('error', () => undefined);
  }

  #hear(line: string): void {
    this.#firstLine ||= line.slice(0, 500);
    this.#observer.output(this.name, line);
  }

  #afterEnd(how: string): void {
    if (this.#stopping) return this.#observer.ended(this.name, how, undefined);
    const { lastBackoffMs, settledMs } = this.#spec.restart ?? PATIENT_RESTART;
    if (Date.now() - this.#startedMs > settledMs) this.#failures = 0;
    const inMs = Math.min(lastBackoffMs, firstBackoffMs * 2 ** this.#failures);
    this.#failures++;
    this.#observer.ended(this.name, how, { inMs });
    this.#restart = setTimeout(() => this.#launch(), inMs);
  }
}
