/**
 * Makes and starts one container of a pod, or its sandbox. May be cut off anywhere and done again: the name is the attempt's own, so a second try meets what the first left. Called by
 * the agent's operations.
 */
import { chmod, readFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Container as PodContainer } from '../../api-schemas/types/core-v1.ts';
import {
  RuntimeCallError,
  RuntimeUnavailableError,
  type Container,
  type ContainerSpec,
  type Mount,
} from '../../runtime/container-runtime.ts';
import { ensurePauseImage } from '../../runtime/pause-image.ts';
import { downwardFacts, wantedPod, type AgentContext } from './agent-context.ts';
import { WorkError, type Gate } from './attempts.ts';
import { containerSpec, resolverConfiguration, sandboxSpec, SecurityError, type SpecInput } from './container-spec.ts';
import * as labels from './labels.ts';
import type { Pod, RuntimeAction } from './observation.ts';
import { identityOf, needsSandbox, slotsOf, specOf, type Slot } from './pod-shape.ts';
import { UnresolvedReferenceError, type References } from './references.ts';
import { roleOf, attemptOf, type Role } from './labels.ts';
import { runs } from './slot-view.ts';
import { containerEnvironment } from './environment.ts';
import { containerMounts } from './volumes/mounts.ts';
import { VolumeError } from './volumes/prepare-volumes.ts';
import { volumeSource, type VolumeSource } from './volumes/volume-source.ts';

export type StartAction = Extract<RuntimeAction, { verb: 'start-container' }>;

const TERMINATION_PATH = '/dev/termination-log';

/** `gate` bounds how many containers the engine makes at once. */
export async function startContainer(
  context: AgentContext,
  gate: Gate,
  options: {
    action: StartAction;
    key: { namespace: string; name: string };
    causes: readonly number[];
    pulled?: boolean;
  },
): Promise<void> {
  const { action, key } = options;
  const pod = wantedPod(context, key, action.uid);
  if (pod === undefined) return;
  const slot = slotsOf(pod).find(({ name }) => name === action.container);
  if (slot === undefined && action.role !== 'sandbox') return;
  const spec = await translated(context, pod, () => specFor(context, pod, slot, options));
  const id = await gate.pass(async () => {
    // The pod may have been deleted while this waited.
    if (wantedPod(context, key, action.uid) === undefined) return undefined;
    if (slot !== undefined && options.pulled !== true) {
      context.record(
        pod,
        'Normal',
        'Pulled',
        `Container image "${slot.container.image ?? ''}" already present on machine`,
      );
    }
    if (specOf(pod).hostNetwork !== true) await context.network.ensure();
    if (action.attempt > 0) await endRemains(context, pod, action);
    const made = await create(context, pod, spec, slot?.container);
    if (context.signal.aborted) return made;
    try {
      await context.runtime.startContainer(made);
      if (slot !== undefined) context.record(pod, 'Normal', 'Started', `Started container ${slot.name}`);
    } catch (error) {
      await startFailed(context, pod, { id: made, error, name: action.container }).finally(() =>
        context.cache.refresh(made),
      );
    }
    return made;
  });
  // What it became is read when the next one is already being made.
  if (id !== undefined) await context.cache.refresh(id);
}

/** Errors of what the pod asks for, with the reasons that Kubernetes shows for them. */
async function translated<T>(context: AgentContext, pod: Pod, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof UnresolvedReferenceError || error instanceof SecurityError) {
      context.record(pod, 'Warning', 'Failed', `Error: ${error.message}`);
      throw new WorkError('CreateContainerConfigError', error.message, { cause: error });
    }
    if (error instanceof VolumeError) {
      context.record(pod, 'Warning', 'FailedMount', error.message);
      throw new WorkError('CreateContainerConfigError', error.message, { cause: error });
    }
    throw error;
  }
}

async function specFor(
  context: AgentContext,
  pod: Pod,
  slot: Slot | undefined,
  options: { action: StartAction; causes: readonly number[] },
): Promise<ContainerSpec> {
  const { action } = options;
  const container = slot?.container;
  const { addresses, folders, runtime } = context;
  const uid = action.uid;
  const hostNetwork = specOf(pod).hostNetwork === true;
  const address = hostNetwork ? undefined : addresses.allocate(uid);
  const sandbox = networkHolder(context, pod, action.role);
  const target = slot?.target;
  const processesOf =
    target === undefined ? undefined : runningIn(context, pod, (one) => one.labels[labels.CONTAINER_LABEL] === target);
  const facts = downwardFacts(context, pod);
  const references = await context.sources.of(pod);
  const mounts = runtime.kind === 'simulated' ? [] : await mountsFor(context, pod, container, { action, references });
  const image = container === undefined ? undefined : await context.cache.image(container.image ?? '');
  const input: SpecInput = {
    pod,
    facts,
    references,
    attempt: action.attempt,
    labels: labelsFor(context, pod, container, {
      ...options,
      ...(address === undefined ? {} : { address }),
      ...(sandbox === undefined ? {} : { sandbox }),
    }),
    network: context.network.name,
    ...(address === undefined ? {} : { address }),
    ...(sandbox === undefined ? {} : { sandboxId: sandbox }),
    ...(processesOf === undefined ? {} : { processesOf }),
    mounts,
    imageUser: image === undefined || image === 'absent' || image === 'unknown' ? '' : image.user,
  };
  if (container !== undefined) return containerSpec(container, input);
  await ensurePauseImage(runtime);
  await folders.ensure(identityOf(pod));
  return sandboxSpec(input);
}

