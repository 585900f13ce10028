/**
 * Whether the schema of a custom kind is structural: every field has one known type, and what constrains values stands apart from what says how they are built, so that pruning, defaulting and server-side apply
 * can follow it. Called by `definition-rules.ts` for each version. https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
 */
import { duplicate, forbidden, invalid, notSupported, required, type Fault } from '../admission/fault.ts';
import { sameJson } from '../admission/rules/rule.ts';
import { listFaults } from './list-types.ts';
import { patternFault } from './pattern.ts';
import type { SchemaProps } from './schema-of-kind.ts';

/** More are not told: nobody reads them. */
export const MAX_FAULTS = 100;
/** Of all regular expressions of one schema: they are all compiled when it is admitted. */
const MAX_PATTERN_CHARACTERS = 128 * 1024;

export const TYPES = ['array', 'boolean', 'integer', 'number', 'object', 'string'];
const NOT_SUPPORTED = ['$ref', 'definitions', 'dependencies', 'patternProperties', 'additionalItems', 'id', '$schema'];
/** What says how values are built: no part of a condition on them. */
const STRUCTURE = [
  'type',
  'title',
  'description',
  'default',
  'nullable',
  'additionalProperties',
  'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-embedded-resource',
  'x-kubernetes-int-or-string',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-map-type',
  'x-kubernetes-validations',
];
const INT_OR_STRING = [{ type: 'integer' }, { type: 'string' }];
const JUNCTORS = ['allOf', 'anyOf', 'oneOf'] as const;
const MACHINERY_TYPES: Readonly<Record<string, string>> = { apiVersion: 'string', kind: 'string', metadata: 'object' };

export const isProps = (value: unknown): value is SchemaProps =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const propertiesOf = (props: SchemaProps): [string, SchemaProps][] =>
  isProps(props['properties'])
    ? Object.entries(props['properties']).filter((entry): entry is [string, SchemaProps] => isProps(entry[1]))
    : [];

const listOf = (value: unknown): SchemaProps[] => (Array.isArray(value) ? value.filter(isProps) : []);

/** What a node is of: a missing type is told with it. */
type Place = 'root' | 'object fields' | 'array items' | 'map values';

export function structuralFaults(root: SchemaProps, path: string): Fault[] {
  const walk = new Walk();
  walk.node(root, path, 'root');
  if (walk.patternCharacters > MAX_PATTERN_CHARACTERS)
    walk.faults.push(
      invalid(
        path,
        walk.patternCharacters,
        `its patterns must have at most ${MAX_PATTERN_CHARACTERS} characters together`,
      ),
    );
  return walk.faults.slice(0, MAX_FAULTS);
}

class Walk {
  readonly faults: Fault[] = [];
  patternCharacters = 0;

  node(props: SchemaProps, path: string, place: Place): void {
    if (this.faults.length >= MAX_FAULTS) return;
    this.#type(props, path, place);
    this.#values(props, path);
    this.#extensions(props, path, place);
    this.faults.push(...listFaults(props, path));
    this.#children(props, path, place);
    const isChoice = props['x-kubernetes-int-or-string'] === true;
    for (const junctor of JUNCTORS) {
      for (const [index, branch] of listOf(props[junctor]).entries()) {
        if (isChoice && isIntOrString(junctor, props[junctor], branch)) continue;
        this.#condition(branch, props, `${path}.${junctor}[${index}]`);
      }
    }
    if (isProps(props['not'])) this.#condition(props['not'], props, `${path}.not`);
  }

