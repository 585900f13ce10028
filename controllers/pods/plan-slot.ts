/**
 * What is to be done about one slot of a pod that is to run: nothing, or exactly one step. The rules of restarts, back-off and image pulls are here and nowhere else
 * (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/). Pure; called by plan-running.ts.
 */
import { isImageReference, normalizeImageReference } from '../../runtime/image-reference.ts';
import type { Draft } from './draft.ts';
import { attemptOf, RESTART_DELAY_LABEL, SPEC_HASH_LABEL, specHash } from './labels.ts';
import type { Observed, ObservedContainer, Pod } from './observation.ts';
import { planProbes } from './plan-probes.ts';
import { planStop } from './plan-stop.ts';
import { gracePeriodMs, identityOf, restartPolicyOf } from './pod-shape.ts';
import { endOf, isFresh, runs, type SlotView } from './slot-view.ts';

export const FIRST_RESTART_DELAY_MS = 10_000;
export const LAST_RESTART_DELAY_MS = 300_000;
/** A container that ran this long is forgiven its crashes. */
export const RESTART_RESET_MS = 600_000;
/** Pulls that failed are tried again after 10 s, doubling to five minutes. */
const FIRST_PULL_DELAY_MS = 10_000;
const LAST_PULL_DELAY_MS = 300_000;
/** So long the status shows the error itself, then that the agent is waiting. */
const SHOW_PULL_ERROR_MS = 5_000;
const REMOVING_POLL_MS = 1_000;
const CONFIG_RETRY_MS = 30_000;

export interface SlotPlan {
  readonly view: SlotView;
  /** Why it does not run; absent when it runs, or has ended and is about to start again or to rest. */
  readonly waiting?: { readonly reason: string; readonly message?: string };
  /** It should have another container. */
  readonly wantsStart: boolean;
  readonly started: boolean;
  readonly ready: boolean;
  /** It has ended and stays so. */
  readonly finished?: 'succeeded' | 'failed';
}

export interface SlotContext {
  readonly pod: Pod;
  readonly observed: Observed;
  readonly draft: Draft;
  readonly view: SlotView;
  /** Its turn has come: volumes, sandbox and the slots before it are there. */
  readonly mayStart: boolean;
  /** What is shown while its turn has not come. */
  readonly waitingReason: 'ContainerCreating' | 'PodInitializing';
}

const RESTING = { started: false, ready: false, wantsStart: false };

export function planSlot(context: SlotContext): SlotPlan {
  const { view, draft, pod, observed } = context;
  for (const container of view.older) {
    if (!runs(container) && draft.mayBegin(observed.removals[container.id])) {
      const because = `attempt ${attemptOf(container)} of container "${view.slot.name}" is no longer of use`;
      draft.act({
        verb: 'remove-container',
        uid: identityOf(pod).uid,
        container: view.slot.name,
        containerId: container.id,
        because,
      });
    }
  }
  const { current } = view;
  if (planRivals(context) && !runs(current)) return { view, ...RESTING };
  if (current === undefined) return planMissing(context);
  if (current.unread === true && !runs(current)) return planUnread(context, current);
  if (current.state === 'removing') {
    draft.lookAgainAt(draft.nowMs + REMOVING_POLL_MS);
    return { view, ...RESTING, wantsStart: true };
  }
  if (isFresh(current)) {
    return planStart(context, {
      attempt: attemptOf(current),
      delayMs: Number(current.labels[RESTART_DELAY_LABEL] ?? 0),
      because: `container "${view.slot.name}" was made and has not been started`,
    });
  }
  return runs(current) ? planRunning(context) : planEnded(context);
}

