/**
 * Volumes: claims find or get a volume, and volumes end as their reclaim policy says. Two small controllers in one process, since neither means anything without the other. The volumes themselves
 * are made and removed by the node's agent, which alone speaks to the container runtime.
 */
import type { Node } from '../../api-schemas/types/core-v1.ts';
import { keyIn, type ApiObject, type Controller, type World } from '../../sdk/index.ts';
import {
  CLAIMS,
  CLASSES,
  NODES,
  PODS,
  VOLUMES,
  type ClaimObject,
  type ClassObject,
  type PodObject,
  type VolumeObject,
} from './objects.ts';
import { reconcile as reconcileClaim, type Observed as ObservedClaim } from './reconcile-claim.ts';
import { reconcile as reconcileVolume, type Observed as ObservedVolume } from './reconcile-volume.ts';

const keyOfClaim = ({ metadata }: ApiObject) => keyIn(CLAIMS, metadata.namespace, metadata.name);

const unboundClaims = (world: World) =>
  world
    .list<ClaimObject>(CLAIMS)
    .filter(({ spec }) => !spec?.volumeName)
    .map(keyOfClaim);

/** The claims that a pod mounts. */
const claimsOf = ({ metadata, spec }: PodObject): string[] =>
  (spec?.volumes ?? []).flatMap((volume) => {
    if (volume.persistentVolumeClaim) return [volume.persistentVolumeClaim.claimName];
    return volume.ephemeral ? [`${metadata.name}-${volume.name}`] : [];
  });

const hasEnded = ({ status }: PodObject): boolean => status?.phase === 'Succeeded' || status?.phase === 'Failed';

const isReady = ({ status, spec }: Node & ApiObject): boolean =>
  !spec?.unschedulable && status?.conditions?.find(({ type }) => type === 'Ready')?.status === 'True';

const claims: Controller<ClaimObject, ObservedClaim> = {
  name: 'persistentvolumeclaims',
  resource: CLAIMS,
  /** One at a time, so that two claims never choose the same volume. */
  concurrency: 1,
  watches: [
    {
      resource: VOLUMES,
      keysFor(object, _previous, world) {
        const { claimRef } = (object as VolumeObject).spec ?? {};
        return claimRef?.name ? [keyIn(CLAIMS, claimRef.namespace, claimRef.name)] : unboundClaims(world);
      },
    },
    {
      resource: PODS,
      keysFor: (object) => claimsOf(object as PodObject).map((name) => keyIn(CLAIMS, object.metadata.namespace, name)),
    },
    { resource: CLASSES, keysFor: (_object, _previous, world) => unboundClaims(world) },
    {
      resource: NODES,
      keysFor: (object, previous, world) =>
        previous && isReady(object as Node & ApiObject) === isReady(previous as Node & ApiObject)
          ? []
          : unboundClaims(world),
    },
  ],
  observe(key, world) {
    const claim = world.get<ClaimObject>(CLAIMS, key.namespace, key.name);
    if (!claim) return undefined;
    const pods = world.list<PodObject>(PODS, { namespace: key.namespace });
    const className = claim.spec?.storageClassName;
    return {
      desired: claim,
      observed: {
        volumes: world.list<VolumeObject>(VOLUMES),
        storageClass: className ? world.get<ClassObject>(CLASSES, '', className) : undefined,
        users: pods
          .filter((pod) => !hasEnded(pod) && claimsOf(pod).includes(key.name))
          .map(({ metadata }) => metadata.name),
        readyNodes: world
          .list<Node & ApiObject>(NODES)
          .filter(isReady)
          .map(({ metadata }) => metadata.name)
          .sort(),
      },
    };
  },
  reconcile: reconcileClaim,
};

const volumes: Controller<VolumeObject, ObservedVolume> = {
  name: 'persistentvolumes',
  resource: VOLUMES,
  watches: [
    {
      resource: CLAIMS,
      keysFor: (object, _previous, world) =>
        world
          .list<VolumeObject>(VOLUMES)
          .filter(({ spec }) => spec?.claimRef?.uid === object.metadata.uid)
          .map(({ metadata }) => keyIn(VOLUMES, '', metadata.name)),
    },
  ],
  observe(key, world) {
    const volume = world.get<VolumeObject>(VOLUMES, '', key.name);
    if (!volume) return undefined;
    const { namespace = '', name = '', uid } = volume.spec?.claimRef ?? {};
    const claim = name ? world.get<ClaimObject>(CLAIMS, namespace, name) : undefined;
    return { desired: volume, observed: { claim: claim?.metadata.uid === uid ? claim : undefined } };
  },
  reconcile: reconcileVolume,
};

export const controllers = [claims, volumes];
