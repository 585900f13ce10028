/**
 * `npm test`: set-up, the static checks, then every test file with tap against real servers that are started once here. Words after `npm test --` choose the files whose path holds one of them, and
 * leave the checks out. Files named `*.serial.test.ts` run afterwards, one by one: they restart what the others share.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, loadavg } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { SetUpError } from '../../cli/set-up/requirement.ts';
import { startTestServers } from './test-servers.ts';

const root = process.env['RECKON_ROOT'] ?? process.cwd();
const tests = path.join(root, 'dist', 'test');
/** More than a small machine has cores: most files wait for most of their time. */
const jobs = 3;
/** Beside the first one a file begins only while no more than this, for each core, want to run: on a slow machine several would only hold each other up until their time is over. */
const calmLoad = 4;
const calmLookMs = 1_000;
/** Of those that run containers, which keep a core busy each: with more at a time, they would all only wait longer. */
const heavyJobs = 2;
const isHeavy = (file: string): boolean =>
  /^(spine|controllers\Wpods|controllers\Wdeployments)\W|^(memory\Wwhy|cli\Wstart)\./.test(path.relative(tests, file));
/** One file may take so long; the longest kill, wait and recover. */
const fileTimeoutSeconds = 900;
/** Of what a file said, so much is kept for when it fails. */
const maxLines = 5000;
/** For a file to end after its time. */
const fileGraceSeconds = 30;

interface Count {
  readonly passed: number;
  readonly failed: number;
}

