/**
 * What roles cannot say of a node's agent: that it changes only its own Node and the pods bound to it, and reads only what these pods name. Asked by `authorizer.ts` once a role allows the request.
 * https://kubernetes.io/docs/reference/access-authn-authz/node/
 */
import type { Registry } from '../../api-schemas/registry.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PersistentVolume, Pod, ServiceAccount } from '../../api-schemas/types/core-v1.ts';
import { decode, entryId, type Entry } from '../store/entry.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { ResourceCache } from '../store/resource-cache.ts';
import type { ResourceAttributes } from './attributes.ts';

/** What a pod names: `secrets/x`, `configmaps/y`, `serviceaccounts/z`. */
const referenced = new WeakMap<Entry, ReadonlySet<string>>();

export class NodeRestriction {
  readonly #registry: Registry;
  readonly #store: ObjectStore;

  constructor({ registry, store }: { registry: Registry; store: ObjectStore }) {
    this.#registry = registry;
    this.#store = store;
  }

  /** Why the agent of `node` may not; undefined when it may. */
  refusal(node: string, attributes: ResourceAttributes): string | undefined {
    const { group, resource, subresource, verb, namespace, name } = attributes;
    if (group !== '') return undefined;
    switch (resource) {
      case 'nodes':
        return verb === 'get' || verb === 'create' || name === node
          ? undefined
          : `node ${JSON.stringify(node)} is not allowed to modify node ${JSON.stringify(name)}`;
      case 'pods':
        return this.#podIsOf(node, namespace, name)
          ? undefined
          : `node ${JSON.stringify(node)} can only ${subresource === 'status' ? 'update pod status for' : verb} pods with spec.nodeName set to itself`;
      case 'secrets':
      case 'configmaps':
      case 'serviceaccounts':
        return this.#isNamed(node, namespace, `${resource}/${name}`)
          ? undefined
          : `no relationship found between node '${node}' and this object`;
      case 'persistentvolumes':
        return verb === 'get' || this.#volumeIsOn(node, name)
          ? undefined
          : `node ${JSON.stringify(node)} can only ${verb} volumes that lie on it`;
      default:
        return undefined;
    }
  }

  #volumeIsOn(node: string, name: string): boolean {
    const entry = this.#cache('persistentvolumes')?.get(entryId({ namespace: '', name }));
    if (!entry) return true;
    const { spec } = decode(entry) as PersistentVolume & ApiObject;
    return (spec?.nodeAffinity?.required?.nodeSelectorTerms ?? []).some(({ matchExpressions = [] }) =>
      matchExpressions.some(({ key, values }) => key === 'kubernetes.io/hostname' && values?.includes(node)),
    );
  }

  #cache(resource: string): ResourceCache | undefined {
    const definition = this.#registry.byResource('', 'v1', resource);
    return definition && this.#store.cache(definition);
  }

  /** A pod that is not there is nobody's: that is for the verb to say. */
  #podIsOf(node: string, namespace: string, name: string): boolean {
    const entry = this.#cache('pods')?.get(entryId({ namespace, name }));
    return name !== '' && (entry === undefined || entry.fields['spec.nodeName'] === node);
  }

  #isNamed(node: string, namespace: string, wanted: string): boolean {
    const pods = this.#cache('pods')?.list() ?? [];
    for (const entry of pods) {
      if (entry.key.namespace !== namespace || entry.fields['spec.nodeName'] !== node) continue;
      const names = namesIn(entry);
      if (names.has(wanted)) return true;
      if (wanted.startsWith('secrets/') && this.#accountNames(namespace, entry, wanted)) return true;
    }
    return false;
  }

  /** The pod's ServiceAccount may name what images are pulled with. */
  #accountNames(namespace: string, pod: Entry, wanted: string): boolean {
    const name = pod.fields['spec.serviceAccountName'] || 'default';
    const entry = this.#cache('serviceaccounts')?.get(entryId({ namespace, name }));
    if (!entry) return false;
    const { imagePullSecrets = [] } = decode(entry) as ServiceAccount & ApiObject;
    return imagePullSecrets.some((secret) => `secrets/${secret.name}` === wanted);
  }
}

function namesIn(entry: Entry): ReadonlySet<string> {
  let names = referenced.get(entry);
  if (!names) referenced.set(entry, (names = new Set(namesOf(decode(entry) as Pod & ApiObject))));
  return names;
}

function* namesOf({ spec }: Pod): Generator<string> {
  if (!spec) return;
  yield `serviceaccounts/${spec.serviceAccountName ?? 'default'}`;
  for (const { name } of spec.imagePullSecrets ?? []) yield `secrets/${name}`;
  for (const volume of spec.volumes ?? []) {
    for (const source of [volume, ...(volume.projected?.sources ?? [])]) {
      const secret = source.secret as { name?: string; secretName?: string } | undefined;
      if (secret) yield `secrets/${secret.secretName ?? secret.name}`;
      if (source.configMap) yield `configmaps/${source.configMap.name}`;
    }
  }
  for (const container of [...(spec.initContainers ?? []), ...spec.containers, ...(spec.ephemeralContainers ?? [])]) {
    for (const { valueFrom } of container.env ?? []) {
      if (valueFrom?.secretKeyRef) yield `secrets/${valueFrom.secretKeyRef.name}`;
      if (valueFrom?.configMapKeyRef) yield `configmaps/${valueFrom.configMapKeyRef.name}`;
    }
    for (const { secretRef, configMapRef } of container.envFrom ?? []) {
      if (secretRef) yield `secrets/${secretRef.name}`;
      if (configMapRef) yield `configmaps/${configMapRef.name}`;
    }
  }
}
