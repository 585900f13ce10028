/**
 * The API server as a whole: follows both streams into memory, then listens. Started by `reckon api-server`; any number of them may run on the same log.
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Registry as Metered } from 'prom-client';
import { loadRegistry, type Registry } from '../api-schemas/registry.ts';
import { openConsumerAccess, type ConsumerAccessOptions } from '../event-log/consumer-access.ts';
import { openDurables } from '../event-log/durables.ts';
import type { FollowerName } from '../event-log/event-log.ts';
import { openEventLog } from '../event-log/jetstream.ts';
import { openSecretKeys } from '../event-log/keys.ts';
import { openHistory } from '../state/history.ts';
import { openRuntimeState } from '../state/runtime-state.ts';
import { ServiceAccountTokens } from './authentication/service-account-tokens.ts';
import { newTokenKey } from './authentication/token-keys.ts';
import { Authorizer } from './authorization/authorizer.ts';
import { bootstrap } from './bootstrap.ts';
import { keepConsumers } from './consumers/keeper.ts';
import { followDefinitions } from './custom-resources/definitions.ts';
import type { Services } from './call.ts';
import { Fairness, type Limits } from './fairness/levels.ts';
import type { Check } from './health.ts';
import { Metrics } from './metrics.ts';
import { keepKubernetesService } from './kubernetes-service.ts';
import { startRetention } from './retention.ts';
import { ApiServer } from './server.ts';
import { ObjectStore } from './store/object-store.ts';
import { Past } from './store/past.ts';
import { Sealer } from './store/seal.ts';
import { StreamCache, type Indexing } from './store/stream-cache.ts';
import { makeKinds } from './strategy/kinds.ts';
import { NodeConnections } from './subresources/node-connections.ts';

export interface ApiServerOptions {
  /** With the credentials of the user that may publish. */
  readonly natsUrl: string;
  /** Absent: no reads at past revisions. */
  readonly databaseUrl?: string;
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly host: string;
  readonly port: number;
  /** By which pods reach this server; one that listens on the loopback alone listens there too as soon as the address is there. It stands behind the Service `kubernetes`. Absent: pods do not reach it. */
  readonly podAddress?: string;
  /** 32 bytes; wraps the data keys of Secrets. */
  readonly secretsKey: Uint8Array;
  /** For the tokens of service accounts, as `authentication/token-keys.ts` reads them, the same for every API server of the cluster. Absent: one for this process alone. */
  readonly tokenKeys?: string;
  /** False: pods need no ServiceAccount and get no token. For servers whose ServiceAccounts nobody makes. Default true. */
  readonly demandsServiceAccounts?: boolean;
  /** How the credentials of event consumers are signed; absent: there are none. */
  readonly consumerAccess?: ConsumerAccessOptions;
  readonly serviceCidr: string;
  readonly nodePortRange: readonly [first: number, last: number];
  /** Of the streams, on a JetStream cluster. Absent: as many as they have, 1 when they are made. */
  readonly replicas?: number;
  /** Members of a transaction, where the NATS server is known to take another number than JetStream's own. */
  readonly maxTransaction?: number;
  /** Stream and subject prefix; `reckon` unless several instances share a NATS. */
  readonly prefix?: string;
  /** How long an Event is kept. Default 7 days. */
  readonly eventTtlSeconds?: number;
  /** How long a conversion webhook of a custom kind may take. Default 30 s, as in Kubernetes. */
  readonly webhookTimeoutMs?: number;
  /** How many requests are answered at once, and how many wait; what is not named is as in `fairness/levels.ts`. */
  readonly limits?: Partial<Limits>;
  /** Where several processes serve one address: is given the metrics of this one, and reads those of all. Absent: `/metrics` tells of this process. */
  readonly shareMetrics?: (own: Metered) => () => Promise<string>;
  readonly logger: Logger;
}

const WEEK_SECONDS = 7 * 24 * 3600;

export interface RunningApiServer {
  readonly port: number;
  /** Other keys for tokens, from now on. Throws, and changes nothing, where they cannot be read. */
  useTokenKeys(keys: string): void;
  stop(): Promise<void>;
}

