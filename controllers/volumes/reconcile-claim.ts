/**
 * Finds a claim a volume: one that stands and fits, or a new one from its StorageClass. Pure; called by the SDK's loop.
 */
import { dataStateOf, DOCKER_VOLUME_FINALIZER, VOLUME_DRIVER } from '../../api-schemas/docker-volumes.ts';
import { parseQuantity } from '../../api-schemas/quantity.ts';
import { matchesNodeSelector, matchesSelector, type ApiAction, type ApiObject, type Plan } from '../../sdk/index.ts';
import {
  BIND_COMPLETED,
  BOUND_BY_CONTROLLER,
  CLAIM_FINALIZER,
  CLAIMS,
  isFor,
  lossOf,
  NO_PROVISIONER,
  PROVISIONED_BY,
  release,
  SELECTED_NODE,
  VOLUMES,
  type ClaimObject,
  type ClassObject,
  type NodeObject,
  type VolumeObject,
} from './objects.ts';

export interface Observed {
  /** Every volume there is. */
  readonly volumes: readonly VolumeObject[];
  readonly storageClass: ClassObject | undefined;
  /** Names of pods that mount the claim and stand on a node. */
  readonly users: readonly string[];
  /** Nodes that a volume can be put on, in the order of their names. */
  readonly readyNodes: readonly NodeObject[];
  /** Whether what there is to say about a claim that waits has not been said yet. */
  readonly isNews: boolean;
}

export function reconcile(claim: ClaimObject, observed: Observed): Plan<ApiAction> {
  if (claim.metadata.deletionTimestamp) return deleting(claim, observed);
  const bound = observed.volumes.find(({ metadata }) => metadata.name === claim.spec?.volumeName);
  if (claim.spec?.volumeName) return bound ? bind(claim, bound, observed) : lost(claim);
  const reserved = reservedFor(claim, observed.volumes);
  if (reserved) return bind(claim, reserved, observed);
  if (waitsForConsumer(claim, observed)) {
    const message = 'waiting for first consumer to be created before binding';
    return pending(claim, observed, { type: 'Normal', reason: 'WaitForFirstConsumer', message });
  }
  const standing = smallestFit(claim, observed);
  return standing ? bind(claim, standing, observed) : provision(claim, observed);
}

/** A volume that bears this claim's uid, or else one that somebody has set aside for a claim of this name and that is large enough. The first by name: it is the same one each time. */
function reservedFor(claim: ClaimObject, volumes: readonly VolumeObject[]): VolumeObject | undefined {
  const reserved = volumes.filter(
    (volume) =>
      isFor(volume, claim) &&
      !volume.metadata.deletionTimestamp &&
      (volume.spec?.claimRef?.uid || (offers(volume, claim) && sizeOf(volume.spec?.capacity) >= sizeWanted(claim))),
  );
  const rank = ({ spec }: VolumeObject): number => (spec?.claimRef?.uid ? 0 : 1);
  return reserved.sort((a, b) => rank(a) - rank(b) || (a.metadata.name < b.metadata.name ? -1 : 1))[0];
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

const sizeWanted = ({ spec }: ClaimObject): bigint => sizeOf(spec?.resources?.requests);

/** Whether the volume is of the kind that the claim asks for. */
const offers = ({ spec: offered }: VolumeObject, { spec }: ClaimObject): boolean =>
  offered !== undefined &&
  (offered.storageClassName ?? '') === (spec?.storageClassName ?? '') &&
  (offered.volumeMode ?? 'Filesystem') === (spec?.volumeMode ?? 'Filesystem') &&
  (spec?.accessModes ?? []).every((mode) => offered.accessModes?.includes(mode));

/** The smallest volume that nobody has and that offers what the claim asks for, on the node that was selected for it. */
function smallestFit(claim: ClaimObject, { volumes, readyNodes }: Observed): VolumeObject | undefined {
  const selected = claim.metadata.annotations?.[SELECTED_NODE];
  const node = readyNodes.find(({ metadata }) => metadata.name === selected);
  const isReachable = ({ spec }: VolumeObject): boolean => {
    const terms = spec?.nodeAffinity?.required?.nodeSelectorTerms;
    return selected === undefined || !terms || (node !== undefined && matchesNodeSelector(terms, node));
  };
  const fits = (volume: VolumeObject): boolean =>
    volume.metadata.deletionTimestamp === undefined &&
    volume.spec?.claimRef === undefined &&
    offers(volume, claim) &&
    isReachable(volume) &&
    (claim.spec?.selector === undefined || matchesSelector(claim.spec.selector, volume.metadata.labels)) &&
    sizeOf(volume.spec?.capacity) >= sizeWanted(claim);
  const compare = (a: VolumeObject, b: VolumeObject): number => {
    const difference = sizeOf(a.spec?.capacity) - sizeOf(b.spec?.capacity);
    return difference !== 0n ? Number(difference > 0n) - 0.5 : a.metadata.name < b.metadata.name ? -1 : 1;
  };
  return claim.metadata.uid === undefined ? undefined : volumes.filter(fits).sort(compare)[0];
}

/** The volume names the claim, then the claim names the volume: whoever dies in between, the other half can be worked out. */
function bind(claim: ClaimObject, volume: VolumeObject, observed: Observed): Plan<ApiAction> {
  const { name, namespace = '', uid, resourceVersion, annotations } = claim.metadata;
  if (volume.spec?.claimRef && !isFor(volume, claim)) return taken(claim, volume, observed);
  const actions: ApiAction[] = [];
  const because = `volume ${volume.metadata.name} offers what claim ${namespace}/${name} asks for`;
  if (volume.spec?.claimRef?.uid !== uid) {
    const claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid };
    const patch = {
      metadata: {
        uid: volume.metadata.uid,
        resourceVersion: volume.metadata.resourceVersion,
        // What a person has joined is not ours to part again.
        ...(!volume.spec?.claimRef && { annotations: { [BOUND_BY_CONTROLLER]: 'yes' } }),
      },
      spec: { claimRef },
    };
    actions.push({ verb: 'patch', resource: VOLUMES, name: volume.metadata.name, patch, because });
  }
  if (claim.spec?.volumeName !== volume.metadata.name || annotations?.[BIND_COMPLETED] !== 'yes') {
    const byUs = !claim.spec?.volumeName && { [BOUND_BY_CONTROLLER]: 'yes' };
    const patch = {
      metadata: { uid, resourceVersion, annotations: { [BIND_COMPLETED]: 'yes', ...byUs } },
      spec: { volumeName: volume.metadata.name },
    };
    actions.push({ verb: 'patch', resource: CLAIMS, namespace, name, patch, because });
  }
  // The status follows when the claim has been read back: it would be refused now.
  if (actions.some((action) => action.verb === 'patch' && action.resource === CLAIMS)) return { actions };
  if (dataStateOf(volume) === 'lost') return lostData(claim, volume);
  const { accessModes, capacity } = volume.spec ?? {};
  return {
    actions,
    status: { ...claim.status, phase: 'Bound', ...(accessModes && { accessModes }), ...(capacity && { capacity }) },
  };
}

