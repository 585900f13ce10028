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
  readonly #stopping = new AbortController();

  constructor(log: LogView, records: ProcessRecords) {
    this.#log = log;
    this.#records = records;
  }

  /** Starts processes side by side; resolves when all are ready. */
  async startTier(specs: readonly ProcessSpec[]): Promise<void> {
    const tier = specs.map((spec) => new SupervisedProcess(spec, this));
    this.#tiers.push(tier);
    await Promise.all(tier.map((process) => process.start(this.#stopping.signal)));
  }

  names(): readonly string[] {
    return this.#tiers.flat().map((process) => process.name);
  }

  pidOf(name: string): number | undefined {
    return this.#tiers.flat().find((process) => process.name === name)?.pid;
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('stopping'));
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
