/**
 * One node for the agent's tests: the agent on a real or simulated engine, driven by the SDK's own loop, over an API kept in memory. The whole way through API server and log is
 * tested elsewhere; here the subject is the agent and its engine.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { ApiObject } from '../../../api-schemas/schema.ts';
import type { Pod, PodSpec } from '../../../api-schemas/types/core-v1.ts';
import { NodeAgent } from '../../../controllers/pods/agent.ts';
import { persistentVolumesController } from '../../../controllers/pods/persistent-volumes.ts';
import type { ObjectKey } from '../../../event-log/event-log.ts';
import type { ContainerRuntime } from '../../../runtime/container-runtime.ts';
import { ApiError, type Client, type Target } from '../../../sdk/client.ts';
import { type AnyController, ControllerLoop } from '../../../sdk/controller-loop.ts';
import type { ResourceRef } from '../../../sdk/controller.ts';
import { EventRecorder } from '../../../sdk/events.ts';
import type { Change, LogWorld } from '../../../sdk/log-world.ts';

export const NODE = 'node-a';

/** Objects by `<resource>/<namespace>/<name>`, with sequences, as the World shows and the client changes them. */
export class MemoryApi {
  readonly objects = new Map<string, ApiObject>();
  readonly events: { reason: string; message: string; about: string }[] = [];
  position = 0;
  readonly #listeners = new Set<(changes: readonly Change[]) => void>();

  put(resource: string, object: ApiObject, touch = true): ApiObject {
    const place = placeOf(resource, object.metadata.namespace ?? '', object.metadata.name);
    const previous = this.objects.get(place);
    const metadata = {
      ...object.metadata,
      uid: object.metadata.uid ?? randomUUID(),
      resourceVersion: String(++this.position),
      generation: (previous?.metadata.generation ?? 0) + (touch ? 1 : 0),
    };
    const stored = { ...object, metadata };
    this.objects.set(place, stored);
    this.#tell(resource, stored, previous, false);
    return stored;
  }

  remove(resource: string, namespace: string, name: string): void {
    const place = placeOf(resource, namespace, name);
    const object = this.objects.get(place);
    if (object === undefined) return;
    this.objects.delete(place);
    this.position++;
    this.#tell(resource, object, object, true);
  }

  get world(): LogWorld {
    const world = {
      get: (resource: ResourceRef, namespace: string, name: string) =>
        this.objects.get(placeOf(resource.resource, namespace, name)),
      list: (resource: ResourceRef, options: { namespace?: string } = {}) =>
        [...this.objects].flatMap(([place, object]) =>
          place.startsWith(`${resource.resource}/`) &&
          (options.namespace === undefined || object.metadata.namespace === options.namespace)
            ? [object]
            : [],
        ),
      keyOf: (object: ApiObject): ObjectKey => ({
        group: '',
        resource: 'pods',
        namespace: object.metadata.namespace ?? '',
        name: object.metadata.name,
      }),
      desiredSequence: (object: ApiObject) => Number(object.metadata.resourceVersion ?? 0),
      onChanges: (listener: (changes: readonly Change[]) => void) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
      waitFor: async () => true,
      positionOf: () => this.position,
      follows: () => true,
    };
    return world as unknown as LogWorld;
  }

  get client(): Client {
    const client = {
      get: async ({ resource, namespace = '', name }: Target) => {
        const object = this.objects.get(placeOf(resource.resource, namespace, name));
        if (object === undefined) throw new ApiError({ code: 404, reason: 'NotFound', message: `${name} not found` });
        return object;
      },
      create: async (resource: ResourceRef, object: ApiObject) => {
        if (resource.resource !== 'events') return this.put(resource.resource, object);
        const { reason, message, involvedObject } = object as unknown as {
          reason: string;
          message: string;
          involvedObject: { name: string };
        };
        this.events.push({ reason, message, about: involvedObject.name });
        return object;
      },
      update: async (resource: ResourceRef, object: ApiObject) => {
        const standing = this.objects.get(
          placeOf(resource.resource, object.metadata.namespace ?? '', object.metadata.name),
        );
        if (standing?.metadata.resourceVersion !== object.metadata.resourceVersion)
          throw new ApiError({ code: 409, reason: 'Conflict', message: 'the object has been modified' });
        return this.put(resource.resource, { ...standing, status: object['status'] } as ApiObject, false);
      },
      patch: async ({ resource, namespace = '', name }: Target, patch: { metadata?: object }) => {
        const standing = this.objects.get(placeOf(resource.resource, namespace, name));
        if (standing === undefined) return {} as ApiObject;
        return this.put(resource.resource, merged(standing, { metadata: patch.metadata ?? {} }) as ApiObject);
      },
      delete: async ({ resource, namespace = '', name }: Target, options: { uid?: string } = {}) => {
        const standing = this.objects.get(placeOf(resource.resource, namespace, name));
        if (standing === undefined) throw new ApiError({ code: 404, reason: 'NotFound', message: `${name} not found` });
        if (options.uid !== undefined && options.uid !== standing.metadata.uid)
          throw new ApiError({ code: 409, reason: 'Conflict', message: 'uid does not match' });
        this.remove(resource.resource, namespace, name);
      },
    };
    return client as unknown as Client;
  }

