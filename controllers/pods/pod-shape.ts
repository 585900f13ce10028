/** What can be read off a pod's spec alone: its slots, whether it needs a sandbox, its policies. Pure; used wherever pods are planned or built. */
import type { Container as PodContainer, Pod, PodSpec } from '../../api-schemas/types/core-v1.ts';
import type { PodIdentity, Role } from './labels.ts';

/** The place of one container in a pod. There is at most one live container in a slot. */
export interface Slot {
  readonly name: string;
  readonly role: Role;
  readonly container: PodContainer;
  /** An init container with `restartPolicy: Always`: it goes on beside the pod's own containers. */
  readonly sidecar: boolean;
  /** Of an ephemeral container: the one whose processes it is to see. */
  readonly target?: string;
}

const EMPTY_SPEC: PodSpec = { containers: [] };

export function specOf(pod: Pod): PodSpec {
  return pod.spec ?? EMPTY_SPEC;
}

export function identityOf(pod: Pod): PodIdentity {
  return { namespace: pod.metadata.namespace ?? '', name: pod.metadata.name, uid: pod.metadata.uid ?? '' };
}

export function initSlots(pod: Pod): readonly Slot[] {
  return (specOf(pod).initContainers ?? []).map((container) => ({
    name: container.name,
    role: 'init',
    container,
    sidecar: container.restartPolicy === 'Always',
  }));
}

export function mainSlots(pod: Pod): readonly Slot[] {
  return specOf(pod).containers.map((container) => ({
    name: container.name,
    role: 'container',
    container,
    sidecar: false,
  }));
}

/** Containers that somebody has added to look into a pod that is there. They are run once, and nothing hangs on them. */
export function ephemeralSlots(pod: Pod): readonly Slot[] {
  return (specOf(pod).ephemeralContainers ?? []).map(({ targetContainerName, ...container }) => ({
    name: container.name,
    role: 'ephemeral',
    container,
    sidecar: false,
    ...(targetContainerName && { target: targetContainerName }),
  }));
}

export function slotsOf(pod: Pod): readonly Slot[] {
  return [...initSlots(pod), ...mainSlots(pod), ...ephemeralSlots(pod)];
}

/** A pod of one container is one container of the engine. Several share the network of a sandbox. */
export function needsSandbox(pod: Pod): boolean {
  const spec = specOf(pod);
  if (spec.hostNetwork === true) return spec.shareProcessNamespace === true;
  return spec.shareProcessNamespace === true || spec.containers.length + (spec.initContainers?.length ?? 0) > 1;
}

export function restartPolicyOf(pod: Pod, slot: Slot): 'Always' | 'OnFailure' | 'Never' {
  if (slot.sidecar) return 'Always';
  if (slot.role === 'ephemeral') return 'Never';
  const policy = specOf(pod).restartPolicy ?? 'Always';
  // An init container runs until it succeeds, then no more.
  if (slot.role === 'init') return policy === 'Never' ? 'Never' : 'OnFailure';
  return policy as 'Always' | 'OnFailure' | 'Never';
}

export function isTerminal(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

export function gracePeriodMs(pod: Pod): number {
  return (pod.metadata.deletionGracePeriodSeconds ?? specOf(pod).terminationGracePeriodSeconds ?? 30) * 1000;
}

/** Whether the volume work of the agent concerns this pod at all. */
export function hasVolumes(pod: Pod): boolean {
  return (specOf(pod).volumes?.length ?? 0) > 0;
}
