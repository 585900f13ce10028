/**
 * Follows a volume through its life: available, bound, released when its claim is gone, and then kept or deleted as its reclaim policy says. Pure; called by the SDK's loop.
 */
import { dataStateOf, DOCKER_VOLUME_FINALIZER } from '../../api-schemas/docker-volumes.ts';
import type { ApiAction, Plan } from '../../sdk/index.ts';
import {
  BOUND_BY_CONTROLLER,
  lossOf,
  PROVISIONED_BY,
  release,
  VOLUME_FINALIZER,
  VOLUMES,
  type ClaimObject,
  type VolumeObject,
} from './objects.ts';

const DATA_LOST = 'DataLost';

export interface Observed {
  /** The claim that the volume's reference names, by uid; undefined when it is gone. */
  readonly claim: ClaimObject | undefined;
  /** No node that the volume could be on is left. */
  readonly isNodeGone: boolean;
}

export function reconcile(volume: VolumeObject, observed: Observed): Plan<ApiAction> {
  const phase = phaseOf(volume, observed);
  const status = statusOf(volume, phase);
  if (volume.metadata.deletionTimestamp) return { actions: ending(volume, phase, observed), status };
  const rejoined = unbind(volume, observed);
  if (rejoined) return { actions: [rejoined] };
  if (phase !== 'Released' || volume.spec?.persistentVolumeReclaimPolicy !== 'Delete') return { actions: [], status };
  const { name, uid = '' } = volume.metadata;
  const { namespace, name: claimName } = volume.spec.claimRef ?? {};
  const because = `no claim ${namespace}/${claimName} has it any longer, and its reclaim policy is Delete`;
  return { actions: [{ verb: 'delete', resource: VOLUMES, name, uid, because }], status };
}

/** A volume whose data is gone has failed, whoever has it. */
function statusOf(volume: VolumeObject, phase: string): Record<string, unknown> {
  const { reason, message, ...rest } = volume.status ?? {};
  if (dataStateOf(volume) === 'lost') return { ...rest, phase: 'Failed', reason: DATA_LOST, message: lossOf(volume) };
  const isOld = reason === DATA_LOST;
  return { ...rest, phase, ...(reason && !isOld && { reason }), ...(message && !isOld && { message }) };
}

/** Its claim has found itself another volume. */
const isJilted = ({ metadata }: VolumeObject, { claim }: Observed): boolean =>
  Boolean(claim?.spec?.volumeName) && claim?.spec?.volumeName !== metadata.name;

/** Made for that claim alone: nobody else may have it. */
const isMadeToMeasure = ({ metadata, spec }: VolumeObject): boolean =>
  metadata.annotations?.[PROVISIONED_BY] !== undefined && spec?.persistentVolumeReclaimPolicy === 'Delete';

function phaseOf(volume: VolumeObject, observed: Observed): 'Available' | 'Bound' | 'Released' {
  // A reference without a uid reserves the volume for a claim to come.
  if (!volume.spec?.claimRef?.uid) return 'Available';
  if (!observed.claim) return 'Released';
  if (isJilted(volume, observed)) return isMadeToMeasure(volume) ? 'Released' : 'Available';
  return observed.claim.spec?.volumeName === volume.metadata.name ? 'Bound' : 'Available';
}

/** Frees a volume whose claim is bound to another; what a person has reserved stays reserved. */
function unbind(volume: VolumeObject, observed: Observed): ApiAction | undefined {
  if (!volume.spec?.claimRef?.uid || !isJilted(volume, observed) || isMadeToMeasure(volume)) return undefined;
  const { name, uid, resourceVersion, annotations } = volume.metadata;
  const byUs = annotations?.[BOUND_BY_CONTROLLER] !== undefined;
  const patch = {
    metadata: { uid, resourceVersion, ...(byUs && { annotations: { [BOUND_BY_CONTROLLER]: null } }) },
    spec: { claimRef: byUs ? null : { uid: null } },
  };
  const because = `claim ${volume.spec.claimRef.namespace}/${volume.spec.claimRef.name} is bound to another volume`;
  return { verb: 'patch', resource: VOLUMES, name, patch, because };
}

/** A bound volume stays; a released one waits for its node's agent to remove the data, unless the data is to be kept, or is gone with its node. */
function ending(volume: VolumeObject, phase: string, { isNodeGone }: Observed): ApiAction[] {
  if (phase === 'Bound') return [];
  const keeps = volume.spec?.persistentVolumeReclaimPolicy !== 'Delete';
  const due = [VOLUME_FINALIZER, ...(keeps || isNodeGone ? [DOCKER_VOLUME_FINALIZER] : [])].filter((finalizer) =>
    volume.metadata.finalizers?.includes(finalizer),
  );
  if (due.length === 0) return [];
  const rest = keeps ? ', and its data is kept' : isNodeGone ? ', and its node is gone' : '';
  return [release(volume, due, `the volume is unbound${rest}`)];
}
