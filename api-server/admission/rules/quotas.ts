/**
 * Rules for ResourceQuotas and LimitRanges. Keyed to their specs by `catalogue.ts`. Follows `ValidateResourceQuotaSpec` and `ValidateLimitRange` in `pkg/apis/core/validation`.
 */
import { parseQuantity } from '../../../api-schemas/quantity.ts';
import { duplicate, forbidden, invalid, notSupported, required, type Fault } from '../fault.ts';
import { below, objectAt, objectsAt, textAt, type JsonObject, type Rule } from './rule.ts';

const COUNTED: ReadonlySet<string> = new Set([
  'configmaps',
  'persistentvolumeclaims',
  'pods',
  'replicationcontrollers',
  'resourcequotas',
  'secrets',
  'services',
  'services.loadbalancers',
  'services.nodeports',
]);
const STANDARD: ReadonlySet<string> = new Set([
  ...COUNTED,
  ...['cpu', 'memory', 'ephemeral-storage'].flatMap((name) => [name, `requests.${name}`, `limits.${name}`]),
  'requests.storage',
]);
const POD_SCOPES = [
  'BestEffort',
  'CrossNamespacePodAffinity',
  'NotBestEffort',
  'NotTerminating',
  'PriorityClass',
  'Terminating',
];
const EXCLUSIVE = [
  ['BestEffort', 'NotBestEffort'],
  ['Terminating', 'NotTerminating'],
] as const;
/** What a scope may be about: best-effort pods can only be counted, all others of what pods use. */
const OF_PODS = /^(pods|cpu|memory|(requests|limits)\.(cpu|memory))$/;

const nanosOf = (value: unknown): bigint | undefined => parseQuantity(textAt(value))?.nanos;

function amountFaults(name: string, value: unknown, at: string): Fault[] {
  const nanos = nanosOf(value);
  if (nanos === undefined) return [];
  if (nanos < 0n) return [invalid(at, value, 'must be greater than or equal to 0')];
  const isCount = COUNTED.has(name) || name.startsWith('count/');
  return isCount && nanos % 1_000_000_000n !== 0n ? [invalid(at, value, 'must be an integer')] : [];
}

function nameFaults(name: string, at: string): Fault[] {
  const isNamed = name.includes('/') || STANDARD.has(name) || /^(requests\.)?hugepages-/.test(name);
  return isNamed ? [] : [invalid(at, name, 'must be a standard resource for quotas')];
}

function scopeFaults(spec: JsonObject, path: string): Fault[] {
  const scopes = Array.isArray(spec['scopes']) ? (spec['scopes'] as unknown[]).map(textAt) : [];
  const at = below(path, 'scopes');
  const faults = scopes
    .filter((scope) => !POD_SCOPES.includes(scope))
    .map((scope) => invalid(at, [scope], 'unsupported scope'));
  const isForeign = (scope: string) =>
    POD_SCOPES.includes(scope) &&
    Object.keys(objectAt(spec['hard'])).some(
      (name) => !(scope === 'BestEffort' ? name === 'pods' : OF_PODS.test(name)),
    );
  if (scopes.some(isForeign)) faults.push(invalid(at, scopes, 'unsupported scope applied to resource'));
  for (const pair of EXCLUSIVE)
    if (pair.every((scope) => scopes.includes(scope))) faults.push(invalid(at, scopes, 'conflicting scopes'));
  return faults;
}

