/**
 * Runs the `x-kubernetes-validations` of a schema: rules in CEL over `self`, and on update `oldSelf`. Each rule is compiled once. Called by `constraints.ts`
 * for every node that carries rules. https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
 */
import { Environment, type ParseResult } from '@marcbachmann/cel-js';
import type { Schema, ValidationRule } from '../../api-schemas/schema.ts';
import { show, type Fault } from './fault.ts';
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

const NO_RULES: readonly ValidationRule[] = [];

/** The rules of a node, compiled. */
export function prepareRules(schema: Schema): readonly CompiledRule[] {
  const rules = schema['x-kubernetes-validations'] ?? NO_RULES;
  let ready = compiled.get(rules);
  if (!ready) compiled.set(rules, (ready = rules.map(compile)));
  return ready;
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
  readonly values: CelValues;
}

/** Faults of one node. */
export function celFaults({ value, old, schema, path, sound, values }: CelNode): Fault[] {
  const ready = prepareRules(schema);
  const faults: Fault[] = [];
  // On creation no rule that compares with the old value is asked; where there are no others, nothing is turned.
  if (old === undefined && ready.every(({ transition }) => transition)) return faults;
  const self = values.of(value, schema);
  const oldSelf = old === undefined ? undefined : values.of(old, schema);
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

/**
 * JSON as CEL sees it: an integer is an int (a bigint here), a time is a timestamp. Remembers what it has turned, since the rules of a node see all that the rules below it see; so one is good for one object
 * that nobody changes meanwhile.
 */
export class CelValues {
  readonly #turned = new Map<object, unknown>();

  of(value: unknown, schema: Schema | undefined): unknown {
    switch (typeof value) {
      case 'number':
        return Number.isInteger(value) && schema?.type !== 'number' ? BigInt(value) : value;
      case 'string':
        return schema?.format === 'date-time' ? timestampOf(value) : value;
      case 'object': {
        if (value === null) return null;
        let turned = this.#turned.get(value);
        if (turned === undefined) this.#turned.set(value, (turned = this.#turn(value, schema)));
        return turned;
      }
      default:
        return value;
    }
  }

  #turn(value: object, schema: Schema | undefined): unknown {
    if (Array.isArray(value)) return value.map((item: unknown) => this.of(item, schema?.items));
    const entries = typeof schema?.additionalProperties === 'object' ? schema.additionalProperties : undefined;
    const properties = schema?.properties;
    const turned: Record<string, unknown> = {};
    for (const key of Object.keys(value)) {
      const own = properties && Object.hasOwn(properties, key) ? properties[key] : entries;
      const child = this.of((value as Record<string, unknown>)[key], own);
      if (key === '__proto__') Object.defineProperty(turned, key, { value: child, enumerable: true });
      else turned[key] = child;
    }
    return turned;
  }
}

function timestampOf(text: string): unknown {
  const time = parseTime(text);
  return time ? new Date(time.seconds * 1000 + time.nanos / 1e6) : text;
}
