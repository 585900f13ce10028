/** Claims take the default StorageClass, and neither a claim in use nor a bound volume ends before its user has let go of it. */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PersistentVolumeClaim } from '../../api-schemas/types/core-v1.ts';
import { defaultClass } from '../policy/default-class.ts';
import { checkClaimLimits } from '../policy/limit-ranges.ts';
import { compareQuantities } from '../../api-schemas/quantity.ts';
import * as fault from '../admission/fault.ts';
import type { Call } from '../call.ts';
import { forbidden, invalid } from '../errors.ts';
import { decode, entryId } from '../store/entry.ts';
import type { Kind } from './kinds.ts';

export const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection';
export const VOLUME_FINALIZER = 'kubernetes.io/pv-protection';
const ONLY_WHEN_BOUND =
  'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims';
const NOT_EXPANDABLE =
  'only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize';
const STORAGE_CLASSES = {
  group: 'storage.k8s.io',
  resource: 'storageclasses',
  mark: 'storageclass.kubernetes.io/is-default-class',
};

function hold(object: ApiObject, finalizer: string): void {
  object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), finalizer])];
}

type Claim = PersistentVolumeClaim & ApiObject;

const requested = ({ spec }: Claim): string => spec?.resources?.requests?.['storage'] ?? '0';

/** A claim may ask for more once it is bound, and its class allows that. https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims */
function checkExpansion(claim: Claim, old: Claim, call: Call): void {
  const { name } = claim.metadata;
  if (!((compareQuantities(requested(claim), requested(old)) ?? 0) > 0)) return;
  if (old.status?.phase !== 'Bound') throw invalid(call.definition, name, [fault.forbidden('spec', ONLY_WHEN_BOUND)]);
  const definition = call.services.registry.byResource('storage.k8s.io', 'v1', 'storageclasses');
  const id = entryId({ namespace: '', name: claim.spec?.storageClassName ?? '' });
  const entry = definition && call.services.store.cache(definition).get(id);
  if (!entry || decode(entry)['allowVolumeExpansion'] !== true) throw forbidden(call.definition, name, NOT_EXPANDABLE);
}

export const persistentVolumeClaims: Kind = {
  prepareCreate(object, call) {
    const spec = (object['spec'] ??= {}) as { storageClassName?: string };
    const name = spec.storageClassName ?? defaultClass(call, STORAGE_CLASSES);
    if (name !== undefined) spec.storageClassName = name;
    hold(object, CLAIM_FINALIZER);
    object['status'] = { phase: 'Pending' };
  },
  admit(object, old, call) {
    if (call.target.subresource !== '') return;
    checkClaimLimits(object as Claim, call);
    if (old) checkExpansion(object as Claim, old as Claim, call);
  },
};

export const persistentVolumes: Kind = {
  prepareCreate(object) {
    hold(object, VOLUME_FINALIZER);
    object['status'] = { phase: 'Pending' };
  },
};
