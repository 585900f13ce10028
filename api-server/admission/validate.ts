/**
 * Everything that is wrong with an object, all at once: structure (ajv), uniqueness and CEL rules, metadata, and the rules in code. Called by every write
 * verb after decoding and defaulting, with the stored object on update. An empty list admits the object.
 */
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import { customFaults } from '../custom-resources/structure.ts';
import { prepareConstraints, validateConstraints } from './constraints.ts';
import { isBare, type Fault } from './fault.ts';
import { validateMetadata } from './metadata.ts';
import { prepareStructure, validateStructure } from './structure.ts';

const WITHOUT_METADATA: ReadonlySet<string> = new Set(['metadata']);
const STATUS_ONLY: ReadonlySet<string> = new Set(['metadata', 'spec']);

/** More are not listed: nobody reads them, and a hostile body could earn a million. */
const MAX_FAULTS = 100;

export interface ValidateOptions {
  /** The subresource that is written, if one is: a status write is not judged by rules about the spec. */
  readonly subresource?: string;
}

export function validate(
  object: ApiObject,
  old: ApiObject | undefined,
  definition: ResourceDefinition,
  options: ValidateOptions = {},
): Fault[] {
  const { schema, custom } = definition;
  const structure = custom
    ? customFaults(object, old, { schema, metadata: custom.metadata })
    : validateStructure(object, definition);
  const faults = [...validateMetadata(object, old, definition), ...structure];
  const skip = options.subresource === 'status' ? STATUS_ONLY : WITHOUT_METADATA;
  const more = validateConstraints(object, schema, { old, skip, custom: custom !== undefined, known: faults });
  const told = new Set(more.filter(({ reason }) => reason === 'FieldValueRequired').map(({ field }) => field));
  return [...faults.filter((fault) => !isBare(fault) || !told.has(fault.field)), ...more].slice(0, MAX_FAULTS);
}

/** Compiles what a kind's first write would otherwise wait for: some tens of milliseconds, once. */
export function prepareValidation(definition: ResourceDefinition): void {
  if (!definition.custom) prepareStructure(definition);
  prepareConstraints(definition.schema);
}
