/**
 * How numbers that no two objects may share (addresses and ports of Services) are given out once, whichever API server gives them and whenever it dies: who takes a number also writes a small
 * record, the kind's allocation lock, in the same transaction and under its guard. Two that took at the same time cannot both stand; the other looks again. What is let go needs no lock. Called by
 * `object-store.ts`.
 */
import type { ObjectKey, Write } from '../../event-log/event-log.ts';

const GROUP = 'reckon.dev';
const RESOURCE = 'allocationlocks';

export const isAllocationLock = ({ group, resource }: ObjectKey): boolean => group === GROUP && resource === RESOURCE;

export const allocationLockKey = (resource: string): ObjectKey => ({
  group: GROUP,
  resource: RESOURCE,
  namespace: '',
  name: resource,
});

/** The lock's record beside the write that allocates. `guard`: the lock's newest sequence in the cache that the number was chosen from. */
export function lockWrite(write: Write, guard: number): Write {
  const key = allocationLockKey(write.key.resource);
  const uid = `allocation-lock-${key.name}`;
  const object = {
    apiVersion: `${GROUP}/v1`,
    kind: 'AllocationLock',
    metadata: { name: key.name, uid, creationTimestamp: write.time.replace(/\.\d{3}Z$/, 'Z') },
    holder: { namespace: write.key.namespace, name: write.key.name, uid: write.uid },
  };
  return {
    ...write,
    key,
    plane: 'desired',
    verb: guard === 0 ? 'create' : 'update',
    uid,
    guard,
    object: JSON.stringify(object),
  };
}
