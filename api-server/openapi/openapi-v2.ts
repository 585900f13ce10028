/**
 * OpenAPI v2 of all that is served, in one document: what older clients, and kubectl's strategic merge where it finds no version 3, read. Made from the same components and the paths of version 3. Kept by
 * `documents.ts`; its protobuf form is written by `gnostic.ts`.
 */
import type { Registry } from '../../api-schemas/registry.ts';
import { groups, KUBERNETES_VERSION } from '../discovery/discovery.ts';
import { Components } from './components.ts';
import { openApiV3 } from './openapi-v3.ts';

type Node = Readonly<Record<string, unknown>>;

export interface OpenApiV2 {
  readonly swagger: '2.0';
  readonly info: { readonly title: string; readonly version: string };
  readonly paths: Node;
  readonly definitions: Node;
}

const METHODS = ['get', 'put', 'post', 'delete', 'patch'] as const;

export function openApiV2(registry: Registry): OpenApiV2 {
  const components = new Components('v2', (title) => registry.type(title));
  const paths: Record<string, unknown> = {};
  for (const versions of groups(registry).values()) {
    for (const definitions of versions.values()) {
      for (const [path, item] of Object.entries(openApiV3(registry, definitions)['paths'] as Node))
        paths[path] = pathItem(item as Node);
      for (const { schema, group, version, kind } of definitions) {
        components.of(schema);
        if (schema.title !== undefined)
          components.add(schema.title, { 'x-kubernetes-group-version-kind': [{ group, version, kind }] });
      }
    }
  }
  for (const title of registry.types()) {
    const type = registry.type(title);
    if (type) components.of(type);
  }
  return {
    swagger: '2.0',
    info: { title: 'Reckon', version: KUBERNETES_VERSION.gitVersion },
    paths,
    definitions: components.sorted(),
  };
}

function pathItem(item: Node): Node {
  const out: Record<string, unknown> = { parameters: parametersOf(item) };
  for (const method of METHODS) if (item[method] !== undefined) out[method] = operation(item[method] as Node);
  return out;
}

/** A parameter's type stands in it, not in a schema of its own. */
function parametersOf(node: Node): Node[] {
  return ((node['parameters'] ?? []) as Node[]).map(({ schema, ...parameter }) => ({
    ...parameter,
    ...(schema as object),
  }));
}

function operation(node: Node): Node {
  const body = node['requestBody'] as { content: Node } | undefined;
  const bodyParameter = { name: 'body', in: 'body', required: true, schema: { type: 'object' } };
  return {
    consumes: body ? Object.keys(body.content) : ['*/*'],
    produces: ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf'],
    parameters: [...(body ? [bodyParameter] : []), ...parametersOf(node)],
    responses: { 200: { description: 'OK' } },
    'x-kubernetes-action': node['x-kubernetes-action'],
    'x-kubernetes-group-version-kind': node['x-kubernetes-group-version-kind'],
  };
}
