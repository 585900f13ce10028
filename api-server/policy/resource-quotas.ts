/**
 * Holds new and growing objects against the ResourceQuotas of their namespace. What is used is counted from what stands, and written to the quota's status in one transaction with the object that uses it, under
 * the quota's guard: of two that would exceed it together, on whichever API servers, one is computed again and refused; and no use is ever booked for an object that does not stand. Called by
 * `verbs/write.ts`. https://kubernetes.io/docs/concepts/policy/resource-quotas/
 */
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { Pod, ResourceQuota } from '../../api-schemas/types/core-v1.ts';
import type { Amounts } from '../../api-schemas/pod-resources.ts';
import { parseQuantity } from '../../api-schemas/quantity.ts';
import { isInScope, leftUnsaid, releasedAtMs, shownLike, usageOf } from '../../api-schemas/usage.ts';
import { GuardError } from '../../event-log/event-log.ts';
import { isDryRun, keyOf, type Call } from '../call.ts';
import { forbidden, StatusError } from '../errors.ts';
import { decode, type Entry } from '../store/entry.ts';
import type { Change } from '../store/object-store.ts';
import { Turns } from '../store/turns.ts';

type Quota = ResourceQuota & ApiObject;

export const isResourceQuota = ({ group, resource }: { group: string; resource: string }): boolean =>
  group === '' && resource === 'resourcequotas';

const quotaDefinition = ({ services }: Call): ResourceDefinition | undefined =>
  services.registry.byResource('', 'v1', 'resourcequotas');

function quotasOf(call: Call): Entry[] {
  const definition = quotaDefinition(call);
  const { namespaced, storage } = call.definition;
  if (!definition || !namespaced || storage !== 'log') return [];
  return call.services.store.cache(definition).inNamespace(call.target.namespace);
}

/** Who uses the same quotas would refuse each other: they take turns. */
const turns = new Turns();

export function inTurn<T>(call: Call, write: () => Promise<T>): Promise<T> {
  return quotasOf(call).length === 0 ? write() : turns.run(call.target.namespace, write);
}

/**
 * What must be written to the quotas beside the object. Throws Forbidden where one would be exceeded, or limits what the object does not say. `old`: the object as it stands, on update.
 */
export async function charges(call: Call, object: ApiObject, old: ApiObject | undefined): Promise<Change[]> {
  if (quotasOf(call).length === 0) return [];
  const growth = growthOf(call.definition, object, old);
  if (Object.keys(growth).length === 0) return [];
  const now = () => quotasOf(call).flatMap((entry) => charge(call, { entry, object, old, growth }));
  try {
    return now();
  } catch (refusal) {
    if (!(refusal instanceof StatusError)) throw refusal;
    await call.services.store.current(call.definition);
    now();
    // Another API server has freed something meanwhile: the whole write is computed again on what is newest.
    throw new GuardError(keyOf(call, object.metadata.name));
  }
}

function growthOf(definition: ResourceDefinition, object: ApiObject, old: ApiObject | undefined): Amounts {
  const before = old ? usageOf(definition, old) : {};
  const grown = Object.entries(usageOf(definition, object))
    .map(([name, amount]) => [name, amount - (before[name] ?? 0n)] as const)
    .filter(([, amount]) => amount > 0n);
  return Object.fromEntries(grown);
}

interface Charged {
  readonly entry: Entry;
  readonly object: ApiObject;
  readonly old: ApiObject | undefined;
  readonly growth: Amounts;
}

