/**
 * What has to be done so that a set of EndpointSlices is as it should be. Used for those of Services with a selector (`reconcile.ts`) and for those that mirror Endpoints (`mirror.ts`). Pure.
 */
import type { EndpointSlice } from '../../api-schemas/types/discovery-v1.ts';
import { sameJson, type ApiAction, type ApiObject } from '../../sdk/index.ts';

export type SliceObject = EndpointSlice & ApiObject;

export const SLICES = { group: 'discovery.k8s.io', version: 'v1', resource: 'endpointslices' };
export const SERVICE_NAME = 'kubernetes.io/service-name';
export const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by';
export const HEADLESS = 'service.kubernetes.io/headless';
export const MAX_ENDPOINTS_PER_SLICE = 100;

export function sliceChanges(options: {
  readonly wanted: readonly SliceObject[];
  readonly standing: readonly SliceObject[];
  readonly because: (slice: SliceObject) => string;
  readonly superfluous: string;
}): ApiAction[] {
  const { wanted, because, superfluous } = options;
  const standing = new Map(options.standing.map((slice) => [slice.metadata.name, slice]));
  const actions: ApiAction[] = [];
  for (const slice of wanted) {
    const current = standing.get(slice.metadata.name);
    standing.delete(slice.metadata.name);
    if (!current) actions.push({ verb: 'create', resource: SLICES, object: slice, because: because(slice) });
    else if (!sameJson(contentOf(current), contentOf(slice))) {
      const { uid, resourceVersion } = current.metadata;
      const object = {
        ...slice,
        metadata: { ...slice.metadata, ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) },
      };
      actions.push({ verb: 'update', resource: SLICES, object, because: because(slice) });
    }
  }
  for (const { metadata } of standing.values()) {
    const { name, namespace, uid = '' } = metadata;
    actions.push({
      verb: 'delete',
      resource: SLICES,
      ...(namespace && { namespace }),
      name,
      uid,
      because: superfluous,
    });
  }
  return actions;
}

const contentOf = ({ metadata, endpoints, ports, addressType }: SliceObject) => ({
  labels: metadata.labels,
  endpoints,
  ports: ports ?? [],
  addressType,
});
