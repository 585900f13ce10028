/**
 * The replica set of the present template: made where it is missing, and kept labelled with the newest revision where it is not. Called by `reconcile.ts`.
 */
import type { Deployment, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import { type ApiAction, type ApiObject, controllerReference, sameJson } from '../../sdk/index.ts';
import { DEPLOYMENTS, type Observed, REPLICA_SETS } from './observe.ts';
import { annotationsOfNew, REVISION, revisionOf, sameTemplate, TEMPLATE_HASH, templateHash } from './revisions.ts';
import { newSetSize } from './rolling-update.ts';
import { type Scene, scalingEvent } from './scene.ts';

export type Creation =
  | { readonly kind: 'create'; readonly name: string; readonly action: ApiAction }
  /** The name is taken by a set that is not ours: count on and try the next hash. */
  | { readonly kind: 'collision'; readonly collisionCount: number };

export const newestRevision = (oldSets: readonly ReplicaSet[]): number => Math.max(0, ...oldSets.map(revisionOf)) + 1;

export function createNewSet(scene: Scene, observed: Observed): Creation {
  const { deployment, oldSets, all } = scene;
  const collisionCount = deployment.status?.collisionCount ?? 0;
  const hash = templateHash(deployment.spec.template, collisionCount);
  const name = `${deployment.metadata.name}-${hash}`;
  if (
    observed.takenNames.has(name) ||
    all.some((set) => set.metadata.name === name && !sameTemplate(set.spec.template, deployment.spec.template))
  ) {
    return { kind: 'collision', collisionCount: collisionCount + 1 };
  }
  const size = newSetSize(deployment, all, undefined);
  const object = newSet(deployment, { name, hash, size, revision: newestRevision(oldSets) });
  const because = `Deployment ${deployment.metadata.name} has a template that no replica set has`;
  const event = size > 0 ? { event: scalingEvent({ deployment, name, from: 0, to: size }) } : {};
  return { kind: 'create', name, action: { verb: 'create', resource: REPLICA_SETS, object, because, ...event } };
}

function newSet(
  deployment: Deployment,
  options: { name: string; hash: string; size: number; revision: number },
): ApiObject {
  const { name, hash, size, revision } = options;
  const { template, selector, minReadySeconds } = deployment.spec;
  const labels = { ...template.metadata?.labels, [TEMPLATE_HASH]: hash };
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name,
      ...(deployment.metadata.namespace && { namespace: deployment.metadata.namespace }),
      labels,
      annotations: annotationsOfNew(deployment, revision, undefined),
      ownerReferences: [controllerReference(deployment)],
    },
    spec: {
      replicas: size,
      ...(minReadySeconds !== undefined && { minReadySeconds }),
      selector: { ...selector, matchLabels: { ...selector.matchLabels, [TEMPLATE_HASH]: hash } },
      template: { ...template, metadata: { ...template.metadata, labels } },
    },
  };
}

/** Brings the standing set's annotations and minReadySeconds up to date; a set that came back by `rollout undo` gets the newest revision. */
export function reviseNewSet({ deployment, oldSets }: Scene, set: ReplicaSet): ApiAction[] {
  const annotations = annotationsOfNew(deployment, newestRevision(oldSets), set);
  const minReadySeconds = deployment.spec.minReadySeconds ?? 0;
  const sameMinReady = (set.spec.minReadySeconds ?? 0) === minReadySeconds;
  if (sameMinReady && sameJson(annotations, set.metadata.annotations ?? {})) return [];
  const { name, namespace = '', uid } = set.metadata;
  const patch = { metadata: { uid, annotations }, ...(!sameMinReady && { spec: { minReadySeconds } }) };
  return [
    {
      verb: 'patch',
      resource: REPLICA_SETS,
      namespace,
      name,
      patch,
      because: `it has the present template of Deployment ${deployment.metadata.name}`,
    },
  ];
}

/** The deployment carries the revision of its newest set. */
export function reviseDeployment(deployment: Deployment, set: ReplicaSet): ApiAction[] {
  const revision = set.metadata.annotations?.[REVISION];
  if (revision === undefined || deployment.metadata.annotations?.[REVISION] === revision) return [];
  const { name, namespace = '', uid } = deployment.metadata;
  const patch = { metadata: { uid, annotations: { [REVISION]: revision } } };
  return [
    {
      verb: 'patch',
      resource: DEPLOYMENTS,
      namespace,
      name,
      patch,
      because: `${set.metadata.name} is revision ${revision}`,
    },
  ];
}