/** What a container joins runs by the time that it is planned; if it has ended since, the next plan sees that. */
function runningIn(context: AgentContext, pod: Pod, isMeant: (container: Container) => boolean): string {
  const { namespace, name, uid } = identityOf(pod);
  const found = context.cache
    .of(namespace, name)
    .filter((one) => one.labels[labels.POD_UID_LABEL] === uid && runs(one) && isMeant(one));
  const newest = found.toSorted((a, b) => attemptOf(b) - attemptOf(a))[0];
  if (newest === undefined) throw new WorkError('CreateContainerError', 'the container that it joins has ended');
  return newest.id;
}

/** Whose network the container shares: the sandbox's, or what is added to a pod without one, that of the container that has it. */
function networkHolder(context: AgentContext, pod: Pod, role: Role): string | undefined {
  if (role === 'sandbox') return undefined;
  if (needsSandbox(pod)) return runningIn(context, pod, (one) => roleOf(one) === 'sandbox');
  if (role !== 'ephemeral' || specOf(pod).hostNetwork === true) return undefined;
  return runningIn(context, pod, (one) => roleOf(one) !== 'ephemeral');
}

function labelsFor(
  context: AgentContext,
  pod: Pod,
  container: PodContainer | undefined,
  options: { action: StartAction; causes: readonly number[]; address?: string; sandbox?: string },
): Record<string, string> {
  const { action } = options;
  const { namespace, name, uid } = identityOf(pod);
  return {
    [labels.INSTANCE_LABEL]: context.instance,
    [labels.NODE_LABEL]: context.nodeName,
    [labels.POD_UID_LABEL]: uid,
    [labels.POD_NAMESPACE_LABEL]: namespace,
    [labels.POD_NAME_LABEL]: name,
    [labels.CONTAINER_LABEL]: action.container,
    [labels.ROLE_LABEL]: action.role,
    [labels.ATTEMPT_LABEL]: String(action.attempt),
    [labels.RESTART_DELAY_LABEL]: String(action.restartDelayMs),
    [labels.CAUSE_LABEL]: options.causes.join(','),
    ...(container === undefined ? {} : { [labels.SPEC_HASH_LABEL]: labels.specHash(container) }),
    ...(options.address === undefined ? {} : { [labels.ADDRESS_LABEL]: options.address }),
    ...(options.sandbox === undefined ? {} : { [labels.SANDBOX_LABEL]: options.sandbox }),
  };
}

async function mountsFor(
  context: AgentContext,
  pod: Pod,
  container: PodContainer | undefined,
  options: { action: StartAction; references: References },
): Promise<Mount[]> {
  const { folders, runtime } = context;
  const { action, references } = options;
  const uid = action.uid;
  await folders.ensure(identityOf(pod));
  const nodeResolver = await readFile('/etc/resolv.conf', 'utf8').catch(() => '');
  const resolver = folders.resolverFile(uid);
  await writeFile(resolver, resolverConfiguration(pod, context.clusterDns, nodeResolver));
  const own: Mount[] = [{ kind: 'bind', source: resolver, target: '/etc/resolv.conf', readOnly: false }];
  if (container === undefined) return own;
  const termination = folders.terminationFile(uid, container.name, action.attempt);
  await mkdir(dirname(termination), { recursive: true });
  await writeFile(termination, '', { flag: 'a' });
  // For whichever user the container runs as; a mode given at the making is cut down by the agent's umask.
  await chmod(termination, 0o666);
  own.push({
    kind: 'bind',
    source: termination,
    target: container.terminationMessagePath ?? TERMINATION_PATH,
    readOnly: false,
  });

  const facts = downwardFacts(context, pod);
  const mounted = new Set((container.volumeMounts ?? []).map(({ name }) => name));
  const sources = new Map<string, VolumeSource>();
  for (const volume of specOf(pod).volumes ?? []) {
    if (!mounted.has(volume.name)) continue;
    const source = volumeSource(volume, facts, references);
    sources.set(volume.name, source);
    // Someone may have removed it since it was prepared; the engine would make it anew, and empty.
    if (source.kind === 'engine') await context.engineVolume(source);
  }
  const environment = containerEnvironment(container, facts, references);
  return [...own, ...(await containerMounts(container, { uid, folders, runtime, sources, environment }))];
}

