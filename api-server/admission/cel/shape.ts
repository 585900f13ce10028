/**
 * How large the values that a rule sees can become, told from the schema that it stands on: `maxLength`, `maxItems` and `maxProperties`; and what has no bound may fill a whole request. Used by `estimate.ts`, and for the places
 * that rules stand in by `custom-resources/validation-rules.ts`.
 */
import { celName } from './names.ts';

type Props = Readonly<Record<string, unknown>>;

/** Of a request; what it holds is no longer. */
export const MAX_BYTES = 3 * 1024 * 1024;
/** `maxLength` counts characters. */
const BYTES_PER_CHARACTER = 4;
const MAX_NAME_BYTES = 253;
const MIN_BYTES: Readonly<Record<string, number>> = { boolean: 4, integer: 1, number: 1 };
/** Of formats that bound a text by themselves. */
const FORMAT_BYTES: Readonly<Record<string, number>> = { date: 10, datetime: 40, 'date-time': 40 };

/** A value as far as the schema tells of it. */
export interface Shape {
  readonly kind: 'text' | 'list' | 'map' | 'struct' | 'scalar' | 'any';
  /** Characters or elements at most; 1 of everything else. */
  readonly size: number;
  /** What would bound it, where nothing does: `maxItems of spec.list`. */
  readonly bound?: string;
  /** An element of a list, a value of a map. */
  readonly item?: () => Shape;
  readonly field?: (name: string) => Shape | undefined;
}

export const SCALAR: Shape = { kind: 'scalar', size: 1 };
export const ANY: Shape = { kind: 'any', size: MAX_BYTES, item: () => ANY, field: () => ANY };
export const text = (size: number, bound?: string): Shape => ({
  kind: 'text',
  size,
  ...(bound !== undefined && { bound }),
});

const isProps = (value: unknown): value is Props =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** `field` is where the value stands in an object, for people. */
export function shapeOf(props: Props, field: string): Shape {
  const { type, items, additionalProperties, maxItems, maxProperties } = props;
  if (props['x-kubernetes-int-or-string'] === true) return textOf(props, field);
  if (type === 'string') return textOf(props, field);
  if (type === 'array') {
    const below = isProps(items) ? items : {};
    return {
      kind: 'list',
      size: number(maxItems) ?? Math.floor(MAX_BYTES / (minBytes(below) + 1)),
      ...(number(maxItems) === undefined && { bound: `maxItems of ${field}` }),
      item: () => shapeOf(below, `${field}[*]`),
    };
  }
  if (type !== 'object') return type === undefined ? ANY : SCALAR;
  if (isProps(additionalProperties))
    return {
      kind: 'map',
      size: number(maxProperties) ?? Math.floor(MAX_BYTES / (minBytes(additionalProperties) + 6)),
      ...(number(maxProperties) === undefined && { bound: `maxProperties of ${field}` }),
      item: () => shapeOf(additionalProperties, `${field}.*`),
    };
  return { kind: 'struct', size: 1, field: (name) => fieldOf(props, name, field) };
}

/** The fields of a node by the names that rules call them by; a schema may be large, and be asked often. */
const named = new WeakMap<Props, ReadonlyMap<string, string>>();

function fieldOf({ properties }: Props, name: string, field: string): Shape | undefined {
  if (!isProps(properties)) return undefined;
  let keys = named.get(properties);
  if (!keys) named.set(properties, (keys = new Map(Object.keys(properties).map((key) => [celName(key) ?? '', key]))));
  const key = keys.get(name) ?? '';
  const child = Object.hasOwn(properties, key) ? properties[key] : undefined;
  return isProps(child) ? shapeOf(child, field === '' ? key : `${field}.${key}`) : undefined;
}

/** Of the object itself: of its metadata rules see the name, and names are short. */
export function rootShape(props: Props): Shape {
  const name = text(MAX_NAME_BYTES);
  const metadata: Shape = { kind: 'struct', size: 1, field: () => name };
  const own: Readonly<Record<string, Shape>> = { apiVersion: name, kind: name, metadata };
  return { kind: 'struct', size: 1, field: (field) => own[field] ?? fieldOf(props, field, '') };
}

function textOf({ maxLength, format, enum: values }: Props, field: string): Shape {
  const most = number(maxLength);
  if (most !== undefined) return text(Math.min(most * BYTES_PER_CHARACTER, MAX_BYTES));
  if (Array.isArray(values)) return text(Math.max(0, ...values.map((value) => String(value).length)));
  const known = FORMAT_BYTES[String(format)];
  return known === undefined ? text(MAX_BYTES, `maxLength of ${field}`) : text(known);
}

const number = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined);

/** The least that a value takes in a request. */
function minBytes({ type, properties, required, default: standing }: Props): number {
  if (standing !== undefined) return 0;
  if (type !== 'object' || !Array.isArray(required)) return MIN_BYTES[String(type)] ?? 2;
  const fields = isProps(properties) ? properties : {};
  return required.reduce((sum: number, name: unknown) => {
    const child = fields[String(name)];
    return sum + String(name).length + 4 + (isProps(child) ? minBytes(child) : 2);
  }, 2);
}

export const larger = (a: Shape, b: Shape): Shape => (a.size >= b.size ? a : b);

export const itemOf = (shape: Shape): Shape => shape.item?.() ?? SCALAR;
