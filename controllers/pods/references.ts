/** What a pod refers to: ConfigMaps, Secrets, claims, Services. Filled by sources.ts before a pod is planned; read by the builders of environments and volumes. */
import type {
  ConfigMap,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  Secret,
  Service,
  Volume,
} from '../../api-schemas/types/core-v1.ts';
import { specOf } from './pod-shape.ts';
import type { PodToken } from './tokens.ts';

export interface References {
  /** Undefined: there is none of that name. All are of the pod's namespace. */
  readonly configMaps: ReadonlyMap<string, ConfigMap | undefined>;
  readonly secrets: ReadonlyMap<string, Secret | undefined>;
  readonly claims: ReadonlyMap<string, PersistentVolumeClaim | undefined>;
  /** By name of the claim that is bound to it. */
  readonly volumes: ReadonlyMap<string, PersistentVolume | undefined>;
  readonly services: readonly Service[];
  /** Of the pod's ServiceAccount, by `tokenId`. */
  readonly tokens: ReadonlyMap<string, PodToken>;
}

/** A reference cannot be resolved: the container, or the volume, waits. */
export class UnresolvedReferenceError extends Error {
  override readonly name = 'UnresolvedReferenceError';
}

export interface ReferredNames {
  readonly configMaps: ReadonlySet<string>;
  readonly secrets: ReadonlySet<string>;
  readonly claims: ReadonlySet<string>;
}

/** The claim behind a volume, if it is one: named, or made for this pod alone. */
export function claimNameOf(pod: Pod, volume: Volume): string | undefined {
  return (
    volume.persistentVolumeClaim?.claimName ??
    (volume.ephemeral === undefined ? undefined : `${pod.metadata.name}-${volume.name}`)
  );
}

/** Every name that the spec mentions, once. */
export function referredNames(pod: Pod): ReferredNames {
  const configMaps = new Set<string>();
  const secrets = new Set<string>();
  const claims = new Set<string>();
  const spec = specOf(pod);
  const add = (set: Set<string>, name: string | undefined): void => {
    if (name !== undefined && name !== '') set.add(name);
  };
  for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
    for (const variable of container.env ?? []) {
      add(configMaps, variable.valueFrom?.configMapKeyRef?.name);
      add(secrets, variable.valueFrom?.secretKeyRef?.name);
    }
    for (const source of container.envFrom ?? []) {
      add(configMaps, source.configMapRef?.name);
      add(secrets, source.secretRef?.name);
    }
  }
  for (const volume of spec.volumes ?? []) {
    add(configMaps, volume.configMap?.name);
    add(secrets, volume.secret?.secretName);
    add(claims, claimNameOf(pod, volume));
    for (const source of volume.projected?.sources ?? []) {
      add(configMaps, source.configMap?.name);
      add(secrets, source.secret?.name);
    }
  }
  return { configMaps, secrets, claims };
}
