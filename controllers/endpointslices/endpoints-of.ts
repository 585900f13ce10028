/**
 * What a Service points at: its pods with their addresses and conditions, and each port resolved to a number. Pods that name a port differently stand in groups of their own.
 * https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
 */
import type { ContainerPort, Endpoints, Pod, Service, ServicePort } from '../../api-schemas/types/core-v1.ts';
import type { Endpoint, EndpointPort } from '../../api-schemas/types/discovery-v1.ts';
import { conditionHolds, canonicalJson, type ApiObject } from '../../sdk/index.ts';

export type PodObject = Pod & ApiObject;
export type ServiceObject = Service & ApiObject;
export type EndpointsObject = Endpoints & ApiObject;

export const SERVICES = { group: '', version: 'v1', resource: 'services' };
export const ENDPOINTS = { group: '', version: 'v1', resource: 'endpoints' };

/** Endpoints that share their ports. */
export interface EndpointGroup {
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
}

const TOLERATE_UNREADY = 'service.alpha.kubernetes.io/tolerate-unready-endpoints';

function containerPorts(pod: PodObject): ContainerPort[] {
  const sidecars = (pod.spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always');
  return [...(pod.spec?.containers ?? []), ...sidecars].flatMap(({ ports }) => ports ?? []);
}

/** Undefined where the pod has no port by that name. */
function portOn(pod: PodObject, port: ServicePort): number | undefined {
  const target = port.targetPort ?? port.port;
  if (typeof target === 'number') return target === 0 ? port.port : target;
  return containerPorts(pod).find(
    ({ name, protocol }) => name === target && (protocol ?? 'TCP') === (port.protocol ?? 'TCP'),
  )?.containerPort;
}

function portsOn(pod: PodObject, service: ServiceObject): EndpointPort[] {
  return (service.spec?.ports ?? []).flatMap((port) => {
    const number = portOn(pod, port);
    if (number === undefined) return [];
    return [
      {
        name: port.name ?? '',
        port: number,
        protocol: port.protocol ?? ('TCP' as const),
        ...(port.appProtocol && { appProtocol: port.appProtocol }),
      },
    ];
  });
}

export function endpointOf(pod: PodObject, service: ServiceObject): Endpoint {
  const { name, namespace, uid, deletionTimestamp } = pod.metadata;
  const serving = conditionHolds(pod.status?.conditions, 'Ready');
  const terminating = deletionTimestamp !== undefined;
  const publish = service.spec?.publishNotReadyAddresses || service.metadata.annotations?.[TOLERATE_UNREADY] === 'true';
  return {
    addresses: [pod.status?.podIP ?? ''],
    conditions: { ready: publish || (serving && !terminating), serving, terminating },
    ...(pod.spec?.hostname && pod.spec.subdomain === service.metadata.name && { hostname: pod.spec.hostname }),
    ...(pod.spec?.nodeName && { nodeName: pod.spec.nodeName }),
    targetRef: { kind: 'Pod', name, ...(namespace && { namespace }), ...(uid && { uid }) },
  };
}

/** Ordered, so that equal worlds give equal groups. */
export function endpointGroups(service: ServiceObject, pods: readonly PodObject[]): EndpointGroup[] {
  const groups = new Map<string, { ports: EndpointPort[]; endpoints: Endpoint[] }>();
  const living = pods.filter(
    ({ status }) => status?.podIP && status.phase !== 'Succeeded' && status.phase !== 'Failed',
  );
  for (const pod of [...living].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    const ports = portsOn(pod, service);
    const id = canonicalJson(ports);
    let group = groups.get(id);
    if (!group) groups.set(id, (group = { ports, endpoints: [] }));
    group.endpoints.push(endpointOf(pod, service));
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
}
