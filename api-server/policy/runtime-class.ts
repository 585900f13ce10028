/**
 * What a pod gets from its RuntimeClass: what its runtime takes for itself, and where it may run. Called by the strategy of pods. https://kubernetes.io/docs/concepts/containers/runtime-class/
 */
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import type { RuntimeClass } from '../../api-schemas/types/node-v1.ts';
import type { Call } from '../call.ts';
import { forbidden } from '../errors.ts';
import { decode, entryId } from '../store/entry.ts';

/** Throws Forbidden where the class is not there, or the pod says otherwise than it. */
export function admitRuntimeClass(pod: Pod & ApiObject, call: Call): void {
  const { spec, metadata } = pod;
  if (!spec) return;
  const refuse = (why: string) => forbidden(call.definition, metadata.name || metadata.generateName || '', why);
  if (!spec.runtimeClassName) {
    if (spec.overhead && Object.keys(spec.overhead).length > 0)
      throw refuse('pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead');
    return;
  }
  const found = classOf(spec.runtimeClassName, call);
  if (!found) throw refuse(`pod rejected: RuntimeClass "${spec.runtimeClassName}" not found`);
  const overhead = found.overhead?.podFixed;
  if (spec.overhead && Object.keys(spec.overhead).length > 0 && !isDeepStrictEqual(spec.overhead, overhead))
    throw refuse("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
  if (overhead) spec.overhead = overhead;
  const { nodeSelector = {}, tolerations = [] } = found.scheduling ?? {};
  for (const [key, value] of Object.entries(nodeSelector)) {
    const own = spec.nodeSelector?.[key];
    if (own !== undefined && own !== value)
      throw refuse(
        `pod rejected: conflict: runtimeClass.scheduling.nodeSelector[${key}] = ${value}; pod.spec.nodeSelector[${key}] = ${own}`,
      );
    spec.nodeSelector = { ...spec.nodeSelector, [key]: value };
  }
  const missing = tolerations.filter((one) => !spec.tolerations?.some((own) => isDeepStrictEqual(own, one)));
  if (missing.length > 0) spec.tolerations = [...(spec.tolerations ?? []), ...missing];
}

function classOf(name: string, { services }: Call): (RuntimeClass & ApiObject) | undefined {
  const definition = services.registry.byResource('node.k8s.io', 'v1', 'runtimeclasses');
  const entry = definition && services.store.cache(definition).get(entryId({ namespace: '', name }));
  return entry && (decode(entry) as RuntimeClass & ApiObject);
}
