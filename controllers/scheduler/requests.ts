/**
 * What a pod asks of a node: its requests, its ports on the node, the claims that it mounts.
 */
import {
  add,
  amounts,
  isSidecar,
  podRequests as containerRequests,
  type Amounts,
} from '../../api-schemas/pod-resources.ts';
import type { Pod, PodSpec } from '../../api-schemas/types/core-v1.ts';

export { amounts, type Amounts };

/** A port on the node that a pod wants for itself. */
export interface HostPort {
  readonly protocol: string;
  /** `0.0.0.0`: every address of the node. */
  readonly address: string;
  readonly port: number;
}

const ANY_ADDRESS = '0.0.0.0';

/** The pod's requests, one pod's place included. */
export const podRequests = (spec: PodSpec | undefined): Amounts =>
  add(containerRequests(spec), { pods: 1_000_000_000n });

export function hostPorts({ spec }: Pod): HostPort[] {
  const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? []).filter(isSidecar)];
  return containers.flatMap(({ ports }) =>
    (ports ?? []).flatMap(({ hostPort, hostIP, protocol }) =>
      hostPort ? [{ protocol: protocol ?? 'TCP', address: hostIP || ANY_ADDRESS, port: hostPort }] : [],
    ),
  );
}

/** Whether both cannot be had on one node. */
export const portsConflict = (a: HostPort, b: HostPort): boolean =>
  a.port === b.port &&
  a.protocol === b.protocol &&
  (a.address === b.address || a.address === ANY_ADDRESS || b.address === ANY_ADDRESS);

/** Whether a pod no longer holds what it asked for. */
export const isOver = (pod: Pod): boolean => pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';

/** The claims that a pod mounts, by name; those of ephemeral volumes bear the pod's name. */
export const claimNames = ({ metadata, spec }: Pod): string[] =>
  (spec?.volumes ?? []).flatMap((volume) => {
    if (volume.persistentVolumeClaim) return [volume.persistentVolumeClaim.claimName];
    return volume.ephemeral ? [`${metadata.name}-${volume.name}`] : [];
  });
