/**
 * Plans one step for one Deployment: replica sets by template, sized by strategy, with the status that kubectl reads. Follows the steps of Kubernetes' deployment controller. Pure; called by
 * the SDK's loop and by tests.
 */
import type { Deployment, DeploymentStatus, ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import { type ApiAction, conditionOf, isEmptySelector, type Plan } from '../../sdk/index.ts';
import { claimReplicaSets } from './claim.ts';
import {
  type Conditions,
  deadlineInMs,
  hasDeadline,
  isComplete,
  pausedConditions,
  withCondition,
} from './conditions.ts';
import { cleanUpHistory } from './history.ts';
import { createNewSet, reviseDeployment, reviseNewSet } from './new-replica-set.ts';
import type { Observed } from './observe.ts';
import { isScaling, scale } from './proportional-scaling.ts';
import { bringUp, oldPodsRun, takeDown } from './recreate.ts';
import { findNewReplicaSet } from './revisions.ts';
import { rollingUpdate } from './rolling-update.ts';
import { isActiveSet, type Scene } from './scene.ts';
import { sumStatus } from './status.ts';
import { isRecreate } from './surge.ts';

/** One step, before its status is summed. */
interface Step {
  readonly actions: readonly ApiAction[];
  readonly conditions: Conditions;
  readonly collisionCount?: number;
  /** Whether the rollout may be said to progress or to be overdue. */
  readonly rollout: boolean;
}

export function reconcile(deployment: Deployment, observed: Observed): Plan<ApiAction> {
  if (isEmptySelector(deployment.spec.selector)) return selectsEverything(deployment);
  const { owned, actions } = claimReplicaSets(deployment, observed.replicaSets);
  const scene = sceneOf(deployment, owned);
  const step = nextStep(scene, observed);
  const revised =
    scene.newSet && deployment.metadata.deletionTimestamp === undefined
      ? reviseDeployment(deployment, scene.newSet)
      : [];
  const collisionCount = step.collisionCount ?? deployment.status?.collisionCount;
  const status = sumStatus({
    deployment,
    all: scene.all,
    newSet: scene.newSet,
    conditions: step.conditions,
    collisionCount,
    nowMs: observed.nowMs,
    rollout: step.rollout,
  });
  const all = [...actions, ...step.actions, ...revised];
  // A plan that changes the deployment itself leaves the status to the next.
  if (revised.length > 0) return { actions: all };
  const requeueAfterMs = deadlineInMs(deployment, status, observed.nowMs);
  return { actions: all, status: asRecord(status), ...(requeueAfterMs !== undefined && { requeueAfterMs }) };
}

function sceneOf(deployment: Deployment, owned: readonly ReplicaSet[]): Scene {
  const newSet = findNewReplicaSet(deployment, owned);
  const oldSets = owned.filter((set) => set !== newSet);
  return { deployment, newSet, oldSets, all: newSet ? [...oldSets, newSet] : oldSets };
}

function nextStep(scene: Scene, observed: Observed): Step {
  const { deployment, newSet } = scene;
  const standing = deployment.status?.conditions ?? [];
  if (deployment.metadata.deletionTimestamp !== undefined) return { actions: [], conditions: standing, rollout: false };
  const conditions = foundCondition(scene, pausedConditions(deployment, standing, observed.nowMs), observed.nowMs);
  const revisions = newSet ? reviseNewSet(scene, newSet) : [];
  if (revisions.length > 0) return { actions: revisions, conditions, rollout: false };
  if (deployment.spec.paused) {
    const sized = scale(scene);
    return { actions: sized.length > 0 ? sized : cleanUpHistory(scene), conditions, rollout: false };
  }
  if (isScaling(scene)) {
    const sized = scale(scene);
    if (sized.length > 0) return { actions: sized, conditions, rollout: false };
  }
  return isRecreate(deployment) ? recreateStep(scene, observed, conditions) : rollingStep(scene, observed, conditions);
}

function rollingStep(scene: Scene, observed: Observed, conditions: Conditions): Step {
  if (!scene.newSet) return creationStep(scene, observed, conditions);
  return finish(scene, rollingUpdate(scene), conditions);
}

function recreateStep(scene: Scene, observed: Observed, conditions: Conditions): Step {
  if (scene.oldSets.some(isActiveSet)) return { actions: takeDown(scene), conditions, rollout: true };
  if (oldPodsRun(scene, observed.pods)) return { actions: [], conditions, rollout: true };
  if (!scene.newSet) return creationStep(scene, observed, conditions);
  return finish(scene, bringUp(scene), conditions);
}

/** Once all is in place, old history goes. */
function finish(scene: Scene, sized: ApiAction[], conditions: Conditions): Step {
  const done = sized.length === 0 && isComplete(scene.deployment, scene.deployment.status ?? {});
  return { actions: done ? cleanUpHistory(scene) : sized, conditions, rollout: true };
}

function creationStep(scene: Scene, observed: Observed, conditions: Conditions): Step {
  const { deployment } = scene;
  const { nowMs, lastFailure } = observed;
  const creation = createNewSet(scene, observed);
  if (creation.kind === 'collision')
    return { actions: [], conditions, collisionCount: creation.collisionCount, rollout: true };
  if (lastFailure?.verb === 'create') {
    const message = `Failed to create new replica set "${creation.name}": ${lastFailure.message}`;
    const failed = hasDeadline(deployment)
      ? withCondition(
          conditions,
          { type: 'Progressing', status: 'False', reason: 'ReplicaSetCreateError', message },
          nowMs,
        )
      : conditions;
    const event: ApiAction = {
      verb: 'event',
      about: deployment,
      type: 'Warning',
      reason: 'ReplicaSetCreateError',
      message,
      because: 'a replica set could not be created',
    };
    return { actions: [event, creation.action], conditions: failed, rollout: true };
  }
  const message = `Created new replica set "${creation.name}"`;
  const created = hasDeadline(deployment)
    ? withCondition(conditions, { type: 'Progressing', status: 'True', reason: 'NewReplicaSetCreated', message }, nowMs)
    : conditions;
  return { actions: [creation.action], conditions: created, rollout: true };
}

/** A deployment that never said how it progresses starts where its set is found. */
function foundCondition({ deployment, newSet }: Scene, conditions: Conditions, nowMs: number): Conditions {
  if (!newSet || !hasDeadline(deployment) || conditionOf(conditions, 'Progressing')) return conditions;
  return withCondition(
    conditions,
    {
      type: 'Progressing',
      status: 'True',
      reason: 'FoundNewReplicaSet',
      message: `Found new replica set "${newSet.metadata.name}"`,
    },
    nowMs,
  );
}

function selectsEverything(deployment: Deployment): Plan<ApiAction> {
  const status = {
    ...deployment.status,
    ...(deployment.metadata.generation !== undefined && { observedGeneration: deployment.metadata.generation }),
  };
  const message = 'This deployment is selecting all pods. A non-empty selector is required.';
  const isNew = deployment.status?.observedGeneration !== deployment.metadata.generation;
  return {
    actions: isNew
      ? [
          {
            verb: 'event',
            about: deployment,
            type: 'Warning',
            reason: 'SelectingAll',
            message,
            because: 'the selector is empty',
          },
        ]
      : [],
    status: asRecord(status),
  };
}

const asRecord = (status: DeploymentStatus): Record<string, unknown> => ({ ...status });
