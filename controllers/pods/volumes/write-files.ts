/**
 * Files that change all at once: a folder of the new files is written beside the old, and one link, `..data`, is turned from one to the other. A reader sees all old or all new, as
 * in Kubernetes. Called by prepare-volumes.ts.
 */
import { chmod, chown, mkdir, readdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { VolumeFile } from './volume-source.ts';

const DATA_LINK = '..data';

/** The hash of what the folder shows now; undefined when it shows nothing yet. */
export async function shownHash(folder: string): Promise<string | undefined> {
  const target = await readlink(join(folder, DATA_LINK)).catch(() => undefined);
  return target?.slice(2);
}

export async function writeFiles(options: {
  readonly folder: string;
  readonly hash: string;
  readonly files: ReadonlyMap<string, VolumeFile>;
  readonly group?: number;
}): Promise<void> {
  const { folder, hash, files, group } = options;
  await mkdir(folder, { recursive: true, mode: 0o755 });
  if ((await shownHash(folder)) === hash) return;
  const version = join(folder, `..${hash}`);
  await rm(version, { recursive: true, force: true });
  await mkdir(version, { mode: 0o755 });
  for (const [path, { content, mode, user = 0 }] of files) {
    const file = join(version, path);
    await mkdir(dirname(file), { recursive: true, mode: 0o755 });
    await writeFile(file, content);
    await chmod(file, group === undefined ? mode : mode | ((mode & 0o400) >> 3));
    if (group !== undefined || user !== 0) await chown(file, user, group ?? 0);
  }
  const fresh = join(folder, '..data_new');
  await rm(fresh, { force: true });
  await symlink(`..${hash}`, fresh);
  await rename(fresh, join(folder, DATA_LINK));
  const shown = new Set([...files.keys()].map((path) => path.split('/')[0] ?? path));
  const present = await readdir(folder);
  for (const name of shown) if (!present.includes(name)) await symlink(`${DATA_LINK}/${name}`, join(folder, name));
  for (const name of present) {
    const stale = name.startsWith('..') ? name !== DATA_LINK && name !== `..${hash}` : !shown.has(name);
    if (stale) await rm(join(folder, name), { recursive: true, force: true });
  }
}
