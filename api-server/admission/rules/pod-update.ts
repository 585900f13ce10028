/**
 * What of a pod may change once it exists: the images, a shorter deadline, more tolerations, metadata. Keyed to Pod by `catalogue.ts`.
 * Follows `ValidatePodUpdate`. https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement
 */
import { forbidden, invalid, type Fault } from '../fault.ts';
import { below, objectAt, objectsAt, sameJson, textAt, type JsonObject, type Rule } from './rule.ts';

export const MAY_CHANGE =
  'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';

export const podUpdate: Rule = ({ value, old, report }) => {
  if (!old) {
    if (objectsAt(objectAt(value['spec'])['ephemeralContainers']).length > 0)
      report(forbidden('spec.ephemeralContainers', 'cannot be set on create'));
    return;
  }
  const spec = objectAt(value['spec']);
  const before = objectAt(old['spec']);
  const faults: Fault[] = [];
  faults.push(...deadlineFaults(spec, before), ...tolerationFaults(spec, before));
  for (const field of ['containers', 'initContainers'] as const) {
    const now = objectsAt(spec[field]).length;
    const then = objectsAt(before[field]).length;
    if (now !== then) faults.push(forbidden(below('spec', field), 'pod updates may not add or remove containers'));
  }
  const masked = mask(spec, before);
  // Where a pod may run can still be narrowed while nobody looks for a place for it.
  if (objectsAt(before['schedulingGates']).length > 0) {
    faults.push(...placementFaults(spec, before));
    masked['nodeSelector'] = before['nodeSelector'];
    masked['affinity'] = { ...objectAt(masked['affinity']), nodeAffinity: nodeAffinityOf(before) };
    if (!before['affinity'] && sameJson(masked['affinity'], {})) delete masked['affinity'];
  }
  if (faults.length === 0 && !sameJson(masked, without(before))) {
    const changed = Object.keys({ ...masked, ...before }).filter(
      (field) => !sameJson(masked[field], without(before)[field]),
    );
    faults.push(forbidden('spec', `${MAY_CHANGE}: changed: ${changed.join(', ')}`));
  }
  report(...faults);
};

const nodeAffinityOf = (spec: JsonObject): unknown => objectAt(spec['affinity'])['nodeAffinity'];

const TERMS = 'spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms';

/** https://kubernetes.io/docs/concepts/scheduling-eviction/pod-scheduling-readiness/#mutable-pod-scheduling-directives */
function placementFaults(spec: JsonObject, before: JsonObject): Fault[] {
  const faults: Fault[] = [];
  const selector = objectAt(spec['nodeSelector']);
  if (Object.entries(objectAt(before['nodeSelector'])).some(([label, value]) => selector[label] !== value))
    faults.push(invalid('spec.nodeSelector', selector, 'only additions are allowed (no mutations or deletions)'));
  const termsOf = (each: JsonObject): readonly JsonObject[] =>
    objectsAt(
      objectAt(objectAt(nodeAffinityOf(each))['requiredDuringSchedulingIgnoredDuringExecution'])['nodeSelectorTerms'],
    );
  const terms = termsOf(spec);
  const standing = termsOf(before);
  if (standing.length === 0) return faults;
  if (terms.length !== standing.length)
    return [...faults, invalid(TERMS, terms, 'no additions/deletions to non-empty NodeSelectorTerms list are allowed')];
  for (const [index, term] of terms.entries()) {
    const kept = ['matchExpressions', 'matchFields'].every((field) =>
      objectsAt(standing[index]?.[field]).every((each, place) => sameJson(each, objectsAt(term[field])[place])),
    );
    if (!kept)
      faults.push(invalid(`${TERMS}[${index}]`, term, 'only additions are allowed (no mutations or deletions)'));
  }
  return faults;
}

/** The new spec with everything that may change put back, so that what still differs was not allowed to. */
function mask(spec: JsonObject, before: JsonObject): JsonObject {
  const masked = { ...spec };
  for (const field of ['containers', 'initContainers'] as const) {
    const then = objectsAt(before[field]);
    if (spec[field] !== undefined)
      masked[field] = objectsAt(spec[field]).map((each, index) => ({ ...each, image: then[index]?.['image'] }));
  }
  if (
    before['terminationGracePeriodSeconds'] !== undefined &&
    Number(before['terminationGracePeriodSeconds']) < 0 &&
    spec['terminationGracePeriodSeconds'] === 1
  ) {
    masked['terminationGracePeriodSeconds'] = before['terminationGracePeriodSeconds'];
  }
  // The binding subresource sets the node, once, and nothing else does: strategy/pods.ts. Scheduling gates may only be taken away.
  if (textAt(before['nodeName']) === '') delete masked['nodeName'];
  if (
    objectsAt(spec['schedulingGates']).every((gate) =>
      objectsAt(before['schedulingGates']).some((each) => each['name'] === gate['name']),
    )
  ) {
    masked['schedulingGates'] = before['schedulingGates'];
  }
  // They come by a subresource of their own, which judges them: strategy/ephemeral-containers.ts.
  masked['ephemeralContainers'] = before['ephemeralContainers'];
  return without(masked);
}

/** Fields that were judged on their own. */
function without(spec: JsonObject): JsonObject {
  const { activeDeadlineSeconds: _deadline, tolerations: _tolerations, ...rest } = spec;
  return rest;
}

function deadlineFaults(spec: JsonObject, before: JsonObject): Fault[] {
  const now = spec['activeDeadlineSeconds'];
  const then = before['activeDeadlineSeconds'];
  if (typeof then !== 'number') return [];
  if (typeof now !== 'number')
    return [invalid('spec.activeDeadlineSeconds', now, 'must not update from a positive integer to nil value')];
  return now > then ? [invalid('spec.activeDeadlineSeconds', now, `must be less than or equal to previous value`)] : [];
}

function tolerationFaults(spec: JsonObject, before: JsonObject): Fault[] {
  const now = objectsAt(spec['tolerations']);
  const kept = objectsAt(before['tolerations']).every((old) =>
    now.some((each) => sameJson({ ...each, tolerationSeconds: 0 }, { ...old, tolerationSeconds: 0 })),
  );
  return kept
    ? []
    : [forbidden('spec.tolerations', 'existing toleration can not be modified except its tolerationSeconds')];
}