/** Of several containers that run in one slot, as after an engine lost sight of some, the newest attempt stays. True while another is still to end: then none is started. */
function planRivals({ view, pod, observed, draft }: SlotContext): boolean {
  const { slot, current, previous, older } = view;
  const rivals = [previous, ...older].filter((container): container is ObservedContainer => runs(container));
  for (const rival of rivals) {
    const because = `attempt ${attemptOf(rival)} of container "${slot.name}" runs beside a newer one`;
    if (observed.signals[rival.id] === undefined) {
      const other = current === undefined ? 'a newer one that is gone' : `attempt ${attemptOf(current)}`;
      const message = `Attempt ${attemptOf(rival)} of container ${slot.name} was found running beside ${other}; it is killed`;
      draft.event('Warning', 'DuplicateContainer', message);
    }
    planStop({ pod, observed, draft, container: rival, graceMs: 0, because });
  }
  return rivals.length > 0;
}

/** The engine hangs over it: whether it runs by now nobody can say, and so no other is started. What it came to before stands. */
function planUnread({ view, pod }: SlotContext, current: ObservedContainer): SlotPlan {
  const end = endOf(current);
  if (end === undefined || restarts(restartPolicyOf(pod, view.slot), end.exitCode)) return { view, ...RESTING };
  return { view, ...RESTING, finished: end.exitCode === 0 ? 'succeeded' : 'failed' };
}

/** No container is there: it is the first, or it was taken away behind the agent's back. */
function planMissing(context: SlotContext): SlotPlan {
  const { view, pod } = context;
  const { recorded, slot } = view;
  if (recorded?.containerID === undefined || recorded.containerID === '') {
    // Of the attempt that the status counts, none was ever started; an earlier one that has ended is not started again.
    const earlier = view.previous === undefined ? 0 : attemptOf(view.previous) + 1;
    const attempt = Math.max(recorded?.restartCount ?? 0, earlier);
    const delayMs = attempt === 0 ? 0 : FIRST_RESTART_DELAY_MS;
    return planStart(context, { attempt, delayMs, because: `the pod has no container "${slot.name}" yet` });
  }
  const exitCode = recorded.state?.terminated?.exitCode ?? recorded.lastState?.terminated?.exitCode ?? 137;
  const ended = recorded.state?.running === undefined ? exitCode : 137;
  if (!restarts(restartPolicyOf(pod, slot), ended))
    return { view, ...RESTING, finished: ended === 0 ? 'succeeded' : 'failed' };
  return planStart(context, {
    attempt: recorded.restartCount + 1,
    delayMs: FIRST_RESTART_DELAY_MS,
    because: `the container of "${slot.name}" is gone from the engine`,
  });
}

function planRunning(context: SlotContext): SlotPlan {
  const { view, draft, pod, observed } = context;
  const { current, slot } = view;
  if (current === undefined) return { view, ...RESTING };
  const graceMs = gracePeriodMs(pod);
  const stop = { pod, observed, draft, container: current, spec: slot.container };
  if (current.labels[SPEC_HASH_LABEL] !== specHash(slot.container)) {
    const because = `Container ${slot.name} definition changed, will be restarted`;
    planStop({ ...stop, graceMs, because, message: because });
    return { view, ...RESTING };
  }
  const hook = observed.hooks[`${current.id}/postStart`];
  if (slot.container.lifecycle?.postStart !== undefined) {
    const known =
      hook !== undefined || (view.recorded?.containerID === `docker://${current.id}` && view.recorded.started === true);
    if (!known) {
      const because = `container "${slot.name}" has started`;
      draft.act({
        verb: 'run-hook',
        uid: identityOf(pod).uid,
        container: slot.name,
        containerId: current.id,
        hook: 'postStart',
        timeoutMs: graceMs,
        because,
      });
    }
    if (!known || hook?.state === 'running') return { view, ...RESTING };
    if (hook?.state === 'failed') {
      const because = `Container ${slot.name} failed its PostStart hook: ${hook.message ?? ''}`;
      planStop({ ...stop, graceMs, because, message: because });
      return { view, ...RESTING };
    }
  }
  const probes = planProbes({ pod, observed, draft, view, container: current });
  if (probes.kill !== undefined) {
    planStop({
      ...stop,
      graceMs: probes.kill.graceMs ?? graceMs,
      because: probes.kill.because,
      message: `Container ${slot.name} failed ${probes.kill.probe} probe, will be restarted`,
    });
  }
  return { view, wantsStart: false, started: probes.started, ready: probes.started && probes.ready };
}

