/** The cells of the kinds that make pods: counts, templates, selectors. Follows `pkg/printers/internalversion`. */
import { ageOf, humanDuration } from '../human-duration.ts';
import {
  at,
  formatLabels,
  formatSelector,
  listAt,
  NONE,
  numberAt,
  objectAt,
  orNone,
  textAt,
  UNSET,
  type Cell,
  type JsonObject,
} from './reading.ts';

const podTemplate = (object: JsonObject): JsonObject => {
  const places = [
    objectAt(object, 'spec', 'jobTemplate', 'spec', 'template'),
    objectAt(object, 'spec', 'template'),
    objectAt(object, 'template'),
  ];
  return places.find((place) => 'spec' in place) ?? {};
};

const containersOf = (object: JsonObject, field: 'name' | 'image'): string =>
  listAt(podTemplate(object), 'spec', 'containers')
    .map((container) => textAt(container, field))
    .join(',');

function selector(object: JsonObject): string {
  const value = objectAt(object, 'spec', 'selector');
  const isPlainMap = textAt(object, 'kind') === 'ReplicationController';
  return isPlainMap ? formatLabels(value) : formatSelector(value);
}

/** The number of what is wanted: absent means one. */
const wanted = (object: JsonObject): number => {
  const value = at(object, 'spec', 'replicas');
  return typeof value === 'number' ? value : 1;
};

function jobCompletions(object: JsonObject): string {
  const succeeded = numberAt(object, 'status', 'succeeded');
  const completions = at(object, 'spec', 'completions');
  if (typeof completions === 'number') return `${succeeded}/${completions}`;
  const parallelism = numberAt(object, 'spec', 'parallelism');
  return parallelism > 1 ? `${succeeded}/1 of ${parallelism}` : `${succeeded}/1`;
}

/** Told by the conditions that hold, the last word first; a Job on its way out comes after one that has come to its end. */
function jobStatus(object: JsonObject): string {
  const holds = (type: string): boolean =>
    at(
      listAt(object, 'status', 'conditions').find((each) => at(each, 'type') === type),
      'status',
    ) === 'True';
  const ended = ['Complete', 'Failed'].find(holds);
  if (ended !== undefined) return ended;
  if (at(object, 'metadata', 'deletionTimestamp') !== undefined) return 'Terminating';
  return ['Suspended', 'FailureTarget', 'SuccessCriteriaMet'].find(holds) ?? 'Running';
}

/** As Go prints what may be unset. */
function shownFlag(value: unknown): string {
  if (typeof value !== 'boolean') return UNSET;
  return value ? 'True' : 'False';
}

function jobDuration(object: JsonObject, nowMs: number): string {
  const start = Date.parse(textAt(object, 'status', 'startTime'));
  if (Number.isNaN(start)) return '';
  const end = Date.parse(textAt(object, 'status', 'completionTime'));
  return humanDuration((Number.isNaN(end) ? nowMs : end) - start);
}

function controllerOwner(object: JsonObject): string {
  const owner = listAt(object, 'metadata', 'ownerReferences').find((each) => at(each, 'controller') === true);
  if (owner === undefined) return NONE;
  const group =
    textAt(owner, 'apiVersion').split('/').length === 2 ? `.${textAt(owner, 'apiVersion').split('/')[0]}` : '';
  return `${textAt(owner, 'kind').toLowerCase()}${group}/${textAt(owner, 'name')}`;
}

function autoscalerTargets(object: JsonObject): string {
  const current = listAt(object, 'status', 'currentMetrics');
  const targets = listAt(object, 'spec', 'metrics').map((metric, index) => {
    const kind = textAt(metric, 'type');
    const source = objectAt(metric, kind.charAt(0).toLowerCase() + kind.slice(1));
    const now = objectAt(current[index], kind.charAt(0).toLowerCase() + kind.slice(1), 'current');
    const target = objectAt(source, 'target');
    const percent = at(target, 'averageUtilization');
    const shownTarget =
      percent === undefined ? textAt(target, 'averageValue') || textAt(target, 'value') : `${String(percent)}%`;
    const measured =
      percent === undefined ? textAt(now, 'averageValue') || textAt(now, 'value') : at(now, 'averageUtilization');
    const shownNow =
      measured === undefined || measured === ''
        ? '<unknown>'
        : percent === undefined
          ? String(measured)
          : `${String(measured)}%`;
    const name = kind === 'Resource' ? `${textAt(source, 'name')}: ` : '';
    return `${name}${shownNow}/${shownTarget}`;
  });
  return orNone(targets.join(', '));
}

const orNotApplicable = (value: unknown): string =>
  typeof value === 'number' || typeof value === 'string' ? String(value) : 'N/A';

const count =
  (...fields: string[]): Cell =>
  ({ object }) =>
    numberAt(object, ...fields);

export const workloadCells: Readonly<Record<string, Cell>> = {
  containers: ({ object }) => containersOf(object, 'name'),
  images: ({ object }) => containersOf(object, 'image'),
  selector: ({ object }) => selector(object),
  deploymentReady: ({ object }) => `${numberAt(object, 'status', 'readyReplicas')}/${wanted(object)}`,
  statefulSetReady: ({ object }) => `${numberAt(object, 'status', 'readyReplicas')}/${wanted(object)}`,
  updatedReplicas: count('status', 'updatedReplicas'),
  availableReplicas: count('status', 'availableReplicas'),
  desiredReplicas: count('spec', 'replicas'),
  currentReplicas: ({ object }) =>
    numberAt(object, 'status', textAt(object, 'kind') === 'HorizontalPodAutoscaler' ? 'currentReplicas' : 'replicas'),
  readyReplicas: count('status', 'readyReplicas'),
  daemonSetDesired: count('status', 'desiredNumberScheduled'),
  daemonSetCurrent: count('status', 'currentNumberScheduled'),
  daemonSetReady: count('status', 'numberReady'),
  daemonSetUpToDate: count('status', 'updatedNumberScheduled'),
  daemonSetAvailable: count('status', 'numberAvailable'),
  nodeSelector: ({ object }) => formatLabels(objectAt(podTemplate(object), 'spec', 'nodeSelector')),
  controllerOwner: ({ object }) => controllerOwner(object),
  jobStatus: ({ object }) => jobStatus(object),
  jobCompletions: ({ object }) => jobCompletions(object),
  jobDuration: ({ object, nowMs }) => jobDuration(object, nowMs),
  cronJobActive: ({ object }) => listAt(object, 'status', 'active').length,
  cronJobLastSchedule: ({ object, nowMs }) => {
    const last = at(object, 'status', 'lastScheduleTime');
    return last === undefined ? NONE : ageOf(last, nowMs);
  },
  cronJobSuspend: ({ object }) => shownFlag(at(object, 'spec', 'suspend')),
  cronJobTimeZone: ({ object }) => orNone(textAt(object, 'spec', 'timeZone')),
  autoscalerReference: ({ object }) =>
    `${textAt(object, 'spec', 'scaleTargetRef', 'kind')}/${textAt(object, 'spec', 'scaleTargetRef', 'name')}`,
  autoscalerTargets: ({ object }) => autoscalerTargets(object),
  autoscalerMinPods: ({ object }) => textAt(object, 'spec', 'minReplicas') || '<unset>',
  minAvailable: ({ object }) => orNotApplicable(at(object, 'spec', 'minAvailable')),
  maxUnavailable: ({ object }) => orNotApplicable(at(object, 'spec', 'maxUnavailable')),
  disruptionsAllowed: count('status', 'disruptionsAllowed'),
};
