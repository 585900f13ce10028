/**
 * Runs the small commands that set-up needs (`apt-get`, `dpkg-deb`, `id`, `service`, …) and says how a program is found on the PATH.
 */
import { spawn } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import path from 'node:path';

export interface CommandResult {
  /** 127 when the program is not there. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly timeoutMs?: number;
  /** Called every ten seconds while it runs. */
  readonly onTick?: (seconds: number) => void;
}

const tickMs = 10_000;
const defaultTimeoutMs = 600_000;

export function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const startedMs = Date.now();
    const child = spawn(command, args, {
      env: { ...process.env, ...options.environment },
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input);
    const ticking = setInterval(() => options.onTick?.(Math.round((Date.now() - startedMs) / 1000)), tickMs);
    // Not the `timeout` of spawn: that one stays, and keeps this process, when there is no such program.
    const ending = setTimeout(() => child.kill(), options.timeoutMs ?? defaultTimeoutMs);
    const end = (result: CommandResult): void => {
      clearInterval(ticking);
      clearTimeout(ending);
      resolve(result);
    };
    child.on('error', (error) => end({ code: 127, stdout, stderr: `${stderr}${error.message}` }));
    child.on('close', (code) => end({ code: code ?? 1, stdout, stderr }));
  });
}

/** Rejects with the command and the end of what it said. */
export async function runOrThrow(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await runCommand(command, args, options);
  if (result.code !== 0) {
    const said = `${result.stderr}${result.stdout}`.trim().slice(-2000);
    throw new Error(`\`${command} ${args.join(' ')}\` failed with code ${result.code}: ${said}`);
  }
  return result.stdout;
}

/** Where administrators' programs live though an ordinary user's PATH may lack them. */
const administratorFolders = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

export async function findProgram(name: string): Promise<string | undefined> {
  const folders = [...(process.env['PATH'] ?? '').split(path.delimiter), ...administratorFolders];
  for (const folder of folders) {
    if (folder === '') continue;
    const candidate = path.join(folder, name);
    if (await isExecutable(candidate)) return candidate;
  }
  return undefined;
}

export async function isExecutable(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** Compares `2.15.1` with `2.9.10` part by part. */
export function isAtLeast(version: string, minimum: string): boolean {
  const have = version.split('.').map((part) => Number.parseInt(part, 10) || 0);
  const want = minimum.split('.').map(Number);
  for (const [index, wanted] of want.entries()) {
    const got = have[index] ?? 0;
    if (got !== wanted) return got > wanted;
  }
  return true;
}
