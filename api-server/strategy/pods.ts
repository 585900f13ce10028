/** A pod starts Pending, of a quality-of-service class that its resources decide, and is given time to end. */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Container, Pod, Toleration } from '../../api-schemas/types/core-v1.ts';
import { MAY_CHANGE } from '../admission/rules/pod-update.ts';
import type { Call } from '../call.ts';
import { invalid } from '../errors.ts';
import { checkPodLimits, setLimitDefaults } from '../policy/limit-ranges.ts';
import { setPriority } from '../policy/priority.ts';
import { admitRuntimeClass } from '../policy/runtime-class.ts';
import { admitServiceAccount } from '../policy/service-accounts.ts';
import { guardEphemeralContainers } from './ephemeral-containers.ts';
import type { Kind } from './kinds.ts';

const DEFAULT_GRACE_SECONDS = 30;
const TOLERATION_SECONDS = 300;
const TOLERATED = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

/** https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/ */
export function qosClass(containers: readonly Container[]): 'Guaranteed' | 'Burstable' | 'BestEffort' {
  const resources = ['cpu', 'memory'] as const;
  const isZero = (quantity: unknown) => quantity === undefined || /^0+(\.0*)?[a-zA-Z]*$/.test(String(quantity));
  const has = (list: Record<string, unknown> | undefined) => resources.some((name) => !isZero(list?.[name]));
  if (!containers.some((container) => has(container.resources?.requests) || has(container.resources?.limits)))
    return 'BestEffort';
  const guaranteed = containers.every((container) =>
    resources.every((name) => {
      const limit = container.resources?.limits?.[name];
      const request = container.resources?.requests?.[name] ?? limit;
      return !isZero(limit) && String(limit) === String(request);
    }),
  );
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

/** A pod stays for a while on a node that is not ready or not reachable. */
function withNodeTolerations(tolerations: readonly Toleration[] = []): Toleration[] {
  const tolerates = (key: string) =>
    tolerations.some(
      (toleration) =>
        (toleration.key === key || (!toleration.key && toleration.operator === 'Exists')) &&
        (!toleration.effect || toleration.effect === 'NoExecute'),
    );
  const missing = TOLERATED.filter((key) => !tolerates(key));
  return [
    ...tolerations,
    ...missing.map((key) => ({
      key,
      operator: 'Exists' as const,
      effect: 'NoExecute' as const,
      tolerationSeconds: TOLERATION_SECONDS,
    })),
  ];
}

/** To place a pod is a right of its own, that to change it is another: only the subresource `binding` names the node. Throws Invalid. */
function guardNode(object: ApiObject, old: ApiObject, call: Call): void {
  if (call.target.subresource === 'binding') return;
  const nodeOf = (each: ApiObject): string => (each as Pod & ApiObject).spec?.nodeName ?? '';
  if (nodeOf(object) === nodeOf(old)) return;
  const message = `Forbidden: ${MAY_CHANGE}: changed: nodeName`;
  throw invalid(call.definition, call.target.name, [{ reason: 'FieldValueForbidden', message, field: 'spec' }]);
}

export const pods: Kind = {
  async prepareCreate(object, call) {
    const pod = object as Pod & typeof object;
    const { spec } = pod;
    if (!spec) return;
    setLimitDefaults(pod, call);
    await admitServiceAccount(pod, call);
    spec.tolerations = withNodeTolerations(spec.tolerations);
    setPriority(pod, call);
    admitRuntimeClass(pod, call);
    pod.status = { phase: 'Pending', qosClass: qosClass([...(spec.initContainers ?? []), ...(spec.containers ?? [])]) };
  },
  prepareUpdate(object, old, call) {
    guardEphemeralContainers(object, old, call);
    guardNode(object, old, call);
    const { status } = object as Pod & typeof object;
    const { qosClass: standing } = (old as Pod & typeof old).status ?? {};
    if (status && standing) status.qosClass ??= standing;
  },
  admit(object, old, call) {
    if (!old) checkPodLimits(object as Pod & typeof object, call);
  },
  /** A pod that no node has, or that has ended, has nothing to wind down. */
  gracePeriodSeconds(object, requested) {
    const { spec, status } = object as Pod & typeof object;
    if (!spec?.nodeName || status?.phase === 'Succeeded' || status?.phase === 'Failed') return 0;
    return requested ?? spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS;
  },
};
