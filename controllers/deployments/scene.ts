/**
 * What every step of the planner works on, and the one way to change a replica set's size. Made by `reconcile.ts`.
 */
import type { Deployment, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import { type ApiAction, sameJson } from '../../sdk/index.ts';
import { REPLICA_SETS } from './observe.ts';
import { replicasAnnotations } from './revisions.ts';

export interface Scene {
  readonly deployment: Deployment;
  /** The set with the present template; undefined until it is made. */
  readonly newSet: ReplicaSet | undefined;
  readonly oldSets: readonly ReplicaSet[];
  /** The old ones and the new one. */
  readonly all: readonly ReplicaSet[];
}

export const sizeOf = (set: ReplicaSet): number => set.spec.replicas ?? 1;

export const isActiveSet = (set: ReplicaSet): boolean => sizeOf(set) > 0;

export const scalingEvent = (options: { deployment: Deployment; name: string; from: number; to: number }) => ({
  about: options.deployment,
  type: 'Normal' as const,
  reason: 'ScalingReplicaSet',
  message: `Scaled ${options.to > options.from ? 'up' : 'down'} replica set ${options.name} from ${options.from} to ${options.to}`,
});

/** Nothing where size and annotations are right already. */
export function resize(deployment: Deployment, set: ReplicaSet, size: number, because: string): ApiAction[] {
  const annotations = replicasAnnotations(deployment);
  const { name, namespace = '', uid } = set.metadata;
  const from = sizeOf(set);
  const isAnnotated = sameJson(
    annotations,
    Object.fromEntries(Object.keys(annotations).map((key) => [key, set.metadata.annotations?.[key]])),
  );
  if (from === size && isAnnotated) return [];
  return [
    {
      verb: 'patch',
      resource: REPLICA_SETS,
      namespace,
      name,
      patch: { metadata: { uid, annotations }, ...(from !== size && { spec: { replicas: size } }) },
      because,
      ...(from !== size && { event: scalingEvent({ deployment, name, from, to: size }) }),
    },
  ];
}
