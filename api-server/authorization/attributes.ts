/**
 * What a request wants to do, as roles speak of it. Made by `server.ts` for every request and by the access reviews for a question.
 * https://kubernetes.io/docs/reference/access-authn-authz/authorization/#review-your-request-attributes
 */
import type { IncomingMessage } from 'node:http';
import type { ResourceRequest } from '../request.ts';

export interface ResourceAttributes {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly subresource: string;
  /** `''`: in all namespaces, or of the cluster. */
  readonly namespace: string;
  /** `''`: of any name. */
  readonly name: string;
}

/** A path that names no resource. */
export interface PathAttributes {
  readonly verb: string;
  readonly path: string;
}

export type Attributes = ResourceAttributes | PathAttributes;

export const isPath = (attributes: Attributes): attributes is PathAttributes => 'path' in attributes;

/** `pods/log`, as rules name it. */
export const resourceName = ({ resource, subresource }: ResourceAttributes): string =>
  subresource === '' ? resource : `${resource}/${subresource}`;

export function attributesOf(request: IncomingMessage, url: URL, target: ResourceRequest | undefined): Attributes {
  if (!target) return { verb: (request.method ?? '').toLowerCase(), path: url.pathname };
  const attributes = attributesOfTarget(target);
  return { ...attributes, name: attributes.name || nameSelected(url.searchParams.get('fieldSelector')) };
}

export function attributesOfTarget(target: ResourceRequest): ResourceAttributes {
  const { verb, group, resource, subresource, name } = target;
  const isNamespace = group === '' && resource === 'namespaces';
  return { verb, group, resource, subresource, namespace: isNamespace ? name : target.namespace, name };
}

/** A list or a watch of one object by its name is about that name. */
function nameSelected(fieldSelector: string | null): string {
  // An escape may hide a comma: then no name is certain.
  if (fieldSelector?.includes('\\')) return '';
  return /(?:^|,)metadata\.name==?([^,=!]+)(?:,|$)/.exec(fieldSelector ?? '')?.[1] ?? '';
}
