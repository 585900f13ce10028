/**
 * POST eventconsumers/credentials: NATS credentials that read the consumer's namespace and nothing else, in the place of those that were issued before. They are told once and kept nowhere. GET eventconsumers/position:
 * how far the consumer has come.
 */
import { randomBytes } from 'node:crypto';
import { keyOf, type Call } from '../call.ts';
import { badRequest, methodNotAllowed, unavailable } from '../errors.ts';
import { sendJson } from '../respond.ts';
import { decode } from '../store/entry.ts';
import { find } from '../verbs/get.ts';
import { changeObject } from '../verbs/update.ts';
import { MEMORY_API_VERSION } from '../memory/history.ts';
import { durableName, durableSpec, resourcesOf, type ConsumerObject } from './event-consumer.ts';
import { issuersOf, livingConsumers, presentDurable, type ConsumerRoom } from './keeper.ts';
import { timestamp } from '../../api-schemas/timestamps.ts';

const MIN_LIFETIME_SECONDS = 600;
const TURN_BYTES = 8;

export async function credentials(call: Call): Promise<void> {
  if (call.target.verb !== 'create') throw methodNotAllowed(call.request.method ?? '');
  const { access, durables } = roomOf(call);
  const lifetimeSeconds = lifetimeOf(call);
  const object = decode(await find(call)) as ConsumerObject;
  requireSight(call, object);
  const { durable, turn } = await durableFor(call, object);
  const issuedAtMs = Date.now();
  const expiresAtMs = lifetimeSeconds === undefined ? undefined : issuedAtMs + 1000 * lifetimeSeconds;
  const name = `${call.target.namespace}/${call.target.name}`;
  const issued = await access.issue({
    name,
    stream: durables.stream,
    durable,
    ...(expiresAtMs !== undefined && { expiresAtMs }),
  });
  const status = {
    ...(turn !== undefined && { turn }),
    user: issued.user,
    issuer: issued.issuer,
    issuedAt: timestamp(issuedAtMs),
    ...(expiresAtMs !== undefined && { expiresAt: timestamp(expiresAtMs) }),
  };
  const entry = await changeObject(call, (current) => ({ ...(decode(current) as ConsumerObject), status }), {
    verb: 'update',
    subresource: 'credentials',
  });
  const { services } = call;
  await access.allow(issuersOf(livingConsumers(services)));
  call.response.setHeader('Reckon-Revision', entry.sequence);
  sendJson(call, 201, {
    kind: 'EventConsumerCredentials',
    apiVersion: MEMORY_API_VERSION,
    metadata: { name: call.target.name, namespace: call.target.namespace },
    status: {
      credentials: issued.credentials,
      stream: durables.stream,
      durable,
      inboxPrefix: issued.inboxPrefix,
      apiPrefix: issued.apiPrefix,
      ...(status.expiresAt && { expirationTimestamp: status.expiresAt }),
    },
  });
}

/** The one that there is, where the new credentials put the old ones out of force; else one that goes on where it has come to, under a name that the old ones do not have. */
async function durableFor(call: Call, object: ConsumerObject): Promise<{ durable: string; turn?: string }> {
  const room = roomOf(call);
  const { access, durables, secret } = room;
  const before = presentDurable(object, room);
  if (access.withdraws) {
    const durable = durableName(object, undefined, secret);
    if (before === undefined) await durables.begin(durableSpec(object, durable));
    return { durable };
  }
  const turn = randomBytes(TURN_BYTES).toString('hex');
  const durable = durableName(object, turn, secret);
  if (before === undefined) await durables.begin(durableSpec(object, durable));
  else await durables.succeed(before, durableSpec(object, durable));
  return { durable, turn };
}

/** Nobody gives away what he may not see himself: each kind that the consumer sees, he must be allowed to watch. */
function requireSight({ services, identity, target }: Call, object: ConsumerObject): void {
  for (const { group, resource } of resourcesOf(object) ?? [{ group: '*', resource: '*' }]) {
    const attributes = { verb: 'watch', group, resource, subresource: '', namespace: target.namespace, name: '' };
    services.authorizer.require(identity, attributes);
  }
}

function lifetimeOf({ query }: Call): number | undefined {
  const given = query.get('expirationSeconds');
  if (given === null) return undefined;
  if (!/^\d{1,10}$/.test(given) || Number(given) < MIN_LIFETIME_SECONDS)
    throw badRequest(
      `expirationSeconds: Invalid value: ${JSON.stringify(given)}: expected a whole number of seconds from ${MIN_LIFETIME_SECONDS}`,
    );
  return Number(given);
}

export async function position(call: Call): Promise<void> {
  if (call.target.verb !== 'get') throw methodNotAllowed(call.request.method ?? '');
  const room = roomOf(call);
  const durable = presentDurable(decode(await find(call)) as ConsumerObject, room);
  const state = durable === undefined ? undefined : await room.durables.state(durable);
  const { acknowledged, unacknowledged, pending } = state ?? {};
  sendJson(call, 200, {
    kind: 'EventConsumerPosition',
    apiVersion: MEMORY_API_VERSION,
    metadata: { name: keyOf(call).name, namespace: call.target.namespace },
    status:
      durable === undefined
        ? { state: 'NoCredentials' }
        : state === undefined
          ? { state: 'MustBeginAfresh', durable }
          : {
              state: pending === 0 && unacknowledged === 0 ? 'UpToDate' : 'Behind',
              durable,
              acknowledged,
              unacknowledged,
              pending,
            },
  });
}

function roomOf({ services }: Call): ConsumerRoom {
  if (!services.consumers)
    throw unavailable(
      'this API server can sign no NATS credentials: with a NATS of your own, give it NATS_CONSUMERS_ACCOUNT and NATS_CONSUMERS_KEY (docs/consumers.md)',
    );
  return services.consumers;
}
