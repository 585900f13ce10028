/**
 * Runs the `x-kubernetes-validations` of a schema: rules in CEL over `self`, and on update `oldSelf`. Each rule is compiled once. Called by `constraints.ts`
 * for every node that carries rules. https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
 */
import { Environment, type ParseResult } from '@marcbachmann/cel-js';
import type { Schema, ValidationRule } from '../../api-schemas/schema.ts';
import { show, type Fault } from './fault.ts';
import { specialType } from './scalar-kinds.ts';
import { parseTime } from './time.ts';

interface CompiledRule {
  readonly rule: ValidationRule;
  /** Compares with the old value, so it holds on creation. */
  readonly transition: boolean;
  readonly run: ParseResult | undefined;
  readonly failure: string;
}

const environment = new Environment({
  unlistedVariablesAreDyn: true,
  homogeneousAggregateLiterals: false,
  enableOptionalTypes: true,
})
  .registerVariable('self', 'dyn')
  .registerVariable('oldSelf', 'dyn');

const compiled = new WeakMap<readonly ValidationRule[], readonly CompiledRule[]>();

function compile(rule: ValidationRule): CompiledRule {
  const transition = /\boldSelf\b/.test(rule.rule);
  try {
    return { rule, transition, run: environment.parse(rule.rule), failure: '' };
  } catch (cause) {
    return {
      rule,
      transition,
      run: undefined,
      failure: cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause),
    };
  }
}

/** What is wrong with a rule itself, if anything; asked when a CustomResourceDefinition is admitted. */
export function ruleFault(rule: ValidationRule): string | undefined {
  const { failure } = compile(rule);
  return failure === '' ? undefined : failure;
}

export interface CelNode {
  readonly value: unknown;
  /** Undefined on creation, and where the node is new. */
  readonly old: unknown;
  readonly schema: Schema;
  readonly path: string;
  /** The structure is known to be sound, so a rule that cannot be evaluated is a fault of its own. */
  readonly sound: boolean;
}

/** Faults of one node. */
export function celFaults({ value, old, schema, path, sound }: CelNode): Fault[] {
  const rules = schema['x-kubernetes-validations'] ?? [];
  let ready = compiled.get(rules);
  if (!ready) compiled.set(rules, (ready = rules.map(compile)));
  const faults: Fault[] = [];
  const self = celValue(value, schema);
  const oldSelf = old === undefined ? undefined : celValue(old, schema);
  for (const { rule, transition, run, failure } of ready) {
    if (transition && oldSelf === undefined) continue;
    const says = run
      ? verdict(run, { self, oldSelf, rule, sound })
      : `rule cannot be compiled: ${rule.rule}: ${failure}`;
    if (says === undefined) continue;
    const reason = rule.reason ?? 'FieldValueInvalid';
    faults.push({ reason, message: worded(reason, value, says), field: joined(path, rule.fieldPath) });
  }
  return faults;
}

/** Undefined when the rule holds. */
function verdict(
  run: ParseResult,
  { self, oldSelf, rule, sound }: { self: unknown; oldSelf: unknown; rule: ValidationRule; sound: boolean },
): string | undefined {
  try {
    if (run(oldSelf === undefined ? { self } : { self, oldSelf }) === true) return undefined;
    return rule.message ?? `failed rule: ${rule.rule}`;
  } catch (cause) {
    if (!sound) return undefined;
    return `${rule.message ?? `failed rule: ${rule.rule}`} (${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)})`;
  }
}

function worded(reason: NonNullable<ValidationRule['reason']>, value: unknown, says: string): string {
  // An object says only its type, as Kubernetes does: all of it would drown the message.
  const shown = Array.isArray(value) ? '"array"' : typeof value === 'object' ? '"object"' : show(value);
  switch (reason) {
    case 'FieldValueRequired':
      return `Required value: ${says}`;
    case 'FieldValueForbidden':
      return `Forbidden: ${says}`;
    case 'FieldValueDuplicate':
      return `Duplicate value: ${shown}: ${says}`;
    case 'FieldValueInvalid':
      return `Invalid value: ${shown}: ${says}`;
    default:
      return reason satisfies never;
  }
}

const joined = (path: string, below = ''): string => (path === '' ? below.replace(/^\./, '') : `${path}${below}`);

/** JSON as CEL sees it: an integer is an int (a bigint here), a time is a timestamp. */
function celValue(value: unknown, schema: Schema | undefined): unknown {
  const special = schema ? specialType(schema) : undefined;
  if (typeof value === 'number') {
    return Number.isInteger(value) && schema?.type !== 'number' ? BigInt(value) : value;
  }
  if (typeof value === 'string' && (special === 'time' || special === 'microTime' || schema?.format === 'date-time')) {
    const time = parseTime(value);
    return time ? new Date(time.seconds * 1000 + time.nanos / 1e6) : value;
  }
  if (Array.isArray(value)) return value.map((item) => celValue(item, schema?.items));
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).map(([key, child]) => {
      const own = schema?.properties && Object.hasOwn(schema.properties, key) ? schema.properties[key] : undefined;
      return [
        key,
        celValue(
          child,
          own ?? (typeof schema?.additionalProperties === 'object' ? schema.additionalProperties : undefined),
        ),
      ] as const;
    });
    return Object.fromEntries(entries);
  }
  return value;
}
