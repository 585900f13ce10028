/**
 * The stage of the spine's tests: a whole instance with the images that they run, kubectl bound to a namespace, what the engine holds, and waiting for what a user would wait for. Used by the
 * files of this folder and by the long runs of test/prove.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { CommandResult } from '../../cli/set-up/command.ts';
import { ensureHelloImage } from '../../cli/start/hello-image.ts';
import { RuntimeUnavailableError, type Container } from '../../runtime/container-runtime.ts';
import { DockerRuntime } from '../../runtime/docker/docker-runtime.ts';
import { ApiError, ApiUnreachableError } from '../../sdk/client.ts';
import { HttpClient, readKubeconfig, type ResourceRef } from '../../sdk/index.ts';
import { docker } from '../harness/docker-cleaning.ts';
import { serverAddresses, uniqueName, type Teardown } from '../harness/servers.ts';
import {
  startReckon,
  type KubectlOptions,
  type RunningReckon,
  type StartReckonOptions,
} from '../harness/start-reckon.ts';

/** An object as the API gives it; tests reach into it freely. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Json = any;

export const IMAGE = 'reckon-hello:1';
/** The same under another name: a new version of a Deployment. */
export const NEXT_IMAGE = 'reckon-hello:2';

const apps = { group: 'apps', version: 'v1' };
const core = { group: '', version: 'v1' };
export const RESOURCES = {
  configmaps: { ...core, resource: 'configmaps' },
  deployments: { ...apps, resource: 'deployments' },
  endpoints: { ...core, resource: 'endpoints' },
  endpointslices: { group: 'discovery.k8s.io', version: 'v1', resource: 'endpointslices' },
  events: { ...core, resource: 'events' },
  namespaces: { ...core, resource: 'namespaces' },
  nodes: { ...core, resource: 'nodes' },
  persistentvolumeclaims: { ...core, resource: 'persistentvolumeclaims' },
  persistentvolumes: { ...core, resource: 'persistentvolumes' },
  pods: { ...core, resource: 'pods' },
  replicasets: { ...apps, resource: 'replicasets' },
  secrets: { ...core, resource: 'secrets' },
  services: { ...core, resource: 'services' },
} as const satisfies Record<string, ResourceRef>;
export type ResourceName = keyof typeof RESOURCES;

export interface UntilOptions {
  readonly timeoutMs?: number;
  readonly everyMs?: number;
}

const defaultUntilMs = 90_000;
const defaultPollMs = 150;

/** Asks again until the answer is neither undefined nor false; rejects with what was seen last. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  options: UntilOptions & { seen?: () => unknown } = {},
): Promise<T> {
  const { timeoutMs = defaultUntilMs, everyMs = defaultPollMs } = options;
  const untilMs = Date.now() + timeoutMs;
  for (;;) {
    const answer = await unlessAway(ask);
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > untilMs) {
      const seen = options.seen === undefined ? '' : `; last seen: ${JSON.stringify(options.seen(), undefined, 1)}`;
      throw new Error(`waited ${timeoutMs} ms for ${what}${seen}`);
    }
    await sleep(everyMs);
  }
}

/** An API server or an engine that is away, or says that it cannot now, has no answer yet. */
async function unlessAway<T>(ask: () => Promise<T> | T): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (
      error instanceof RuntimeUnavailableError ||
      error instanceof ApiUnreachableError ||
      (error instanceof ApiError && error.code >= 500)
    )
      return undefined;
    throw error;
  }
}

export class Stage {
  readonly reckon: RunningReckon;
  readonly client: HttpClient;
  readonly runtime: DockerRuntime;

  constructor(reckon: RunningReckon) {
    this.reckon = reckon;
    this.client = new HttpClient({ access: readKubeconfig(reckon.kubeconfig), userAgent: 'spine' });
    this.runtime = new DockerRuntime({ socketPath: new URL(reckon.dockerHost).pathname });
  }

  /** A namespace of its own, so that tests side by side do not see each other. */
  async space(name: string): Promise<Space> {
    const namespace = `${name}-${uniqueName().slice(1, 6)}`;
    await this.reckon.kubectl(`create namespace ${namespace}`);
    return new Space(this, namespace);
  }

  /** Every container of this instance, or of one namespace, stopped ones too; sandboxes left out. */
  async containers(namespace?: string): Promise<readonly Container[]> {
    const found = await this.runtime.listContainers({
      'reckon.dev/instance': this.reckon.instance.settings.clusterId,
      ...(namespace === undefined ? {} : { 'reckon.dev/pod-namespace': namespace }),
    });
    return found.filter((container) => container.labels['reckon.dev/role'] !== 'sandbox');
  }

  async volumes(): Promise<readonly string[]> {
    const found = await this.runtime.listVolumes({ 'reckon.dev/instance': this.reckon.instance.settings.clusterId });
    return found.map(({ name }) => name);
  }
}

/** One namespace of the stage. */
export class Space {
  readonly stage: Stage;
  readonly namespace: string;

  constructor(stage: Stage, namespace: string) {
    this.stage = stage;
    this.namespace = namespace;
  }

