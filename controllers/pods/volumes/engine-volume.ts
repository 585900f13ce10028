/**
 * The engine's volume behind a PersistentVolume, as a pod is about to use it. It is made once; after that it must be there: data that somebody has removed is reported as lost, and never appears to be
 * empty. Called by the agent's operations for every volume of that sort, before each start.
 */
import { dataStateOf, type DataState } from '../../../api-schemas/docker-volumes.ts';
import type { PersistentVolume } from '../../../api-schemas/types/core-v1.ts';
import type { ContainerRuntime, Volume } from '../../../runtime/container-runtime.ts';
import { VolumeError } from './prepare-volumes.ts';
import type { EngineSource } from './volume-source.ts';

export const PV_NAME_LABEL = 'reckon.dev/persistent-volume';
export const PV_UID_LABEL = 'reckon.dev/persistent-volume-uid';

export interface EngineVolumeContext {
  readonly runtime: ContainerRuntime;
  /** Put on volumes that are made. */
  readonly labels: Readonly<Record<string, string>>;
  /** As the API server has it now. */
  readonly read: (name: string) => Promise<PersistentVolume>;
  readonly mark: (volume: PersistentVolume, state: DataState) => Promise<void>;
  /** It is not as it should be: whoever keeps the PersistentVolume is to look. */
  readonly doubt: (persistentVolume: string) => void;
}

/** Whether what stands in the engine is what the PersistentVolume's data was put in. */
export function isDataOf(
  standing: Volume | undefined,
  volume: PersistentVolume,
  state: DataState | undefined,
): boolean {
  if (standing === undefined) return false;
  return state === 'made' || state === 'lost' ? standing.labels[PV_UID_LABEL] === volume.metadata.uid : true;
}

export async function engineVolume(source: EngineSource, context: EngineVolumeContext): Promise<Volume> {
  const { runtime } = context;
  const standing = await runtime.inspectVolume(source.volume);
  const { persistentVolume: known } = source;
  if (dataStateOf(known) !== undefined) {
    if (dataStateOf(known) !== 'lost' && standing !== undefined && isDataOf(standing, known, dataStateOf(known)))
      return standing;
    context.doubt(known.metadata.name);
    throw lost(source);
  }
  // Volumes that lie on no node in particular are nobody's to keep.
  if (!source.isKept) return standing ?? (await make(source, context));
  const volume = await context.read(known.metadata.name);
  if (dataStateOf(volume) !== undefined) return engineVolume({ ...source, persistentVolume: volume }, context);
  const found = standing ?? (await make(source, context));
  // Before any container has it: from now on it must be there.
  await context.mark(volume, found.labels[PV_UID_LABEL] === volume.metadata.uid ? 'made' : 'found');
  return found;
}

function make({ volume, persistentVolume: { metadata } }: EngineSource, context: EngineVolumeContext): Promise<Volume> {
  return context.runtime.ensureVolume(volume, {
    ...context.labels,
    [PV_NAME_LABEL]: metadata.name,
    [PV_UID_LABEL]: metadata.uid ?? '',
  });
}

function lost({ volume, persistentVolume }: EngineSource): VolumeError {
  return new VolumeError(
    `the data of persistentvolume "${persistentVolume.metadata.name}" is lost: Docker volume "${volume}" is not on this node any more`,
  );
}
