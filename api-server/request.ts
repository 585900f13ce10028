/**
 * Reads a URL the way Kubernetes lays its API out: which resource, which object, which verb is meant. Called once a request by `server.ts`.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
 */

export type RequestVerb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';

/** A request about API objects. */
export interface ResourceRequest {
  readonly verb: RequestVerb;
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  /** `''` for cluster-scoped objects and for a list across all namespaces. */
  readonly namespace: string;
  readonly name: string;
  readonly subresource: string;
  /** What follows the subresource (of `proxy`), with its leading slash. */
  readonly subpath: string;
}

/** The API's group and version roots, and the rest of the segments. Undefined when the path is no resource path. */
function splitRoot(
  segments: readonly string[],
): { group: string; version: string; rest: readonly string[] } | undefined {
  const [root, first, second] = segments;
  if (root === 'api' && first) return { group: '', version: first, rest: segments.slice(2) };
  if (root === 'apis' && first && second) return { group: first, version: second, rest: segments.slice(3) };
  return undefined;
}

/** Undefined when the path names no resource (discovery, health, …). Throws URIError for a malformed escape. */
export function parseResourceRequest(method: string, url: URL): ResourceRequest | undefined {
  const segments = url.pathname.split('/').filter(Boolean).map(decodeURIComponent);
  const root = splitRoot(segments);
  if (!root || root.rest.length === 0) return undefined;
  // `/api/v1/watch/…`: what a watch was before `?watch=true`; Kubernetes still answers it.
  const isOldWatch = root.rest[0] === 'watch' && root.rest.length > 1;
  let rest = isOldWatch ? root.rest.slice(1) : root.rest;
  let namespace = '';
  const namespaceSubresource = rest.length === 3 && (rest[2] === 'status' || rest[2] === 'finalize');
  if (rest[0] === 'namespaces' && rest.length >= 3 && !namespaceSubresource) {
    namespace = rest[1] ?? '';
    rest = rest.slice(2);
  }
  const [resource = '', name = '', subresource = '', ...subpath] = rest;
  // What is asked of the target of a proxy is said by the method alone: the query is the target's.
  const asked = verbOf(method, name, subresource === 'proxy' ? NO_QUERY : url.searchParams);
  const verb = isOldWatch && subresource === '' ? watchOf(asked) : asked;
  if (!verb) return undefined;
  return {
    verb,
    group: root.group,
    version: root.version,
    resource,
    namespace,
    name,
    subresource,
    subpath: subpath.length > 0 ? `/${subpath.join('/')}` : '',
  };
}

const NO_QUERY = new URLSearchParams();

function verbOf(method: string, name: string, query: URLSearchParams): RequestVerb | undefined {
  switch (method) {
    case 'GET':
    case 'HEAD':
      if (isTrue(query.get('watch'))) return 'watch';
      return name === '' ? 'list' : 'get';
    case 'POST':
      return 'create';
    case 'PUT':
      return 'update';
    case 'PATCH':
      return 'patch';
    case 'DELETE':
      return name === '' ? 'deletecollection' : 'delete';
    default:
      return undefined;
  }
}

/** Nothing but watching can be done there. */
const watchOf = (verb: RequestVerb | undefined): RequestVerb | undefined =>
  verb === 'get' || verb === 'list' || verb === 'watch' ? 'watch' : undefined;

/** Go's idea of a true query parameter: present, and not `0` or `false`. */
export const isTrue = (value: string | null): boolean => value !== null && value !== '0' && value !== 'false';
