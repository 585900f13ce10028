/**
 * Chooses what must not clash with anything else on this machine: free TCP ports, and address ranges for pods and Services that no route or interface covers. Called once,
 * when an instance is first made; the choice is kept in `instance.json`.
 */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';

const loopback = '127.0.0.1';
const rangeBits = 20;
const rangeSize = 2 ** (32 - rangeBits);
/** Pods get a /20 of 10.64.0.0/10, Services one of 10.128.0.0/10: 1024 places each, away from where private networks usually begin. */
const podPool = '10.64.0.0';
const servicePool = '10.128.0.0';
const poolPlaces = 1024;

/** Whether something could listen there now. */
export function isPortFree(port: number, host = loopback): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** The preferred port if it is free and not in `taken`, else one that the system gives. */
export async function choosePort(preferred: number, taken: ReadonlySet<number>): Promise<number> {
  if (!taken.has(preferred) && (await isPortFree(preferred))) return preferred;
  for (;;) {
    const port = await anyPort();
    if (!taken.has(port)) return port;
  }
}

function anyPort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ port: 0, host: loopback }, () => {
      const address = server.address();
      server.close(() =>
        typeof address === 'object' && address !== null ? resolve(address.port) : reject(new Error('no port')),
      );
    });
  });
}

export interface Ranges {
  readonly podCidr: string;
  readonly serviceCidr: string;
}

/** `seed` spreads instances over the pools, so that two on one machine differ even while one of them is down. */
export async function chooseRanges(seed: number): Promise<Ranges> {
  const used = [...(await routedRanges()), ...interfaceRanges()];
  return { podCidr: freePlace(podPool, seed, used), serviceCidr: freePlace(servicePool, seed, used) };
}

interface Range {
  readonly first: number;
  readonly last: number;
}

function freePlace(pool: string, seed: number, used: readonly Range[]): string {
  const start = numberOf(pool);
  for (let step = 0; step < poolPlaces; step++) {
    const first = start + ((seed + step) % poolPlaces) * rangeSize;
    const last = first + rangeSize - 1;
    if (used.every((range) => range.last < first || range.first > last)) return `${addressOf(first)}/${rangeBits}`;
  }
  throw new Error(
    `every /${rangeBits} of ${pool}/10 is routed on this machine: no address range is left for pods and Services`,
  );
}

/** The kernel's IPv4 routes but for the default one. */
async function routedRanges(): Promise<Range[]> {
  const table = await readFile('/proc/net/route', 'utf8').catch(() => '');
  const ranges: Range[] = [];
  for (const line of table.split('\n').slice(1)) {
    const [, destination, , , , , , mask] = line.split('\t');
    if (destination === undefined || mask === undefined || mask === '00000000') continue;
    const first = swapBytes(Number.parseInt(destination, 16));
    ranges.push({ first, last: first + (~swapBytes(Number.parseInt(mask, 16)) >>> 0) });
  }
  return ranges;
}

function interfaceRanges(): Range[] {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return addresses
    .filter((address) => address.family === 'IPv4')
    .map((address) => {
      const mask = numberOf(address.netmask);
      const first = (numberOf(address.address) & mask) >>> 0;
      return { first, last: first + (~mask >>> 0) };
    });
}

/** The address by which others reach this machine, or the loopback's where it has no other. */
export function machineAddress(): string {
  const addresses = Object.entries(networkInterfaces()).flatMap(([name, list]) =>
    (list ?? []).map((address) => ({ ...address, name })),
  );
  const outside = addresses.find(
    (address) => address.family === 'IPv4' && !address.internal && !/^(docker|br-|veth|reckon)/.test(address.name),
  );
  return outside?.address ?? loopback;
}

export function numberOf(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

export function addressOf(number: number): string {
  return [number >>> 24, (number >>> 16) & 0xff, (number >>> 8) & 0xff, number & 0xff].join('.');
}

function swapBytes(value: number): number {
  return (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}
