/**
 * What has to be written so that a namespace, some of its objects, or the cluster ask again for what they asked for at a revision: computed from what differs between then and now. Objects that controllers make and keep are
 * left to them. Called by `endpoint.ts`.
 */
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { ObjectKey } from '../../event-log/event-log.ts';
import type { Call } from '../call.ts';
import { conflict, notFound, tooLarge, type Subject } from '../errors.ts';
import { MAX_DIFFERENCES } from '../memory/area-diff.ts';
import { changesBetween, type FieldChange } from '../memory/field-changes.ts';
import { mayRead } from '../memory/may-read.ts';
import { decode, entryId, type Entry } from '../store/entry.ts';
import type { OpenStanding, Past } from '../store/past.ts';
import { asksForTheSame, hasController, isMadeByMachine, lossesOf, wanted, whyNotAgain } from './restorable.ts';

/** What is to be restored; absent parts: all of them. */
export interface Scope {
  readonly namespace?: string;
  readonly definition?: ResourceDefinition;
  readonly name?: string;
}

export interface PlanItem {
  readonly action: 'create' | 'change' | 'delete';
  readonly definition: ResourceDefinition;
  readonly key: ObjectKey;
  /** As it stood then; of create and change. */
  readonly past?: ApiObject;
  readonly changes: readonly FieldChange[];
  /** What is lost all the same. */
  readonly losses: readonly string[];
}

export interface Plan {
  readonly items: readonly PlanItem[];
  /** What stood then and cannot come back. */
  readonly cannot: readonly { readonly kind: string; readonly key: ObjectKey; readonly why: string }[];
  /** How many objects differ that controllers keep by themselves. */
  readonly leftToControllers: number;
}

interface Candidate {
  readonly definition: ResourceDefinition;
  readonly key: ObjectKey;
  readonly stood: OpenStanding | undefined;
  /** As the cache has it. */
  readonly now: Entry | undefined;
  readonly maker: string;
}

type Judgement = PlanItem | { readonly why: string } | 'same' | 'left';

/** `revision` and `newest` stand at the end of transactions, and both are recorded. Throws NotFound where what is named stood neither then nor now. */
export async function planOf(
  call: Call,
  past: Past,
  scope: Scope,
  { revision, newest }: { revision: number; newest: number },
): Promise<Plan> {
  const range = { from: revision, to: newest, limit: MAX_DIFFERENCES + 1 };
  const found = [...(await past.differences({ ...range, namespace: placeOf(scope) }))];
  // The Namespace itself has no namespace.
  if (scope.namespace !== undefined && !scope.definition)
    found.push(...(await past.differences({ ...range, namespace: '' })));
  if (found.length > MAX_DIFFERENCES)
    throw tooLarge(
      `more than ${MAX_DIFFERENCES} objects differ from that moment; restore one namespace, or one kind, at a time`,
    );
  if (!found.some(({ key }) => isWithin(scope, key))) requireStanding(call, scope);
  const items: PlanItem[] = [];
  const cannot: { kind: string; key: ObjectKey; why: string }[] = [];
  let leftToControllers = 0;
  for (const { key, before, after } of found) {
    const definition = definitionOf(call, key, (before ?? after)?.object);
    if (!isWithin(scope, key) || !mayRead(call, key)) continue;
    if (!definition) {
      if (before && key.group !== 'reckon.dev')
        cannot.push({ kind: before.object.kind, key, why: 'its kind is not defined now; restore that first' });
      continue;
    }
    const now = call.services.store.cache(definition).get(entryId(key));
    const judged = judge({ definition, key, stood: before, now, maker: (after ?? before)?.maker ?? '' }, scope);
    if (judged === 'same') continue;
    if (judged === 'left') leftToControllers++;
    else if ('why' in judged) cannot.push({ kind: definition.kind, key, why: judged.why });
    else items.push(judged);
  }
  const closing = closingNamespaces(call);
  if (scope.namespace !== undefined && items.length > 0 && closing.has(scope.namespace))
    throw conflict(closing.definition, scope.namespace, 'the namespace is being deleted; restore it once it is gone');
  const going = items.filter(({ action, key }) => action === 'delete' && isNamespace(key)).map(({ key }) => key.name);
  // What is in a namespace goes with it.
  const own = items.filter(({ key }) => !going.includes(key.namespace) && !closing.has(key.namespace));
  return { items: inOrder(own), cannot, leftToControllers };
}

