/**
 * ServiceAccounts: every namespace has one called `default`, made again when it is deleted.
 */
import type { Namespace } from '../../api-schemas/types/core-v1.ts';
import { keyIn, type ApiObject, type Controller } from '../../sdk/index.ts';
import { reconcile, SERVICE_ACCOUNTS, type Observed } from './reconcile.ts';

const NAMESPACES = { group: '', version: 'v1', resource: 'namespaces' };

export const controller: Controller<Namespace & ApiObject, Observed> = {
  name: 'serviceaccounts',
  resource: NAMESPACES,
  watches: [
    { resource: SERVICE_ACCOUNTS, keysFor: ({ metadata }) => [keyIn(NAMESPACES, '', metadata.namespace ?? '')] },
  ],
  observe(key, world) {
    const namespace = world.get<Namespace & ApiObject>(NAMESPACES, '', key.name);
    if (!namespace) return undefined;
    return {
      desired: namespace,
      observed: { hasDefault: world.get(SERVICE_ACCOUNTS, key.name, 'default') !== undefined },
    };
  },
  reconcile,
};
