/** When each probe of a running container is due, and what its results so far say. Pure; called by plan-slot.ts. */
import type { Probe } from '../../api-schemas/types/core-v1.ts';
import type { Draft } from './draft.ts';
import type { Observed, ObservedContainer, Pod, ProbeKind, ProbeState } from './observation.ts';
import { identityOf } from './pod-shape.ts';
import type { SlotView } from './slot-view.ts';

export interface ProbesPlan {
  readonly started: boolean;
  readonly ready: boolean;
  readonly kill?: { readonly probe: 'liveness' | 'startup'; readonly because: string; readonly graceMs?: number };
}

export function planProbes(context: {
  pod: Pod;
  observed: Observed;
  draft: Draft;
  view: SlotView;
  container: ObservedContainer;
}): ProbesPlan {
  const { observed, view, container } = context;
  const { startupProbe, livenessProbe, readinessProbe } = view.slot.container;
  // An agent that has just started knows no results; what it reported of this very container before still stands.
  const known = view.recorded?.containerID === `docker://${container.id}` ? view.recorded : undefined;
  const stateOf = (kind: ProbeKind): ProbeState | undefined => observed.probes[`${container.id}/${kind}`];
  const beingStopped = observed.signals[container.id] !== undefined;

  if (startupProbe !== undefined) {
    const result = stateOf('startup')?.result ?? (known?.started === true ? 'success' : undefined);
    if (result === 'failure')
      return { started: false, ready: false, kill: kill('startup', startupProbe, stateOf('startup')) };
    if (result === undefined) {
      if (!beingStopped) schedule(context, 'startup', startupProbe);
      return { started: false, ready: false };
    }
  }
  if (livenessProbe !== undefined) {
    if (stateOf('liveness')?.result === 'failure')
      return { started: true, ready: false, kill: kill('liveness', livenessProbe, stateOf('liveness')) };
    if (!beingStopped) schedule(context, 'liveness', livenessProbe);
  }
  if (readinessProbe === undefined) return { started: true, ready: true };
  schedule(context, 'readiness', readinessProbe);
  const result = stateOf('readiness')?.result ?? (known?.ready === true ? 'success' : 'failure');
  return { started: true, ready: result === 'success' };
}

function kill(
  probe: 'liveness' | 'startup',
  spec: Probe,
  state: ProbeState | undefined,
): NonNullable<ProbesPlan['kill']> {
  const seconds = spec.terminationGracePeriodSeconds;
  return {
    probe,
    because: `its ${probe} probe failed: ${state?.message ?? ''}`,
    ...(seconds === undefined ? {} : { graceMs: seconds * 1000 }),
  };
}

function schedule(
  context: { pod: Pod; observed: Observed; draft: Draft; view: SlotView; container: ObservedContainer },
  kind: ProbeKind,
  probe: Probe,
): void {
  const { draft, container, view, pod } = context;
  const state = context.observed.probes[`${container.id}/${kind}`];
  if (state?.inFlight === true) return;
  const startedAtMs = container.startedAtMs ?? draft.nowMs;
  const firstAtMs = startedAtMs + (probe.initialDelaySeconds ?? 0) * 1000;
  const dueAtMs =
    state === undefined ? firstAtMs : Math.max(firstAtMs, state.startedAtMs + (probe.periodSeconds ?? 10) * 1000);
  if (dueAtMs > draft.nowMs) {
    draft.lookAgainAt(dueAtMs);
    return;
  }
  const because = `the ${kind} probe of container "${view.slot.name}" is due`;
  draft.act({
    verb: 'run-probe',
    routine: true,
    uid: identityOf(pod).uid,
    container: view.slot.name,
    containerId: container.id,
    probe: kind,
    because,
  });
}

/** The memory of a probe after one more result. Thresholds as in https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/ */
export function foldProbe(
  state: ProbeState,
  outcome: { success: boolean; message: string },
  probe: Probe,
  kind: ProbeKind,
): ProbeState {
  const successes = outcome.success ? state.successes + 1 : 0;
  const failures = outcome.success ? 0 : state.failures + 1;
  const successThreshold = kind === 'readiness' ? (probe.successThreshold ?? 1) : 1;
  const crossed = outcome.success ? successes >= successThreshold : failures >= (probe.failureThreshold ?? 3);
  const result = crossed ? (outcome.success ? 'success' : 'failure') : state.result;
  return {
    inFlight: false,
    startedAtMs: state.startedAtMs,
    successes,
    failures,
    message: outcome.message,
    ...(result === undefined ? {} : { result }),
  };
}
