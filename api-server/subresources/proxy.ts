/**
 * The proxy subresource of pods, services and nodes: one request passed on as it came, without what the client is known by here, and its answer passed back; connections that are to be upgraded too. Used by `kubectl
 * proxy`, `kubectl get --raw` and browsers. https://kubernetes.io/docs/concepts/cluster-administration/proxies/
 */
import { request as httpRequest, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Call } from '../call.ts';
import { StatusError } from '../errors.ts';
import { join } from './join.ts';
import { proxyTarget, type ProxyTarget } from './proxy-target.ts';

/** They belong to one connection, not to the request. */
const HOP_BY_HOP: ReadonlySet<string> = new Set(
  'connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade'.split(
    ' ',
  ),
);
/** By which this server knows who asks: nobody else's business. */
const CREDENTIALS = /^(?:authorization|impersonate-.*|x-remote-.*|reckon-.*)$/;
const BEARER_PROTOCOL = 'base64url.bearer.authorization.k8s.io.';
/** What a pod allows other sites, it would allow them for this server. */
const CORS = /^access-control-(?:allow-(?:credentials|headers|methods|origin)|expose-headers|max-age)$/;

/** The part of the URL that is ours, and the target's own. */
function parts({ request, target, definition }: Call): { base: string; path: string; query: string } {
  const [, query] = (request.url ?? '').split(/\?(.*)/s);
  const { pathname } = new URL(request.url ?? '/', 'https://reckon');
  const own = new RegExp(
    `^/+api/+v1/+(?:namespaces/+[^/]+/+)?${definition.resource}/+[^/]+/+${target.subresource}(?=/|$)`,
  );
  const base = own.exec(pathname)?.[0] ?? pathname;
  return { base, path: pathname.slice(base.length), query: query === undefined ? '' : `?${query}` };
}

export async function proxy(call: Call): Promise<void> {
  const { request, response } = call;
  const { base, path, query } = parts(call);
  // Links in a page are relative to its folder.
  if (path === '' && (request.method === 'GET' || request.method === 'HEAD')) {
    response.writeHead(301, { Location: `${base}/${query}` }).end();
    return;
  }
  const target = await proxyTarget(call);
  const outgoing = await send(call, target);
  if (hasBody(request)) pipeline(request, outgoing).catch(() => outgoing.destroy());
  else outgoing.end();
  const answer = await answerOf(outgoing);
  // What comes after a 101 that nobody asked for is not HTTP.
  if (answer.upstream) throw unreachable(outgoing, new Error('it switched protocols without being asked'));
  response.writeHead(
    answer.response.statusCode ?? 502,
    answer.response.statusMessage,
    answerHeaders(answer.response, { base, target, call }),
  );
  response.flushHeaders();
  await pipeline(answer.response, response).catch(() => response.destroy());
}

/** The connection has asked to be upgraded: to a WebSocket, most likely. */
export async function proxyUpgrade(call: Call, { socket, head }: { socket: Duplex; head: Buffer }): Promise<void> {
  const { base } = parts(call);
  const target = await proxyTarget(call);
  const outgoing = await send(call, target);
  outgoing.end();
  const { response, upstream, head: first } = await answerOf(outgoing);
  const headers = answerHeaders(response, { base, target, call });
  if (upstream) Object.assign(headers, { Connection: 'Upgrade', Upgrade: response.headers.upgrade ?? '' });
  else Object.assign(headers, { Connection: 'close' });
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    [value ?? []].flat().map((each) => `${name}: ${each}`),
  );
  socket.write([`HTTP/1.1 ${response.statusCode} ${response.statusMessage}`, ...lines].join('\r\n') + '\r\n\r\n');
  if (!upstream) {
    await pipeline(response, socket).catch(() => socket.destroy());
    return;
  }
  if (first.length > 0) socket.write(first);
  if (head.length > 0) upstream.write(head);
  await join(upstream, socket);
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;

