/** One event as `event-stream.ts` sends it: in our own words, or as a CloudEvent 1.0 in the JSON format (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md). Pure. */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { LogRecord, ObjectKey } from '../../event-log/event-log.ts';

export type EventType = 'ADDED' | 'MODIFIED' | 'DELETED';

/** What is known of an event; of an object in a snapshot only the object is. */
export interface Told extends Partial<Omit<LogRecord, 'key' | 'sequence' | 'object'>> {
  readonly type: EventType;
  readonly revision: number;
  readonly key: ObjectKey;
  readonly object: ApiObject;
}

export function asEvent({ type, revision, key, object, ...about }: Told): object {
  const { time, actor, verb, plane, causes, requestId, transaction } = about;
  return {
    type,
    revision,
    time,
    actor,
    verb,
    plane,
    causes,
    requestId,
    transaction,
    group: key.group,
    resource: key.resource,
    ...(key.namespace && { namespace: key.namespace }),
    name: key.name,
    object,
  };
}

const SOURCE = '/apis/log.reckon.dev/v1/events';

/** Source and id together are the event's own: the id is the revision. Extension attributes are those of the record. */
export function asCloudEvent({ type, revision, key, object, ...about }: Told): object {
  const { time, actor, verb, plane, causes, transaction } = about;
  return {
    specversion: '1.0',
    id: String(revision),
    source: SOURCE,
    type: `dev.reckon.object.${type.toLowerCase()}`,
    subject: [key.group || 'core', key.resource, ...(key.namespace ? [key.namespace] : []), key.name].join('/'),
    ...(time && { time }),
    datacontenttype: 'application/json',
    ...(actor && { actor }),
    ...(verb && { verb }),
    ...(plane && { plane }),
    ...(causes && causes.length > 0 && { causes: causes.join(',') }),
    ...(transaction && { transaction: `${transaction.id} ${transaction.place} ${transaction.count}` }),
    data: object,
  };
}
