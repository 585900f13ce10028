/**
 * ClusterRoles that are made of others: one with an aggregation rule holds the rules of every ClusterRole that its selectors match, and follows them.
 * https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles
 */
import type { ClusterRole } from '../../api-schemas/types/rbac-v1.ts';
import { keyIn, matchesSelector, type ApiObject, type Controller } from '../../sdk/index.ts';
import { CLUSTER_ROLES, reconcile, type ClusterRoleObject, type Observed } from './reconcile.ts';

export const controller: Controller<ClusterRoleObject, Observed> = {
  name: 'clusterroles',
  resource: CLUSTER_ROLES,
  watches: [
    {
      resource: CLUSTER_ROLES,
      keysFor: (_object, _previous, world) =>
        world
          .list<ClusterRole & ApiObject>(CLUSTER_ROLES)
          .filter(({ aggregationRule }) => aggregationRule !== undefined)
          .map(({ metadata }) => keyIn(CLUSTER_ROLES, '', metadata.name)),
    },
  ],
  observe(key, world) {
    const role = world.get<ClusterRoleObject>(CLUSTER_ROLES, '', key.name);
    if (!role) return undefined;
    const selectors = role.aggregationRule?.clusterRoleSelectors ?? [];
    const sources = selectors.flatMap((selector) =>
      world
        .list<ClusterRoleObject>(CLUSTER_ROLES)
        .filter(({ metadata }) => metadata.name !== key.name && matchesSelector(selector, metadata.labels))
        .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1)),
    );
    return { desired: role, observed: { sources } };
  },
  reconcile,
};
