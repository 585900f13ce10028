/**
 * What a CustomResourceDefinition must obey beyond its own schema: names, versions, columns, paths, and a structural schema for each version. A rule of `admission/rules/catalogue.ts`; every fault is told at once. What has
 * not changed on an update is not judged again.
 */
import { invalid, notSupported, required, tooMany, type Fault } from '../admission/fault.ts';
import { dns1035Label } from '../admission/names.ts';
import {
  objectAt,
  objectsAt,
  sameJson,
  stringsAt,
  textAt,
  type JsonObject,
  type Rule,
} from '../admission/rules/rule.ts';
import { parsePath } from '../table/json-path.ts';
import { conversionFaults } from './conversion-rules.ts';
import { defaultFaults } from './default-values.ts';
import { validationRuleFaults } from './validation-rules.ts';
import type { SchemaProps } from './schema-of-kind.ts';
import { repeated, structuralFaults } from './structural-schema.ts';

const COLUMN_TYPES = ['boolean', 'date', 'integer', 'number', 'string'];
const COLUMN_FORMATS = ['int32', 'int64', 'float', 'double', 'byte', 'date', 'date-time', 'password'];
const PROTECTED_GROUP = /(^|\.)(k8s|kubernetes)\.io$/;
const APPROVAL = 'api-approved.kubernetes.io';
const MAX_WARNING_LENGTH = 256;
const MAX_SELECTABLE_FIELDS = 8;
/** A path of plain field names. */
const SIMPLE_PATH = /^(\.[A-Za-z_][A-Za-z0-9_-]*)+$/;
const SELECTABLE_TYPES = ['string', 'integer', 'boolean'];
/** What may stand at the root of a schema beside the fields, where the status is written by itself. */
const ROOT_KEYWORDS = new Set([
  'description',
  'example',
  'externalDocs',
  'format',
  'properties',
  'required',
  'title',
  'type',
  'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-validations',
]);

export const customResourceDefinition: Rule = ({ value, old, report }) => {
  const spec = objectAt(value['spec']);
  report(...storedVersionFaults(value));
  if (old && sameJson(spec, old['spec'])) return;
  if (!old) report(...approvalFaults(value, textAt(spec['group'])));
  if (old) report(...changeFaults(spec, objectAt(old['spec']), isEstablished(old)));
  report(...groupFaults(textAt(spec['group'])), ...namesFaults(objectAt(spec['names'])));
  if (spec['preserveUnknownFields'] === true)
    report(invalid('spec.preserveUnknownFields', true, 'must be false: mark what keeps unknown fields in the schema'));
  report(...conversionFaults(objectAt(spec['conversion']), 'spec.conversion'));
  const versions = objectsAt(spec['versions']);
  const before = objectsAt(objectAt(old?.['spec'])['versions']);
  for (const [index, version] of versions.entries()) {
    const same = before.some((each) => each['name'] === version['name'] && sameJson(each, version));
    if (!same) report(...versionFaults(version, `spec.versions[${index}]`));
  }
};

const isEstablished = ({ status }: JsonObject): boolean =>
  objectsAt(objectAt(status)['conditions']).some(
    ({ type, status: holds }) => type === 'Established' && holds === 'True',
  );

function approvalFaults({ metadata }: JsonObject, group: string): Fault[] {
  if (!PROTECTED_GROUP.test(group)) return [];
  const path = `metadata.annotations[${APPROVAL}]`;
  const approval = stringsAt(objectAt(metadata)['annotations'])[APPROVAL];
  if (approval === undefined || approval === '')
    return [
      required(
        path,
        `protected groups must have approval annotation "${APPROVAL}", see https://github.com/kubernetes/enhancements/pull/1111`,
      ),
    ];
  if (approval.startsWith('unapproved') || URL.canParse(approval)) return [];
  return [
    invalid(
      path,
      approval,
      'must have a value of a URL with a review, or starting with "unapproved", see https://github.com/kubernetes/enhancements/pull/1111',
    ),
  ];
}

/** What objects are found by cannot change once there may be objects. The group and the plural are the definition's own name. */
function changeFaults(spec: JsonObject, old: JsonObject, established: boolean): Fault[] {
  if (!established) return [];
  const [names, oldNames] = [objectAt(spec['names']), objectAt(old['names'])];
  return [
    ...(spec['scope'] === old['scope'] ? [] : [invalid('spec.scope', spec['scope'], 'field is immutable')]),
    ...(names['kind'] === oldNames['kind'] ? [] : [invalid('spec.names.kind', names['kind'], 'field is immutable')]),
  ];
}

const groupFaults = (group: string): Fault[] =>
  group === '' || group.includes('.') ? [] : [invalid('spec.group', group, 'should be a domain with at least one dot')];

function namesFaults(names: JsonObject): Fault[] {
  const [kind, listKind] = [textAt(names['kind']), textAt(names['listKind'])];
  const label = (path: string, name: string): Fault[] =>
    name === '' ? [] : dns1035Label(name.toLowerCase()).map((says) => invalid(path, name, says));
  const faults = [...label('spec.names.kind', kind), ...label('spec.names.listKind', listKind)];
  if (kind !== '' && kind === listKind)
    faults.push(invalid('spec.names.listKind', listKind, 'kind and listKind may not be the same'));
  for (const field of ['shortNames', 'categories']) {
    const given = Array.isArray(names[field]) ? names[field] : [];
    for (const [index, name] of given.entries())
      faults.push(...dns1035Label(textAt(name)).map((says) => invalid(`spec.names.${field}[${index}]`, name, says)));
  }
  return faults;
}

