/** Rules for Services, Endpoints and EndpointSlices. Keyed to them by `catalogue.ts`. Follows `ValidateService` in `pkg/apis/core/validation`. */
import { duplicate, forbidden, invalid, required, type Fault } from '../fault.ts';
import { labelsFaults } from '../metadata.ts';
import { dns1123Label, dns1123Subdomain, ipAddress, portName, portNumber } from '../names.ts';
import { below, objectsAt, stringsAt, textAt, textsAt, type JsonObject, type Rule } from './rule.ts';

export const serviceSpec: Rule = ({ value: spec, old, path, report }) => {
  const type = textAt(spec['type']) || 'ClusterIP';
  const headless = spec['clusterIP'] === 'None';
  const ports = objectsAt(spec['ports']);
  if (type === 'ExternalName') {
    const host = textAt(spec['externalName']);
    if (host === '') report(required(below(path, 'externalName')));
    else
      report(
        ...dns1123Subdomain(host.replace(/\.$/, '')).map((says) => invalid(below(path, 'externalName'), host, says)),
      );
    if (textAt(spec['clusterIP']) !== '')
      report(forbidden(below(path, 'clusterIP'), "may not be set when `type` is 'ExternalName'"));
  } else if (ports.length === 0 && !headless) report(required(below(path, 'ports')));
  if (headless && (type === 'NodePort' || type === 'LoadBalancer')) {
    report(invalid(below(path, 'clusterIPs[0]'), 'None', `may not be set to 'None' for ${type} services`));
  }
  report(...familyFaults(spec, path), ...externalAddressFaults(spec, path));
  report(
    ...labelsFaults(stringsAt(spec['selector']), below(path, 'selector')),
    ...servicePortFaults(ports, path, type),
  );
  const address = textAt(spec['clusterIP']);
  if (address !== '' && address !== 'None')
    report(...ipAddress(address).map((says) => invalid(below(path, 'clusterIPs[0]'), address, says)));
  if (old && textAt(old['type']) !== 'ExternalName' && type !== 'ExternalName') {
    const before = textAt(old['clusterIP']);
    if (before !== '' && address !== '' && address !== before)
      report(invalid(below(path, 'clusterIPs[0]'), [address], 'may not change once set'));
  }
};

/** The cluster's addresses are of IPv4. */
function familyFaults(spec: JsonObject, path: string): Fault[] {
  const faults = textsAt(spec['ipFamilies']).flatMap((family, index) =>
    family === 'IPv6' ? [invalid(below(path, 'ipFamilies', index), family, 'not configured on this cluster')] : [],
  );
  const policy = spec['ipFamilyPolicy'];
  return policy === 'RequireDualStack'
    ? [
        ...faults,
        invalid(below(path, 'ipFamilyPolicy'), policy, 'this cluster is not configured for dual-stack services'),
      ]
    : faults;
}

const SPECIAL: readonly (readonly [addresses: RegExp, says: string])[] = [
  [/^(0\.0\.0\.0|::)$/, 'may not be unspecified'],
  [/^(127\.|::1$)/, 'may not be in the loopback range (127.0.0.0/8, ::1/128)'],
  [/^(169\.254\.|fe[89ab])/i, 'may not be in the link-local range (169.254.0.0/16, fe80::/10)'],
  [/^(224\.0\.0\.|ff02:)/i, 'may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)'],
];

/** What is sent to them is taken in by every node: addresses that mean the node itself would take its own traffic away. */
const externalAddressFaults = (spec: JsonObject, path: string): Fault[] =>
  textsAt(spec['externalIPs']).flatMap((address, index) => {
    const malformed = ipAddress(address);
    const complaints =
      malformed.length > 0
        ? malformed
        : SPECIAL.flatMap(([addresses, says]) => (addresses.test(address) ? [says] : []));
    return complaints.map((says) => invalid(below(path, 'externalIPs', index), address, says));
  });

function servicePortFaults(ports: readonly JsonObject[], path: string, type: string): Fault[] {
  const faults: Fault[] = [];
  const names = new Set<string>();
  const nodePorts = new Set<string>();
  for (const [index, port] of ports.entries()) {
    const at = below(path, 'ports', index);
    const name = textAt(port['name']);
    if (name === '' && ports.length > 1) faults.push(required(below(at, 'name')));
    else if (name !== '') {
      faults.push(...dns1123Label(name).map((says) => invalid(below(at, 'name'), name, says)));
      if (names.has(name)) faults.push(duplicate(below(at, 'name'), name));
      names.add(name);
    }
    faults.push(...portNumber(port['port']).map((says) => invalid(below(at, 'port'), port['port'] ?? 0, says)));
    const target = port['targetPort'];
    if (typeof target === 'string')
      faults.push(...portName(target).map((says) => invalid(below(at, 'targetPort'), target, says)));
    else if (target !== undefined && target !== 0)
      faults.push(...portNumber(target).map((says) => invalid(below(at, 'targetPort'), target, says)));
    const nodePort = port['nodePort'];
    if (nodePort === undefined || nodePort === 0) continue;
    if (type !== 'NodePort' && type !== 'LoadBalancer')
      faults.push(forbidden(below(at, 'nodePort'), `may not be used when \`type\` is '${type}'`));
    const key = `${textAt(port['protocol']) || 'TCP'}/${String(nodePort)}`;
    if (nodePorts.has(key)) faults.push(duplicate(below(at, 'nodePort'), nodePort));
    nodePorts.add(key);
  }
  return faults;
}

export const endpointSlice: Rule = ({ value, path, report }) => {
  const type = textAt(value['addressType']);
  for (const [index, endpoint] of objectsAt(value['endpoints']).entries()) {
    const addresses = Array.isArray(endpoint['addresses']) ? (endpoint['addresses'] as unknown[]) : [];
    const at = below(path, 'endpoints', index);
    if (addresses.length === 0) report(required(below(at, 'addresses'), 'must contain at least 1 address'));
    for (const [place, address] of addresses.entries()) {
      const check = type === 'FQDN' ? dns1123Subdomain : ipAddress;
      report(...check(textAt(address)).map((says) => invalid(below(at, 'addresses', place), address, says)));
    }
  }
};
