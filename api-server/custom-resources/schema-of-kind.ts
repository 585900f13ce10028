/**
 * The schema of a custom kind as the rest of the program wants it, made from `openAPIV3Schema` of its CustomResourceDefinition: the same keywords, with what every object has (apiVersion, kind, metadata) put in place.
 * Called by `resource-definitions.ts` when a kind's schema is first needed.
 */
import type { Registry } from '../../api-schemas/registry.ts';
import type { Schema } from '../../api-schemas/schema.ts';

/** A node as it stands in the CustomResourceDefinition. */
export type SchemaProps = Readonly<Record<string, unknown>>;

const OBJECT_META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';

/** Keywords that mean nothing to us; a `title` above all, which here would be the full name of a type. */
const DROPPED = new Set(['title', 'id', '$schema', 'externalDocs', 'definitions', 'dependencies']);
const SINGLE = new Set(['items', 'additionalProperties', 'not']);
const LISTS = new Set(['allOf', 'anyOf', 'oneOf']);

const isNode = (value: unknown): value is SchemaProps =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export interface KindSchemas {
  readonly schema: Schema;
  /** What the author demands of the object's own metadata. */
  readonly metadata: Schema | undefined;
}

/** `title` is the full name under which OpenAPI publishes the type. */
export function schemaOfKind(props: SchemaProps | undefined, title: string, registry: Registry): KindSchemas {
  const meta = registry.type(OBJECT_META);
  if (!meta) throw new Error(`there is no schema of ${OBJECT_META}`);
  const root = convert(props ?? { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }, meta);
  const metadata = root.properties?.['metadata'];
  const schema = {
    ...root,
    title,
    type: 'object' as const,
    properties: { ...root.properties, ...objectProperties(meta) },
  };
  return { schema, metadata };
}

const objectProperties = (meta: Schema): Record<string, Schema> => ({
  apiVersion: {
    type: 'string',
    description: 'Group and version of the API that this object is written in.',
  },
  kind: { type: 'string', description: 'Kind of the object.' },
  metadata: meta,
});

function convert(props: SchemaProps, meta: Schema): Schema {
  const schema: Record<string, unknown> = {};
  for (const [keyword, value] of Object.entries(props)) {
    if (DROPPED.has(keyword)) continue;
    if (keyword === 'properties' && isNode(value)) schema[keyword] = convertEach(value, meta);
    else if (SINGLE.has(keyword) && isNode(value)) schema[keyword] = convert(value, meta);
    else if (LISTS.has(keyword) && Array.isArray(value))
      schema[keyword] = value.filter(isNode).map((branch) => convert(branch, meta));
    else schema[keyword] = value;
  }
  if (props['x-kubernetes-embedded-resource'] === true)
    schema['properties'] = { ...(schema['properties'] as object | undefined), ...objectProperties(meta) };
  return schema;
}

const convertEach = (properties: SchemaProps, meta: Schema): Record<string, Schema> =>
  Object.fromEntries(
    Object.entries(properties).flatMap(([name, node]) => (isNode(node) ? [[name, convert(node, meta)] as const] : [])),
  );