function planEnded(context: SlotContext): SlotPlan {
  const { view, draft, pod } = context;
  const { current, slot } = view;
  const end = current === undefined ? undefined : endOf(current);
  if (current === undefined || end === undefined) return { view, ...RESTING };
  const changed = current.labels[SPEC_HASH_LABEL] !== specHash(slot.container);
  if (!changed && !restarts(restartPolicyOf(pod, slot), end.exitCode)) {
    return { view, ...RESTING, finished: end.exitCode === 0 ? 'succeeded' : 'failed' };
  }
  const { lastDelayMs, startAtMs, nextDelayMs } = restartAfter(current, end, changed);
  if (startAtMs > draft.nowMs) {
    draft.lookAgainAt(startAtMs);
    const { namespace, name, uid } = identityOf(pod);
    if (view.recorded?.state?.waiting?.reason !== 'CrashLoopBackOff') {
      draft.event(
        'Warning',
        'BackOff',
        `Back-off restarting failed container ${slot.name} in pod ${name}_${namespace}(${uid})`,
      );
    }
    const message = `back-off ${duration(lastDelayMs)} restarting failed container=${slot.name} pod=${name}_${namespace}(${uid})`;
    return { view, ...RESTING, wantsStart: true, waiting: { reason: 'CrashLoopBackOff', message } };
  }
  return planStart(context, {
    attempt: attemptOf(current) + 1,
    delayMs: nextDelayMs,
    because: changed
      ? `the definition of container "${slot.name}" has changed`
      : `container "${slot.name}" ended with exit code ${end.exitCode}`,
  });
}

function planStart(context: SlotContext, start: { attempt: number; delayMs: number; because: string }): SlotPlan {
  const { view, observed, draft, pod } = context;
  const { name, container, role } = view.slot;
  const uid = identityOf(pod).uid;
  const plan = (waiting?: SlotPlan['waiting']): SlotPlan => ({
    view,
    ...RESTING,
    wantsStart: true,
    ...(waiting === undefined ? {} : { waiting }),
  });
  // A container that ended shows how it ended until the next one runs.
  const idle =
    view.current !== undefined && endOf(view.current) !== undefined ? plan() : plan({ reason: context.waitingReason });
  if (!context.mayStart) return idle;
  const work = observed.starts[name];
  if (!draft.mayBegin(work))
    return work?.failure === undefined || work.inFlight
      ? idle
      : plan({ reason: work.failure.reason, message: work.failure.message });
  const preparation = observed.preparations[name];
  if (preparation === undefined) return idle;
  if (preparation.configError !== undefined) {
    draft.lookAgainAt(draft.nowMs + CONFIG_RETRY_MS);
    const { reason, message } = preparation.configError;
    if (view.recorded?.state?.waiting?.reason !== reason) draft.event('Warning', 'Failed', `Error: ${message}`);
    return plan(preparation.configError);
  }
  const image = container.image ?? '';
  if (!isImageReference(image)) {
    return plan({
      reason: 'InvalidImageName',
      message: `Failed to apply default image tag "${image}": couldn't parse image name "${image}": invalid reference format`,
    });
  }
  const pulling = planPull(context, start.attempt);
  if (pulling === 'wait') return plan(pullErrorOf(view) ?? idle.waiting);
  if (pulling !== 'done') return plan(pulling);
  draft.act({
    verb: 'start-container',
    uid,
    container: name,
    role,
    attempt: start.attempt,
    restartDelayMs: start.delayMs,
    because: start.because,
  });
  return idle;
}

