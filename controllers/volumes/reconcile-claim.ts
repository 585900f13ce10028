/**
 * Finds a claim a volume: one that stands and fits, or a new one from its StorageClass. Pure; called by the SDK's loop.
 */
import { parseQuantity } from '../../api-schemas/quantity.ts';
import { matchesSelector, type ApiAction, type ApiObject, type Plan } from '../../sdk/index.ts';
import {
  BIND_COMPLETED,
  BOUND_BY_CONTROLLER,
  CLAIM_FINALIZER,
  CLAIMS,
  DRIVER,
  DRIVER_FINALIZER,
  isFor,
  PROVISIONED_BY,
  release,
  SELECTED_NODE,
  VOLUMES,
  type ClaimObject,
  type ClassObject,
  type VolumeObject,
} from './objects.ts';

export interface Observed {
  /** Every volume there is. */
  readonly volumes: readonly VolumeObject[];
  readonly storageClass: ClassObject | undefined;
  /** Names of pods that mount the claim and have not ended. */
  readonly users: readonly string[];
  /** Names of nodes that a volume can be put on, in order. */
  readonly readyNodes: readonly string[];
}

export function reconcile(claim: ClaimObject, observed: Observed): Plan<ApiAction> {
  if (claim.metadata.deletionTimestamp) return deleting(claim, observed);
  const bound = observed.volumes.find(({ metadata }) => metadata.name === claim.spec?.volumeName);
  if (claim.spec?.volumeName) return bound ? bind(claim, bound) : lost(claim);
  const reserved = observed.volumes.find((volume) => isFor(volume, claim) && !volume.metadata.deletionTimestamp);
  if (reserved) return bind(claim, reserved);
  if (waitsForConsumer(claim, observed))
    return pending(claim, 'WaitForFirstConsumer', 'waiting for first consumer to be created before binding', 'Normal');
  const standing = smallestFit(claim, observed.volumes);
  return standing ? bind(claim, standing) : provision(claim, observed);
}

/** A claim ends when no pod uses it any longer. */
function deleting(claim: ClaimObject, { users }: Observed): Plan<ApiAction> {
  if (users.length > 0 || !claim.metadata.finalizers?.includes(CLAIM_FINALIZER)) return { actions: [] };
  return { actions: [release(claim, [CLAIM_FINALIZER], 'no pod uses the claim')] };
}

const waitsForConsumer = (claim: ClaimObject, { storageClass }: Observed): boolean =>
  storageClass?.volumeBindingMode === 'WaitForFirstConsumer' &&
  claim.metadata.annotations?.[SELECTED_NODE] === undefined;

const sizeOf = (quantities: Readonly<Record<string, string>> | undefined): bigint =>
  parseQuantity(quantities?.['storage'] ?? '0')?.nanos ?? 0n;

/** The smallest volume that nobody has and that offers what the claim asks for. */
function smallestFit({ spec, metadata }: ClaimObject, volumes: readonly VolumeObject[]): VolumeObject | undefined {
  const wanted = sizeOf(spec?.resources?.requests);
  const fits = ({ spec: offered, metadata: { labels, deletionTimestamp } }: VolumeObject): boolean =>
    offered !== undefined &&
    deletionTimestamp === undefined &&
    offered.claimRef === undefined &&
    (offered.storageClassName ?? '') === (spec?.storageClassName ?? '') &&
    (offered.volumeMode ?? 'Filesystem') === (spec?.volumeMode ?? 'Filesystem') &&
    (spec?.accessModes ?? []).every((mode) => offered.accessModes?.includes(mode)) &&
    (spec?.selector === undefined || matchesSelector(spec.selector, labels)) &&
    sizeOf(offered.capacity) >= wanted;
  const compare = (a: VolumeObject, b: VolumeObject): number => {
    const difference = sizeOf(a.spec?.capacity) - sizeOf(b.spec?.capacity);
    return difference !== 0n ? Number(difference > 0n) - 0.5 : a.metadata.name < b.metadata.name ? -1 : 1;
  };
  return metadata.uid === undefined ? undefined : volumes.filter(fits).sort(compare)[0];
}