  #type(props: SchemaProps, path: string, place: Place): void {
    const { type } = props;
    const intOrString = props['x-kubernetes-int-or-string'] === true;
    const free = props['x-kubernetes-preserve-unknown-fields'] === true;
    if (place === 'root' && type !== 'object') {
      this.faults.push(
        type === undefined || type === ''
          ? required(`${path}.type`, 'must not be empty at the root')
          : invalid(`${path}.type`, type, 'must be object at the root'),
      );
    } else if (type === undefined || type === '') {
      if (!intOrString && !free) this.faults.push(required(`${path}.type`, `must not be empty for specified ${place}`));
    } else if (!TYPES.includes(String(type))) this.faults.push(notSupported(`${path}.type`, type, TYPES));
    else if (intOrString)
      this.faults.push(invalid(`${path}.type`, type, 'must be empty if x-kubernetes-int-or-string is true'));
  }

  /** What is the same inside and outside of conditions. */
  #values(props: SchemaProps, path: string): void {
    for (const keyword of NOT_SUPPORTED)
      if (props[keyword] !== undefined)
        this.faults.push(forbidden(`${path}.${keyword}`, `${keyword} is not supported`));
    if (props['uniqueItems'] === true)
      this.faults.push(
        forbidden(
          `${path}.uniqueItems`,
          'uniqueItems cannot be set to true since the runtime complexity becomes quadratic',
        ),
      );
    if (Array.isArray(props['items']))
      this.faults.push(forbidden(`${path}.items`, 'items must be a schema object and not an array'));
    const pattern = props['pattern'];
    if (typeof pattern !== 'string') return;
    this.patternCharacters += pattern.length;
    const fault = this.patternCharacters > MAX_PATTERN_CHARACTERS ? undefined : patternFault(pattern);
    if (fault !== undefined)
      this.faults.push(invalid(`${path}.pattern`, pattern, `must be a valid regular expression, but isn't: ${fault}`));
  }

  #extensions(props: SchemaProps, path: string, place: Place): void {
    if (props['x-kubernetes-preserve-unknown-fields'] === false)
      this.faults.push(invalid(`${path}.x-kubernetes-preserve-unknown-fields`, false, 'must be true or undefined'));
    if (props['x-kubernetes-embedded-resource'] !== true) return;
    const at = `${path}.x-kubernetes-embedded-resource`;
    if (place === 'root') this.faults.push(forbidden(at, 'must not be used at the root'));
    if (props['type'] !== 'object')
      this.faults.push(
        invalid(`${path}.type`, props['type'] ?? '', 'must be object if x-kubernetes-embedded-resource is true'),
      );
    if (props['x-kubernetes-preserve-unknown-fields'] !== true && propertiesOf(props).length === 0)
      this.faults.push(
        required(
          `${path}.properties`,
          'must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields',
        ),
      );
  }

  #children(props: SchemaProps, path: string, place: Place): void {
    const { type, items, additionalProperties } = props;
    const properties = propertiesOf(props);
    if (type === 'array' && items === undefined) this.faults.push(required(`${path}.items`, 'must be specified'));
    if (isProps(items)) this.node(items, `${path}.items`, 'array items');
    if (additionalProperties === false)
      this.faults.push(forbidden(`${path}.additionalProperties`, 'additionalProperties cannot be set to false'));
    else if (additionalProperties !== undefined) {
      if (place === 'root') this.faults.push(forbidden(`${path}.additionalProperties`, 'must not be used at the root'));
      if (properties.length > 0)
        this.faults.push(
          forbidden(`${path}.additionalProperties`, 'additionalProperties and properties are mutual exclusive'),
        );
      if (isProps(additionalProperties)) this.node(additionalProperties, `${path}.additionalProperties`, 'map values');
    }
    const isWhole = place === 'root' || props['x-kubernetes-embedded-resource'] === true;
    for (const [name, child] of properties) {
      const at = `${path}.properties[${name}]`;
      if (name === '__proto__') this.faults.push(invalid(at, name, 'must not be the name of a field'));
      else if (isWhole && MACHINERY_TYPES[name] !== undefined) this.#machinery(name, child, at);
      else this.node(child, at, 'object fields');
    }
  }

  /** What every object has is defined already; only names may be narrowed down. */
  #machinery(name: string, props: SchemaProps, path: string): void {
    const type = MACHINERY_TYPES[name];
    if (props['type'] !== type) this.faults.push(invalid(`${path}.type`, props['type'] ?? '', `must be ${type}`));
    if (name !== 'metadata') return;
    const others = propertiesOf(props).filter(([field]) => field !== 'name' && field !== 'generateName');
    const keywords = Object.keys(props).filter((keyword) => !['type', 'description', 'properties'].includes(keyword));
    if (others.length > 0 || keywords.length > 0)
      this.faults.push(
        forbidden(
          path,
          'must not specify anything other than name and generateName, but metadata is implicitly specified',
        ),
      );
    for (const [field, child] of propertiesOf(props)) this.#values(child, `${path}.properties[${field}]`);
  }

  /** A schema inside of allOf, anyOf, oneOf or not: it may only constrain what the structure outside has. */
  #condition(props: SchemaProps, outside: SchemaProps | undefined, path: string): void {
    if (this.faults.length >= MAX_FAULTS) return;
    for (const keyword of STRUCTURE)
      if (props[keyword] !== undefined)
        this.faults.push(forbidden(`${path}.${keyword}`, 'must be empty to be structural'));
    this.#values(props, path);
    const known = new Map(outside ? propertiesOf(outside) : []);
    const values = isProps(outside?.['additionalProperties']) ? outside['additionalProperties'] : undefined;
    for (const [name, child] of propertiesOf(props)) {
      const at = `${path}.properties[${name}]`;
      const standing = known.get(name) ?? values;
      if (!standing && outside?.['x-kubernetes-preserve-unknown-fields'] !== true)
        this.faults.push(
          required(at, 'must be specified outside of allOf, anyOf, oneOf and not as well, to be structural'),
        );
      this.#condition(child, standing, at);
    }
    if (isProps(props['items'])) {
      const items = isProps(outside?.['items']) ? outside['items'] : undefined;
      if (!items)
        this.faults.push(
          required(
            `${path}.items`,
            'must be specified outside of allOf, anyOf, oneOf and not as well, to be structural',
          ),
        );
      this.#condition(props['items'], items, `${path}.items`);
    }
    for (const junctor of JUNCTORS)
      for (const [index, branch] of listOf(props[junctor]).entries())
        this.#condition(branch, outside, `${path}.${junctor}[${index}]`);
    if (isProps(props['not'])) this.#condition(props['not'], outside, `${path}.not`);
  }
}

/** The one place where conditions may name types: an integer or a string. */
const isIntOrString = (junctor: string, branches: unknown, branch: SchemaProps): boolean =>
  (junctor === 'anyOf' && sameJson(branches, INT_OR_STRING)) ||
  (junctor === 'allOf' && sameJson(branch, { anyOf: INT_OR_STRING }));

export function repeated(names: readonly string[], at: (index: number) => string): Fault[] {
  return names.flatMap((name, index) => (names.indexOf(name) < index ? [duplicate(at(index), name)] : []));
}
