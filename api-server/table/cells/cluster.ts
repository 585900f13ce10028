/** The cells of nodes, events, access and the rest, and those that every kind has. Follows `pkg/printers/internalversion`. */
import { ageOf, humanDuration } from '../human-duration.ts';
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

const ROLE_LABEL = 'node-role.kubernetes.io/';

function nodeStatus(node: JsonObject): string {
  const ready = listAt(node, 'status', 'conditions').find((each) => textAt(each, 'type') === 'Ready');
  const status = ready === undefined ? 'Unknown' : textAt(ready, 'status') === 'True' ? 'Ready' : 'NotReady';
  return at(node, 'spec', 'unschedulable') === true ? `${status},SchedulingDisabled` : status;
}

function nodeRoles(node: JsonObject): string {
  const roles = Object.entries(objectAt(node, 'metadata', 'labels')).flatMap(([label, value]) => {
    if (label.startsWith(ROLE_LABEL)) return label.slice(ROLE_LABEL.length) || [];
    return label === 'kubernetes.io/role' && value !== '' ? String(value) : [];
  });
  return orNone([...new Set(roles)].sort().join(','));
}

const nodeAddress = (node: JsonObject, type: string): string =>
  orNone(
    textAt(
      listAt(node, 'status', 'addresses').find((each) => textAt(each, 'type') === type),
      'address',
    ),
  );

const nodeInfo =
  (field: string): Cell =>
  ({ object }) =>
    textAt(object, 'status', 'nodeInfo', field) || '<unknown>';

/** An Event under either of its two shapes. */
const eventTimes = (event: JsonObject) => {
  const first = at(event, 'firstTimestamp') ?? at(event, 'deprecatedFirstTimestamp') ?? at(event, 'eventTime');
  const last =
    at(event, 'series', 'lastObservedTime') ??
    at(event, 'lastTimestamp') ??
    at(event, 'deprecatedLastTimestamp') ??
    first;
  return { first, last };
};

function eventSource(event: JsonObject): string {
  const source = { ...objectAt(event, 'deprecatedSource'), ...objectAt(event, 'source') };
  const component =
    textAt(source, 'component') || textAt(event, 'reportingComponent') || textAt(event, 'reportingController');
  const host = textAt(source, 'host') || textAt(event, 'reportingInstance');
  return [component, host].filter((part) => part !== '').join(', ');
}

function eventObject(event: JsonObject): string {
  const about = { ...objectAt(event, 'regarding'), ...objectAt(event, 'involvedObject') };
  return `${textAt(about, 'kind').toLowerCase()}/${textAt(about, 'name')}`;
}

const quota = (object: JsonObject, ofLimits: boolean): string =>
  Object.keys(objectAt(object, 'status', 'hard'))
    .filter((resource) => resource.startsWith('limits.') === ofLimits)
    .sort()
    .map(
      (resource) =>
        `${resource}: ${textAt(object, 'status', 'used', resource) || '0'}/${textAt(object, 'status', 'hard', resource)}`,
    )
    .join(', ');

function certificateCondition(object: JsonObject): string {
  const conditions = listAt(object, 'status', 'conditions').map((each) => textAt(each, 'type'));
  const issued = textAt(object, 'status', 'certificate') === '' ? [] : ['Issued'];
  return conditions.length === 0 ? 'Pending' : [...conditions, ...issued].join(',');
}

const subjects =
  (kind: string): Cell =>
  ({ object }) =>
    listAt(object, 'subjects')
      .filter((subject) => textAt(subject, 'kind') === kind)
      .map((subject) =>
        kind === 'ServiceAccount'
          ? `${textAt(subject, 'namespace')}/${textAt(subject, 'name')}`
          : textAt(subject, 'name'),
      )
      .join(', ');

const age = ({ object, nowMs }: CellInput): string => ageOf(at(object, 'metadata', 'creationTimestamp'), nowMs);

export const clusterCells: Readonly<Record<string, Cell>> = {
  age,
  dataCount: ({ object }) =>
    Object.keys(objectAt(object, 'data')).length + Object.keys(objectAt(object, 'binaryData')).length,
  nodeStatus: ({ object }) => nodeStatus(object),
  nodeRoles: ({ object }) => nodeRoles(object),
  nodeInternalIp: ({ object }) => nodeAddress(object, 'InternalIP'),
  nodeExternalIp: ({ object }) => nodeAddress(object, 'ExternalIP'),
  nodeOsImage: nodeInfo('osImage'),
  nodeKernelVersion: nodeInfo('kernelVersion'),
  nodeContainerRuntime: nodeInfo('containerRuntimeVersion'),
  eventLastSeen: ({ object, nowMs }) => ageOf(eventTimes(object).last, nowMs),
  eventFirstSeen: ({ object, nowMs }) => ageOf(eventTimes(object).first, nowMs),
  eventCount: ({ object }) =>
    numberAt(object, 'series', 'count') || numberAt(object, 'count') || numberAt(object, 'deprecatedCount') || 1,
  eventObject: ({ object }) => eventObject(object),
  eventSource: ({ object }) => eventSource(object),
  eventMessage: ({ object }) => (textAt(object, 'message') || textAt(object, 'note')).trim(),
  serviceAccountSecrets: ({ object }) => listAt(object, 'secrets').length,
  quotaRequests: ({ object }) => quota(object, false),
  quotaLimits: ({ object }) => quota(object, true),
  certificateDuration: ({ object }) => {
    const seconds = at(object, 'spec', 'expirationSeconds');
    return typeof seconds === 'number' ? humanDuration(seconds * 1000) : NONE;
  },
  certificateCondition: ({ object }) => certificateCondition(object),
  roleRef: ({ object }) => `${textAt(object, 'roleRef', 'kind')}/${textAt(object, 'roleRef', 'name')}`,
  roleUsers: subjects('User'),
  roleGroups: subjects('Group'),
  roleServiceAccounts: subjects('ServiceAccount'),
  globalDefault: ({ object }) => at(object, 'globalDefault') === true,
};
