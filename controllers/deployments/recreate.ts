/**
 * One step of a Recreate rollout: everything old goes, and only when it is gone comes the new (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#recreate-deployment).
 * Called by `reconcile.ts`.
 */
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import { type ApiAction, controllerOf } from '../../sdk/index.ts';
import { emptyOld } from './rolling-update.ts';
import { resize, type Scene } from './scene.ts';
import { actualReplicas } from './status.ts';
import { wantedReplicas } from './surge.ts';

/** Takes down what is old; nothing where nothing is. */
export const takeDown = (scene: Scene): ApiAction[] =>
  emptyOld(scene, `Deployment ${scene.deployment.metadata.name} takes its old pods down before it makes new ones`);

/** A pod on its way out still runs. */
export function oldPodsRun({ newSet, oldSets }: Scene, pods: readonly Pod[]): boolean {
  if (actualReplicas(oldSets) > 0) return true;
  return pods.some(
    (pod) =>
      pod.status?.phase !== 'Failed' &&
      pod.status?.phase !== 'Succeeded' &&
      controllerOf(pod)?.uid !== newSet?.metadata.uid,
  );
}

export function bringUp({ deployment, newSet }: Scene): ApiAction[] {
  return newSet
    ? resize(
        deployment,
        newSet,
        wantedReplicas(deployment),
        `Deployment ${deployment.metadata.name} has no old pods left`,
      )
    : [];
}
