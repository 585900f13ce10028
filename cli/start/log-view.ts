/**
 * The log of an instance: every line of every process goes as it is to `logs/<process>.log`, and, made readable, to the terminal: `time process message key=value`. The processes write pino's JSON lines;
 * anything else is shown as it came.
 */
import { createWriteStream, renameSync, statSync, type WriteStream } from 'node:fs';
import path from 'node:path';

export interface LogViewOptions {
  readonly folder: string;
  readonly colour: boolean;
  /** The least level that is shown on the terminal: `debug`, `info`, `warn`, `error`. */
  readonly level: string;
  readonly write: (text: string) => void;
}

type Level = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal';

const ranks: Record<Level, number> = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60 };
const maxFileBytes = 20 * 1024 * 1024;
const maxValueLength = 240;
const nameWidth = 16;
/** Kept in the file; on the terminal they would hide the rest. */
const hidden = new Set([
  'level',
  'time',
  'msg',
  'pid',
  'hostname',
  'name',
  'v',
  'stack',
  'controller',
  'controllers',
  'causes',
  'identity',
  'lease',
  'tookMs',
  'position',
]);
/** What every start and stop brings, and every few seconds: shown on the terminal only at `debug`. */
const routineMessages = new Set(['following the log', 'leading', 'stopped leading', 'stopped', 'created the stream']);
const routineActions = new Set(['run-probe', 'prepare-volumes']);

const paint = { dim: '2', red: '31', yellow: '33', bold: '1' } as const;
const nameColours = ['36', '32', '35', '34', '96', '92', '95', '94'];

export class LogView {
  readonly #options: LogViewOptions;
  readonly #files = new Map<string, { stream: WriteStream; bytes: number }>();
  readonly #least: number;

  constructor(options: LogViewOptions) {
    this.#options = options;
    this.#least = ranks[options.level as Level] ?? ranks.info;
  }

  /** A line of a child. */
  line(process: string, line: string): void {
    this.#keep(process, line);
    const record = parseRecord(line);
    if (record === undefined) return this.#show(process, plainLevel(line), plainText(line), {});
    const { msg, message, ...fields } = record;
    const text = String(msg ?? message ?? '');
    const level = levelOf(record['level']);
    // The shared process speaks for several: show which.
    const who = String(record['controller'] ?? process);
    if (text === 'action') return this.#action(who, level, fields);
    this.#show(who, level === 'info' && routineMessages.has(text) ? 'debug' : level, text, fields);
  }

  /** `create pods default/web-1: 2 of 3 replicas are there`: what a controller did, and why. */
  #action(who: string, level: Level, fields: Record<string, unknown>): void {
    const { verb, resource, subresource, namespace, name, key, because, ...rest } = fields;
    // An action of the controller's own names no object but the key; `name` is then the logger's.
    const where = resource === undefined ? String(key ?? '') : [namespace ?? '', name ?? ''].filter(Boolean).join('/');
    const what = [verb, [resource, subresource].filter(Boolean).join('/'), where].filter(Boolean).join(' ');
    this.#show(
      who,
      level === 'info' && routineActions.has(String(verb)) ? 'debug' : level,
      `${what}${because ? `: ${String(because)}` : ''}`,
      rest,
    );
  }

  /** A line of the supervisor's own. */
  note(level: Level, message: string, fields: Record<string, unknown> = {}): void {
    this.#keep('supervisor', JSON.stringify({ level, time: new Date().toISOString(), msg: message, ...fields }));
    this.#show('supervisor', level, message, fields);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#files.values()].map(({ stream }) => new Promise((resolve) => stream.end(resolve))));
    this.#files.clear();
  }

  #show(process: string, level: Level, message: string, fields: Record<string, unknown>): void {
    if (ranks[level] < this.#least) return;
    const time = new Date().toTimeString().slice(0, 8);
    const colour =
      nameColours[[...process].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % nameColours.length]!;
    const words = [this.#paint(paint.dim, time), this.#paint(colour, process.padEnd(nameWidth))];
    if (ranks[level] >= ranks.error) words.push(this.#paint(paint.red, 'ERROR'));
    else if (ranks[level] >= ranks.warn) words.push(this.#paint(paint.yellow, 'WARN'));
    words.push(message, ...Object.entries(fields).flatMap(([key, value]) => this.#field(key, value)));
    this.#options.write(`${words.join(' ')}\n`);
  }

  #field(key: string, value: unknown): string[] {
    if (hidden.has(key) || value === undefined || value === null) return [];
    // pino's errors carry their stack: the file keeps it, the terminal shows the message.
    const isError = typeof value === 'object' && 'message' in value && 'stack' in value;
    const text = isError ? String(value.message) : typeof value === 'string' ? value : JSON.stringify(value);
    const short = text.length > maxValueLength ? `${text.slice(0, maxValueLength)}…` : text;
    return [
      `${this.#paint(paint.dim, `${key}=`)}${/[\s"]/.test(short) && !short.startsWith('{') && !short.startsWith('[') ? JSON.stringify(short) : short}`,
    ];
  }

  #paint(code: string, text: string): string {
    return this.#options.colour ? `\u001b[${code}m${text}\u001b[0m` : text;
  }

  /** Two files at most a process: the one written, and the one before it. */
  #keep(process: string, line: string): void {
    let file = this.#files.get(process);
    const place = path.join(this.#options.folder, `${process}.log`);
    if (file !== undefined && file.bytes > maxFileBytes) {
      file.stream.end();
      renameSync(place, `${place}.1`);
      file = undefined;
    }
    if (file === undefined) {
      file = {
        stream: createWriteStream(place, { flags: 'a', mode: 0o600 }),
        bytes: statSync(place, { throwIfNoEntry: false })?.size ?? 0,
      };
      // A full disk must not end what runs.
      file.stream.on('error', () => undefined);
      this.#files.set(process, file);
    }
    file.stream.write(`${line}\n`);
    file.bytes += line.length + 1;
  }
}

function parseRecord(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

function levelOf(level: unknown): Level {
  if (typeof level === 'string' && level in ranks) return level as Level;
  const found = Object.entries(ranks).find(([, rank]) => rank === level)?.[0];
  return (found as Level | undefined) ?? 'info';
}

/** What the servers say of themselves in the normal course is for the file alone; nats-server's passwords stand in a file that only we can read. */
function plainLevel(line: string): Level {
  if (/^(LOG|DETAIL|HINT|STATEMENT|CONTEXT): |\[(INF|DBG|TRC)\] |Plaintext passwords/.test(line)) return 'debug';
  if (/^WARNING: |\[WRN\] /.test(line)) return 'warn';
  return /^(ERROR|FATAL|PANIC): |\[(ERR|FTL)\] /.test(line) ? 'error' : 'info';
}

/** nats-server's lines begin with its pid and the time, which we show already. */
function plainText(line: string): string {
  return line.replace(/^\[\d+\] \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d(\.\d+)? \[[A-Z]+\] /, '').trimEnd();
}
