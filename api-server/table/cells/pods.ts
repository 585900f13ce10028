/**
 * The cells of pods. What kubectl shows as a pod's status is no field: it is read off the phase and the states of all its containers, exactly as `printPod` in `pkg/printers/internalversion` does.
 */
import { ageOf } from '../human-duration.ts';
import {
  at,
  listAt,
  NONE,
  numberAt,
  objectAt,
  orNone,
  textAt,
  type Cell,
  type CellInput,
  type JsonObject,
} from './reading.ts';

interface Summary {
  readonly ready: number;
  readonly total: number;
  readonly restarts: number;
  readonly lastRestart: string;
  readonly reason: string;
}

const isSidecar = (container: unknown): boolean => textAt(container, 'restartPolicy') === 'Always';

const conditionIs = (pod: JsonObject, type: string, status: string): boolean =>
  listAt(pod, 'status', 'conditions').some(
    (each) => textAt(each, 'type') === type && textAt(each, 'status') === status,
  );

/** RFC 3339 in UTC sorts as text. */
const later = (a: string, b: string): string => (a > b ? a : b);

const lastEnd = (status: unknown): string => textAt(status, 'lastState', 'terminated', 'finishedAt');

const endReason = (terminated: unknown): string => {
  const reason = textAt(terminated, 'reason');
  if (reason !== '') return reason;
  const signal = numberAt(terminated, 'signal');
  return signal !== 0 ? `Signal:${signal}` : `ExitCode:${numberAt(terminated, 'exitCode')}`;
};

interface InitSummary {
  restarts: number;
  lastRestart: string;
  sidecarRestarts: number;
  lastSidecarRestart: string;
  readySidecars: number;
  /** Why the pod is still initializing; empty once it is not. */
  reason: string;
}

function summarizeInit(pod: JsonObject): InitSummary {
  const containers = listAt(pod, 'spec', 'initContainers');
  const sidecars = new Set(containers.filter(isSidecar).map((each) => textAt(each, 'name')));
  const summary: InitSummary = {
    restarts: 0,
    lastRestart: '',
    sidecarRestarts: 0,
    lastSidecarRestart: '',
    readySidecars: 0,
    reason: '',
  };
  for (const [index, status] of listAt(pod, 'status', 'initContainerStatuses').entries()) {
    const sidecar = sidecars.has(textAt(status, 'name'));
    summary.restarts += numberAt(status, 'restartCount');
    summary.lastRestart = later(summary.lastRestart, lastEnd(status));
    if (sidecar) {
      summary.sidecarRestarts += numberAt(status, 'restartCount');
      summary.lastSidecarRestart = later(summary.lastSidecarRestart, lastEnd(status));
    }
    const terminated = at(status, 'state', 'terminated');
    if (terminated !== undefined && numberAt(terminated, 'exitCode') === 0) continue;
    if (sidecar && at(status, 'started') === true) {
      if (at(status, 'ready') === true) summary.readySidecars += 1;
      continue;
    }
    const waiting = textAt(status, 'state', 'waiting', 'reason');
    if (terminated !== undefined) summary.reason = `Init:${endReason(terminated)}`;
    else if (waiting !== '' && waiting !== 'PodInitializing') summary.reason = `Init:${waiting}`;
    else summary.reason = `Init:${index}/${containers.length}`;
    break;
  }
  return summary;
}

export function summarizePod(pod: JsonObject): Summary {
  const phase = textAt(pod, 'status', 'phase');
  const init = summarizeInit(pod);
  const total =
    listAt(pod, 'spec', 'containers').length + listAt(pod, 'spec', 'initContainers').filter(isSidecar).length;
  let reason = textAt(pod, 'status', 'reason') || phase;
  const gated = listAt(pod, 'status', 'conditions').some(
    (each) => textAt(each, 'type') === 'PodScheduled' && textAt(each, 'reason') === 'SchedulingGated',
  );
  if (gated) reason = 'SchedulingGated';
  let { restarts, lastRestart } = init;
  let ready = init.readySidecars;
  if (init.reason !== '') reason = init.reason;
  if (init.reason === '' || conditionIs(pod, 'Initialized', 'True')) {
    [restarts, lastRestart] = [init.sidecarRestarts, init.lastSidecarRestart];
    let hasRunning = false;
    for (const status of listAt(pod, 'status', 'containerStatuses').toReversed()) {
      restarts += numberAt(status, 'restartCount');
      lastRestart = later(lastRestart, lastEnd(status));
      const waiting = textAt(status, 'state', 'waiting', 'reason');
      const terminated = at(status, 'state', 'terminated');
      if (waiting !== '') reason = waiting;
      else if (terminated !== undefined) reason = endReason(terminated);
      else if (at(status, 'ready') === true && at(status, 'state', 'running') !== undefined) {
        hasRunning = true;
        ready += 1;
      }
    }
    if (reason === 'Completed' && hasRunning) reason = conditionIs(pod, 'Ready', 'True') ? 'Running' : 'NotReady';
  }
  if (at(pod, 'metadata', 'deletionTimestamp') !== undefined) {
    if (textAt(pod, 'status', 'reason') === 'NodeLost') reason = 'Unknown';
    else if (phase !== 'Succeeded' && phase !== 'Failed') reason = 'Terminating';
  }
  return { ready, total, restarts, lastRestart, reason };
}

const restarts = ({ object, nowMs }: CellInput): string => {
  const { restarts: count, lastRestart } = summarizePod(object);
  return count !== 0 && lastRestart !== '' ? `${count} (${ageOf(lastRestart, nowMs)} ago)` : String(count);
};

function readinessGates(pod: JsonObject): string {
  const gates = listAt(pod, 'spec', 'readinessGates');
  if (gates.length === 0) return NONE;
  return `${gates.filter((gate) => conditionIs(pod, textAt(gate, 'conditionType'), 'True')).length}/${gates.length}`;
}

/** Tells kubectl that a pod has run its course. */
export function podRowConditions(pod: JsonObject): readonly object[] | undefined {
  const phase = textAt(pod, 'status', 'phase');
  if (phase === 'Succeeded')
    return [{ type: 'Completed', status: 'True', reason: 'Succeeded', message: 'The pod has completed successfully.' }];
  if (phase === 'Failed') return [{ type: 'Completed', status: 'True', reason: 'Failed', message: 'The pod failed.' }];
  return undefined;
}

export const podCells: Readonly<Record<string, Cell>> = {
  podReady: ({ object }) => {
    const { ready, total } = summarizePod(object);
    return `${ready}/${total}`;
  },
  podStatus: ({ object }) => summarizePod(object).reason,
  podRestarts: restarts,
  podIp: ({ object }) =>
    orNone(textAt(listAt(object, 'status', 'podIPs')[0], 'ip') || textAt(object, 'status', 'podIP')),
  podNode: ({ object }) => orNone(textAt(object, 'spec', 'nodeName')),
  podNominatedNode: ({ object }) => orNone(textAt(object, 'status', 'nominatedNodeName')),
  podReadinessGates: ({ object }) => readinessGates(object),
  podTemplateLabels: ({ object }) =>
    orNone(
      Object.entries(objectAt(object, 'template', 'metadata', 'labels'))
        .map(([key, value]) => `${key}=${String(value)}`)
        .join(','),
    ),
};
