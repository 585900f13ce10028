/**
 * The operations of a transaction as they were sent: which object each is about and what it asks for. What they do to the object is found out by the verbs, in `prepare.ts`. Everything that is wrong with the words of an
 * operation is reported with the field it stands in.
 */
import type { Registry } from '../../api-schemas/registry.ts';
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { Reason } from '../../event-log/event-log.ts';
import { conversionOf } from '../conversion/conversions.ts';
import { isObject, type JsonObject } from '../patch/json.ts';
import { faultOfReason } from '../request-provenance.ts';
import { badRequest, notFound, StatusError, tooLarge, type Cause } from '../errors.ts';

export const OPERATION_VERBS = ['create', 'update', 'apply', 'patch', 'delete'] as const;
export type OperationVerb = (typeof OPERATION_VERBS)[number];

export const PATCH_FORMS = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
} as const;
export type PatchForm = keyof typeof PATCH_FORMS;

/** What must hold of the object that stands; checked by the log itself. */
export interface Preconditions {
  readonly uid?: string;
  readonly resourceVersion?: string;
  /** There must be none. */
  readonly absent?: boolean;
}

export interface Operation {
  readonly verb: OperationVerb;
  readonly definition: ResourceDefinition;
  readonly namespace: string;
  /** Empty only where a name is to be generated. */
  readonly name: string;
  /** `status`, or empty. */
  readonly subresource: string;
  readonly preconditions: Preconditions;
  /** Of create, update and apply. */
  readonly object?: ApiObject;
  /** Of patch. */
  readonly patch?: { readonly form: PatchForm; readonly value: unknown };
  /** Of delete. */
  readonly propagationPolicy?: string;
  readonly gracePeriodSeconds?: number;
  /** Why this member is written, where it has a reason of its own. */
  readonly reason?: Reason;
  /** Field ownership to create the object with, where it is known from before. */
  readonly managedFields?: readonly unknown[];
}