async function send(call: Call, target: ProxyTarget): Promise<ClientRequest> {
  const { request, signal } = call;
  const { base, path, query } = parts(call);
  const connection = await target.open();
  if (signal.aborted) connection.destroy();
  const outgoing = httpRequest({
    method: request.method ?? 'GET',
    path: `${path === '' ? '/' : path}${query}`,
    headers: requestHeaders(request, `${base}${path}`),
    setHost: false,
    // No agent: the connection is this request's alone.
    createConnection: () => connection,
  });
  const gone = (): void => void outgoing.destroy();
  signal.addEventListener('abort', gone, { once: true });
  outgoing.once('close', () => signal.removeEventListener('abort', gone));
  return outgoing;
}

const unreachable = (outgoing: ClientRequest, error: Error): StatusError => {
  outgoing.destroy();
  const message = `error trying to reach service: ${error.message}`;
  return new StatusError('ServiceUnavailable', message, undefined, { cause: error });
};

function answerOf(outgoing: ClientRequest): Promise<{ response: IncomingMessage; upstream?: Duplex; head: Buffer }> {
  return new Promise((resolve, reject) => {
    outgoing.on('error', (error) => reject(unreachable(outgoing, error)));
    outgoing.once('response', (response) => resolve({ response, head: Buffer.alloc(0) }));
    outgoing.once('upgrade', (response, upstream, head) => resolve({ response, upstream, head }));
  });
}

/** Names of headers that this message says belong to its connection. */
const namedByConnection = ({ connection }: IncomingHttpHeaders): ReadonlySet<string> =>
  new Set((connection ?? '').toLowerCase().split(/\s*,\s*/));

function requestHeaders(request: IncomingMessage, forwardedUri: string): Record<string, string | string[]> {
  const { headers } = request;
  const dropped = namedByConnection(headers);
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers))
    if (
      value !== undefined &&
      !HOP_BY_HOP.has(name) &&
      !dropped.has(name) &&
      !CREDENTIALS.test(name) &&
      name !== 'expect'
    )
      kept[name] = value;
  if (headers['transfer-encoding'] !== undefined) kept['transfer-encoding'] = 'chunked';
  if (headers.upgrade !== undefined && dropped.has('upgrade'))
    Object.assign(kept, { connection: 'Upgrade', upgrade: headers.upgrade });
  const protocols = headers['sec-websocket-protocol']?.split(/\s*,\s*/);
  if (protocols) {
    const others = protocols.filter((protocol) => !protocol.startsWith(BEARER_PROTOCOL));
    if (others.length > 0) kept['sec-websocket-protocol'] = others.join(', ');
    else delete kept['sec-websocket-protocol'];
  }
  const before = headers['x-forwarded-for'];
  kept['x-forwarded-for'] = [before ?? [], request.socket.remoteAddress ?? []].flat().join(', ');
  kept['x-forwarded-uri'] = forwardedUri;
  return kept;
}

function answerHeaders(
  { headers }: IncomingMessage,
  { base, target, call }: { base: string; target: ProxyTarget; call: Call },
): Record<string, string | string[]> {
  const dropped = namedByConnection(headers);
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined && !HOP_BY_HOP.has(name) && !dropped.has(name) && !CORS.test(name)) kept[name] = value;
  if (headers.location !== undefined)
    kept['location'] = rewritten(headers.location, { base, hosts: [target.host, call.request.headers.host] });
  return kept;
}

/** A redirect within the target stays within the proxy. */
function rewritten(
  location: string,
  { base, hosts }: { base: string; hosts: readonly (string | undefined)[] },
): string {
  const [, authority, rest = ''] = /^(?:[a-z][a-z0-9+.-]*:)?(?:\/\/([^/?#]*))?(.*)$/is.exec(location) ?? [];
  if (authority !== undefined && !hosts.includes(authority)) return location;
  if (authority === undefined && !location.startsWith('/')) return location;
  const path = rest.startsWith('/') ? rest : `/${rest}`;
  return path === base || path.startsWith(`${base}/`) ? path : `${base}${path}`;
}
