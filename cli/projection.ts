/** The projection, as a process of its own and anew from the log. */
import type { Logger } from 'pino';
import { openLogReader } from '../event-log/jetstream.ts';
import { createLogger } from '../sdk/logger.ts';
import { meterPlace } from '../sdk/metrics.ts';
import { runProjection } from '../state/projection.ts';
import { rebuildProjection } from '../state/rebuild.ts';
import { databaseUrl, homeFolder, loadInstance, natsUrl, type Instance } from './instance.ts';
import { projectionName } from './start/processes.ts';
import type { Stoppable } from './until-told.ts';

const openLog = (instance: Instance, logger: Logger, clientName: string): ReturnType<typeof openLogReader> =>
  openLogReader({ url: natsUrl(instance, 'reader'), stream: 'log', logger, clientName });

export async function startProjection(instance: Instance, parent: Logger): Promise<Stoppable> {
  const logger = parent.child({ controller: projectionName });
  const log = await openLog(instance, logger, 'reckon projection');
  const ending = new AbortController();
  let position: number | undefined;
  const forget = meterPlace({
    controllers: [projectionName],
    position: () => position,
    lag: async () => (position === undefined ? undefined : Math.max(0, (await log.lastSequence()) - position)),
  });
  const running = runProjection({
    databaseUrl: databaseUrl(instance, 'projection'),
    log,
    signal: ending.signal,
    logger,
    onPosition: (now) => (position = now),
  });
  return {
    async stop() {
      forget();
      ending.abort();
      await running;
      await log.close();
    },
  };
}

/** `reckon projection rebuild`: projects the log anew, showing how far it is. */
export async function rebuild(): Promise<void> {
  const instance = await loadInstance(homeFolder());
  const logger = createLogger({ name: 'projection', level: 'warn' });
  const log = await openLog(instance, logger, 'reckon projection rebuild');
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
