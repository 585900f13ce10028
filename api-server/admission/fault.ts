/**
 * One thing that is wrong with an object, worded as Kubernetes words it (apimachinery's `field.Error`), and the constructors that every rule of
 * this room uses. The verbs turn a list of faults into one 422 Invalid with a cause each; a Fault is a `Cause` of api-server/errors.ts.
 */

export type FaultReason =
  | 'FieldValueRequired'
  | 'FieldValueInvalid'
  | 'FieldValueTypeInvalid'
  | 'FieldValueNotSupported'
  | 'FieldValueDuplicate'
  | 'FieldValueForbidden'
  | 'FieldValueNotFound'
  | 'FieldValueTooLong'
  | 'FieldValueTooMany';

export interface Fault {
  readonly reason: FaultReason;
  readonly message: string;
  /** Field path such as `spec.template.spec.containers[0].name`. */
  readonly field: string;
}

/** Go prints a string in quotes and everything else as JSON; long values are cut, since a message is for reading. */
const MAX_SHOWN_CHARACTERS = 256;

export function show(value: unknown): string {
  if (value === undefined) return 'null';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > MAX_SHOWN_CHARACTERS ? `${text.slice(0, MAX_SHOWN_CHARACTERS)}…` : text;
}

export const required = (field: string, detail = ''): Fault => ({
  reason: 'FieldValueRequired',
  message: detail ? `Required value: ${detail}` : 'Required value',
  field,
});

/** What structure says of something that is not there; a rule that says what it is there for is asked instead. */
export const isBare = ({ message }: Fault): boolean => message === 'Required value';

export const invalid = (field: string, value: unknown, detail: string): Fault => ({
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${show(value)}: ${detail}`,
  field,
});

export const typeInvalid = (field: string, value: unknown, detail: string): Fault => ({
  reason: 'FieldValueTypeInvalid',
  message: `Invalid value: ${show(value)}: ${detail}`,
  field,
});

export const notSupported = (field: string, value: unknown, supported: readonly unknown[]): Fault => ({
  reason: 'FieldValueNotSupported',
  message: `Unsupported value: ${show(value)}: supported values: ${[...new Set(supported)].map(show).join(', ')}`,
  field,
});

export const duplicate = (field: string, value: unknown): Fault => ({
  reason: 'FieldValueDuplicate',
  message: `Duplicate value: ${show(value)}`,
  field,
});

export const forbidden = (field: string, detail: string): Fault => ({
  reason: 'FieldValueForbidden',
  message: `Forbidden: ${detail}`,
  field,
});

export const notFound = (field: string, value: unknown): Fault => ({
  reason: 'FieldValueNotFound',
  message: `Not found: ${show(value)}`,
  field,
});

export const tooLong = (field: string, maxBytes: number): Fault => ({
  reason: 'FieldValueTooLong',
  message: `Too long: may not be more than ${maxBytes} bytes`,
  field,
});

export const tooMany = (field: string, count: number, max: number): Fault => ({
  reason: 'FieldValueTooMany',
  message: `Too many: ${count}: must have at most ${max} items`,
  field,
});
