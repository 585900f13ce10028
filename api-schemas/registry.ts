/**
 * Loads every schema file of this folder once and answers what the program asks about a kind: which resource serves it, what its fields
 * are. The API server, the SDK and the type generator build one registry each at start; CustomResourceDefinitions add to it at run time.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import type { ResourceDefinition, Schema } from './schema.ts';

/** A JSON Schema document as it stands in its file, `$ref`s and all: what ajv and OpenAPI want. */
export type Document = Readonly<Record<string, unknown>>;

export interface Registry {
  /** Every served resource, ordered by group (core first), version and plural. */
  resources(): readonly ResourceDefinition[];
  /** By plural: `byResource('apps', 'v1', 'deployments')`. Group '' is the core group. */
  byResource(group: string, version: string, resource: string): ResourceDefinition | undefined;
  /** By kind: `byKind('', 'v1', 'ConfigMap')`. Kinds that only subresources use (Scale, Eviction) have no resource: see `type`. */
  byKind(group: string, version: string, kind: string): ResourceDefinition | undefined;
  /** A type by its full name, such as `io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions`. */
  type(title: string): Schema | undefined;
  /** The full names of all types that come from files. */
  types(): readonly string[];
  /** Adds a kind, or replaces the one of the same group, version and plural. */
  add(definition: ResourceDefinition): void;
  remove(group: string, version: string, resource: string): void;
  /** Grows by one with every `add` and `remove`, so that what was computed from the registry can be kept until it changes. */
  readonly changes: number;
  /** The raw documents by their path in this folder (`apps/v1/deployment.json`), which is also the path of their `$id`. */
  documents(): ReadonlyMap<string, Document>;
}

type RawNode = Readonly<Record<string, unknown>>;

/** The keywords whose value is a schema, a list of schemas, or schemas by name. */
const SINGLE = new Set(['items', 'additionalProperties', 'propertyNames', 'not']);
const LISTS = new Set(['anyOf', 'oneOf', 'allOf']);
const MAPS = new Set(['properties']);
/** The keywords of a file that are not part of the schema of its type. */
const FILE_ONLY = new Set(['$schema', '$id', '$defs', 'x-reckon-resource']);

/** Reads the files (synchronously, some tens of milliseconds) and returns a registry of its own for the caller. */
export function loadRegistry(folder: string = schemaFolder()): Registry {
  const documents = readDocuments(folder);
  const types = resolveTypes(documents);
  const resources = new Map<string, ResourceDefinition>();
  const kinds = new Map<string, ResourceDefinition>();
  let ordered: readonly ResourceDefinition[] | undefined;
  let changes = 0;

  const put = (definition: ResourceDefinition): void => {
    resources.set(key(definition.group, definition.version, definition.resource), definition);
    kinds.set(key(definition.group, definition.version, definition.kind), definition);
    ordered = undefined;
  };
  for (const document of documents.values()) {
    const facts = document['x-reckon-resource'];
    const schema = types.get(String(document['title']));
    if (facts !== undefined && schema !== undefined) put({ ...(facts as Omit<ResourceDefinition, 'schema'>), schema });
  }

  return {
    resources: () => (ordered ??= [...resources.values()].sort(byPlace)),
    byResource: (group, version, resource) => resources.get(key(group, version, resource)),
    byKind: (group, version, kind) => kinds.get(key(group, version, kind)),
    type: (title) => types.get(title),
    types: () => [...types.keys()],
    add(definition) {
      this.remove(definition.group, definition.version, definition.resource);
      put(definition);
    },
    remove(group, version, resource) {
      const known = resources.get(key(group, version, resource));
      changes += 1;
      if (known === undefined) return;
      resources.delete(key(group, version, resource));
      kinds.delete(key(group, version, known.kind));
      ordered = undefined;
    },
    get changes() {
      return changes;
    },
    documents: () => documents,
  };
}

function key(group: string, version: string, name: string): string {
  return `${group}/${version}/${name}`;
}

