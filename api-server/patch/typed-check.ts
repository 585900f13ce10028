/**
 * Whether a configuration fits its schema well enough to be applied: known fields, the right kinds of values, list items that can be told apart. Called by
 * apply.ts before anything is merged; values are checked fully later, by validation, with the other verbs' code.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { nearestName } from '../admission/nearest-name.ts';
import { checkDepth, isArray, isObject, kindOf, type JsonObject } from './json.ts';
import { fieldSchema, printPath } from './field-set.ts';
import { listShape, nameItems } from './list-shape.ts';
import { fieldElement, printElement, type PathElement } from './path-element.ts';

/** More faults than this help nobody, and cost time. */
const MAX_FAULTS = 100;

/** Kubernetes' sentences, such as `.spec.replica: field not declared in schema`; empty where the configuration fits. */
export function typeFaults(config: JsonObject, schema: Schema): string[] {
  const faults: string[] = [];
  check(config, schema, [], faults);
  return faults;
}

type Path = readonly PathElement[];

function check(value: unknown, schema: Schema | undefined, path: Path, faults: string[]): void {
  checkDepth(path.length, 'the configuration');
  // A null stands for any value: it gives the field up to its default.
  if (value === null || faults.length >= MAX_FAULTS) return;
  const fault = kindFault(value, schema);
  if (fault !== undefined) faults.push(`${printPath(path)}: ${fault}`);
  else if (isObject(value)) checkMap(value, schema, path, faults);
  else if (isArray(value)) checkList(value, schema, path, faults);
}

function kindFault(value: unknown, schema: Schema | undefined): string | undefined {
  const kind = kindOf(value);
  if (schema?.['x-kubernetes-int-or-string'])
    return isObject(value) || isArray(value) ? `expected any scalar, got ${kind}` : undefined;
  switch (schema?.type) {
    case 'object':
      return isObject(value) ? undefined : `expected map, got ${kind}`;
    case 'array':
      return isArray(value) ? undefined : `expected list, got ${kind}`;
    case 'integer':
    case 'number':
      return kind === 'number' ? undefined : `expected numeric (int or float), got ${kind}`;
    case 'string':
      return kind === 'string' || schema.format === 'quantity' ? undefined : `expected string, got ${kind}`;
    case 'boolean':
      return kind === 'boolean' ? undefined : `expected boolean, got ${kind}`;
    default:
      return undefined;
  }
}

function checkMap(map: JsonObject, schema: Schema | undefined, path: Path, faults: string[]): void {
  const closed =
    schema?.properties !== undefined && !schema.additionalProperties && !schema['x-kubernetes-preserve-unknown-fields'];
  for (const name of Object.keys(map)) {
    if (faults.length >= MAX_FAULTS) return;
    const step = fieldElement(name);
    const child = fieldSchema(schema, name);
    if (child === undefined && closed)
      faults.push(`${printPath([...path, step])}: field not declared in schema${hint(name, schema)}`);
    else check(map[name], child, [...path, step], faults);
  }
}

function hint(name: string, schema: Schema): string {
  const nearest = nearestName(name, Object.keys(schema.properties ?? {}));
  return nearest === undefined ? '' : ` (did you mean ${JSON.stringify(nearest)}?)`;
}

function checkList(list: readonly unknown[], schema: Schema | undefined, path: Path, faults: string[]): void {
  const shape = listShape(schema);
  if (shape.relation === 'atomic') {
    list.forEach((item, index) => check(item, schema?.items, [...path, `i:${index}`], faults));
    return;
  }
  const named = nameItems(shape, list);
  if ('fault' in named) {
    faults.push(`${printPath(path)}: ${named.fault}`);
    return;
  }
  for (const { element, items } of named.values()) {
    if (items.length > 1) faults.push(`${printPath(path)}: duplicate entries for key ${printElement(element)}`);
    for (const item of items) check(item, shape.items, [...path, element], faults);
  }
}