function selectorFaults(spec: JsonObject, path: string): Fault[] {
  const at = below(path, 'scopeSelector.matchExpressions');
  return objectsAt(objectAt(spec['scopeSelector'])['matchExpressions']).flatMap((expression, index) => {
    const { operator, scopeName, values } = expression;
    const count = Array.isArray(values) ? values.length : 0;
    const here = `${at}[${index}]`;
    const needs = operator === 'In' || operator === 'NotIn';
    if (scopeName !== 'PriorityClass' && operator !== 'Exists')
      return [
        invalid(
          below(here, 'operator'),
          operator,
          "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
        ),
      ];
    if (needs && count === 0)
      return [
        required(
          below(here, 'values'),
          "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
      ];
    if (!needs && count > 0)
      return [
        invalid(
          below(here, 'values'),
          values,
          "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ),
      ];
    return [];
  });
}

export const resourceQuotaSpec: Rule = ({ value: spec, old, path, report }) => {
  for (const [name, amount] of Object.entries(objectAt(spec['hard']))) {
    const at = `${below(path, 'hard')}[${name}]`;
    report(...nameFaults(name, at), ...amountFaults(name, amount, at));
  }
  report(...scopeFaults(spec, path), ...selectorFaults(spec, path));
  const sorted = (value: unknown) => JSON.stringify(Array.isArray(value) ? [...(value as unknown[])].sort() : []);
  if (old && sorted(old['scopes']) !== sorted(spec['scopes']))
    report(invalid(below(path, 'scopes'), spec['scopes'], 'field is immutable'));
};

const TYPES = ['Container', 'PersistentVolumeClaim', 'Pod'];

/** One item a type. */
export const limitRangeSpec: Rule = ({ value, path, report }) => {
  const seen = new Set<string>();
  for (const [index, item] of objectsAt(value['limits']).entries()) {
    const type = textAt(item['type']);
    if (seen.has(type)) report(duplicate(below(below(path, 'limits', index), 'type'), type));
    seen.add(type);
  }
};

export const limitRangeItem: Rule = ({ value: item, path, report }) => {
  const type = textAt(item['type']);
  if (!TYPES.includes(type) && !type.includes('/')) report(notSupported(below(path, 'type'), type, TYPES));
  const [max, min, standard, request, ratio] = (
    ['max', 'min', 'default', 'defaultRequest', 'maxLimitRequestRatio'] as const
  ).map((field) => objectAt(item[field])) as [JsonObject, JsonObject, JsonObject, JsonObject, JsonObject];
  if (type === 'Pod') {
    if (Object.keys(standard).length > 0)
      report(forbidden(below(path, 'default'), "may not be specified when `type` is 'Pod'"));
    if (Object.keys(request).length > 0)
      report(forbidden(below(path, 'defaultRequest'), "may not be specified when `type` is 'Pod'"));
  }
  if (type === 'PersistentVolumeClaim' && min['storage'] === undefined && max['storage'] === undefined)
    report(required(path, 'either minimum or maximum storage value is required, but neither was provided'));
  const compare = (field: string, key: string, [small, smallName]: Bound, [great, greatName]: Bound) => {
    const left = nanosOf(small[key]);
    const right = nanosOf(great[key]);
    if (left === undefined || right === undefined || left <= right) return;
    const shown = textAt(field.startsWith(smallName) ? small[key] : great[key]);
    const says = `${smallName} value ${textAt(small[key])} is greater than ${greatName} value ${textAt(great[key])}`;
    report(invalid(`${below(path, field)}[${key}]`, shown, says));
  };
  for (const key of new Set([max, min, standard, request].flatMap((each) => Object.keys(each)))) {
    compare('min', key, [min, 'min'], [max, 'max']);
    compare('defaultRequest', key, [min, 'min'], [request, 'default request']);
    compare('defaultRequest', key, [request, 'default request'], [max, 'max']);
    compare('defaultRequest', key, [request, 'default request'], [standard, 'default']);
    compare('default', key, [min, 'min'], [standard, 'default']);
    compare('default', key, [standard, 'default'], [max, 'max']);
  }
  for (const [key, value] of Object.entries(ratio)) {
    const nanos = nanosOf(value);
    if (nanos !== undefined && nanos < 1_000_000_000n)
      report(invalid(`${below(path, 'maxLimitRequestRatio')}[${key}]`, value, `ratio ${textAt(value)} is less than 1`));
  }
};

type Bound = readonly [values: JsonObject, name: string];
