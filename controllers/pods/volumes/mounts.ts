/** The mounts of one container: each volumeMount as the engine takes it. Looks at the node's files only to find what a subPath names. Called by container-spec.ts. */
import { mkdir, realpath, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import type { Container as PodContainer, VolumeMount } from '../../../api-schemas/types/core-v1.ts';
import type { ContainerRuntime, Mount } from '../../../runtime/container-runtime.ts';
import { expand } from '../environment.ts';
import type { PodFolders } from './pod-folder.ts';
import { VolumeError } from './prepare-volumes.ts';
import type { VolumeSource } from './volume-source.ts';

export interface MountContext {
  readonly uid: string;
  readonly folders: PodFolders;
  readonly runtime: ContainerRuntime;
  readonly sources: ReadonlyMap<string, VolumeSource>;
  readonly environment: ReadonlyMap<string, string>;
}

export async function containerMounts(container: PodContainer, context: MountContext): Promise<Mount[]> {
  const mounts: Mount[] = [];
  for (const mount of container.volumeMounts ?? []) mounts.push(await containerMount(mount, context));
  return mounts;
}

async function containerMount(mount: VolumeMount, context: MountContext): Promise<Mount> {
  const source = context.sources.get(mount.name);
  if (source === undefined) throw new VolumeError(`volume "${mount.name}" is not defined`);
  const target = mount.mountPath;
  const readOnly = mount.readOnly === true || source.kind === 'files' || ('readOnly' in source && source.readOnly);
  const subPath =
    mount.subPathExpr === undefined ? (mount.subPath ?? '') : expand(mount.subPathExpr, context.environment);
  if (source.kind === 'engine' && subPath === '') return { kind: 'volume', volume: source.volume, target, readOnly };
  const root = await rootOf(mount.name, source, context);
  const path = subPath === '' ? root : await within(root, subPath, !readOnly);
  const propagation =
    mount.mountPropagation === 'Bidirectional'
      ? 'rshared'
      : mount.mountPropagation === 'HostToContainer'
        ? 'rslave'
        : 'private';
  return { kind: 'bind', source: path, target, readOnly, ...(propagation === 'private' ? {} : { propagation }) };
}

async function rootOf(name: string, source: VolumeSource, context: MountContext): Promise<string> {
  if (source.kind === 'path') return source.path;
  if (source.kind !== 'engine') return context.folders.volume(context.uid, name);
  const volume = await context.runtime.inspectVolume(source.volume);
  if (volume === undefined || volume.mountpoint === '')
    throw new VolumeError(`volume "${source.volume}" has no folder on this node`);
  return volume.mountpoint;
}

/** A path inside a volume, made where it is not there; a link that leads out of the volume is refused. */
async function within(root: string, subPath: string, mayMake: boolean): Promise<string> {
  const wanted = join(root, subPath);
  const base = await realpath(root);
  if (mayMake && (await stat(wanted).catch(() => undefined)) === undefined) await mkdir(wanted, { recursive: true });
  const real = await realpath(wanted).catch(() => undefined);
  if (real === undefined) throw new VolumeError(`subPath "${subPath}" is not in the volume`);
  if (real !== base && !real.startsWith(base + sep))
    throw new VolumeError(`subPath "${subPath}" leads out of its volume`);
  return real;
}
