/**
 * How a process of ours ends: by SIGINT or SIGTERM, or when the channel to its supervisor closes because that was killed. Called by `api-server.ts` and `run.ts`.
 */
import type { Logger } from 'pino';

export interface Stoppable {
  stop(): Promise<void>;
}

/** After so long a stop that hangs is cut short; the supervisor's own patience is longer. */
const stopLimitMs = 12_000;

/** Resolves when it is time to end, having stopped what runs. The process then exits, whatever is still open. */
export async function runUntilTold(what: Stoppable, logger: Logger): Promise<void> {
  const reason = await new Promise<string>((resolve) => {
    process.once('SIGINT', () => resolve('SIGINT'));
    process.once('SIGTERM', () => resolve('SIGTERM'));
    process.once('disconnect', () => resolve('the supervisor is gone'));
  });
  logger.debug({ reason }, 'stopping');
  const impatience = setTimeout(() => {
    logger.warn({ afterMs: stopLimitMs }, 'stopping took too long and was cut short');
    process.exit(1);
  }, stopLimitMs);
  await what.stop();
  clearTimeout(impatience);
  process.exit(0);
}
