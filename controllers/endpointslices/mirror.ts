/**
 * Mirrors the Endpoints that somebody has made by hand for a Service without a selector into EndpointSlices, which is what everybody reads. Follows the endpointslicemirroring controller of Kubernetes.
 * https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#endpointslice-mirroring
 */
import type { EndpointAddress, EndpointSubset } from '../../api-schemas/types/core-v1.ts';
import type { Endpoint } from '../../api-schemas/types/discovery-v1.ts';
import {
  controllerReference,
  deterministicName,
  keyIn,
  type ApiAction,
  type Controller,
  type Plan,
} from '../../sdk/index.ts';
import { ENDPOINTS, SERVICES, type EndpointsObject, type ServiceObject } from './endpoints-of.ts';
import {
  HEADLESS,
  MANAGED_BY,
  MAX_ENDPOINTS_PER_SLICE,
  SERVICE_NAME,
  sliceChanges,
  SLICES,
  type SliceObject,
} from './slice-changes.ts';

export interface MirrorObserved {
  /** Of the same name. */
  readonly service: ServiceObject | undefined;
  /** Slices that mirror it. */
  readonly slices: readonly SliceObject[];
}

const MANAGER = 'endpointslicemirroring-controller.k8s.io';
const SKIP = 'endpointslice.kubernetes.io/skip-mirror';
const LEADER = 'control-plane.alpha.kubernetes.io/leader';
/** Of one subset; what is beyond is not mirrored, as in Kubernetes. */
const MAX_ENDPOINTS_PER_SUBSET = 1_000;

const isMirrored = ({ metadata }: EndpointsObject, service: ServiceObject | undefined): boolean =>
  service !== undefined &&
  Object.keys(service.spec?.selector ?? {}).length === 0 &&
  service.spec?.type !== 'ExternalName' &&
  metadata.labels?.[SKIP] !== 'true' &&
  metadata.annotations?.[LEADER] === undefined &&
  !metadata.deletionTimestamp;

export function reconcileMirror(endpoints: EndpointsObject, { service, slices }: MirrorObserved): Plan<ApiAction> {
  const { name } = endpoints.metadata;
  const wanted = service && isMirrored(endpoints, service) ? mirrorsOf(endpoints, service) : [];
  return {
    actions: sliceChanges({
      wanted,
      standing: slices,
      because: () => `the Endpoints ${name} were written by hand, and are read as EndpointSlices`,
      superfluous: `the Endpoints ${name} have nothing for this slice`,
    }),
  };
}

function mirrorsOf(endpoints: EndpointsObject, service: ServiceObject): SliceObject[] {
  const { name, namespace, uid = '', labels } = endpoints.metadata;
  const parts = (endpoints.subsets ?? []).flatMap((subset) =>
    (['IPv4', 'IPv6'] as const).flatMap((addressType) =>
      chunks(endpointsOf(subset, addressType)).map((some) => ({ addressType, some, ports: subset.ports ?? [] })),
    ),
  );
  return parts.map(({ addressType, some, ports }, place) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: deterministicName(`${name}-`, [uid, place]),
      ...(namespace && { namespace }),
      labels: {
        ...labels,
        [SERVICE_NAME]: name,
        [MANAGED_BY]: MANAGER,
        ...(service.spec?.clusterIP === 'None' && { [HEADLESS]: '' }),
      },
      ownerReferences: [controllerReference(endpoints)],
    },
    addressType,
    endpoints: some,
    ports: ports.map(({ name: portName = '', port, protocol = 'TCP', appProtocol }) => ({
      name: portName,
      port,
      protocol,
      ...(appProtocol && { appProtocol }),
    })),
  }));
}

function endpointsOf(subset: EndpointSubset, addressType: 'IPv4' | 'IPv6'): Endpoint[] {
  const ofType = (addresses: readonly EndpointAddress[] | undefined, ready: boolean) =>
    (addresses ?? [])
      .filter(({ ip }) => ip.includes(':') === (addressType === 'IPv6'))
      .map((address) => endpointOf(address, ready));
  const all = [...ofType(subset.addresses, true), ...ofType(subset.notReadyAddresses, false)];
  return all.slice(0, MAX_ENDPOINTS_PER_SUBSET);
}

const endpointOf = ({ ip, hostname, nodeName, targetRef }: EndpointAddress, ready: boolean): Endpoint => ({
  addresses: [ip],
  conditions: { ready },
  ...(hostname && { hostname }),
  ...(nodeName && { nodeName }),
  ...(targetRef && { targetRef }),
});

function chunks(endpoints: readonly Endpoint[]): Endpoint[][] {
  const count = Math.ceil(endpoints.length / MAX_ENDPOINTS_PER_SLICE);
  return Array.from({ length: count }, (_, index) =>
    endpoints.slice(index * MAX_ENDPOINTS_PER_SLICE, (index + 1) * MAX_ENDPOINTS_PER_SLICE),
  );
}

export const mirrorController: Controller<EndpointsObject, MirrorObserved> = {
  name: 'endpointslicemirroring',
  resource: ENDPOINTS,
  watches: [
    { resource: SERVICES, keysFor: ({ metadata }) => [keyIn(ENDPOINTS, metadata.namespace, metadata.name)] },
    {
      resource: SLICES,
      keysFor: ({ metadata }) => {
        const name = metadata.labels?.[SERVICE_NAME];
        return name && metadata.labels?.[MANAGED_BY] === MANAGER ? [keyIn(ENDPOINTS, metadata.namespace, name)] : [];
      },
    },
  ],
  observe({ namespace, name }, world) {
    const endpoints = world.get<EndpointsObject>(ENDPOINTS, namespace, name);
    // What mirrored Endpoints that are gone goes with its owner.
    if (!endpoints) return undefined;
    const matchLabels = { [SERVICE_NAME]: name, [MANAGED_BY]: MANAGER };
    return {
      desired: endpoints,
      observed: {
        service: world.get<ServiceObject>(SERVICES, namespace, name),
        slices: world.list<SliceObject>(SLICES, { namespace, selector: { matchLabels } }),
      },
    };
  },
  reconcile: reconcileMirror,
};
