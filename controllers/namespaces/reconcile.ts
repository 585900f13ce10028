/**
 * Empties a namespace that is being deleted, says in its conditions what still stands in the way, and lets it go. Pure; called by the SDK's loop.
 * https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
 */
import type { Namespace, NamespaceCondition } from '../../api-schemas/types/core-v1.ts';
import {
  conditionOf,
  milliseconds,
  type ApiAction,
  type ApiObject,
  type ObjectKey,
  type Plan,
  type ResourceRef,
} from '../../sdk/index.ts';

export type NamespaceObject = Namespace & ApiObject;

export interface Content {
  readonly key: ObjectKey;
  readonly object: ApiObject;
  /** How the API is asked about it. */
  readonly resource: ResourceRef;
}

/** Removes what lives in the ephemeral stream, Events and Leases, which the World does not hold. */
export interface SweepAction {
  readonly verb: 'sweep';
  readonly namespace: string;
  readonly because: string;
}

export interface Observed {
  readonly contents: readonly Content[];
  /** RFC 3339, whole seconds. */
  readonly now: string;
}

export const NAMESPACES = { group: '', version: 'v1', resource: 'namespaces' };
const FINALIZER = 'kubernetes';
/** Deleted at a time; what is left follows as these go. */
const MAX_DELETES = 200;
/** An object that has not ended so long after its deletion stands in the way. */
const LATE_MS = 5_000;

const isLate = ({ metadata }: ApiObject, now: string): boolean =>
  (milliseconds(now) ?? 0) - (milliseconds(metadata.deletionTimestamp) ?? 0) >= LATE_MS;

export function reconcile(namespace: NamespaceObject, { contents, now }: Observed): Plan<ApiAction | SweepAction> {
  if (!namespace.metadata.deletionTimestamp) return { actions: [] };
  const finalizers = namespace.spec?.finalizers ?? [];
  if (!finalizers.includes(FINALIZER)) return { actions: [] };
  const { name } = namespace.metadata;
  const because = `namespace ${name} is being deleted`;
  if (contents.length > 0) {
    const untouched = contents.filter(({ object }) => !object.metadata.deletionTimestamp).slice(0, MAX_DELETES);
    if (untouched.length > 0) return { actions: untouched.map((content) => deletion(content, because)) };
    const late = contents.filter(({ object }) => isLate(object, now));
    // What ends by itself in a moment is not worth a word; each word would be a write for every object that goes.
    if (late.length === 0) return { actions: [], requeueAfterMs: LATE_MS };
    return {
      actions: [],
      status: { ...namespace.status, phase: 'Terminating', conditions: conditions(namespace, late, now) },
    };
  }
  const rest = finalizers.filter((finalizer) => finalizer !== FINALIZER);
  return {
    actions: [
      { verb: 'sweep', namespace: name, because },
      {
        verb: 'update',
        resource: NAMESPACES,
        subresource: 'finalize',
        object: { ...namespace, spec: { ...namespace.spec, finalizers: rest } },
        because: `nothing is left in namespace ${name}`,
      },
    ],
  };
}

function deletion({ key, object, resource }: Content, because: string): ApiAction {
  return {
    verb: 'delete',
    resource,
    namespace: key.namespace,
    name: key.name,
    uid: object.metadata.uid ?? '',
    propagationPolicy: 'Background',
    because,
  };
}

/** What remains, by resource, and which finalizers hold it. */
function conditions(namespace: NamespaceObject, contents: readonly Content[], now: string): NamespaceCondition[] {
  const resources = count(contents.map(({ key }) => (key.group ? `${key.resource}.${key.group}` : `${key.resource}.`)));
  const finalizers = count(contents.flatMap(({ object }) => object.metadata.finalizers ?? []));
  const remaining = `Some resources are remaining: ${list(resources, 'has', 'resource instances')}`;
  const held = `Some content in the namespace has finalizers remaining: ${list(finalizers, 'in', 'resource instances')}`;
  const told: [type: string, holds: boolean, reason: string, message: string][] = [
    ['NamespaceDeletionDiscoveryFailure', false, 'ResourcesDiscovered', 'All resources successfully discovered'],
    [
      'NamespaceDeletionGroupVersionParsingFailure',
      false,
      'ParsedGroupVersions',
      'All legacy kube types successfully parsed',
    ],
    [
      'NamespaceDeletionContentFailure',
      false,
      'ContentDeleted',
      'All content successfully deleted, may be waiting on finalization',
    ],
    ['NamespaceContentRemaining', true, 'SomeResourcesRemain', remaining],
    [
      'NamespaceFinalizersRemaining',
      finalizers.size > 0,
      finalizers.size > 0 ? 'SomeFinalizersRemain' : 'ContentHasNoFinalizers',
      finalizers.size > 0 ? held : 'All content-preserving finalizers finished',
    ],
  ];
  return told.map(([type, holds, reason, message]) => {
    const status = holds ? 'True' : 'False';
    const standing = conditionOf(namespace.status?.conditions, type);
    const lastTransitionTime = standing?.status === status ? (standing.lastTransitionTime ?? now) : now;
    return { type, status, reason, message, lastTransitionTime };
  });
}

function count(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return new Map([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
}

const list = (counts: ReadonlyMap<string, number>, verb: string, what: string): string =>
  [...counts].map(([name, number]) => `${name} ${verb} ${number} ${what}`).join(', ');