/** For a scope in which nothing differs: a name that nothing has, or had, is a mistake. */
function requireStanding({ services }: Call, { namespace, definition, name }: Scope): void {
  const named = name !== undefined && definition;
  const subject = named || services.registry.byResource('', 'v1', 'namespaces');
  const key = named
    ? { namespace: definition.namespaced ? (namespace ?? '') : '', name }
    : { namespace: '', name: namespace ?? '' };
  if (key.name === '' || !subject || services.store.cache(subject).get(entryId(key))) return;
  throw notFound(subject, key.name);
}

/** Nothing can be made in them. */
function closingNamespaces({ services }: Call): { definition: Subject; has(name: string): boolean } {
  const definition = services.registry.byResource('', 'v1', 'namespaces');
  const isClosing = (name: string): boolean => {
    const entry = definition && services.store.cache(definition).get(entryId({ namespace: '', name }));
    return entry?.fields['status.phase'] === 'Terminating';
  };
  return { definition: definition ?? { group: '', resource: 'namespaces' }, has: isClosing };
}

/** In the version that the object was written in, as long as there is one. */
function definitionOf(
  { services }: Call,
  key: ObjectKey,
  object: ApiObject | undefined,
): ResourceDefinition | undefined {
  const version = object?.apiVersion.split('/').at(-1);
  const served = services.registry
    .resources()
    .filter(({ group, resource }) => group === key.group && resource === key.resource);
  return served.find((each) => each.version === version) ?? served[0];
}

const isNamespace = ({ group, resource }: ObjectKey): boolean => group === '' && resource === 'namespaces';

const placeOf = ({ namespace, definition }: Scope): string | undefined =>
  definition && !definition.namespaced ? '' : namespace;

function isWithin({ namespace, definition, name }: Scope, key: ObjectKey): boolean {
  if (definition && (definition.group !== key.group || definition.resource !== key.resource)) return false;
  if (name !== undefined && key.name !== name) return false;
  if (namespace === undefined || key.namespace === namespace) return true;
  return !definition && isNamespace(key) && key.name === namespace;
}

/** What is to be done about one object, or why nothing can be. */
function judge({ definition, key, stood, now, maker }: Candidate, scope: Scope): Judgement {
  const past = stood && !stood.object.metadata.deletionTimestamp ? stood.object : undefined;
  const present = now && decode(now);
  const base = { definition, key, changes: [], losses: [] };
  if (!past && (!present || present.metadata.deletionTimestamp)) return 'same';
  const kept = [past, present].some((object) => object && hasController(object)) || isMadeByMachine(maker);
  if (kept && scope.name === undefined) return 'left';
  if (!past) return { ...base, action: 'delete' };
  if (present && asksForTheSame(past, present) && !present.metadata.deletionTimestamp) return 'same';
  if (stood?.isLost) return { why: 'its contents were destroyed with their key after it was deleted' };
  if (!present) {
    const why = whyNotAgain(past);
    return why === undefined ? { ...base, action: 'create', past, losses: lossesOf(past) } : { why };
  }
  if (present.metadata.deletionTimestamp) return { why: 'it is being deleted just now; restore it once it is gone' };
  return { ...base, action: 'change', past, changes: changesBetween(wanted(present), wanted(past)).changes };
}

/** A namespace before what is in it, owners before what they own, and what is to go at the end. */
function inOrder(items: readonly PlanItem[]): PlanItem[] {
  const byUid = new Map(items.map((item) => [item.past?.metadata.uid, item]));
  const depth = (item: PlanItem, seen: ReadonlySet<PlanItem> = new Set()): number => {
    if (seen.has(item)) return 0;
    const owners = (item.past?.metadata.ownerReferences ?? []).flatMap(({ uid }) => byUid.get(uid) ?? []);
    return owners.reduce((most, owner) => Math.max(most, 1 + depth(owner, new Set([...seen, item]))), 0);
  };
  const rank = (item: PlanItem): number =>
    item.action === 'delete' ? 1_000 : item.definition.resource === 'namespaces' ? -1 : depth(item);
  return [...items].sort((a, b) => rank(a) - rank(b));
}
