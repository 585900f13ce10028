/** `reckon projection rebuild`: projects the log anew, showing how far it is. */
import { openLogReader } from '../event-log/jetstream.ts';
import { createLogger } from '../sdk/logger.ts';
import { rebuildProjection } from '../state/rebuild.ts';
import { databaseUrl, homeFolder, loadInstance, natsUrl } from './instance.ts';

export async function rebuild(): Promise<void> {
  const instance = await loadInstance(homeFolder());
  const logger = createLogger({ name: 'projection', level: 'warn' });
  const log = await openLogReader({
    url: natsUrl(instance, 'reader'),
    stream: 'log',
    logger,
    clientName: 'reckon projection rebuild',
  });
  const ending = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => ending.abort(new Error('interrupted')));
  let shown = '';
  try {
    await rebuildProjection({
      databaseUrl: databaseUrl(instance, 'projection'),
      log,
      signal: ending.signal,
      logger,
      onProgress: ({ floor, position, target }) => {
        const whole = Math.max(1, target - floor + 1);
        const line = `projected ${Math.min(100, Math.floor((100 * Math.max(0, position - floor + 1)) / whole))} % (record ${Math.min(position, target)} of ${target})`;
        if (line !== shown) process.stderr.write(`${line}\n`);
        shown = line;
      },
    });
    process.stdout.write('The projection is rebuilt.\n');
  } finally {
    await log.close();
  }
}
