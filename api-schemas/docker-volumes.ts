/**
 * The names by which the parts agree on PersistentVolumes that are Docker volumes on a node: written by the controller of volumes and by the node's agent, in objects that everybody can read.
 */
import type { ApiObject } from './schema.ts';

/** As the provisioner of a StorageClass, and as the driver of a PersistentVolume. */
export const VOLUME_DRIVER = 'docker.reckon.dev';

/** The Docker volume may still be there: taken off by the agent once it is removed, or to be kept. */
export const DOCKER_VOLUME_FINALIZER = 'docker.reckon.dev/volume';

/** What the agent knows of a PersistentVolume's data; absent until a pod first needs it. Taken off by a person, it says: begin anew with whatever is there. */
export const DATA_ANNOTATION = 'docker.reckon.dev/data';

/** `made`: in a Docker volume that the agent has made. `found`: in one that was there. `lost`: it was in one, and that is gone. */
export type DataState = 'made' | 'found' | 'lost';

export function dataStateOf({ metadata }: Pick<ApiObject, 'metadata'>): DataState | undefined {
  const state = metadata.annotations?.[DATA_ANNOTATION];
  return state === 'made' || state === 'found' || state === 'lost' ? state : undefined;
}
