/**
 * The garbage collector: looks at every object that has owners or is being deleted, of whatever kind.
 */
import { loadRegistry } from '../../api-schemas/registry.ts';
import {
  EVERY_RESOURCE,
  groupOf,
  isCustomNamespaced,
  resourceOf,
  sameJson,
  type ApiObject,
  type Controller,
  type ObjectKey,
  type OwnerReference,
  type World,
} from '../../sdk/index.ts';
import {
  blockedBy,
  FOREGROUND,
  isLeavingInForeground,
  ORPHAN,
  reconcile,
  type Observed,
  type OwnerState,
} from './reconcile.ts';

/** Kinds of the ephemeral stream, which the World does not hold: an owner of these is taken to be there. */
const UNSEEN = new Set(['coordination.k8s.io/v1/Lease', 'v1/Event', 'events.k8s.io/v1/Event']);

/** Whether the kind lives in namespaces; undefined for a kind that is not built in. */
type IsNamespaced = (apiVersion: string, kind: string) => boolean | undefined;

function builtInScopes(): IsNamespaced {
  const scopes = new Map(
    loadRegistry()
      .resources()
      .map(({ group, kind, namespaced }) => [`${group}/${kind}`, namespaced]),
  );
  return (apiVersion, kind) => scopes.get(`${groupOf(apiVersion)}/${kind}`);
}

function stateOf(
  reference: OwnerReference,
  namespace: string | undefined,
  { world, isNamespaced }: { world: World; isNamespaced: IsNamespaced },
): OwnerState {
  const { apiVersion, kind, name, uid } = reference;
  if (UNSEEN.has(`${apiVersion}/${kind}`)) return 'solid';
  const owner = world.byUid(uid);
  const isOwnerNamespaced = (): boolean =>
    isNamespaced(apiVersion, kind) ??
    isCustomNamespaced(groupOf(apiVersion), kind, world) ??
    Boolean(owner?.metadata.namespace);
  // An object outside of namespaces cannot be owned by one inside: whether such an owner stands cannot be told, so it is never held to be gone.
  if (!namespace && isOwnerNamespaced()) return 'solid';
  const isIt =
    owner?.kind === kind && owner.metadata.name === name && groupOf(owner.apiVersion) === groupOf(apiVersion);
  // An owner in another namespace is no owner.
  if (!owner || !isIt || (owner.metadata.namespace && owner.metadata.namespace !== namespace)) return 'dangling';
  return isLeavingInForeground(owner) ? 'waiting' : 'solid';
}

const dependentsOf = (uid: string | undefined, world: World) =>
  uid === undefined
    ? []
    : world.list(EVERY_RESOURCE, { ownerUid: uid }).map((object) => {
        const key = world.keyOf(object);
        return { key, object, resource: resourceOf(key, object, world) };
      });

/**
 * Of the owners that wait for the object, those that it waits for. Followed upwards, where each has few: only owners that are leaving in the foreground wait at all. Whatever closes a ring is a change of one
 * of its own, which is looked at for that change; so no other has to be.
 */
function ringThrough(object: ApiObject, world: World): string[] {
  const waitingFor = (one: ApiObject) =>
    blockedBy(one)
      .map((uid) => world.byUid(uid))
      .filter((owner) => owner !== undefined)
      .filter(isLeavingInForeground);
  const isAbove = (owner: ApiObject): boolean => {
    const seen = new Set([owner]);
    for (const one of seen) for (const next of waitingFor(one)) seen.add(next);
    return seen.has(object);
  };
  if (!isLeavingInForeground(object)) return [];
  return waitingFor(object)
    .filter(isAbove)
    .map(({ metadata }) => metadata.uid ?? '');
}

const departureOf = ({ metadata }: ApiObject) => [metadata.deletionTimestamp, metadata.finalizers];

/**
 * Its dependents when an object begins to leave or is gone; its owners when they wait for it and it is gone or has let go of them. Anything else concerns nobody but the object itself, so that
 * a status that changes all the time costs next to nothing.
 */
export function concerned(object: ApiObject, previous: ApiObject | undefined, world: World): ObjectKey[] {
  if (!previous) return [];
  const keys: ObjectKey[] = [];
  const { uid, ownerReferences } = object.metadata;
  const isGone = world.byUid(previous.metadata.uid ?? '') === undefined;
  if (isGone || !sameJson(departureOf(object), departureOf(previous)))
    keys.push(...dependentsOf(previous.metadata.uid ?? uid, world).map(({ key }) => key));
  if (isGone || !sameJson(ownerReferences, previous.metadata.ownerReferences)) {
    for (const reference of previous.metadata.ownerReferences ?? []) {
      const owner = world.byUid(reference.uid);
      if (owner?.metadata.deletionTimestamp) keys.push(world.keyOf(owner));
    }
  }
  return keys;
}

export function makeController(isNamespaced: IsNamespaced): Controller<ApiObject, Observed> {
  return {
    name: 'garbagecollector',
    resource: EVERY_RESOURCE,
    concurrency: 16,
    watches: [{ resource: EVERY_RESOURCE, keysFor: concerned }],
    observe(key, world) {
      const object = world.get(key, key.namespace, key.name);
      if (!object) return undefined;
      const { deletionTimestamp, finalizers = [], ownerReferences = [], namespace, uid } = object.metadata;
      const isLeaving =
        deletionTimestamp !== undefined && (finalizers.includes(FOREGROUND) || finalizers.includes(ORPHAN));
      if (!isLeaving && ownerReferences.length === 0) return undefined;
      const owners = ownerReferences.map((reference) => ({
        reference,
        state: stateOf(reference, namespace, { world, isNamespaced }),
      }));
      const matters = isLeaving || owners.some(({ state }) => state === 'waiting');
      return {
        desired: object,
        observed: {
          key,
          resource: resourceOf(key, object, world),
          owners,
          dependents: matters ? dependentsOf(uid, world) : [],
          ring: ringThrough(object, world),
        },
      };
    },
    reconcile,
  };
}

export const controller = makeController(builtInScopes());
