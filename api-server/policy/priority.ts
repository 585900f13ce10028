/**
 * How important a pod is: the number behind the name of its PriorityClass, or of the class that is the default; and that there is one default at most. Called by the strategies of pods and PriorityClasses.
 * https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import type { PriorityClass } from '../../api-schemas/types/scheduling-v1.ts';
import { invalid as invalidFault, forbidden as forbiddenFault } from '../admission/fault.ts';
import type { Call } from '../call.ts';
import { forbidden, invalid } from '../errors.ts';
import { decode } from '../store/entry.ts';

type Class = PriorityClass & ApiObject;

const DEFAULT_PREEMPTION = 'PreemptLowerPriority';
const SYSTEM_PREFIX = 'system-';
/** More important than anything that users may make; every cluster has them. */
const SYSTEM_CLASSES: Readonly<Record<string, { value: number; description: string }>> = {
  'system-cluster-critical': {
    value: 2_000_000_000,
    description:
      'Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.',
  },
  'system-node-critical': {
    value: 2_000_001_000,
    description: 'Used for system critical pods that must not be moved from their current node.',
  },
};
const MAX_USER_VALUE = 1_000_000_000;

export const systemClasses = (): ApiObject[] =>
  Object.entries(SYSTEM_CLASSES).map(([name, { value, description }]) => ({
    apiVersion: 'scheduling.k8s.io/v1',
    kind: 'PriorityClass',
    metadata: { name },
    value,
    description,
  }));

function classesOf({ services }: Pick<Call, 'services'>): Class[] {
  const definition = services.registry.byResource('scheduling.k8s.io', 'v1', 'priorityclasses');
  return definition
    ? services.store
        .cache(definition)
        .list()
        .map((entry) => decode(entry) as Class)
    : [];
}

/** Throws Forbidden where the class is not there, or the pod claims to be of another importance. */
export function setPriority(pod: Pod & ApiObject, call: Call): void {
  const { spec, metadata } = pod;
  if (!spec) return;
  const refuse = (why: string) => forbidden(call.definition, metadata.name || metadata.generateName || '', why);
  const classes = classesOf(call);
  const chosen = spec.priorityClassName
    ? classes.find((one) => one.metadata.name === spec.priorityClassName)
    : classes.filter(({ globalDefault }) => globalDefault).sort((a, b) => a.value - b.value)[0];
  if (spec.priorityClassName && !chosen) throw refuse(`no PriorityClass with name ${spec.priorityClassName} was found`);
  const priority = chosen?.value ?? 0;
  const preemptionPolicy = chosen?.preemptionPolicy ?? DEFAULT_PREEMPTION;
  if (spec.priority !== undefined && spec.priority !== priority)
    throw refuse(
      `the integer value of priority (${spec.priority}) must not be provided in pod spec; priority admission controller computed ${priority} from the given PriorityClass name`,
    );
  if (spec.preemptionPolicy !== undefined && spec.preemptionPolicy !== preemptionPolicy)
    throw refuse(
      `the string value of PreemptionPolicy (${spec.preemptionPolicy}) must not be provided in pod spec; priority admission controller computed ${preemptionPolicy} from the given PriorityClass name`,
    );
  if (chosen) spec.priorityClassName = chosen.metadata.name;
  spec.priority = priority;
  spec.preemptionPolicy = preemptionPolicy;
}

/** Throws Invalid and Forbidden. */
export function checkPriorityClass(object: Class, call: Call): void {
  const { name } = object.metadata;
  const faults = [];
  if (name.startsWith(SYSTEM_PREFIX)) {
    const known = SYSTEM_CLASSES[name];
    if (known?.value !== object.value)
      faults.push(
        invalidFault(
          'metadata.name',
          name,
          `priority class names with '${SYSTEM_PREFIX}' prefix are reserved for system use only. error: ${known ? `value of ${name} PriorityClass must be ${known.value}` : `${name} is not a known system priority class`}`,
        ),
      );
  } else if (object.value > MAX_USER_VALUE)
    faults.push(forbiddenFault('value', `maximum allowed value of a user defined priority is ${MAX_USER_VALUE}`));
  if (faults.length > 0) throw invalid(call.definition, name, faults);
  const other = object.globalDefault && classesOf(call).find((one) => one.globalDefault && one.metadata.name !== name);
  if (other)
    throw forbidden(
      call.definition,
      name,
      `PriorityClass ${other.metadata.name} is already marked as default. Only one default can exist`,
    );
}