/** The volume that the claim names belongs to another. */
function taken(claim: ClaimObject, volume: VolumeObject, observed: Observed): Plan<ApiAction> {
  if (claim.metadata.annotations?.[BIND_COMPLETED] !== 'yes') {
    const message = `volume "${volume.metadata.name}" already bound to a different claim.`;
    return pending(claim, observed, { type: 'Warning', reason: 'FailedBinding', message });
  }
  if (claim.status?.phase === 'Lost') return { actions: [] };
  const message = 'Two claims are bound to the same volume, this one is bound incorrectly';
  return {
    actions: [{ verb: 'event', about: claim, type: 'Warning', reason: 'ClaimMisbound', message, because: message }],
    ...statusOf(claim, 'Lost'),
  };
}

function provision(claim: ClaimObject, observed: Observed): Plan<ApiAction> {
  const { storageClass, readyNodes } = observed;
  const className = claim.spec?.storageClassName;
  const wait = (type: 'Normal' | 'Warning', reason: string, message: string) =>
    pending(claim, observed, { type, reason, message });
  if (!className)
    return wait(
      'Normal',
      'FailedBinding',
      'no persistent volumes available for this claim and no storage class is set',
    );
  if (!storageClass)
    return wait('Warning', 'ProvisioningFailed', `storageclass.storage.k8s.io "${className}" not found`);
  if (storageClass.provisioner === NO_PROVISIONER)
    return wait('Normal', 'FailedBinding', 'no persistent volumes available for this claim');
  if (storageClass.provisioner !== VOLUME_DRIVER) {
    const message = `Waiting for a volume to be created either by the external provisioner '${storageClass.provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`;
    return wait('Normal', 'ExternalProvisioning', message);
  }
  const nodeName = claim.metadata.annotations?.[SELECTED_NODE] ?? readyNodes[0]?.metadata.name;
  if (nodeName === undefined) return wait('Warning', 'ProvisioningFailed', 'no node is ready to hold the volume');
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
    metadata: {
      name: volumeName,
      annotations: { [PROVISIONED_BY]: VOLUME_DRIVER },
      finalizers: [DOCKER_VOLUME_FINALIZER],
    },
    spec: {
      accessModes: claim.spec?.accessModes ?? [],
      capacity: { storage: claim.spec?.resources?.requests?.['storage'] ?? '0' },
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid },
      csi: {
        driver: VOLUME_DRIVER,
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

/** The volume that the claim is bound to is there, and what was in it is gone from its node. */
function lostData(claim: ClaimObject, volume: VolumeObject): Plan<ApiAction> {
  if (claim.status?.phase === 'Lost') return { actions: [] };
  const message = `Bound claim has lost the data of its PersistentVolume: ${lossOf(volume)}`;
  return {
    actions: [{ verb: 'event', about: claim, type: 'Warning', reason: 'ClaimLost', message, because: message }],
    ...statusOf(claim, 'Lost'),
  };
}

function pending(
  claim: ClaimObject,
  { isNews }: Observed,
  event: { type: 'Normal' | 'Warning'; reason: string; message: string },
): Plan<ApiAction> {
  return {
    actions: isNews ? [{ verb: 'event', about: claim, because: event.message, ...event }] : [],
    ...statusOf(claim, 'Pending'),
  };
}

const statusOf = (claim: ClaimObject, name: string) => ({ status: { ...claim.status, phase: name } });
const phase = (claim: ClaimObject, name: string): Plan<ApiAction> => ({ actions: [], ...statusOf(claim, name) });
