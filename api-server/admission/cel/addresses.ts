/**
 * URLs, IP addresses and networks in CEL: `url(self).getHost()`, `ip(self).family() == 4`, `cidr(self).containsIP(ip('10.0.0.1'))`.
 * https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-url-library
 */
import { BlockList, isIP, isIPv4, SocketAddress } from 'node:net';
import type { Environment } from '@marcbachmann/cel-js';

class CelUrl {
  readonly url: URL;
  /** As it was written, without what URLs of browsers add. */
  readonly path: string;
  constructor(text: string) {
    this.url = new URL(text, baseOf(text));
    this.path = /^(?:[^:/?#]+:)?(?:\/\/[^/?#]*)?([^?#]*)/.exec(text)?.[1] ?? '';
  }
}

const isUrl = (text: string): boolean =>
  (text.startsWith('/') || /^[A-Za-z][A-Za-z0-9+.-]*:/.test(text)) && URL.canParse(text, baseOf(text));

/** A path alone is a URL to Go; the URLs of browsers need something that it is relative to. */
const BASE = 'path:///';
const baseOf = (text: string): string | undefined => (text.startsWith('/') ? BASE : undefined);

const schemeOf = ({ url }: CelUrl): string => (url.protocol === 'path:' ? '' : url.protocol.slice(0, -1));
const bare = (host: string): string => host.replace(/^\[(.*)\]$/, '$1');

function queryOf({ url }: CelUrl): Record<string, string[]> {
  const query: Record<string, string[]> = {};
  for (const [name, value] of url.searchParams) {
    const values = Object.hasOwn(query, name) ? query[name] : undefined;
    if (values) values.push(value);
    else Object.defineProperty(query, name, { value: [value], enumerable: true });
  }
  return query;
}

class CelIp {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

class IpFunctions {}

class CelCidr {
  readonly address: string;
  readonly length: number;
  constructor(address: string, length: number) {
    this.address = address;
    this.length = length;
  }
}

const canonical = (text: string): string =>
  isIPv4(text) ? text : new SocketAddress({ address: text, family: 'ipv6' }).address;

const familyOf = (text: string): 'ipv4' | 'ipv6' => (isIPv4(text) ? 'ipv4' : 'ipv6');

function readIp(text: string): CelIp {
  if (isIP(text) === 0 || text.includes('%'))
    throw new Error(`IP address ${JSON.stringify(text.slice(0, 64))} cannot be parsed`);
  return new CelIp(canonical(text));
}

function parseCidr(text: string): CelCidr | undefined {
  const [address = '', length = '', ...rest] = text.split('/');
  if (rest.length > 0 || isIP(address) === 0 || address.includes('%') || !/^(0|[1-9]\d{0,2})$/.test(length))
    return undefined;
  return Number(length) > (isIPv4(address) ? 32 : 128) ? undefined : new CelCidr(canonical(address), Number(length));
}

function readCidr(text: string): CelCidr {
  const network = parseCidr(text);
  if (!network) throw new Error(`network address ${JSON.stringify(text.slice(0, 64))} cannot be parsed`);
  return network;
}

function contains({ address, length }: CelCidr, ip: string): boolean {
  if (familyOf(address) !== familyOf(ip)) return false;
  const list = new BlockList();
  list.addSubnet(address, length, familyOf(address));
  return list.check(ip, familyOf(ip));
}

/** The first address of a network. */
function masked({ address, length }: CelCidr): CelCidr {
  const width = isIPv4(address) ? 32 : 128;
  const kept = (numberOf(address) >> BigInt(width - length)) << BigInt(width - length);
  return new CelCidr(textOf(kept, width), length);
}

function numberOf(address: string): bigint {
  if (isIPv4(address)) return address.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
  const [head = '', tail] = address.split('::');
  const parts = (text: string | undefined): string[] => (text ? text.split(':') : []);
  const [left, right] = [parts(head), parts(tail)];
  const middle = tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...middle, ...right].reduce((sum, part) => (sum << 16n) | BigInt(`0x${part}`), 0n);
}

function textOf(value: bigint, width: number): string {
  const [size, radix, separator] = width === 32 ? ([8n, 10, '.'] as const) : ([16n, 16, ':'] as const);
  const parts: string[] = [];
  for (let left = value, bits = 0n; bits < BigInt(width); bits += size, left >>= size)
    parts.unshift((left & ((1n << size) - 1n)).toString(radix));
  return canonical(parts.join(separator));
}

const KINDS: Readonly<Record<string, readonly string[]>> = {
  isUnspecified: ['0.0.0.0/32', '::/128'],
  isLoopback: ['127.0.0.0/8', '::1/128'],
  isLinkLocalMulticast: ['224.0.0.0/24', 'ff02::/16'],
  isLinkLocalUnicast: ['169.254.0.0/16', 'fe80::/10'],
};
const isOf = (networks: readonly string[], ip: string): boolean =>
  networks.some((each) => contains(readCidr(each), ip));
const NOT_GLOBAL = [...Object.values(KINDS).flat(), '255.255.255.255/32', '224.0.0.0/4', 'ff00::/8'];

export function registerAddresses(environment: Environment): void {
  registerUrls(environment);
  const [ip, cidr] = ['net.IP', 'net.CIDR'];
  environment
    .registerType(ip, CelIp)
    .registerType(cidr, CelCidr)
    .registerType('IpFunctions', IpFunctions)
    .registerConstant('ip', 'IpFunctions', new IpFunctions())
    .registerFunction('IpFunctions.isCanonical(string): bool', (_: unknown, text: string) => readIp(text).text === text)
    .registerFunction(`ip(string): ${ip}`, readIp)
    .registerFunction('isIP(string): bool', (text: string) => isIP(text) !== 0 && !text.includes('%'))
    .registerFunction(`${ip}.family(): int`, ({ text }: CelIp) => (isIPv4(text) ? 4n : 6n))
    .registerFunction(`${ip}.isGlobalUnicast(): bool`, ({ text }: CelIp) => !isOf(NOT_GLOBAL, text))
    .registerFunction(`string(${ip}): string`, ({ text }: CelIp) => text)
    .registerOperator(`${ip} == ${ip}`, (a: CelIp, b: CelIp) => a.text === b.text)
    .registerFunction(`cidr(string): ${cidr}`, readCidr)
    .registerFunction('isCIDR(string): bool', (text: string) => parseCidr(text) !== undefined)
    .registerFunction(`${cidr}.containsIP(${ip}): bool`, (network: CelCidr, { text }: CelIp) => contains(network, text))
    .registerFunction(`${cidr}.containsIP(string): bool`, (network: CelCidr, text: string) =>
      contains(network, readIp(text).text),
    )
    .registerFunction(`${cidr}.containsCIDR(${cidr}): bool`, within)
    .registerFunction(`${cidr}.containsCIDR(string): bool`, (network: CelCidr, text: string) =>
      within(network, readCidr(text)),
    )
    .registerFunction(`${cidr}.ip(): ${ip}`, ({ address }: CelCidr) => new CelIp(address))
    .registerFunction(`${cidr}.masked(): ${cidr}`, masked)
    .registerFunction(`${cidr}.prefixLength(): int`, ({ length }: CelCidr) => BigInt(length))
    .registerFunction(`string(${cidr}): string`, ({ address, length }: CelCidr) => `${address}/${length}`)
    .registerOperator(
      `${cidr} == ${cidr}`,
      (a: CelCidr, b: CelCidr) => a.address === b.address && a.length === b.length,
    );
  for (const [name, networks] of Object.entries(KINDS))
    environment.registerFunction(`${ip}.${name}(): bool`, ({ text }: CelIp) => isOf(networks, text));
}

const within = (network: CelCidr, other: CelCidr): boolean =>
  other.length >= network.length && contains(network, masked(other).address);

function registerUrls(environment: Environment): void {
  const T = 'kubernetes.URL';
  environment
    .registerType(T, CelUrl)
    .registerFunction(`url(string): ${T}`, (text: string) => {
      if (!isUrl(text)) throw new Error(`URL ${JSON.stringify(text.slice(0, 64))} cannot be parsed`);
      return new CelUrl(text);
    })
    .registerFunction('isURL(string): bool', isUrl)
    .registerFunction(`${T}.getScheme(): string`, schemeOf)
    .registerFunction(`${T}.getHost(): string`, ({ url }: CelUrl) => url.host)
    .registerFunction(`${T}.getHostname(): string`, ({ url }: CelUrl) => bare(url.hostname))
    .registerFunction(`${T}.getPort(): string`, ({ url }: CelUrl) => url.port)
    .registerFunction(`${T}.getEscapedPath(): string`, ({ path }: CelUrl) => path)
    .registerFunction(`${T}.getQuery(): map<string, list<string>>`, queryOf)
    .registerOperator(`${T} == ${T}`, (a: CelUrl, b: CelUrl) => a.url.href === b.url.href);
}
