/**
 * Nobody gives away what he does not hold: a role is written by who holds its rules (or may `escalate`), a binding by who holds the rules of its role (or may `bind` it). Called through
 * `strategy/kinds.ts` for every write. https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
 */
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PolicyRule, RoleRef } from '../../api-schemas/types/rbac-v1.ts';
import type { Call } from '../call.ts';
import { forbidden, notFound } from '../errors.ts';
import type { Kind } from '../strategy/kinds.ts';
import { isAdministrator } from './authorizer.ts';
import { RBAC_GROUP } from './rbac.ts';
import { missing } from './rules.ts';

const list = <T>(value: unknown): readonly T[] => (Array.isArray(value) ? (value as T[]) : []);

const ALL_RULES: readonly PolicyRule[] = [
  { apiGroups: ['*'], resources: ['*'], verbs: ['*'] },
  { nonResourceURLs: ['*'], verbs: ['*'] },
];

function may(call: Call, verb: string, about: { resource: string; name: string; namespace: string }): boolean {
  const attributes = { verb, group: RBAC_GROUP, subresource: '', ...about };
  return call.services.authorizer.decide(call.identity, attributes).allowed;
}

function requireHeld(call: Call, name: string, wanted: readonly PolicyRule[]): void {
  const { identity, services, target, definition } = call;
  const held = services.authorizer.rulesFor(identity, definition.namespaced ? target.namespace : '');
  const lacking = missing(held, wanted);
  if (lacking.length === 0) return;
  const groups = identity.groups.map((group) => JSON.stringify(group)).join(' ');
  throw forbidden(
    definition,
    name,
    `user ${JSON.stringify(identity.user)} (groups=[${groups}]) is attempting to grant RBAC permissions not currently held:\n${lacking.join('\n')}`,
  );
}

function checkRole(object: ApiObject, old: ApiObject | undefined, call: Call): void {
  if (isAdministrator(call.identity)) return;
  const rules = list<PolicyRule>(object['rules']);
  const sameRules = old !== undefined && isDeepStrictEqual(rules, list(old['rules']));
  const sameSources = isDeepStrictEqual(object['aggregationRule'], old?.['aggregationRule']);
  if (sameRules && sameSources) return;
  const { resource } = call.definition;
  const { name } = object.metadata;
  if (may(call, 'escalate', { resource, name, namespace: call.target.namespace })) return;
  if (!sameRules) requireHeld(call, name, rules);
  // What is aggregated is not known beforehand.
  if (!sameSources && object['aggregationRule']) requireHeld(call, name, ALL_RULES);
}

function checkBinding(object: ApiObject, old: ApiObject | undefined, call: Call): void {
  if (isAdministrator(call.identity)) return;
  const { authorizer, registry } = call.services;
  const roleRef = object['roleRef'] as Partial<RoleRef> | undefined;
  if (!roleRef?.kind || !roleRef.name) return;
  const same = isDeepStrictEqual(roleRef, old?.['roleRef']) && isDeepStrictEqual(object['subjects'], old?.['subjects']);
  if (same) return;
  const role = { kind: roleRef.kind, name: roleRef.name };
  const resource = role.kind === 'Role' ? 'roles' : 'clusterroles';
  const { namespace } = call.target;
  if (may(call, 'bind', { resource, name: role.name, namespace })) return;
  const rules = authorizer.rulesOf(role, namespace);
  const definition = registry.byResource(RBAC_GROUP, 'v1', resource);
  if (!rules) throw notFound(definition ?? { group: RBAC_GROUP, resource }, role.name);
  requireHeld(call, object.metadata.name, rules);
}

const role: Kind = {
  prepareCreate: (object, call) => checkRole(object, undefined, call),
  prepareUpdate: (object, old, call) => checkRole(object, old, call),
};

const binding: Kind = {
  prepareCreate: (object, call) => checkBinding(object, undefined, call),
  prepareUpdate: (object, old, call) => checkBinding(object, old, call),
};

export const rbacKinds: Readonly<Record<string, Kind>> = {
  [`${RBAC_GROUP}/roles`]: role,
  [`${RBAC_GROUP}/clusterroles`]: role,
  [`${RBAC_GROUP}/rolebindings`]: binding,
  [`${RBAC_GROUP}/clusterrolebindings`]: binding,
};
