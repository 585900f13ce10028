/**
 * What a CustomResourceDefinition adds to the API: a ResourceDefinition for each served version, after which the generic path needs to know nothing more. Pure. Called by `definitions.ts` for every definition that is
 * established, and by the reads of the past for those that no longer are.
 */
import { conditionHolds } from '../../api-schemas/conditions.ts';
import type { Registry } from '../../api-schemas/registry.ts';
import type { Column, Convert, ResourceDefinition, Subresource } from '../../api-schemas/schema.ts';
import type {
  CustomResourceDefinition,
  CustomResourceDefinitionNames,
  CustomResourceDefinitionVersion,
} from '../../api-schemas/types/apiextensions-v1.ts';
import { NAME_COLUMN } from '../table/name-column.ts';
import { schemaOfKind, type KindSchemas, type SchemaProps } from './schema-of-kind.ts';

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const PART_VERBS = ['get', 'patch', 'update'];

/** What a kind without columns of its own shows. */
const AGE_COLUMN: Column = {
  name: 'Age',
  type: 'date',
  format: '',
  priority: 0,
  description: 'When the object was created.',
  value: '.metadata.creationTimestamp',
};

export const isEstablished = ({ status }: CustomResourceDefinition): boolean =>
  conditionHolds(status?.conditions, 'Established');

export interface Making {
  readonly registry: Registry;
  /** Reads the same definition again: a schema is made when it is first asked for, and until then takes no room. */
  readonly parse?: () => CustomResourceDefinition;
  readonly retired?: AbortSignal;
  /** Of a kind that is converted by a webhook. */
  readonly convert?: Convert | undefined;
}

/** Every version that is served. */
export function resourceDefinitions(definition: CustomResourceDefinition, making: Making): ResourceDefinition[] {
  const { versions } = definition.spec;
  const served = versions.filter(({ served: isServed }) => isServed);
  // What nobody could ask for any longer must still be found by who deletes it.
  const wanted = served.length === 0 && isTerminating(definition) ? versions.filter(({ storage }) => storage) : served;
  return wanted.map((version) => resourceDefinition(definition, version, making));
}

const isTerminating = ({ metadata, status }: CustomResourceDefinition): boolean =>
  metadata.deletionTimestamp !== undefined || conditionHolds(status?.conditions, 'Terminating');

function resourceDefinition(
  definition: CustomResourceDefinition,
  version: CustomResourceDefinitionVersion,
  { registry, parse = () => definition, retired, convert }: Making,
): ResourceDefinition {
  const { metadata, spec, status } = definition;
  const { group, scope } = spec;
  const names: CustomResourceDefinitionNames = { ...spec.names, ...status?.acceptedNames };
  const { plural, kind, singular = kind.toLowerCase(), listKind = `${kind}List` } = names;
  const deprecation = deprecationOf(group, kind, version);
  const custom = {
    definition: metadata.name,
    storageVersion: spec.versions.find(({ storage }) => storage)?.name ?? version.name,
    terminating: isTerminating(definition),
    ...(retired && { retired }),
    ...(convert && { convert }),
    schemaOf: (name: string) => made(name)?.schema,
    ...(deprecation !== undefined && { deprecation }),
    get metadata() {
      return own().metadata;
    },
  };
  const schemas = new Map<string, KindSchemas>();
  const made = (wanted: string): KindSchemas | undefined => {
    const standing = schemas.get(wanted);
    if (standing) return standing;
    const found = parse().spec.versions.find(({ name }) => name === wanted);
    if (!found) return undefined;
    const props = found.schema?.openAPIV3Schema as SchemaProps | undefined;
    const title = [...group.split('.').toReversed(), wanted, kind].join('.');
    const schema = schemaOfKind(props, title, registry);
    schemas.set(wanted, schema);
    return schema;
  };
  const own = (): KindSchemas => made(version.name) ?? schemaOfKind(undefined, kind, registry);
  return {
    group,
    version: version.name,
    resource: plural,
    singular,
    kind,
    listKind,
    namespaced: scope === 'Namespaced',
    verbs: VERBS,
    shortNames: names.shortNames ?? [],
    categories: names.categories ?? [],
    subresources: subresourcesOf(version, kind, group),
    ...(version.subresources?.scale && { scale: version.subresources.scale }),
    columns: columnsOf(version),
    selectableFields: (version.selectableFields ?? []).map(({ jsonPath }) => jsonPath.replace(/^\./, '')),
    storage: 'log',
    sealed: [],
    hasGeneration: true,
    get schema() {
      return own().schema;
    },
    custom,
  };
}

const deprecationOf = (
  group: string,
  kind: string,
  { name, deprecated, deprecationWarning }: CustomResourceDefinitionVersion,
): string | undefined =>
  deprecated === true ? (deprecationWarning ?? `${group}/${name} ${kind} is deprecated`) : undefined;

function subresourcesOf(version: CustomResourceDefinitionVersion, kind: string, group: string): Subresource[] {
  const { status, scale } = version.subresources ?? {};
  return [
    ...(scale ? [{ name: 'scale', kind: 'Scale', group: 'autoscaling', version: 'v1', verbs: PART_VERBS }] : []),
    ...(status ? [{ name: 'status', kind, group, version: version.name, verbs: PART_VERBS }] : []),
  ];
}

function columnsOf({ additionalPrinterColumns: given = [] }: CustomResourceDefinitionVersion): Column[] {
  if (given.length === 0) return [NAME_COLUMN, AGE_COLUMN];
  return [
    NAME_COLUMN,
    ...given.map(({ name, type, format = '', priority = 0, description, jsonPath }) => ({
      name,
      type,
      format,
      priority,
      description: description ?? `Custom resource definition column (in JSONPath format): ${jsonPath}`,
      value: jsonPath,
    })),
  ];
}
