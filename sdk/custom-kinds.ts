/**
 * What a controller that concerns objects of any kind must know of the kinds that users add: how their objects are asked for. Read from the CustomResourceDefinitions of the World, so it needs one that follows every resource. Used by the
 * garbage collector, and by the controllers of namespaces and CustomResourceDefinitions.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import type { CustomResourceDefinition } from '../api-schemas/types/apiextensions-v1.ts';
import type { ObjectKey } from '../event-log/event-log.ts';
import type { ResourceRef } from './controller.ts';
import type { World } from './world.ts';

export const CUSTOM_RESOURCE_DEFINITIONS: ResourceRef = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  resource: 'customresourcedefinitions',
};

/** How the API is asked about an object: in the version that it is stored in, or, of a custom kind that is no longer served in that, in one that is. */
export function resourceOf({ group, resource }: ObjectKey, object: ApiObject, world: World): ResourceRef {
  const stored = object.apiVersion.split('/').at(-1) ?? 'v1';
  // A name without a dot is nobody's to add kinds to.
  const definition = group.includes('.')
    ? world.get<CustomResourceDefinition>(CUSTOM_RESOURCE_DEFINITIONS, '', `${resource}.${group}`)
    : undefined;
  const versions = definition?.spec.versions ?? [];
  const version = (
    versions.find(({ name, served }) => served && name === stored) ?? versions.find(({ served }) => served)
  )?.name;
  return { group, version: version ?? stored, resource };
}

/** Whether the objects of a custom kind live in namespaces; undefined where there is no such kind. */
export function isCustomNamespaced(group: string, kind: string, world: World): boolean | undefined {
  const definition = world
    .list<CustomResourceDefinition>(CUSTOM_RESOURCE_DEFINITIONS)
    .find(({ spec }) => spec.group === group && spec.names.kind === kind);
  return definition && definition.spec.scope === 'Namespaced';
}
