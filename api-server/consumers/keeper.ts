/**
 * Keeps NATS in line with the EventConsumers that stand: the account lists the keys of their credentials and no others, a durable whose consumer is gone goes too, and consumers that retention has passed begin afresh when
 * they ask. Runs in every API server, whenever a consumer changes and now and then: all of it follows from the objects, so several servers, and kills between any two steps, do no harm.
 */
import type { Logger } from 'pino';
import type { ConsumerAccess } from '../../event-log/consumer-access.ts';
import type { Durables } from '../../event-log/durables.ts';
import type { Services } from '../call.ts';
import { decode } from '../store/entry.ts';
import { type ConsumerObject, consumersDefinition, durableName, durableSpec } from './event-consumer.ts';

export interface ConsumerRoom {
  readonly access: ConsumerAccess;
  readonly durables: Durables;
  /** From which the names of durables are made; the same for every API server of the cluster. */
  readonly secret: Uint8Array;
}

export interface KeeperOptions extends ConsumerRoom, Pick<Services, 'registry' | 'store'> {
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

const INTERVAL_MS = 60_000;
const RETRY_MS = 1_000;
const SETTLE_MS = 20;
/** Credentials that are being issued may have their durable before the object names it. */
const UNNAMED_MS = 5 * 60_000;

/** Returns at once; ends with the signal. */
export function keepConsumers(options: KeeperOptions): void {
  const { registry, store, durables, logger, signal } = options;
  const definition = consumersDefinition(registry);
  let timer: NodeJS.Timeout | undefined;
  let running = false;
  let again = false;
  const within = (delayMs: number): void => {
    clearTimeout(timer);
    if (!signal.aborted) timer = setTimeout(() => void run(), delayMs);
  };
  const run = async (): Promise<void> => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    let next = INTERVAL_MS;
    try {
      await keepOnce(options);
    } catch (error) {
      next = RETRY_MS;
      if (!signal.aborted)
        logger.warn({ err: error }, 'event consumers could not be kept in line; it will be tried again');
    }
    running = false;
    within(again ? 0 : next);
    again = false;
  };
  const unsubscribe = watchAlways(options, () => within(SETTLE_MS));
  durables.serve({
    async begin(durable) {
      await store.current(definition);
      const object = livingConsumers(options).find((each) => presentDurable(each, options) === durable);
      return object && durables.begin(durableSpec(object, durable));
    },
  });
  within(0);
  signal.addEventListener(
    'abort',
    () => {
      clearTimeout(timer);
      unsubscribe();
    },
    { once: true },
  );
}

/** A cache that is filled anew forgets its watchers. */
function watchAlways({ registry, store }: KeeperOptions, changed: () => void): () => void {
  const cache = store.cache(consumersDefinition(registry));
  let unsubscribe: () => void;
  const watch = (): void => {
    unsubscribe = cache.watch({
      event: changed,
      lost: () => {
        setImmediate(watch);
        changed();
      },
    });
  };
  watch();
  return () => unsubscribe();
}

export function livingConsumers({ registry, store }: Pick<KeeperOptions, 'registry' | 'store'>): ConsumerObject[] {
  return store
    .cache(consumersDefinition(registry))
    .list()
    .map((entry) => decode(entry) as ConsumerObject);
}

/** Undefined as long as it has no credentials. */
export const presentDurable = (object: ConsumerObject, { secret }: Pick<ConsumerRoom, 'secret'>): string | undefined =>
  object.status?.issuer ? durableName(object, object.status.turn, secret) : undefined;

/** Every issuer that stands. */
export const issuersOf = (objects: readonly ConsumerObject[]): string[] =>
  objects.flatMap(({ status }) => (status?.issuer ? [status.issuer] : [])).sort();

export async function keepOnce(options: Omit<KeeperOptions, 'signal'>): Promise<void> {
  const { registry, store, access, durables, logger } = options;
  await store.current(consumersDefinition(registry));
  await access.allow(issuersOf(livingConsumers(options)));
  const named = new Map(livingConsumers(options).map((each) => [each.metadata.uid, presentDurable(each, options)]));
  for (const { name, owner, createdAt } of await durables.list()) {
    const isNew = Date.now() - Date.parse(createdAt) < UNNAMED_MS;
    if (named.get(owner) === name || (named.has(owner) && isNew)) continue;
    await durables.remove(name);
    logger.info({ durable: name }, 'removed the durable of a consumer that is gone');
  }
}
