/**
 * Everything the server tells about itself: version, discovery and OpenAPI, made from the registry once and kept as bytes until a kind comes or goes; the OpenAPI of a group until one of its own does. Asked by `server.ts` for every path that
 * names no resource.
 */
import { createHash } from 'node:crypto';
import type { Registry } from '../api-schemas/registry.ts';
import type { ResourceDefinition } from '../api-schemas/schema.ts';
import {
  aggregated,
  apiGroupList,
  apiResourceList,
  apiVersions,
  groups,
  oneGroup,
  versionInfo,
} from './discovery/discovery.ts';
import { encodeOpenApiV2, OPENAPI_V2_PROTOBUF } from './openapi/gnostic.ts';
import { openApiV2 } from './openapi/openapi-v2.ts';
import { openApiV3 } from './openapi/openapi-v3.ts';

export interface ServedDocument {
  readonly body: Buffer;
  readonly contentType: string;
  readonly etag: string;
}

const AGGREGATED = /g=apidiscovery\.k8s\.io;v=(v2beta1|v2);as=APIGroupDiscoveryList/;

export class ApiDocuments {
  readonly #registry: Registry;
  readonly #kept = new Map<string, ServedDocument>();
  /** OpenAPI of each group version, with the very definitions that it was made from. */
  readonly #openApis = new Map<string, { definitions: readonly ResourceDefinition[]; document: ServedDocument }>();
  #groups: ReturnType<typeof groups> | undefined;
  #changes: number;

  constructor(registry: Registry) {
    this.#registry = registry;
    this.#changes = registry.changes;
  }

  /** Undefined when there is no such document. */
  get(path: string, accept = ''): ServedDocument | undefined {
    if (this.#changes !== this.#registry.changes) {
      this.#changes = this.#registry.changes;
      this.#groups = undefined;
      this.#kept.clear();
    }
    const clean = path.length > 1 ? path.replace(/\/$/, '') : path;
    if (clean === '/openapi/v2' && accept.includes('proto-openapi')) return this.#openApiV2InProtobuf();
    const ofGroup = /^\/openapi\/v3\/(?:api|apis\/([^/]+))\/([^/]+)$/.exec(clean);
    if (ofGroup) return this.#openApi(ofGroup[1] ?? '', ofGroup[2] ?? '');
    const form = clean === '/api' || clean === '/apis' ? AGGREGATED.exec(accept)?.[1] : undefined;
    const id = `${clean} ${form ?? ''}`;
    let document = this.#kept.get(id);
    if (!document) {
      const value =
        form === undefined
          ? this.#make(clean)
          : aggregated(this.#registry, { core: clean === '/api', apiVersion: form as 'v2' | 'v2beta1' });
      if (value === undefined) return undefined;
      document = serve(
        value,
        form === undefined
          ? 'application/json'
          : `application/json;g=apidiscovery.k8s.io;v=${form};as=APIGroupDiscoveryList`,
      );
      this.#kept.set(id, document);
    }
    return document;
  }

  #make(path: string): unknown {
    const [root, first, second, third] = path.split('/').slice(1);
    if (root === '') return { paths: this.#paths() };
    if (root === 'version' && !first) return versionInfo();
    if (root === 'api')
      return first === undefined
        ? apiVersions()
        : second === undefined
          ? apiResourceList(this.#registry, '', first)
          : undefined;
    if (root === 'apis') {
      if (first === undefined) return apiGroupList(this.#registry);
      if (second === undefined) return oneGroup(this.#registry, first);
      return third === undefined ? apiResourceList(this.#registry, first, second) : undefined;
    }
    if (root === 'openapi' && first === 'v2' && second === undefined) return openApiV2(this.#registry);
    return root === 'openapi' && first === 'v3' && second === undefined ? { paths: this.#openApiIndex() } : undefined;
  }

  #openApiV2InProtobuf(): ServedDocument {
    const id = '/openapi/v2 protobuf';
    const kept = this.#kept.get(id) ?? asBytes(encodeOpenApiV2(openApiV2(this.#registry)), OPENAPI_V2_PROTOBUF);
    this.#kept.set(id, kept);
    return kept;
  }

  #groupsNow(): ReturnType<typeof groups> {
    return (this.#groups ??= groups(this.#registry));
  }

  #openApi(group: string, version: string): ServedDocument | undefined {
    const id = `${group}/${version}`;
    const definitions = this.#groupsNow().get(group)?.get(version);
    if (!definitions) {
      this.#openApis.delete(id);
      return undefined;
    }
    const known = this.#openApis.get(id);
    const isSame =
      known?.definitions.length === definitions.length &&
      definitions.every((definition, index) => definition === known.definitions[index]);
    if (isSame) return known.document;
    const document = serve(openApiV3(this.#registry, definitions), 'application/json');
    this.#openApis.set(id, { definitions, document });
    return document;
  }

  /** The document of each group version, under a URL that changes with its content. */
  #openApiIndex(): Record<string, { serverRelativeURL: string }> {
    const index: Record<string, { serverRelativeURL: string }> = {};
    const present = this.#groupsNow();
    for (const id of this.#openApis.keys()) {
      const [group = '', version = ''] = id.split('/');
      if (!present.get(group)?.has(version)) this.#openApis.delete(id);
    }
    for (const [group, versions] of present) {
      for (const version of versions.keys()) {
        const path = group === '' ? `api/${version}` : `apis/${group}/${version}`;
        const hash = this.#openApi(group, version)?.etag.replaceAll('"', '') ?? '';
        index[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` };
      }
    }
    return index;
  }

  #paths(): string[] {
    const paths = ['/api', '/apis', '/healthz', '/livez', '/openapi/v2', '/openapi/v3', '/readyz', '/version'];
    for (const [group, versions] of this.#groupsNow()) {
      if (group !== '') paths.push(`/apis/${group}`);
      for (const version of versions.keys()) paths.push(group === '' ? `/api/${version}` : `/apis/${group}/${version}`);
    }
    return paths.sort();
  }
}

const serve = (value: unknown, contentType: string): ServedDocument =>
  asBytes(Buffer.from(JSON.stringify(value)), contentType);

function asBytes(body: Buffer, contentType: string): ServedDocument {
  return { body, contentType, etag: `"${createHash('sha256').update(body).digest('hex').slice(0, 32).toUpperCase()}"` };
}
