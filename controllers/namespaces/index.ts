/**
 * Namespaces: deleting one removes everything in it, whatever its kind.
 */
import { EVERY_RESOURCE, keyIn, resourceOf, timestamp, type ApiAction, type Controller } from '../../sdk/index.ts';
import { NAMESPACES, reconcile, type NamespaceObject, type Observed, type SweepAction } from './reconcile.ts';

const EPHEMERAL = [
  { group: '', version: 'v1', resource: 'events' },
  { group: 'coordination.k8s.io', version: 'v1', resource: 'leases' },
];

export const controller: Controller<NamespaceObject, Observed, ApiAction | SweepAction> = {
  name: 'namespaces',
  resource: NAMESPACES,
  watches: [
    {
      resource: EVERY_RESOURCE,
      keysFor: ({ metadata }, _previous, world) => {
        if (!metadata.namespace) return [];
        const namespace = world.get(NAMESPACES, '', metadata.namespace);
        return namespace?.metadata.deletionTimestamp ? [keyIn(NAMESPACES, '', metadata.namespace)] : [];
      },
    },
  ],
  observe(key, world, nowMs) {
    const namespace = world.get<NamespaceObject>(NAMESPACES, '', key.name);
    if (!namespace) return undefined;
    const terminating = namespace.metadata.deletionTimestamp !== undefined;
    const contents = terminating
      ? world.list(EVERY_RESOURCE, { namespace: key.name }).map((object) => {
          const contentKey = world.keyOf(object);
          return { key: contentKey, object, resource: resourceOf(contentKey, object, world) };
        })
      : [];
    return { desired: namespace, observed: { contents, now: timestamp(nowMs) } };
  },
  reconcile,
  async apply({ namespace }, { client, causes, signal }) {
    for (const resource of EPHEMERAL) {
      const { items } = await client.list(resource, { namespace });
      for (const { metadata } of items) {
        await client
          .delete(
            { resource, namespace, name: metadata.name },
            { causes, signal, ...(metadata.uid && { uid: metadata.uid }) },
          )
          .catch(ignoreNotFound);
      }
    }
  },
};

function ignoreNotFound(error: unknown): void {
  if ((error as { reason?: string }).reason !== 'NotFound') throw error;
}