/** Resolves once the server listens and is ready. */
export async function startApiServer(options: ApiServerOptions): Promise<RunningApiServer> {
  const { natsUrl, logger, prefix, replicas, tls, maxTransaction } = options;
  const stopping = new AbortController();
  const registry = loadRegistry();
  const connection = { url: natsUrl, logger, ...(prefix !== undefined && { prefix }), ...(replicas && { replicas }) };
  const [log, ephemeral] = await Promise.all([
    openEventLog({ ...connection, stream: 'log', ...(maxTransaction !== undefined && { maxTransaction }) }),
    openEventLog({ ...connection, stream: 'ephemeral' }),
  ]);
  const keys = await openSecretKeys(connection);
  const sealer = new Sealer(options.secretsKey, keys);
  const follower = { names: ['api-server'], process: randomUUID() };
  const stream = (reader: typeof log, as?: FollowerName) =>
    new StreamCache({
      log: reader,
      ...(as && { follower: as }),
      indexing: indexingOf(registry),
      unseal: (object) => sealer.unseal(object),
      logger,
      signal: stopping.signal,
    });
  const shelves = {
    log: { stream: stream(log, follower), log },
    ephemeral: { stream: stream(ephemeral), log: ephemeral },
  };
  const eventTtlSeconds = options.eventTtlSeconds ?? WEEK_SECONDS;
  const fairness = new Fairness(options.limits);
  const { shareMetrics } = options;
  const metrics = new Metrics({ registry, fairness, streams: shelves, ...(shareMetrics && { shareMetrics }) });
  const store = new ObjectStore({
    ...shelves,
    sealer,
    appended: (milliseconds) => metrics.appended(milliseconds),
    ttlSeconds: ({ group, resource }) => (group === '' && resource === 'events' ? eventTtlSeconds : undefined),
  });
  const past = options.databaseUrl === undefined ? undefined : new Past(openHistory(options.databaseUrl), sealer);
  const runtime = options.databaseUrl === undefined ? undefined : openRuntimeState(options.databaseUrl);
  const nodes = new NodeConnections(tls);
  const kinds = makeKinds({ services: { cidr: options.serviceCidr, nodePorts: options.nodePortRange } });
  const authorizer = new Authorizer({ registry, store });
  const tokens = new ServiceAccountTokens({ keys: options.tokenKeys ?? newTokenKey(), registry, store });
  const { demandsServiceAccounts = true, consumerAccess } = options;
  const consumers = consumerAccess && {
    access: await openConsumerAccess(consumerAccess),
    durables: await openDurables(connection),
    secret: options.secretsKey,
  };
  const events: Services['events'] = {
    follow: (following) => log.follow(following),
    floor: () => log.floor(),
    unseal: (object) => sealer.unseal(object),
  };
  const services: Services = {
    registry,
    store,
    past,
    runtime,
    kinds,
    nodes,
    authorizer,
    tokens,
    consumers,
    events,
    demandsServiceAccounts,
    logger,
  };
  await Promise.all([shelves.log.stream.start(), shelves.ephemeral.stream.start()]);
  const { webhookTimeoutMs } = options;
  followDefinitions({ registry, store, nodes, logger, webhookTimeoutMs, signal: stopping.signal });
  await bootstrap(services);
  const fault = (attempt: Promise<unknown>) =>
    attempt.then(
      () => undefined,
      (error: Error) => error.message,
    );
  const { databaseUrl } = options;
  const isLive = (uid: string): boolean => store.hasUid(uid);
  if (past && databaseUrl !== undefined)
    startRetention({ ...connection, natsUrl, databaseUrl, keys, past, isLive, signal: stopping.signal });
  if (consumers) keepConsumers({ ...consumers, registry, store, logger, signal: stopping.signal });
  const complete = [shelves.log.stream, shelves.ephemeral.stream];
  const readiness = new Map<string, Check>([
    ['log', () => (log.connected ? fault(log.lastSequence()) : 'there is no connection to NATS')],
    ['cache', () => (complete.every((stream) => stream.complete) ? undefined : 'still filling')],
  ]);
  const { host, port: wanted } = options;
  const server = new ApiServer({ services, tls, host, port: wanted, readiness, fairness, metrics });
  const port = await server.listen();
  if (options.podAddress !== undefined) {
    if (options.host.startsWith('127.')) server.listenAlso(options.podAddress, port);
    const place = { address: options.podAddress, port, serviceCidr: options.serviceCidr };
    await keepKubernetesService(services, place, stopping.signal);
  }
  logger.info(
    {
      port,
      objects: [...shelves.log.stream.resources()].reduce((sum, [, cache]) => sum + cache.size, 0),
      revision: shelves.log.stream.position,
    },
    'serving',
  );
  return {
    port,
    useTokenKeys: (keys) => tokens.use(keys),
    async stop() {
      await server.stop();
      stopping.abort();
      nodes.close();
      await Promise.all([consumers?.access.close(), consumers?.durables.close()]);
      await Promise.all([log.close(), ephemeral.close(), keys.close(), past?.close(), runtime?.close()]);
    },
  };
}

/** How a resource is indexed, whichever of its versions says so; looked up for every record. */
function indexingOf(registry: Registry): (group: string, resource: string) => Indexing {
  const unknown: Indexing = { selectableFields: [], sealed: [] };
  let known = new Map<string, Indexing>();
  let changes = -1;
  return (group, resource) => {
    if (changes !== registry.changes) {
      changes = registry.changes;
      known = new Map(
        registry.resources().map((definition) => [`${definition.group}/${definition.resource}`, definition]),
      );
    }
    return known.get(`${group}/${resource}`) ?? unknown;
  };
}
