/** What the tests of this folder share: the schemas of real kinds, and objects to patch that nobody can change by accident. */
import { loadRegistry } from '../../../api-schemas/registry.ts';
import type { ApiObject, Schema } from '../../../api-schemas/schema.ts';

const registry = loadRegistry();

export function schemaOf(group: string, kind: string, version = 'v1'): Schema {
  const definition = registry.byKind(group, version, kind);
  if (!definition) throw new Error(`no schema for ${kind}`);
  return definition.schema;
}

/** The value, every object and list in it frozen: whoever changes an argument in place throws. */
export function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(frozen);
  }
  return value;
}

/** A value as JSON would bring it: what fast-check makes may lack a prototype. */
export const plain = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

export const parse = (text: string): ApiObject => JSON.parse(text) as ApiObject;

type Fields = Record<string, unknown>;

export const deployment = (spec: Fields, metadata: Fields = {}): ApiObject =>
  frozen({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: 'shop', ...metadata },
    spec,
  });

export const pod = (spec: Fields, metadata: Fields = {}): ApiObject =>
  frozen({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web-0', namespace: 'shop', ...metadata }, spec });

export const service = (spec: Fields, metadata: Fields = {}): ApiObject =>
  frozen({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'web', namespace: 'shop', ...metadata }, spec });

export const configMap = (data: Fields | undefined, metadata: Fields = {}): ApiObject =>
  frozen({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'settings', namespace: 'shop', ...metadata },
    ...(data && { data }),
  });
