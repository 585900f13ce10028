/** A namespace that lives has a default ServiceAccount, and the certificate of the cluster's authority for its pods. Pure; called by the SDK's loop. */
import type { ConfigMap, Namespace } from '../../api-schemas/types/core-v1.ts';
import type { ApiAction, ApiObject, Plan } from '../../sdk/index.ts';

export interface Observed {
  readonly hasDefault: boolean;
  /** What is published in the namespace now. */
  readonly published: (ConfigMap & ApiObject) | undefined;
  /** PEM; undefined where the controller does not know it. */
  readonly authority: string | undefined;
}

export const SERVICE_ACCOUNTS = { group: '', version: 'v1', resource: 'serviceaccounts' };
export const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps' };
/** https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#root-ca-certificate-publisher */
export const ROOT_AUTHORITY = 'kube-root-ca.crt';
const FILE = 'ca.crt';
const DESCRIPTION = {
  'kubernetes.io/description':
    'Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.',
};

export function reconcile(namespace: Namespace & ApiObject, observed: Observed): Plan<ApiAction> {
  if (namespace.status?.phase === 'Terminating' || namespace.metadata.deletionTimestamp) return { actions: [] };
  const { name } = namespace.metadata;
  return { actions: [...defaultAccount(name, observed), ...authority(name, observed)] };
}

function defaultAccount(namespace: string, { hasDefault }: Observed): ApiAction[] {
  if (hasDefault) return [];
  const object = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace } };
  const because = `namespace ${namespace} has no default ServiceAccount`;
  return [{ verb: 'create', resource: SERVICE_ACCOUNTS, object, because }];
}

function authority(namespace: string, { authority: wanted, published }: Observed): ApiAction[] {
  if (wanted === undefined || published?.data?.[FILE] === wanted) return [];
  const data = { [FILE]: wanted };
  if (published)
    return [
      {
        verb: 'update',
        resource: CONFIG_MAPS,
        object: { ...published, data },
        because: `namespace ${namespace} holds another certificate than the authority's`,
      },
    ];
  const metadata = { name: ROOT_AUTHORITY, namespace, annotations: DESCRIPTION };
  const because = `namespace ${namespace} lacks the certificate of the authority`;
  return [
    { verb: 'create', resource: CONFIG_MAPS, object: { apiVersion: 'v1', kind: 'ConfigMap', metadata, data }, because },
  ];
}
