/**
 * What one rule of a role allows, and whether rules that somebody holds cover rules that he wants to give away. Pure; used by `rbac.ts` and `escalation.ts`.
 * https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources
 */
import type { PolicyRule } from '../../api-schemas/types/rbac-v1.ts';
import { isPath, resourceName, type Attributes } from './attributes.ts';

const ALL = '*';

const holds = (list: readonly string[] | undefined, wanted: string): boolean =>
  list !== undefined && (list.includes(wanted) || list.includes(ALL));

const coversPath = (patterns: readonly string[] | undefined, path: string): boolean =>
  patterns?.some((pattern) => pattern === path || (pattern.endsWith(ALL) && path.startsWith(pattern.slice(0, -1)))) ??
  false;

/** `pods/log` is covered by itself, by `*` and by `*` with the same subresource. */
function coversResource(resources: readonly string[] | undefined, wanted: string): boolean {
  if (holds(resources, wanted)) return true;
  const slash = wanted.indexOf('/');
  return slash >= 0 && (resources?.includes(`*${wanted.slice(slash)}`) ?? false);
}

export function allows(rule: PolicyRule, attributes: Attributes): boolean {
  if (!holds(rule.verbs, attributes.verb)) return false;
  if (isPath(attributes)) return coversPath(rule.nonResourceURLs, attributes.path);
  return (
    holds(rule.apiGroups, attributes.group) &&
    coversResource(rule.resources, resourceName(attributes)) &&
    (!rule.resourceNames?.length || rule.resourceNames.includes(attributes.name))
  );
}

/** A rule that names one of everything. */
export interface SingleRule {
  readonly verb: string;
  readonly path?: string;
  readonly group?: string;
  readonly resource?: string;
  readonly name?: string;
}

/** Every single permission of a rule. Bounded by the size of the object that it stands in. */
function* singles(rule: PolicyRule): Generator<SingleRule> {
  for (const verb of rule.verbs ?? []) {
    for (const path of rule.nonResourceURLs ?? []) yield { verb, path };
    for (const group of rule.apiGroups ?? [])
      for (const resource of rule.resources ?? [])
        if (rule.resourceNames?.length) for (const name of rule.resourceNames) yield { verb, group, resource, name };
        else yield { verb, group, resource };
  }
}

function coversSingle(rule: PolicyRule, { verb, path, group = '', resource = '', name }: SingleRule): boolean {
  if (!holds(rule.verbs, verb)) return false;
  if (path !== undefined) return coversPath(rule.nonResourceURLs, path);
  return (
    holds(rule.apiGroups, group) &&
    coversResource(rule.resources, resource) &&
    (!rule.resourceNames?.length || (name !== undefined && rule.resourceNames.includes(name)))
  );
}

/** How many missing permissions are told; the rest is only counted. */
const MAX_TOLD = 50;

/** What of `wanted` the held rules do not cover, in the words of Kubernetes; empty when all is covered. */
export function missing(held: readonly PolicyRule[], wanted: readonly PolicyRule[]): string[] {
  const faults = new Map<string, Set<string>>();
  for (const rule of wanted)
    for (const single of singles(rule)) {
      if (held.some((owned) => coversSingle(owned, single))) continue;
      const { verb, path, group, resource, name } = single;
      const about =
        path === undefined
          ? `APIGroups:${quote(group)}, Resources:${quote(resource)}${name === undefined ? '' : `, ResourceNames:${quote(name)}`}`
          : `NonResourceURLs:${quote(path)}`;
      const verbs = faults.get(about);
      if (verbs) verbs.add(verb);
      else if (faults.size < MAX_TOLD) faults.set(about, new Set([verb]));
    }
  return [...faults].map(
    ([about, verbs]) => `{${about}, Verbs:[${[...verbs].map((verb) => JSON.stringify(verb)).join(' ')}]}`,
  );
}

const quote = (value: string | undefined): string => `[${JSON.stringify(value ?? '')}]`;
