/**
 * The names and labels of the containers that the agent makes. They are all that ties a container to its pod, across restarts of the agent, and they are
 * deterministic: a start repeated after a crash meets the name of the first and does not make a second container.
 */
import { createHash } from 'node:crypto';
import type { Container as PodContainer } from '../../api-schemas/types/core-v1.ts';
import type { Container } from '../../runtime/container-runtime.ts';

export const INSTANCE_LABEL = 'reckon.dev/instance';
export const NODE_LABEL = 'reckon.dev/node';
export const POD_UID_LABEL = 'reckon.dev/pod-uid';
export const POD_NAMESPACE_LABEL = 'reckon.dev/pod-namespace';
export const POD_NAME_LABEL = 'reckon.dev/pod-name';
export const CONTAINER_LABEL = 'reckon.dev/container';
/** `container`, `init`, `ephemeral` or `sandbox`. */
export const ROLE_LABEL = 'reckon.dev/role';
export const ATTEMPT_LABEL = 'reckon.dev/attempt';
export const SPEC_HASH_LABEL = 'reckon.dev/spec-hash';
/** The sequences that led to this container, separated by commas. */
export const CAUSE_LABEL = 'reckon.dev/cause';
export const ADDRESS_LABEL = 'reckon.dev/pod-ip';
/** How long to wait after this attempt ends before the next. */
export const RESTART_DELAY_LABEL = 'reckon.dev/restart-delay-ms';
/** Id of the sandbox whose network it joined. */
export const SANDBOX_LABEL = 'reckon.dev/sandbox';

/** The name that stands in a sandbox's container name; no container of a pod can have it. */
export const SANDBOX_NAME = 'POD';

export type Role = 'container' | 'init' | 'ephemeral' | 'sandbox';

export interface PodIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export function containerName(pod: PodIdentity, container: string, attempt: number): string {
  return `reckon_${container}_${pod.name}_${pod.namespace}_${pod.uid}_${attempt}`;
}

export function podOf(labels: Readonly<Record<string, string>>): PodIdentity | undefined {
  const namespace = labels[POD_NAMESPACE_LABEL];
  const name = labels[POD_NAME_LABEL];
  const uid = labels[POD_UID_LABEL];
  return namespace === undefined || name === undefined || uid === undefined ? undefined : { namespace, name, uid };
}

export function attemptOf(container: Container): number {
  return Number(container.labels[ATTEMPT_LABEL] ?? 0);
}

export function roleOf(container: Container): Role {
  const role = container.labels[ROLE_LABEL];
  return role === 'init' || role === 'ephemeral' || role === 'sandbox' ? role : 'container';
}

/** What of a container may change while its pod lives, and asks for a new container when it does: as in Kubernetes, its image. */
export function specHash(container: PodContainer): string {
  return createHash('sha256')
    .update(`${container.name}\n${container.image ?? ''}`)
    .digest('hex')
    .slice(0, 16);
}
