/**
 * OpenAPI v3 of one group version: the types of its kinds, and the paths with what each takes. kubectl reads from it how to explain a kind, whether the server validates fields, and how to
 * patch. https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3
 */
import type { Registry } from '../../api-schemas/registry.ts';
import type { ResourceDefinition, Schema, Subresource } from '../../api-schemas/schema.ts';
import { BODY_TYPES } from '../body.ts';
import { KUBERNETES_VERSION } from '../discovery/discovery.ts';
import { patchTypesOf } from '../verbs/patch.ts';
import { Components } from './components.ts';

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1.';

interface Parameter {
  readonly name: string;
  readonly type: 'string' | 'boolean' | 'integer';
  readonly description: string;
}

const COMMON: readonly Parameter[] = [
  { name: 'pretty', type: 'string', description: 'Accepted and ignored: answers are compact.' },
];
const WRITE: readonly Parameter[] = [
  { name: 'dryRun', type: 'string', description: '`All` checks the write in full and stores nothing.' },
  { name: 'fieldManager', type: 'string', description: 'The name under which the fields set here are owned.' },
  {
    name: 'fieldValidation',
    type: 'string',
    description: 'What unknown and duplicate fields are: `Ignore`, `Warn` or `Strict`.',
  },
];
const FORCE: Parameter = {
  name: 'force',
  type: 'boolean',
  description: 'Server-side apply takes over fields that others own.',
};
const LIST: readonly Parameter[] = [
  { name: 'labelSelector', type: 'string', description: 'Only objects whose labels match.' },
  { name: 'fieldSelector', type: 'string', description: 'Only objects whose fields match.' },
  { name: 'limit', type: 'integer', description: 'At most so many objects in one answer.' },
  { name: 'continue', type: 'string', description: 'The token of the page before.' },
  { name: 'resourceVersion', type: 'string', description: 'The revision to read at or to watch from.' },
  { name: 'resourceVersionMatch', type: 'string', description: '`Exact` or `NotOlderThan`.' },
  { name: 'watch', type: 'boolean', description: 'Stream changes instead of listing.' },
  { name: 'allowWatchBookmarks', type: 'boolean', description: 'Let the stream say how far it is.' },
  { name: 'sendInitialEvents', type: 'boolean', description: 'Begin the stream with what is there.' },
  { name: 'timeoutSeconds', type: 'integer', description: 'End the stream after so long.' },
];
const DELETE: readonly Parameter[] = [
  { name: 'dryRun', type: 'string', description: '`All` checks the deletion and stores nothing.' },
  { name: 'gracePeriodSeconds', type: 'integer', description: 'How long the object may take to end.' },
  { name: 'propagationPolicy', type: 'string', description: '`Background`, `Foreground` or `Orphan`.' },
];

const query = ({ name, type, description }: Parameter) => ({
  name,
  in: 'query',
  description,
  schema: { type, uniqueItems: true },
});
const inPath = (name: string, description: string) => ({
  name,
  in: 'path',
  required: true,
  description,
  schema: { type: 'string', uniqueItems: true },
});

