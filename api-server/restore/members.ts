/** The items of a plan as members of a transaction. What an object refers to may have a new identity by the time it is written, so each is made only when those before it have been judged. Called by `endpoint.ts`. */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Registry } from '../../api-schemas/registry.ts';
import type { Reason } from '../../event-log/event-log.ts';
import { apiVersionOf } from '../call.ts';
import { notFound } from '../errors.ts';
import { decode, entryId } from '../store/entry.ts';
import type { Operation } from '../transactions/operations.ts';
import type { StagedStore } from '../transactions/staged-store.ts';
import type { Member } from '../transactions/transaction.ts';
import type { PlanItem } from './plan.ts';
import { forCreation, forUpdate, ownershipOf } from './restorable.ts';

const VERBS = { create: 'create', change: 'update', delete: 'delete' } as const;

export function memberOf(item: PlanItem, { registry, reason }: { registry: Registry; reason: Reason }): Member {
  const { definition, key, action, past } = item;
  const { namespace, name } = key;
  const verb = VERBS[action];
  const base = { verb, definition, namespace, name, subresource: '', preconditions: {}, reason };
  const read = (staged: StagedStore): Operation => {
    const standing = staged.cache(definition).get(entryId(key));
    if (action === 'create' && past) {
      const object = withFreeNumbers(withOwners(forCreation(past), registry, staged), item, staged);
      return { ...base, object, preconditions: { absent: true }, managedFields: ownershipOf(past) };
    }
    if (!standing) throw notFound(definition, name);
    const preconditions = { uid: standing.uid };
    if (action === 'delete' || !past) return { ...base, preconditions, propagationPolicy: 'Background' };
    const present = decode(standing);
    return { ...base, preconditions, object: forUpdate(past, present), managedFields: ownershipOf(past, present) };
  };
  return { words: { verb, apiVersion: apiVersionOf(definition), kind: definition.kind, namespace, name }, read };
}

/** Owners are found by their names, as they are by now; who is not there owns nothing, or the object would be collected at once. */
function withOwners(object: ApiObject, registry: Registry, staged: StagedStore): ApiObject {
  const { metadata } = object;
  const owners = (metadata.ownerReferences ?? []).flatMap((owner) => {
    const [group = '', version = ''] = owner.apiVersion.includes('/')
      ? owner.apiVersion.split('/')
      : ['', owner.apiVersion];
    const definition = registry.byKind(group, version, owner.kind);
    if (!definition) return [];
    const namespace = definition.namespaced ? (metadata.namespace ?? '') : '';
    const entry = staged.cache(definition).get(entryId({ namespace, name: owner.name }));
    return entry ? [{ ...owner, uid: entry.uid }] : [];
  });
  if (owners.length > 0) metadata.ownerReferences = owners;
  else delete metadata.ownerReferences;
  return object;
}

interface Numbered {
  readonly spec?: {
    clusterIP?: string;
    clusterIPs?: string[];
    ports?: { nodePort?: number }[];
  };
}

/** A Service keeps its address and its node ports unless somebody else has them by now. */
function withFreeNumbers(object: ApiObject, { definition, key }: PlanItem, staged: StagedStore): ApiObject {
  const { spec } = object as Numbered & ApiObject;
  if (object.kind !== 'Service' || definition.group !== '' || !spec) return object;
  const others = staged
    .cache(definition)
    .list()
    .filter(({ id }) => id !== entryId(key))
    .map((entry) => (decode(entry) as Numbered & ApiObject).spec);
  if (spec.clusterIP !== 'None' && others.some((other) => other?.clusterIP === spec.clusterIP)) {
    delete spec.clusterIP;
    delete spec.clusterIPs;
  }
  const taken = new Set(others.flatMap((other) => (other?.ports ?? []).map(({ nodePort }) => nodePort)));
  for (const port of spec.ports ?? []) if (taken.has(port.nodePort)) delete port.nodePort;
  return object;
}