/** Sees to it that the image is there. */
function planPull(context: SlotContext, attempt: number): 'done' | 'wait' | { reason: string; message: string } {
  const { view, observed, draft, pod } = context;
  const { name, container } = view.slot;
  const preparation = observed.preparations[name];
  const image = container.image ?? '';
  const policy =
    container.imagePullPolicy ?? (normalizeImageReference(image).endsWith(':latest') ? 'Always' : 'IfNotPresent');
  if (preparation === undefined || preparation.image === 'unknown' || preparation.pull.inFlight) return 'wait';
  const needed = policy === 'Always' ? preparation.pulledForAttempt !== attempt : preparation.image === 'absent';
  if (!needed) return 'done';
  if (policy === 'Never') {
    return {
      reason: 'ErrImageNeverPull',
      message: `Container image "${image}" is not present with pull policy of Never`,
    };
  }
  const { failure } = preparation.pull;
  if (failure !== undefined) {
    const retryAtMs = failure.atMs + Math.min(LAST_PULL_DELAY_MS, FIRST_PULL_DELAY_MS * 2 ** (failure.count - 1));
    if (retryAtMs > draft.nowMs) {
      if (draft.nowMs < failure.atMs + SHOW_PULL_ERROR_MS) {
        draft.lookAgainAt(failure.atMs + SHOW_PULL_ERROR_MS);
        return { reason: 'ErrImagePull', message: failure.message };
      }
      draft.lookAgainAt(retryAtMs);
      if (view.recorded?.state?.waiting?.reason !== 'ImagePullBackOff') {
        draft.event('Normal', 'BackOff', `Back-off pulling image "${image}"`);
        draft.event('Warning', 'Failed', 'Error: ImagePullBackOff');
      }
      return {
        reason: 'ImagePullBackOff',
        message: `Back-off pulling image "${image}": ErrImagePull: ${failure.message}`,
      };
    }
  }
  const because =
    policy === 'Always'
      ? `the pull policy of container "${name}" is Always`
      : `the image of container "${name}" is not on the node`;
  draft.act({ verb: 'pull-image', uid: identityOf(pod).uid, container: name, image, attempt, because });
  return 'wait';
}

/** Why its image is not there, as it was last told: that stays shown while the next try is under way. */
function pullErrorOf({ recorded }: SlotView): SlotPlan['waiting'] {
  const waiting = recorded?.state?.waiting;
  if (waiting?.reason !== 'ErrImagePull' && waiting?.reason !== 'ImagePullBackOff') return undefined;
  return { reason: waiting.reason, ...(waiting.message === undefined ? {} : { message: waiting.message }) };
}

/** When a container that has ended may start again, and how long the next one waits after that. `forgiven` forgets its crashes, as does a long run. */
export function restartAfter(
  container: ObservedContainer,
  end: { startedAtMs: number; finishedAtMs: number },
  forgiven = false,
): { lastDelayMs: number; startAtMs: number; nextDelayMs: number } {
  const ranLong = end.startedAtMs > 0 && end.finishedAtMs - end.startedAtMs >= RESTART_RESET_MS;
  const lastDelayMs = ranLong || forgiven ? 0 : Number(container.labels[RESTART_DELAY_LABEL] ?? 0);
  const nextDelayMs = lastDelayMs === 0 ? FIRST_RESTART_DELAY_MS : Math.min(LAST_RESTART_DELAY_MS, lastDelayMs * 2);
  return { lastDelayMs, startAtMs: end.finishedAtMs + lastDelayMs, nextDelayMs };
}

export function restarts(policy: 'Always' | 'OnFailure' | 'Never', exitCode: number): boolean {
  return policy === 'Always' || (policy === 'OnFailure' && exitCode !== 0);
}

/** As Go writes durations: `10s`, `2m40s`, `5m0s`. */
function duration(timeMs: number): string {
  const seconds = Math.round(timeMs / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}
