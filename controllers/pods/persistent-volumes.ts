/**
 * The end of a PersistentVolume that lives in this node's engine: when it is deleted, its volume is removed from the engine (reclaim policy Delete) and its finalizer taken off. A
 * small controller of its own, run in the agent's process.
 */
import type { PersistentVolume } from '../../api-schemas/types/core-v1.ts';
import type { ContainerRuntime } from '../../runtime/container-runtime.ts';
import { RuntimeCallError } from '../../runtime/container-runtime.ts';
import type { ApiAction, Controller, Plan } from '../../sdk/controller.ts';
import { VOLUMES } from './sources.ts';
import { VOLUME_DRIVER } from './volumes/volume-source.ts';

export const VOLUME_FINALIZER = 'docker.reckon.dev/volume';

/** Taken off by the controller of volumes once no claim is bound. */
const PROTECTION_FINALIZER = 'kubernetes.io/pv-protection';

export interface ObservedVolume {
  /** The volume lies in this node's engine. */
  readonly here: boolean;
  readonly exists: boolean;
}

export interface RemoveVolume {
  readonly verb: 'remove-volume';
  readonly volume: string;
  readonly because: string;
}

const IN_USE_RETRY_MS = 2_000;

/** Pure. First the volume, then the finalizer. */
export function reconcileVolume(volume: PersistentVolume, observed: ObservedVolume): Plan<ApiAction | RemoveVolume> {
  const { name, deletionTimestamp, finalizers = [], resourceVersion } = volume.metadata;
  if (!observed.here || deletionTimestamp === undefined || !finalizers.includes(VOLUME_FINALIZER))
    return { actions: [] };
  // While a claim is bound to it, its data stays, whoever has deleted the PersistentVolume.
  if (finalizers.includes(PROTECTION_FINALIZER)) return { actions: [] };
  const handle = volume.spec?.csi?.volumeHandle ?? '';
  if (observed.exists && volume.spec?.persistentVolumeReclaimPolicy === 'Delete') {
    const because = 'its PersistentVolume is deleted, and its reclaim policy is Delete';
    return { actions: [{ verb: 'remove-volume', volume: handle, because }], requeueAfterMs: IN_USE_RETRY_MS };
  }
  const rest = finalizers.filter((finalizer) => finalizer !== VOLUME_FINALIZER);
  const patch = { metadata: { resourceVersion, finalizers: rest.length === 0 ? null : rest } };
  return {
    actions: [
      { verb: 'patch', resource: VOLUMES, name, patch, because: 'nothing of the volume is left that should go' },
    ],
  };
}

export function persistentVolumesController(options: {
  runtime: ContainerRuntime;
  nodeName: string;
}): Controller<PersistentVolume, ObservedVolume, ApiAction | RemoveVolume> {
  const { runtime, nodeName } = options;
  return {
    name: 'pods-persistentvolumes',
    resource: VOLUMES,
    scope: 'node',
    watches: [],
    async observe(key, world) {
      const volume = world.get<PersistentVolume>(VOLUMES, '', key.name);
      if (
        volume === undefined ||
        volume.metadata.deletionTimestamp === undefined ||
        volume.spec?.csi?.driver !== VOLUME_DRIVER
      )
        return undefined;
      const here = isOn(volume, nodeName);
      const exists = here && (await runtime.inspectVolume(volume.spec.csi.volumeHandle)) !== undefined;
      return { desired: volume, observed: { here, exists } };
    },
    reconcile: reconcileVolume,
    async apply(action) {
      if (action.verb !== 'remove-volume') return;
      try {
        await runtime.removeVolume(action.volume);
      } catch (error) {
        // A container of a pod that is just going still has it.
        if (!(error instanceof RuntimeCallError && error.reason === 'conflict')) throw error;
      }
    },
  };
}

/** By the volume's node affinity; one without any is on every node. */
function isOn(volume: PersistentVolume, nodeName: string): boolean {
  const terms = volume.spec?.nodeAffinity?.required?.nodeSelectorTerms ?? [];
  if (terms.length === 0) return true;
  return terms.some((term) =>
    (term.matchExpressions ?? []).every(
      ({ key, operator, values = [] }) =>
        key !== 'kubernetes.io/hostname' || operator !== 'In' || values.includes(nodeName),
    ),
  );
}
