/**
 * Who holds a Lease: a text that names the machine, its boot and the process, so that a successor on the same machine can tell that the holder is dead and need not wait for the lease to run
 * out. Used by `leader.ts`; the supervisor tells its own orphans from strangers in the same way.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import os from 'node:os';

/** `host_boot_pidNamespace_pid_startTime`, or `host_uuid` where /proc does not tell. */
export function processIdentity(): string {
  const here = bootAndNamespace();
  const startTime = startTimeOf(process.pid);
  return here && startTime
    ? `${os.hostname()}_${here}_${process.pid}_${startTime}`
    : `${os.hostname()}_${randomUUID()}`;
}

/** True only when the holder ran on this boot of this machine, in this pid namespace, and is gone. A process that is merely paused is not dead. */
export function isKnownDead(identity: string): boolean {
  const here = bootAndNamespace();
  const match = /^(.*)_([0-9a-f]{8}_\d+)_(\d+)_(\d+)$/.exec(identity);
  if (!here || !match || match[1] !== os.hostname() || match[2] !== here) return false;
  return startTimeOf(Number(match[3])) !== match[4];
}

function bootAndNamespace(): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8);
    const namespace = /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0];
    return namespace && `${boot}_${namespace}`;
  } catch {
    return undefined;
  }
}

/** Clock ticks between boot and the start of the process; undefined when there is none, or only its remains. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command name, in parentheses, may hold spaces and parentheses itself.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
