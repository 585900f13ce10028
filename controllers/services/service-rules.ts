/**
 * What the kernel must do for one Service: which addresses and ports are taken in, and which endpoints they go to. Pure; made from a Service and its EndpointSlices.
 * https://kubernetes.io/docs/reference/networking/virtual-ips/
 */
import type { Service } from '../../api-schemas/types/core-v1.ts';
import type { EndpointSlice } from '../../api-schemas/types/discovery-v1.ts';
import type { ApiObject } from '../../sdk/index.ts';

export type ServiceObject = Service & ApiObject;
export type SliceObject = EndpointSlice & ApiObject;

export type Protocol = 'tcp' | 'udp' | 'sctp';

export interface Target {
  readonly address: string;
  readonly port: number;
}

/** One port of a Service. */
export interface PortRule {
  /** Unique on the node, and fit for the name of a chain. */
  readonly id: string;
  readonly protocol: Protocol;
  /** Addresses of the Service itself: its cluster address and any external ones. */
  readonly addresses: readonly string[];
  readonly port: number;
  readonly nodePort: number | undefined;
  /** In order; empty when nobody is ready, and then connections are refused. */
  readonly targets: readonly Target[];
  /** A client always gets the same target, for as long as that is there (`sessionAffinity: ClientIP`). */
  readonly sticky?: boolean;
}

const isAddress = (text: string | undefined): text is string => text !== undefined && /^\d+\.\d+\.\d+\.\d+$/.test(text);

/** Nothing for headless and external Services: those are matters of DNS. */
export function rulesOf(service: ServiceObject, slices: readonly SliceObject[]): PortRule[] {
  const { spec, metadata } = service;
  if (!spec || spec.type === 'ExternalName' || !isAddress(spec.clusterIP)) return [];
  const ingress = (service.status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip);
  const addresses = [spec.clusterIP, ...(spec.externalIPs ?? []), ...ingress].filter(isAddress);
  return (spec.ports ?? []).map((port) => {
    const protocol = (port.protocol ?? 'TCP').toLowerCase() as Protocol;
    return {
      id: `${metadata.uid ?? metadata.name}_${protocol}_${port.port}`.replaceAll(/[^a-zA-Z0-9_]/g, ''),
      protocol,
      addresses,
      port: port.port,
      nodePort: spec.type === 'NodePort' || spec.type === 'LoadBalancer' ? port.nodePort : undefined,
      targets: targetsOf(port.name ?? '', port.protocol ?? 'TCP', slices),
      ...(spec.sessionAffinity === 'ClientIP' && { sticky: true }),
    };
  });
}

/** Ready endpoints; where none is ready, those that still serve while they terminate. */
function targetsOf(portName: string, protocol: string, slices: readonly SliceObject[]): Target[] {
  const pick = (
    accept: (conditions: { ready?: boolean; serving?: boolean; terminating?: boolean }) => boolean,
  ): Target[] => {
    const found = new Map<string, Target>();
    for (const slice of slices) {
      if (slice.addressType !== 'IPv4') continue;
      const port = (slice.ports ?? []).find(
        (candidate) => (candidate.name ?? '') === portName && (candidate.protocol ?? 'TCP') === protocol,
      )?.port;
      if (!port) continue;
      for (const { addresses, conditions = {} } of slice.endpoints ?? []) {
        const address = addresses[0];
        if (isAddress(address) && accept(conditions)) found.set(`${address}:${port}`, { address, port });
      }
    }
    return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, target]) => target);
  };
  const ready = pick((conditions) => conditions.ready !== false);
  return ready.length > 0
    ? ready
    : pick((conditions) => conditions.serving === true && conditions.terminating === true);
}
