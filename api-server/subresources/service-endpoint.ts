/**
 * Which of the pods behind a Service answers, and a connection to it: by the agent of the pod's node, as only that need be in the pod's network; directly where the address is no pod's. Used by the proxy subresource and
 * by the webhooks of custom kinds.
 */
import { randomInt } from 'node:crypto';
import { BlockList, connect, isIPv6, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { EndpointAddress, Endpoints, Pod, Service } from '../../api-schemas/types/core-v1.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Services } from '../call.ts';
import { badRequest, StatusError } from '../errors.ts';
import { decode, entryId } from '../store/entry.ts';

/** What of the server's offers it takes to reach a pod. */
export type Reach = Pick<Services, 'registry' | 'store' | 'nodes'>;

export interface Endpoint {
  /** Rejects with ServiceUnavailable. */
  dial(): Promise<Duplex>;
  /** `10.0.0.7:8080`. */
  readonly host: string;
}

const DIAL_TIMEOUT_MS = 30_000;

export const unreachable = (why: string, options?: ErrorOptions) =>
  new StatusError('ServiceUnavailable', `error trying to reach service: ${why}`, undefined, options);

/** A plain connection to a port of a pod. Rejects with ServiceUnavailable. */
export async function connectByAgent(reach: Reach, pod: Pod & ApiObject, port: number): Promise<Duplex> {
  const { nodes } = reach;
  const { namespace, name, uid } = pod.metadata;
  try {
    const address = nodes.addressOf(reach, pod.spec?.nodeName ?? '');
    return await nodes.connect(address, `/connect/${namespace}/${name}/${uid}/${port}`);
  } catch (error) {
    throw unreachable((error as Error).message, { cause: error });
  }
}

/** One of those that are ready, by chance. `port` is a number or a name, `as` what a refusal calls it. Throws ServiceUnavailable. */
export function serviceEndpoint(
  reach: Reach,
  { service, port, as }: { service: Service & ApiObject; port: string; as: string },
): Endpoint {
  const { registry, store } = reach;
  const { name, namespace = '' } = service.metadata;
  let portName = port;
  if (/^\d+$/.test(port)) {
    const declared = service.spec?.ports?.find((each) => each.port === Number(port));
    if (!declared)
      throw new StatusError('ServiceUnavailable', `no service port ${port} found for service ${JSON.stringify(name)}`);
    portName = declared.name ?? '';
  }
  const endpoints = registry.byResource('', 'v1', 'endpoints');
  const entry = endpoints && store.cache(endpoints).get(entryId({ namespace, name }));
  const { subsets = [] } = entry ? (decode(entry) as Endpoints & ApiObject) : {};
  const found = subsets.flatMap(({ addresses = [], ports = [] }) =>
    ports
      .filter((each) => (each.name ?? '') === portName)
      .flatMap((each) => addresses.map((address) => ({ address, number: each.port }))),
  );
  const chosen = found[found.length > 0 ? randomInt(found.length) : 0];
  if (!chosen) throw new StatusError('ServiceUnavailable', `no endpoints available for service ${JSON.stringify(as)}`);
  const { address, number } = chosen;
  const pod = podOf(reach, namespace, address);
  const dial = pod ? () => connectByAgent(reach, pod, number) : () => connectDirectly(address.ip, number);
  return { host: hostOf(address.ip, number), dial };
}

/** Undefined for an address that is no pod's, and for one that claims to be. */
function podOf(
  { registry, store }: Reach,
  namespace: string,
  { ip, targetRef }: EndpointAddress,
): (Pod & ApiObject) | undefined {
  const pods = registry.byResource('', 'v1', 'pods');
  if (!pods || targetRef?.kind !== 'Pod' || !targetRef.name) return undefined;
  const entry = store.cache(pods).get(entryId({ namespace, name: targetRef.name }));
  const pod = entry && (decode(entry) as Pod & ApiObject);
  return pod?.status?.podIP === ip && pod.spec?.nodeName ? pod : undefined;
}

/** A Service may be given any addresses; those of this machine itself are not for its users. */
const FORBIDDEN = new BlockList();
FORBIDDEN.addSubnet('127.0.0.0', 8);
FORBIDDEN.addSubnet('169.254.0.0', 16);
FORBIDDEN.addSubnet('224.0.0.0', 4);
FORBIDDEN.addAddress('0.0.0.0');
FORBIDDEN.addAddress('::', 'ipv6');
FORBIDDEN.addAddress('::1', 'ipv6');
FORBIDDEN.addSubnet('fe80::', 10, 'ipv6');
FORBIDDEN.addSubnet('ff00::', 8, 'ipv6');

function connectDirectly(host: string, port: number): Promise<Socket> {
  if (FORBIDDEN.check(host, isIPv6(host) ? 'ipv6' : 'ipv4')) throw badRequest('address not allowed');
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: DIAL_TIMEOUT_MS });
    socket.once('connect', () => resolve(socket.setTimeout(0).setNoDelay(true)));
    socket.once('timeout', () => socket.destroy(new Error(`dial tcp ${hostOf(host, port)}: i/o timeout`)));
    socket.once('error', ({ code, message, cause }: NodeJS.ErrnoException) => {
      const why = code === 'ECONNREFUSED' ? `dial tcp ${hostOf(host, port)}: connect: connection refused` : message;
      reject(unreachable(why, { cause }));
    });
  });
}

export const hostOf = (host: string, port: number): string => `${isIPv6(host) ? `[${host}]` : host}:${port}`;
