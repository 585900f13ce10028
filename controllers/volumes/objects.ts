/**
 * The objects that volumes are about, and the names by which they find each other. Used by both reconcilers of this folder.
 * https://kubernetes.io/docs/concepts/storage/persistent-volumes/
 */
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod } from '../../api-schemas/types/core-v1.ts';
import type { StorageClass } from '../../api-schemas/types/storage-v1.ts';
import type { ApiAction, ApiObject } from '../../sdk/index.ts';

export type ClaimObject = PersistentVolumeClaim & ApiObject;
export type VolumeObject = PersistentVolume & ApiObject;
export type ClassObject = StorageClass & ApiObject;
export type PodObject = Pod & ApiObject;
export type NodeObject = Node & ApiObject;

const core = (resource: string) => ({ group: '', version: 'v1', resource });
export const CLAIMS = core('persistentvolumeclaims');
export const VOLUMES = core('persistentvolumes');
export const PODS = core('pods');
export const NODES = core('nodes');
export const CLASSES = { group: 'storage.k8s.io', version: 'v1', resource: 'storageclasses' };

/** Stands in a class whose volumes are made by hand. */
export const NO_PROVISIONER = 'kubernetes.io/no-provisioner';
export const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection';
export const VOLUME_FINALIZER = 'kubernetes.io/pv-protection';
export const SELECTED_NODE = 'volume.kubernetes.io/selected-node';
export const PROVISIONED_BY = 'pv.kubernetes.io/provisioned-by';
export const BIND_COMPLETED = 'pv.kubernetes.io/bind-completed';
export const BOUND_BY_CONTROLLER = 'pv.kubernetes.io/bound-by-controller';

/** Whether the volume's claim reference names this very claim; one without a uid reserves the volume for whoever has the name. */
export function isFor({ spec }: VolumeObject, { metadata }: ClaimObject): boolean {
  const reference = spec?.claimRef;
  return (
    reference?.name === metadata.name &&
    reference.namespace === metadata.namespace &&
    (!reference.uid || reference.uid === metadata.uid)
  );
}

/** A merge patch of metadata that takes finalizers off. */
export function release(object: ClaimObject | VolumeObject, finalizers: readonly string[], because: string): ApiAction {
  const { name, namespace, uid, resourceVersion, finalizers: standing = [] } = object.metadata;
  return {
    verb: 'patch',
    resource: namespace ? CLAIMS : VOLUMES,
    ...(namespace && { namespace }),
    name,
    patch: {
      metadata: { uid, resourceVersion, finalizers: standing.filter((finalizer) => !finalizers.includes(finalizer)) },
    },
    because,
  };
}

/** What is said of a volume whose data is gone. */
export function lossOf({ metadata, spec }: VolumeObject): string {
  return `Docker volume "${spec?.csi?.volumeHandle ?? metadata.name}" is not on its node any more, and is not made again by itself`;
}
