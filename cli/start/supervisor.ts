/**
 * Keeps an instance's processes running and stops them in reverse order. `start.ts` hands it one tier after another: servers, API server, controllers.
 */
import type { LogView } from './log-view.ts';
import type { ProcessRecords } from './process-records.ts';
import { SupervisedProcess, type ProcessObserver, type ProcessSpec } from './supervised-process.ts';

export class Supervisor implements ProcessObserver {
  readonly #log: LogView;
  readonly #records: ProcessRecords;
  /** In the order of their start. */
  readonly #tiers: SupervisedProcess[][] = [];
  readonly #signal: AbortSignal;

  /** The signal ends waiting for what is being started. */
  constructor(log: LogView, records: ProcessRecords, signal: AbortSignal) {
    this.#log = log;
    this.#records = records;
    this.#signal = signal;
  }

  /** Starts processes side by side; resolves when all are ready. */
  async startTier(specs: readonly ProcessSpec[]): Promise<void> {
    const tier = specs.map((spec) => new SupervisedProcess(spec, this));
    this.#tiers.push(tier);
    await Promise.all(tier.map((process) => process.start(this.#signal)));
  }

  names(): readonly string[] {
    return this.#tiers.flat().map((process) => process.name);
  }

  async stop(): Promise<void> {
    for (const tier of this.#tiers.toReversed()) await Promise.all(tier.map((process) => process.stop()));
  }

  kill(): void {
    for (const process of this.#tiers.flat()) process.kill();
  }

  started(name: string, pid: number): void {
    this.#records.add(name, pid);
    this.#log.note('debug', 'started', { process: name, pid });
  }

  ended(name: string, how: string, again: { readonly inMs: number } | undefined): void {
    this.#records.remove(name);
    if (again === undefined) this.#log.note('debug', 'stopped', { process: name, how });
    else this.#log.note('warn', 'a process ended and is started again', { process: name, how, inMs: again.inMs });
  }

  output(name: string, line: string): void {
    this.#log.line(name, line);
  }
}
