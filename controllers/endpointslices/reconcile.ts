/**
 * Brings a Service's EndpointSlices, and the older Endpoints object of the same name, in line with its ready pods. Pure; called by the SDK's loop.
 */
import type { EndpointAddress, EndpointSubset } from '../../api-schemas/types/core-v1.ts';
import type { Endpoint } from '../../api-schemas/types/discovery-v1.ts';
import { controllerReference, deterministicName, sameJson, type ApiAction, type Plan } from '../../sdk/index.ts';
import {
  HEADLESS,
  MANAGED_BY,
  MAX_ENDPOINTS_PER_SLICE,
  SERVICE_NAME,
  sliceChanges,
  type SliceObject,
} from './slice-changes.ts';
import {
  ENDPOINTS,
  endpointGroups,
  type EndpointGroup,
  type EndpointsObject,
  type PodObject,
  type ServiceObject,
} from './endpoints-of.ts';

export interface Observed {
  /** Pods that the Service selects. */
  readonly pods: readonly PodObject[];
  /** Slices of this Service that this controller manages. */
  readonly slices: readonly SliceObject[];
  readonly endpoints: EndpointsObject | undefined;
}

export const MANAGER = 'endpointslice-controller.k8s.io';
/** Kubernetes' own bound; what is cut off stands in the slices. */
const MAX_ENDPOINTS = 1_000;

export function reconcile(service: ServiceObject, observed: Observed): Plan<ApiAction> {
  const selects = Object.keys(service.spec?.selector ?? {}).length > 0 && service.spec?.type !== 'ExternalName';
  if (!selects || service.metadata.deletionTimestamp) return { actions: [] };
  const groups = endpointGroups(service, observed.pods);
  return {
    actions: [
      ...sliceActions(service, groups, observed.slices),
      ...endpointsActions(service, groups, observed.endpoints),
    ],
  };
}

/** What one slice is to hold, and the name that it stands under, where it stands already. */
interface Part {
  readonly name?: string;
  readonly ports: EndpointGroup['ports'];
  readonly endpoints: Endpoint[];
}

const idOf = ({ targetRef, addresses }: Endpoint): string => targetRef?.uid ?? addresses[0] ?? '';

/** Each endpoint stays in the slice where it stands; new ones fill what room there is, then new slices. So a pod that comes or goes changes one slice, however many there are. */
function partsOf({ ports, endpoints }: EndpointGroup, slices: readonly SliceObject[]): Part[] {
  const waiting = new Map(endpoints.map((endpoint) => [idOf(endpoint), endpoint]));
  const parts: Part[] = [];
  for (const slice of slices.filter((one) => sameJson(one.ports ?? [], ports))) {
    const kept = (slice.endpoints ?? []).flatMap((endpoint) => {
      const wanted = waiting.get(idOf(endpoint));
      return waiting.delete(idOf(endpoint)) && wanted ? [wanted] : [];
    });
    if (kept.length > 0) parts.push({ name: slice.metadata.name, ports, endpoints: kept });
  }
  const rest = [...waiting.values()];
  for (const part of parts) part.endpoints.push(...rest.splice(0, MAX_ENDPOINTS_PER_SLICE - part.endpoints.length));
  while (rest.length > 0) parts.push({ ports, endpoints: rest.splice(0, MAX_ENDPOINTS_PER_SLICE) });
  return parts;
}

/** The slices as they should be. New names are those of the first free places. */
function wantedSlices(
  service: ServiceObject,
  groups: readonly EndpointGroup[],
  slices: readonly SliceObject[],
): SliceObject[] {
  const { name, namespace, uid = '' } = service.metadata;
  const standing = [...slices]
    .filter(({ addressType, metadata }) => addressType === 'IPv4' && !metadata.deletionTimestamp)
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const parts = groups.flatMap((group) => partsOf(group, standing));
  // A Service without pods has one empty slice: a consumer can tell "nobody there" from "not looked at yet".
  if (parts.length === 0) parts.push({ ports: [], endpoints: [] });
  const used = new Set(parts.flatMap((part) => part.name ?? []));
  const freeName = (): string => {
    for (let place = 0; ; place++) {
      const candidate = deterministicName(`${name}-`, [uid, place]);
      if (!used.has(candidate)) return used.add(candidate) && candidate;
    }
  };
  return parts.map(({ name: place, ports, endpoints }) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: place ?? freeName(),
      ...(namespace && { namespace }),
      labels: {
        ...service.metadata.labels,
        [SERVICE_NAME]: name,
        [MANAGED_BY]: MANAGER,
        ...(service.spec?.clusterIP === 'None' && { [HEADLESS]: '' }),
      },
      ownerReferences: [controllerReference(service)],
    },
    addressType: 'IPv4',
    endpoints,
    ports: [...ports],
  }));
}

