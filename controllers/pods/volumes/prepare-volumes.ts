/** Brings a pod's volumes onto the node. Idempotent: what is there already is left, what shows something else is turned over. Called by the agent's operations. */
import { chmod, chown, lstat, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Volume } from '../../../runtime/container-runtime.ts';
import type { PodFolders } from './pod-folder.ts';
import type { EngineSource, VolumeSource } from './volume-source.ts';
import { writeFiles } from './write-files.ts';

export interface PrepareOptions {
  readonly uid: string;
  readonly folders: PodFolders;
  readonly engineVolume: (source: EngineSource) => Promise<Volume>;
  readonly fsGroup?: number;
}

/** A volume cannot be mounted as it is: the path is not there, or is something else. */
export class VolumeError extends Error {
  override readonly name = 'VolumeError';
}

export async function prepareVolume(name: string, source: VolumeSource, options: PrepareOptions): Promise<void> {
  const { uid, folders, fsGroup } = options;
  const folder = folders.volume(uid, name);
  switch (source.kind) {
    case 'folder':
      await mkdir(folder, { recursive: true });
      if (source.memory) await folders.mountMemory(uid, name, source.sizeBytes);
      await chmod(folder, fsGroup === undefined ? 0o777 : 0o2777);
      if (fsGroup !== undefined) await chown(folder, 0, fsGroup);
      return;
    case 'files':
      await writeFiles({
        folder,
        hash: source.hash,
        files: source.files,
        ...(fsGroup === undefined ? {} : { group: fsGroup }),
      });
      return;
    case 'path':
      await checkPath(source.path, source.type);
      return;
    case 'engine': {
      const volume = await options.engineVolume(source);
      if (fsGroup !== undefined && volume.mountpoint !== '') await giveToGroup(volume.mountpoint, fsGroup);
      return;
    }
    default:
      source satisfies never;
  }
}

/** The types of https://kubernetes.io/docs/concepts/storage/volumes/#hostpath */
async function checkPath(path: string, type: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined && (type === 'DirectoryOrCreate' || type === '')) {
    await mkdir(path, { recursive: true, mode: 0o755 });
    return;
  }
  if (found === undefined && type === 'FileOrCreate') {
    // Its folder has to be there.
    await writeFile(path, '', { flag: 'a', mode: 0o644 }).catch((error: unknown) => {
      throw new VolumeError(`hostPath type check failed: ${error instanceof Error ? error.message : String(error)}`);
    });
    return;
  }
  const fits =
    found !== undefined &&
    (type === '' ||
      (type.startsWith('Directory') && found.isDirectory()) ||
      (type.startsWith('File') && found.isFile()) ||
      (type === 'Socket' && found.isSocket()) ||
      (type === 'CharDevice' && found.isCharacterDevice()) ||
      (type === 'BlockDevice' && found.isBlockDevice()));
  if (!fits)
    throw new VolumeError(`hostPath type check failed: ${path} is not ${/^[AEIOU]/.test(type) ? 'an' : 'a'} ${type}`);
}

/** As Kubernetes does for fsGroup: everything belongs to the group, which may write; skipped when the root already does. */
async function giveToGroup(root: string, group: number): Promise<void> {
  const top = await stat(root);
  if (top.gid === group && (top.mode & 0o2070) === 0o2070) return;
  const visit = async (path: string): Promise<void> => {
    const info = await lstat(path);
    if (info.isSymbolicLink()) return;
    if (info.isDirectory()) for (const name of await readdir(path)) await visit(join(path, name));
    await chown(path, info.uid, group);
    await chmod(path, (info.mode & 0o7777) | (info.isDirectory() ? 0o2070 : 0o060));
  };
  await visit(root);
}