function byPlace(a: ResourceDefinition, b: ResourceDefinition): number {
  return compare(a.group, b.group) || compare(a.version, b.version) || compare(a.resource, b.resource);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Where package.json stands: above this module, wherever its compiled form lies. */
export function packageRoot(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error(`no package.json above ${import.meta.dirname}`);
    folder = parent;
  }
  return folder;
}

/** The folder of the JSON files: beside this module's source. */
export const schemaFolder = (): string => join(packageRoot(), 'api-schemas');

function readDocuments(folder: string): Map<string, Document> {
  const documents = new Map<string, Document>();
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    if (!file.endsWith('.json')) continue;
    const path = file.replaceAll('\\', '/');
    try {
      documents.set(path, JSON.parse(readFileSync(join(folder, file), 'utf8')) as Document);
    } catch (cause) {
      throw new Error(`api-schemas/${path} is not JSON`, { cause });
    }
  }
  return documents;
}

/** Every titled type of the documents, each `$ref` replaced by the very node it names. */
function resolveTypes(documents: ReadonlyMap<string, Document>): Map<string, Schema> {
  const resolved = new Map<RawNode, Schema>();

  const target = (reference: string, path: string): { node: RawNode; path: string } => {
    const [file = '', pointer = ''] = reference.split('#');
    const place = file === '' ? path : posix.join(posix.dirname(path), file);
    let node: unknown = documents.get(place);
    for (const step of pointer.split('/').slice(1)) node = (node as RawNode | undefined)?.[unescapePointer(step)];
    if (typeof node !== 'object' || node === null) throw new Error(`api-schemas/${path}: nothing at $ref ${reference}`);
    return { node: node as RawNode, path: place };
  };

  const children = (map: RawNode, path: string): Record<string, Schema> =>
    Object.fromEntries(Object.entries(map).map(([name, node]) => [name, resolve(node as RawNode, path)]));

  const resolve = (raw: RawNode, path: string): Schema => {
    const known = resolved.get(raw);
    if (known !== undefined) return known;
    if (typeof raw['$ref'] === 'string' && Object.keys(raw).length === 1) {
      const there = target(raw['$ref'], path);
      return resolve(there.node, there.path);
    }
    const schema: Record<string, unknown> = {};
    // Known before its children are, so that a type may contain itself.
    resolved.set(raw, schema);
    let own = raw;
    let ownPath = path;
    const layers: { node: RawNode; path: string }[] = [{ node: raw, path }];
    while (typeof own['$ref'] === 'string') {
      ({ node: own, path: ownPath } = target(own['$ref'], ownPath));
      layers.unshift({ node: own, path: ownPath });
    }
    for (const layer of layers) {
      for (const [keyword, value] of Object.entries(layer.node)) {
        if (keyword === '$ref' || FILE_ONLY.has(keyword)) continue;
        else if (MAPS.has(keyword)) schema[keyword] = children(value as RawNode, layer.path);
        else if (LISTS.has(keyword)) schema[keyword] = (value as RawNode[]).map((node) => resolve(node, layer.path));
        else if (SINGLE.has(keyword) && typeof value === 'object')
          schema[keyword] = resolve(value as RawNode, layer.path);
        else if (keyword === 'x-kubernetes-validations')
          schema[keyword] = [...((schema[keyword] as unknown[] | undefined) ?? []), ...(value as unknown[])];
        else schema[keyword] = value;
      }
    }
    return schema as Schema;
  };

  const types = new Map<string, Schema>();
  for (const [path, document] of documents) {
    const definitions = (document['$defs'] ?? {}) as Record<string, RawNode>;
    for (const node of [document, ...Object.values(definitions)]) {
      const title = node['title'];
      if (typeof title !== 'string') continue;
      if (types.has(title)) throw new Error(`api-schemas/${path}: ${title} is defined twice`);
      types.set(title, resolve(node, path));
    }
  }
  return types;
}

function unescapePointer(step: string): string {
  return step.replaceAll('~1', '/').replaceAll('~0', '~');
}
