/** Rules for what an Ingress leads to, which is told without its value, and for blocks of addresses and who serves an IngressClass, of which a part has to be told. Keyed to the types by `catalogue.ts`. Follows `pkg/apis/networking/validation`. */
import { BlockList, isIP } from 'node:net';
import { invalid, required, type Fault } from '../fault.ts';
import { dns1123Subdomain } from '../names.ts';
import { below, objectAt, textAt, textsAt, type JsonObject, type Rule } from './rule.ts';

const PATH = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+";

export const ingressBackend: Rule = ({ value, path, report }) => {
  const [service, resource] = [value['service'], value['resource']];
  if (service === undefined && resource === undefined)
    report(invalid(path, '', 'resource or service backend is required'));
  else if (resource === undefined) report(...portFaults(objectAt(objectAt(service)['port']), path));
  else if (service !== undefined) report(invalid(path, '', 'cannot set both resource and service backends'));
};

function portFaults(port: JsonObject, path: string): Fault[] {
  const [named, numbered] = [textAt(port['name']) !== '', (port['number'] ?? 0) !== 0];
  if (named && numbered) return [invalid(path, '', 'cannot set both port name & port number')];
  return named || numbered ? [] : [required(path, 'port name or number is required')];
}

export const ingressClassSpec: Rule = ({ value, path, report }) => {
  const controller = textAt(value['controller']);
  if (controller !== '') report(...domainPathFaults(controller, below(path, 'controller')));
};

/** `IsDomainPrefixedPath` of apimachinery. */
function domainPathFaults(text: string, field: string): Fault[] {
  const slash = text.indexOf('/');
  const [domain, path] = [text.slice(0, Math.max(slash, 0)), text.slice(slash + 1)];
  if (domain === '' || path === '')
    return [invalid(field, text, 'must be a domain-prefixed path (such as "acme.io/foo")')];
  const faults = dns1123Subdomain(domain).map((says) => invalid(field, domain, says));
  if (!new RegExp(`^${PATH}$`).test(path))
    faults.push(invalid(field, path, `Invalid path (regex used for validation is '${PATH}')`));
  return faults;
}

interface Block {
  readonly address: string;
  readonly bits: number;
  readonly family: 'ipv4' | 'ipv6';
}

/** Undefined for what is no block; that is told by its format. */
function blockOf(text: string): Block | undefined {
  const [address = '', bits = ''] = text.split('/');
  const version = isIP(address);
  const sound = version !== 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128);
  return sound ? { address, bits: Number(bits), family: version === 4 ? 'ipv4' : 'ipv6' } : undefined;
}

export const ipBlock: Rule = ({ value, path, report }) => {
  const whole = blockOf(textAt(value['cidr']));
  if (!whole) return;
  const inside = new BlockList();
  inside.addSubnet(whole.address, whole.bits, whole.family);
  for (const [index, text] of textsAt(value['except']).entries()) {
    const part = blockOf(text);
    if (!part) continue;
    const within = part.family === whole.family && part.bits > whole.bits && inside.check(part.address, part.family);
    if (!within) report(invalid(below(path, 'except', index), text, 'must be a strict subset of `cidr`'));
  }
};
