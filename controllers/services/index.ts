/**
 * Services on this node: cluster addresses and node ports in the kernel, names in the cluster's DNS. Runs on every node; the EndpointSlices that it reads are made by the controller of that name.
 */
import { readdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { keyIn, runControllers, type Controller, type Logger, type World } from '../../sdk/index.ts';
import { Dataplane } from './dataplane.ts';
import { DnsServer } from './dns/server.ts';
import type { ZoneView } from './dns/zone.ts';
import { reconcile, type InstallAction, type Observed } from './reconcile.ts';
import { rulesOf, type PortRule, type ServiceObject, type SliceObject } from './service-rules.ts';

const SERVICES = { group: '', version: 'v1', resource: 'services' };
const NAMESPACES = { group: '', version: 'v1', resource: 'namespaces' };
const SLICES = { group: 'discovery.k8s.io', version: 'v1', resource: 'endpointslices' };
const SERVICE_NAME = 'kubernetes.io/service-name';
const DNS_PORT = 53;

/** What `reckon run services` hands over. */
export interface ServicesContext {
  readonly kubeconfig: string;
  readonly natsUrl: string;
  readonly runtime: 'docker' | 'simulated';
  readonly settings: { readonly podCidr: string; readonly serviceCidr: string; readonly nftTable: string };
  readonly logger: Logger;
}

const slicesOf = (world: World, namespace: string, name: string) =>
  world.list<SliceObject>(SLICES, { namespace, selector: { matchLabels: { [SERVICE_NAME]: name } } });

/** The pods' network has its first address on the bridge. */
function gatewayOf(podCidr: string): string {
  const [network = ''] = podCidr.split('/');
  return network.replace(/\d+$/, (last) => String(Number(last) + 1));
}

/** The bridge that holds the address; undefined until the agent has made the network. */
function bridgeWith(address: string): string | undefined {
  const holder = Object.entries(networkInterfaces()).find(([, addresses]) =>
    addresses?.some((one) => one.address === address),
  )?.[0];
  return holder !== undefined && readdirSync(`/sys/class/net/${holder}`).includes('brif') ? holder : undefined;
}

function viewOf(world: World): ZoneView {
  return {
    service: (namespace, name) => world.get<ServiceObject>(SERVICES, namespace, name),
    slices: (namespace, name) => slicesOf(world, namespace, name),
    hasNamespace: (namespace) => world.get(NAMESPACES, '', namespace) !== undefined,
    serviceAt: (address) => world.list<ServiceObject>(SERVICES).find(({ spec }) => spec?.clusterIP === address),
  };
}

function wanted(world: World): Map<string, PortRule[]> {
  return new Map(
    world
      .list<ServiceObject>(SERVICES)
      .map((service) => [
        `${service.metadata.namespace}/${service.metadata.name}`,
        rulesOf(service, slicesOf(world, service.metadata.namespace ?? '', service.metadata.name)),
      ]),
  );
}

function makeController(
  dataplane: Dataplane,
  dns: (world: World) => DnsServer,
): Controller<ServiceObject, Observed, InstallAction> {
  return {
    name: 'services',
    scope: 'node',
    resource: SERVICES,
    concurrency: 64,
    watches: [
      {
        resource: SLICES,
        keysFor: ({ metadata }) =>
          metadata.labels?.[SERVICE_NAME] ? [keyIn(SERVICES, metadata.namespace, metadata.labels[SERVICE_NAME])] : [],
      },
      { resource: NAMESPACES, keysFor: () => [] },
    ],
    async start({ world, signal }) {
      await dataplane.start(wanted(world));
      const server = dns(world);
      server.start();
      signal.addEventListener('abort', () => {
        dataplane.stop();
        server.stop();
      });
    },
    observe({ namespace, name }, world) {
      const service = world.get<ServiceObject>(SERVICES, namespace, name);
      const installed = dataplane.installed(`${namespace}/${name}`);
      if (service)
        return {
          desired: service,
          observed: { installed, wanted: rulesOf(service, slicesOf(world, namespace, name)) },
        };
      const gone = { apiVersion: 'v1', kind: 'Service', metadata: { namespace, name } } as ServiceObject;
      return { desired: gone, observed: { installed, wanted: [] } };
    },
    reconcile,
    apply: ({ service, rules }) => dataplane.install(service, rules),
  };
}

export async function start({
  kubeconfig,
  natsUrl,
  runtime,
  settings,
  logger,
}: ServicesContext): Promise<{ stop(): Promise<void> }> {
  // Simulated containers have no addresses to send anything to.
  if (runtime === 'simulated') return { stop: async () => undefined };
  const address = gatewayOf(settings.podCidr);
  const dataplane = new Dataplane({
    table: settings.nftTable,
    podCidr: settings.podCidr,
    serviceCidr: settings.serviceCidr,
    bridge: () => bridgeWith(address),
    logger,
  });
  const dns = (world: World) => new DnsServer({ address, port: DNS_PORT, view: viewOf(world), logger });
  return runControllers([makeController(dataplane, dns)], { kubeconfig, natsUrl, logger });
}
