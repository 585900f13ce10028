/** An API server with a past: a projection of its log runs beside it, in a database of its own. Used by the tests of this folder. */
import pino from 'pino';
import { openLogReader } from '../../event-log/jetstream.ts';
import { runProjection } from '../../state/projection.ts';
import { startApi, type Api } from '../api-server/api.ts';
import { servers, type Servers, type Teardown } from '../harness/servers.ts';

export interface Stage {
  readonly api: Api;
  readonly servers: Servers;
}

export async function startWithPast(t: Teardown): Promise<Stage> {
  const own = await servers(t);
  const { natsUrl, prefix } = own;
  const api = await startApi(t, { natsUrl, prefix, databaseUrl: own.databaseUrlAs('reckon_reader') });
  await projectBeside(t, api, own.databaseUrlAs('reckon_projection'));
  return { api, servers: own };
}

/** A projection of the API server's log. */
export async function projectBeside(
  t: Teardown,
  { natsUrl, prefix }: Pick<Api, 'natsUrl' | 'prefix'>,
  databaseUrl: string,
): Promise<void> {
  const logger = pino({ level: process.env['RECKON_TEST_LOG'] ?? 'silent' }, pino.destination(2));
  const log = await openLogReader({ url: natsUrl, prefix, stream: 'log', logger });
  const ending = new AbortController();
  const running = runProjection({ databaseUrl, log, signal: ending.signal, logger });
  t.teardown(async () => {
    ending.abort();
    await running.catch(() => undefined);
    await log.close();
  });
}