/** The volume names the claim, then the claim names the volume: whoever dies in between, the other half can be worked out. */
function bind(claim: ClaimObject, volume: VolumeObject): Plan<ApiAction> {
  const { name, namespace = '', uid, annotations } = claim.metadata;
  if (volume.spec?.claimRef && !isFor(volume, claim)) {
    return pending(
      claim,
      'FailedBinding',
      `volume "${volume.metadata.name}" already bound to a different claim.`,
      'Warning',
    );
  }
  const actions: ApiAction[] = [];
  const because = `volume ${volume.metadata.name} offers what claim ${namespace}/${name} asks for`;
  if (volume.spec?.claimRef?.uid !== uid) {
    const claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid };
    const patch = {
      metadata: {
        uid: volume.metadata.uid,
        resourceVersion: volume.metadata.resourceVersion,
        annotations: { [BOUND_BY_CONTROLLER]: 'yes' },
      },
      spec: { claimRef },
    };
    actions.push({ verb: 'patch', resource: VOLUMES, name: volume.metadata.name, patch, because });
  }
  if (claim.spec?.volumeName !== volume.metadata.name || annotations?.[BIND_COMPLETED] !== 'yes') {
    const patch = {
      metadata: { uid, annotations: { [BIND_COMPLETED]: 'yes', [BOUND_BY_CONTROLLER]: 'yes' } },
      spec: { volumeName: volume.metadata.name },
    };
    actions.push({ verb: 'patch', resource: CLAIMS, namespace, name, patch, because });
  }
  const { accessModes, capacity } = volume.spec ?? {};
  return {
    actions,
    status: { ...claim.status, phase: 'Bound', ...(accessModes && { accessModes }), ...(capacity && { capacity }) },
  };
}

function provision(claim: ClaimObject, { storageClass, readyNodes }: Observed): Plan<ApiAction> {
  const className = claim.spec?.storageClassName;
  if (!className)
    return pending(
      claim,
      'FailedBinding',
      'no persistent volumes available for this claim and no storage class is set',
      'Normal',
    );
  if (!storageClass)
    return pending(claim, 'ProvisioningFailed', `storageclass.storage.k8s.io "${className}" not found`, 'Warning');
  if (storageClass.provisioner !== DRIVER) {
    const message = `Waiting for a volume to be created either by the external provisioner '${storageClass.provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`;
    return pending(claim, 'ExternalProvisioning', message, 'Normal');
  }
  const nodeName = claim.metadata.annotations?.[SELECTED_NODE] ?? readyNodes[0];
  if (nodeName === undefined)
    return pending(claim, 'ProvisioningFailed', 'no node is ready to hold the volume', 'Warning');
  const volume = newVolume(claim, storageClass, nodeName);
  const event = {
    about: claim,
    type: 'Normal' as const,
    reason: 'ProvisioningSucceeded',
    message: `Successfully provisioned volume ${volume.metadata.name}`,
  };
  const because = `claim ${claim.metadata.namespace}/${claim.metadata.name} asks for a volume of class ${className} on node ${nodeName}`;
  return {
    actions: [{ verb: 'create', resource: VOLUMES, object: volume, because, event }],
    ...statusOf(claim, 'Pending'),
  };
}

/** Named after the claim's uid, so that a repeated create finds the first one. */
function newVolume(claim: ClaimObject, storageClass: ClassObject, nodeName: string): ApiObject {
  const { name, namespace = '', uid = '' } = claim.metadata;
  const volumeName = `pvc-${uid}`;
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: volumeName, annotations: { [PROVISIONED_BY]: DRIVER }, finalizers: [DRIVER_FINALIZER] },
    spec: {
      accessModes: claim.spec?.accessModes ?? [],
      capacity: { storage: claim.spec?.resources?.requests?.['storage'] ?? '0' },
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid },
      csi: {
        driver: DRIVER,
        volumeHandle: volumeName,
        ...(storageClass.parameters && { volumeAttributes: storageClass.parameters }),
      },
      ...(storageClass.mountOptions && { mountOptions: storageClass.mountOptions }),
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [nodeName] }] },
          ],
        },
      },
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? 'Delete',
      storageClassName: storageClass.metadata.name,
      volumeMode: claim.spec?.volumeMode ?? 'Filesystem',
    },
  };
}

/** The volume that the claim was bound to is gone, and its data with it. */
function lost(claim: ClaimObject): Plan<ApiAction> {
  if (claim.metadata.annotations?.[BIND_COMPLETED] !== 'yes') return phase(claim, 'Pending');
  const message = `Bound claim has lost reference to PersistentVolume. Data on the volume is lost!`;
  if (claim.status?.phase === 'Lost') return { actions: [] };
  return {
    actions: [{ verb: 'event', about: claim, type: 'Warning', reason: 'ClaimLost', message, because: message }],
    ...statusOf(claim, 'Lost'),
  };
}

function pending(claim: ClaimObject, reason: string, message: string, type: 'Normal' | 'Warning'): Plan<ApiAction> {
  return {
    actions: [{ verb: 'event', about: claim, type, reason, message, because: message }],
    ...statusOf(claim, 'Pending'),
  };
}

const statusOf = (claim: ClaimObject, name: string) => ({ status: { ...claim.status, phase: name } });
const phase = (claim: ClaimObject, name: string): Plan<ApiAction> => ({ actions: [], ...statusOf(claim, name) });
