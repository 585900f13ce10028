/**
 * What a custom kind's schema says of the merging of its lists and maps: `x-kubernetes-list-type`, `-list-map-keys`, `-map-type`. Called by `structural-schema.ts` for each node.
 * https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy
 */
import { duplicate, invalid, notSupported, required, type Fault } from '../admission/fault.ts';
import type { SchemaProps } from './schema-of-kind.ts';

const LIST_TYPES = ['atomic', 'map', 'set'];
const MAP_TYPES = ['atomic', 'granular'];
const SCALARS = new Set(['string', 'integer', 'number', 'boolean']);

const asProps = (value: unknown): SchemaProps =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as SchemaProps) : {};

export function listFaults(props: SchemaProps, path: string): Fault[] {
  return [...mapTypeFaults(props, path), ...listTypeFaults(props, path), ...keyFaults(props, path)];
}

function mapTypeFaults(props: SchemaProps, path: string): Fault[] {
  const mapType = props['x-kubernetes-map-type'];
  if (mapType === undefined) return [];
  const faults: Fault[] = [];
  if (!MAP_TYPES.includes(String(mapType)))
    faults.push(notSupported(`${path}.x-kubernetes-map-type`, mapType, MAP_TYPES));
  if (props['type'] !== 'object')
    faults.push(invalid(`${path}.type`, props['type'] ?? '', 'must be object if x-kubernetes-map-type is specified'));
  return faults;
}

function listTypeFaults(props: SchemaProps, path: string): Fault[] {
  const listType = props['x-kubernetes-list-type'];
  if (listType === undefined) return [];
  const faults: Fault[] = [];
  if (!LIST_TYPES.includes(String(listType)))
    faults.push(notSupported(`${path}.x-kubernetes-list-type`, listType, LIST_TYPES));
  if (props['type'] !== 'array')
    faults.push(invalid(`${path}.type`, props['type'] ?? '', 'must be array if x-kubernetes-list-type is specified'));
  const items = asProps(props['items']);
  const isScalar = SCALARS.has(String(items['type'])) || items['x-kubernetes-int-or-string'] === true;
  const isAtomic =
    (items['type'] === 'array' &&
      [undefined, 'atomic'].includes(items['x-kubernetes-list-type'] as string | undefined)) ||
    (items['type'] === 'object' && items['x-kubernetes-map-type'] === 'atomic');
  if (listType === 'set' && props['type'] === 'array' && !isScalar && !isAtomic)
    faults.push(
      invalid(
        `${path}.items`,
        items['type'] ?? '',
        'items of a set must be scalars, or atomic as a whole, if x-kubernetes-list-type is set',
      ),
    );
  if (listType === 'set' && items['nullable'] === true)
    faults.push(invalid(`${path}.items.nullable`, true, 'cannot be nullable if x-kubernetes-list-type is set'));
  return faults;
}

function keyFaults(props: SchemaProps, path: string): Fault[] {
  const given = props['x-kubernetes-list-map-keys'];
  const at = `${path}.x-kubernetes-list-map-keys`;
  const isMap = props['x-kubernetes-list-type'] === 'map';
  const keys = Array.isArray(given) ? given.map(String) : [];
  if (!isMap) return keys.length === 0 ? [] : [invalid(at, keys, 'must be empty if x-kubernetes-list-type is not map')];
  if (keys.length === 0) return [required(at, 'must not be empty if x-kubernetes-list-type is map')];
  const items = asProps(props['items']);
  if (items['type'] !== 'object')
    return [
      invalid(
        `${path}.items.type`,
        items['type'] ?? '',
        "must be object if parent array's x-kubernetes-list-type is map",
      ),
    ];
  const properties = asProps(items['properties']);
  const must = Array.isArray(items['required']) ? items['required'] : [];
  return keys.flatMap((key, index): Fault[] => {
    if (keys.indexOf(key) < index) return [duplicate(`${at}[${index}]`, key)];
    if (!Object.hasOwn(properties, key))
      return [invalid(`${at}[${index}]`, key, 'entries must all be names of item properties')];
    const field = asProps(properties[key]);
    const faults: Fault[] = [];
    if (!SCALARS.has(String(field['type'])) && field['x-kubernetes-int-or-string'] !== true)
      faults.push(
        invalid(
          `${path}.items.properties[${key}].type`,
          field['type'] ?? '',
          "must be a scalar type if parent array's x-kubernetes-list-type is map",
        ),
      );
    if (field['default'] === undefined && !must.includes(key))
      faults.push(
        required(
          `${path}.items.properties[${key}].default`,
          'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property',
        ),
      );
    return faults;
  });
}
