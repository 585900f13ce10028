/** One entry of `containerStatuses`, exactly as Kubernetes reports it. Pure; called by pod-status.ts. */
import { timestamp } from '../../api-schemas/timestamps.ts';
import type { ContainerState, ContainerStatus } from '../../api-schemas/types/core-v1.ts';
import { attemptOf } from './labels.ts';
import type { Observed, ObservedContainer } from './observation.ts';
import type { SlotPlan } from './plan-slot.ts';
import { endOf, isFresh, runs, type SlotView } from './slot-view.ts';

const NEVER = '1970-01-01T00:00:00Z';

export function containerId(container: ObservedContainer): string {
  return `docker://${container.id}`;
}

export function terminatedState(container: ObservedContainer): NonNullable<ContainerState['terminated']> | undefined {
  const end = endOf(container);
  if (end === undefined) return undefined;
  return {
    containerID: containerId(container),
    exitCode: end.exitCode,
    finishedAt: timestamp(end.finishedAtMs),
    reason: end.reason,
    startedAt: end.startedAtMs === 0 ? NEVER : timestamp(end.startedAtMs),
    ...(end.message === '' ? {} : { message: end.message }),
  };
}

/** `plan` is absent for pods that are being stopped: then a container is what the engine says it is. */
export function containerStatus(options: {
  view: SlotView;
  plan: SlotPlan | undefined;
  observed: Observed;
  waitingReason: string;
}): ContainerStatus {
  const { view, plan, observed } = options;
  const { slot, current, previous, recorded } = view;
  const imageId = current?.imageId ?? observed.preparations[slot.name]?.imageId ?? recorded?.imageID ?? '';
  const base = {
    name: slot.name,
    image: slot.container.image ?? '',
    imageID: observed.preparations[slot.name]?.imageId ?? imageId,
  };
  if (current === undefined) return { ...base, ...absent(options) };
  const last = previous === undefined ? undefined : terminatedState(previous);
  const lastState: ContainerState = last === undefined ? (recorded?.lastState ?? {}) : { terminated: last };
  const common = { ...base, containerID: containerId(current), restartCount: attemptOf(current) };
  // The engine hangs over it: what was last said of it stands, but for what its probes say.
  if (current.unread === true && recorded?.containerID === containerId(current)) {
    if (!runs(current)) return recorded;
    if (recorded.state?.running !== undefined) return { ...recorded, ready: plan?.ready ?? recorded.ready === true };
  }
  if (runs(current)) {
    const keepsReady = plan === undefined && recorded?.ready === true;
    const keepsStarted = plan === undefined && recorded?.started === true;
    return {
      ...common,
      lastState,
      ready: plan?.ready ?? keepsReady,
      started: plan?.started ?? keepsStarted,
      state: { running: { startedAt: timestamp(current.startedAtMs ?? current.createdAtMs) } },
    };
  }
  const terminated = terminatedState(current);
  if (terminated !== undefined && plan?.waiting !== undefined) {
    return { ...common, lastState: { terminated }, ready: false, started: false, state: { waiting: plan.waiting } };
  }
  if (terminated !== undefined) {
    const ready = slot.role === 'init' && !slot.sidecar && terminated.exitCode === 0;
    return { ...common, lastState, ready, started: false, state: { terminated } };
  }
  const waiting = plan?.waiting ?? { reason: options.waitingReason };
  const { containerID, ...unstarted } = common;
  return {
    ...unstarted,
    ...(isFresh(current) ? {} : { containerID }),
    lastState,
    ready: false,
    started: false,
    state: { waiting },
  };
}

function absent(options: {
  view: SlotView;
  plan: SlotPlan | undefined;
  waitingReason: string;
}): Omit<ContainerStatus, 'name' | 'image' | 'imageID'> {
  const { recorded } = options.view;
  const { plan } = options;
  const restartCount = recorded?.restartCount ?? 0;
  const had = recorded?.containerID !== undefined && recorded.containerID !== '';
  const id = had ? { containerID: recorded.containerID ?? '' } : {};
  if (had && (plan === undefined || !plan.wantsStart)) {
    const ready = plan?.finished === 'succeeded' && options.view.slot.role === 'init';
    const terminated = recorded.state?.terminated ?? unknownEnd(recorded);
    return { ...id, restartCount, lastState: recorded.lastState ?? {}, ready, started: false, state: { terminated } };
  }
  const waiting = plan?.waiting ?? { reason: options.waitingReason };
  if (!had) return { restartCount, lastState: {}, ready: false, started: false, state: { waiting } };
  const terminated =
    recorded.state?.terminated ??
    (recorded.state?.running === undefined ? recorded.lastState?.terminated : unknownEnd(recorded));
  return {
    ...id,
    restartCount,
    lastState: terminated === undefined ? {} : { terminated },
    ready: false,
    started: false,
    state: { waiting },
  };
}

/** It was taken away, and nobody saw how it ended. */
function unknownEnd(recorded: ContainerStatus): NonNullable<ContainerState['terminated']> {
  return {
    exitCode: 137,
    reason: 'ContainerStatusUnknown',
    message: 'The container could not be located when the pod was terminated',
    startedAt: recorded.state?.running?.startedAt ?? NEVER,
    finishedAt: NEVER,
  };
}
