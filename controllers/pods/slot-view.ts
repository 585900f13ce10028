/** The containers of a pod, sorted into its slots: which is the present one of a slot, which came before, what the status says of it. Pure; read by the planning files and by the status. */
import type { ContainerStatus } from '../../api-schemas/types/core-v1.ts';
import { attemptOf, CONTAINER_LABEL, POD_UID_LABEL, roleOf, SANDBOX_NAME } from './labels.ts';
import type { Observed, ObservedContainer, Pod } from './observation.ts';
import { slotsOf, type Slot } from './pod-shape.ts';

export interface SlotView {
  readonly slot: Slot;
  /** The newest attempt, whatever its state. */
  readonly current?: ObservedContainer;
  /** The attempt before it, kept for `logs --previous`. */
  readonly previous?: ObservedContainer;
  /** Attempts that nobody needs any more. */
  readonly older: readonly ObservedContainer[];
  /** What the pod's status says of the slot. */
  readonly recorded?: ContainerStatus;
}

export interface PodView {
  readonly slots: readonly SlotView[];
  readonly sandboxes: readonly ObservedContainer[];
  readonly sandbox?: ObservedContainer;
  /** Containers of former pods of this name, and of slots that the pod does not have. */
  readonly strangers: readonly ObservedContainer[];
}

export function viewPod(pod: Pod, observed: Observed): PodView {
  const own = observed.containers.filter((container) => container.labels[POD_UID_LABEL] === pod.metadata.uid);
  const newestFirst = own.toSorted((a, b) => attemptOf(b) - attemptOf(a));
  const recorded = new Map(
    [
      ...(pod.status?.initContainerStatuses ?? []),
      ...(pod.status?.containerStatuses ?? []),
      ...(pod.status?.ephemeralContainerStatuses ?? []),
    ].map((status) => [status.name, status]),
  );
  const slots = slotsOf(pod).map((slot): SlotView => {
    const status = recorded.get(slot.name);
    const attempts = newestFirst.filter(
      (container) => container.labels[CONTAINER_LABEL] === slot.name && roleOf(container) !== 'sandbox',
    );
    // The status knows of an attempt that the engine has no more: somebody took it away.
    const isLost = status !== undefined && attempts[0] !== undefined && attemptOf(attempts[0]) < status.restartCount;
    const current = isLost ? undefined : attempts[0];
    const [previous, ...older] = isLost ? attempts : attempts.slice(1);
    return {
      slot,
      ...(current === undefined ? {} : { current }),
      ...(previous === undefined ? {} : { previous }),
      older,
      ...(status === undefined ? {} : { recorded: status }),
    };
  });
  const sandboxes = newestFirst.filter((container) => roleOf(container) === 'sandbox');
  const names = new Set(slots.map(({ slot }) => slot.name));
  const strangers = observed.containers.filter(
    (container) =>
      container.labels[POD_UID_LABEL] !== pod.metadata.uid ||
      (roleOf(container) !== 'sandbox' && !names.has(container.labels[CONTAINER_LABEL] ?? '')),
  );
  const sandbox = sandboxes[0];
  return { slots, sandboxes, ...(sandbox === undefined ? {} : { sandbox }), strangers };
}

export function runs(container: ObservedContainer | undefined): boolean {
  return container?.state === 'running' || container?.state === 'paused';
}

/** Made, and neither started nor refused to start. */
export function isFresh(container: ObservedContainer): boolean {
  return container.state === 'created' && container.error === '';
}

/** Its end, as far as it has one: an engine that could not start it counts as one. */
export function endOf(
  container: ObservedContainer,
): { exitCode: number; startedAtMs: number; finishedAtMs: number; reason: string; message: string } | undefined {
  if (container.state === 'created' && container.error !== '') {
    return {
      exitCode: 128,
      startedAtMs: 0,
      finishedAtMs: container.createdAtMs,
      reason: 'StartError',
      message: container.error,
    };
  }
  if (container.state !== 'exited' && container.state !== 'dead') return undefined;
  // The engine's list says that it has ended, and not how.
  if (container.unread === true && container.finishedAtMs === undefined) return undefined;
  const finishedAtMs = container.finishedAtMs ?? container.createdAtMs;
  return {
    exitCode: container.exitCode,
    startedAtMs: container.startedAtMs ?? finishedAtMs,
    finishedAtMs,
    reason: container.outOfMemory ? 'OOMKilled' : container.exitCode === 0 ? 'Completed' : 'Error',
    message: container.terminationMessage ?? container.error,
  };
}

export function describe(container: ObservedContainer): string {
  return container.labels[CONTAINER_LABEL] ?? SANDBOX_NAME;
}