function storedVersionFaults({ spec, status }: JsonObject): Fault[] {
  const names = objectsAt(objectAt(spec)['versions']).map(({ name }) => textAt(name));
  const stored = objectAt(status)['storedVersions'];
  return (Array.isArray(stored) ? stored : []).flatMap((name, index) =>
    names.includes(textAt(name))
      ? []
      : [invalid(`status.storedVersions[${index}]`, name, 'must appear in spec.versions: objects may be stored in it')],
  );
}

function versionFaults(version: JsonObject, path: string): Fault[] {
  const at = `${path}.schema.openAPIV3Schema`;
  const schema = objectAt(version['schema'])['openAPIV3Schema'] as SchemaProps | undefined;
  const faults = [...deprecationFaults(version, path), ...columnFaults(version, path), ...scaleFaults(version, path)];
  if (schema === undefined) return [...faults, required(at, 'schemas are required')];
  const structural = [...rootFaults(version, schema, at), ...structuralFaults(schema, at)];
  faults.push(...structural, ...selectableFaults(version, schema, path));
  // Rules and defaults are judged by the schema that they stand in.
  if (structural.length > 0) return faults;
  return [...faults, ...defaultFaults(schema, at), ...validationRuleFaults(schema, at)];
}

function rootFaults(version: JsonObject, schema: SchemaProps, path: string): Fault[] {
  if (objectAt(version['subresources'])['status'] === undefined) return [];
  const others = Object.keys(schema).filter((keyword) => !ROOT_KEYWORDS.has(keyword));
  if (others.length === 0) return [];
  return [
    invalid(
      path,
      others.join(', '),
      `only ${[...ROOT_KEYWORDS].join(', ')} fields are allowed at the root of the schema if the status subresource is enabled`,
    ),
  ];
}

function deprecationFaults(version: JsonObject, path: string): Fault[] {
  const warning = version['deprecationWarning'];
  if (typeof warning !== 'string') return [];
  const at = `${path}.deprecationWarning`;
  const faults: Fault[] = [];
  if (version['deprecated'] !== true) faults.push(invalid(at, warning, 'can only be set for deprecated versions'));
  if (warning.length > MAX_WARNING_LENGTH)
    faults.push(invalid(at, warning, `must be <= ${MAX_WARNING_LENGTH} characters long`));
  if (warning === '') faults.push(invalid(at, warning, 'must not be an empty string'));
  if (/[^\P{C}]/u.test(warning)) faults.push(invalid(at, warning, 'must only contain printable characters'));
  return faults;
}

function columnFaults(version: JsonObject, path: string): Fault[] {
  const columns = objectsAt(version['additionalPrinterColumns']);
  const faults: Fault[] = [];
  for (const [index, { type, format, name, jsonPath }] of columns.entries()) {
    const at = `${path}.additionalPrinterColumns[${index}]`;
    if (textAt(name) === '') faults.push(required(`${at}.name`));
    if (!COLUMN_TYPES.includes(textAt(type))) faults.push(notSupported(`${at}.type`, type, COLUMN_TYPES));
    if (textAt(format) !== '' && !COLUMN_FORMATS.includes(textAt(format)))
      faults.push(notSupported(`${at}.format`, format, COLUMN_FORMATS));
    if (textAt(jsonPath) === '') faults.push(required(`${at}.jsonPath`));
    else if (!textAt(jsonPath).startsWith('.') || parsePath(textAt(jsonPath)) === undefined)
      faults.push(invalid(`${at}.jsonPath`, jsonPath, 'must be a JSON path such as .spec.replicas, without braces'));
  }
  return faults;
}

function scaleFaults(version: JsonObject, path: string): Fault[] {
  const { scale } = objectAt(version['subresources']);
  if (scale === undefined) return [];
  const at = `${path}.subresources.scale`;
  const under = (field: string, roots: readonly string[]): Fault[] => {
    const given = textAt(objectAt(scale)[field]);
    if (given === '') return field === 'labelSelectorPath' ? [] : [required(`${at}.${field}`)];
    const isUnder = roots.some((root) => given.startsWith(`${root}.`));
    if (SIMPLE_PATH.test(given) && isUnder) return [];
    return [
      invalid(`${at}.${field}`, given, `should be a json path without the array notation under ${roots.join(' or ')}`),
    ];
  };
  return [
    ...under('specReplicasPath', ['.spec']),
    ...under('statusReplicasPath', ['.status']),
    ...under('labelSelectorPath', ['.spec', '.status']),
  ];
}

function selectableFaults(version: JsonObject, schema: SchemaProps, path: string): Fault[] {
  const fields = objectsAt(version['selectableFields']).map(({ jsonPath }) => textAt(jsonPath));
  const at = (index: number): string => `${path}.selectableFields[${index}].jsonPath`;
  const faults = repeated(fields, at);
  if (fields.length > MAX_SELECTABLE_FIELDS)
    faults.push(tooMany(`${path}.selectableFields`, fields.length, MAX_SELECTABLE_FIELDS));
  for (const [index, field] of fields.entries()) {
    if (!SIMPLE_PATH.test(field)) {
      faults.push(invalid(at(index), field, 'must be a simple path of fields such as .spec.color'));
      continue;
    }
    const steps = field.split('.').slice(1);
    let node: JsonObject | undefined = schema;
    for (const step of steps) node = objectAt(node?.['properties'])[step] as JsonObject | undefined;
    if (steps[0] === 'metadata') faults.push(invalid(at(index), field, 'must not point to fields in metadata'));
    else if (!node) faults.push(invalid(at(index), field, 'does not refer to a valid field of the schema'));
    else if (!SELECTABLE_TYPES.includes(textAt(node['type'])))
      faults.push(invalid(at(index), field, `must point to a field of type ${SELECTABLE_TYPES.join(', ')}`));
  }
  return faults;
}
