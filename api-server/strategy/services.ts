/**
 * Addresses and node ports of Services: taken from the instance's ranges when a Service needs one and does not name it, checked when it does, kept for the Service's life.
 * https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/
 */
import { randomInt } from 'node:crypto';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Service, ServicePort } from '../../api-schemas/types/core-v1.ts';
import type { Call } from '../call.ts';
import { invalid } from '../errors.ts';
import { decode } from '../store/entry.ts';
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

/** A pool of numbers, some of which Services hold already. A taken number is reserved until the write that takes it is in the cache or has failed. */
class Pool {
  readonly #first: number;
  readonly #last: number;
  readonly #reserved = new Map<number, number>();
  static readonly RESERVED_MS = 30_000;

  constructor(first: number, last: number) {
    this.#first = first;
    this.#last = last;
  }

  contains(value: number): boolean {
    return value >= this.#first && value <= this.#last;
  }

  /** A free number at random, so that two API servers seldom choose the same; undefined when all are taken. */
  take(held: ReadonlySet<number>): number | undefined {
    const size = this.#last - this.#first + 1;
    const start = randomInt(size);
    for (let step = 0; step < size; step++) {
      const value = this.#first + ((start + step) % size);
      if (this.reserve(value, held)) return value;
    }
    return undefined;
  }

  reserve(value: number, held: ReadonlySet<number>): boolean {
    if (held.has(value) || (this.#reserved.get(value) ?? 0) > Date.now()) return false;
    this.#reserved.set(value, Date.now() + Pool.RESERVED_MS);
    return true;
  }

  release(value: number): void {
    this.#reserved.delete(value);
  }
}

type ServiceObject = Service & ApiObject;

function others(call: Call, uid: string | undefined): ServiceObject[] {
  return call.services.store
    .cache(call.definition)
    .list()
    .filter((entry) => entry.uid !== uid)
    .map((entry) => decode(entry) as ServiceObject);
}

const nodePortsOf = ({ spec }: ServiceObject): number[] =>
  (spec?.ports ?? []).flatMap(({ nodePort }) => (nodePort ? [nodePort] : []));

const refuse = (call: Call, name: string, field: string, message: string) =>
  invalid(call.definition, name, [{ reason: 'FieldValueInvalid', field, message: `Invalid value: ${message}` }]);

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
      const held = new Set(
        others(call, service.metadata.uid).flatMap(({ spec: other }) =>
          other?.clusterIP && other.clusterIP !== HEADLESS ? [toNumber(other.clusterIP)] : [],
        ),
      );
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
        if (!addresses.reserve(value, held))
          throw refuse(
            call,
            name,
            'spec.clusterIPs',
            `["${spec.clusterIP}"]: failed to allocate IP ${spec.clusterIP}: provided IP is already allocated`,
          );
      } else {
        const value = addresses.take(held);
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
    const held = new Set(others(call, service.metadata.uid).flatMap(nodePortsOf));
    const mine = new Set(old ? nodePortsOf(old) : []);
    ports.forEach((port, index) => {
      const before = old?.spec?.ports?.find((other) => other.port === port.port && other.protocol === port.protocol);
      if (!port.nodePort && before?.nodePort) port.nodePort = before.nodePort;
      if (port.nodePort && mine.has(port.nodePort)) return;
      const field = `spec.ports[${index}].nodePort`;
      const name = service.metadata.name;
      if (!port.nodePort) {
        const value = nodePorts.take(held);
        if (value === undefined)
          throw refuse(call, name, field, `0: no node port is free in ${ranges.nodePorts.join('-')}`);
        port.nodePort = value;
      } else if (!nodePorts.contains(port.nodePort))
        throw refuse(
          call,
          name,
          field,
          `${port.nodePort}: provided port is not in the valid range. The range of valid ports is ${ranges.nodePorts.join('-')}`,
        );
      else if (!nodePorts.reserve(port.nodePort, held))
        throw refuse(call, name, field, `${port.nodePort}: provided port is already allocated`);
    });
  }

  return {
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
      const keepsAddress = service.spec.type !== 'ExternalName' && before.spec?.type !== 'ExternalName';
      if (keepsAddress) {
        service.spec.clusterIP ||= before.spec?.clusterIP ?? '';
        if (service.spec.clusterIP === before.spec?.clusterIP) service.spec.clusterIPs = before.spec.clusterIPs ?? [];
        if (before.spec?.ipFamilies) service.spec.ipFamilies ??= before.spec.ipFamilies;
        if (before.spec?.ipFamilyPolicy) service.spec.ipFamilyPolicy ??= before.spec.ipFamilyPolicy;
      } else if (service.spec.type !== 'ExternalName') allocateAddress(service, call);
      else {
        delete service.spec.clusterIP;
        delete service.spec.clusterIPs;
      }
      allocateNodePorts(service, call, before);
    },
  };
}
