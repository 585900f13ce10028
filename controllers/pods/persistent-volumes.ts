/**
 * The PersistentVolumes that live in this node's engine: whether their data is still there, and their end: when one is deleted, its volume is removed from the engine (reclaim policy Delete) and its finalizer taken
 * off. A small controller of its own, run in the agent's process. What the loss of data means for phases and claims is decided by the controller of volumes.
 */
import {
  DATA_ANNOTATION,
  dataStateOf,
  DOCKER_VOLUME_FINALIZER,
  VOLUME_DRIVER,
  type DataState,
} from '../../api-schemas/docker-volumes.ts';
import type { PersistentVolume } from '../../api-schemas/types/core-v1.ts';
import type { ContainerRuntime, Volume } from '../../runtime/container-runtime.ts';
import { RuntimeCallError, RuntimeUnavailableError } from '../../runtime/container-runtime.ts';
import type { ApiAction, Controller, ObjectKey, Plan } from '../../sdk/index.ts';
import type { World } from '../../sdk/world.ts';
import { VOLUMES } from './sources.ts';
import { isDataOf, PV_UID_LABEL } from './volumes/engine-volume.ts';

/** Taken off by the controller of volumes once no claim is bound. */
const PROTECTION_FINALIZER = 'kubernetes.io/pv-protection';

export interface ObservedVolume {
  /** The volume lies in this node's engine. */
  readonly here: boolean;
  /** What stands there under its name. */
  readonly standing: Volume | undefined;
}

export interface RemoveVolume {
  readonly verb: 'remove-volume';
  readonly volume: string;
  readonly because: string;
}

const IN_USE_RETRY_MS = 2_000;
/** What events may have missed. */
const CHECK_MS = 60_000;

/** Tells that the engine's volumes, or one of them, may have changed: by the name of a PersistentVolume, by that in the engine, or of all. */
export class VolumeNews {
  readonly #listeners = new Set<(about: { persistentVolume?: string; volume?: string }) => void>();

