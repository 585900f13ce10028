/**
 * The roles and bindings that every cluster has, and how what stands is brought in line with them at a start: made where they are missing, given what they lack, never robbed of what was added,
 * and left alone where the annotation says so. Called by `bootstrap.ts`. https://kubernetes.io/docs/reference/access-authn-authz/rbac/#auto-reconciliation
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { packageRoot } from '../../api-schemas/registry.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PolicyRule } from '../../api-schemas/types/rbac-v1.ts';
import { OWN_ROLES } from './own-roles.ts';
import { missing } from './rules.ts';

const FILE = 'api-server/authorization/default-roles.json';
const AUTO_UPDATE = 'rbac.authorization.kubernetes.io/autoupdate';

/** Kubernetes' own (`default-roles.json`, facts of the API) and those of our processes. */
export function defaultRoles(): readonly ApiObject[] {
  return [...(JSON.parse(readFileSync(path.join(packageRoot(), FILE), 'utf8')) as ApiObject[]), ...OWN_ROLES];
}

/** What stands, with what the default has and it lacks; undefined where there is nothing to add, or nothing may be. */
export function completed(standing: ApiObject, wanted: ApiObject): ApiObject | undefined {
  if (standing.metadata.annotations?.[AUTO_UPDATE] === 'false') return undefined;
  const object = structuredClone(standing);
  if (Array.isArray(wanted['rules']) && !object['aggregationRule']) {
    const held = (object['rules'] ?? []) as PolicyRule[];
    const lacking = (wanted['rules'] as PolicyRule[]).filter((rule) => missing(held, [rule]).length > 0);
    object['rules'] = [...held, ...lacking];
  }
  if (Array.isArray(wanted['subjects'])) {
    const held = (object['subjects'] ?? []) as unknown[];
    const lacking = wanted['subjects'].filter((subject) => !held.some((other) => isDeepStrictEqual(other, subject)));
    object['subjects'] = [...held, ...lacking];
  }
  return isDeepStrictEqual(object, standing) ? undefined : object;
}
