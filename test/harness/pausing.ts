/** Stopping a process with SIGSTOP, and knowing that it stands: until each of its threads has heard of the signal, which takes a moment on a busy machine, the others may still answer. */
import { readFileSync, readdirSync } from 'node:fs';
import { until } from './until.ts';

/** Resolves when no thread of it runs any more. SIGCONT wakes it. */
export async function pauseProcess(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  const states = (): string[] =>
    readdirSync(`/proc/${pid}/task`).map((thread) => /^State:\s+(\w)/m.exec(statusOf(pid, thread))?.[1] ?? 'gone');
  await until(`process ${pid} to stand`, () => states().every((state) => /^[TtZX]$|gone/.test(state)), states);
}

function statusOf(pid: number, thread: string): string {
  try {
    return readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
  } catch {
    return '';
  }
}
