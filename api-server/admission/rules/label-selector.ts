/** Rules for a LabelSelector, wherever it stands. Keyed to it by `catalogue.ts`; `workloads.ts` uses the matching. Follows `ValidateLabelSelector` of apimachinery. */
import { forbidden, invalid, required } from '../fault.ts';
import { labelsFaults } from '../metadata.ts';
import { labelValue, qualifiedName } from '../names.ts';
import { below, objectAt, objectsAt, stringsAt, textAt, type JsonObject, type Rule } from './rule.ts';

export const labelSelector: Rule = ({ value, path, report }) => {
  report(...labelsFaults(stringsAt(value['matchLabels']), below(path, 'matchLabels')));
  for (const [index, requirement] of objectsAt(value['matchExpressions']).entries()) {
    const at = below(path, 'matchExpressions', index);
    const operator = textAt(requirement['operator']);
    const values = Array.isArray(requirement['values']) ? (requirement['values'] as unknown[]) : [];
    if (operator === 'In' || operator === 'NotIn') {
      if (values.length === 0)
        report(required(below(at, 'values'), "must be specified when `operator` is 'In' or 'NotIn'"));
    } else if (operator === 'Exists' || operator === 'DoesNotExist') {
      if (values.length > 0)
        report(forbidden(below(at, 'values'), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
    } else report(invalid(below(at, 'operator'), operator, 'not a valid selector operator'));
    report(
      ...qualifiedName(textAt(requirement['key'])).map((says) => invalid(below(at, 'key'), requirement['key'], says)),
    );
    report(
      ...values.flatMap((each, place) =>
        labelValue(textAt(each)).map((says) => invalid(below(at, 'values', place), each, says)),
      ),
    );
  }
};

export const selectsNothing = (selector: JsonObject): boolean =>
  Object.keys(stringsAt(selector['matchLabels'])).length === 0 && objectsAt(selector['matchExpressions']).length === 0;

/** Whether labels satisfy a selector; an empty selector matches everything. */
export function selectorMatches(selector: JsonObject, labels: Readonly<Record<string, string>>): boolean {
  const has = (key: string): boolean => Object.hasOwn(labels, key);
  const equal = Object.entries(stringsAt(selector['matchLabels'])).every(
    ([key, value]) => has(key) && labels[key] === value,
  );
  return (
    equal &&
    objectsAt(selector['matchExpressions']).every((requirement) => {
      const key = textAt(requirement['key']);
      const values = Array.isArray(requirement['values']) ? requirement['values'] : [];
      switch (requirement['operator']) {
        case 'In':
          return has(key) && values.includes(labels[key]);
        case 'NotIn':
          return !has(key) || !values.includes(labels[key]);
        case 'Exists':
          return has(key);
        case 'DoesNotExist':
          return !has(key);
        default:
          return false;
      }
    })
  );
}

export const templateLabels = (spec: JsonObject): Readonly<Record<string, string>> =>
  stringsAt(objectAt(objectAt(spec['template'])['metadata'])['labels']);
