/**
 * Follows a volume through its life: available, bound, released when its claim is gone, and then kept or deleted as its reclaim policy says. Pure; called by the SDK's loop.
 */
import type { ApiAction, Plan } from '../../sdk/index.ts';
import {
  DRIVER_FINALIZER,
  release,
  VOLUME_FINALIZER,
  VOLUMES,
  type ClaimObject,
  type VolumeObject,
} from './objects.ts';

export interface Observed {
  /** The claim that the volume's reference names, by uid; undefined when it is gone. */
  readonly claim: ClaimObject | undefined;
}

export function reconcile(volume: VolumeObject, { claim }: Observed): Plan<ApiAction> {
  const reference = volume.spec?.claimRef;
  // A reference without a uid reserves the volume for a claim to come.
  const phase = !reference?.uid
    ? 'Available'
    : claim
      ? claim.spec?.volumeName === volume.metadata.name
        ? 'Bound'
        : 'Available'
      : 'Released';
  const status = { ...volume.status, phase };
  if (volume.metadata.deletionTimestamp) return { actions: ending(volume, phase), status };
  if (phase !== 'Released' || volume.spec?.persistentVolumeReclaimPolicy !== 'Delete') return { actions: [], status };
  const { name, uid = '' } = volume.metadata;
  const because = `its claim ${reference?.namespace}/${reference?.name} is gone and its reclaim policy is Delete`;
  return { actions: [{ verb: 'delete', resource: VOLUMES, name, uid, because }], status };
}

/** A bound volume stays; a released one waits for its node's agent to remove the data, unless the data is to be kept. */
function ending(volume: VolumeObject, phase: string): ApiAction[] {
  if (phase === 'Bound') return [];
  const keeps = volume.spec?.persistentVolumeReclaimPolicy !== 'Delete';
  const due = [VOLUME_FINALIZER, ...(keeps ? [DRIVER_FINALIZER] : [])].filter((finalizer) =>
    volume.metadata.finalizers?.includes(finalizer),
  );
  return due.length === 0
    ? []
    : [release(volume, due, keeps ? 'the volume is unbound and its data is kept' : 'the volume is unbound')];
}
