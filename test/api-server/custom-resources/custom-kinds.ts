/**
 * The CustomResourceDefinitions that the tests of this folder are about; and what a write does with a definition, or with an object of its kind, without a server: decoded, defaulted, judged.
 */
import { loadRegistry } from '../../../api-schemas/registry.ts';
import type { ApiObject, ResourceDefinition } from '../../../api-schemas/schema.ts';
import type { CustomResourceDefinition } from '../../../api-schemas/types/apiextensions-v1.ts';
import { applyDefaults } from '../../../api-server/admission/defaults.ts';
import { pruneUnknown } from '../../../api-server/admission/prune.ts';
import { validate } from '../../../api-server/admission/validate.ts';
import { decodeCustom } from '../../../api-server/custom-resources/decode.ts';
import { resourceDefinitions } from '../../../api-server/custom-resources/resource-definitions.ts';
import type { Json } from '../api.ts';

export const GROUP = 'stable.example.com';

export interface CrdOptions {
  readonly plural?: string;
  readonly kind?: string;
  readonly group?: string;
  readonly names?: object;
  readonly scope?: 'Cluster' | 'Namespaced';
  /** The schemas of `spec` and `status`; each may be left out. */
  readonly spec?: Json;
  readonly status?: Json;
  /** What else stands in the version. */
  readonly version?: Json;
  /** In place of the one version. */
  readonly versions?: Json[];
  /** What else stands in the spec. */
  readonly more?: object;
}

export const object = (properties: Json, more: object = {}): Json => ({ type: 'object', properties, ...more });

/** One version, named v1. */
export function version(name: string, { spec, status, version: more = {} }: CrdOptions, storage = true): Json {
  const properties = { ...(spec && { spec }), ...(status && { status }) };
  return { name, served: true, storage, schema: { openAPIV3Schema: object(properties) }, ...more };
}

export function crd(options: CrdOptions = {}): Json {
  const { plural = 'crontabs', kind = 'CronTab', group = GROUP, scope = 'Namespaced' } = options;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope,
      names: { plural, kind, ...options.names },
      versions: options.versions ?? [version('v1', options)],
      ...options.more,
    },
  };
}

export const registry = loadRegistry();
const definitions = registry.byResource(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
) as ResourceDefinition;

/** A definition as a write leaves it before it is judged. */
export function admitted(given: Json): ApiObject {
  const definition = structuredClone(given) as ApiObject;
  const { unknown, mistyped } = pruneUnknown(definition, definitions.schema);
  if (unknown.length > 0 || mistyped.length > 0) throw new Error(JSON.stringify({ unknown, mistyped }));
  return applyDefaults(definition, definitions.schema);
}

export const faultsOf = (given: Json, old?: Json): string[] =>
  validate(admitted(given), old && admitted(old), definitions).map(({ field, message }) => `${field}: ${message}`);

export const ROOT = 'spec.versions[0].schema.openAPIV3Schema';
export const SPEC = `${ROOT}.properties[spec]`;

/** The kind that a definition makes; the definition itself must be in order. */
export function kindOf(options: CrdOptions): ResourceDefinition {
  const given = crd(options);
  const faults = faultsOf(given);
  if (faults.length > 0) throw new Error(faults.join('\n'));
  const [kind] = resourceDefinitions(admitted(given) as unknown as CustomResourceDefinition, { registry });
  if (!kind) throw new Error('no version is served');
  return kind;
}

export const crontab = (spec: Json, more: object = {}): Json => ({
  apiVersion: `${GROUP}/v1`,
  kind: 'CronTab',
  metadata: { name: 'one', namespace: 'default' },
  ...(spec !== undefined && { spec }),
  ...more,
});

/** An object as a write leaves it, and what was found wrong with it. */
export function written(
  kind: ResourceDefinition,
  given: Json,
  old?: Json,
): { object: Json; faults: string[]; unknown: string[] } {
  const one = structuredClone(given) as ApiObject;
  const { unknown } = decodeCustom(one, kind.schema);
  applyDefaults(one, kind.schema);
  const faults = validate(one, old as ApiObject | undefined, kind).map(({ field, message }) => `${field}: ${message}`);
  return { object: one, faults, unknown: unknown.map(({ path }) => path) };
}
