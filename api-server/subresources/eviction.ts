/**
 * POST pods/eviction: deletes a pod if its PodDisruptionBudget allows it. The budget's count and the pod's end are one transaction of the log, so no two evictions, whichever server they come by, spend the same
 * allowance, and none is spent without its pod going. https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
 */
import { conditionHolds } from '../../api-schemas/conditions.ts';
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { Pod, PodCondition } from '../../api-schemas/types/core-v1.ts';
import type { PodDisruptionBudget } from '../../api-schemas/types/policy-v1.ts';
import { GuardError } from '../../event-log/event-log.ts';
import { readObject } from '../body.ts';
import { isDryRun, keyOf, provenance, type Call } from '../call.ts';
import { badRequest, forbidden, internal, methodNotAllowed, notFound, staleWrite, StatusError } from '../errors.ts';
import { sendJson } from '../respond.ts';
import { decode, entryId, type Entry } from '../store/entry.ts';
import type { Change } from '../store/object-store.ts';
import { parseLabelSelector, selectorText } from '../store/selectors.ts';
import { checkDeleteOptions, deletionOf, type DeleteOptions } from '../verbs/delete.ts';
import { timestamp } from '../verbs/write.ts';

/** So often a pod or a budget may change while its eviction is computed. */
const MAX_RETRIES = 20;
/** Evictions that the controller has not confirmed; beyond that it is not at work. */
const MAX_DISRUPTED_PODS = 2_000;
const UNPROCESSED_RETRY_SECONDS = 10;
/** Clients that were written before 1.22 name no other. */
const EARLIER_VERSIONS = ['v1beta1'];

type Budget = PodDisruptionBudget & ApiObject;

export async function eviction(call: Call): Promise<void> {
  if (call.target.verb !== 'create') throw methodNotAllowed(call.request.method ?? '');
  const { services, target, definition } = call;
  const schema = services.registry.type('io.k8s.api.policy.v1.Eviction');
  const budgets = services.registry.byResource('policy', 'v1', 'poddisruptionbudgets');
  if (!schema || !budgets) throw internal('the group policy has no schema');
  const body = await readObject(call, {
    group: 'policy',
    version: 'v1',
    kind: 'Eviction',
    schema,
    earlierVersions: EARLIER_VERSIONS,
  });
  if ((body.metadata.name ||= target.name) !== target.name)
    throw badRequest('name in URL does not match name in Eviction object');
  if (body.metadata.namespace && body.metadata.namespace !== target.namespace)
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  const options = optionsOf(call, (body['deleteOptions'] ?? {}) as DeleteOptions);

  const reasoned: Call = { ...call, reason: { because: 'its eviction was asked for', ...call.reason } };
  for (let attempt = 0; ; attempt++) {
    // Pods and budgets stand in one stream: both are as new as the log.
    await services.store.current(definition);
    const entry = services.store.cache(definition).get(entryId(keyOf(call)));
    if (!entry) throw notFound(definition, target.name);
    const spent = spend(call, budgets, entry);
    const { change } = deletionOf(reasoned, entry, options, isProtected(entry) ? markDisrupted : undefined);
    if (!change || options.dryRun?.includes('All')) break;
    try {
      if (spent) await services.store.transaction([spent, change]);
      else await services.store.append(change);
      break;
    } catch (error) {
      if (!(error instanceof GuardError)) throw error;
      if (attempt >= MAX_RETRIES || options.preconditions?.resourceVersion) throw staleWrite(definition, target.name);
    }
  }
  sendJson(call, 201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 });
}

/** `dryRun` may stand in the query, in the body, or in both alike. */
function optionsOf(call: Call, given: DeleteOptions): DeleteOptions {
  checkDeleteOptions(call, given);
  if (!isDryRun(call)) return given;
  return { ...given, dryRun: ['All'] };
}

