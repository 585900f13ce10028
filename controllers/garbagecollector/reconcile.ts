/**
 * Garbage collection: an object whose owners are all gone goes too; an object that is being deleted takes its dependents along first (foreground) or lets them be (orphan). Pure; called by
 * the SDK's loop for every object there is. https://kubernetes.io/docs/concepts/architecture/garbage-collection/
 */
import type { ApiAction, ApiObject, ObjectKey, OwnerReference, Plan, ResourceRef } from '../../sdk/index.ts';

/** `dangling`: there is no such owner any more. `waiting`: it is being deleted in the foreground, and waits for its dependents. */
export type OwnerState = 'solid' | 'dangling' | 'waiting';

export interface Owner {
  readonly reference: OwnerReference;
  readonly state: OwnerState;
}

export interface Dependent {
  readonly key: ObjectKey;
  readonly object: ApiObject;
  /** How the API is asked about it. */
  readonly resource: ResourceRef;
}

export interface Observed {
  readonly key: ObjectKey;
  readonly resource: ResourceRef;
  readonly owners: readonly Owner[];
  /** Looked up only where the object is being deleted, or an owner waits for it. */
  readonly dependents: readonly Dependent[];
  /** By uid, the owners that wait for it while it waits for them, through others or at once: each of the ring is leaving in the foreground, and would for ever. */
  readonly ring: readonly string[];
}

export const FOREGROUND = 'foregroundDeletion';
export const ORPHAN = 'orphan';
/** Done in one plan; the rest follows as these are done. */
const MAX_ACTIONS = 200;

export function reconcile(object: ApiObject, { key, resource, owners, dependents, ring }: Observed): Plan<ApiAction> {
  const target = { object, key, resource };
  if (object.metadata.deletionTimestamp) return { actions: deleting(target, dependents, ring).slice(0, MAX_ACTIONS) };
  return { actions: owned(target, owners, dependents) };
}

const place = ({ namespace, name }: ObjectKey) => ({ ...(namespace !== '' && { namespace }), name });

function deleting(target: Dependent, dependents: readonly Dependent[], ring: readonly string[]): ApiAction[] {
  const { object } = target;
  const finalizers = object.metadata.finalizers ?? [];
  const { uid = '' } = object.metadata;
  if (finalizers.includes(ORPHAN)) {
    if (dependents.length === 0) return [release(target, ORPHAN, 'its dependents have been let go')];
    return dependents.map((dependent) =>
      disown(dependent, [uid], `${object.kind} ${object.metadata.name} was deleted and leaves its dependents be`),
    );
  }
  if (!finalizers.includes(FOREGROUND)) return [];
  const isBlocked = dependents.some(({ object }) => blockedBy(object).includes(uid));
  if (!isBlocked) return [release(target, FOREGROUND, 'no dependent holds it any longer')];
  if (ring.length > 0) return [unblock(target, ring)];
  // Each dependent decides for itself whether another owner keeps it; see `owned`.
  return [];
}

function owned(target: Dependent, owners: readonly Owner[], dependents: readonly Dependent[]): ApiAction[] {
  const { object, key, resource } = target;
  const lost = owners.filter(({ state }) => state !== 'solid');
  if (lost.length === 0) return [];
  const names = lost.map(({ reference }) => `${reference.kind} ${reference.name}`).join(', ');
  if (lost.length < owners.length) {
    const uids = lost.map(({ reference }) => reference.uid);
    return [disown(target, uids, `${names} is gone, and another owner keeps it`)];
  }
  const { uid = '', resourceVersion, finalizers = [] } = object.metadata;
  const awaited = lost.some(({ state }) => state === 'waiting') && dependents.length > 0;
  const propagationPolicy = awaited
    ? 'Foreground'
    : finalizers.includes(ORPHAN)
      ? 'Orphan'
      : finalizers.includes(FOREGROUND)
        ? 'Foreground'
        : 'Background';
  const because = lost.some(({ state }) => state === 'waiting')
    ? `its owner ${names} is being deleted and waits for it`
    : `its owner ${names} is gone`;
  return [
    {
      verb: 'delete',
      resource,
      ...place(key),
      uid,
      // Somebody may have taken it over meanwhile.
      ...(resourceVersion && { resourceVersion }),
      propagationPolicy,
      because,
    },
  ];
}

export const isLeavingInForeground = ({ metadata }: ApiObject): boolean =>
  metadata.deletionTimestamp !== undefined && (metadata.finalizers ?? []).includes(FOREGROUND);

/** By uid, the owners that wait for it when they are deleted in the foreground. An object never waits for itself. */
export const blockedBy = ({ metadata: { uid, ownerReferences = [] } }: ApiObject): string[] =>
  ownerReferences
    .filter((reference) => reference.blockOwnerDeletion && reference.uid !== uid)
    .map((reference) => reference.uid);

/** Lets these owners end before it. */
function unblock({ object, key, resource }: Dependent, owners: readonly string[]): ApiAction {
  const { uid, resourceVersion, ownerReferences = [] } = object.metadata;
  const patch = {
    metadata: {
      uid,
      resourceVersion,
      ownerReferences: ownerReferences.map((reference) =>
        owners.includes(reference.uid) ? { ...reference, blockOwnerDeletion: false } : reference,
      ),
    },
  };
  const because = 'its owners wait for it while it waits for them, and neither would end';
  return { verb: 'patch', resource, ...place(key), patch, because };
}

/** Takes owner references off. The resourceVersion guards against a reference that came meanwhile. */
function disown({ object, key, resource }: Dependent, uids: readonly string[], because: string): ApiAction {
  const { uid, resourceVersion, ownerReferences = [] } = object.metadata;
  const rest = ownerReferences.filter((reference) => !uids.includes(reference.uid));
  const metadata = { uid, resourceVersion, ownerReferences: rest.length > 0 ? rest : null };
  return { verb: 'patch', resource, ...place(key), patch: { metadata }, because };
}

/** Takes a finalizer off, and so lets the object end. */
function release({ object, key, resource }: Dependent, finalizer: string, because: string): ApiAction {
  const { uid, resourceVersion, finalizers = [] } = object.metadata;
  const metadata = { uid, resourceVersion, finalizers: finalizers.filter((name) => name !== finalizer) };
  return { verb: 'patch', resource, ...place(key), patch: { metadata }, because };
}