  #tell(resource: string, object: ApiObject, previous: ApiObject | undefined, deleted: boolean): void {
    const key: ObjectKey = {
      group: '',
      resource,
      namespace: object.metadata.namespace ?? '',
      name: object.metadata.name,
    };
    const change = {
      key,
      object,
      previous,
      deleted,
      sequence: this.position,
      desiredSequence: this.position,
    } as unknown as Change;
    for (const listener of this.#listeners) queueMicrotask(() => listener([change]));
  }
}

/** As a merge patch does. */
function merged(object: unknown, patch: object): unknown {
  const result: Record<string, unknown> = { ...(object as object) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = typeof value === 'object' && !Array.isArray(value) ? merged(result[key] ?? {}, value) : value;
  }
  return result;
}

function placeOf(resource: string, namespace: string, name: string): string {
  return `${resource}/${namespace}/${name}`;
}

export class OneNode {
  readonly api = new MemoryApi();
  readonly instance = `test-${randomBytes(4).toString('hex')}`;
  readonly home = mkdtempSync(join(tmpdir(), 'reckon-agent-'));
  readonly podCidr: string;
  readonly runtime: ContainerRuntime;
  readonly network: string;
  agent!: NodeAgent;
  #stop = new AbortController();
  #loops: ControllerLoop[] = [];

  constructor(runtime: ContainerRuntime) {
    this.runtime = runtime;
    const place = randomBytes(2);
    this.podCidr = `10.${200 + ((place[0] ?? 0) % 50)}.${(place[1] ?? 0) & 0xf0}.0/24`;
    this.network = `reckon-${this.instance}`;
  }

  /** Starts the agent, or another after `crash` or `stop`. */
  async start(): Promise<void> {
    this.#stop = new AbortController();
    const logger = pino({ level: process.env['TEST_LOG'] ?? 'silent' });
    this.agent = new NodeAgent({
      runtime: this.runtime,
      instance: this.instance,
      nodeName: NODE,
      hostAddresses: ['192.0.2.1'],
      home: this.home,
      network: this.network,
      podCidr: this.podCidr,
      allocatable: { cpu: '4', memory: '8Gi' },
      logger,
    });
    const { world, client } = this.api;
    const { runtime, agent } = this;
    const volumes = persistentVolumesController({ runtime, nodeName: NODE, news: agent.volumeNews });
    for (const controller of [agent.controller, volumes] as AnyController[]) {
      const loop = new ControllerLoop({
        controller,
        world,
        client,
        recorder: new EventRecorder(client, logger),
        logger,
        mayAct: () => true,
        signal: this.#stop.signal,
      });
      this.#loops.push(loop);
      await controller.start?.({ client, world, enqueue: (key) => loop.enqueue(key), signal: this.#stop.signal });
      loop.start();
    }
  }

  /** Ends the agent between any two steps of its work. */
  async crash(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#loops.splice(0).map((loop) => loop.stop()));
    await this.agent.idle();
  }

  async close(): Promise<void> {
    await this.crash();
    for (const { id } of await this.runtime.listContainers({ 'reckon.dev/instance': this.instance }))
      await this.runtime.removeContainer(id, { force: true });
    for (const { name } of await this.runtime.listVolumes({ 'reckon.dev/instance': this.instance }))
      await this.runtime.removeVolume(name);
    await this.runtime.removeNetwork(this.network);
    rmSync(this.home, { recursive: true, force: true });
  }

  run(
    name: string,
    spec: PodSpec,
    more: { labels?: Record<string, string>; annotations?: Record<string, string> } = {},
  ): Pod {
    return this.api.put('pods', {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'default', ...more },
      spec: { terminationGracePeriodSeconds: 5, restartPolicy: 'Always', ...spec, nodeName: NODE },
      status: { phase: 'Pending', qosClass: 'BestEffort' },
    }) as unknown as Pod;
  }

  /** As the API server marks a pod: the agent does the rest. */
  markDeleted(name: string, graceSeconds = 5): void {
    const pod = this.pod(name);
    if (pod === undefined) return;
    const deletionTimestamp = new Date(Date.now() + graceSeconds * 1000).toISOString();
    this.api.put('pods', {
      ...pod,
      metadata: { ...pod.metadata, deletionTimestamp, deletionGracePeriodSeconds: graceSeconds },
    } as unknown as ApiObject);
  }

  pod(name: string): Pod | undefined {
    return this.api.objects.get(`pods/default/${name}`) as unknown as Pod | undefined;
  }

  containersOf(
    name: string,
  ): Promise<readonly { id: string; state: string; name: string; labels: Readonly<Record<string, string>> }[]> {
    return this.runtime.listContainers({ 'reckon.dev/instance': this.instance, 'reckon.dev/pod-name': name });
  }

  async until<T>(
    what: string,
    read: () => T | undefined | false | Promise<T | undefined | false>,
    timeoutMs = 60_000,
  ): Promise<T> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const value = await read();
      if (value !== undefined && value !== false) return value;
      if (Date.now() > end) {
        const seen = [...this.api.objects.values()].map((object) => ({
          name: object.metadata.name,
          status: object['status'],
        }));
        throw new Error(`not in time: ${what}\n${JSON.stringify(seen, null, 1)}\n${JSON.stringify(this.api.events)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  ready(name: string, timeoutMs?: number): Promise<Pod> {
    return this.until(
      `${name} is ready`,
      () => {
        const pod = this.pod(name);
        return (
          pod?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true && pod
        );
      },
      timeoutMs,
    );
  }
}
