/**
 * Owner references (https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/): who controls an object, and which keys that concerns. For `keysFor` of watches and
 * for planners that create.
 */
import type { ApiObject, OwnerReference } from '../api-schemas/schema.ts';
import type { ObjectKey } from '../event-log/event-log.ts';
import type { ResourceRef, Watch } from './controller.ts';

/** The one owner that manages the object. */
export const controllerOf = (object: ApiObject): OwnerReference | undefined =>
  object.metadata.ownerReferences?.find((owner) => owner.controller);

/** The reference by which `owner` controls what it creates. */
export function controllerReference(owner: ApiObject): OwnerReference {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid ?? '',
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** The key of an object of this resource. */
export const keyIn = (resource: ResourceRef, namespace: string | undefined, name: string): ObjectKey => ({
  group: resource.group,
  resource: resource.resource,
  namespace: namespace ?? '',
  name,
});

/** The key of the controller of this kind that the object has, or had before it changed. */
export function controllerKeys(
  owner: { readonly resource: ResourceRef; readonly kind: string },
  object: ApiObject,
  previous: ApiObject | undefined,
): ObjectKey[] {
  const keys = new Map<string, ObjectKey>();
  for (const version of [object, previous]) {
    const reference = version && controllerOf(version);
    if (reference?.kind === owner.kind && groupOf(reference.apiVersion) === owner.resource.group)
      keys.set(reference.name, keyIn(owner.resource, object.metadata.namespace, reference.name));
  }
  return [...keys.values()];
}

/** Watches what objects of `owner` control: a change to a `resource` concerns its controller. */
export const watchOwned = (
  resource: ResourceRef,
  owner: { readonly resource: ResourceRef; readonly kind: string },
): Watch => ({
  resource,
  keysFor: (object, previous) => controllerKeys(owner, object, previous),
});

/** `apps` of `apps/v1`, `''` of `v1`. */
export function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}
