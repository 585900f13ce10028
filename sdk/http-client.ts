/**
 * The Client over HTTPS: the verbs of the Kubernetes API as paths, queries and headers. Made by `run.ts` for controllers; a tool that only wants to speak to the API may make one by itself.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import { MAX_CAUSES, MAX_REASON_LENGTH } from '../event-log/event-log.ts';
import type { Client, DeleteOptions, Target, WriteOptions } from './client.ts';
import type { ResourceRef } from './controller.ts';
import { type Answer, Transport, type TransportOptions } from './http-transport.ts';

const LIST_PAGE = 500;

type Query = Readonly<Record<string, string | undefined>>;

export class HttpClient implements Client {
  readonly #transport: Transport;

  constructor(options: TransportOptions) {
    this.#transport = new Transport(options);
  }

  close(): void {
    this.#transport.close();
  }

  async get<T extends ApiObject = ApiObject>(target: Target, options: { signal?: AbortSignal } = {}): Promise<T> {
    return (await this.#transport.call({ method: 'GET', path: pathOf(target), signal: options.signal })).body as T;
  }

  async list<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    options: { namespace?: string; labelSelector?: string; fieldSelector?: string } = {},
  ): Promise<{ items: T[]; resourceVersion: string }> {
    const { namespace, labelSelector, fieldSelector } = options;
    const items: T[] = [];
    let resourceVersion = '';
    let next: string | undefined;
    do {
      const query: Query = { limit: String(LIST_PAGE), continue: next, labelSelector, fieldSelector };
      const answer = await this.#transport.call({
        method: 'GET',
        path: pathOf({ resource, ...(namespace && { namespace }) }, query),
      });
      const page = answer.body as { items: T[] | null; metadata: { resourceVersion: string; continue?: string } };
      for (const item of page.items ?? []) items.push(item);
      resourceVersion = page.metadata.resourceVersion;
      next = page.metadata.continue;
    } while (next);
    return { items, resourceVersion };
  }

  create<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    object: ApiObject,
    options: WriteOptions = {},
  ): Promise<T> {
    return this.#write<T>('POST', { resource, ...placeOf(object) }, object, options);
  }

  update<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    object: ApiObject,
    options: WriteOptions & { subresource?: string } = {},
  ): Promise<T> {
    const { subresource } = options;
    return this.#write<T>(
      'PUT',
      { resource, ...placeOf(object), name: object.metadata.name, ...(subresource && { subresource }) },
      object,
      options,
    );
  }

  patch<T extends ApiObject = ApiObject>(
    target: Target,
    patch: Record<string, unknown>,
    options: WriteOptions = {},
  ): Promise<T> {
    return this.#write<T>('PATCH', target, patch, options, { contentType: 'application/merge-patch+json' });
  }

  apply<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    object: ApiObject,
    options: WriteOptions & { fieldManager: string; force?: boolean },
  ): Promise<T> {
    const query = { force: options.force ? 'true' : undefined };
    return this.#write<T>('PATCH', { resource, ...placeOf(object), name: object.metadata.name }, object, options, {
      contentType: 'application/apply-patch+yaml',
      query,
    });
  }

  async delete(target: Target, options: DeleteOptions = {}): Promise<void> {
    const { uid, resourceVersion, gracePeriodSeconds, propagationPolicy } = options;
    const body = {
      kind: 'DeleteOptions',
      apiVersion: 'v1',
      ...((uid || resourceVersion) && {
        preconditions: { ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) },
      }),
      ...(gracePeriodSeconds !== undefined && { gracePeriodSeconds }),
      ...(propagationPolicy && { propagationPolicy }),
    };
    await this.#write('DELETE', target, body, options);
  }

  post(
    target: Target & { subresource: string },
    body: Record<string, unknown>,
    options: WriteOptions = {},
  ): Promise<Record<string, unknown>> {
    return this.#write<ApiObject>('POST', target, body, options);
  }

  async #write<T extends ApiObject>(
    method: string,
    target: { resource: ResourceRef; namespace?: string; name?: string; subresource?: string },
    body: unknown,
    options: WriteOptions,
    how: { contentType?: string; query?: Query } = {},
  ): Promise<T> {
    const { causes, because, fieldManager, signal, timeoutMs, lease, onWritten } = options;
    const headers: Record<string, string> = {
      ...(how.contentType && { 'content-type': how.contentType }),
      ...(causes && causes.length > 0 && { 'reckon-cause': causes.slice(0, MAX_CAUSES).join(',') }),
      ...(because && { 'reckon-because': headerText(because) }),
      ...(lease && { 'reckon-lease': `${lease.name}/${lease.holder}` }),
    };
    const answer = await this.#transport.call({
      method,
      path: pathOf(target, { fieldManager, ...how.query }),
      headers,
      body,
      signal,
      timeoutMs,
    });
    const sequence = revisionOf(answer);
    if (sequence !== undefined) onWritten?.(target.resource, sequence);
    return answer.body as T;
  }
}

/** What the server takes; a reason that is too long is cut rather than a write refused. */
const headerText = (text: string): string =>
  encodeURIComponent(
    text
      .replace(/\p{Cc}+/gu, ' ')
      .slice(0, MAX_REASON_LENGTH)
      .replace(/\p{Cs}/gu, ''),
  );

function revisionOf(answer: Answer): number | undefined {
  if (answer.revision !== undefined) return answer.revision;
  const revision = Number((answer.body as Partial<ApiObject> | undefined)?.metadata?.resourceVersion ?? Number.NaN);
  return Number.isSafeInteger(revision) && revision > 0 ? revision : undefined;
}

const placeOf = (object: ApiObject): { namespace?: string } =>
  object.metadata.namespace ? { namespace: object.metadata.namespace } : {};

/** https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris */
export function pathOf(
  target: { resource: ResourceRef; namespace?: string; name?: string; subresource?: string },
  query: Query = {},
): string {
  const { group, version, resource } = target.resource;
  const root = group === '' ? ['api', version] : ['apis', group, version];
  const place = target.namespace ? ['namespaces', target.namespace] : [];
  const segments = [...root, ...place, resource, target.name, target.subresource].filter(
    (segment) => segment !== undefined && segment !== '',
  ) as string[];
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== undefined && value !== '') search.set(key, value);
  const text = search.toString();
  return `/${segments.map(encodeURIComponent).join('/')}${text && `?${text}`}`;
}