/** Writes the operations of one group version. */
class Document {
  readonly components: Components;
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
    this.components = new Components('v3', (title) => registry.type(title));
  }

  paths(definitions: readonly ResourceDefinition[]): Record<string, unknown> {
    return Object.fromEntries(definitions.flatMap((definition) => this.#pathsOf(definition)));
  }

  #pathsOf(definition: ResourceDefinition): [string, unknown][] {
    const { group, version, resource, namespaced, verbs } = definition;
    const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
    const scope = namespaced ? [inPath('namespace', 'The namespace of the object.')] : [];
    const collection = `${root}${namespaced ? '/namespaces/{namespace}' : ''}/${resource}`;
    const named = [inPath('name', `The name of the ${definition.kind}.`), ...scope];
    const paths: [string, unknown][] = [
      [collection, { ...this.#collection(definition), parameters: [...scope, ...COMMON.map(query)] }],
    ];
    if (verbs.some((verb) => ['get', 'update', 'patch', 'delete'].includes(verb)))
      paths.push([
        `${collection}/{name}`,
        { ...this.#single(definition), parameters: [...named, ...COMMON.map(query)] },
      ]);
    if (namespaced && verbs.includes('list'))
      paths.push([
        `${root}/${resource}`,
        {
          get: this.#operation(definition, { action: 'list', parameters: LIST, answer: this.#list(definition) }),
          parameters: COMMON.map(query),
        },
      ]);
    for (const subresource of definition.subresources)
      paths.push([
        `${collection}/{name}/${subresource.name}`,
        { ...this.#subresource(definition, subresource), parameters: [...named, ...COMMON.map(query)] },
      ]);
    return paths;
  }

  #collection(definition: ResourceDefinition): Record<string, unknown> {
    const { verbs } = definition;
    const answer = this.components.of(definition.schema);
    return {
      ...(verbs.includes('list') && {
        get: this.#operation(definition, { action: 'list', parameters: LIST, answer: this.#list(definition) }),
      }),
      ...(verbs.includes('create') && {
        post: this.#operation(definition, { action: 'post', parameters: WRITE, answer, body: answer }),
      }),
      ...(verbs.includes('deletecollection') && {
        delete: this.#operation(definition, {
          action: 'deletecollection',
          parameters: [...DELETE, ...LIST],
          answer: this.#meta('Status'),
        }),
      }),
    };
  }

  #single(definition: ResourceDefinition): Record<string, unknown> {
    const answer = this.components.of(definition.schema);
    const verbs = definition.verbs.filter((verb) => verb !== 'create');
    return this.#methods(definition, verbs, answer);
  }

  #subresource(definition: ResourceDefinition, { verbs, kind, group, version }: Subresource): Record<string, unknown> {
    const type =
      this.#typeOf(kind, group === '' ? definition.group : group, version || definition.version) ?? definition.schema;
    return this.#methods(definition, verbs, this.components.of(type));
  }

  #methods(
    definition: ResourceDefinition,
    verbs: readonly string[],
    answer: Record<string, unknown>,
  ): Record<string, unknown> {
    return {
      ...(verbs.includes('get') && { get: this.#operation(definition, { action: 'get', parameters: [], answer }) }),
      ...(verbs.includes('create') && {
        post: this.#operation(definition, { action: 'post', parameters: WRITE, answer, body: answer }),
      }),
      ...(verbs.includes('update') && {
        put: this.#operation(definition, { action: 'put', parameters: WRITE, answer, body: answer }),
      }),
      ...(verbs.includes('patch') && {
        patch: this.#operation(definition, {
          action: 'patch',
          parameters: [...WRITE, FORCE],
          answer,
          body: { type: 'object' },
          bodyTypes: patchTypesOf(definition),
        }),
      }),
      ...(verbs.includes('delete') && {
        delete: this.#operation(definition, {
          action: 'delete',
          parameters: DELETE,
          answer: this.#meta('Status'),
          body: this.#meta('DeleteOptions'),
        }),
      }),
    };
  }

  #operation(
    definition: ResourceDefinition,
    options: {
      action: string;
      parameters: readonly Parameter[];
      answer: unknown;
      body?: unknown;
      bodyTypes?: readonly string[];
    },
  ): Record<string, unknown> {
    const { action, parameters, answer, body, bodyTypes = ['*/*'] } = options;
    const { group, version, kind } = definition;
    return {
      'x-kubernetes-action': action,
      'x-kubernetes-group-version-kind': { group, version, kind },
      parameters: parameters.map(query),
      ...(body !== undefined && {
        requestBody: { required: true, content: Object.fromEntries(bodyTypes.map((type) => [type, { schema: body }])) },
      }),
      responses: {
        200: { description: 'OK', content: Object.fromEntries(BODY_TYPES.map((type) => [type, { schema: answer }])) },
        401: { description: 'Unauthorized' },
      },
    };
  }

  #typeOf(kind: string, group: string, version: string): Schema | undefined {
    return this.#registry.byKind(group, version, kind)?.schema;
  }

  #meta(name: string): Record<string, unknown> {
    const type = this.#registry.type(META + name);
    return type ? this.components.of(type) : { type: 'object' };
  }

  /** The list of a kind: the same for all, so no schema file stands for it. */
  #list({ schema, listKind, group, version, kind }: ResourceDefinition): Record<string, unknown> {
    const title =
      schema.title === undefined ? `${group}.${version}.${listKind}` : schema.title.slice(0, -kind.length) + listKind;
    this.components.add(title, {
      description: `A list of objects of kind ${kind}.`,
      type: 'object',
      required: ['items'],
      properties: {
        apiVersion: { type: 'string' },
        kind: { type: 'string' },
        metadata: this.#meta('ListMeta'),
        items: { type: 'array', items: this.components.of(schema) },
      },
      'x-kubernetes-group-version-kind': [{ group, version, kind: listKind }],
    });
    return this.components.reference(title);
  }
}

export function openApiV3(registry: Registry, definitions: readonly ResourceDefinition[]): Record<string, unknown> {
  const document = new Document(registry);
  const paths = document.paths(definitions);
  for (const { schema, group, version, kind } of definitions) {
    if (schema.title !== undefined)
      document.components.add(schema.title, { 'x-kubernetes-group-version-kind': [{ group, version, kind }] });
  }
  return {
    openapi: '3.0.0',
    info: { title: 'Reckon', version: KUBERNETES_VERSION.gitVersion },
    paths,
    components: { schemas: document.components.sorted() },
  };
}