/** What an operation says of itself, understood or not. */
export interface OperationWords {
  readonly verb: string;
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

const FIELDS: Readonly<Record<OperationVerb, readonly string[]>> = {
  create: ['object'],
  update: ['object', 'subresource'],
  apply: ['object', 'subresource'],
  patch: ['target', 'patchType', 'patch', 'subresource'],
  delete: ['target', 'propagationPolicy', 'gracePeriodSeconds'],
};
const ALWAYS = ['verb', 'preconditions', 'because', 'source'];

/** The list of operations in a body. Throws BadRequest, and RequestEntityTooLarge for more than the log takes at once. */
export function operationsOf(body: unknown, limit: number): readonly unknown[] {
  if (!isObject(body)) throw badRequest('the body must be a JSON object of kind Transaction');
  const { kind = 'Transaction', apiVersion = 'log.reckon.dev/v1', operations } = body;
  if (kind !== 'Transaction' || apiVersion !== 'log.reckon.dev/v1')
    throw badRequest(`the body is a ${String(apiVersion)} ${String(kind)}, expected log.reckon.dev/v1 Transaction`);
  const unknown = Object.keys(body).find((field) => !['kind', 'apiVersion', 'metadata', 'operations'].includes(field));
  if (unknown !== undefined) throw badRequest(`unknown field ${JSON.stringify(unknown)} of the Transaction`);
  if (!Array.isArray(operations) || operations.length === 0)
    throw badRequest('operations: Required value: a list of at least one operation');
  requireSize(operations.length, limit);
  return operations;
}

/** A transaction is one atomic batch of the log and never several. */
export function requireSize(members: number, limit: number): void {
  if (members > limit)
    throw tooLarge(
      `a transaction has at most ${limit} members, this one has ${members}; it cannot be divided and stay atomic`,
    );
}

export function wordsOf(given: unknown): OperationWords {
  const operation = isObject(given) ? given : {};
  const about = isObject(operation['object']) ? operation['object'] : (operation['target'] as JsonObject | undefined);
  const place = isObject(about?.['metadata']) ? about['metadata'] : about;
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  return {
    verb: text(operation['verb']),
    apiVersion: text(about?.['apiVersion']),
    kind: text(about?.['kind']),
    namespace: text(place?.['namespace']),
    name: text(place?.['name']),
  };
}

/** Throws a StatusError whose causes name fields below the operation. */
export function readOperation(given: unknown, registry: Registry): Operation {
  const faults: Cause[] = [];
  const fault = (field: string, reason: string, message: string): void => void faults.push({ field, reason, message });
  if (!isObject(given)) throw badRequest('an operation is a JSON object');
  const words = wordsOf(given);
  const verb = OPERATION_VERBS.find((each) => each === words.verb);
  if (!verb) throw refusal([unsupported('verb', given['verb'], OPERATION_VERBS)]);
  for (const field of Object.keys(given))
    if (![...ALWAYS, ...FIELDS[verb]].includes(field))
      fault(field, 'FieldValueForbidden', `Forbidden: ${verb} has no such field`);
  const container = FIELDS[verb][0] ?? '';
  if (!isObject(given[container])) throw refusal([...faults, required(container, 'an object')]);
  const at = container === 'object' ? 'object.metadata.' : 'target.';
  if (!words.kind || !words.apiVersion)
    throw refusal([...faults, required(`${container}.kind`, 'with its apiVersion')]);
  const [group = '', version = ''] = words.apiVersion.includes('/')
    ? words.apiVersion.split('/')
    : ['', words.apiVersion];
  const definition = registry.byKind(group, version, words.kind);
  const conversion = definition && conversionOf(definition);
  if (conversion)
    throw badRequest(
      `a transaction takes ${words.kind} in the shape that is stored: ${conversion.stored.group}/${conversion.stored.version}`,
    );
  if (!definition || definition.storage === 'none') throw notFound({ group, resource: words.kind }, words.name);
  if (definition.storage !== 'log')
    throw badRequest(`${definition.resource} are kept in a stream of their own and cannot be part of a transaction`);
  if (definition.namespaced && words.namespace === '') faults.push(required(`${at}namespace`, 'it is namespaced'));
  if (!definition.namespaced && words.namespace !== '')
    fault(`${at}namespace`, 'FieldValueForbidden', `Forbidden: ${definition.resource} have no namespace`);
  const generated = verb === 'create' && Boolean((given['object'] as Partial<ApiObject>).metadata?.generateName);
  if (words.name === '' && !generated) faults.push(required(`${at}name`, 'the name of the object'));
  const subresource = given['subresource'] ?? '';
  if (
    subresource !== '' &&
    !(subresource === 'status' && definition.subresources.some(({ name }) => name === 'status'))
  )
    faults.push(unsupported('subresource', subresource, ['status']));
  const preconditions = preconditionsOf(given['preconditions'], faults);
  const reason = ownReason(given, faults);
  const patch = verb === 'patch' ? patchOf(given, faults) : undefined;
  if (faults.length > 0) throw refusal(faults);
  const { object, propagationPolicy, gracePeriodSeconds } = given;
  return {
    verb,
    definition,
    namespace: words.namespace,
    name: words.name,
    subresource: subresource as string,
    preconditions,
    ...(reason && { reason }),
    ...(object !== undefined && { object: object as unknown as ApiObject }),
    ...(patch && { patch }),
    ...(propagationPolicy !== undefined && { propagationPolicy: propagationPolicy as string }),
    ...(gracePeriodSeconds !== undefined && { gracePeriodSeconds: gracePeriodSeconds as number }),
  };
}

const CONDITIONS: Readonly<Record<keyof Preconditions, string>> = {
  uid: 'string',
  resourceVersion: 'string',
  absent: 'boolean',
};

function preconditionsOf(given: unknown, faults: Cause[]): Preconditions {
  if (given === undefined) return {};
  if (!isObject(given)) {
    faults.push({
      field: 'preconditions',
      reason: 'FieldValueTypeInvalid',
      message: 'Invalid value: expected an object',
    });
    return {};
  }
  for (const [field, value] of Object.entries(given)) {
    const type = Object.hasOwn(CONDITIONS, field) ? CONDITIONS[field as keyof Preconditions] : undefined;
    if (type === undefined) faults.push(unsupported('preconditions', field, Object.keys(CONDITIONS)));
    else if (typeof value !== type)
      faults.push({
        field: `preconditions.${field}`,
        reason: 'FieldValueTypeInvalid',
        message: `Invalid value: ${JSON.stringify(value)}: expected a ${type}`,
      });
  }
  return given as Preconditions;
}

function ownReason({ because, source }: JsonObject, faults: Cause[]): Reason | undefined {
  const told = Object.entries({ because, source }).filter(([, value]) => value !== undefined);
  for (const [field, value] of told) {
    const why = typeof value === 'string' ? faultOfReason(value) : 'expected a string';
    if (why) faults.push({ field, reason: 'FieldValueInvalid', message: `Invalid value: ${why}` });
  }
  return told.length > 0 ? (Object.fromEntries(told) as Reason) : undefined;
}

function patchOf(given: JsonObject, faults: Cause[]): Operation['patch'] {
  const form = Object.keys(PATCH_FORMS).find((each) => each === given['patchType']) as PatchForm | undefined;
  if (!form) faults.push(unsupported('patchType', given['patchType'], Object.keys(PATCH_FORMS)));
  if (given['patch'] === undefined) faults.push(required('patch', 'what to change'));
  return form && { form, value: given['patch'] };
}

const required = (field: string, what: string): Cause => ({
  field,
  reason: 'FieldValueRequired',
  message: `Required value: ${what}`,
});

const unsupported = (field: string, value: unknown, supported: readonly string[]): Cause => ({
  field,
  reason: 'FieldValueNotSupported',
  message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported.map((each) => JSON.stringify(each)).join(', ')}`,
});

const refusal = (causes: readonly Cause[]): StatusError =>
  new StatusError('Invalid', causes.map(({ field, message }) => `${field}: ${message}`).join(', '), { causes });
