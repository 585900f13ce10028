/** `reckon api-server`: starts one from the instance's settings. */
import { watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { startApiServer, type RunningApiServer } from '../api-server/main.ts';
import { createLogger, type Logger } from '../sdk/logger.ts';
import { consumerAccess } from './consumer-access.ts';
import {
  apiServerIdentity,
  databaseUrl,
  homeFolder,
  loadInstance,
  loopback,
  maxTransaction,
  natsUrl,
  readTls,
  tokenKeys,
  tokenKeysFile,
} from './instance.ts';
import { addressOf, machineAddress, numberOf } from './instance/addresses.ts';
import { runUntilTold } from './until-told.ts';
import { isWorker, runWorkers, shareMetrics } from './workers.ts';

/** How often is looked whether there are other keys for tokens. */
const KEYS_LOOK_MS = 2_000;

export interface ApiServerOptions {
  readonly port?: number;
  readonly host?: string;
  /** How many serve together; default 1. */
  readonly processes?: number;
}

export async function runApiServer(options: ApiServerOptions): Promise<void> {
  const instance = await loadInstance(homeFolder());
  const { settings, credentials } = instance;
  const host = options.host ?? loopback;
  const members = maxTransaction();
  const logger = createLogger({ name: 'api-server', ...levelFromEnvironment() });
  const { processes = 1 } = options;
  if (processes > 1 && !isWorker()) return runWorkers({ count: processes, logger });
  const [first = 0, last = 0] = settings.nodePortRange.split('-').map(Number);
  const keys = await tokenKeys(instance.home);
  const server = await startApiServer({
    natsUrl: natsUrl(instance, 'apiServer'),
    databaseUrl: databaseUrl(instance, 'reader'),
    tls: await readTls(instance.home, apiServerIdentity),
    host,
    port: options.port ?? settings.ports.api,
    secretsKey: Buffer.from(credentials.secretsKey, 'base64'),
    tokenKeys: keys,
    ...(await consumerAccess(instance)),
    ...replicasFromEnvironment(),
    ...(members !== undefined && { maxTransaction: members }),
    podAddress: podAddressOf(host, settings.podCidr),
    serviceCidr: settings.serviceCidr,
    nodePortRange: [first, last],
    ...(isWorker() && { shareMetrics }),
    logger,
  });
  followTokenKeys({ home: instance.home, server, logger, keys });
  await runUntilTold(server, logger);
}

/** Keys that an operator has put in their place are taken up, without a restart. */
function followTokenKeys(following: {
  readonly home: string;
  readonly server: RunningApiServer;
  readonly logger: Logger;
  /** Those that the server has now. */
  readonly keys: string;
}): void {
  const { home, server, logger } = following;
  let held = following.keys;
  const look = (): void => {
    readFile(tokenKeysFile(home), 'utf8')
      .then((keys) => {
        if (keys === held) return;
        server.useTokenKeys(keys);
        held = keys;
        logger.info('took up other keys for the tokens of service accounts');
      })
      .catch((error: unknown) =>
        logger.error(
          { err: error },
          'the keys for the tokens of service accounts cannot be read, and stay as they were',
        ),
      );
  };
  watchFile(tokenKeysFile(home), { persistent: false, interval: KEYS_LOOK_MS }, look);
  // They may have been changed while the server started.
  look();
}

/** Where pods find a server that listens on the loopback alone: on their own network, whose first address is the node's. */
function podAddressOf(host: string, podCidr: string): string {
  if (host === loopback) return addressOf(numberOf(podCidr.split('/')[0] ?? '') + 1);
  return host === '0.0.0.0' || host === '::' ? machineAddress() : host;
}

/** NATS_REPLICAS: on how many servers of a JetStream cluster each stream stands. Throws with a sentence. */
function replicasFromEnvironment(): { replicas?: number } {
  const given = process.env['NATS_REPLICAS'];
  if (!given) return {};
  if (!/^[1-5]$/.test(given)) throw new Error(`NATS_REPLICAS: expected a number from 1 to 5, got '${given}'`);
  return { replicas: Number(given) };
}

/** RECKON_LOG_LEVEL: `debug`, `info`, `warn`, `error`. */
export function levelFromEnvironment(): { level?: string } {
  const level = process.env['RECKON_LOG_LEVEL'];
  return level ? { level } : {};
}
