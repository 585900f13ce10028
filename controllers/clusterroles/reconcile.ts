/** An aggregated ClusterRole holds each rule of its sources once. Pure; called by the SDK's loop. */
import type { ClusterRole, PolicyRule } from '../../api-schemas/types/rbac-v1.ts';
import { sameJson, type ApiAction, type ApiObject, type Plan } from '../../sdk/index.ts';

export type ClusterRoleObject = ClusterRole & ApiObject;

export interface Observed {
  /** The roles that its selectors match, in order. */
  readonly sources: readonly ClusterRoleObject[];
}

export const CLUSTER_ROLES = { group: 'rbac.authorization.k8s.io', version: 'v1', resource: 'clusterroles' };

export function reconcile(role: ClusterRoleObject, { sources }: Observed): Plan<ApiAction> {
  if (!role.aggregationRule || role.metadata.deletionTimestamp) return { actions: [] };
  const rules: PolicyRule[] = [];
  for (const rule of sources.flatMap((source) => source.rules ?? []))
    if (!rules.some((other) => sameJson(other, rule))) rules.push(rule);
  if (sameJson(rules, role.rules ?? [])) return { actions: [] };
  const { name, uid, resourceVersion } = role.metadata;
  return {
    actions: [
      {
        verb: 'patch',
        resource: CLUSTER_ROLES,
        name,
        patch: { metadata: { uid, resourceVersion }, rules },
        because: `the rules that ClusterRole ${name} is made of have changed`,
      },
    ],
  };
}
