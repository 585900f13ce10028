/**
 * PATCH in its four forms: JSON patch, merge patch, strategic merge patch and server-side apply, each computed on the newest object and computed again when another write came first.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-update
 */
import type { ApiObject, ResourceDefinition, Schema } from '../../api-schemas/schema.ts';
import { asObject, contentTypeOf, fieldValidationOf, readBody, type FieldValidation, type Undecoded } from '../body.ts';
import { apiVersionOf, keyOf, managerOf, spokenIn, type Call, type KindSchema } from '../call.ts';
import { conversionOf } from '../conversion/conversions.ts';
import { parseJson } from '../codec/json.ts';
import { parseYaml } from '../codec/yaml.ts';
import { otherVersions } from '../custom-resources/versions.ts';
import { badRequest, conflict, StatusError, unsupportedMediaType } from '../errors.ts';
import { applyAcrossVersions, applyPatch, requireTyped, type Apply } from '../patch/apply.ts';
import { isObject, kindOf, type JsonObject } from '../patch/json.ts';
import { jsonPatch, unknownMembers } from '../patch/json-patch.ts';
import { mergePatch } from '../patch/merge-patch.ts';
import { strategicMergePatch } from '../patch/strategic-merge.ts';
import { isTrue } from '../request.ts';
import { refused } from '../request-options.ts';
import { sendWritten } from '../respond.ts';
import { decode, entryId, type Entry } from '../store/entry.ts';
import { createObject } from './create.ts';
import { changeObject, checkPlace } from './update.ts';
import { resetFieldsOf, timestamp } from './write.ts';

export const PATCH_TYPES = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
  'application/apply-patch+yaml',
] as const;

/** The forms that a kind takes: a strategic merge needs what only the authors of built-in kinds have said about their lists. */
export const patchTypesOf = ({ custom }: Pick<ResourceDefinition, 'custom'>): readonly string[] =>
  custom ? PATCH_TYPES.filter((type) => type !== 'application/strategic-merge-patch+json') : PATCH_TYPES;

export async function patch(call: Call): Promise<void> {
  const contentType = contentTypeOf(call);
  const offered = patchTypesOf(call.definition);
  if (!offered.includes(contentType)) throw unsupportedMediaType(contentType, offered);
  const body = await readBody(call);
  const validation = fieldValidationOf(call);
  const patched =
    contentType === 'application/apply-patch+yaml'
      ? await applyObject(call, parseYaml(body, { duplicates: validation !== 'Ignore' }), validation)
      : await patchObject(call, readPatch(call, contentType, body, spokenIn(call)), validation);
  await sendWritten(call, patched.entry, patched.created ? 201 : 200);
}

export interface Patched {
  readonly entry: Entry;
  readonly created: boolean;
}

export type Compute = (current: ApiObject) => unknown;

/** A patch, and what is wrong with its text though it can be understood. */
export interface Patch {
  readonly compute: Compute;
  /** In the words that a Warning, or a refusal, tells them in. */
  readonly faults: readonly string[];
}

/** The change that a patch describes, as a function of the object it is applied to. Throws UnsupportedMediaType, and Invalid for an option that goes with server-side apply alone. */
export function readPatch(
  call: Call,
  contentType: string,
  body: Buffer,
  { schema }: Pick<KindSchema, 'schema'>,
): Patch {
  if (!(PATCH_TYPES as readonly string[]).includes(contentType)) throw unsupportedMediaType(contentType, PATCH_TYPES);
  if (call.query.has('force'))
    throw refused(call, 'force', 'FieldValueForbidden', 'Forbidden: may not be specified for non-apply patch');
  const { value, duplicates } = parseJson(body, { duplicates: fieldValidationOf(call) !== 'Ignore' });
  const ofOperations = contentType === 'application/json-patch+json';
  const faults = [
    ...duplicates.map((path) => `${ofOperations ? 'json patch ' : ''}duplicate field ${JSON.stringify(path)}`),
    ...(ofOperations ? unknownMembers(value).map((path) => `json patch unknown field ${JSON.stringify(path)}`) : []),
  ];
  return { compute: patchOf(contentType, value, schema), faults };
}

/** The same, of a patch that is read already. Throws UnsupportedMediaType. */
export function patchOf(contentType: string, value: unknown, schema: Schema): Compute {
  switch (contentType) {
    case 'application/json-patch+json':
      return (current) => jsonPatch(current, value);
    case 'application/merge-patch+json':
      return (current) => mergePatch(current, objectPatch(value));
    case 'application/strategic-merge-patch+json':
      return (current) => strategicMergePatch(current, objectPatch(value), schema);
    default:
      throw unsupportedMediaType(contentType, PATCH_TYPES);
  }
}

