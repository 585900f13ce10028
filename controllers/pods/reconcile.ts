/**
 * What is to be done about one pod, and what its status is: a pure function of what was observed. A call takes at most one step for each container; the next step waits for
 * the next observation. Driven by the SDK's loop; tested as a table, and as properties over a simulated engine.
 */
import { milliseconds } from '../../api-schemas/timestamps.ts';
import type { Plan } from '../../sdk/controller.ts';
import { Draft } from './draft.ts';
import { POD_RESOURCE, type Observed, type ObservedContainer, type Pod, type PodAction } from './observation.ts';
import { planRunningPod, planStopAll } from './plan-running.ts';
import { planStop } from './plan-stop.ts';
import { gracePeriodMs, identityOf, isTerminal, specOf } from './pod-shape.ts';
import { podStatus } from './pod-status.ts';
import { describe, isFresh, runs, viewPod, type PodView } from './slot-view.ts';

/** While the engine is away; it also says so itself when it is back. */
const RUNTIME_RETRY_MS = 5_000;
/** Containers that nobody wants have this long to end by themselves. */
const STRANGER_GRACE_MS = 2_000;

interface Context {
  readonly pod: Pod;
  readonly observed: Observed;
  readonly view: PodView;
  readonly draft: Draft;
}

export function reconcilePod(pod: Pod, observed: Observed): Plan<PodAction> {
  const draft = new Draft(pod, observed);
  if (!observed.runtimeAvailable) return { actions: [], requeueAfterMs: RUNTIME_RETRY_MS };
  const view = observed.present ? viewPod(pod, observed) : { slots: [], sandboxes: [], strangers: observed.containers };
  const context: Context = { pod, observed, view, draft };
  removeStrangers(context);
  if (!observed.present) return finish(draft);
  if (pod.metadata.deletionTimestamp !== undefined) return planDeletion(context);
  if (isTerminal(pod)) return planTerminal(context);
  return planAlive(context);
}

function finish(draft: Draft, status?: Record<string, unknown>): Plan<PodAction> {
  const { requeueAfterMs } = draft;
  return {
    actions: draft.actions,
    ...(status === undefined ? {} : { status }),
    ...(requeueAfterMs === undefined ? {} : { requeueAfterMs }),
  };
}

function planAlive(context: Context): Plan<PodAction> {
  const { pod, observed, view, draft } = context;
  const seconds = specOf(pod).activeDeadlineSeconds;
  const startedAtMs = milliseconds(pod.status?.startTime);
  if (seconds !== undefined && startedAtMs !== undefined) {
    const deadlineMs = startedAtMs + seconds * 1000;
    if (deadlineMs <= draft.nowMs) {
      const message = 'Pod was active on the node longer than the specified deadline';
      draft.event('Normal', 'DeadlineExceeded', message);
      return finish(draft, podStatus({ pod, observed, view, failure: { reason: 'DeadlineExceeded', message } }));
    }
    draft.lookAgainAt(deadlineMs);
  }
  const plan = planRunningPod(context);
  return finish(draft, podStatus({ pod, observed, view, plan }));
}

/** A pod that has succeeded or failed for good keeps its containers for their logs, and runs nothing. */
function planTerminal(context: Context): Plan<PodAction> {
  const { pod, observed, view, draft } = context;
  if (planStopAll({ ...context, because: 'the pod has come to its end' })) {
    for (const sandbox of view.sandboxes) remove(context, sandbox, 'the pod has come to its end');
  }
  return finish(draft, podStatus({ pod, observed, view }));
}

function planDeletion(context: Context): Plan<PodAction> {
  const { pod, observed, view, draft } = context;
  const because = 'the pod is being deleted';
  const deadlineMs = milliseconds(pod.metadata.deletionTimestamp) ?? draft.nowMs;
  const graceMs = gracePeriodMs(pod);
  const ended = planStopAll({ ...context, deadlineMs: graceMs === 0 ? draft.nowMs : deadlineMs, because });
  if (!ended) return finish(draft, podStatus({ pod, observed, view }));

  const left = [
    ...view.slots.flatMap(({ current, previous, older }) => [current, previous, ...older]),
    ...view.sandboxes,
  ].filter((container): container is ObservedContainer => container !== undefined);
  // How the containers ended is reported before they are taken away, for whoever waits for it.
  const reported = view.slots.every(
    ({ current, recorded }) => current === undefined || isFresh(current) || recorded?.state?.terminated !== undefined,
  );
  if (left.length > 0) {
    if (reported) for (const container of left) remove(context, container, because);
    return finish(draft, podStatus({ pod, observed, view }));
  }
  const { uid, namespace, name } = identityOf(pod);
  if (observed.dataOf.includes(uid)) {
    if (draft.mayBegin(observed.dataRemoval))
      draft.act({ verb: 'remove-data', uid, because: 'nothing of the pod runs any more' });
    return finish(draft);
  }
  const heldByFinalizers = (pod.metadata.finalizers?.length ?? 0) > 0 && pod.metadata.deletionGracePeriodSeconds === 0;
  if (!heldByFinalizers) {
    draft.act({
      verb: 'delete',
      resource: POD_RESOURCE,
      namespace,
      name,
      uid,
      gracePeriodSeconds: 0,
      because: 'nothing of the pod is left on the node',
    });
  }
  return finish(draft);
}

/** Containers of pods that are no more. */
function removeStrangers(context: Context): void {
  const { pod, observed, view, draft } = context;
  const because = 'no pod on this node wants it';
  for (const stranger of view.strangers) {
    if (runs(stranger)) planStop({ pod, observed, draft, container: stranger, graceMs: STRANGER_GRACE_MS, because });
    else if (stranger.starting !== true) remove(context, stranger, because);
  }
  const strange = observed.dataOf.filter((uid) => !observed.present || uid !== pod.metadata.uid);
  for (const uid of strange) {
    const used = view.strangers.some((container) => container.labels['reckon.dev/pod-uid'] === uid);
    if (!used && draft.mayBegin(observed.dataRemoval))
      draft.act({ verb: 'remove-data', uid, because: 'the pod is no more' });
  }
}

function remove({ pod, observed, draft }: Context, container: ObservedContainer, because: string): void {
  if (runs(container) || !draft.mayBegin(observed.removals[container.id])) return;
  draft.act({
    verb: 'remove-container',
    uid: identityOf(pod).uid,
    container: describe(container),
    containerId: container.id,
    because,
  });
}
