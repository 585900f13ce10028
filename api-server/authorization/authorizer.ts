/**
 * Whether an identity may do what it asks for: administrators everything, everybody else what roles give them, the agent of a node only what concerns that node. Asked by `server.ts` before
 * anything else is looked at, and by whatever finds out later what a request amounts to.
 */
import type { Registry } from '../../api-schemas/registry.ts';
import type { PolicyRule, RoleRef } from '../../api-schemas/types/rbac-v1.ts';
import { ADMINISTRATORS, nodeOf, type Identity } from '../authentication/identity.ts';
import { qualified, StatusError } from '../errors.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { isPath, resourceName, type Attributes } from './attributes.ts';
import { NodeRestriction } from './node-restriction.ts';
import { Rbac } from './rbac.ts';

export interface Decision {
  readonly allowed: boolean;
  /** By which binding, or what stands against it; may be empty. */
  readonly reason: string;
}

const EVERYTHING: readonly PolicyRule[] = [
  { apiGroups: ['*'], resources: ['*'], verbs: ['*'] },
  { nonResourceURLs: ['*'], verbs: ['*'] },
];

export const isAdministrator = ({ groups }: Identity): boolean => groups.includes(ADMINISTRATORS);

export class Authorizer {
  readonly #rbac: Rbac;
  readonly #nodes: NodeRestriction;

  constructor(room: { registry: Registry; store: ObjectStore }) {
    this.#rbac = new Rbac(room);
    this.#nodes = new NodeRestriction(room);
  }

  decide(identity: Identity, attributes: Attributes): Decision {
    if (isAdministrator(identity)) return { allowed: true, reason: '' };
    const reason = this.#rbac.allows(identity, attributes);
    if (reason === undefined) return { allowed: false, reason: '' };
    const node = nodeOf(identity);
    const refusal = node === undefined || isPath(attributes) ? undefined : this.#nodes.refusal(node, attributes);
    return refusal === undefined ? { allowed: true, reason } : { allowed: false, reason: refusal };
  }

  /** Throws Forbidden. */
  require(identity: Identity, attributes: Attributes): void {
    const { allowed, reason } = this.decide(identity, attributes);
    if (!allowed) throw forbiddenRequest(identity, attributes, reason);
  }

  /** What the identity holds in a namespace. */
  rulesFor(identity: Identity, namespace: string): readonly PolicyRule[] {
    return isAdministrator(identity) ? EVERYTHING : this.#rbac.rulesFor(identity, namespace);
  }

  /** Undefined when there is no such role. `namespace` is the binding's. */
  rulesOf(role: Pick<RoleRef, 'kind' | 'name'>, namespace: string): readonly PolicyRule[] | undefined {
    return this.#rbac.rulesOf(role, namespace);
  }
}

/** 403 in the words of Kubernetes, which clients show as they are. */
export function forbiddenRequest({ user }: Identity, attributes: Attributes, reason = ''): StatusError {
  const because = reason === '' ? '' : `: ${reason}`;
  const who = `User ${JSON.stringify(user)} cannot ${attributes.verb}`;
  if (isPath(attributes))
    return new StatusError('Forbidden', `forbidden: ${who} path ${JSON.stringify(attributes.path)}${because}`, {});
  const { group, resource, namespace, name } = attributes;
  const where = namespace === '' ? 'at the cluster scope' : `in the namespace ${JSON.stringify(namespace)}`;
  const what = `${qualified(resource, group)}${name === '' ? '' : ` ${JSON.stringify(name)}`}`;
  return new StatusError(
    'Forbidden',
    `${what} is forbidden: ${who} resource ${JSON.stringify(resourceName(attributes))} in API group ${JSON.stringify(group)} ${where}${because}`,
    { ...(name !== '' && { name }), ...(group !== '' && { group }), kind: resource },
  );
}