function objectPatch(value: unknown): JsonObject {
  if (!isObject(value)) throw badRequest(`the patch must be a JSON object, got ${kindOf(value)}`);
  return value;
}

export async function patchObject(
  call: Call,
  { compute, faults }: Patch,
  validation: FieldValidation,
): Promise<Patched> {
  const conversion = conversionOf(spokenIn(call));
  const propose = (current: Entry): ApiObject => {
    const stored = decode(current);
    const patched = compute(conversion?.fromStored(stored) ?? stored);
    const object = asObject(call, { value: patched, duplicates: [], faults, definition: spokenIn(call), validation });
    checkPlace(call, object);
    return object;
  };
  return { entry: await changeObject(call, propose, { verb: 'patch' }), created: false };
}

/** Server-side apply: creates what is not there yet. https://kubernetes.io/docs/reference/using-api/server-side-apply/ */
export const applyObject = (
  call: Call,
  { value, duplicates }: Pick<Undecoded, 'value' | 'duplicates'>,
  validation: FieldValidation,
): Promise<Patched> =>
  applyConfig(call, () => {
    const definition = spokenIn(call);
    if (isObject(value)) requireAppliable(call, value, definition);
    return asObject(call, { value, duplicates, definition, validation });
  });

/** What is applied says what it is, and has no field that the kind does not have, however lenient the client is. */
function requireAppliable({ target }: Call, config: JsonObject, definition: KindSchema): void {
  const expected = apiVersionOf(definition);
  const { apiVersion = '', kind = '' } = config as Partial<ApiObject>;
  if (apiVersion !== expected)
    throw badRequest(
      `Incorrect version specified in apply patch. Specified patch version: ${apiVersion}, expected: ${expected}`,
    );
  if (kind === '') throw badRequest("Object 'Kind' is missing in the apply patch");
  if (kind === definition.kind) requireTyped(config, definition.schema, target);
}

/** Who names a uid means that one object, and must not be given another in its place. */
function requireNoUid({ definition, target }: Call, { metadata: { uid } }: ApiObject): void {
  if (uid)
    throw conflict(
      definition,
      target.name,
      `uid mismatch: the provided object specified uid ${uid}, and no existing object was found`,
    );
}

/** The same, of what somebody wants an object of the kind to be. Creates nothing through a subresource. */
export async function applyConfig(call: Call, read: () => ApiObject): Promise<Patched> {
  const { definition, services, query, target } = call;
  if (!query.get('fieldManager'))
    throw refused(call, 'fieldManager', 'FieldValueRequired', 'Required value: is required for apply patch');
  const config = read();
  config.metadata.name ||= target.name;
  checkPlace(call, config);
  const force = isTrue(query.get('force'));
  const versions = otherVersions(definition);
  const compute = async (live: ApiObject | undefined) => {
    const request: Apply = {
      live,
      config: structuredClone(config),
      manager: managerOf(call),
      force,
      schema: definition.schema,
      ...(definition.custom && { keepNulls: true }),
      time: timestamp(),
      ...(target.subresource && { subresource: target.subresource }),
      resetFields: resetFieldsOf(definition, target.subresource),
    };
    const applied = versions ? await applyAcrossVersions(request, versions) : applyPatch(request);
    if (applied.kind === 'applied') return applied;
    const { group, resource: kind } = definition;
    throw new StatusError('Conflict', applied.message, {
      name: target.name,
      ...(group && { group }),
      kind,
      causes: applied.causes,
    });
  };
  if (!services.store.cache(definition).get(entryId(keyOf(call)))) await services.store.current(definition);
  if (!services.store.cache(definition).get(entryId(keyOf(call))) && !target.subresource) {
    requireNoUid(call, config);
    const { object, managedFields } = await compute(undefined);
    return { entry: await createObject(call, object, { verb: 'apply', managedFields }), created: true };
  }
  let managedFields: readonly unknown[] | undefined;
  const propose = async (current: Entry): Promise<ApiObject> => {
    const applied = await compute(decode(current));
    managedFields = applied.managedFields;
    return applied.object;
  };
  return {
    entry: await changeObject(call, propose, {
      verb: 'apply',
      managedFields: () => managedFields,
      ...(target.subresource && { subresource: target.subresource }),
    }),
    created: false,
  };
}