async function run(): Promise<number> {
  const wanted = process.argv.slice(3);
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  const counts: Count[] = [];
  if (wanted.length === 0) for (const check of checks()) counts.push(await runCheck(check, say));
  const servers = await startTestServers(say);
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  try {
    const files = testFiles(wanted);
    if (files.length === 0) say('No test file matches.');
    const environment = { RECKON_TEST_SERVERS: JSON.stringify(servers.addresses) };
    const isSerial = (file: string): boolean => file.endsWith('.serial.test.js');
    counts.push(
      await runFiles({ files: files.filter((file) => !isSerial(file)), jobs, environment, signal: interrupted.signal }),
    );
    counts.push(await runFiles({ files: files.filter(isSerial), jobs: 1, environment, signal: interrupted.signal }));
  } finally {
    await servers.stop();
  }
  const passed = counts.reduce((sum, count) => sum + count.passed, 0);
  const failed = counts.reduce((sum, count) => sum + count.failed, 0) + (interrupted.signal.aborted ? 1 : 0);
  process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

interface Check {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
}

/** What `npm run check` does, one by one. */
function checks(): readonly Check[] {
  const require = createRequire(import.meta.url);
  const program = (name: string, bin: string): string =>
    path.join(path.dirname(require.resolve(`${name}/package.json`)), bin);
  return [
    {
      name: 'types',
      program: program('typescript', 'bin/tsc'),
      args: ['-p', 'tsconfig.json', '--noEmit', '--tsBuildInfoFile', 'dist/.check.tsbuildinfo'],
    },
    {
      name: 'format',
      program: program('prettier', 'bin/prettier.cjs'),
      args: ['--check', '--log-level=warn', '--cache', '--cache-location=dist/.prettier-cache', '.'],
    },
    { name: 'lint', program: program('oxlint', 'bin/oxlint'), args: ['--type-aware'] },
  ];
}

async function runCheck(check: Check, say: (line: string) => void): Promise<Count> {
  const startedMs = Date.now();
  const child = spawn(process.execPath, [check.program, ...check.args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' },
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  if (code !== 0) say(output);
  say(`check: ${check.name} ${code === 0 ? 'passed' : 'FAILED'} (${((Date.now() - startedMs) / 1000).toFixed(1)} s)`);
  return code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

/** Whole instances take longest, and those that wait out an outage: they go first, so that nothing long is left for the end. */
function testFiles(wanted: readonly string[]): readonly string[] {
  const files = readdirSync(tests, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js') && (wanted.length === 0 || wanted.some((word) => file.includes(word))))
    .sort();
  const isLong = (file: string): boolean => /^(spine|memory|cli)\W|outage|least-rights|leader/.test(file);
  return [...files.filter(isLong), ...files.filter((file) => !isLong(file))]
    .map((file) => path.join(tests, file))
    .toSorted((a, b) => Number(isHeavy(b)) - Number(isHeavy(a)));
}

const isCalm = (): boolean => (loadavg()[0] ?? 0) <= calmLoad * availableParallelism();

interface TestRun {
  readonly files: readonly string[];
  readonly jobs: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** `jobs` files at a time, `heavyJobs` heavy ones among them, each a process. One line for a file that passes; everything that a file said when it fails. */
async function runFiles(run: TestRun): Promise<Count> {
  const waiting = [...run.files];
  const sum = { passed: 0, failed: 0 };
  const next = (mayBeHeavy: boolean): string | undefined => {
    const index = mayBeHeavy ? 0 : waiting.findIndex((file) => !isHeavy(file));
    return index < 0 ? undefined : waiting.splice(index, 1)[0];
  };
  const work = async (_: unknown, place: number): Promise<void> => {
    const mayBeHeavy = place < heavyJobs;
    for (;;) {
      while (place > 0 && waiting.length > 0 && !isCalm() && !run.signal.aborted) await sleep(calmLookMs);
      const file = next(mayBeHeavy);
      if (file === undefined || run.signal.aborted) return;
      const { passed, failed } = await runFile(file, run);
      sum.passed += passed;
      sum.failed += failed;
    }
  };
  await Promise.all(Array.from({ length: run.jobs }, work));
  return sum;
}

async function runFile(file: string, { environment, signal }: TestRun): Promise<Count> {
  const startedMs = Date.now();
  const child = spawn(process.execPath, ['--enable-source-maps', file], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment, TAP_TIMEOUT: String(fileTimeoutSeconds) },
  });
  const abort = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', abort, { once: true });
  // tap ends a file at its time-out by itself; this is for one that heeds nothing any more.
  const force = setTimeout(() => child.kill('SIGKILL'), (fileTimeoutSeconds + fileGraceSeconds) * 1000);
  const said: string[] = [];
  const complained: string[] = [];
  let closing = '';
  const keep = (lines: string[], line: string): void => {
    lines.push(line);
    if (lines.length > maxLines) lines.shift();
  };
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.startsWith('# { total: ')) closing = line;
    keep(said, line);
  });
  createInterface({ input: child.stderr }).on('line', (line) => keep(complained, line));
  const [code, killedBy] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  clearTimeout(force);
  signal.removeEventListener('abort', abort);
  const count = countOf(closing);
  // A file that broke, or ended without a word, must not pass for success.
  const failed = code !== 0 || count.passed === 0 ? Math.max(1, count.failed) : count.failed;
  // What goes wrong while a file tidies up, or after, is told on stderr alone: that comes last, where it is seen.
  if (failed > 0) process.stdout.write(`${[...said, ...complained].join('\n')}\n`);
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  const broke = failed > 0 && count.failed === 0 ? `; no assertion failed, it ended with ${killedBy ?? code}` : '';
  process.stdout.write(`${failed === 0 ? 'ok' : 'not ok'}  ${path.relative(root, file)} (${seconds} s${broke})\n`);
  return { passed: count.passed, failed };
}

/** tap's own closing comment: `# { total: 12, pass: 11, fail: 1 }`. */
function countOf(closing: string): Count {
  const number = (name: string): number => Number(new RegExp(`\\b${name}: (\\d+)`).exec(closing)?.[1] ?? 0);
  return { passed: number('pass'), failed: number('fail') };
}

run().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(
      `\nreckon: ${error instanceof SetUpError ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    process.stdout.write('\n0 passed, 1 failed\n');
    process.exit(1);
  },
);
