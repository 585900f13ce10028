/**
 * Rules for Jobs and for the Jobs that a CronJob makes: whose pods they count, how they end, and what of a failure they may ask. Keyed to the types by `catalogue.ts`. Follows `pkg/apis/batch/validation`; what CEL can say of
 * a JobSpec stands in its schema.
 */
import { invalid, notSupported, required, tooMany, type Fault } from '../fault.ts';
import { selectorMatches, templateLabels } from './label-selector.ts';
import { below, objectAt, objectsAt, textAt, type JsonObject, type Rule } from './rule.ts';

const MAX_EXIT_CODES = 255;

export const jobSpec: Rule = ({ value: spec, path, report }) => {
  const rules = objectsAt(objectAt(spec['podFailurePolicy'])['rules']);
  for (const [index, rule] of rules.entries())
    report(...failureRuleFaults(rule, below(below(path, 'podFailurePolicy'), 'rules', index), spec));
};

function failureRuleFaults(rule: JsonObject, path: string, spec: JsonObject): Fault[] {
  const faults: Fault[] = [];
  if (rule['action'] === 'FailIndex' && spec['backoffLimitPerIndex'] === undefined)
    faults.push(invalid(below(path, 'action'), 'FailIndex', 'requires the backoffLimitPerIndex to be set'));
  const asked = [rule['onExitCodes'] !== undefined, objectsAt(rule['onPodConditions']).length > 0];
  if (asked.every((each) => each))
    faults.push(unshown(path, 'specifying both OnExitCodes and OnPodConditions is not supported'));
  if (!asked.includes(true))
    faults.push(unshown(path, 'specifying one of OnExitCodes and OnPodConditions is required'));
  if (rule['onExitCodes'] !== undefined)
    faults.push(...exitCodeFaults(objectAt(rule['onExitCodes']), below(path, 'onExitCodes'), spec));
  return faults;
}

/** Where the value would drown what is said of it, Kubernetes leaves it out. */
const unshown = (field: string, says: string): Fault => ({
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${says}`,
  field,
});

function exitCodeFaults(wanted: JsonObject, path: string, spec: JsonObject): Fault[] {
  const faults: Fault[] = [];
  const template = objectAt(objectAt(spec['template'])['spec']);
  const names = ['containers', 'initContainers'].flatMap((list) => objectsAt(template[list]).map(({ name }) => name));
  const name = wanted['containerName'];
  if (name !== undefined && !names.includes(name)) {
    const says = 'must be one of the container or initContainer names in the pod template';
    faults.push(invalid(below(path, 'containerName'), name, says));
  }
  const at = below(path, 'values');
  const codes = Array.isArray(wanted['values']) ? (wanted['values'] as unknown[]) : [];
  if (codes.length === 0) faults.push(invalid(at, codes, 'at least one value is required'));
  if (codes.length > MAX_EXIT_CODES) faults.push(tooMany(at, codes.length, MAX_EXIT_CODES));
  for (const [index, code] of codes.entries())
    if (code === 0 && wanted['operator'] === 'In')
      faults.push(invalid(`${at}[${index}]`, code, 'must not be 0 for the In operator'));
  if (codes.some((code, index) => index > 0 && (code as number) < (codes[index - 1] as number)))
    faults.push(invalid(at, codes, 'must be ordered'));
  return faults;
}

/** Of a Job alone: what a template makes has its selector yet to come. */
export const job: Rule = ({ value, old, report }) => {
  if (old) return;
  const spec = objectAt(value['spec']);
  const selector = spec['selector'];
  if (selector === undefined) {
    if (spec['manualSelector'] !== true) return;
    report(required('spec.selector'), unmatched(spec));
    return;
  }
  const uid = textAt(objectAt(value['metadata'])['uid']);
  const name = textAt(objectAt(value['metadata'])['name']);
  const generated = Object.fromEntries(
    ['', 'batch.kubernetes.io/'].flatMap((prefix) => [
      [`${prefix}controller-uid`, uid],
      [`${prefix}job-name`, name],
    ]),
  );
  if (spec['manualSelector'] !== true && !selectorMatches(objectAt(selector), generated))
    report(invalid('spec.selector', selector, '`selector` not auto-generated'));
  if (!selectorMatches(objectAt(selector), templateLabels(spec))) report(unmatched(spec));
};

const unmatched = (spec: JsonObject): Fault =>
  invalid('spec.template.metadata.labels', templateLabels(spec), '`selector` does not match template `labels`');

/** A CronJob's Jobs get their selectors one by one. */
export const jobTemplateSpec: Rule = ({ value, path, report }) => {
  const spec = objectAt(value['spec']);
  const at = below(path, 'spec');
  if (spec['selector'] !== undefined)
    report(invalid(below(at, 'selector'), spec['selector'], '`selector` will be auto-generated'));
  if (spec['manualSelector'] === true) report(notSupported(below(at, 'manualSelector'), true, ['nil', 'false']));
};
