/**
 * Rules for the kinds that make pods from a template: the selector must select what the template makes, counts must be counts, and a rollout must be
 * able to move. Keyed to the specs by `catalogue.ts`. Follows `pkg/apis/apps/validation` and `pkg/apis/batch/validation`.
 */
import { forbidden, invalid, notSupported, required, type Fault } from '../fault.ts';
import { selectorMatches, selectsNothing, templateLabels } from './label-selector.ts';
import { below, objectAt, objectsAt, sameJson, textAt, type JsonObject, type Rule, type Visit } from './rule.ts';

function notNegative(spec: JsonObject, path: string, ...fields: string[]): Fault[] {
  return fields.flatMap((field) => {
    const value = spec[field];
    return typeof value === 'number' && value < 0
      ? [invalid(below(path, field), value, 'must be greater than or equal to 0')]
      : [];
  });
}

function selectorFaults({ value: spec, old, path }: Visit): Fault[] {
  if (spec['selector'] === undefined) return [required(below(path, 'selector'))];
  const selector = objectAt(spec['selector']);
  const at = below(path, 'selector');
  if (selectsNothing(selector)) return [invalid(at, selector, 'empty selector is invalid')];
  const faults: Fault[] = [];
  if (!selectorMatches(selector, templateLabels(spec))) {
    faults.push(
      invalid(
        below(path, 'template.metadata.labels'),
        templateLabels(spec),
        '`selector` does not match template `labels`',
      ),
    );
  }
  if (old && !sameJson(old['selector'], spec['selector'])) faults.push(invalid(at, selector, 'field is immutable'));
  return faults;
}

function restartFaults({ value: spec, path }: Visit): Fault[] {
  const template = objectAt(objectAt(spec['template'])['spec']);
  const policy = textAt(template['restartPolicy']);
  const faults: Fault[] = [];
  if (policy !== '' && policy !== 'Always')
    faults.push(notSupported(below(path, 'template.spec.restartPolicy'), policy, ['Always']));
  if (template['activeDeadlineSeconds'] !== undefined) {
    faults.push(
      forbidden(
        below(path, 'template.spec.activeDeadlineSeconds'),
        'activeDeadlineSeconds in this kind of object is not supported',
      ),
    );
  }
  return faults;
}

/** Undefined for what is neither a count nor a percentage. */
function countOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  const percent = /^(\d+)%$/.exec(textAt(value))?.[1];
  return percent === undefined ? undefined : Number(percent);
}

function countFaults(settings: JsonObject, path: string, field: string, max100: boolean): Fault[] {
  const value = settings[field];
  if (value === undefined) return [];
  const at = below(path, field);
  const count = countOf(value);
  if (count === undefined) {
    return [
      invalid(
        at,
        value,
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%', or '93%', regex used for validation is '[0-9]+%')",
      ),
    ];
  }
  if (count < 0) return [invalid(at, value, 'must be greater than or equal to 0')];
  return max100 && typeof value === 'string' && count > 100
    ? [invalid(at, value, 'must not be greater than 100%')]
    : [];
}

export const deploymentSpec: Rule = (visit) => {
  const { value: spec, path, report } = visit;
  report(...selectorFaults(visit), ...restartFaults(visit));
  report(...notNegative(spec, path, 'replicas', 'minReadySeconds', 'revisionHistoryLimit', 'progressDeadlineSeconds'));
  const { minReadySeconds = 0, progressDeadlineSeconds } = spec as {
    minReadySeconds?: number;
    progressDeadlineSeconds?: number;
  };
  if (progressDeadlineSeconds !== undefined && progressDeadlineSeconds <= minReadySeconds) {
    report(
      invalid(below(path, 'progressDeadlineSeconds'), progressDeadlineSeconds, 'must be greater than minReadySeconds'),
    );
  }
  const strategy = objectAt(spec['strategy']);
  const at = below(path, 'strategy');
  if (strategy['type'] === 'Recreate' && strategy['rollingUpdate'] !== undefined) {
    report(forbidden(below(at, 'rollingUpdate'), "may not be specified when strategy `type` is 'Recreate'"));
  } else if (strategy['rollingUpdate'] !== undefined)
    report(...rollingUpdateFaults(objectAt(strategy['rollingUpdate']), below(at, 'rollingUpdate'), 'maxSurge'));
};

function rollingUpdateFaults(settings: JsonObject, path: string, zeroWith: string): Fault[] {
  const faults = [
    ...countFaults(settings, path, 'maxUnavailable', true),
    ...countFaults(settings, path, 'maxSurge', false),
  ];
  if (countOf(settings['maxUnavailable']) === 0 && countOf(settings['maxSurge']) === 0) {
    faults.push(
      invalid(below(path, 'maxUnavailable'), settings['maxUnavailable'], `may not be 0 when \`${zeroWith}\` is 0`),
    );
  }
  return faults;
}

export const replicaSetSpec: Rule = (visit) => {
  visit.report(
    ...selectorFaults(visit),
    ...restartFaults(visit),
    ...notNegative(visit.value, visit.path, 'replicas', 'minReadySeconds'),
  );
};

export const daemonSetSpec: Rule = (visit) => {
  const { value: spec, path, report } = visit;
  report(
    ...selectorFaults(visit),
    ...restartFaults(visit),
    ...notNegative(spec, path, 'minReadySeconds', 'revisionHistoryLimit'),
  );
  const strategy = objectAt(spec['updateStrategy']);
  if (strategy['rollingUpdate'] !== undefined)
    report(
      ...rollingUpdateFaults(
        objectAt(strategy['rollingUpdate']),
        below(path, 'updateStrategy.rollingUpdate'),
        'maxSurge',
      ),
    );
};

export const statefulSetSpec: Rule = (visit) => {
  const { value: spec, path, report } = visit;
  report(
    ...selectorFaults(visit),
    ...restartFaults(visit),
    ...notNegative(spec, path, 'replicas', 'minReadySeconds', 'revisionHistoryLimit'),
  );
};

export const cronJobSpec: Rule = ({ value: spec, path, report }) => {
  const schedule = textAt(spec['schedule']);
  if (schedule === '') report(required(below(path, 'schedule')));
  else if (
    !/^@(yearly|annually|monthly|weekly|daily|midnight|hourly|every \S+)$|^(\S+\s+){4}\S+$/.test(schedule.trim())
  ) {
    report(
      invalid(
        below(path, 'schedule'),
        schedule,
        `expected exactly 5 fields, found ${schedule.trim().split(/\s+/).length}: ${schedule}`,
      ),
    );
  }
  report(...notNegative(spec, path, 'startingDeadlineSeconds', 'successfulJobsHistoryLimit', 'failedJobsHistoryLimit'));
};

/** The old kind: a map for a selector. */
export const replicationControllerSpec: Rule = ({ value: spec, path, report }) => {
  const selector = objectAt(spec['selector']);
  if (Object.keys(selector).length === 0) report(required(below(path, 'selector')));
  else if (!selectorMatches({ matchLabels: selector }, templateLabels(spec))) {
    report(
      invalid(
        below(path, 'template.metadata.labels'),
        templateLabels(spec),
        '`selector` does not match template `labels`',
      ),
    );
  }
  report(...notNegative(spec, path, 'replicas', 'minReadySeconds'));
  if (objectsAt(objectAt(objectAt(spec['template'])['spec'])['containers']).length === 0)
    report(required(below(path, 'template')));
};
