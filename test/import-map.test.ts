/**
 * The map of who may import whom, as docs/architecture.md draws it: one table, held against every import in the code.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

const root = process.env['RECKON_ROOT'] ?? process.cwd();

/** For each room: the rooms and the packages (outside Node's own) that its files may import. */
const MAP: Readonly<Record<string, { rooms: readonly string[]; packages: readonly string[] }>> = {
  'api-schemas': { rooms: [], packages: [] },
  pki: { rooms: [], packages: [] },
  'event-log': { rooms: ['api-schemas'], packages: ['nats', 'pino', '@nats-io/jwt', '@nats-io/nkeys'] },
  state: { rooms: ['api-schemas', 'event-log', 'migrations'], packages: ['pg', 'kysely', 'pino'] },
  migrations: { rooms: [], packages: ['kysely'] },
  runtime: { rooms: ['api-schemas'], packages: ['dockerode', 'tar-stream'] },
  sdk: { rooms: ['api-schemas', 'event-log', 'state'], packages: ['pino', 'prom-client', 'yaml'] },
  'api-server': {
    rooms: ['api-schemas', 'event-log', 'pki', 'state'],
    packages: ['ajv', '@marcbachmann/cel-js', 'pino', 'prom-client', 're2js', 'yaml'],
  },
  controllers: { rooms: ['api-schemas', 'sdk'], packages: ['dns-packet', 'pino'] },
  'controllers/certificatesigningrequests': { rooms: ['api-schemas', 'sdk', 'pki'], packages: [] },
  'controllers/pods': { rooms: ['api-schemas', 'sdk', 'runtime', 'state'], packages: ['pino', 'ws'] },
  examples: { rooms: ['sdk'], packages: [] },
};

/** These rooms alone name these packages. */
const OWNED: Readonly<Record<string, readonly string[]>> = {
  nats: ['event-log'],
  '@nats-io/jwt': ['event-log'],
  '@nats-io/nkeys': ['event-log'],
  pg: ['state'],
  kysely: ['state', 'migrations'],
  dockerode: ['runtime'],
};

/** The composition root and the tests may import anything but what another room owns. */
const FREE = ['cli', 'test', 'bench'];

const IMPORT =
  /^\s*(?:import|export)\s[^'"]*?from\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm;

function sources(folder: string): string[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => path.posix.join(folder, file.replaceAll('\\', '/')));
}

function importsOf(file: string): string[] {
  return [...readFileSync(path.join(root, file), 'utf8').matchAll(IMPORT)].map(
    (match) => match[1] ?? match[2] ?? match[3] ?? '',
  );
}

const packageOf = (specifier: string): string =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');

function faultsOf(file: string): string[] {
  const folder = file.split('/').slice(0, 2).join('/');
  const room = folder in MAP ? folder : (file.split('/')[0] ?? '');
  const rules = MAP[room];
  return importsOf(file).flatMap((specifier) => {
    if (specifier.startsWith('node:')) return [];
    if (!specifier.startsWith('.')) {
      const name = packageOf(specifier);
      const owners = OWNED[name];
      if (owners && !owners.includes(room) && room !== 'test' && room !== 'bench')
        return [`${file} imports ${name}, which only ${owners.join(' and ')} may`];
      return rules && !rules.packages.includes(name)
        ? [`${file} imports the package ${name}, which ${room} may not`]
        : [];
    }
    const target = path.posix.join(path.posix.dirname(file), specifier);
    const targetRoom = target.split('/')[0] ?? '';
    if (!rules) return [];
    if (targetRoom === 'controllers' && file.startsWith('controllers/')) {
      return target.split('/')[1] === file.split('/')[1]
        ? []
        : [`${file} imports ${target}: a controller does not know another`];
    }
    return targetRoom === file.split('/')[0] || rules.rooms.includes(targetRoom)
      ? []
      : [`${file} imports ${target}, and ${room} may not import ${targetRoom}`];
  });
}

t.test('every room imports only what the map allows', async (t) => {
  const rooms = [...new Set(Object.keys(MAP).map((room) => room.split('/')[0] ?? ''))];
  const files = [...rooms, ...FREE].flatMap((room) => {
    try {
      return sources(room);
    } catch {
      return [];
    }
  });
  t.ok(files.length > 200, `${files.length} files were looked at`);
  t.strictSame(files.flatMap(faultsOf), []);
});

t.test('the map has a line for every room that there is', async (t) => {
  const folders = readdirSync(root, { withFileTypes: true })
    .filter(
      (entry) => entry.isDirectory() && !entry.name.startsWith('.') && !/^(node_modules|dist.*|docs)$/.test(entry.name),
    )
    .map(({ name }) => name);
  t.strictSame(
    folders.filter((name) => !(name in MAP) && !FREE.includes(name)),
    [],
  );
});
