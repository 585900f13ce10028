/**
 * Brings a program out of a Debian package without installing it: a private apt configuration (lists and cache of its own, one source that repeats the machine's own mirror
 * and keyring with the wanted suite) downloads the package, its signature chain checked, and `dpkg-deb -x` unpacks it into the cache folder. Needs no root, and
 * leaves the machine's own apt as it was. Called by `nats-server.ts`, `kubectl.ts` and `busybox.ts`.
 */
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { findProgram, runCommand, runOrThrow } from './command.ts';
import { SetUpError, type SetUpContext } from './requirement.ts';

export interface DebianSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** A keyring's path, or the key itself; absent: apt's own trusted keyrings. */
  readonly signedBy?: string;
}

export interface PackageRequest {
  readonly package: string;
  /** `forky`; `own`: the suite that this machine runs. */
  readonly suite: string;
}

/** Unpacks the package and returns the folder that its files are in. Done once; later calls find it. */
export async function bringDebianPackage(request: PackageRequest, context: SetUpContext): Promise<string> {
  const target = path.join(context.cacheFolder, 'packages', request.package);
  const work = path.join(context.cacheFolder, 'packages', `.${request.package}.${process.pid}`);
  const source = await machineSource();
  const suite = request.suite === 'own' ? source.suites[0] : request.suite;
  if (suite === undefined) throw new SetUpError(`apt's source ${source.uri} names no suite.`);
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  try {
    const apt = await privateApt({ source, suite, folder: path.join(context.cacheFolder, `apt-${suite}`) });
    const complaint = await updateOnce(apt, suite, context);
    const download = await runCommand('apt-get', [...apt, 'download', '-qq', request.package], { cwd: work });
    const archive = (await readdir(work)).find((name) => name.endsWith('.deb'));
    if (archive === undefined) {
      const said = `${complaint}${download.stderr}`.trim().slice(-1500);
      throw new SetUpError(`This machine's Debian mirror gave no ${request.package} from the suite ${suite}: ${said}`);
    }
    const unpacked = path.join(work, 'unpacked');
    await mkdir(unpacked);
    await runOrThrow('dpkg-deb', ['-x', path.join(work, archive), unpacked]);
    await rm(target, { recursive: true, force: true });
    await rename(unpacked, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return target;
}

/** The suites whose lists this process has: several packages need them fetched once. */
const updated = new Set<string>();

/** Resolves to what apt complained of. */
async function updateOnce(apt: readonly string[], suite: string, context: SetUpContext): Promise<string> {
  if (updated.has(suite)) return '';
  const { code, stderr } = await runCommand('apt-get', [...apt, 'update', '-qq'], {
    onTick: (seconds) => context.say(`  … still fetching package lists after ${seconds} s`),
  });
  if (code === 0) updated.add(suite);
  return stderr;
}

export function unpackedProgram(context: SetUpContext, packageName: string, program: string): string {
  return path.join(context.cacheFolder, 'packages', packageName, program);
}

/** Debian's name for this machine's kind, under which libraries lie. */
export async function multiarch(): Promise<string> {
  const { stdout } = await runCommand('dpkg-architecture', ['-qDEB_HOST_MULTIARCH']);
  if (stdout.trim() !== '') return stdout.trim();
  return process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
}

/** The options that keep apt to folders of our own. */
async function privateApt(options: { source: DebianSource; suite: string; folder: string }): Promise<string[]> {
  const { source, suite, folder } = options;
  for (const part of ['sources', 'lists/partial', 'cache/archives/partial'])
    await mkdir(path.join(folder, part), { recursive: true });
  const stanza = [
    'Types: deb',
    `URIs: ${source.uri}`,
    `Suites: ${suite}`,
    `Components: ${source.components.includes('main') ? 'main' : source.components.join(' ')}`,
  ];
  if (source.signedBy !== undefined) stanza.push(`Signed-By: ${source.signedBy}`);
  await writeFile(path.join(folder, 'sources', 'reckon.sources'), `${stanza.join('\n')}\n`);
  // What is installed or pinned here must not choose the version for us.
  await writeFile(path.join(folder, 'status'), '');
  const settings = {
    'Dir::State::status': path.join(folder, 'status'),
    'Dir::Etc::Preferences': '/dev/null',
    'Dir::Etc::PreferencesParts': '/dev/null',
    'Dir::Etc::SourceList': '/dev/null',
    'Dir::Etc::SourceParts': path.join(folder, 'sources'),
    'Dir::State::Lists': path.join(folder, 'lists'),
    'Dir::Cache': path.join(folder, 'cache'),
    'Acquire::AllowInsecureRepositories': '0',
    'APT::Get::AllowUnauthenticated': '0',
    // A download into a folder that apt's own user cannot enter is not worth a warning.
    'APT::Sandbox::User': 'root',
    'Acquire::Retries': '3',
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

/** The source by which this machine gets its own release, from apt's configuration. */
export async function machineSource(): Promise<DebianSource> {
  if ((await findProgram('apt-get')) === undefined) throw new SetUpError('there is no apt-get on this machine');
  const texts = [await readOrEmpty('/etc/apt/sources.list')];
  const parts = await readdir('/etc/apt/sources.list.d').catch(() => []);
  for (const name of parts.sort()) {
    if (name.endsWith('.list') || name.endsWith('.sources'))
      texts.push(await readOrEmpty(path.join('/etc/apt/sources.list.d', name)));
  }
  const codename =
    /^VERSION_CODENAME=(.*)$/m.exec(await readOrEmpty('/etc/os-release'))?.[1]?.replaceAll('"', '') ?? 'stable';
  const sources = texts
    .flatMap((text) => [...oneLineSources(text), ...stanzaSources(text)])
    .filter((source) => source.components.includes('main'));
  const own = sources.find((source) => source.suites.includes(codename)) ?? sources[0];
  if (own === undefined) throw new SetUpError("apt's configuration names no Debian mirror with the component main");
  return { ...own, suites: own.suites.includes(codename) ? [codename] : own.suites };
}

/** `deb [signed-by=…] uri suite component…` */
export function oneLineSources(text: string): DebianSource[] {
  const sources: DebianSource[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line);
    if (match === null) continue;
    const [, options = '', uri = '', suite = '', components = ''] = match;
    const signedBy = /signed-by=(\S+)/.exec(options)?.[1];
    sources.push({
      uri,
      suites: [suite],
      components: words(components),
      ...(signedBy === undefined ? {} : { signedBy }),
    });
  }
  return sources;
}

/** deb822 stanzas: fields, folded over lines that begin with a space, stanzas parted by an empty line. */
export function stanzaSources(text: string): DebianSource[] {
  const sources: DebianSource[] = [];
  for (const stanza of text.split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    let current = '';
    for (const line of stanza.split('\n')) {
      if (line.startsWith('#')) continue;
      const field = /^([A-Za-z-]+):\s*(.*)$/.exec(line);
      if (field !== null) fields.set((current = field[1]!.toLowerCase()), field[2]!.trim());
      else if (/^\s+\S/.test(line) && current !== '') fields.set(current, `${fields.get(current)}\n${line}`);
    }
    const uri = words(fields.get('uris') ?? '')[0];
    if (
      uri === undefined ||
      !words(fields.get('types') ?? '').includes('deb') ||
      fields.get('enabled')?.toLowerCase() === 'no'
    )
      continue;
    const signedBy = fields.get('signed-by');
    const suites = words(fields.get('suites') ?? '');
    sources.push({
      uri,
      suites,
      components: words(fields.get('components') ?? ''),
      ...(signedBy === undefined ? {} : { signedBy }),
    });
  }
  return sources;
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

function readOrEmpty(file: string): Promise<string> {
  return readFile(file, 'utf8').catch(() => '');
}
