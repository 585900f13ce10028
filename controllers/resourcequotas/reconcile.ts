/**
 * The status of one ResourceQuota: its bounds as they were counted against, and the use of each. Pure; called by the SDK's loop and by tests.
 */
import type { Amounts } from '../../api-schemas/pod-resources.ts';
import { shownLike } from '../../api-schemas/usage.ts';
import type { ResourceQuota } from '../../api-schemas/types/core-v1.ts';
import type { ApiAction, ApiObject, Plan } from '../../sdk/index.ts';

export type Quota = ResourceQuota & ApiObject;

export const RESOURCE_QUOTAS = { group: '', version: 'v1', resource: 'resourcequotas' };

export interface Observed {
  /** What each object in the quota's scope uses, and from when on it no longer does. */
  readonly users: readonly { readonly usage: Amounts; readonly releasedAtMs: number }[];
  readonly nowMs: number;
}

export function reconcile(quota: Quota, { users, nowMs }: Observed): Plan<ApiAction> {
  const hard = quota.spec?.hard ?? {};
  const used: Record<string, bigint> = Object.fromEntries(Object.keys(hard).map((name) => [name, 0n]));
  let nextMs = Infinity;
  for (const { usage, releasedAtMs } of users) {
    if (releasedAtMs <= nowMs) continue;
    nextMs = Math.min(nextMs, releasedAtMs);
    for (const name of Object.keys(used)) used[name] = (used[name] ?? 0n) + (usage[name] ?? 0n);
  }
  return {
    actions: [],
    status: {
      ...(quota.spec?.hard && { hard }),
      used: Object.fromEntries(Object.entries(used).map(([name, amount]) => [name, shownLike(hard[name], amount)])),
    },
    ...(nextMs < Infinity && { requeueAfterMs: nextMs - nowMs }),
  };
}
