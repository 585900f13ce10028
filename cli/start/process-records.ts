/**
 * Who runs for an instance: `run/<name>.pid` for people and scripts, and `run/processes.json` with each process' start time, by which the next start tells an orphan of a killed supervisor from a stranger that
 * got its number. The supervisor's own record is the instance's lock.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTimeOf } from '../../sdk/process-identity.ts';

interface ProcessRecord {
  readonly pid: number;
  /** Clock ticks since boot, as in /proc/<pid>/stat. */
  readonly startTime: string;
  readonly bootId: string;
}

const supervisor = 'supervisor';
const orphanGraceMs = 10_000;

export class ProcessRecords {
  readonly #folder: string;
  readonly #file: string;
  #records: Record<string, ProcessRecord>;

  constructor(home: string) {
    this.#folder = path.join(home, 'run');
    this.#file = path.join(this.#folder, 'processes.json');
    mkdirSync(this.#folder, { recursive: true });
    this.#records = readRecords(this.#file);
  }

  /** The pid of a supervisor that runs now. */
  runningSupervisor(): number | undefined {
    const record = this.#records[supervisor];
    return record !== undefined && record.pid !== process.pid && isAlive(record) ? record.pid : undefined;
  }

  /** Ends what a killed supervisor left behind, and takes its place. */
  async takeOver(): Promise<readonly string[]> {
    const orphans = Object.entries(this.#records).filter(([name, record]) => name !== supervisor && isAlive(record));
    for (const [, record] of orphans) signal(record.pid, 'SIGTERM');
    const untilMs = Date.now() + orphanGraceMs;
    while (orphans.some(([, record]) => isAlive(record))) {
      if (Date.now() > untilMs) for (const [, record] of orphans) if (isAlive(record)) signal(record.pid, 'SIGKILL');
      await sleep(50);
    }
    for (const name of Object.keys(this.#records)) rmSync(path.join(this.#folder, `${name}.pid`), { force: true });
    this.#records = {};
    this.add(supervisor, process.pid);
    return orphans.map(([name]) => name);
  }

  add(name: string, pid: number): void {
    this.#records = { ...this.#records, [name]: { pid, startTime: startTimeOf(pid) ?? '', bootId: bootId() } };
    writeFileSync(path.join(this.#folder, `${name}.pid`), `${pid}\n`);
    this.#save();
  }

  remove(name: string): void {
    const { [name]: _, ...rest } = this.#records;
    this.#records = rest;
    rmSync(path.join(this.#folder, `${name}.pid`), { force: true });
    this.#save();
  }

  end(): void {
    this.remove(supervisor);
  }

  #save(): void {
    writeFileSync(`${this.#file}.new`, JSON.stringify(this.#records));
    renameSync(`${this.#file}.new`, this.#file);
  }
}

function readRecords(file: string): Record<string, ProcessRecord> {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Record<string, ProcessRecord>;
  } catch {
    return {};
  }
}

function isAlive(record: ProcessRecord): boolean {
  return record.bootId === bootId() && startTimeOf(record.pid) === record.startTime;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Gone meanwhile.
  }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}
