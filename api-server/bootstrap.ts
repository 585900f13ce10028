/**
 * What every cluster has from the start: its namespaces, its default StorageClass and the default roles. Made at the first start, through the same path as any other write; what a user has changed or another API server has made is left alone.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ApiObject } from '../api-schemas/schema.ts';
import { ADMINISTRATORS } from './authentication/identity.ts';
import { completed, defaultRoles } from './authorization/default-roles.ts';
import type { Call, Services } from './call.ts';
import { StatusError } from './errors.ts';
import { systemClasses } from './policy/priority.ts';
import { decode, entryId } from './store/entry.ts';
import { createObject } from './verbs/create.ts';
import { changeObject } from './verbs/update.ts';

const namespace = (name: string): ApiObject => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });

const FIRST_OBJECTS: readonly ApiObject[] = [
  ...['default', 'kube-system', 'kube-public', 'kube-node-lease'].map(namespace),
  {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name: 'standard', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
    provisioner: 'docker.reckon.dev',
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'WaitForFirstConsumer',
  },
  ...systemClasses(),
];

/** A call that no client made. */
function ownCall(services: Services, object: ApiObject): Call {
  const [group = '', version = ''] = object.apiVersion.includes('/')
    ? object.apiVersion.split('/')
    : ['', object.apiVersion];
  const definition = services.registry.byKind(group, version, object.kind);
  if (!definition) throw new Error(`${object.apiVersion} ${object.kind} has no schema`);
  return {
    services,
    request: { headers: { 'user-agent': 'reckon' } } as unknown as IncomingMessage,
    response: undefined as unknown as ServerResponse,
    query: new URLSearchParams(),
    target: {
      verb: 'create',
      group,
      version,
      resource: definition.resource,
      namespace: object.metadata.namespace ?? '',
      name: '',
      subresource: '',
      subpath: '',
    },
    definition,
    identity: { user: 'system:apiserver', groups: [ADMINISTRATORS] },
    requestId: 'bootstrap',
    causes: [],
    signal: new AbortController().signal,
  };
}

export async function bootstrap(services: Services): Promise<void> {
  for (const object of FIRST_OBJECTS) await ensure(services, object);
  await Promise.all(defaultRoles().map((role) => ensure(services, role, completed)));
}

/** Makes what is missing; what stands is changed only where `complete` says what into. */
export async function ensure(
  services: Services,
  object: ApiObject,
  complete?: (standing: ApiObject, wanted: ApiObject) => ApiObject | undefined,
): Promise<void> {
  const call = ownCall(services, object);
  const { namespace = '', name } = object.metadata;
  const entry = services.store.cache(call.definition).get(entryId({ namespace, name }));
  if (!entry) {
    await createObject(call, object, { verb: 'create' }).catch((error: unknown) => {
      if (!(error instanceof StatusError && error.reason === 'AlreadyExists')) throw error;
    });
  } else if (complete?.(decode(entry), object)) {
    const update: Call = { ...call, target: { ...call.target, verb: 'update', name } };
    await changeObject(update, (current) => complete(decode(current), object) ?? decode(current), { verb: 'update' });
  }
}
