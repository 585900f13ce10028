/**
 * The scheduler: gives every pod that has no node one. It reads nodes, pods, claims and volumes from the log, and counts the choices it has made but not yet read back.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Namespace, Node, PersistentVolume, PersistentVolumeClaim } from '../../api-schemas/types/core-v1.ts';
import type { StorageClass } from '../../api-schemas/types/storage-v1.ts';
import {
  conditionOf,
  ApiError,
  keyIn,
  sameJson,
  type ApiAction,
  type Controller,
  type ObjectKey,
  type World,
  timestamp,
} from '../../sdk/index.ts';
import { concernsNeighbours, type Neighbourhood } from './neighbours.ts';
import { reconcile, type BindAction, type Claim, type Observed } from './reconcile.ts';
import { claimNames, isOver } from './requests.ts';
import { Tally, waitsForNode, type PodObject } from './tally.ts';

const core = (resource: string) => ({ group: '', version: 'v1', resource });
const PODS = core('pods');
const NODES = core('nodes');
const NAMESPACES = core('namespaces');
const CLAIMS = core('persistentvolumeclaims');
const VOLUMES = core('persistentvolumes');
const CLASSES = { group: 'storage.k8s.io', version: 'v1', resource: 'storageclasses' };

type NodeObject = Node & ApiObject;

/** What a pod's place can depend on; the rest of a node changes often and matters to nobody here. */
const placeOf = ({ metadata, spec, status }: NodeObject) => ({
  labels: metadata.labels,
  spec,
  allocatable: status?.allocatable,
  ready: conditionOf(status?.conditions, 'Ready')?.status,
});

function claimsOf(pod: PodObject, world: World, tally: Tally): Claim[] {
  const namespace = pod.metadata.namespace ?? '';
  return claimNames(pod).map((name) => {
    const claim = world.get<PersistentVolumeClaim & ApiObject>(CLAIMS, namespace, name);
    const { phase } = claim?.status ?? {};
    const bound = (phase === 'Bound' || phase === 'Lost') && claim?.spec?.volumeName;
    const volume = bound ? world.get<PersistentVolume & ApiObject>(VOLUMES, '', bound) : undefined;
    const className = claim?.spec?.storageClassName;
    const storageClass = className ? world.get<StorageClass & ApiObject>(CLASSES, '', className) : undefined;
    const isTaken =
      claim?.spec?.accessModes?.includes('ReadWriteOncePod') === true &&
      tally
        .placed(pod)
        .some(({ pod: other }) => other.metadata.namespace === namespace && claimNames(other).includes(name));
    const waitsForConsumer = storageClass?.volumeBindingMode === 'WaitForFirstConsumer';
    return { name, claim, volume, waitsForConsumer, isTaken };
  });
}

function neighbourhoodOf(pod: PodObject, world: World, tally: Tally): Neighbourhood {
  const guards = tally.guards(pod);
  const concerned = concernsNeighbours(pod);
  const namespaces = concerned || guards.length > 0 ? world.list<Namespace & ApiObject>(NAMESPACES) : [];
  return {
    placed: concerned ? tally.placed(pod) : [],
    guards,
    namespaces: new Map(namespaces.map(({ metadata }) => [metadata.name, metadata.labels ?? {}])),
  };
}

export function makeController(): Controller<PodObject, Observed, ApiAction | BindAction> {
  const tally = new Tally();
  let wakeAll = (): void => undefined;

  function waiting(world: World, concerned: (pod: PodObject) => boolean = () => true): ObjectKey[] {
    tally.sync(world);
    return [...tally.pending()].filter(concerned).map(({ metadata }) => keyIn(PODS, metadata.namespace, metadata.name));
  }

  /** A pod that ends or goes leaves room; one that gets its node may be the company that another waits for. */
  function concernedBy(pod: PodObject, previous: PodObject | undefined, world: World): ObjectKey[] {
    if (!previous) return [];
    const isGone = world.get(PODS, pod.metadata.namespace ?? '', pod.metadata.name)?.metadata.uid !== pod.metadata.uid;
    if (isGone || (isOver(pod) && !isOver(previous))) return waiting(world);
    return !previous.spec?.nodeName && pod.spec?.nodeName ? waiting(world, concernsNeighbours) : [];
  }

  return {
    name: 'scheduler',
    eventSource: { component: 'default-scheduler' },
    resource: PODS,
    /** One at a time: each choice sees the one before it. */
    concurrency: 1,
    watches: [
      {
        resource: NODES,
        keysFor: (object, previous, world) =>
          previous &&
          world.get(NODES, '', object.metadata.name) === object &&
          sameJson(placeOf(object as NodeObject), placeOf(previous as NodeObject))
            ? []
            : waiting(world),
      },
      {
        resource: PODS,
        keysFor: (object, previous, world) =>
          concernedBy(object as PodObject, previous as PodObject | undefined, world),
      },
      {
        resource: CLAIMS,
        keysFor: ({ metadata }, _previous, world) =>
          waiting(
            world,
            (pod) => pod.metadata.namespace === metadata.namespace && claimNames(pod).includes(metadata.name),
          ),
      },
      { resource: VOLUMES, keysFor: () => [] },
      { resource: NAMESPACES, keysFor: () => [] },
      {
        resource: CLASSES,
        keysFor: (_object, _previous, world) => waiting(world, (pod) => claimNames(pod).length > 0),
      },
    ],
    async start({ world, enqueue }) {
      wakeAll = () => {
        for (const key of waiting(world)) enqueue(key);
      };
    },
    observe(key, world, nowMs) {
      const pod = world.get<PodObject>(PODS, key.namespace, key.name);
      if (!pod || !waitsForNode(pod)) return undefined;
      tally.sync(world);
      const { uid = '' } = pod.metadata;
      const choice = tally.choice(uid);
      if (choice?.isCertain) return undefined;
      const observed = {
        candidates: tally.candidates(world, pod),
        claims: claimsOf(pod, world, tally),
        neighbourhood: neighbourhoodOf(pod, world, tally),
        preferredNode: choice?.nodeName,
        now: timestamp(nowMs),
      };
      return { desired: pod, observed };
    },
    reconcile,
    async apply({ pod, nodeName, because }, { client, causes, signal }) {
      const { name, namespace = '', uid = '' } = pod.metadata;
      const body = {
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name, namespace, uid },
        target: { kind: 'Node', name: nodeName },
      };
      const doubtful = tally.choice(uid);
      tally.choose(pod, { nodeName, isCertain: true });
      try {
        await client.post({ resource: PODS, namespace, name, subresource: 'binding' }, body, {
          causes,
          because,
          signal,
        });
        // What was counted for an earlier attempt made others wait.
        if (doubtful && doubtful.nodeName !== nodeName) wakeAll();
      } catch (error) {
        const isRefused = error instanceof ApiError && error.code < 500;
        if (!isRefused) tally.choose(pod, { nodeName, isCertain: false });
        // A refusal now says nothing about the attempt before.
        else if (doubtful) tally.choose(pod, doubtful);
        else tally.forget(uid);
        throw error;
      }
    },
  };
}

export const controller = makeController();
