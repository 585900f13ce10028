/** The plan of a pod that is to run: its volumes, its sandbox if it needs one, its init containers in order, then its containers. Pure; called by reconcile.ts. */
import type { Draft } from './draft.ts';
import { ADDRESS_LABEL, attemptOf, RESTART_DELAY_LABEL, SANDBOX_NAME } from './labels.ts';
import type { Observed, Pod } from './observation.ts';
import { planSlot, restartAfter, type SlotPlan } from './plan-slot.ts';
import { planStop } from './plan-stop.ts';
import { gracePeriodMs, hasVolumes, identityOf, needsSandbox } from './pod-shape.ts';
import { endOf, isFresh, runs, type PodView, type SlotView } from './slot-view.ts';

export interface RunningPlan {
  readonly slots: readonly SlotPlan[];
  /** Every init container has done its work. */
  readonly initialized: boolean;
  /** The pod has its network. */
  readonly hasNetwork: boolean;
}

export function planRunningPod(context: { pod: Pod; observed: Observed; view: PodView; draft: Draft }): RunningPlan {
  const { pod, observed, view, draft } = context;
  const uid = identityOf(pod).uid;
  const volumesReady = planVolumes(context);
  const sandboxed = needsSandbox(pod);
  const sandboxRuns = runs(view.sandbox);
  const mains = view.slots.filter(({ slot }) => slot.role === 'container');
  const inits = view.slots.filter(({ slot }) => slot.role === 'init');
  // Init containers are not run again for a pod whose own containers have begun.
  const begun = mains.some(hasBegun);
  // Nothing new joins a sandbox over which the engine hangs.
  const groundReady = volumesReady && (!sandboxed || (sandboxRuns && view.sandbox?.unread !== true));

  if (sandboxed && !sandboxRuns) {
    for (const { current } of view.slots) {
      if (current !== undefined && runs(current))
        planStop({
          pod,
          observed,
          draft,
          container: current,
          graceMs: 0,
          because: 'the sandbox whose network it shares has ended',
        });
    }
  }

  planLostNetwork(context, sandboxed);
  const slots: SlotPlan[] = [];
  let turn = true;
  let initFailed = false;
  for (const init of inits) {
    const waitingReason = init === inits[0] || begun ? 'ContainerCreating' : 'PodInitializing';
    if (begun && !init.slot.sidecar) {
      slots.push({ view: init, wantsStart: false, started: false, ready: true, finished: 'succeeded' });
      continue;
    }
    const plan = planSlot({ pod, observed, draft, view: init, mayStart: groundReady && turn, waitingReason });
    slots.push(plan);
    const passed = init.slot.sidecar ? plan.started : plan.finished === 'succeeded';
    initFailed ||= plan.finished === 'failed';
    turn &&= passed;
  }
  const initialized = begun || turn;
  for (const main of mains) {
    const waitingReason = initialized || inits.length === 0 ? 'ContainerCreating' : 'PodInitializing';
    slots.push(
      planSlot({ pod, observed, draft, view: main, mayStart: groundReady && turn && !initFailed, waitingReason }),
    );
  }

  const wantsStart = !initFailed && slots.some((slot) => slot.wantsStart);
  slots.push(...planEphemeral({ ...context, joinable: sandboxed ? sandboxRuns : undefined }));
  if (sandboxed && !sandboxRuns && volumesReady && wantsStart && !view.slots.some(({ current }) => runs(current)))
    planSandbox(context);
  for (const old of view.sandboxes.slice(1)) {
    if (runs(old))
      planStop({ pod, observed, draft, container: old, graceMs: 0, because: 'the pod has a newer sandbox' });
    else if (draft.mayBegin(observed.removals[old.id])) {
      draft.act({
        verb: 'remove-container',
        uid,
        container: SANDBOX_NAME,
        containerId: old.id,
        because: 'the pod has a newer sandbox',
      });
    }
  }
  const networkOwner = sandboxed
    ? sandboxRuns
    : view.slots.some(({ current }) => current !== undefined && !isFresh(current));
  return { slots, initialized: initialized && !initFailed, hasNetwork: networkOwner };
}

/** They join what runs: the network that the pod has, and the processes of the container that they look at. */
function planEphemeral(context: {
  pod: Pod;
  observed: Observed;
  view: PodView;
  draft: Draft;
  /** Undefined: the pod's network is that of its container. */
  joinable: boolean | undefined;
}): SlotPlan[] {
  const { view, ...rest } = context;
  const lasting = view.slots.filter(({ slot }) => slot.role !== 'ephemeral');
  const joinable = context.joinable ?? lasting.some(({ current }) => runs(current));
  return view.slots
    .filter(({ slot }) => slot.role === 'ephemeral')
    .map((one) => {
      const { target } = one.slot;
      const targetRuns =
        target === undefined || lasting.some(({ slot, current }) => slot.name === target && runs(current));
      const mayStart = joinable && targetRuns;
      return planSlot({ ...rest, view: one, mayStart, waitingReason: 'ContainerCreating' });
    });
}

