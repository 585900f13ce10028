/**
 * The garbage collector: looks at every object that has owners or is being deleted, of whatever kind.
 */
import {
  EVERY_RESOURCE,
  type ApiObject,
  type Controller,
  type ObjectKey,
  type OwnerReference,
  type World,
} from '../../sdk/index.ts';
import { FOREGROUND, ORPHAN, reconcile, type Observed, type OwnerState } from './reconcile.ts';

/** Kinds of the ephemeral stream, which the World does not hold: an owner of these is taken to be there. */
const UNSEEN = new Set(['coordination.k8s.io/v1/Lease', 'v1/Event', 'events.k8s.io/v1/Event']);

function stateOf(reference: OwnerReference, namespace: string | undefined, world: World): OwnerState {
  if (UNSEEN.has(`${reference.apiVersion}/${reference.kind}`)) return 'solid';
  const owner = world.byUid(reference.uid);
  // An owner in another namespace is no owner.
  if (!owner || (owner.metadata.namespace && owner.metadata.namespace !== namespace)) return 'dangling';
  const { deletionTimestamp, finalizers = [] } = owner.metadata;
  return deletionTimestamp && finalizers.includes(FOREGROUND) && reference.blockOwnerDeletion ? 'waiting' : 'solid';
}

const dependentsOf = (uid: string | undefined, world: World) =>
  uid === undefined
    ? []
    : world.list(EVERY_RESOURCE, { ownerUid: uid }).map((object) => ({ key: world.keyOf(object), object }));

/** When an object is on its way out or gone, its dependents and its owners are concerned. */
function concerned(object: ApiObject, world: World): ObjectKey[] {
  if (!object.metadata.deletionTimestamp) return [];
  const owners = (object.metadata.ownerReferences ?? []).flatMap(({ uid }) => {
    const owner = world.byUid(uid);
    return owner?.metadata.deletionTimestamp ? [world.keyOf(owner)] : [];
  });
  return [...dependentsOf(object.metadata.uid, world).map(({ key }) => key), ...owners];
}

export const controller: Controller<ApiObject, Observed> = {
  name: 'garbagecollector',
  resource: EVERY_RESOURCE,
  concurrency: 16,
  watches: [{ resource: EVERY_RESOURCE, keysFor: (object, _previous, world) => concerned(object, world) }],
  observe(key, world) {
    const object = world.get(key, key.namespace, key.name);
    if (!object) return undefined;
    const { deletionTimestamp, finalizers = [], ownerReferences = [], namespace, uid } = object.metadata;
    const leaving = deletionTimestamp !== undefined && (finalizers.includes(FOREGROUND) || finalizers.includes(ORPHAN));
    if (!leaving && ownerReferences.length === 0) return undefined;
    const owners = ownerReferences.map((reference) => ({ reference, state: stateOf(reference, namespace, world) }));
    return { desired: object, observed: { key, owners, dependents: leaving ? dependentsOf(uid, world) : [] } };
  },
  reconcile,
};
