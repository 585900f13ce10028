/**
 * A server that is not ours cannot notice that its supervisor was killed with -9, but Linux can tell it: `setpriv --pdeathsig` (util-linux, on every Debian). Where that is not to be had, the next start clears
 * the orphan away by its recorded pid.
 */
import { findProgram, runCommand } from '../set-up/command.ts';

let setpriv: Promise<string | undefined> | undefined;

async function findSetpriv(): Promise<string | undefined> {
  const program = await findProgram('setpriv');
  if (program === undefined) return undefined;
  const { stdout } = await runCommand(program, ['--help']);
  return stdout.includes('--pdeathsig') ? program : undefined;
}

export interface RunAs {
  readonly uid: number;
  readonly gid: number;
}

/** The command, wrapped so that it gets the signal when its parent dies, and runs as another user if one is given. */
export async function withParentDeathSignal(
  signal: 'TERM' | 'INT',
  command: readonly [string, ...string[]],
  as?: RunAs,
): Promise<readonly [string, ...string[]]> {
  setpriv ??= findSetpriv();
  const program = await setpriv;
  if (program === undefined) return command;
  const identity = as === undefined ? [] : [`--reuid=${as.uid}`, `--regid=${as.gid}`, '--clear-groups'];
  return [program, ...identity, `--pdeathsig=${signal}`, '--', ...command];
}
