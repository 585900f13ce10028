/**
 * Where a proxied request goes: a port of a pod, one of the pods behind a Service, or a node's agent. Pods are reached by the agent of their node, as only that need be in their network. Called by `proxy.ts`.
 * https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls
 */
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { Pod, Service } from '../../api-schemas/types/core-v1.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Call } from '../call.ts';
import { badRequest } from '../errors.ts';
import { decode } from '../store/entry.ts';
import { find } from '../verbs/get.ts';
import { connectByAgent, hostOf, serviceEndpoint, unreachable } from './service-endpoint.ts';

export interface ProxyTarget {
  /** Rejects with ServiceUnavailable. */
  open(): Promise<Duplex>;
  /** As the target's own answers may name it: `10.0.0.7:8080`. */
  readonly host: string;
}

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

function podTarget(call: Call, pod: Pod & ApiObject, { scheme, port }: Place): ProxyTarget {
  const ports = (pod.spec?.containers ?? []).flatMap((container) => container.ports ?? []);
  const number = port === '' ? (ports[0]?.containerPort ?? (scheme === 'https' ? 443 : 80)) : Number(port);
  if (!Number.isInteger(number) || number < 1 || number > 65_535)
    throw badRequest(`invalid pod request ${JSON.stringify(call.target.name)}`);
  const { podIP } = pod.status ?? {};
  if (!podIP || !pod.spec?.nodeName) throw badRequest('address not allowed');
  return { host: hostOf(podIP, number), open: secured(scheme, () => connectByAgent(call.services, pod, number)) };
}

function serviceTarget({ services, target }: Call, service: Service & ApiObject, { scheme, port }: Place): ProxyTarget {
  const { host, dial } = serviceEndpoint(services, { service, port, as: target.name });
  return { host, open: secured(scheme, dial) };
}

/** The agent speaks to this server alone, by its certificate; what it serves of itself is the target's own business. */
function nodeTarget(call: Call, { name, port }: Place): ProxyTarget {
  const { nodes } = call.services;
  const address = nodes.addressOf(call.services, name);
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
