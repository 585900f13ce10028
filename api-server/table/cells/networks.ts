/** The cells of Services, endpoints, ingresses and network policies. Follows `pkg/printers/internalversion`. */
import {
  at,
  formatLabels,
  formatSelector,
  listAt,
  NONE,
  numberAt,
  objectAt,
  orNone,
  shortList,
  textAt,
  UNSET,
  type Cell,
  type JsonObject,
} from './reading.ts';

function externalIp(object: JsonObject): string {
  const own = listAt(object, 'spec', 'externalIPs').map(String);
  switch (textAt(object, 'spec', 'type')) {
    case 'ExternalName':
      return textAt(object, 'spec', 'externalName');
    case 'LoadBalancer': {
      const balanced = loadBalancerAddresses(object);
      const all = [...(balanced === '' ? [] : [balanced]), ...own];
      return all.length === 0 ? '<pending>' : all.join(',');
    }
    default:
      return orNone(own.join(','));
  }
}

const loadBalancerAddresses = (object: JsonObject): string =>
  [
    ...new Set(
      listAt(object, 'status', 'loadBalancer', 'ingress').map((each) => textAt(each, 'ip') || textAt(each, 'hostname')),
    ),
  ]
    .sort()
    .join(',');

function servicePorts(object: JsonObject): string {
  const ports = listAt(object, 'spec', 'ports').map((port) => {
    const node = numberAt(port, 'nodePort');
    return `${textAt(port, 'port')}${node > 0 ? `:${node}` : ''}/${textAt(port, 'protocol') || 'TCP'}`;
  });
  return orNone(ports.join(','));
}

function endpoints(object: JsonObject): string {
  const all = listAt(object, 'subsets').flatMap((subset) => {
    const addresses = listAt(subset, 'addresses').map((address) => textAt(address, 'ip'));
    const ports = listAt(subset, 'ports').map((port) => textAt(port, 'port'));
    return ports.length === 0
      ? addresses
      : ports.flatMap((port) =>
          addresses.map((address) => `${address.includes(':') ? `[${address}]` : address}:${port}`),
        );
  });
  return shortList(all, NONE);
}

function ingressHosts(object: JsonObject): string {
  const hosts = listAt(object, 'spec', 'rules').flatMap((rule) => textAt(rule, 'host') || []);
  return shortList(hosts, '*');
}

function ingressClassParameters(object: JsonObject): string {
  const parameters = objectAt(object, 'spec', 'parameters');
  if (Object.keys(parameters).length === 0) return NONE;
  const group = textAt(parameters, 'apiGroup');
  return `${textAt(parameters, 'kind')}${group === '' ? '' : `.${group}`}/${textAt(parameters, 'name')}`;
}

export const networkCells: Readonly<Record<string, Cell>> = {
  serviceClusterIp: ({ object }) =>
    orNone(textAt(object, 'spec', 'clusterIP') || String(listAt(object, 'spec', 'clusterIPs')[0] ?? '')),
  externalIp: ({ object }) => externalIp(object),
  servicePorts: ({ object }) => servicePorts(object),
  serviceSelector: ({ object }) => formatLabels(objectAt(object, 'spec', 'selector')),
  endpoints: ({ object }) => endpoints(object),
  endpointSlicePorts: ({ object }) =>
    shortList(
      listAt(object, 'ports').map((port) => textAt(port, 'port') || textAt(port, 'name') || '*'),
      UNSET,
    ),
  endpointSliceAddresses: ({ object }) =>
    shortList(
      listAt(object, 'endpoints').flatMap((endpoint) => listAt(endpoint, 'addresses').map(String)),
      UNSET,
    ),
  ingressClass: ({ object }) =>
    orNone(
      textAt(object, 'spec', 'ingressClassName') ||
        textAt(object, 'metadata', 'annotations', 'kubernetes.io/ingress.class'),
    ),
  ingressHosts: ({ object }) => ingressHosts(object),
  ingressAddress: ({ object }) => loadBalancerAddresses(object),
  ingressPorts: ({ object }) => (at(object, 'spec', 'tls') === undefined ? '80' : '80, 443'),
  ingressClassParameters: ({ object }) => ingressClassParameters(object),
  podSelector: ({ object }) => formatSelector(objectAt(object, 'spec', 'podSelector')),
};
