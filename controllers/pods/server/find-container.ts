/** Which container of the engine is meant by a pod and a container name. Used by the agent's server. */
import type { Container } from '../../../runtime/container-runtime.ts';
import type { AgentContext } from '../agent-context.ts';
import { attemptOf, CONTAINER_LABEL, POD_UID_LABEL, roleOf } from '../labels.ts';
import { POD_RESOURCE, type Pod } from '../observation.ts';

/** A `Status` failure. */
export class ServerError extends Error {
  override readonly name = 'ServerError';
  readonly status: {
    readonly kind: 'Status';
    readonly apiVersion: 'v1';
    readonly metadata: object;
    readonly status: 'Failure';
    readonly message: string;
    readonly reason: string;
    readonly code: number;
  };
  constructor(code: number, reason: string, message: string) {
    super(message);
    this.status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
  }
}

const IMAGE_PROBLEMS: Readonly<Record<string, string>> = {
  ErrImagePull: "image can't be pulled",
  ImagePullBackOff: 'trying and failing to pull image',
};

/** The newest attempt, or the one before it. Throws what Kubernetes says when there is none. */
export function findContainer(
  context: AgentContext,
  wanted: { namespace: string; pod: string; uid?: string; container: string; previous?: boolean },
): Container {
  const { namespace, pod: name, container } = wanted;
  const pod = context.world.get<Pod>(POD_RESOURCE, namespace, name);
  const uid = wanted.uid ?? pod?.metadata.uid;
  if (pod === undefined || uid === undefined || pod.metadata.uid !== uid)
    throw new ServerError(404, 'NotFound', `pods "${name}" not found`);
  const attempts = context.cache
    .of(namespace, name)
    .filter(
      (found) =>
        found.labels[POD_UID_LABEL] === uid &&
        found.labels[CONTAINER_LABEL] === container &&
        roleOf(found) !== 'sandbox',
    )
    .toSorted((a, b) => attemptOf(b) - attemptOf(a));
  const begun = attempts.filter(({ state }) => state !== 'created');
  const found =
    wanted.previous === true
      ? attempts.filter(({ state }) => state === 'exited' || state === 'dead')[attempts[0]?.state === 'running' ? 0 : 1]
      : begun[0];
  if (found !== undefined) return found;
  if (wanted.previous === true)
    throw new ServerError(400, 'BadRequest', `previous terminated container "${container}" in pod "${name}" not found`);
  const { containerStatuses = [], initContainerStatuses = [], ephemeralContainerStatuses = [] } = pod.status ?? {};
  const statuses = [...containerStatuses, ...initContainerStatuses, ...ephemeralContainerStatuses];
  const reason = statuses.find((status) => status.name === container)?.state?.waiting?.reason ?? 'ContainerCreating';
  const why = IMAGE_PROBLEMS[reason] ?? reason;
  throw new ServerError(400, 'BadRequest', `container "${container}" in pod "${name}" is waiting to start: ${why}`);
}
