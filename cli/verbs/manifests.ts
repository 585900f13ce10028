/** Reads objects from files, folders and standard input, JSON or YAML, many to a file, with the digest of what each was read from. Used by `apply.ts`. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { parseAllDocuments } from 'yaml';
import { UsageError } from './words.ts';

export interface Manifest {
  /** The file, as it was named. */
  readonly file: string;
  /** `shop/web.yaml sha256:…`: kept with the record. */
  readonly source: string;
  readonly object: Readonly<Record<string, unknown>>;
}

const EXTENSIONS = ['.json', '.yaml', '.yml'];
const STANDARD_INPUT = '-';
const MAX_FILE_BYTES = 32 * 1024 * 1024;

/** In the order of the names given, folders by file name. Throws UsageError for what cannot be read, naming the file. */
export async function readManifests(names: readonly string[], options: { recursive: boolean }): Promise<Manifest[]> {
  const manifests: Manifest[] = [];
  for (const name of names) {
    if (name === STANDARD_INPUT) manifests.push(...objectsOf('standard input', await text(process.stdin)));
    else for (const file of await filesOf(name, options)) manifests.push(...objectsOf(file, await contentOf(file)));
  }
  return manifests;
}

async function filesOf(name: string, { recursive }: { recursive: boolean }): Promise<string[]> {
  const found = await stat(name).catch(() => undefined);
  if (!found) throw new UsageError(`There is no ${name}.`);
  if (!found.isDirectory()) return [name];
  const entries = await readdir(name, { withFileTypes: true, recursive });
  const files = entries
    .filter((entry) => entry.isFile() && EXTENSIONS.includes(path.extname(entry.name)))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
  if (files.length === 0)
    throw new UsageError(
      `${name} holds no ${EXTENSIONS.join(', ')} file${recursive ? '' : ' (-R looks into its folders too)'}.`,
    );
  return files;
}

async function contentOf(file: string): Promise<string> {
  const { size } = await stat(file);
  if (size > MAX_FILE_BYTES) throw new UsageError(`${file} has ${size} bytes, more than ${MAX_FILE_BYTES}.`);
  return readFile(file, 'utf8');
}

function objectsOf(file: string, content: string): Manifest[] {
  const source = `${file} sha256:${createHash('sha256').update(content).digest('hex')}`;
  const objects = parseAllDocuments(content).flatMap((document, index) => {
    const [error] = document.errors;
    if (error) throw new UsageError(`${file}: ${error.message.split('\n')[0]}`);
    return membersOf(document.toJS(), `${file}, object ${index + 1}`);
  });
  return objects.map((object) => ({ file, source, object }));
}

/** A List is what is in it; an empty document is nothing. */
function membersOf(value: unknown, where: string): Record<string, unknown>[] {
  if (value === null || value === undefined) return [];
  if (typeof value !== 'object' || Array.isArray(value)) throw new UsageError(`${where} is not an object.`);
  const object = value as Record<string, unknown>;
  if (typeof object['apiVersion'] !== 'string' || typeof object['kind'] !== 'string')
    throw new UsageError(`${where} says no apiVersion and kind.`);
  const { kind, items } = object;
  if (kind === 'List' && Array.isArray(items)) return items.flatMap((item) => membersOf(item, where));
  return [object];
}
