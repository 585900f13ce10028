/**
 * OpenAPI v2 in the protobuf form that kubectl asks for, `application/com.github.proto-openapi.spec.v2@v1.0+protobuf`. The field numbers are those of
 * https://github.com/google/gnostic/blob/main/openapiv2/OpenAPIv2.proto. Called by `documents.ts`, once per change of the registry. Fields are written back to front: see `../codec/wire-writer.ts`.
 */
import { BYTES, FIXED64, VARINT } from '../codec/wire-reader.ts';
import { WireWriter } from '../codec/wire-writer.ts';
import type { OpenApiV2 } from './openapi-v2.ts';

/** As the answer's Content-Type: the `@` of the name that clients ask by is not allowed in one. */
export const OPENAPI_V2_PROTOBUF = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';

type Node = Readonly<Record<string, unknown>>;
type Write = (writer: WireWriter, value: never) => void;

const nodeOf = (value: unknown): Node => value as Node;

/** A message field: the body is written first, then its length and its number. */
function message<T>(
  writer: WireWriter,
  field: number,
  value: T | undefined,
  write: (writer: WireWriter, value: T) => void,
): void {
  if (value === undefined) return;
  const end = writer.length;
  write(writer, value);
  writer.uint32(writer.length - end);
  writer.tag(field, BYTES);
}

function messages<T>(
  writer: WireWriter,
  field: number,
  values: readonly T[] | undefined,
  write: (writer: WireWriter, value: T) => void,
): void {
  for (const value of (values ?? []).toReversed()) message(writer, field, value, write);
}

function text(writer: WireWriter, field: number, value: unknown): void {
  if (typeof value !== 'string' || value === '') return;
  writer.string(value);
  writer.tag(field, BYTES);
}

function texts(writer: WireWriter, field: number, values: unknown): void {
  for (const value of ((values ?? []) as string[]).toReversed()) {
    writer.string(value);
    writer.tag(field, BYTES);
  }
}

function number(writer: WireWriter, field: number, value: unknown, kind: 'int' | 'double'): void {
  if (typeof value !== 'number') return;
  if (kind === 'int') writer.int64(value);
  else writer.double(value);
  writer.tag(field, kind === 'int' ? VARINT : FIXED64);
}

function flag(writer: WireWriter, field: number, value: unknown): void {
  if (value !== true) return;
  writer.uint32(1);
  writer.tag(field, VARINT);
}

/** `Any`: JSON is YAML. */
const any = (writer: WireWriter, value: unknown): void => text(writer, 2, JSON.stringify(value));

/** Named(name = 1, value = 2), for every map. */
function named(write: Write): (writer: WireWriter, entry: readonly [string, unknown]) => void {
  return (writer, [name, value]) => {
    message(writer, 2, value, write as (writer: WireWriter, value: unknown) => void);
    text(writer, 1, name);
  };
}

const extensions = (node: Node): [string, unknown][] =>
  Object.entries(node).filter(([key, value]) => key.startsWith('x-') && value !== undefined);

function schema(writer: WireWriter, node: Node): void {
  messages(writer, 31, extensions(node), named(any));
  const properties = node['properties'] as Node | undefined;
  message(writer, 25, properties, (inner, value) => messages(inner, 1, Object.entries(value), named(schema)));
  messages(writer, 24, node['allOf'] as Node[] | undefined, schema);
  message(writer, 23, node['items'] as Node | undefined, (inner, value) => message(inner, 1, value, schema));
  const type = node['type'];
  message(writer, 22, type === undefined ? undefined : [type].flat(), (inner, value) => texts(inner, 1, value));
  const additional = node['additionalProperties'];
  message(writer, 21, additional, (inner, value) =>
    typeof value === 'object' ? message(inner, 1, nodeOf(value), schema) : flag(inner, 2, value),
  );
  messages(writer, 20, node['enum'] as unknown[] | undefined, any);
  texts(writer, 19, node['required']);
  number(writer, 18, node['minProperties'], 'int');
  number(writer, 17, node['maxProperties'], 'int');
  flag(writer, 16, node['uniqueItems']);
  number(writer, 15, node['minItems'], 'int');
  number(writer, 14, node['maxItems'], 'int');
  text(writer, 13, node['pattern']);
  number(writer, 12, node['minLength'], 'int');
  number(writer, 11, node['maxLength'], 'int');
  number(writer, 9, node['minimum'], 'double');
  number(writer, 7, node['maximum'], 'double');
  if (node['default'] !== undefined) message(writer, 5, node['default'], any);
  text(writer, 4, node['description']);
  text(writer, 2, node['format']);
  text(writer, 1, node['$ref']);
}

/** Query parameters and path parameters number their fields alike, but for one that only the former have. */
function plainParameter(writer: WireWriter, node: Node): void {
  const inQuery = node['in'] === 'query';
  flag(writer, inQuery ? 20 : 19, node['uniqueItems']);
  text(writer, inQuery ? 6 : 5, node['type']);
  text(writer, 4, node['name']);
  text(writer, 3, node['description']);
  text(writer, 2, node['in']);
  flag(writer, 1, node['required']);
}

function bodyParameter(writer: WireWriter, node: Node): void {
  message(writer, 5, node['schema'] as Node | undefined, schema);
  flag(writer, 4, node['required']);
  text(writer, 3, node['in']);
  text(writer, 2, node['name']);
}

/** ParametersItem › Parameter › BodyParameter, or NonBodyParameter › Query… or PathParameterSubSchema. */
function parameter(writer: WireWriter, node: Node): void {
  message(writer, 1, node, (item, value) => {
    if (value['in'] === 'body') return message(item, 1, value, bodyParameter);
    return message(item, 2, value, (inner, plain) =>
      message(inner, plain['in'] === 'query' ? 3 : 4, plain, plainParameter),
    );
  });
}

const responseValue = (writer: WireWriter, node: Node): void =>
  message(writer, 1, node, (inner, response) => text(inner, 1, response['description']));

function operation(writer: WireWriter, node: Node): void {
  messages(writer, 13, extensions(node), named(any));
  message(writer, 9, node['responses'] as Node | undefined, (inner, value) =>
    messages(inner, 1, Object.entries(value), named(responseValue)),
  );
  messages(writer, 8, node['parameters'] as Node[] | undefined, parameter);
  texts(writer, 7, node['consumes']);
  texts(writer, 6, node['produces']);
}

function pathItem(writer: WireWriter, node: Node): void {
  messages(writer, 9, node['parameters'] as Node[] | undefined, parameter);
  for (const [method, field] of [
    ['patch', 8],
    ['delete', 5],
    ['post', 4],
    ['put', 3],
    ['get', 2],
  ] as const) {
    message(writer, field, node[method] as Node | undefined, operation);
  }
}

export function encodeOpenApiV2(document: OpenApiV2): Buffer {
  const writer = new WireWriter();
  message(writer, 9, document.definitions, (inner, value) => messages(inner, 1, Object.entries(value), named(schema)));
  message(writer, 8, document.paths, (inner, value) => messages(inner, 2, Object.entries(value), named(pathItem)));
  message(writer, 2, document.info, (inner, info) => {
    text(inner, 2, info.version);
    text(inner, 1, info.title);
  });
  text(writer, 1, document.swagger);
  return writer.finish();
}
