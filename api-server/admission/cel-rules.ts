/**
 * Runs the `x-kubernetes-validations` of a schema: rules in CEL over `self`, and on update `oldSelf`. Each rule is compiled once; those of custom kinds count their steps (`cel/metered.ts`). Called by `constraints.ts`
 * for every node that carries rules. https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
 */
import { Environment, Optional } from '@marcbachmann/cel-js';
import type { Schema, ValidationRule } from '../../api-schemas/schema.ts';
import { registerLibrary } from './cel/library.ts';
import { BudgetError, compileMetered, MAX_STEPS, type Budget } from './cel/metered.ts';
import { celName } from './cel/names.ts';
import { show, type Fault } from './fault.ts';
import { parseTime } from './time.ts';

interface CompiledRule {
  readonly rule: ValidationRule;
  /** Compares with the old value. */
  readonly comparing: boolean;
  /** And so it holds on creation. */
  readonly transition: boolean;
  readonly run: Run | undefined;
  readonly messageRun?: Run | undefined;
  readonly failure: string;
}

type Run = (variables: Record<string, unknown>, budget: Budget) => unknown;

const OPTIONS = { homogeneousAggregateLiterals: false, enableOptionalTypes: true };

const environment = new Environment({ ...OPTIONS, unlistedVariablesAreDyn: true })
  .registerVariable('self', 'dyn')
  .registerVariable('oldSelf', 'dyn');

/** What users' rules are written in: with Kubernetes' functions, and no variable beside the two. */
export const userLibrary = registerLibrary(new Environment(OPTIONS));
const userEnvironment = userLibrary.clone().registerVariable('self', 'dyn').registerVariable('oldSelf', 'dyn');
/** Of rules that are asked where there is no old value, too. */
const optionalEnvironment = userLibrary
  .clone()
  .registerVariable('self', 'dyn')
  .registerVariable('oldSelf', 'optional<dyn>');

const compiled = new WeakMap<readonly ValidationRule[], readonly CompiledRule[]>();
const compiledOfUsers = new WeakMap<readonly ValidationRule[], readonly CompiledRule[]>();

const namesOldSelf = (expression: string): boolean => /\boldSelf\b/.test(expression);

function compile(rule: ValidationRule): CompiledRule {
  const comparing = namesOldSelf(rule.rule);
  const about = { rule, comparing, transition: comparing };
  try {
    return { ...about, run: environment.parse(rule.rule), failure: '' };
  } catch (cause) {
    return { ...about, run: undefined, failure: firstLine(cause) };
  }
}

function compileOfUser(rule: ValidationRule): CompiledRule {
  const comparing = namesOldSelf(rule.rule);
  const about = { rule, comparing, transition: comparing && rule.optionalOldSelf !== true };
  try {
    const language = rule.optionalOldSelf === true ? optionalEnvironment : userEnvironment;
    const { run } = compileMetered(rule.rule, language, 'bool');
    return { ...about, run, messageRun: messageOf(rule, language), failure: '' };
  } catch (cause) {
    return { ...about, run: undefined, failure: firstLine(cause) };
  }
}

const messageOf = ({ messageExpression }: ValidationRule, language: Environment): Run | undefined =>
  messageExpression === undefined ? undefined : compileMetered(messageExpression, language, 'string').run;

export const firstLine = (cause: unknown): string =>
  cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause);

const NO_RULES: readonly ValidationRule[] = [];

/** The rules of a node, compiled. */
export function prepareRules(schema: Schema, ofUser = false): readonly CompiledRule[] {
  const rules = schema['x-kubernetes-validations'] ?? NO_RULES;
  const cache = ofUser ? compiledOfUsers : compiled;
  let ready = cache.get(rules);
  if (!ready) cache.set(rules, (ready = rules.map(ofUser ? compileOfUser : compile)));
  return ready;
}

export interface CelNode {
  readonly value: unknown;
  /** Undefined on creation, and where the node is new. */
  readonly old: unknown;
  readonly schema: Schema;
  readonly path: string;
  /** The value is what it was: only rules that compare with the old one are asked. */
  readonly unchanged?: boolean;
  /** The structure is known to be sound, so a rule that cannot be evaluated is a fault of its own. */
  readonly sound: boolean;
  readonly values: CelValues;
}

/** Faults of one node. */
export function celFaults({ value, old, unchanged, schema, path, sound, values }: CelNode): Fault[] {
  const ready = prepareRules(schema, values.ofUser);
  const faults: Fault[] = [];
  // On creation no rule that compares with the old value is asked; where there are no others, nothing is turned.
  if (old === undefined && ready.every(({ transition }) => transition)) return faults;
  const self = values.of(value, schema);
  const oldSelf = old === undefined ? undefined : values.of(old, schema);
  for (const one of ready) {
    if (one.comparing ? one.transition && oldSelf === undefined : unchanged) continue;
    const { rule } = one;
    const says = verdict(one, { self, oldSelf: rule.optionalOldSelf ? Optional.of(oldSelf) : oldSelf }, values, sound);
    if (says === undefined) continue;
    const reason = rule.reason ?? 'FieldValueInvalid';
    faults.push({
      reason,
      message: worded(reason, values.ofUser ? value : shownOf(value, schema, rule), says),
      field: joined(path, rule.fieldPath),
    });
    if (values.budget.left < 0) break;
  }
  return faults;
}

