/** A pod's whole status as Kubernetes reports it: phase, conditions, addresses, container statuses. Pure; called by reconcile.ts. */
import { conditionHolds } from '../../api-schemas/conditions.ts';
import { timestamp } from '../../api-schemas/timestamps.ts';
import type { ContainerStatus, PodCondition, PodStatus } from '../../api-schemas/types/core-v1.ts';
import { containerStatus } from './container-status.ts';
import type { Observed, Pod } from './observation.ts';
import type { RunningPlan } from './plan-running.ts';
import { initSlots, isTerminal, specOf } from './pod-shape.ts';
import type { PodView } from './slot-view.ts';

type Phase = NonNullable<PodStatus['phase']>;

/** Conditions that this agent reports; others, such as readiness gates, are left as they stand. */
const OWN_CONDITIONS: readonly string[] = [
  'PodReadyToStartContainers',
  'Initialized',
  'Ready',
  'ContainersReady',
  'PodScheduled',
];

export interface StatusInput {
  readonly pod: Pod;
  readonly observed: Observed;
  readonly view: PodView;
  /** Absent for pods that are being stopped. */
  readonly plan?: RunningPlan;
  /** The agent ends the pod for this reason. */
  readonly failure?: { readonly reason: string; readonly message: string };
}

export function podStatus(input: StatusInput): Record<string, unknown> {
  const { pod, observed, view, plan, failure } = input;
  const statuses = view.slots.map((slotView) => ({
    slot: slotView.slot,
    status: containerStatus({
      view: slotView,
      plan: plan?.slots.find((slotPlan) => slotPlan.view === slotView),
      observed,
      waitingReason:
        slotView.slot.role === 'container' && initSlots(pod).length > 0 && plan?.initialized !== true
          ? 'PodInitializing'
          : 'ContainerCreating',
    }),
  }));
  const inits = statuses.filter(({ slot }) => slot.role === 'init');
  const mains = statuses.filter(({ slot }) => slot.role === 'container').map(({ status }) => status);
  const ephemeral = statuses.filter(({ slot }) => slot.role === 'ephemeral').map(({ status }) => status);
  const initialized = plan?.initialized ?? conditionHolds(pod.status?.conditions, 'Initialized');
  const onlyOnce = inits.filter(({ slot }) => !slot.sidecar).map(({ status }) => status);
  const phase: Phase = failure !== undefined ? 'Failed' : podPhase({ pod, inits: onlyOnce, mains, initialized });
  const addresses = podAddresses(input);
  const { hostIP, hostIPs } = hostAddresses(observed);
  const before: PodStatus = pod.status ?? {};
  const next: PodStatus = {
    ...before,
    phase,
    conditions: conditions(input, {
      phase,
      statuses: [...inits.filter(({ slot }) => slot.sidecar).map(({ status }) => status), ...mains],
      initialized,
    }),
    hostIP,
    hostIPs,
    startTime: before.startTime ?? timestamp(observed.nowMs),
    containerStatuses: mains,
    ...(addresses.length === 0 ? {} : { podIP: addresses[0] ?? '', podIPs: addresses.map((ip) => ({ ip })) }),
    ...(inits.length === 0 ? {} : { initContainerStatuses: inits.map(({ status }) => status) }),
    // None of them is ever ready: nobody is served by them.
    ...(ephemeral.length === 0
      ? {}
      : { ephemeralContainerStatuses: ephemeral.map((status) => ({ ...status, ready: false, started: false })) }),
    ...(failure === undefined ? {} : { reason: failure.reason, message: failure.message }),
  };
  return next as Record<string, unknown>;
}

/** As the kubelet decides it (getPhase). */
export function podPhase(parts: {
  pod: Pod;
  inits: readonly ContainerStatus[];
  mains: readonly ContainerStatus[];
  initialized: boolean;
}): Phase {
  const { pod, inits, mains } = parts;
  if (isTerminal(pod)) return pod.status?.phase ?? 'Failed';
  const policy = specOf(pod).restartPolicy ?? 'Always';
  const deleting = pod.metadata.deletionTimestamp !== undefined;
  const initFailed = inits.some(
    ({ state, lastState }) => (state?.terminated ?? lastState?.terminated ?? { exitCode: 0 }).exitCode !== 0,
  );
  if (initFailed && policy === 'Never') return 'Failed';
  if (!parts.initialized && inits.some(({ state }) => state?.terminated?.exitCode !== 0)) return 'Pending';
  const running = mains.filter(({ state }) => state?.running !== undefined).length;
  const ended = mains.filter(
    ({ state, lastState }) =>
      state?.terminated !== undefined || (state?.waiting !== undefined && lastState?.terminated !== undefined),
  );
  if (running + ended.length < mains.length) return 'Pending';
  if (running > 0) return 'Running';
  const succeeded = ended.every(({ state }) => state?.terminated?.exitCode === 0);
  if (deleting) return succeeded ? 'Succeeded' : 'Failed';
  if (policy === 'Always') return 'Running';
  if (succeeded) return 'Succeeded';
  return policy === 'Never' ? 'Failed' : 'Running';
}

