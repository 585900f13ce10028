/**
 * Events of events.k8s.io: the newer shape of what is stored as a core Event. Follows `pkg/apis/events/v1/conversion.go` and, for what a new one must have, `pkg/apis/core/validation/events.go`.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import { invalid, required, tooLong, type Fault } from '../admission/fault.ts';
import { sameJson } from '../admission/rules/rule.ts';
import type { Conversion } from './conversions.ts';

/** By the newer name. */
const RENAMED = [
  ['regarding', 'involvedObject'],
  ['note', 'message'],
  ['reportingController', 'reportingComponent'],
  ['deprecatedSource', 'source'],
  ['deprecatedFirstTimestamp', 'firstTimestamp'],
  ['deprecatedLastTimestamp', 'lastTimestamp'],
  ['deprecatedCount', 'count'],
] as const;

const REFERENCE_FIELDS = ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'];
/** All but `series` and metadata, by the names that Kubernetes tells them with. */
const LASTING = [
  'involvedObject',
  'reason',
  'message',
  'source',
  'firstTimestamp',
  'lastTimestamp',
  'count',
  'eventTime',
  'type',
  'action',
  'related',
] as const;
const MAX_LENGTHS = { action: 128, reason: 128, reportingInstance: 128, note: 1024 } as const;

function renamed(object: ApiObject, names: readonly (readonly [from: string, to: string])[]): ApiObject {
  const result = { ...object };
  for (const [from, to] of names) {
    delete result[from];
    if (object[from] !== undefined) result[to] = object[from];
  }
  return result;
}

export const eventsV1: Conversion = {
  stored: { group: '', version: 'v1', resource: 'events' },
  toStored(object) {
    const { eventTime, ...rest } = renamed(object, RENAMED);
    const stored: ApiObject = { ...(rest as ApiObject), apiVersion: 'v1' };
    stored['involvedObject'] ??= {};
    if (eventTime) stored['eventTime'] = eventTime;
    return stored;
  },
  fromStored(object) {
    const names = RENAMED.map(([newer, older]) => [older, newer] as const);
    // An older event has none, and clients of the newer shape expect to be told so.
    return { eventTime: null, ...renamed(object, names), apiVersion: 'events.k8s.io/v1' };
  },
  fields: new Map([
    ...REFERENCE_FIELDS.map((field) => [`regarding.${field}`, `involvedObject.${field}`] as const),
    ['reportingController', 'reportingComponent'],
  ]),
  changeFaults(object, old) {
    const told = [
      ...LASTING.map((field) => [field, field] as const),
      ['reportingController', 'reportingComponent'] as const,
      ['reportingInstance', 'reportingInstance'] as const,
    ];
    return told
      .filter(([, field]) => !sameJson(object[field], old[field]))
      .map(([shown, field]) => invalid(shown, object[field], 'field is immutable'));
  },
  newFaults(object) {
    const faults: Fault[] = [];
    const text = (field: string): string => (typeof object[field] === 'string' ? object[field] : '');
    for (const field of ['eventTime', 'reportingController', 'reportingInstance', 'action', 'reason'])
      if (text(field) === '') faults.push(required(field));
    for (const [field, most] of Object.entries(MAX_LENGTHS))
      if (Buffer.byteLength(text(field)) > most) faults.push(tooLong(field, most));
    const type = text('type');
    if (type !== 'Normal' && type !== 'Warning') faults.push(invalid('type', type, 'has invalid value: '));
    const { namespace = '' } = (object['regarding'] ?? {}) as { namespace?: string };
    const own = object.metadata.namespace ?? '';
    if (namespace !== '' && own !== '' && namespace !== own)
      faults.push(invalid('regarding.namespace', namespace, 'does not match event.namespace'));
    return faults;
  },
};
