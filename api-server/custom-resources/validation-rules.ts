/**
 * Whether the CEL rules of a custom kind's schema can be used: each must compile against the schema that it stands on. Called by `definition-rules.ts`, for a structural schema.
 */
import type { ValidationRule } from '../../api-schemas/schema.ts';
import { ruleFault } from '../admission/cel-rules.ts';
import { invalid, type Fault } from '../admission/fault.ts';
import type { SchemaProps } from './schema-of-kind.ts';
import { isProps, MAX_FAULTS, propertiesOf } from './structural-schema.ts';

export function validationRuleFaults(root: SchemaProps, path: string): Fault[] {
  const faults: Fault[] = [];
  walk(root, path, faults);
  return faults;
}

function walk(props: SchemaProps, path: string, faults: Fault[]): void {
  if (faults.length >= MAX_FAULTS) return;
  const rules = (props['x-kubernetes-validations'] ?? []) as readonly ValidationRule[];
  for (const [index, rule] of rules.entries()) {
    const fault = ruleFault(rule);
    if (fault !== undefined) faults.push(invalid(`${path}.x-kubernetes-validations[${index}].rule`, rule.rule, fault));
  }
  const { items, additionalProperties } = props;
  if (isProps(items)) walk(items, `${path}.items`, faults);
  if (isProps(additionalProperties)) walk(additionalProperties, `${path}.additionalProperties`, faults);
  for (const [name, child] of propertiesOf(props)) walk(child, `${path}.properties[${name}]`, faults);
}
