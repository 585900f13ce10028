/**
 * Which replica set is which: the one with the deployment's present template, the older ones, and their revision numbers, kept in annotations so that `kubectl rollout history` and `undo`
 * find them. Used by the planner.
 */
import type { Deployment, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import type { PodTemplateSpec } from '../../api-schemas/types/core-v1.ts';
import { canonicalJson, deterministicSuffix, milliseconds, sameJson } from '../../sdk/index.ts';
import { allowance, wantedReplicas } from './surge.ts';

export const TEMPLATE_HASH = 'pod-template-hash';
export const REVISION = 'deployment.kubernetes.io/revision';
const REVISION_HISTORY = 'deployment.kubernetes.io/revision-history';
export const DESIRED_REPLICAS = 'deployment.kubernetes.io/desired-replicas';
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas';
/** Kubernetes lets the history grow to this many characters. */
const MAX_HISTORY_LENGTH = 2000;
const HASH_LENGTH = 10;

/** Annotations of the deployment that say something about the deployment itself. */
const NOT_COPIED = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
  REVISION,
  REVISION_HISTORY,
  DESIRED_REPLICAS,
  MAX_REPLICAS,
  'deprecated.deployment.rollback.to',
]);

export function byCreation(left: ReplicaSet, right: ReplicaSet): number {
  const difference =
    (milliseconds(left.metadata.creationTimestamp) ?? 0) - (milliseconds(right.metadata.creationTimestamp) ?? 0);
  return difference || (left.metadata.name < right.metadata.name ? -1 : 1);
}

export const templateHash = (template: PodTemplateSpec, collisionCount: number): string =>
  deterministicSuffix([canonicalJson(template), collisionCount], HASH_LENGTH);

/** Equal but for the hash label that the controller itself adds. */
export function sameTemplate(left: PodTemplateSpec, right: PodTemplateSpec): boolean {
  return sameJson(withoutHash(left), withoutHash(right));
}

function withoutHash(template: PodTemplateSpec): PodTemplateSpec {
  const { [TEMPLATE_HASH]: _hash, ...labels } = template.metadata?.labels ?? {};
  return { ...template, metadata: { ...template.metadata, labels } };
}

/** The oldest of those with the present template, should there be several. */
export function findNewReplicaSet(deployment: Deployment, sets: readonly ReplicaSet[]): ReplicaSet | undefined {
  return [...sets].sort(byCreation).find((set) => sameTemplate(set.spec.template, deployment.spec.template));
}

export function revisionOf(set: ReplicaSet): number {
  const revision = Number(set.metadata.annotations?.[REVISION] ?? 0);
  return Number.isSafeInteger(revision) ? revision : 0;
}

/** The annotations by which a later scaling finds its proportions. */
export function replicasAnnotations(deployment: Deployment): Record<string, string> {
  const wanted = wantedReplicas(deployment);
  return { [DESIRED_REPLICAS]: String(wanted), [MAX_REPLICAS]: String(wanted + allowance(deployment).maxSurge) };
}

/** What the annotations of the new replica set should be: the deployment's own (its change cause among them), and the newest revision. */
export function annotationsOfNew(
  deployment: Deployment,
  revision: number,
  standing: ReplicaSet | undefined,
): Record<string, string> {
  const annotations: Record<string, string> = { ...standing?.metadata.annotations };
  for (const [key, value] of Object.entries(deployment.metadata.annotations ?? {}))
    if (!NOT_COPIED.has(key)) annotations[key] = value;
  if (!standing) return { ...annotations, [REVISION]: String(revision), ...replicasAnnotations(deployment) };
  const before = annotations[REVISION];
  if (revisionOf(standing) >= revision) return annotations;
  annotations[REVISION] = String(revision);
  if (before !== undefined) {
    const history = [...(annotations[REVISION_HISTORY]?.split(',') ?? []), before];
    while (history.length > 1 && history.join(',').length > MAX_HISTORY_LENGTH) history.shift();
    annotations[REVISION_HISTORY] = history.join(',');
  }
  return annotations;
}
