/** How answers look to a person: columns, times, changed fields, and colour where there is a terminal to show it. */
import { styleText } from 'node:util';

export interface Screen {
  write(line: string): void;
  paint(style: Style, text: string): string;
}

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

export interface FieldChange {
  readonly path: string;
  readonly from?: unknown;
  readonly to?: unknown;
}

/** Colours unless the output goes elsewhere or NO_COLOR is set (https://no-color.org). */
export function terminal(output: NodeJS.WriteStream = process.stdout): Screen {
  const coloured = output.isTTY && !process.env['NO_COLOR'];
  return {
    write: (line) => void output.write(`${line}\n`),
    paint: (style, text) => (coloured ? styleText(style, text, { validateStream: false }) : text),
  };
}

const PATIENCE_MS = 1_000;
const TICK_MS = 1_000;

/** Says on the terminal that something takes longer than a second, and how long; nothing where nobody sees it. */
export async function whileWaiting<T>(work: Promise<T>, output: NodeJS.WriteStream = process.stderr): Promise<T> {
  if (!output.isTTY) return work;
  const startedMs = Date.now();
  let shown = false;
  const tick = (): void => {
    shown = true;
    output.write(`\r… still waiting for the API server, ${Math.round((Date.now() - startedMs) / 1000)} s`);
    timer = setTimeout(tick, TICK_MS);
  };
  let timer = setTimeout(tick, PATIENCE_MS);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
    if (shown) output.write('\r\u001b[K');
  }
}

/** Left-aligned, three spaces between, as kubectl prints them. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, index) => (widths[index] = Math.max(widths[index] ?? 0, cell.length)));
  return rows.map((row) =>
    row
      .map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0)))
      .join('   ')
      .trimEnd(),
  );
}

const two = (number: number): string => String(number).padStart(2, '0');

/** In the user's own time zone; the date only where it is not today's. */
export function clock(time: string, now = new Date()): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return time;
  const ofDay = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === now.toDateString()) return ofDay;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${ofDay}`;
}

const MAX_VALUE = 100;

/** Short enough for a line. */
export function value(given: unknown): string {
  const text = typeof given === 'string' && given !== '' && !/\s/.test(given) ? given : JSON.stringify(given);
  return text.length <= MAX_VALUE ? text : `${text.slice(0, MAX_VALUE - 1)}…`;
}

export function changeLines(screen: Screen, changes: readonly FieldChange[]): string[] {
  const width = Math.max(0, ...changes.map(({ path }) => path.length));
  return changes.map(({ path, from, to }) => {
    const field = path.padEnd(Math.min(width, 60));
    if (from === undefined) return `${screen.paint('green', `+ ${field}`)}   ${value(to)}`;
    if (to === undefined) return `${screen.paint('red', `- ${field}`)}   ${value(from)}`;
    return `${screen.paint('yellow', `~ ${field}`)}   ${value(from)} → ${screen.paint('bold', value(to))}`;
  });
}

/** `system:controller:deployments` is a thing that people know by another name. */
export function who(actor: string): string {
  const controller = /^system:controller:(.+)$/.exec(actor)?.[1];
  if (controller) return `${controller} controller`;
  const node = /^system:node:(.+)$/.exec(actor)?.[1];
  return node ? `agent of ${node}` : actor;
}
