/**
 * The Service `kubernetes` in the namespace `default`, by which pods reach the API servers. Every API server that is told by which address pods reach it holds a Lease that says so; whoever's Lease is fresh stands behind the
 * Service, and all of them see to that. Started by `main.ts`. https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
 */
import { createHash } from 'node:crypto';
import type { ResourceDefinition, ApiObject } from '../api-schemas/schema.ts';
import { microTimestamp } from '../api-schemas/timestamps.ts';
import type { Endpoints, Service } from '../api-schemas/types/core-v1.ts';
import type { Lease } from '../api-schemas/types/coordination-v1.ts';
import type { EndpointSlice } from '../api-schemas/types/discovery-v1.ts';
import { ensure } from './bootstrap.ts';
import type { Services } from './call.ts';
import { StatusError } from './errors.ts';
import { decode, entryId } from './store/entry.ts';

const NAME = 'kubernetes';
const NAMESPACE = 'default';
const PORT_NAME = 'https';
const PORT = 443;
const LEASE_NAMESPACE = 'kube-system';
/** As Kubernetes marks the Leases of its own API servers. */
const IDENTITY_LABEL = 'apiserver.kubernetes.io/identity';
const IDENTITY = 'kube-apiserver';
const RENEW_MS = 10_000;
/** A server that has been silent so long is taken to be gone. */
const LEASE_SECONDS = 60;

export interface ApiServerAddress {
  readonly address: string;
  readonly port: number;
  /** `10.96.0.0/20`: the Service has its first address, which the server's certificate names. */
  readonly serviceCidr: string;
}

/** Resolves once this server stands behind the Service; stays there until the signal. */
export async function keepKubernetesService(
  services: Services,
  place: ApiServerAddress,
  signal: AbortSignal,
): Promise<void> {
  const leases = services.registry.byResource('coordination.k8s.io', 'v1', 'leases');
  if (!leases) throw new Error('leases have no schema');
  let turn = Promise.resolve();
  const keep = (renews: boolean): Promise<void> => {
    const mine = turn.then(async () => {
      if (signal.aborted) return;
      if (renews) await ensure(services, lease(place), () => lease(place));
      await bringInLine(services, leases, place);
    });
    turn = mine.catch((error: unknown) => services.logger.warn({ err: error }, 'the Service kubernetes is not kept'));
    return mine;
  };
  await keep(true);
  const timer = setInterval(() => void keep(true).catch(() => undefined), RENEW_MS);
  const unsubscribe = services.store.cache(leases).watch({
    event: ({ entry }) => {
      if (entry.labels[IDENTITY_LABEL] === IDENTITY && entry.key.name !== leaseName(place))
        void keep(false).catch(() => undefined);
    },
    lost: () => undefined,
  });
  signal.addEventListener('abort', () => {
    clearInterval(timer);
    unsubscribe();
  });
}

const leaseName = ({ address, port }: ApiServerAddress): string =>
  `apiserver-${createHash('sha256').update(`${address}:${port}`).digest('hex').slice(0, 26)}`;

const lease = (place: ApiServerAddress): ApiObject => ({
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  metadata: { name: leaseName(place), namespace: LEASE_NAMESPACE, labels: { [IDENTITY_LABEL]: IDENTITY } },
  spec: {
    holderIdentity: `${place.address}:${place.port}`,
    leaseDurationSeconds: LEASE_SECONDS,
    renewTime: microTimestamp(Date.now()),
  },
});

/** `address:port` of every server that lives. */
function holders({ store }: Services, leases: ResourceDefinition): string[] {
  return store
    .cache(leases)
    .inNamespace(LEASE_NAMESPACE)
    .filter(({ labels }) => labels[IDENTITY_LABEL] === IDENTITY)
    .map((entry) => (decode(entry) as Lease & ApiObject).spec)
    .filter((spec) => Date.parse(spec?.renewTime ?? '') + LEASE_SECONDS * 1000 > Date.now())
    .map((spec) => spec?.holderIdentity ?? '');
}

/** A Service has one port: those who listen on the one that it leads to see to it, for as long as there are any. */
async function bringInLine(services: Services, leases: ResourceDefinition, place: ApiServerAddress): Promise<void> {
  const living = holders(services, leases);
  const on = (port: unknown): string[] =>
    living.filter((holder) => holder.endsWith(`:${String(port)}`)).map((holder) => holder.replace(/:\d+$/, ''));
  let leadsTo = portOf(services);
  if (leadsTo === undefined) {
    await ensureService(services, place);
    leadsTo = portOf(services);
  }
  if (leadsTo !== place.port && on(leadsTo).length > 0) return;
  const addresses = [...new Set([place.address, ...on(place.port)])].sort();
  const wanted = [endpoints(place.port, addresses), slice(place.port, addresses)];
  for (const object of wanted)
    await ensure(services, object, (standing) => ({ ...object, metadata: standing.metadata }));
  if (leadsTo !== place.port)
    await ensure(services, service(place.port, undefined), (standing) => leadTo(standing, place));
}

function portOf({ registry, store }: Services): unknown {
  const definition = registry.byResource('', 'v1', 'services');
  const entry = definition && store.cache(definition).get(entryId({ namespace: NAMESPACE, name: NAME }));
  return entry && (decode(entry) as Service & ApiObject).spec?.ports?.[0]?.targetPort;
}

function leadTo(standing: ApiObject, { port }: ApiServerAddress): ApiObject {
  const { spec } = standing as Service & ApiObject;
  return { ...standing, spec: { ...spec, ports: (spec?.ports ?? []).map((one) => ({ ...one, targetPort: port })) } };
}

async function ensureService(services: Services, { port, serviceCidr }: ApiServerAddress): Promise<void> {
  const clusterIP = (serviceCidr.split('/')[0] ?? '').replace(/\d+$/, (last) => String(Number(last) + 1));
  await ensure(services, service(port, clusterIP)).catch(async (error: unknown) => {
    // An older cluster may have given the address away: then pods go by the Service's name.
    if (!(error instanceof StatusError && error.reason === 'Invalid')) throw error;
    services.logger.warn({ clusterIP, error: error.message }, 'the Service kubernetes cannot have its address');
    await ensure(services, service(port, undefined));
  });
}

const service = (targetPort: number, clusterIP: string | undefined): ApiObject => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: NAME, namespace: NAMESPACE, labels: { component: 'apiserver', provider: 'kubernetes' } },
  spec: { ...(clusterIP && { clusterIP }), ports: [{ name: PORT_NAME, port: PORT, protocol: 'TCP', targetPort }] },
});

const endpoints = (port: number, addresses: readonly string[]): Endpoints & ApiObject => ({
  apiVersion: 'v1',
  kind: 'Endpoints',
  metadata: { name: NAME, namespace: NAMESPACE, labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } },
  subsets: [{ addresses: addresses.map((ip) => ({ ip })), ports: [{ name: PORT_NAME, port, protocol: 'TCP' }] }],
});

const slice = (port: number, addresses: readonly string[]): EndpointSlice & ApiObject => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: NAME, namespace: NAMESPACE, labels: { 'kubernetes.io/service-name': NAME } },
  addressType: 'IPv4',
  endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
  ports: [{ name: PORT_NAME, port, protocol: 'TCP' }],
});
