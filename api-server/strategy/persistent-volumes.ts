/** Claims take the default StorageClass, and neither a claim in use nor a bound volume ends before its user has let go of it. */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PersistentVolumeClaim } from '../../api-schemas/types/core-v1.ts';
import { checkClaimLimits } from '../policy/limit-ranges.ts';
import { decode } from '../store/entry.ts';
import type { Call } from '../call.ts';
import type { Kind } from './kinds.ts';

export const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection';
export const VOLUME_FINALIZER = 'kubernetes.io/pv-protection';
const DEFAULT_CLASS = 'storageclass.kubernetes.io/is-default-class';

function hold(object: ApiObject, finalizer: string): void {
  object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), finalizer])];
}

/** The newest class that is marked as the default. */
function defaultClass(call: Call): string | undefined {
  const definition = call.services.registry.byResource('storage.k8s.io', 'v1', 'storageclasses');
  if (!definition) return undefined;
  return call.services.store
    .cache(definition)
    .list()
    .map(decode)
    .filter(({ metadata }) => metadata.annotations?.[DEFAULT_CLASS] === 'true')
    .sort((a, b) => (b.metadata.creationTimestamp ?? '').localeCompare(a.metadata.creationTimestamp ?? ''))[0]?.metadata
    .name;
}

export const persistentVolumeClaims: Kind = {
  prepareCreate(object, call) {
    const spec = (object['spec'] ??= {}) as { storageClassName?: string };
    const name = spec.storageClassName ?? defaultClass(call);
    if (name !== undefined) spec.storageClassName = name;
    hold(object, CLAIM_FINALIZER);
    object['status'] = { phase: 'Pending' };
  },
  admit(object, _old, call) {
    if (call.target.subresource === '') checkClaimLimits(object as PersistentVolumeClaim & ApiObject, call);
  },
};

export const persistentVolumes: Kind = {
  prepareCreate(object) {
    hold(object, VOLUME_FINALIZER);
    object['status'] = { phase: 'Pending' };
  },
};
