/**
 * Gives a CustomResourceDefinition its names and establishes it, upon which every API server serves its kind; and when it is deleted, deletes the kind's objects first. Pure; called by the SDK's loop.
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
 */
import type {
  CustomResourceDefinition,
  CustomResourceDefinitionCondition,
} from '../../api-schemas/types/apiextensions-v1.ts';
import {
  conditionHolds,
  CUSTOM_RESOURCE_DEFINITIONS,
  milliseconds,
  sameJson,
  type ApiAction,
  type ApiObject,
  type ObjectKey,
  type Plan,
  type ResourceRef,
} from '../../sdk/index.ts';
import { naming } from './names.ts';

export type Definition = CustomResourceDefinition & ApiObject;

export interface Content {
  readonly key: ObjectKey;
  readonly object: ApiObject;
  readonly resource: ResourceRef;
}

export interface Observed {
  /** Definitions of the same group that go before this one where names are given. */
  readonly others: readonly Definition[];
  /** The kind's objects; looked up only while it is being deleted. */
  readonly contents: readonly Content[];
  /** RFC 3339, whole seconds. */
  readonly now: string;
}

export const CLEANUP_FINALIZER = 'customresourcecleanup.apiextensions.k8s.io';
const PROTECTED_GROUP = /(^|\.)(k8s|kubernetes)\.io$/;
const APPROVAL = 'api-approved.kubernetes.io';
/** Deleted at a time; what is left follows as these go. */
const MAX_DELETES = 200;
/** An API server that has yet to hear that the kind is ending may still make an object of it: so long, and none does. */
const LAST_CREATES_MS = 1_000;

type Told = readonly [type: string, holds: boolean, reason: string, message: string];

export function reconcile(definition: Definition, observed: Observed): Plan<ApiAction> {
  return definition.metadata.deletionTimestamp === undefined
    ? { actions: [], status: established(definition, observed) }
    : terminating(definition, observed);
}

function established(definition: Definition, { others, now }: Observed): Record<string, unknown> {
  const { acceptedNames, conflict } = naming(definition, others);
  const told: Told[] = [
    conflict
      ? ['NamesAccepted', false, conflict.reason, conflict.message]
      : ['NamesAccepted', true, 'NoConflicts', 'no conflicts found'],
  ];
  // A kind that was served once stays so, whatever names it asks for later.
  if (!conditionHolds(definition.status?.conditions, 'Established'))
    told.push(
      conflict
        ? ['Established', false, 'NotAccepted', 'not all names are accepted']
        : ['Established', true, 'InitialNamesAccepted', 'the initial names have been accepted'],
    );
  const approval = definition.metadata.annotations?.[APPROVAL];
  if (PROTECTED_GROUP.test(definition.spec.group) && approval !== undefined)
    told.push(
      approval.startsWith('unapproved')
        ? [
            'KubernetesAPIApprovalPolicyConformant',
            false,
            'UnapprovedAnnotation',
            `not approved: ${JSON.stringify(approval)}`,
          ]
        : ['KubernetesAPIApprovalPolicyConformant', true, 'ApprovedAnnotation', `approved in ${approval}`],
    );
  return { ...definition.status, acceptedNames, conditions: conditions(definition, told, now) };
}

function terminating(definition: Definition, { contents, now }: Observed): Plan<ApiAction> {
  const { metadata, spec } = definition;
  const finalizers = metadata.finalizers ?? [];
  const { name } = metadata;
  if (!finalizers.includes(CLEANUP_FINALIZER)) return { actions: [] };
  const because = `CustomResourceDefinition ${name} is being deleted`;
  if (contents.length > 0) {
    const status = {
      ...definition.status,
      conditions: conditions(
        definition,
        [['Terminating', true, 'InstanceDeletionInProgress', 'CustomResource deletion is in progress']],
        now,
      ),
    };
    const untouched = contents.filter(({ object }) => object.metadata.deletionTimestamp === undefined);
    // What is left waits for whoever holds it by a finalizer.
    return { actions: untouched.slice(0, MAX_DELETES).map((content) => deletion(content, because)), status };
  }
  const waitMs = (milliseconds(metadata.deletionTimestamp) ?? 0) + 1_000 + LAST_CREATES_MS - (milliseconds(now) ?? 0);
  if (conditionHolds(definition.status?.conditions, 'Established') && waitMs > 0)
    return { actions: [], requeueAfterMs: waitMs };
  const rest = finalizers.filter((finalizer) => finalizer !== CLEANUP_FINALIZER);
  return {
    actions: [
      {
        verb: 'patch',
        resource: CUSTOM_RESOURCE_DEFINITIONS,
        name,
        patch: { metadata: { uid: metadata.uid, resourceVersion: metadata.resourceVersion, finalizers: rest } },
        because: `no object of kind ${spec.names.kind} is left`,
      },
    ],
  };
}

const deletion = ({ key, object, resource }: Content, because: string): ApiAction => ({
  verb: 'delete',
  resource,
  ...(key.namespace !== '' && { namespace: key.namespace }),
  name: key.name,
  uid: object.metadata.uid ?? '',
  propagationPolicy: 'Background',
  because,
});

/** The conditions that stand, with what is told now; the time of a condition is that of its last change. */
function conditions(
  { status }: CustomResourceDefinition,
  told: readonly Told[],
  now: string,
): CustomResourceDefinitionCondition[] {
  const standing = status?.conditions ?? [];
  const kept = standing.filter(({ type }) => !told.some(([other]) => other === type));
  const news = told.map(([type, holds, reason, message]): CustomResourceDefinitionCondition => {
    const condition = { type, status: holds ? 'True' : 'False', reason, message };
    const before = standing.find((each) => each.type === type);
    const lastTransitionTime = before?.status === condition.status ? (before.lastTransitionTime ?? now) : now;
    return { ...condition, lastTransitionTime };
  });
  const all = [...kept, ...news];
  // In the order that stands, so that saying the same again changes nothing.
  const order = (type: string): number => {
    const index = standing.findIndex((each) => each.type === type);
    return index === -1 ? standing.length : index;
  };
  const sorted = all.toSorted((a, b) => order(a.type) - order(b.type));
  return sameJson(sorted, standing) ? [...standing] : sorted;
}
