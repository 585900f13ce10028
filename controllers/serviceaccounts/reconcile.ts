/** A namespace that lives has a default ServiceAccount. Pure; called by the SDK's loop. */
import type { Namespace } from '../../api-schemas/types/core-v1.ts';
import type { ApiAction, ApiObject, Plan } from '../../sdk/index.ts';

export interface Observed {
  readonly hasDefault: boolean;
}

export const SERVICE_ACCOUNTS = { group: '', version: 'v1', resource: 'serviceaccounts' };

export function reconcile(namespace: Namespace & ApiObject, { hasDefault }: Observed): Plan<ApiAction> {
  if (hasDefault || namespace.status?.phase === 'Terminating' || namespace.metadata.deletionTimestamp)
    return { actions: [] };
  const { name } = namespace.metadata;
  const object: ApiObject = {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'default', namespace: name },
  };
  return {
    actions: [
      {
        verb: 'create',
        resource: SERVICE_ACCOUNTS,
        object,
        because: `namespace ${name} has no default ServiceAccount`,
      },
    ],
  };
}
