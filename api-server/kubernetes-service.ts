/**
 * The Service `kubernetes` in the namespace `default`, by which pods reach the API server: made at start, and this server put behind it. Called by `main.ts` where the server is told by which address pods reach it.
 * https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import type { EndpointSubset, Endpoints } from '../api-schemas/types/core-v1.ts';
import type { Endpoint, EndpointSlice } from '../api-schemas/types/discovery-v1.ts';
import { ensure } from './bootstrap.ts';
import type { Services } from './call.ts';
import { StatusError } from './errors.ts';

const NAME = 'kubernetes';
const NAMESPACE = 'default';
const PORT_NAME = 'https';
const PORT = 443;

export interface ApiServerAddress {
  readonly address: string;
  readonly port: number;
  /** `10.96.0.0/20`: the Service has its first address, which the server's certificate names. */
  readonly serviceCidr: string;
}

export async function ensureKubernetesService(services: Services, place: ApiServerAddress): Promise<void> {
  const clusterIP = firstAddress(place.serviceCidr);
  await ensure(services, service(place.port, clusterIP)).catch(async (error: unknown) => {
    // An older cluster may have given the address away: then pods go by the Service's name.
    if (!(error instanceof StatusError && error.reason === 'Invalid')) throw error;
    services.logger.warn({ clusterIP, error: error.message }, 'the Service kubernetes cannot have its address');
    await ensure(services, service(place.port, undefined));
  });
  await ensure(services, endpoints(place), (standing) => withAddress(standing as Endpoints & ApiObject, place));
  await ensure(services, slice(place), (standing) => withEndpoint(standing as EndpointSlice & ApiObject, place));
}

const firstAddress = (cidr: string): string =>
  (cidr.split('/')[0] ?? '').replace(/\d+$/, (last) => String(Number(last) + 1));

const service = (targetPort: number, clusterIP: string | undefined): ApiObject => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: {
    name: NAME,
    namespace: NAMESPACE,
    labels: { component: 'apiserver', provider: 'kubernetes' },
  },
  spec: { ...(clusterIP && { clusterIP }), ports: [{ name: PORT_NAME, port: PORT, protocol: 'TCP', targetPort }] },
});

const subset = ({ address, port }: ApiServerAddress): EndpointSubset => ({
  addresses: [{ ip: address }],
  ports: [{ name: PORT_NAME, port, protocol: 'TCP' }],
});

const endpoints = (place: ApiServerAddress): ApiObject => ({
  apiVersion: 'v1',
  kind: 'Endpoints',
  metadata: { name: NAME, namespace: NAMESPACE, labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } },
  subsets: [subset(place)],
});

const endpoint = ({ address }: ApiServerAddress): Endpoint => ({ addresses: [address], conditions: { ready: true } });

const slice = (place: ApiServerAddress): ApiObject => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: NAME, namespace: NAMESPACE, labels: { 'kubernetes.io/service-name': NAME } },
  addressType: 'IPv4',
  endpoints: [endpoint(place)],
  ports: [{ name: PORT_NAME, port: place.port, protocol: 'TCP' }],
});

/** Undefined where this server stands in it already. Another port takes everything over: a Service has one. */
function withAddress(standing: Endpoints & ApiObject, place: ApiServerAddress): ApiObject | undefined {
  const known = standing.subsets?.find(({ ports }) => ports?.some(({ port }) => port === place.port));
  const others = known?.addresses ?? [];
  if (others.some(({ ip }) => ip === place.address)) return undefined;
  return { ...standing, subsets: [{ ...subset(place), addresses: [...others, { ip: place.address }] }] };
}

function withEndpoint(standing: EndpointSlice & ApiObject, place: ApiServerAddress): ApiObject | undefined {
  const isSamePort = standing.ports?.some(({ port }) => port === place.port) ?? false;
  const others = isSamePort ? (standing.endpoints ?? []) : [];
  if (others.some(({ addresses }) => addresses.includes(place.address))) return undefined;
  return {
    ...standing,
    ...(slice(place) as Partial<ApiObject>),
    metadata: standing.metadata,
    endpoints: [...others, endpoint(place)],
  };
}
