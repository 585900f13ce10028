/**
 * Where a proxied request goes: a port of a pod, one of the pods behind a Service, or a node's agent. Pods are reached by the agent of their node, as only that need be in their network. Called by `proxy.ts`.
 * https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls
 */
import { randomInt } from 'node:crypto';
import { BlockList, connect, isIPv6, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { EndpointAddress, Endpoints, Pod, Service } from '../../api-schemas/types/core-v1.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Call } from '../call.ts';
import { badRequest, StatusError } from '../errors.ts';
import { decode, entryId } from '../store/entry.ts';
import { find } from '../verbs/get.ts';

export interface ProxyTarget {
  /** Rejects with ServiceUnavailable. */
  open(): Promise<Duplex>;
  /** As the target's own answers may name it: `10.0.0.7:8080`. */
  readonly host: string;
}

const DIAL_TIMEOUT_MS = 30_000;

/** `[scheme:]name[:port]`, as it stands in the URL. */
interface Place {
  readonly scheme: 'http' | 'https';
  readonly name: string;
  readonly port: string;
}

/** Throws BadRequest, NotFound and ServiceUnavailable. */
export async function proxyTarget(call: Call): Promise<ProxyTarget> {
  const place = placeOf(call);
  // The query is the target's, not ours.
  const named = { ...call, query: new URLSearchParams(), target: { ...call.target, name: place.name } };
  const object = decode(await find(named));
  switch (call.definition.resource) {
    case 'pods':
      return podTarget(call, object as Pod & ApiObject, place);
    case 'services':
      return serviceTarget(call, object as Service & ApiObject, place);
    default:
      return nodeTarget(call, place);
  }
}

function placeOf({ target, definition }: Call): Place {
  const parts = target.name.split(':');
  const [scheme, name, port] =
    parts.length === 3 ? parts : parts.length === 2 ? ['', ...parts] : parts.length === 1 ? ['', ...parts, ''] : [];
  if (!name || port === undefined || !['', 'http', 'https'].includes(scheme ?? ''))
    throw badRequest(`invalid ${definition.singular} request ${JSON.stringify(target.name)}`);
  return { scheme: scheme === 'https' ? 'https' : 'http', name, port };
}

const unreachable = (why: string, options?: ErrorOptions) =>
  new StatusError('ServiceUnavailable', `error trying to reach service: ${why}`, undefined, options);

function podTarget(call: Call, pod: Pod & ApiObject, { scheme, port }: Place): ProxyTarget {
  const ports = (pod.spec?.containers ?? []).flatMap((container) => container.ports ?? []);
  const number = port === '' ? (ports[0]?.containerPort ?? (scheme === 'https' ? 443 : 80)) : Number(port);
  if (!Number.isInteger(number) || number < 1 || number > 65_535)
    throw badRequest(`invalid pod request ${JSON.stringify(call.target.name)}`);
  const { podIP } = pod.status ?? {};
  if (!podIP || !pod.spec?.nodeName) throw badRequest('address not allowed');
  return { host: hostOf(podIP, number), open: secured(scheme, () => connectByAgent(call, pod, number)) };
}

async function connectByAgent(call: Call, pod: Pod & ApiObject, port: number): Promise<Duplex> {
  const { nodes } = call.services;
  const { namespace, name, uid } = pod.metadata;
  try {
    const address = nodes.addressOf(call, pod.spec?.nodeName ?? '');
    return await nodes.connect(address, `/connect/${namespace}/${name}/${uid}/${port}`);
  } catch (error) {
    throw unreachable((error as Error).message, { cause: error });
  }
}

function serviceTarget(call: Call, service: Service & ApiObject, { scheme, name, port }: Place): ProxyTarget {
  const { registry, store } = call.services;
  let portName = port;
  if (/^\d+$/.test(port)) {
    const declared = service.spec?.ports?.find((each) => each.port === Number(port));
    if (!declared)
      throw new StatusError('ServiceUnavailable', `no service port ${port} found for service ${JSON.stringify(name)}`);
    portName = declared.name ?? '';
  }
  const endpoints = registry.byResource('', 'v1', 'endpoints');
  const entry = endpoints && store.cache(endpoints).get(entryId({ namespace: call.target.namespace, name }));
  const { subsets = [] } = entry ? (decode(entry) as Endpoints & ApiObject) : {};
  const found = subsets.flatMap(({ addresses = [], ports = [] }) =>
    ports
      .filter((each) => (each.name ?? '') === portName)
      .flatMap((each) => addresses.map((address) => ({ address, number: each.port }))),
  );
  const chosen = found[found.length > 0 ? randomInt(found.length) : 0];
  if (!chosen)
    throw new StatusError(
      'ServiceUnavailable',
      `no endpoints available for service ${JSON.stringify(call.target.name)}`,
    );
  const { address, number } = chosen;
  const pod = podOf(call, address);
  const dial = pod ? () => connectByAgent(call, pod, number) : () => connectDirectly(address.ip, number);
  return { host: hostOf(address.ip, number), open: secured(scheme, dial) };
}

/** Undefined for an address that is no pod's, and for one that claims to be. */
function podOf(call: Call, { ip, targetRef }: EndpointAddress): (Pod & ApiObject) | undefined {
  const pods = call.services.registry.byResource('', 'v1', 'pods');
  if (!pods || targetRef?.kind !== 'Pod' || !targetRef.name) return undefined;
  const id = entryId({ namespace: call.target.namespace, name: targetRef.name });
  const entry = call.services.store.cache(pods).get(id);
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

/** The agent speaks to this server alone, by its certificate; what it serves of itself is the target's own business. */
function nodeTarget(call: Call, { name, port }: Place): ProxyTarget {
  const { nodes } = call.services;
  const address = nodes.addressOf(call, name);
  if (port !== '' && Number(port) !== address.port)
    throw badRequest(`the agent of node ${JSON.stringify(name)} listens on port ${address.port}`);
  return {
    host: hostOf(address.host, address.port),
    open: () => nodes.open(address).catch((error: unknown) => Promise.reject(unreachable((error as Error).message))),
  };
}

/** As Kubernetes, the proxy does not ask a pod for a certificate that anybody has signed. */
function secured(scheme: Place['scheme'], dial: () => Promise<Duplex>): () => Promise<Duplex> {
  if (scheme === 'http') return dial;
  return async () => {
    const socket = await dial();
    return new Promise((resolve, reject) => {
      const secure = connectTls({ socket, rejectUnauthorized: false });
      secure.once('secureConnect', () => resolve(secure));
      secure.once('error', (error) => reject(unreachable(error.message, { cause: error })));
    });
  };
}

const hostOf = (host: string, port: number): string => `${isIPv6(host) ? `[${host}]` : host}:${port}`;