/** Told with the first container that holds it, and not when it is put aside: one write less for every pod. */
function podAddresses({ pod, observed, plan }: StatusInput): readonly string[] {
  if (specOf(pod).hostNetwork === true) return observed.hostAddresses;
  if (observed.address !== undefined && plan?.hasNetwork !== false) return [observed.address];
  return pod.status?.podIP === undefined ? [] : [pod.status.podIP];
}

function hostAddresses(observed: Observed): { hostIP: string; hostIPs: { ip: string }[] } {
  return { hostIP: observed.hostAddresses[0] ?? '', hostIPs: observed.hostAddresses.map((ip) => ({ ip })) };
}

interface Facts {
  readonly phase: Phase;
  /** Of all containers that are to be ready. */
  readonly statuses: readonly ContainerStatus[];
  readonly initialized: boolean;
}

function conditions(input: StatusInput, facts: Facts): PodCondition[] {
  const { pod, observed, plan } = input;
  const before = pod.status?.conditions ?? [];
  const over = facts.phase === 'Succeeded' || facts.phase === 'Failed';
  const hasNetwork =
    plan?.hasNetwork ??
    (!over && before.some(({ type, status }) => type === 'PodReadyToStartContainers' && status === 'True'));
  const containersReady = containersReadiness(facts);
  const scheduled = before.find(({ type }) => type === 'PodScheduled');
  const own: PodCondition[] = [
    { type: 'PodReadyToStartContainers', status: hasNetwork ? 'True' : 'False' },
    initializedCondition(facts, input),
    readiness(pod, containersReady),
    { type: 'ContainersReady', ...containersReady },
    scheduled ?? { type: 'PodScheduled', status: 'True' },
  ];
  const others = before.filter(({ type }) => !OWN_CONDITIONS.includes(type));
  return [...others, ...own.map((condition) => stamped(condition, before, observed.nowMs))];
}

function initializedCondition(facts: Facts, { view }: StatusInput): PodCondition {
  if (facts.initialized)
    return { type: 'Initialized', status: 'True', ...(facts.phase === 'Succeeded' ? { reason: 'PodCompleted' } : {}) };
  const incomplete = view.slots.filter(({ slot }) => slot.role === 'init').map(({ slot }) => slot.name);
  return {
    type: 'Initialized',
    status: 'False',
    reason: 'ContainersNotInitialized',
    message: `containers with incomplete status: [${incomplete.join(' ')}]`,
  };
}

function containersReadiness(facts: Facts): Omit<PodCondition, 'type'> {
  if (facts.phase === 'Succeeded') return { status: 'False', reason: 'PodCompleted' };
  if (facts.phase === 'Failed') return { status: 'False', reason: 'PodFailed' };
  const unready = facts.statuses.filter(({ ready }) => !ready).map(({ name }) => name);
  if (unready.length === 0 && facts.initialized) return { status: 'True' };
  return {
    status: 'False',
    reason: 'ContainersNotReady',
    message: `containers with unready status: [${unready.join(' ')}]`,
  };
}

function readiness(pod: Pod, containersReady: Omit<PodCondition, 'type'>): PodCondition {
  if (containersReady.status !== 'True') return { type: 'Ready', ...containersReady };
  const gates = specOf(pod).readinessGates ?? [];
  const closed = gates.filter(({ conditionType }) => !conditionHolds(pod.status?.conditions, conditionType));
  if (closed.length === 0) return { type: 'Ready', status: 'True' };
  const message = closed
    .map(({ conditionType }) => `corresponding condition of pod readiness gate "${conditionType}" does not exist.`)
    .join(', ');
  return { type: 'Ready', status: 'False', reason: 'ReadinessGatesNotReady', message };
}

/** Keeps the time of the last change of a condition's status. */
function stamped(condition: PodCondition, before: readonly PodCondition[], nowMs: number): PodCondition {
  const old = before.find(({ type }) => type === condition.type);
  const same = old !== undefined && old.status === condition.status;
  return { ...condition, lastTransitionTime: same ? (old.lastTransitionTime ?? timestamp(nowMs)) : timestamp(nowMs) };
}
