/**
 * Whether the defaults of a custom kind's schema are themselves objects of that schema: valid, and without fields that it does not have. Called by `definition-rules.ts`, for a structural schema.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { applyDefaults } from '../admission/defaults.ts';
import { invalid, type Fault } from '../admission/fault.ts';
import { decodeValue } from './decode.ts';
import type { SchemaProps } from './schema-of-kind.ts';
import { isProps, MAX_FAULTS, propertiesOf } from './structural-schema.ts';
import { valueFaults } from './structure.ts';

export function defaultFaults(root: SchemaProps, path: string): Fault[] {
  const faults: Fault[] = [];
  walk(root, path, faults);
  return faults;
}

function walk(props: SchemaProps, path: string, faults: Fault[]): void {
  if (faults.length >= MAX_FAULTS) return;
  if (props['default'] !== undefined) faults.push(...faultsOf(props, `${path}.default`));
  const { items, additionalProperties } = props;
  if (isProps(items)) walk(items, `${path}.items`, faults);
  if (isProps(additionalProperties)) walk(additionalProperties, `${path}.additionalProperties`, faults);
  for (const [name, child] of propertiesOf(props)) walk(child, `${path}.properties[${name}]`, faults);
}

function faultsOf(props: SchemaProps, path: string): Fault[] {
  const schema = props as Schema;
  if (props['default'] === null && schema.nullable !== true) return [invalid(path, null, 'must not be null')];
  const value: unknown = structuredClone(props['default']);
  const { unknown } = decodeValue(value, schema);
  const strange = unknown.map(({ path: field }) =>
    invalid(path, props['default'], `has a field that the schema does not: ${field}`),
  );
  applyDefaults(value, schema);
  return [...strange, ...valueFaults(value, schema, path)];
}
