/** How a container is brought to its end: its preStop hook, the stop signal, and KILL when its grace is over. Pure; called by the other planning files. */
import type { Container as PodContainer } from '../../api-schemas/types/core-v1.ts';
import type { Draft } from './draft.ts';
import type { Observed, ObservedContainer, Pod } from './observation.ts';
import { identityOf } from './pod-shape.ts';
import { describe, runs } from './slot-view.ts';

/** An engine that has not killed a container by then is asked again. */
const KILL_AGAIN_MS = 10_000;

export interface Stop {
  readonly pod: Pod;
  readonly observed: Observed;
  readonly draft: Draft;
  readonly container: ObservedContainer;
  /** Absent for containers that no slot of the pod describes. */
  readonly spec?: PodContainer;
  /** From the stop signal on, unless `deadlineMs` says when. */
  readonly graceMs: number;
  readonly deadlineMs?: number;
  readonly because: string;
  /** Of the `Killing` event; none when absent. */
  readonly message?: string;
}

/** Takes the next step towards the end of a running container. */
export function planStop(stop: Stop): void {
  const { draft, observed, container, spec, because } = stop;
  if (!runs(container)) return;
  const uid = identityOf(stop.pod).uid;
  const name = describe(container);
  const step = { uid, container: name, containerId: container.id };
  const sent = observed.signals[container.id];
  if (sent?.signal === 'kill') {
    const againAtMs = sent.atMs + KILL_AGAIN_MS;
    if (againAtMs <= draft.nowMs) draft.act({ verb: 'signal-container', ...step, signal: 'kill', because });
    else draft.lookAgainAt(againAtMs);
    return;
  }
  const hook = observed.hooks[`${container.id}/preStop`];
  const deadlineMs = stop.deadlineMs ?? (sent === undefined ? Number.POSITIVE_INFINITY : sent.atMs + stop.graceMs);
  if (stop.graceMs <= 0 || deadlineMs <= draft.nowMs) {
    const late =
      sent === undefined ? because : `${because}; it did not end within its grace period of ${stop.graceMs / 1000} s`;
    if (stop.message !== undefined && sent === undefined && hook === undefined)
      draft.event('Normal', 'Killing', stop.message);
    draft.act({ verb: 'signal-container', ...step, signal: 'kill', because: late });
    return;
  }
  if (Number.isFinite(deadlineMs)) draft.lookAgainAt(deadlineMs);
  if (sent !== undefined) return;
  if (stop.message !== undefined && hook === undefined) draft.event('Normal', 'Killing', stop.message);
  if (spec?.lifecycle?.preStop !== undefined && hook === undefined) {
    const timeoutMs = Number.isFinite(deadlineMs) ? deadlineMs - draft.nowMs : stop.graceMs;
    draft.act({ verb: 'run-hook', ...step, hook: 'preStop', timeoutMs, because });
    return;
  }
  if (hook?.state === 'running') return;
  draft.act({ verb: 'signal-container', ...step, signal: 'stop', because });
  // Nothing may ever be heard of a container that does not heed the signal.
  if (!Number.isFinite(deadlineMs)) draft.lookAgainAt(draft.nowMs + stop.graceMs);
}