/** Undefined when the rule holds. */
function verdict(
  { rule, run, messageRun, failure }: CompiledRule,
  { self, oldSelf }: { self: unknown; oldSelf: unknown },
  { budget }: CelValues,
  sound: boolean,
): string | undefined {
  if (!run) return `rule cannot be compiled: ${rule.rule}: ${failure}`;
  const variables = oldSelf === undefined ? { self } : { self, oldSelf };
  try {
    if (run(variables, budget) === true) return undefined;
    return told(messageRun, variables, budget) ?? rule.message ?? `failed rule: ${rule.rule}`;
  } catch (cause) {
    if (budget.left < 0) return OUT_OF_STEPS;
    if (!sound) return undefined;
    return `${rule.message ?? `failed rule: ${rule.rule}`} (${firstLine(cause)})`;
  }
}

const OUT_OF_STEPS = 'validation failed due to running out of cost budget, no further validation rules will be run';
const MAX_MESSAGE_LENGTH = 5 * 1024;

/** What the message expression says, if that is a line of text. */
function told(run: Run | undefined, variables: Record<string, unknown>, budget: Budget): string | undefined {
  if (!run) return undefined;
  try {
    const message = run(variables, budget);
    if (typeof message !== 'string' || message.trim() === '' || message.includes('\n')) return undefined;
    return message.length > MAX_MESSAGE_LENGTH ? undefined : message;
  } catch (error) {
    if (error instanceof BudgetError) throw error;
    return undefined;
  }
}

/** What a fault is about: of a built-in kind the field that it names, as Kubernetes' own rules have it; of a custom kind the node that the rule stands on. */
function shownOf(value: unknown, { title }: Schema, { fieldPath }: ValidationRule): unknown {
  if (fieldPath === undefined || title === undefined) return value;
  const steps = fieldPath.split('.').filter(Boolean);
  return steps.reduce((node, step) => (node as Record<string, unknown> | null | undefined)?.[step], value) ?? value;
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
  /** Of a custom kind: fields by the names that CEL can say, and formats as the types that they stand for. */
  readonly ofUser: boolean;
  /** What the rules of the object may still cost. */
  readonly budget: Budget = { left: MAX_STEPS };

  constructor(ofUser = false) {
    this.ofUser = ofUser;
  }

  of(value: unknown, schema: Schema | undefined): unknown {
    switch (typeof value) {
      case 'number':
        return Number.isInteger(value) && schema?.type !== 'number' ? BigInt(value) : value;
      case 'string':
        return this.#text(value, schema?.format);
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

  #text(value: string, format: string | undefined): unknown {
    if (format === 'date-time') return timestampOf(value);
    if (!this.ofUser) return value;
    if (format === 'datetime' || format === 'date')
      return timestampOf(format === 'date' ? `${value}T00:00:00Z` : value);
    if (format === 'byte') return new Uint8Array(Buffer.from(value, 'base64'));
    return format === 'duration' ? durationOf(value) : value;
  }

  #turn(value: object, schema: Schema | undefined): unknown {
    if (Array.isArray(value)) return value.map((item: unknown) => this.of(item, schema?.items));
    const entries = typeof schema?.additionalProperties === 'object' ? schema.additionalProperties : undefined;
    const properties = schema?.properties;
    const turned: Record<string, unknown> = {};
    let awkward: Map<string, unknown> | undefined;
    for (const key of Object.keys(value)) {
      const own = properties && Object.hasOwn(properties, key) ? properties[key] : entries;
      const child = this.of((value as Record<string, unknown>)[key], own);
      const name = this.ofUser && own !== undefined && own !== entries ? celName(key) : key;
      if (name === undefined) continue;
      if (name === '__proto__' || name === 'constructor') (awkward ??= new Map()).set(name, child);
      else turned[name] = child;
    }
    // The library tells the type of an object by its constructor, which a field of that name would hide.
    return awkward ? new Map([...Object.entries(turned), ...awkward]) : turned;
  }
}

/** A duration is the library's own type, which only an expression can make; what is none stays the text that it is. */
function durationOf(text: string): unknown {
  try {
    return userEnvironment.evaluate('duration(self)', { self: text }) as unknown;
  } catch {
    return text;
  }
}

function timestampOf(text: string): unknown {
  const time = parseTime(text);
  return time ? new Date(time.seconds * 1000 + time.nanos / 1e6) : text;
}