/** What still runs of earlier attempts although the engine takes them for ended would be a second container in the slot. */
async function endRemains(context: AgentContext, pod: Pod, action: StartAction): Promise<void> {
  const { namespace, name, uid } = identityOf(pod);
  const earlier = context.cache
    .of(namespace, name)
    .filter(
      (found) =>
        found.labels[labels.POD_UID_LABEL] === uid &&
        found.labels[labels.CONTAINER_LABEL] === action.container &&
        attemptOf(found) < action.attempt &&
        !runs(found),
    )
    .map(({ id }) => id);
  const statuses = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  const recorded = statuses.find((status) => status.name === action.container)?.containerID?.replace('docker://', '');
  // The engine may have forgotten it altogether.
  const forgotten = recorded && context.cache.get(recorded) === undefined ? [recorded] : [];
  for (const id of new Set([...earlier, ...forgotten])) {
    if ((await context.runtime.killRemains(id)) === 0) continue;
    const message = `Processes of an earlier attempt at container ${action.container} still ran, although the engine took it for ended; they were killed`;
    context.record(pod, 'Warning', 'DuplicateContainer', message);
  }
}

async function create(
  context: AgentContext,
  pod: Pod,
  spec: ContainerSpec,
  container: PodContainer | undefined,
): Promise<string> {
  try {
    const id = await context.runtime.createContainer(spec);
    if (container !== undefined) context.record(pod, 'Normal', 'Created', `Created container: ${container.name}`);
    return id;
  } catch (error) {
    if (error instanceof RuntimeCallError && error.reason === 'conflict') {
      const standing = await context.runtime.inspectContainer(spec.name);
      const isOurs =
        standing?.labels[labels.POD_UID_LABEL] === pod.metadata.uid &&
        standing?.labels[labels.INSTANCE_LABEL] === context.instance;
      if (standing !== undefined && isOurs) return adopt(context, pod, standing);
    }
    if (error instanceof RuntimeUnavailableError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    context.record(pod, 'Warning', 'Failed', `Error: ${message}`);
    throw new WorkError('CreateContainerError', message, { cause: error });
  }
}

/** What an earlier try has made is taken over, with the address that it was made with if no other pod has that by now. */
async function adopt(context: AgentContext, pod: Pod, standing: Container): Promise<string> {
  if (standing.state === 'created' && standing.createdAtMs <= context.cache.brokeAtMs)
    await discard(context, pod, standing);
  const address = standing.labels[labels.ADDRESS_LABEL];
  if (address === undefined || context.addresses.claim(pod.metadata.uid ?? '', address)) return standing.id;
  await context.runtime.removeContainer(standing.id, { force: true });
  throw new WorkError('CreateContainerError', `the address ${address} of an earlier try belongs to another pod by now`);
}

/**
 * An engine that ends as it makes a container may leave half of it: a process, an end of its network. What never ran is thrown away, and another made, at an address of its own where nobody has been told of the
 * first.
 */
async function discard({ runtime, addresses }: AgentContext, pod: Pod, standing: Container): Promise<never> {
  await runtime.killRemains(standing.id);
  await runtime.removeContainer(standing.id, { force: true });
  const isHolder = standing.labels[labels.SANDBOX_LABEL] === undefined;
  if (isHolder && pod.status?.podIP === undefined) addresses.release(pod.metadata.uid ?? '');
  throw new WorkError('CreateContainerError', 'the engine ended as it made the container; another is made');
}

async function startFailed(
  context: AgentContext,
  pod: Pod,
  options: { id: string; error: unknown; name: string },
): Promise<void> {
  const { id, error } = options;
  if (error instanceof RuntimeUnavailableError) throw error;
  const message = error instanceof Error ? error.message : String(error);
  if (/address already in use/i.test(message) && !/bind|port/i.test(message)) {
    // A container that is not ours holds the address. The pod has told nobody of it yet, or has lost it: it gets another.
    context.logger.warn({ pod: pod.metadata.name, message }, 'the address of a pod is taken by someone else');
    context.addresses.banish(pod.metadata.uid ?? '');
    await context.runtime.removeContainer(id, { force: true });
    throw new WorkError('RunContainerError', message, { cause: error });
  }
  context.record(pod, 'Warning', 'Failed', `Error: failed to start container "${options.name}": ${message}`);
  const standing = await context.runtime.inspectContainer(id);
  // What the engine keeps of the failure counts as the container's end, and its back-off is that of a crash.
  if (standing?.state === 'created' && standing.error !== '') return;
  throw new WorkError('RunContainerError', message, { cause: error });
}
