/**
 * Reads the body of a request, bounded, and decodes it in the format its Content-Type names: JSON, YAML or Kubernetes' protobuf. Called by the verbs that take a body.
 */
import type { IncomingMessage } from 'node:http';
import { gunzip } from 'node:zlib';
import { promisify } from 'node:util';
import type { ApiObject } from '../api-schemas/schema.ts';
import { pruneUnknown } from './admission/prune.ts';
import { apiVersionOf, spokenIn, type Call, type KindSchema } from './call.ts';
import { conversionOf } from './conversion/conversions.ts';
import { decodeCustom } from './custom-resources/decode.ts';
import { badRequest, StatusError, tooLarge, unsupportedMediaType } from './errors.ts';
import { parseJson } from './codec/json.ts';
import { decodeProtobuf } from './codec/protobuf.ts';
import { parseYaml } from './codec/yaml.ts';

/** As in Kubernetes. */
export const MAX_BODY_BYTES = 3 * 1024 * 1024;

/** Of a list of many writes. */
export const MAX_TRANSACTION_BODY_BYTES = 32 * 1024 * 1024;

export const BODY_TYPES = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf'] as const;

const unzip = promisify(gunzip);

/** The media type without its parameters, in lower case. */
export const contentTypeOf = (call: Pick<Call, 'request'>): string =>
  (call.request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? '';

/** Throws RequestEntityTooLarge beyond the limit, packed or unpacked. */
export async function readBody(call: Pick<Call, 'request'>, limitBytes = MAX_BODY_BYTES): Promise<Buffer> {
  const refuse = () => tooLarge(`Request entity too large: limit is ${limitBytes}`);
  if (Number(call.request.headers['content-length'] ?? 0) > limitBytes) throw refuse();
  const body = await received(call.request, limitBytes);
  if (!body) throw refuse();
  if (call.request.headers['content-encoding'] !== 'gzip') return body;
  try {
    return await unzip(body, { maxOutputLength: limitBytes });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw refuse();
    throw badRequest('the body is not valid gzip', { cause });
  }
}

/** By events: an async iterator costs several times as much as a small body. Undefined when it is too long; the rest is let pass, since the refusal is still to be sent. */
function received(request: IncomingMessage, limitBytes: number): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= limitBytes) chunks.push(chunk);
      else resolve(undefined);
    });
    request.once('end', () => resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)));
    request.once('error', reject);
    request.once('close', () => {
      if (!request.readableEnded) reject(Object.assign(new Error('the client has left'), { code: 'ECONNRESET' }));
    });
  });
}

export type FieldValidation = 'Strict' | 'Warn' | 'Ignore';

/** `checkOptions` has refused everything else. */
export function fieldValidationOf(call: Pick<Call, 'query'>): FieldValidation {
  const given = call.query.get('fieldValidation');
  return given === 'Strict' || given === 'Ignore' ? given : 'Warn';
}

interface Decoded {
  readonly value: unknown;
  /** Fields given twice. */
  readonly duplicates: readonly string[];
}

function decodeAs(contentType: string, body: Buffer, call: Pick<Call, 'services'>, strict: boolean): Decoded {
  switch (contentType) {
    case '':
    case 'application/json':
      return parseJson(body, { duplicates: strict });
    case 'application/yaml':
    case 'application/apply-patch+yaml':
      return parseYaml(body, { duplicates: strict });
    case 'application/vnd.kubernetes.protobuf':
      return { value: decodeProtobuf(body, call.services.registry), duplicates: [] };
    default:
      throw unsupportedMediaType(contentType, BODY_TYPES);
  }
}

/** The body as JSON, without looking into it. */
export async function readValue(
  call: Pick<Call, 'request' | 'services'>,
  { limitBytes = MAX_BODY_BYTES }: { limitBytes?: number } = {},
): Promise<unknown> {
  return decodeAs(contentTypeOf(call), await readBody(call, limitBytes), call, false).value;
}

/**
 * The body as an object of the given kind, without the fields that the kind does not have; what was dropped is an error, a warning or nothing, as the client asked. Throws BadRequest.
 */
export async function readObject(call: Call, definition: KindSchema = spokenIn(call)): Promise<ApiObject> {
  const validation = fieldValidationOf(call);
  const { value, duplicates } = decodeAs(contentTypeOf(call), await readBody(call), call, validation !== 'Ignore');
  return asObject(call, { value, duplicates, definition, validation });
}

export interface Undecoded {
  readonly value: unknown;
  readonly duplicates: readonly string[];
  /** Of the text that the value was computed from, worded. */
  readonly faults?: readonly string[];
  readonly definition: KindSchema;
  readonly validation: FieldValidation;
}

/** Checks that a value is an object of the kind, and drops what the kind does not have. Comes in the shape that is stored. */
export function asObject(
  call: Pick<Call, 'response'>,
  { value, duplicates, faults = [], definition, validation }: Undecoded,
): ApiObject {
  const { version, kind, schema } = definition;
  const apiVersion = apiVersionOf(definition);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw badRequest(
      `the body must be a JSON object of kind ${kind}, got ${value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value}`,
    );
  const object = value as ApiObject;
  object.apiVersion ||= apiVersion;
  object.kind ||= kind;
  object.metadata ??= { name: '' };
  const earlier = definition.earlierVersions?.map((each) => apiVersionOf({ ...definition, version: each }));
  if (earlier?.includes(object.apiVersion)) object.apiVersion = apiVersion;
  if (object.apiVersion !== apiVersion || object.kind !== kind) {
    throw badRequest(
      `the object provided is a ${object.apiVersion} ${object.kind}, the resource takes ${apiVersion} ${kind}`,
    );
  }
  const { unknown, mistyped } = definition.custom ? decodeCustom(object, schema) : pruneUnknown(object, schema);
  if (mistyped.length > 0)
    throw badRequest(`${kind} in version "${version}" cannot be handled as a ${kind}: ${mistyped.join(', ')}`);
  const strictFaults = [
    ...unknown.map(
      ({ path, nearest }) =>
        `unknown field ${JSON.stringify(path)}${nearest ? ` (did you mean ${JSON.stringify(nearest)}?)` : ''}`,
    ),
    ...duplicates.map((path) => `duplicate field ${JSON.stringify(path)}`),
    ...faults,
  ];
  if (strictFaults.length > 0 && validation === 'Strict')
    throw new StatusError(
      'BadRequest',
      `${kind} in version "${version}" cannot be handled as a ${kind}: strict decoding error: ${strictFaults.join(', ')}`,
    );
  if (validation === 'Warn') for (const fault of strictFaults) warn(call, fault);
  return conversionOf(definition)?.toStored(object) ?? object;
}

/** Adds a warning that kubectl prints. https://kubernetes.io/docs/reference/using-api/api-concepts/#warnings */
export function warn(call: Pick<Call, 'response'>, message: string): void {
  const text = message
    .replace(/[\\"]/g, '\\$&')
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, 1024);
  const header = `299 - "${text}"`;
  // A write that is computed again on a newer object finds the same faults again.
  if ([call.response.getHeader('Warning') ?? []].flat().includes(header)) return;
  call.response.appendHeader('Warning', header);
}
