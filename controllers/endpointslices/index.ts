/**
 * EndpointSlices: which addresses stand behind a Service at this moment. The Service is what is reconciled; its slices are what is written. Where it selects no pods, what somebody has written into its Endpoints is mirrored.
 */
import { keyIn, matchesSelector, type Controller } from '../../sdk/index.ts';
import { ENDPOINTS, SERVICES, type EndpointsObject, type PodObject, type ServiceObject } from './endpoints-of.ts';
import { mirrorController } from './mirror.ts';
import { MANAGER, reconcile, type Observed } from './reconcile.ts';
import { MANAGED_BY, SERVICE_NAME, SLICES, type SliceObject } from './slice-changes.ts';

const PODS = { group: '', version: 'v1', resource: 'pods' };

export const controller: Controller<ServiceObject, Observed> = {
  name: 'endpointslices',
  resource: SERVICES,
  watches: [
    {
      resource: PODS,
      keysFor: (object, previous, world) =>
        world
          .list<ServiceObject>(SERVICES, { namespace: object.metadata.namespace ?? '' })
          .filter(({ spec }) => {
            const selector = { matchLabels: spec?.selector ?? {} };
            if (Object.keys(selector.matchLabels).length === 0) return false;
            return (
              matchesSelector(selector, object.metadata.labels) ||
              (previous !== undefined && matchesSelector(selector, previous.metadata.labels))
            );
          })
          .map(({ metadata }) => keyIn(SERVICES, metadata.namespace, metadata.name)),
    },
    {
      resource: SLICES,
      keysFor: ({ metadata }) => {
        const name = metadata.labels?.[SERVICE_NAME];
        return name && metadata.labels?.[MANAGED_BY] === MANAGER ? [keyIn(SERVICES, metadata.namespace, name)] : [];
      },
    },
    { resource: ENDPOINTS, keysFor: ({ metadata }) => [keyIn(SERVICES, metadata.namespace, metadata.name)] },
  ],
  observe(key, world) {
    const service = world.get<ServiceObject>(SERVICES, key.namespace, key.name);
    if (!service) return undefined;
    const { namespace, name } = key;
    return {
      desired: service,
      observed: {
        pods: world.list<PodObject>(PODS, { namespace, selector: { matchLabels: service.spec?.selector ?? {} } }),
        slices: world.list<SliceObject>(SLICES, {
          namespace,
          selector: { matchLabels: { [SERVICE_NAME]: name, [MANAGED_BY]: MANAGER } },
        }),
        endpoints: world.get<EndpointsObject>(ENDPOINTS, namespace, name),
      },
    };
  },
  reconcile,
};

export const controllers = [controller, mirrorController];