const sliceActions = (
  service: ServiceObject,
  groups: readonly EndpointGroup[],
  slices: readonly SliceObject[],
): ApiAction[] =>
  sliceChanges({
    wanted: wantedSlices(service, groups, slices),
    standing: slices,
    because: ({ endpoints }) => describe(service, endpoints),
    superfluous: 'the Service has no endpoints for this slice any more',
  });

function describe(service: ServiceObject, endpoints: readonly Endpoint[]): string {
  const ready = endpoints.filter(({ conditions }) => conditions?.ready).length;
  return `Service ${service.metadata.name} selects ${endpoints.length} pods with an address, ${ready} of them ready`;
}

function addressOf({ addresses, hostname, nodeName, targetRef }: Endpoint): EndpointAddress {
  return {
    ip: addresses[0] ?? '',
    ...(hostname && { hostname }),
    ...(nodeName && { nodeName }),
    ...(targetRef && { targetRef }),
  };
}

/** At most so many addresses in all; ready ones first. */
function listedOf(groups: readonly EndpointGroup[]): ReadonlySet<Endpoint> {
  const all = groups
    .flatMap(({ endpoints }) => endpoints)
    .filter(({ conditions }) => !conditions?.terminating || conditions.ready);
  const ready = all.filter(({ conditions }) => conditions?.ready);
  return new Set([...ready, ...all.filter(({ conditions }) => !conditions?.ready)].slice(0, MAX_ENDPOINTS));
}

function subsets(groups: readonly EndpointGroup[]): EndpointSubset[] {
  const kept = listedOf(groups);
  return groups.flatMap(({ ports, endpoints }) => {
    const listed = endpoints.filter((endpoint) => kept.has(endpoint));
    if (listed.length === 0) return [];
    const ready = listed.filter(({ conditions }) => conditions?.ready).map(addressOf);
    const notReady = listed.filter(({ conditions }) => !conditions?.ready).map(addressOf);
    const named = ports.map(({ name, port = 0, protocol }) => ({
      ...(name && { name }),
      port,
      ...(protocol && { protocol }),
    }));
    return [
      {
        ...(ready.length > 0 && { addresses: ready }),
        ...(notReady.length > 0 && { notReadyAddresses: notReady }),
        ports: named,
      },
    ];
  });
}

function endpointsActions(
  service: ServiceObject,
  groups: readonly EndpointGroup[],
  current: EndpointsObject | undefined,
): ApiAction[] {
  const { name, namespace } = service.metadata;
  const wanted = subsets(groups);
  const labels = {
    ...service.metadata.labels,
    'endpoints.kubernetes.io/managed-by': 'endpoint-controller',
    ...(service.spec?.clusterIP === 'None' && { [HEADLESS]: '' }),
  };
  if (current && sameJson(current.subsets ?? [], wanted) && sameJson(current.metadata.labels, labels)) return [];
  const uid = current?.metadata.uid;
  const resourceVersion = current?.metadata.resourceVersion;
  const object: EndpointsObject = {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: {
      name,
      ...(namespace && { namespace }),
      labels,
      ownerReferences: [controllerReference(service)],
      ...(uid && { uid }),
      ...(resourceVersion && { resourceVersion }),
    },
    ...(wanted.length > 0 && { subsets: wanted }),
  };
  const because = `the ready pods of Service ${name} have changed`;
  return [{ verb: current ? 'update' : 'create', resource: ENDPOINTS, object, because }];
}
