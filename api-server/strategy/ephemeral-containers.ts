/**
 * Containers that are added to a pod that is there, by its subresource `ephemeralcontainers` and by nothing else: they come and stay as they are. Called by `pods.ts` on every update.
 * https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/
 */
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import type { Call } from '../call.ts';
import { invalid, type Cause } from '../errors.ts';

type PodObject = Pod & ApiObject;

const listOf = ({ spec }: PodObject) => spec?.ephemeralContainers ?? [];
const forbidden = (field: string, message: string): Cause => ({
  reason: 'FieldValueForbidden',
  message: `Forbidden: ${message}`,
  field,
});

/** Lets the subresource change nothing else, and nothing else change them. Throws Invalid. */
export function guardEphemeralContainers(object: ApiObject, old: ApiObject, call: Call): void {
  const pod = object as PodObject;
  const before = listOf(old as PodObject);
  const faults: Cause[] = [];
  if (call.target.subresource === 'ephemeralcontainers') {
    const wanted = pod.spec?.ephemeralContainers;
    const { managedFields } = pod.metadata;
    Object.assign(pod, structuredClone(old));
    if (managedFields) pod.metadata.managedFields = managedFields;
    if (pod.spec && wanted) pod.spec.ephemeralContainers = wanted;
    else delete pod.spec?.ephemeralContainers;
    for (const standing of before) {
      const now = wanted?.find(({ name }) => name === standing.name);
      if (isDeepStrictEqual(now, standing)) continue;
      const what = now ? 'changed' : 'removed';
      faults.push(
        forbidden(
          'spec.ephemeralContainers',
          `existing ephemeral containers ${JSON.stringify(standing.name)} may not be ${what}\n`,
        ),
      );
    }
  } else if (!isDeepStrictEqual(listOf(pod), before)) {
    faults.push(
      forbidden('spec.ephemeralContainers', 'they can only be changed by the subresource ephemeralcontainers'),
    );
  }
  if (faults.length > 0) throw invalid(call.definition, call.target.name, faults);
}
