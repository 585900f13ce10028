/** What an EventConsumer says, for the endpoints and the keeper of this folder: its kinds as groups and resources, and the filter of its durable. */
import { createHmac } from 'node:crypto';
import type { Registry } from '../../api-schemas/registry.ts';
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { EventConsumer } from '../../api-schemas/types/log-v1.ts';
import type { DurableFilter, DurableSpec } from '../../event-log/durables.ts';
import { internal } from '../errors.ts';

export type ConsumerObject = EventConsumer & ApiObject;

export const CONSUMERS = 'eventconsumers';

export function consumersDefinition(registry: Registry): ResourceDefinition {
  const definition = registry.byResource('log.reckon.dev', 'v1', CONSUMERS);
  if (!definition) throw internal('event consumers have no schema');
  return definition;
}

/**
 * The name of its durable: nobody can tell it from the object, since consumers of the namespace see each other's, and whoever knows the name of another's durable could have JetStream answer to it.
 */
export function durableName({ metadata }: ConsumerObject, turn: string | undefined, secret: Uint8Array): string {
  const digest = createHmac('sha256', secret)
    .update(`event consumer ${metadata.uid} ${turn ?? ''}`)
    .digest('hex');
  return `${metadata.name.slice(0, 40)}-${digest.slice(0, 32)}`;
}

/** `apps/deployments`, with `core` for the core group. */
export function resourceOf(text: string): { group: string; resource: string } {
  const [group = '', resource = ''] = text.split('/');
  return { group: group === 'core' ? '' : group, resource };
}

/** Undefined: every kind. */
export const resourcesOf = ({ spec }: Pick<EventConsumer, 'spec'>) => spec.resources?.map(resourceOf);

export function durableSpec(object: ConsumerObject, name: string): DurableSpec {
  const { metadata, spec } = object;
  const resources = resourcesOf(object);
  const filter: DurableFilter = {
    namespace: metadata.namespace ?? '',
    ...(resources && { resources }),
    ...(spec.plane && { plane: spec.plane }),
  };
  return { name, owner: metadata.uid ?? '', filter };
}
