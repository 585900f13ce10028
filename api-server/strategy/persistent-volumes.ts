/** Claims take the default StorageClass, and neither a claim in use nor a bound volume ends before its user has let go of it. */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PersistentVolumeClaim } from '../../api-schemas/types/core-v1.ts';
import { defaultClass } from '../policy/default-class.ts';
import { checkClaimLimits } from '../policy/limit-ranges.ts';
import type { Kind } from './kinds.ts';

export const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection';
export const VOLUME_FINALIZER = 'kubernetes.io/pv-protection';
const STORAGE_CLASSES = {
  group: 'storage.k8s.io',
  resource: 'storageclasses',
  mark: 'storageclass.kubernetes.io/is-default-class',
};

function hold(object: ApiObject, finalizer: string): void {
  object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), finalizer])];
}

export const persistentVolumeClaims: Kind = {
  prepareCreate(object, call) {
    const spec = (object['spec'] ??= {}) as { storageClassName?: string };
    const name = spec.storageClassName ?? defaultClass(call, STORAGE_CLASSES);
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
