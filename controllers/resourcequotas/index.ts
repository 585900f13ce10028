/**
 * ResourceQuotas: counts what the objects of a namespace use and reports it. (That nothing exceeds a quota is the API server's part: it books what it admits together with the object.) What comes to use
 * less, or goes, is counted here.
 */
import { isInScope, releasedAtMs, usageOf } from '../../api-schemas/usage.ts';
import {
  EVERY_RESOURCE,
  keyIn,
  sameJson,
  type ApiObject,
  type Controller,
  type ObjectKey,
  type World,
} from '../../sdk/index.ts';
import { reconcile, RESOURCE_QUOTAS, type Observed, type Quota } from './reconcile.ts';

const isPod = ({ group, resource }: ObjectKey): boolean => group === '' && resource === 'pods';

/** The quotas of its namespace, if what the object counts for has changed. */
function concerned(object: ApiObject, previous: ApiObject | undefined, world: World): ObjectKey[] {
  const { namespace } = object.metadata;
  if (!namespace) return [];
  const quotas = world.list<Quota>(RESOURCE_QUOTAS, { namespace });
  if (quotas.length === 0) return [];
  const key = world.keyOf(object);
  const isGone = world.get(key, key.namespace, key.name) === undefined;
  const changes = (quota: Quota): boolean =>
    !previous ||
    isGone ||
    isInScope(quota, key, object) !== isInScope(quota, key, previous) ||
    (isPod(key) && object.metadata.deletionTimestamp !== previous.metadata.deletionTimestamp) ||
    !sameAmounts(usageOf(key, object), usageOf(key, previous));
  return quotas.filter(changes).map(({ metadata }) => keyIn(RESOURCE_QUOTAS, namespace, metadata.name));
}

const sameAmounts = (a: Readonly<Record<string, bigint>>, b: Readonly<Record<string, bigint>>): boolean =>
  sameJson(texts(a), texts(b));

const texts = (amounts: Readonly<Record<string, bigint>>): Record<string, string> =>
  Object.fromEntries(Object.entries(amounts).map(([name, amount]) => [name, String(amount)]));

export const controller: Controller<Quota, Observed> = {
  name: 'resourcequotas',
  resource: RESOURCE_QUOTAS,
  watches: [{ resource: EVERY_RESOURCE, keysFor: concerned }],
  observe(key, world, nowMs) {
    const quota = world.get<Quota>(RESOURCE_QUOTAS, key.namespace, key.name);
    if (!quota) return undefined;
    const users = world.list(EVERY_RESOURCE, { namespace: key.namespace }).flatMap((object) => {
      const type = world.keyOf(object);
      if (!isInScope(quota, type, object)) return [];
      return [{ usage: usageOf(type, object), releasedAtMs: releasedAtMs(type, object) }];
    });
    return { desired: quota, observed: { users, nowMs } };
  },
  reconcile,
};
