/**
 * What a pod gets from its ServiceAccount: it must be there; its token, with the authority's certificate and the namespace, are mounted where in-cluster clients look for them, unless either says otherwise; and its pull
 * secrets are the pod's. Called by the strategy of pods. https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Container, Pod, PodSpec, ServiceAccount, Volume } from '../../api-schemas/types/core-v1.ts';
import type { Call } from '../call.ts';
import { forbidden, internal } from '../errors.ts';
import { decode, entryId } from '../store/entry.ts';
import { suffix } from '../strategy/generated-name.ts';

const DEFAULT_ACCOUNT = 'default';
const VOLUME_PREFIX = 'kube-api-access-';
const MOUNT_PATH = '/var/run/secrets/kubernetes.io/serviceaccount';
/** As Kubernetes has it: an hour, and seven seconds by which these tokens are told from others. */
const TOKEN_SECONDS = 3607;
/** A namespace that has just been made gets its account in a moment. */
const WAIT_MS = 100;
const MAX_WAITS = 30;

export async function admitServiceAccount(pod: Pod & ApiObject, call: Call): Promise<void> {
  const { spec } = pod;
  if (!spec) return;
  spec.serviceAccountName ||= DEFAULT_ACCOUNT;
  spec.serviceAccount = spec.serviceAccountName;
  if (!call.services.demandsServiceAccounts) return;
  const account = await accountOf(pod, spec.serviceAccountName, call);
  if ((spec.automountServiceAccountToken ?? account.automountServiceAccountToken) !== false) mountToken(spec);
  if (!spec.imagePullSecrets?.length && account.imagePullSecrets?.length)
    spec.imagePullSecrets = account.imagePullSecrets;
}

async function accountOf(pod: Pod & ApiObject, name: string, call: Call): Promise<ServiceAccount> {
  const { registry, store } = call.services;
  const definition = registry.byResource('', 'v1', 'serviceaccounts');
  if (!definition) throw internal('serviceaccounts have no schema');
  const { namespace } = call.target;
  const find = () => store.cache(definition).get(entryId({ namespace, name }));
  if (!find()) await store.current(definition);
  for (let wait = 0; !find() && name === DEFAULT_ACCOUNT && wait < MAX_WAITS; wait++) await sleep(WAIT_MS);
  const entry = find();
  if (entry) return decode(entry) as ServiceAccount & ApiObject;
  throw forbidden(
    call.definition,
    pod.metadata.name || pod.metadata.generateName || '',
    `error looking up service account ${namespace}/${name}: serviceaccount "${name}" not found`,
  );
}

/** Into every container that has nothing of its own there. The pod has not been validated yet: what it needs may be missing. */
function mountToken(spec: PodSpec): void {
  const isUnmounted = ({ volumeMounts = [] }: Container) =>
    !volumeMounts.some(({ mountPath }) => mountPath === MOUNT_PATH);
  const containers = [...(spec.initContainers ?? []), ...(spec.containers ?? [])].filter(isUnmounted);
  if (containers.length === 0) return;
  // A pod may be made from what another one looks like, with this volume in it.
  const standing = spec.volumes?.find(({ name }) => name?.startsWith(VOLUME_PREFIX));
  const volume = standing ?? tokenVolume(VOLUME_PREFIX + suffix());
  if (!standing) spec.volumes = [...(spec.volumes ?? []), volume];
  for (const container of containers)
    container.volumeMounts = [
      ...(container.volumeMounts ?? []),
      { name: volume.name, readOnly: true, mountPath: MOUNT_PATH },
    ];
}

const tokenVolume = (name: string): Volume => ({
  name,
  projected: {
    defaultMode: 0o644,
    sources: [
      { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
      { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
      {
        downwardAPI: {
          items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
        },
      },
    ],
  },
});
