/**
 * Volumes: claims find or get a volume, and volumes end as their reclaim policy says. Two small controllers in one process, since neither means anything without the other. The volumes themselves
 * are made and removed by the node's agent, which alone speaks to the container runtime.
 */
import {
  conditionHolds,
  keyIn,
  matchesNodeSelector,
  type ApiObject,
  type Controller,
  type World,
} from '../../sdk/index.ts';
import {
  CLAIMS,
  CLASSES,
  NODES,
  PODS,
  SELECTED_NODE,
  VOLUMES,
  type ClaimObject,
  type ClassObject,
  type NodeObject,
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

/** A pod without a node will find that the claim is going, and not start. An ephemeral volume serves its pod only until that has ended. */
const uses = (pod: PodObject, claim: string): boolean =>
  Boolean(pod.spec?.nodeName) &&
  (pod.spec?.volumes ?? []).some(
    ({ name, persistentVolumeClaim, ephemeral }) =>
      persistentVolumeClaim?.claimName === claim ||
      (ephemeral !== undefined && `${pod.metadata.name}-${name}` === claim && !hasEnded(pod)),
  );

const isReady = ({ status, spec }: NodeObject): boolean =>
  !spec?.unschedulable && conditionHolds(status?.conditions, 'Ready');

const readyNodes = (world: World): NodeObject[] =>
  world
    .list<NodeObject>(NODES)
    .filter(isReady)
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));

/** What was last said about a claim that waits hung on this; by claim. The claim's end takes it away. */
const lastNews = new Map<string, string>();

/** Everything that may change why a claim waits, but for the volumes that come and go. */
function isNews(claim: ClaimObject, storageClass: ClassObject | undefined, world: World): boolean {
  const { uid = '', annotations } = claim.metadata;
  const { volumeName } = claim.spec ?? {};
  const named = volumeName ? world.get<VolumeObject>(VOLUMES, '', volumeName)?.spec?.claimRef?.uid : undefined;
  const node = annotations?.[SELECTED_NODE];
  const news = JSON.stringify([storageClass?.metadata.uid, node, readyNodes(world).length > 0, volumeName, named]);
  const isNew = lastNews.get(uid) !== news;
  lastNews.set(uid, news);
  return isNew;
}

const claims: Controller<ClaimObject, ObservedClaim> = {
  name: 'persistentvolumeclaims',
  eventSource: { component: 'persistentvolume-controller' },
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
        previous && isReady(object as NodeObject) === isReady(previous as NodeObject) ? [] : unboundClaims(world),
    },
  ],
  observe(key, world) {
    const claim = world.get<ClaimObject>(CLAIMS, key.namespace, key.name);
    if (!claim) return undefined;
    const { deletionTimestamp, uid = '' } = claim.metadata;
    const className = claim.spec?.storageClassName;
    const storageClass = className ? world.get<ClassObject>(CLASSES, '', className) : undefined;
    if (deletionTimestamp) lastNews.delete(uid);
    const pods = deletionTimestamp ? world.list<PodObject>(PODS, { namespace: key.namespace }) : [];
    return {
      desired: claim,
      observed: {
        volumes: world.list<VolumeObject>(VOLUMES),
        storageClass,
        users: pods.filter((pod) => uses(pod, key.name)).map(({ metadata }) => metadata.name),
        readyNodes: readyNodes(world),
        isNews: !deletionTimestamp && isNews(claim, storageClass, world),
      },
    };
  },
  reconcile: reconcileClaim,
};

const volumes: Controller<VolumeObject, ObservedVolume> = {
  name: 'persistentvolumes',
  eventSource: { component: 'persistentvolume-controller' },
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
    {
      resource: NODES,
      keysFor: (_object, previous, world) =>
        previous === undefined
          ? []
          : world
              .list<VolumeObject>(VOLUMES)
              .filter(({ metadata }) => metadata.deletionTimestamp)
              .map(({ metadata }) => keyIn(VOLUMES, '', metadata.name)),
    },
  ],
  observe(key, world) {
    const volume = world.get<VolumeObject>(VOLUMES, '', key.name);
    if (!volume) return undefined;
    const { namespace = '', name = '', uid } = volume.spec?.claimRef ?? {};
    const claim = name ? world.get<ClaimObject>(CLAIMS, namespace, name) : undefined;
    const terms = volume.spec?.nodeAffinity?.required?.nodeSelectorTerms;
    const isNodeGone =
      terms !== undefined && !world.list<NodeObject>(NODES).some((node) => matchesNodeSelector(terms, node));
    return { desired: volume, observed: { claim: claim?.metadata.uid === uid ? claim : undefined, isNodeGone } };
  },
  reconcile: reconcileVolume,
};

export const controllers = [claims, volumes];
