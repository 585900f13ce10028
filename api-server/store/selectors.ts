/**
 * Label and field selectors in their query-string form (`app=web,tier in (a,b)`, `status.phase!=Failed`), compiled to predicates for lists and watches.
 * https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api
 */
import { labelValue, qualifiedName } from '../admission/names.ts';
import { badRequest } from '../errors.ts';

export type LabelPredicate = (labels: Readonly<Record<string, string>>) => boolean;

const SET_REQUIREMENT = /^(!?)\s*([^\s!=,()<>]+)\s*(?:\s(in|notin)\s*\(([^()]*)\))?$/;
const VALUE_REQUIREMENT = /^([^\s!=,()<>]+)\s*(==|=|!=|<|>)\s*([^\s!=,()<>]*)$/;
const INTEGER = /^[+-]?\d{1,18}$/;

/** Splits at commas that stand outside parentheses. */
function requirements(selector: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let index = 0; index < selector.length; index++) {
    const character = selector[index];
    if (character === '(') depth++;
    else if (character === ')') depth--;
    else if (character === ',' && depth === 0) {
      parts.push(selector.slice(start, index));
      start = index + 1;
    }
  }
  parts.push(selector.slice(start));
  return parts.map((part) => part.trim());
}

function compileRequirement(requirement: string, selector: string): LabelPredicate {
  const single = VALUE_REQUIREMENT.exec(requirement);
  if (single) {
    const [, key = '', operator, value = ''] = single;
    checkRequirement(key, [value]);
    if (operator === '<' || operator === '>') return compileComparison(key, operator, value);
    return operator === '!=' ? (labels) => labels[key] !== value : (labels) => labels[key] === value;
  }
  const set = SET_REQUIREMENT.exec(requirement);
  if (!set)
    throw badRequest(
      `unable to parse requirement: in label selector ${JSON.stringify(selector)}: ${JSON.stringify(requirement)} - expected key=value, key!=value, key in (a,b), key notin (a,b), key>1, key<1, key or !key`,
    );
  const [, negated, key = '', operator, list = ''] = set;
  const values = new Set(list.split(',').map((value) => value.trim()));
  checkRequirement(key, operator === undefined ? [] : [...values]);
  if (operator === 'in') return (labels) => labels[key] !== undefined && values.has(labels[key]);
  if (operator === 'notin') return (labels) => labels[key] === undefined || !values.has(labels[key]);
  return negated ? (labels) => labels[key] === undefined : (labels) => labels[key] !== undefined;
}

/** A key or value that no label can have selects nothing, or with `!=` everything: that is never what was meant. */
function checkRequirement(key: string, values: readonly string[]): void {
  const faults = [
    ...qualifiedName(key).map((says) => `key: Invalid value: ${JSON.stringify(key)}: ${says}`),
    ...values.flatMap((value, index) =>
      labelValue(value).map((says) => `values[${index}][${key}]: Invalid value: ${JSON.stringify(value)}: ${says}`),
    ),
  ];
  if (faults.length > 0) throw badRequest(`unable to parse requirement: ${inBrackets(faults)}`);
}

const inBrackets = (faults: readonly string[]): string =>
  faults.length === 1 ? (faults[0] ?? '') : `[${faults.join(', ')}]`;

/** Labels that are no integers are neither greater nor less. */
function compileComparison(key: string, operator: '<' | '>', value: string): LabelPredicate {
  if (!INTEGER.test(value))
    throw badRequest(
      `unable to parse requirement: values[0]: Invalid value: ${JSON.stringify(value)}: for 'Gt', 'Lt' operators, the value must be an integer`,
    );
  const bound = BigInt(value);
  return ({ [key]: label = '' }) =>
    INTEGER.test(label) && (operator === '<' ? BigInt(label) < bound : BigInt(label) > bound);
}

/** Undefined for an empty selector, which selects everything. Throws BadRequest. */
export function parseLabelSelector(selector: string | null): LabelPredicate | undefined {
  if (!selector?.trim()) return undefined;
  const all = requirements(selector).map((requirement) => compileRequirement(requirement, selector));
  return (labels) => all.every((matches) => matches(labels));
}

/** A label selector in the form of a query string. */
export function selectorText(selector: unknown): string {
  if (typeof selector === 'string') return selector;
  const { matchLabels = {}, matchExpressions = [] } = (selector ?? {}) as {
    matchLabels?: Record<string, string>;
    matchExpressions?: { key: string; operator: string; values?: string[] }[];
  };
  const expressions = matchExpressions.map(({ key, operator, values = [] }) => {
    if (operator === 'Exists') return key;
    if (operator === 'DoesNotExist') return `!${key}`;
    return `${key} ${operator === 'In' ? 'in' : 'notin'} (${values.join(',')})`;
  });
  return [...Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`), ...expressions].join(',');
}

export interface FieldRequirement {
  readonly field: string;
  readonly value: string;
  readonly negated: boolean;
}

const FIELD_REQUIREMENT = /^([^=!]+)(!=|==|=)(.*)$/s;
/** A comma, an equals sign and a backslash stand behind a backslash. */
const ESCAPED_VALUE = /^(?:[^\\,=]|\\[\\,=])*$/s;

/** Splits at commas that stand behind no backslash. */
function fieldTerms(selector: string): string[] {
  const terms: string[] = [];
  let start = 0;
  for (let index = 0; index < selector.length; index++) {
    if (selector[index] === '\\') index++;
    else if (selector[index] === ',') {
      terms.push(selector.slice(start, index));
      start = index + 1;
    }
  }
  terms.push(selector.slice(start));
  return terms.filter((term) => term.trim() !== '');
}

/** Throws BadRequest for a field that the resource does not offer. No expression here looks twice at a character: a selector may be as long as a URL. */
export function parseFieldSelector(selector: string | null, selectable: readonly string[]): FieldRequirement[] {
  return fieldTerms(selector ?? '').map((term) => {
    const [, name = '', operator, escaped = ''] = FIELD_REQUIREMENT.exec(term) ?? [];
    const [field, value] = [name.trim(), escaped.trim()];
    if (field === '' || !ESCAPED_VALUE.test(value))
      throw badRequest(
        `invalid field selector ${JSON.stringify(selector)}: expected field=value or field!=value, with a backslash before a comma, an equals sign or a backslash of the value, got ${JSON.stringify(term)}`,
      );
    if (!selectable.includes(field))
      throw badRequest(`field label not supported: ${field} (supported: ${selectable.join(', ')})`);
    return { field, value: value.replaceAll(/\\([\\,=])/g, '$1'), negated: operator === '!=' };
  });
}

/** The fields that every resource offers. */
export const METADATA_FIELDS = ['metadata.name', 'metadata.namespace'] as const;

/** The value that a field selector compares: a missing field is the empty string. */
export function fieldValue(object: unknown, path: string): string {
  let value: unknown = object;
  for (const part of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return '';
    value = (value as Record<string, unknown>)[part];
  }
  return value === undefined || value === null ? '' : String(value);
}
