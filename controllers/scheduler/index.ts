/**
 * The scheduler: gives every pod that has no node one. It reads nodes, pods, claims and volumes from the log, and counts the choices it has made but not yet read back.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod } from '../../api-schemas/types/core-v1.ts';
import type { StorageClass } from '../../api-schemas/types/storage-v1.ts';
import type { ApiAction, Controller, ObjectKey, World } from '../../sdk/index.ts';
import type { Candidate } from './fit.ts';
import { reconcile, type BindAction, type Claim, type Observed } from './reconcile.ts';
import { add, hostPorts, isOver, podRequests, type Amounts } from './requests.ts';

const core = (resource: string) => ({ group: '', version: 'v1', resource });
const PODS = core('pods');
const NODES = core('nodes');
const CLAIMS = core('persistentvolumeclaims');
const VOLUMES = core('persistentvolumes');
const CLASSES = { group: 'storage.k8s.io', version: 'v1', resource: 'storageclasses' };
const SCHEDULER_NAME = 'default-scheduler';

type PodObject = Pod & ApiObject;

/** Pods that were bound by us, until the World shows it: node by pod uid. */
const assumed = new Map<string, string>();

const isPending = (pod: PodObject): boolean =>
  !pod.spec?.nodeName && !isOver(pod) && (pod.spec?.schedulerName ?? SCHEDULER_NAME) === SCHEDULER_NAME;

const keyOf = ({ metadata }: ApiObject): ObjectKey => ({
  group: '',
  resource: 'pods',
  namespace: metadata.namespace ?? '',
  name: metadata.name,
});

const pendingPods = (world: World): ObjectKey[] => world.list<PodObject>(PODS).filter(isPending).map(keyOf);

function claimsOf(pod: PodObject, world: World): Claim[] {
  const namespace = pod.metadata.namespace ?? '';
  const names = (pod.spec?.volumes ?? []).flatMap((volume) => {
    if (volume.persistentVolumeClaim) return [volume.persistentVolumeClaim.claimName];
    return volume.ephemeral ? [`${pod.metadata.name}-${volume.name}`] : [];
  });
  return names.map((name) => {
    const claim = world.get<PersistentVolumeClaim & ApiObject>(CLAIMS, namespace, name);
    const bound = claim?.status?.phase === 'Bound' && claim.spec?.volumeName;
    const volume = bound ? world.get<PersistentVolume & ApiObject>(VOLUMES, '', bound) : undefined;
    const className = claim?.spec?.storageClassName;
    const storageClass = className ? world.get<StorageClass & ApiObject>(CLASSES, '', className) : undefined;
    return { name, claim, volume, waitsForConsumer: storageClass?.volumeBindingMode === 'WaitForFirstConsumer' };
  });
}

function candidatesIn(world: World): Candidate[] {
  interface Load {
    requested: Amounts;
    hostPorts: Set<string>;
    replicas: Record<string, number>;
  }
  const loads = new Map<string, Load>();
  for (const pod of world.list<PodObject>(PODS)) {
    const uid = pod.metadata.uid ?? '';
    if (pod.spec?.nodeName) assumed.delete(uid);
    const nodeName = pod.spec?.nodeName ?? assumed.get(uid);
    if (!nodeName || isOver(pod)) continue;
    let load = loads.get(nodeName);
    if (!load) loads.set(nodeName, (load = { requested: {}, hostPorts: new Set(), replicas: {} }));
    load.requested = add(load.requested, podRequests(pod.spec));
    for (const port of hostPorts(pod)) load.hostPorts.add(port);
    const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller)?.uid;
    if (owner) load.replicas[owner] = (load.replicas[owner] ?? 0) + 1;
  }
  const nothing: Load = { requested: {}, hostPorts: new Set(), replicas: {} };
  return world.list<Node & ApiObject>(NODES).map((node) => ({ node, ...(loads.get(node.metadata.name) ?? nothing) }));
}

export const controller: Controller<PodObject, Observed, ApiAction | BindAction> = {
  name: 'scheduler',
  resource: PODS,
  /** One at a time: each choice sees the one before it. */
  concurrency: 1,
  watches: [
    { resource: NODES, keysFor: (_object, _previous, world) => pendingPods(world) },
    // A pod that ends or goes leaves room.
    {
      resource: PODS,
      keysFor: (object, previous, world) =>
        previous && (isOver(object as PodObject) || object.metadata.deletionTimestamp) ? pendingPods(world) : [],
    },
    { resource: CLAIMS, keysFor: (_object, _previous, world) => pendingPods(world) },
    { resource: VOLUMES, keysFor: () => [] },
    { resource: CLASSES, keysFor: (_object, _previous, world) => pendingPods(world) },
  ],
  observe(key, world, nowMs) {
    const pod = world.get<PodObject>(PODS, key.namespace, key.name);
    if (!pod || !isPending(pod) || assumed.has(pod.metadata.uid ?? '')) return undefined;
    const now = new Date(nowMs).toISOString().replace(/\.\d{3}Z$/, 'Z');
    return { desired: pod, observed: { candidates: candidatesIn(world), claims: claimsOf(pod, world), now } };
  },
  reconcile,
  async apply({ pod, nodeName, because }, { client, causes, signal }) {
    const { name, namespace = '', uid = '' } = pod.metadata;
    assumed.set(uid, nodeName);
    try {
      const body = {
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name, namespace, uid },
        target: { kind: 'Node', name: nodeName },
      };
      await client.post({ resource: PODS, namespace, name, subresource: 'binding' }, body, { causes, because, signal });
    } catch (error) {
      assumed.delete(uid);
      throw error;
    }
  },
};