function charge(call: Call, { entry, object, old, growth }: Charged): Change[] {
  const { definition, identity, requestId, causes } = call;
  const quota = decode(entry) as Quota;
  const hard = quota.spec?.hard ?? {};
  const names = Object.keys(growth).filter((name) => hard[name] !== undefined);
  const isPod = definition.group === '' && definition.resource === 'pods';
  if (!isInScope(quota, definition, object)) return [];
  const unsaid = isPod && !old ? leftUnsaid(quota, object as Pod) : '';
  if (unsaid !== '') throw refuse(call, object, `failed quota: ${entry.key.name}: must specify ${unsaid}`);
  if (names.length === 0) return [];
  const others = usedByOthers(call, quota, object.metadata.uid);
  const mine = usageOf(definition, object);
  const exceeded = names.filter((name) => (others[name] ?? 0n) + (mine[name] ?? 0n) > bound(hard, name)).sort();
  if (exceeded.length > 0) throw exceeds(call, { quota, object, old, growth, others, exceeded });
  if (isDryRun(call)) return [];
  const used = { ...quota.status?.used };
  for (const name of Object.keys(mine))
    if (hard[name] !== undefined) used[name] = shownLike(hard[name], (others[name] ?? 0n) + (mine[name] ?? 0n));
  const quotas = quotaDefinition(call);
  if (!quotas) return [];
  return [
    {
      definition: quotas,
      key: entry.key,
      verb: 'update',
      plane: 'observed',
      guard: entry.sequence,
      object: { ...quota, status: { ...quota.status, hard, used } },
      actor: identity.user,
      requestId,
      causes,
    },
  ];
}

const bound = (hard: Readonly<Record<string, string>>, name: string): bigint =>
  parseQuantity(hard[name] ?? '')?.nanos ?? 0n;

interface Use {
  readonly usage: Amounts;
  readonly untilMs: number;
  /** As much of a pod as its scopes are read from. */
  readonly outline: ApiObject;
}

/** Entries never change, so each is looked into once. */
const uses = new WeakMap<Entry, Use>();

function useOf(definition: ResourceDefinition, entry: Entry): Use {
  let use = uses.get(entry);
  if (!use) {
    const object = decode(entry) as Pod & ApiObject;
    const { activeDeadlineSeconds, affinity, priorityClassName } = object.spec ?? {};
    const { apiVersion, kind, metadata, status } = object;
    const outline = {
      apiVersion,
      kind,
      metadata: { name: metadata.name },
      spec: { activeDeadlineSeconds, affinity, priorityClassName },
      status: { qosClass: status?.qosClass },
    };
    use = { usage: usageOf(definition, object), untilMs: releasedAtMs(definition, object), outline };
    uses.set(entry, use);
  }
  return use;
}

/** What the other objects of the resource use of the quota. */
function usedByOthers({ services, definition, target }: Call, quota: Quota, uid: string | undefined): Amounts {
  const used: Record<string, bigint> = {};
  const nowMs = Date.now();
  for (const entry of services.store.cache(definition).inNamespace(target.namespace)) {
    if (entry.uid === uid) continue;
    const { usage, untilMs, outline } = useOf(definition, entry);
    if (untilMs < nowMs || !isInScope(quota, definition, outline)) continue;
    for (const [name, amount] of Object.entries(usage)) used[name] = (used[name] ?? 0n) + amount;
  }
  return used;
}

const refuse = (call: Call, { metadata }: ApiObject, why: string): StatusError =>
  forbidden(call.definition, metadata.name || metadata.generateName || '', why);

function exceeds(
  call: Call,
  facts: {
    quota: Quota;
    object: ApiObject;
    old: ApiObject | undefined;
    growth: Amounts;
    others: Amounts;
    exceeded: readonly string[];
  },
): StatusError {
  const { quota, object, old, growth, others, exceeded } = facts;
  const hard = quota.spec?.hard ?? {};
  const before = old ? usageOf(call.definition, old) : {};
  const list = (of: (name: string) => bigint): string =>
    exceeded.map((name) => `${name}=${shownLike(hard[name], of(name))}`).join(',');
  const requested = list((name) => growth[name] ?? 0n);
  const used = list((name) => (others[name] ?? 0n) + (before[name] ?? 0n));
  const limited = list((name) => bound(hard, name));
  const why = `exceeded quota: ${quota.metadata.name}, requested: ${requested}, used: ${used}, limited: ${limited}`;
  return refuse(call, object, why);
}
