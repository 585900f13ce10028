/**
 * When the supervisor ends: Ctrl-C or SIGTERM stops everything in order; Ctrl-C again kills what is left. Under npm it also ends when npm does, since npm does not always pass its signals on.
 */
export interface Stopped {
  /** Resolves when a stop is asked for. */
  readonly asked: Promise<void>;
  readonly signal: AbortSignal;
}

/** A terminal's one Ctrl-C reaches us twice, from the terminal and through npm: what comes this soon after the first is the same. */
const sameSignalMs = 1000;
const parentPollMs = 1000;

export function untilStopped(say: (line: string) => void, kill: () => void): Stopped {
  const stop = new AbortController();
  let firstMs = 0;
  const onSignal = (name: string): void => {
    const nowMs = Date.now();
    if (!stop.signal.aborted) {
      firstMs = nowMs;
      say('\nStopping (Ctrl-C again kills) …');
      return stop.abort(new Error(name));
    }
    if (nowMs - firstMs < sameSignalMs) return;
    say('Killed.');
    kill();
    process.exit(130);
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => onSignal(name));
  // The tests' way: whoever forked us is gone.
  process.once('disconnect', () => onSignal('disconnect'));
  const parent = process.ppid;
  if (process.env['npm_lifecycle_event'] !== undefined) {
    setInterval(() => {
      if (process.ppid !== parent && !stop.signal.aborted) onSignal('npm ended');
    }, parentPollMs).unref();
  }
  const asked = new Promise<void>((resolve) => stop.signal.addEventListener('abort', () => resolve(), { once: true }));
  return { asked, signal: stop.signal };
}
