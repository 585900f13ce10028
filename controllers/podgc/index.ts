/**
 * Pods that nobody ends any more are removed here. The pod is what is reconciled; a node that comes or goes concerns all of its pods.
 */
import { conditionHolds, keyIn, milliseconds, type Controller, type ObjectKey, type World } from '../../sdk/index.ts';
import type { Node } from '../../api-schemas/types/core-v1.ts';
import type { ApiObject } from '../../sdk/index.ts';
import { NODES, PODS, reconcile, type Observed, type PodObject } from './reconcile.ts';

const OUT_OF_SERVICE = 'node.kubernetes.io/out-of-service';
export interface Bounds {
  /** How many ended pods are kept. */
  readonly maxEnded: number;
  /** How long a node may be away before its pods are given up. */
  readonly quarantineMs: number;
  /** How often the ended ones are counted. */
  readonly countEveryMs: number;
}

/** As in Kubernetes. */
const BOUNDS: Bounds = { maxEnded: 12_500, quarantineMs: 40_000, countEveryMs: 20_000 };

const podsOf = (nodeName: string, world: World): ObjectKey[] =>
  world
    .list<PodObject>(PODS)
    .filter(({ spec }) => spec?.nodeName === nodeName)
    .map(({ metadata }) => keyIn(PODS, metadata.namespace, metadata.name));

const isEnded = ({ status }: PodObject): boolean => status?.phase === 'Succeeded' || status?.phase === 'Failed';

/** The ended pods beyond the bound, oldest first. */
function superfluous(world: World, maxEnded: number): readonly PodObject[] {
  const ended = world.list<PodObject>(PODS).filter(isEnded);
  const age = ({ metadata }: PodObject): number => milliseconds(metadata.creationTimestamp) ?? 0;
  return ended.sort((a, b) => age(a) - age(b)).slice(0, Math.max(0, ended.length - maxEnded));
}

function isOutOfService(node: (Node & ApiObject) | undefined): boolean {
  return (
    !conditionHolds(node?.status?.conditions, 'Ready') &&
    (node?.spec?.taints?.some(({ key }) => key === OUT_OF_SERVICE) ?? false)
  );
}

export function makeController({ maxEnded, quarantineMs, countEveryMs }: Bounds = BOUNDS): Controller<
  PodObject,
  Observed
> {
  /** Since when nodes that pods name are seen not to be there. A new leader gives them their time again. */
  const goneSinceMs = new Map<string, number>();
  let tooMany: ReadonlySet<string> = new Set();
  return {
    name: 'podgc',
    resource: PODS,
    watches: [
      {
        resource: NODES,
        keysFor: (object, previous, world) => {
          const { name } = object.metadata;
          const isGone = world.get(NODES, '', name) === undefined;
          if (!isGone) goneSinceMs.delete(name);
          const isTold = isOutOfService(object as Node & ApiObject) !== isOutOfService(previous as Node & ApiObject);
          return isGone || isTold ? podsOf(name, world) : [];
        },
      },
    ],
    async start({ world, enqueue, signal }) {
      const count = () => {
        const pods = superfluous(world, maxEnded);
        tooMany = new Set(pods.map(({ metadata }) => metadata.uid ?? ''));
        for (const pod of pods) enqueue(world.keyOf(pod));
      };
      const timer = setInterval(count, countEveryMs);
      signal.addEventListener('abort', () => clearInterval(timer));
    },
    observe(key, world, nowMs) {
      const pod = world.get<PodObject>(PODS, key.namespace, key.name);
      if (!pod) return undefined;
      const nodeName = pod.spec?.nodeName ?? '';
      const node = nodeName === '' ? undefined : world.get<Node & ApiObject>(NODES, '', nodeName);
      const isGone = nodeName !== '' && !node;
      if (isGone && !goneSinceMs.has(nodeName)) goneSinceMs.set(nodeName, nowMs);
      return {
        desired: pod,
        observed: {
          nowMs,
          givesUpAtMs: isGone ? (goneSinceMs.get(nodeName) ?? nowMs) + quarantineMs : undefined,
          isNodeOutOfService: isOutOfService(node),
          isSuperfluous: isEnded(pod) && tooMany.has(pod.metadata.uid ?? ''),
        },
      };
    },
    reconcile,
  };
}

export const controller = makeController();