  tell(about: { persistentVolume?: string; volume?: string } = {}): void {
    for (const listener of this.#listeners) listener(about);
  }

  listen(listener: (about: { persistentVolume?: string; volume?: string }) => void, signal: AbortSignal): void {
    this.#listeners.add(listener);
    signal.addEventListener('abort', () => this.#listeners.delete(listener), { once: true });
  }
}

/** Pure. */
export function reconcileVolume(volume: PersistentVolume, observed: ObservedVolume): Plan<ApiAction | RemoveVolume> {
  if (!observed.here) return { actions: [] };
  return volume.metadata.deletionTimestamp === undefined ? keeping(volume, observed) : ending(volume, observed);
}

/** Data that is gone is said to be lost; it is found again only where it bears the mark of this very PersistentVolume. */
function keeping(volume: PersistentVolume, { standing }: ObservedVolume): Plan<ApiAction> {
  const state = dataStateOf(volume);
  const handle = volume.spec?.csi?.volumeHandle ?? '';
  const there = isDataOf(standing, volume, state);
  const right: DataState | undefined = there
    ? standing?.labels[PV_UID_LABEL] === volume.metadata.uid
      ? 'made'
      : 'found'
    : state === undefined
      ? undefined
      : 'lost';
  if (right === undefined || right === state) return { actions: [] };
  const { name, uid, resourceVersion } = volume.metadata;
  const because =
    right === 'lost'
      ? `Docker volume "${handle}" is not on this node any more`
      : `its data is in Docker volume "${handle}" of this node`;
  const patch = { metadata: { uid, resourceVersion, annotations: { [DATA_ANNOTATION]: right } } };
  return { actions: [{ verb: 'patch', resource: VOLUMES, name, patch, because }] };
}

/** First the volume, then the finalizer. */
function ending(volume: PersistentVolume, { standing }: ObservedVolume): Plan<ApiAction | RemoveVolume> {
  const { name, finalizers = [], resourceVersion } = volume.metadata;
  // While a claim is bound to it, its data stays, whoever has deleted the PersistentVolume.
  if (!finalizers.includes(DOCKER_VOLUME_FINALIZER) || finalizers.includes(PROTECTION_FINALIZER))
    return { actions: [] };
  const handle = volume.spec?.csi?.volumeHandle ?? '';
  if (standing !== undefined && volume.spec?.persistentVolumeReclaimPolicy === 'Delete') {
    const because = 'its PersistentVolume is deleted, and its reclaim policy is Delete';
    return { actions: [{ verb: 'remove-volume', volume: handle, because }], requeueAfterMs: IN_USE_RETRY_MS };
  }
  const rest = finalizers.filter((finalizer) => finalizer !== DOCKER_VOLUME_FINALIZER);
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
  news: VolumeNews;
}): Controller<PersistentVolume, ObservedVolume, ApiAction | RemoveVolume> {
  const { runtime, nodeName, news } = options;
  return {
    name: 'pods-persistentvolumes',
    resource: VOLUMES,
    scope: 'node',
    watches: [],
    async start({ world, enqueue, signal }) {
      news.listen(({ persistentVolume, volume }) => {
        for (const { metadata, spec } of volumesOf(world))
          if (
            (persistentVolume ?? metadata.name) === metadata.name &&
            (volume ?? spec?.csi?.volumeHandle) === spec?.csi?.volumeHandle
          )
            enqueue(keyOf(metadata.name));
      }, signal);
      const timer = setInterval(() => {
        void suspects(runtime, world, nodeName).then((names) => names.forEach((name) => enqueue(keyOf(name))));
      }, CHECK_MS);
      signal.addEventListener('abort', () => clearInterval(timer), { once: true });
    },
    async observe(key, world) {
      const volume = world.get<PersistentVolume>(VOLUMES, '', key.name);
      if (volume?.spec?.csi?.driver !== VOLUME_DRIVER) return undefined;
      const { deletionTimestamp } = volume.metadata;
      // One without a place is on every node when it goes, and kept by none before.
      const here = isOn(volume, nodeName, deletionTimestamp !== undefined);
      if (!here) return undefined;
      return {
        desired: volume,
        observed: { here, standing: await runtime.inspectVolume(volume.spec.csi.volumeHandle) },
      };
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

const keyOf = (name: string): ObjectKey => ({ group: '', resource: 'persistentvolumes', namespace: '', name });

function volumesOf(world: World): readonly PersistentVolume[] {
  return world.list<PersistentVolume>(VOLUMES).filter(({ spec }) => spec?.csi?.driver === VOLUME_DRIVER);
}

/** The PersistentVolumes of this node that are not as the engine's list says. */
async function suspects(runtime: ContainerRuntime, world: World, nodeName: string): Promise<string[]> {
  try {
    const standing = new Map((await runtime.listVolumes({})).map((volume) => [volume.name, volume]));
    return volumesOf(world)
      .filter((volume) => isOn(volume, nodeName, false))
      .filter(
        (volume) =>
          keeping(volume, { here: true, standing: standing.get(volume.spec?.csi?.volumeHandle ?? '') }).actions.length >
          0,
      )
      .map(({ metadata }) => metadata.name);
  } catch (error) {
    // The engine says itself when it is back.
    if (error instanceof RuntimeUnavailableError || error instanceof RuntimeCallError) return [];
    throw error;
  }
}

/** By the volume's node affinity. */
function isOn(volume: PersistentVolume, nodeName: string, withoutAny: boolean): boolean {
  const terms = volume.spec?.nodeAffinity?.required?.nodeSelectorTerms ?? [];
  if (terms.length === 0) return withoutAny;
  return terms.some((term) =>
    (term.matchExpressions ?? []).every(
      ({ key, operator, values = [] }) =>
        key !== 'kubernetes.io/hostname' || operator !== 'In' || values.includes(nodeName),
    ),
  );
}
