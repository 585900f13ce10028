/** POST serviceaccounts/token: a token of the account, for a while, towards whom the request says. https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/ */
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { BoundObjectReference, TokenRequestSpec } from '../../api-schemas/types/authentication-v1.ts';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import { applyDefaults } from '../admission/defaults.ts';
import { nodeOf } from '../authentication/identity.ts';
import { ISSUER, type Bound } from '../authentication/service-account-tokens.ts';
import { readObject } from '../body.ts';
import { isDryRun, type Call } from '../call.ts';
import { badRequest, conflict, forbidden, internal, invalid, methodNotAllowed, notFound } from '../errors.ts';
import { sendObject } from '../respond.ts';
import { decode, entryId } from '../store/entry.ts';
import { find } from '../verbs/get.ts';
import { timestamp } from '../verbs/write.ts';

/** As Kubernetes bounds it. */
const MAX_LIFETIME_SECONDS = 2 ** 32;

export async function token(call: Call): Promise<void> {
  const { definition, services, target } = call;
  if (target.verb !== 'create') throw methodNotAllowed(call.request.method ?? '');
  const schema = services.registry.type('io.k8s.api.authentication.v1.TokenRequest');
  if (!schema) throw internal('the TokenRequest kind has no schema');
  const kind = { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest', schema };
  const object = await readObject(call, kind);
  object['spec'] ??= {};
  const given = object['spec'] as TokenRequestSpec;
  given.audiences ??= [ISSUER];
  if (given.audiences.length === 0) given.audiences = [ISSUER];
  applyDefaults(object, schema);
  const lifetimeSeconds = given.expirationSeconds ?? 3600;
  const faults = lifetimeFaults(lifetimeSeconds);
  if (faults.length > 0) throw invalid({ ...kind, resource: 'tokenrequests' }, target.name, faults);

  const account = await find(call);
  const { boundObjectRef } = given;
  const bound = boundObjectRef && (await boundTo(call, boundObjectRef));
  const node = nodeOf(call.identity);
  if (node !== undefined && (bound?.kind !== 'Pod' || bound.node?.name !== node))
    throw forbidden(definition, target.name, `node requested token not bound to a pod of node ${node}`);
  const { token: issued, expiresAtMs } = services.tokens.issue({
    namespace: target.namespace,
    account: { name: target.name, uid: account.uid },
    audiences: given.audiences,
    lifetimeSeconds,
    ...(bound && { bound }),
  });
  object.metadata = {
    name: target.name,
    namespace: target.namespace,
    creationTimestamp: timestamp(),
  } as ApiObject['metadata'];
  const expirationTimestamp = timestamp(expiresAtMs);
  object['status'] = { token: isDryRun(call) ? '' : issued, expirationTimestamp };
  sendObject(call, object, 201);
}

function lifetimeFaults(lifetimeSeconds: number) {
  const field = 'spec.expirationSeconds';
  const fault = (why: string) => [
    { reason: 'FieldValueInvalid', field, message: `Invalid value: ${lifetimeSeconds}: ${why}` },
  ];
  if (lifetimeSeconds < 600) return fault('may not specify a duration less than 10 minutes');
  return lifetimeSeconds > MAX_LIFETIME_SECONDS ? fault('may not specify a duration larger than 2^32 seconds') : [];
}

/** What a token may end with. */
const BINDINGS: Readonly<Record<string, { readonly resource: string; readonly namespaced: boolean }>> = {
  Pod: { resource: 'pods', namespaced: true },
  Secret: { resource: 'secrets', namespaced: true },
  Node: { resource: 'nodes', namespaced: false },
};

function definitionOf(call: Call, resource: string): ResourceDefinition {
  const definition = call.services.registry.byResource('', 'v1', resource);
  if (!definition) throw internal(`${resource} have no schema`);
  return definition;
}

/** The object that the token ends with. It must stand, be the one that is meant, and a pod must run as this account. */
async function boundTo(call: Call, reference: BoundObjectReference): Promise<Bound> {
  const { kind = '', apiVersion = '', name = '', uid } = reference;
  const binding = apiVersion === 'v1' && Object.hasOwn(BINDINGS, kind) ? BINDINGS[kind] : undefined;
  if (!binding)
    throw badRequest(
      `cannot bind token to object of type ${apiVersion}, Kind=${kind}: expected a Pod, Secret or Node of v1`,
    );
  const definition = definitionOf(call, binding.resource);
  const namespace = binding.namespaced ? call.target.namespace : '';
  const cache = call.services.store.cache(definition);
  const id = entryId({ namespace, name });
  if (!cache.get(id)) await call.services.store.current(definition);
  const entry = cache.get(id);
  if (!entry) throw notFound(definition, name);
  if (uid && uid !== entry.uid)
    throw conflict(
      definition,
      name,
      `the UID in the bound object reference (${uid}) does not match the UID in record. The object might have been deleted and then recreated`,
    );
  if (kind === 'Secret' || kind === 'Node') return { kind, name, uid: entry.uid };
  const pod = decode(entry) as Pod & ApiObject;
  const runsAs = pod.spec?.serviceAccountName ?? 'default';
  if (runsAs !== call.target.name)
    throw badRequest(
      `cannot bind token for serviceaccount ${JSON.stringify(call.target.name)} to pod running with different serviceaccount name.`,
    );
  const nodeName = pod.spec?.nodeName;
  const nodes = call.services.store.cache(definitionOf(call, 'nodes'));
  const node = nodeName ? nodes.get(entryId({ namespace: '', name: nodeName })) : undefined;
  return {
    kind: 'Pod',
    name,
    uid: entry.uid,
    ...(nodeName && { node: { name: nodeName, ...(node && { uid: node.uid }) } }),
  };
}