/** Who holds the pod's network and was parted from it, as when somebody removes the network, can only begin anew. */
function planLostNetwork(
  { pod, observed, view, draft }: { pod: Pod; observed: Observed; view: PodView; draft: Draft },
  sandboxed: boolean,
): void {
  const owners = view.slots.filter(({ slot }) => slot.role !== 'ephemeral');
  const holders = sandboxed ? [view.sandbox] : owners.map(({ current }) => current);
  for (const container of holders) {
    if (!runs(container) || container?.unread === true || container?.labels[ADDRESS_LABEL] === undefined) continue;
    if (container.address !== undefined) continue;
    const because = 'it is not in the network of the pods any more';
    const message = 'Pod sandbox changed, it will be killed and re-created.';
    if (observed.signals[container.id] === undefined) draft.event('Normal', 'SandboxChanged', message);
    planStop({ pod, observed, draft, container, graceMs: sandboxed ? 0 : gracePeriodMs(pod), because });
  }
}

function hasBegun(view: SlotView): boolean {
  return view.current !== undefined || (view.recorded?.containerID !== undefined && view.recorded.containerID !== '');
}

/** True when the pod's containers can be made as far as volumes go. */
function planVolumes({ pod, observed, draft }: { pod: Pod; observed: Observed; draft: Draft }): boolean {
  if (!hasVolumes(pod)) return true;
  const { ready, stale, work, problem, renewAtMs } = observed.volumes;
  if (renewAtMs !== undefined) draft.lookAgainAt(renewAtMs);
  if ((ready && !stale) || !draft.mayBegin(work)) return ready;
  const because = ready ? 'what a volume shows has changed' : (problem ?? 'its volumes are not on the node yet');
  draft.act({ verb: 'prepare-volumes', uid: identityOf(pod).uid, because });
  return ready;
}

function planSandbox(context: { pod: Pod; observed: Observed; view: PodView; draft: Draft }): void {
  const { pod, observed, view, draft } = context;
  if (!draft.mayBegin(observed.starts[SANDBOX_NAME])) return;
  const start = {
    verb: 'start-container',
    uid: identityOf(pod).uid,
    container: SANDBOX_NAME,
    role: 'sandbox',
  } as const;
  const { sandbox } = view;
  if (sandbox === undefined) {
    draft.act({ ...start, attempt: 0, restartDelayMs: 0, because: 'several containers are to share one network' });
    return;
  }
  // Whether it runs by now the engine does not say.
  if (sandbox.unread === true) return;
  if (isFresh(sandbox)) {
    const restartDelayMs = Number(sandbox.labels[RESTART_DELAY_LABEL] ?? 0);
    draft.act({ ...start, attempt: attemptOf(sandbox), restartDelayMs, because: 'its sandbox has not been started' });
    return;
  }
  const end = endOf(sandbox);
  if (end === undefined) return;
  const { startAtMs, nextDelayMs } = restartAfter(sandbox, end);
  if (startAtMs > draft.nowMs) draft.lookAgainAt(startAtMs);
  else
    draft.act({
      ...start,
      attempt: attemptOf(sandbox) + 1,
      restartDelayMs: nextDelayMs,
      because: 'its sandbox has ended',
    });
}

/** Stops everything of a pod that must not run any more. True when nothing runs. Sidecars go after the pod's own containers, the sandbox last. */
export function planStopAll(context: {
  pod: Pod;
  observed: Observed;
  view: PodView;
  draft: Draft;
  deadlineMs?: number;
  because: string;
  silent?: boolean;
}): boolean {
  const { pod, observed, view, draft, because } = context;
  const graceMs = gracePeriodMs(pod);
  const stop = ({ current, slot }: SlotView): void => {
    if (current === undefined) return;
    planStop({
      pod,
      observed,
      draft,
      container: current,
      spec: slot.container,
      graceMs,
      because,
      ...(context.deadlineMs === undefined ? {} : { deadlineMs: context.deadlineMs }),
      ...(context.silent === true ? {} : { message: `Stopping container ${slot.name}` }),
    });
  };
  const rivals = view.slots.flatMap(({ previous, older }) => [previous, ...older].filter((one) => one && runs(one)));
  for (const container of rivals) if (container) planStop({ pod, observed, draft, container, graceMs: 0, because });
  const running = view.slots.filter(({ current }) => runs(current));
  const sidecars = running.filter(({ slot }) => slot.sidecar);
  const others = running.filter(({ slot }) => !slot.sidecar);
  const overdue = context.deadlineMs !== undefined && context.deadlineMs <= draft.nowMs;
  for (const view of others) stop(view);
  if (others.length === 0) {
    const last = sidecars.at(-1);
    if (last !== undefined) stop(last);
  }
  if (overdue) for (const view of sidecars) stop(view);
  if (running.length + rivals.length > 0) return false;
  for (const sandbox of view.sandboxes) planStop({ pod, observed, draft, container: sandbox, graceMs: 0, because });
  const startsInFlight = Object.values(observed.starts).some(({ inFlight }) => inFlight);
  return !startsInFlight && !view.sandboxes.some(runs);
}
