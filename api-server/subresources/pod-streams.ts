/**
 * What a running pod says and hears: `log` as a plain stream, `exec`, `attach` and `portforward` over WebSocket or SPDY, all answered by the agent of the pod's node. The API server decides who may, and which container is meant; the bytes pass through.
 */
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import type { Call } from '../call.ts';
import { badRequest } from '../errors.ts';
import { decode } from '../store/entry.ts';
import { find } from '../verbs/get.ts';

const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';
const LOG_OPTIONS = [
  'follow',
  'tailLines',
  'sinceSeconds',
  'sinceTime',
  'timestamps',
  'previous',
  'limitBytes',
  'stream',
];
const STREAM_OPTIONS = ['command', 'stdin', 'stdout', 'stderr', 'tty'];

/** The pod and which of its containers is meant. Throws BadRequest where that is not clear. */
async function podOf(call: Call): Promise<{ pod: Pod; container: string; nodeName: string }> {
  const pod = decode(await find(call)) as unknown as Pod;
  const { name } = pod.metadata;
  const { containers = [], initContainers = [], ephemeralContainers = [] } = pod.spec ?? {};
  const names = [...containers, ...initContainers, ...ephemeralContainers].map((container) => container.name);
  const main = containers.map((container) => container.name);
  const asked =
    call.query.get('container') ||
    pod.metadata.annotations?.[DEFAULT_CONTAINER] ||
    (main.length === 1 ? main[0] : undefined);
  if (!asked)
    throw badRequest(`a container name must be specified for pod ${name}, choose one of: [${main.join(' ')}]`);
  if (!names.includes(asked)) throw badRequest(`container ${asked} is not valid for pod ${name}`);
  if (!pod.spec?.nodeName) throw badRequest(`pod ${name} does not have a host assigned`);
  return { pod, container: asked, nodeName: pod.spec.nodeName };
}

function passedOn(query: URLSearchParams, names: readonly string[]): string {
  const kept = new URLSearchParams();
  for (const name of names) for (const value of query.getAll(name)) kept.append(name, value);
  return kept.toString();
}

export async function log(call: Call): Promise<void> {
  const { pod, container, nodeName } = await podOf(call);
  const { nodes } = call.services;
  const path = `/containerLogs/${pod.metadata.namespace}/${pod.metadata.name}/${encodeURIComponent(container)}?${passedOn(call.query, LOG_OPTIONS)}`;
  const answer = await nodes.get(nodes.addressOf(call.services, nodeName), path, call.signal);
  call.response.writeHead(answer.statusCode ?? 502, { 'Content-Type': answer.headers['content-type'] ?? 'text/plain' });
  call.response.flushHeaders();
  await pipeline(answer, call.response).catch(() => call.response.destroy());
}

/** `portforward`; which ports is said in the stream, or by `ports` for clients that speak in channels. */
export async function portForward(call: Call, upgrade: { socket: Duplex; head: Buffer }): Promise<void> {
  const { metadata, spec } = decode(await find(call)) as unknown as Pod;
  const { namespace, name, uid } = metadata;
  if (!spec?.nodeName) throw badRequest(`pod ${name} does not have a host assigned`);
  const { nodes } = call.services;
  const path = `/portForward/${namespace}/${name}/${uid}?${passedOn(call.query, ['ports'])}`;
  await nodes.upgrade(nodes.addressOf(call.services, spec.nodeName), path, { request: call.request, ...upgrade });
}

/** What a plain request to such a subresource is told. */
export const upgradeRequired = (): Promise<never> => Promise.reject(badRequest('Upgrade request required'));

/** `exec` and `attach`; the connection has asked to be upgraded. */
export async function stream(call: Call, upgrade: { socket: Duplex; head: Buffer }): Promise<void> {
  const { pod, container, nodeName } = await podOf(call);
  const { nodes } = call.services;
  const { namespace, name, uid } = pod.metadata;
  const path = `/${call.target.subresource}/${namespace}/${name}/${uid}/${encodeURIComponent(container)}?${passedOn(call.query, STREAM_OPTIONS)}`;
  await nodes.upgrade(nodes.addressOf(call.services, nodeName), path, { request: call.request, ...upgrade });
}
