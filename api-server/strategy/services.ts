/**
 * Addresses and node ports of Services: taken from the instance's ranges when a Service needs one and does not name it, checked when it does, kept for the Service's life.
 * https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/
 */
import { randomInt } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Service, ServicePort, ServiceSpec } from '../../api-schemas/types/core-v1.ts';
import type { Call } from '../call.ts';
import { invalid } from '../errors.ts';
import { decode, type Entry } from '../store/entry.ts';
import { Queue } from '../store/turns.ts';
import type { Kind } from './kinds.ts';

export interface ServiceRanges {
  /** IPv4, such as `10.96.0.0/20`. */
  readonly cidr: string;
  /** Both ends included. */
  readonly nodePorts: readonly [first: number, last: number];
}

const HEADLESS = 'None';

const toNumber = (address: string): number => address.split('.').reduce((value, part) => value * 256 + Number(part), 0);
const toAddress = (value: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

/** The numbers from one to another, both included. */
class Pool {
  readonly #first: number;
  readonly #last: number;

  constructor(first: number, last: number) {
    this.#first = first;
    this.#last = last;
  }

  contains(value: number): boolean {
    return value >= this.#first && value <= this.#last;
  }

  /** A free number at random, so that one which was just let go is seldom given out again at once; undefined when all are taken. */
  choose(held: ReadonlySet<number>): number | undefined {
    const size = this.#last - this.#first + 1;
    const start = randomInt(size);
    for (let step = 0; step < size; step++) {
      const value = this.#first + ((start + step) % size);
      if (!held.has(value)) return value;
    }
    return undefined;
  }
}

type ServiceObject = Service & ApiObject;

interface Holding {
  readonly address: number | undefined;
  readonly nodePorts: readonly number[];
}

function holdingOf({ spec }: ServiceObject): Holding {
  const address = spec?.clusterIP && spec.clusterIP !== HEADLESS ? toNumber(spec.clusterIP) : undefined;
  return { address, nodePorts: (spec?.ports ?? []).flatMap(({ nodePort }) => (nodePort ? [nodePort] : [])) };
}

/** Entries never change, so each is looked into once. */
const holdings = new WeakMap<Entry, Holding>();

function heldByOthers(call: Call, uid: string | undefined): { addresses: Set<number>; nodePorts: Set<number> } {
  const addresses = new Set<number>();
  const nodePorts = new Set<number>();
  for (const entry of call.services.store.cache(call.definition).list()) {
    if (entry.uid === uid) continue;
    let holding = holdings.get(entry);
    if (!holding) holdings.set(entry, (holding = holdingOf(decode(entry) as ServiceObject)));
    if (holding.address !== undefined) addresses.add(holding.address);
    for (const port of holding.nodePorts) nodePorts.add(port);
  }
  return { addresses, nodePorts };
}

const refuse = (call: Call, name: string, field: string, message: string) =>
  invalid(call.definition, name, [{ reason: 'FieldValueInvalid', field, message: `Invalid value: ${message}` }]);

/** The types that a field makes sense for. */
const OF_TYPES: readonly (readonly [types: readonly ServiceSpec['type'][], fields: readonly (keyof ServiceSpec)[]])[] =
  [
    [
      ['ClusterIP', 'NodePort', 'LoadBalancer'],
      ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy'],
    ],
    [['NodePort', 'LoadBalancer'], ['externalTrafficPolicy']],
    [['LoadBalancer'], ['allocateLoadBalancerNodePorts', 'loadBalancerClass', 'healthCheckNodePort']],
    [['ExternalName'], ['externalName']],
  ];

/** Who changes the type alone need not know what the old one brought with it: that goes, unless it was changed too. As `dropTypeDependentFields` of Kubernetes. */
function dropOfOldType(spec: ServiceSpec, before: ServiceSpec): void {
  for (const [types, fields] of OF_TYPES) {
    if (!types.includes(before.type) || types.includes(spec.type)) continue;
    for (const field of fields) if (isDeepStrictEqual(spec[field], before[field])) delete spec[field];
  }
}

export function serviceKind(ranges: ServiceRanges): Kind {
  const [base = '', bits = '20'] = ranges.cidr.split('/');
  const network = toNumber(base);
  const addresses = new Pool(network + 1, network + 2 ** (32 - Number(bits)) - 2);
  const nodePorts = new Pool(...ranges.nodePorts);

  function allocateAddress(service: ServiceObject, call: Call): void {
    const { spec } = service;
    if (!spec || spec.type === 'ExternalName') return;
    if (spec.clusterIP === HEADLESS) {
      spec.clusterIPs = [HEADLESS];
    } else {
      const held = heldByOthers(call, service.metadata.uid).addresses;
      if (spec.clusterIP) {
        const value = toNumber(spec.clusterIP);
        const name = service.metadata.name;
        if (!addresses.contains(value))
          throw refuse(
            call,
            name,
            'spec.clusterIPs',
            `["${spec.clusterIP}"]: failed to allocate IP ${spec.clusterIP}: the provided network does not match the current range, expected an address in ${ranges.cidr}`,
          );
        if (held.has(value))
          throw refuse(
            call,
            name,
            'spec.clusterIPs',
            `["${spec.clusterIP}"]: failed to allocate IP ${spec.clusterIP}: provided IP is already allocated`,
          );
      } else {
        const value = addresses.choose(held);
        if (value === undefined)
          throw refuse(call, service.metadata.name, 'spec.clusterIP', `"": no address is free in ${ranges.cidr}`);
        spec.clusterIP = toAddress(value);
      }
      spec.clusterIPs = [spec.clusterIP];
    }
    spec.ipFamilies ??= ['IPv4'];
    spec.ipFamilyPolicy ??= 'SingleStack';
  }

  function allocateNodePorts(service: ServiceObject, call: Call, old: ServiceObject | undefined): void {
    const { spec } = service;
    if (!spec) return;
    const wanted =
      spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);
    const ports: ServicePort[] = spec.ports ?? [];
    if (!wanted) {
      if (old && old.spec?.type !== spec.type) for (const port of ports) delete port.nodePort;
      return;
    }
    const held = heldByOthers(call, service.metadata.uid).nodePorts;
    const mine = new Set(old ? holdingOf(old).nodePorts : []);
    const taken = new Set([...held, ...holdingOf(service).nodePorts, ...mine]);
    ports.forEach((port, index) => {
      const before = old?.spec?.ports?.find((other) => other.port === port.port && other.protocol === port.protocol);
      if (!port.nodePort && before?.nodePort) port.nodePort = before.nodePort;
      if (port.nodePort && mine.has(port.nodePort)) return;
      const field = `spec.ports[${index}].nodePort`;
      const name = service.metadata.name;
      if (!port.nodePort) {
        const value = nodePorts.choose(taken);
        if (value === undefined)
          throw refuse(call, name, field, `0: no node port is free in ${ranges.nodePorts.join('-')}`);
        port.nodePort = value;
        taken.add(value);
      } else if (!nodePorts.contains(port.nodePort))
        throw refuse(
          call,
          name,
          field,
          `${port.nodePort}: provided port is not in the valid range. The range of valid ports is ${ranges.nodePorts.join('-')}`,
        );
      else if (held.has(port.nodePort))
        throw refuse(call, name, field, `${port.nodePort}: provided port is already allocated`);
    });
  }

  return {
    claims: {
      of(object) {
        const { address, nodePorts: ports } = holdingOf(object as ServiceObject);
        return [...(address === undefined ? [] : [`address ${address}`]), ...ports.map((port) => `port ${port}`)];
      },
      queue: new Queue(),
    },
    prepareCreate(object, call) {
      const service = object as ServiceObject;
      allocateAddress(service, call);
      allocateNodePorts(service, call, undefined);
      service.status = { loadBalancer: {} };
    },
    prepareUpdate(object, old, call) {
      const service = object as ServiceObject;
      const before = old as ServiceObject;
      if (call.target.subresource !== '' || !service.spec) return;
      if (before.spec) dropOfOldType(service.spec, before.spec);
      const keepsAddress = service.spec.type !== 'ExternalName' && before.spec?.type !== 'ExternalName';
      if (keepsAddress) {
        service.spec.clusterIP ||= before.spec?.clusterIP ?? '';
        if (service.spec.clusterIP === before.spec?.clusterIP) service.spec.clusterIPs = before.spec.clusterIPs ?? [];
        if (before.spec?.ipFamilies) service.spec.ipFamilies ??= before.spec.ipFamilies;
        if (before.spec?.ipFamilyPolicy) service.spec.ipFamilyPolicy ??= before.spec.ipFamilyPolicy;
      } else if (service.spec.type !== 'ExternalName') allocateAddress(service, call);
      allocateNodePorts(service, call, before);
    },
  };
}
