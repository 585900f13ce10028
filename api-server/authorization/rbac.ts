/**
 * Who may do what, by the Roles and bindings that stand: an index from each user and group to the rules it was given, made again when one of these objects has changed. Asked by `authorizer.ts` for
 * every request, so a decision reads memory and nothing else. https://kubernetes.io/docs/reference/access-authn-authz/rbac/
 */
import type { Registry } from '../../api-schemas/registry.ts';
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { PolicyRule, RoleRef, Subject } from '../../api-schemas/types/rbac-v1.ts';
import { serviceAccountUser, type Identity } from '../authentication/identity.ts';
import { decode, entryId, type Entry } from '../store/entry.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { isPath, type Attributes } from './attributes.ts';
import { allows } from './rules.ts';

export const RBAC_GROUP = 'rbac.authorization.k8s.io';

/** Rules that a subject holds by one binding. */
interface Grant {
  readonly rules: readonly PolicyRule[];
  /** Which binding of which role. */
  readonly because: string;
}

interface Held {
  readonly everywhere: Grant[];
  readonly within: Map<string, Grant[]>;
}

interface Rules {
  readonly rules?: readonly PolicyRule[];
}

interface Binding {
  readonly roleRef: RoleRef;
  readonly subjects?: readonly Subject[];
}

const KINDS = ['clusterroles', 'roles', 'clusterrolebindings', 'rolebindings'] as const;

/** Entries never change, so each is read once. */
const decoded = new WeakMap<Entry, ApiObject>();

function read<T>(entry: Entry): T {
  let object = decoded.get(entry);
  if (!object) decoded.set(entry, (object = decode(entry)));
  return object as T;
}

const NOTHING: readonly Grant[] = [];

export class Rbac {
  readonly #store: ObjectStore;
  readonly #definitions: readonly ResourceDefinition[];
  /** What the index was made from: a list is another array as soon as an object of it has changed. */
  #seen: readonly (readonly Entry[])[] = [];
  #users = new Map<string, Held>();
  #groups = new Map<string, Held>();

  constructor({ registry, store }: { registry: Registry; store: ObjectStore }) {
    this.#store = store;
    this.#definitions = KINDS.map((resource) => {
      const definition = registry.byResource(RBAC_GROUP, 'v1', resource);
      if (!definition) throw new Error(`${resource} have no schema`);
      return definition;
    });
  }

  /** By which binding it is allowed; undefined when it is not. */
  allows(identity: Identity, attributes: Attributes): string | undefined {
    const namespace = isPath(attributes) ? '' : attributes.namespace;
    for (const grant of this.#grants(identity, namespace))
      for (const rule of grant.rules) if (allows(rule, attributes)) return grant.because;
    return undefined;
  }

  /** Everything that the identity may do in a namespace. */
  rulesFor(identity: Identity, namespace: string): readonly PolicyRule[] {
    return [...this.#grants(identity, namespace)].flatMap(({ rules }) => rules);
  }

  /** The rules of a role; undefined when there is none. `namespace` is the binding's. */
  rulesOf({ kind, name }: Pick<RoleRef, 'kind' | 'name'>, namespace: string): readonly PolicyRule[] | undefined {
    const [clusterRoles, roles] = this.#definitions as [ResourceDefinition, ResourceDefinition];
    const entry =
      kind === 'Role'
        ? this.#store.cache(roles).get(entryId({ namespace, name }))
        : this.#store.cache(clusterRoles).get(entryId({ namespace: '', name }));
    return entry && (read<Rules>(entry).rules ?? []);
  }

  *#grants(identity: Identity, namespace: string): Generator<Grant> {
    this.#refresh();
    yield* grantsOf(this.#users.get(identity.user), namespace);
    for (const group of identity.groups) yield* grantsOf(this.#groups.get(group), namespace);
  }

  #refresh(): void {
    const [first] = this.#definitions;
    // While the log is being read again, what was known before stands.
    if (!first || (this.#seen.length > 0 && !this.#store.stream(first).complete)) return;
    const lists = this.#definitions.map((definition) => this.#store.cache(definition).list());
    if (lists.every((list, at) => list === this.#seen[at])) return;
    this.#seen = lists;
    this.#users = new Map();
    this.#groups = new Map();
    for (const entry of lists[2] ?? []) this.#index(entry, '');
    for (const entry of lists[3] ?? []) this.#index(entry, entry.key.namespace);
  }

  #index(entry: Entry, namespace: string): void {
    const { roleRef, subjects = [] } = read<Binding>(entry);
    const rules = this.rulesOf(roleRef, namespace);
    if (!rules) return;
    for (const subject of subjects) {
      const index = subject.kind === 'Group' ? this.#groups : this.#users;
      // A binding's neighbour needs no namespace of its own.
      const home = subject.namespace || namespace;
      const id = subject.kind === 'ServiceAccount' ? serviceAccountUser(home, subject.name) : subject.name;
      const held = index.get(id) ?? { everywhere: [], within: new Map<string, Grant[]>() };
      index.set(id, held);
      const because = `RBAC: allowed by ${namespace === '' ? 'ClusterRoleBinding' : 'RoleBinding'} "${entry.key.name}${namespace === '' ? '' : `/${namespace}`}" of ${roleRef.kind} "${roleRef.name}" to ${subject.kind} "${subject.kind === 'ServiceAccount' ? `${subject.name}/${home}` : subject.name}"`;
      const grant = { rules, because };
      if (namespace === '') held.everywhere.push(grant);
      else held.within.set(namespace, [...(held.within.get(namespace) ?? []), grant]);
    }
  }
}

function* grantsOf(held: Held | undefined, namespace: string): Generator<Grant> {
  if (!held) return;
  yield* held.everywhere;
  if (namespace !== '') yield* held.within.get(namespace) ?? NOTHING;
}