/** A pod that has not begun, has ended or is on its way out disrupts nothing. */
function isProtected(entry: Entry): boolean {
  const { metadata, status } = decode(entry) as Pod & ApiObject;
  return (
    metadata.deletionTimestamp === undefined &&
    status?.phase !== 'Succeeded' &&
    status?.phase !== 'Failed' &&
    status?.phase !== 'Pending'
  );
}

/** What the eviction takes from its budget; undefined where it needs none. Throws where the budget forbids it. */
function spend(call: Call, budgets: ResourceDefinition, entry: Entry): Change | undefined {
  if (!isProtected(entry)) return undefined;
  const concerned = call.services.store
    .cache(budgets)
    .list()
    .filter(({ key }) => key.namespace === entry.key.namespace)
    .filter((candidate) => selects(decode(candidate) as Budget, entry));
  if (concerned.length > 1)
    throw new StatusError(
      'InternalError',
      'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
    );
  const [standing] = concerned;
  if (!standing) return undefined;
  const budget = decode(standing) as Budget;
  const pod = decode(entry) as Pod & ApiObject;
  if (!conditionHolds(pod.status?.conditions, 'Ready') && mayLoseUnhealthy(budget)) return undefined;
  checkAllowance(budgets, budget);
  const { status } = budget;
  const now = timestamp();
  if (status) {
    status.disruptionsAllowed -= 1;
    // The controller must not count a pod that it may still see as healthy.
    status.disruptedPods = { ...status.disruptedPods, [entry.key.name]: now };
  }
  return {
    definition: budgets,
    key: standing.key,
    verb: 'update',
    plane: 'observed',
    guard: standing.sequence,
    object: budget,
    ...provenance(call),
  };
}

/** An absent selector selects nothing, an empty one everything. */
function selects({ spec }: Budget, pod: Entry): boolean {
  if (!spec?.selector) return false;
  return parseLabelSelector(selectorText(spec.selector))?.(pod.labels) ?? true;
}

/** https://kubernetes.io/docs/tasks/run-application/configure-pdb/#unhealthy-pod-eviction-policy */
function mayLoseUnhealthy({ spec, status }: Budget): boolean {
  if (spec?.unhealthyPodEvictionPolicy === 'AlwaysAllow') return true;
  const { currentHealthy = 0, desiredHealthy = 0 } = status ?? {};
  return currentHealthy >= desiredHealthy && desiredHealthy > 0;
}

function checkAllowance(definition: ResourceDefinition, { metadata, status }: Budget): void {
  const { name, generation = 0 } = metadata;
  if (!status || (status.observedGeneration ?? 0) < generation)
    throw refusal(`The disruption budget ${name} is still being processed by the server.`, UNPROCESSED_RETRY_SECONDS);
  if (Object.keys(status.disruptedPods ?? {}).length > MAX_DISRUPTED_PODS)
    throw forbidden(definition, name, 'DisruptedPods map too big - too many evictions not confirmed by PDB controller');
  if (status.disruptionsAllowed <= 0)
    throw refusal(
      `The disruption budget ${name} needs ${status.desiredHealthy} healthy pods and has ${status.currentHealthy} currently`,
    );
}

const refusal = (message: string, retryAfterSeconds?: number) =>
  new StatusError('TooManyRequests', "Cannot evict pod as it would violate the pod's disruption budget.", {
    causes: [{ reason: 'DisruptionBudget', message }],
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
  });

/** https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions */
function markDisrupted(object: ApiObject): void {
  const pod = object as Pod & ApiObject;
  const others = (pod.status?.conditions ?? []).filter(({ type }) => type !== 'DisruptionTarget');
  const condition: PodCondition = {
    type: 'DisruptionTarget',
    status: 'True',
    reason: 'EvictionByEvictionAPI',
    message: 'Eviction API: evicting',
    lastTransitionTime: timestamp(),
  };
  pod.status = { ...pod.status, conditions: [...others, condition] };
}