  /** Rejects with what kubectl said when it fails. */
  async kubectl(words: string | readonly string[], options?: KubectlOptions): Promise<string> {
    const { code, stdout, stderr } = await this.tryKubectl(words, options);
    if (code !== 0) throw new Error(`kubectl ${String(words)}: ${stderr}${stdout}`);
    return stdout;
  }

  tryKubectl(words: string | readonly string[], options?: KubectlOptions): Promise<CommandResult> {
    const given = typeof words === 'string' ? words.split(/\s+/).filter(Boolean) : words;
    // In front: what follows a `--` is not kubectl's.
    return this.stage.reckon.tryKubectl(['--namespace', this.namespace, ...given], options);
  }

  apply(...items: readonly object[]): Promise<string> {
    return this.kubectl('apply -f -', { input: { apiVersion: 'v1', kind: 'List', items } });
  }

  async get(resource: ResourceName, name: string): Promise<Json | undefined> {
    const namespaced = !['namespaces', 'nodes', 'persistentvolumes'].includes(resource);
    try {
      return await this.stage.client.get({
        resource: RESOURCES[resource],
        name,
        ...(namespaced ? { namespace: this.namespace } : {}),
      });
    } catch (error) {
      if (error instanceof ApiError && error.code === 404) return undefined;
      throw error;
    }
  }

  async list(resource: ResourceName, labelSelector?: string): Promise<Json[]> {
    const options = { namespace: this.namespace, ...(labelSelector === undefined ? {} : { labelSelector }) };
    return (await this.stage.client.list<ApiObject>(RESOURCES[resource], options)).items;
  }

  /** Resolves to the object once it is as wanted. */
  async until(
    resource: ResourceName,
    name: string,
    wanted: (object: Json) => boolean | undefined,
    options: UntilOptions = {},
  ): Promise<Json> {
    let seen: Json;
    const ask = async (): Promise<Json> => {
      seen = await this.get(resource, name);
      return seen !== undefined && wanted(seen) === true ? seen : undefined;
    };
    return until(`${resource} ${name} to be as wanted (${String(wanted)})`, ask, {
      ...options,
      seen: () => ({ spec: seen?.spec?.replicas, metadata: seen?.metadata?.finalizers, status: seen?.status }),
    });
  }

  untilGone(resource: ResourceName, name: string, options: UntilOptions = {}): Promise<true> {
    return until(`${resource} ${name} to be gone`, async () => (await this.get(resource, name)) === undefined, options);
  }

  untilReady(pod: string, options: UntilOptions = {}): Promise<Json> {
    return this.until('pods', pod, isReady, options);
  }

  /** Its rollout is complete: every replica is of the newest template and available, and no other is left. */
  untilRolledOut(deployment: string, options: UntilOptions = {}): Promise<Json> {
    return this.until('deployments', deployment, isRolledOut, options);
  }

  containers(): Promise<readonly Container[]> {
    return this.stage.containers(this.namespace);
  }

  /** The container of a pod that runs now. */
  async containerOf(pod: string, name = 'main'): Promise<Container> {
    const own = (await this.containers()).filter(
      ({ labels, state }) =>
        labels['reckon.dev/pod-name'] === pod && labels['reckon.dev/container'] === name && state === 'running',
    );
    if (own.length !== 1 || own[0] === undefined) throw new Error(`pod ${pod} has ${own.length} running containers`);
    return own[0];
  }

  /** What a command in the pod's container prints. */
  async exec(pod: string, script: string): Promise<string> {
    return this.kubectl(['exec', pod, '--', 'sh', '-c', script]);
  }

  async events(about: string): Promise<string[]> {
    const events = await this.list('events');
    return events
      .filter((event: Json) => event.involvedObject?.name === about || event.regarding?.name === about)
      .map((event: Json) => `${event.reason}: ${event.message ?? event.note}`);
  }

  waitingReason(pod: Json): string | undefined {
    return pod.status?.containerStatuses?.[0]?.state?.waiting?.reason;
  }
}

export function isReady(pod: Json): boolean {
  return condition(pod, 'Ready')?.status === 'True';
}

export function isRolledOut({ metadata, spec, status }: Json): boolean {
  return (
    status?.observedGeneration === metadata.generation &&
    (status.updatedReplicas ?? 0) === spec.replicas &&
    (status.availableReplicas ?? 0) === spec.replicas &&
    (status.replicas ?? 0) === spec.replicas
  );
}

export function condition(object: Json, type: string): Json | undefined {
  return object.status?.conditions?.find((one: Json) => one.type === type);
}

/** A whole instance, with its default service account there and its node ready. */
export async function startStage(t: Teardown, options: StartReckonOptions = {}): Promise<Stage> {
  const reckon = await startReckon(t, options);
  const stage = new Stage(reckon);
  t.teardown(() => stage.client.close());
  await makeImages(stage);
  await until('the node to be ready', async () => {
    const { items } = await stage.client.list<ApiObject>(RESOURCES.nodes);
    return items.length > 0 && items.every(isReady);
  });
  return stage;
}

async function makeImages(stage: Stage): Promise<void> {
  const { busybox } = await serverAddresses();
  await ensureHelloImage(stage.runtime, busybox);
  const [repository, tag] = NEXT_IMAGE.split(':');
  await docker(stage.reckon.dockerHost, 'POST', `/images/${IMAGE}/tag?repo=${repository}&tag=${tag}`);
}
