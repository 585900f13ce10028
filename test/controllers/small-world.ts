/**
 * An API server and a World in memory, stepped by hand: what a controller writes stands at once, is seen by everybody only once it is delivered, and any step may be the last before the
 * controller dies. Built-in controllers run on it as they are. For the properties of the small controllers.
 */
import { ApiError, ApiUnreachableError, type ApiAction, type ApiObject, type Client } from '../../sdk/index.ts';
import type { Controller, ObjectKey, ResourceRef, World } from '../../sdk/index.ts';
import { keyText, ObjectStore } from '../../sdk/object-store.ts';
import { sameJson } from '../../sdk/same-json.ts';
import { EVERY_RESOURCE, type ListOptions } from '../../sdk/world.ts';
import { mergePatch } from './deployments/simulated-rollout.ts';

// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyController = Controller<any, any, any>;
type Change = { key: ObjectKey; object: ApiObject; isGone: boolean; sequence: number };

const fault = (code: number, reason: string, message: string) => new ApiError({ code, reason, message });

/** The controller was killed. */
export class Killed extends Error {}

export class SmallWorld implements World {
  nowMs = Date.UTC(2030, 0, 1);
  sequence = 0;
  position = 0;
  /** Every action that was carried out, as `verb resource name`. */
  readonly log: string[] = [];
  /** Called before each write; throwing refuses it. */
  beforeWrite: () => void = () => undefined;
  /** Called after each write that stands. */
  afterWrite: () => void = () => undefined;
  /** What a controller's own actions are given. */
  client = {} as Client;
  readonly #truth = new Map<string, { key: ObjectKey; object: ApiObject }>();
  readonly #view = new ObjectStore();
  #undelivered: Change[] = [];
  readonly #plurals = new Map<string, ResourceRef>();
  readonly #drivers: Driver[] = [];
  #uids = 0;

  constructor(resources: Readonly<Record<string, ResourceRef>>) {
    for (const [kind, resource] of Object.entries(resources)) this.#plurals.set(kind, resource);
  }

  // --- what a controller sees

  get<T extends ApiObject>(resource: Pick<ResourceRef, 'group' | 'resource'>, namespace: string, name: string) {
    const { group, resource: plural } = resource;
    return this.#view.get({ group, resource: plural, namespace, name })?.object as T | undefined;
  }

  list<T extends ApiObject>(
    resource: Pick<ResourceRef, 'group' | 'resource'>,
    options: ListOptions = {},
  ): readonly T[] {
    const wanted = resource.resource === EVERY_RESOURCE.resource ? undefined : resource;
    return [...this.#view.select(wanted, options)].map(({ object }) => object as T);
  }

  byUid<T extends ApiObject>(uid: string): T | undefined {
    return this.#view.byUid(uid)?.object as T | undefined;
  }

  keyOf(object: ApiObject): ObjectKey {
    const resource = this.#plurals.get(object.kind);
    if (!resource) throw new Error(`the test does not know the kind ${object.kind}`);
    const { namespace = '', name } = object.metadata;
    return { group: resource.group, resource: resource.resource, namespace, name };
  }

  desiredSequence = (object: ApiObject): number => Number(object.metadata.resourceVersion);

  // --- what the test does

  /** As everything stands on the server, seen or not. */
  all<T extends ApiObject>(kind: string): T[] {
    return [...this.#truth.values()].filter(({ object }) => object.kind === kind).map(({ object }) => object as T);
  }

  standing<T extends ApiObject>(object: ApiObject): T | undefined {
    return this.#truth.get(keyText(this.keyOf(object)))?.object as T | undefined;
  }

  run(...controllers: AnyController[]): Driver[] {
    const drivers = controllers.map((controller) => new Driver(this, controller));
    this.#drivers.push(...drivers);
    for (const driver of drivers) {
      driver.start();
      driver.restart();
    }
    return drivers;
  }

  /** Lets everybody see the next changes, up to this sequence. */
  deliver(upTo = Infinity): void {
    while ((this.#undelivered[0]?.sequence ?? Infinity) <= upTo) {
      const change = this.#undelivered.shift();
      if (!change) return;
      const { key, object, isGone, sequence } = change;
      const previous = this.#view.get(key)?.object;
      if (isGone) this.#view.remove(key);
      else this.#view.put({ key, object, sequence, desiredSequence: sequence });
      this.position = sequence;
      for (const driver of this.#drivers) driver.onChange(key, object, previous);
    }
  }

  /** Until nobody has anything to do; fails when that does not end. */
  async settle(options: { pick?: (count: number) => number; maxSteps?: number } = {}): Promise<number> {
    const { pick = () => 0, maxSteps = 5_000 } = options;
    for (let steps = 0; steps < maxSteps; steps++) {
      const busy = this.#drivers.filter((driver) => driver.isBusy);
      if (busy.length === 0 && this.#undelivered.length === 0) return steps;
      const next = this.#undelivered[0]?.sequence;
      if (next !== undefined && (busy.length === 0 || pick(3) === 0)) this.deliver(next);
      else await busy[pick(busy.length)]?.step(pick);
    }
    throw new Error(`it does not converge; the last actions: ${this.log.slice(-20).join(', ')}`);
  }

  create<T extends ApiObject>(object: T): T {
    const key = this.keyOf(object);
    if (this.#truth.has(keyText(key)))
      throw fault(409, 'AlreadyExists', `${key.resource} "${key.name}" already exists`);
    const metadata = { ...object.metadata, uid: object.metadata.uid ?? `uid-${++this.#uids}` };
    return this.#write(key, { ...object, metadata });
  }

  /** The whole object, whatever stands. */
  edit<T extends ApiObject>(object: T, change: (object: T) => void): T {
    const standing = structuredClone(this.standing<T>(object));
    if (!standing) throw fault(404, 'NotFound', `${object.kind} ${object.metadata.name} not found`);
    change(standing);
    const { deletionTimestamp, finalizers = [] } = standing.metadata;
    if (deletionTimestamp && finalizers.length === 0) this.#remove(this.keyOf(object));
    else return this.#write(this.keyOf(object), standing);
    return standing;
  }

  delete(
    object: ApiObject,
    options: { uid?: string; resourceVersion?: string; propagationPolicy?: string } = {},
  ): void {
    const standing = this.#require(this.keyOf(object), options);
    const finalizers = new Set(standing.metadata.finalizers);
    if (options.propagationPolicy === 'Foreground') finalizers.add('foregroundDeletion');
    if (options.propagationPolicy === 'Orphan') finalizers.add('orphan');
    const holders = [...finalizers, ...((standing['spec'] as { finalizers?: string[] })?.finalizers ?? [])];
    if (standing.metadata.deletionTimestamp && sameJson([...finalizers], standing.metadata.finalizers ?? [])) return;
    const metadata = {
      ...standing.metadata,
      deletionTimestamp: standing.metadata.deletionTimestamp ?? new Date(this.nowMs).toISOString(),
      finalizers: [...finalizers],
    };
    if (holders.length === 0) this.#remove(this.keyOf(object));
    else this.#write(this.keyOf(object), { ...standing, metadata });
  }

  // --- what a controller does

  carryOut(action: ApiAction): number {
    if (action.verb === 'event') return 0;
    this.beforeWrite();
    const before = this.sequence;
    const { resource } = action;
    const of = ({ namespace = '', name }: { namespace?: string; name: string }): ObjectKey => ({
      group: resource.group,
      resource: resource.resource,
      namespace,
      name,
    });
    switch (action.verb) {
      case 'create':
        this.create(structuredClone(action.object));
        break;
      case 'update':
        this.#put(of(action.object.metadata), structuredClone(action.object));
        break;
      case 'patch': {
        const standing = this.#require(of(action), (action.patch['metadata'] as { uid?: string }) ?? {});
        const patched = mergePatch(standing, structuredClone(action.patch)) as ApiObject;
        patched.metadata.resourceVersion = standing.metadata.resourceVersion ?? '';
        this.#put(of(action), patched);
        break;
      }
      case 'delete':
        this.delete(this.#require(of(action), action), action);
        break;
      case 'post':
        throw new Error('the test knows no subresource');
      default:
        action satisfies never;
    }
    const name = action.verb === 'create' || action.verb === 'update' ? action.object.metadata.name : action.name;
    this.log.push(`${action.verb} ${resource.resource} ${name}`);
    this.afterWrite();
    return this.sequence > before ? this.sequence : 0;
  }

  #require(key: ObjectKey, preconditions: { uid?: string; resourceVersion?: string }): ApiObject {
    const standing = this.#truth.get(keyText(key))?.object;
    if (!standing) throw fault(404, 'NotFound', `${key.resource} "${key.name}" not found`);
    const { uid, resourceVersion } = standing.metadata;
    if (preconditions.uid && preconditions.uid !== uid) throw fault(409, 'Conflict', 'UID in precondition');
    if (preconditions.resourceVersion && preconditions.resourceVersion !== resourceVersion)
      throw fault(409, 'Conflict', 'the object has been modified');
    return standing;
  }

  #put(key: ObjectKey, object: ApiObject): void {
    const standing = this.#require(key, object.metadata);
    if (sameJson(standing, object)) return;
    const { deletionTimestamp, finalizers = [] } = object.metadata;
    const holders = [...finalizers, ...((object['spec'] as { finalizers?: string[] })?.finalizers ?? [])];
    if (deletionTimestamp && holders.length === 0) this.#remove(key);
    else this.#write(key, object);
  }

  #write<T extends ApiObject>(key: ObjectKey, object: T): T {
    const written = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.sequence) } };
    this.#truth.set(keyText(key), { key, object: written });
    this.#undelivered.push({ key, object: written, isGone: false, sequence: this.sequence });
    return written;
  }

  #remove(key: ObjectKey): void {
    const standing = this.#truth.get(keyText(key));
    if (!standing) return;
    this.#truth.delete(keyText(key));
    this.#undelivered.push({ key, object: standing.object, isGone: true, sequence: ++this.sequence });
  }
}

/** One controller as the SDK's loop drives it: keys, read-your-writes, again after a failure. */
export class Driver {
  readonly #world: SmallWorld;
  readonly #controller: AnyController;
  readonly #queue = new Map<string, ObjectKey>();
  readonly #written = new Map<string, number>();
  /** Events that were published. */
  readonly events: string[] = [];

  constructor(world: SmallWorld, controller: AnyController) {
    this.#world = world;
    this.#controller = controller;
  }

  get isBusy(): boolean {
    return this.#queue.size > 0;
  }

  start(): void {
    const enqueue = (key: ObjectKey): void => this.add(key);
    const { client } = this.#world;
    void this.#controller.start?.({ client, world: this.#world, enqueue, signal: new AbortController().signal });
  }

  /** Looks at everything again, as after a restart. */
  restart(): void {
    this.#written.clear();
    for (const object of this.#world.list(this.#controller.resource)) this.add(this.#world.keyOf(object));
    for (const watch of this.#controller.watches)
      for (const object of this.#world.list(watch.resource))
        for (const key of watch.keysFor(object, undefined, this.#world)) this.add(key);
  }

  add(key: ObjectKey): void {
    this.#queue.set(keyText(key), key);
  }

  onChange(key: ObjectKey, object: ApiObject, previous: ApiObject | undefined): void {
    const concerns = ({ group, resource }: ResourceRef) =>
      resource === EVERY_RESOURCE.resource || (resource === key.resource && group === key.group);
    if (concerns(this.#controller.resource)) this.add(key);
    for (const watch of this.#controller.watches)
      if (concerns(watch.resource)) for (const other of watch.keysFor(object, previous, this.#world)) this.add(other);
  }

  async step(pick: (count: number) => number): Promise<void> {
    const keys = [...this.#queue.values()];
    const key = keys[pick(keys.length)];
    if (!key) return;
    this.#queue.delete(keyText(key));
    this.#world.deliver(this.#written.get(keyText(key)) ?? 0);
    try {
      await this.#reconcile(key);
    } catch (error) {
      if (error instanceof Killed) return this.restart();
      if (!(error instanceof ApiError || error instanceof ApiUnreachableError)) throw error;
      this.add(key);
    }
  }

  async #reconcile(key: ObjectKey): Promise<void> {
    const world = this.#world;
    const observation = await this.#controller.observe(key, world, world.nowMs);
    if (!observation) return;
    const plan = this.#controller.reconcile(observation.desired, observation.observed);
    const done = (sequence: number) => {
      if (sequence > 0) this.#written.set(keyText(key), sequence);
    };
    for (const action of plan.actions) {
      const event = action.verb === 'event' ? action : action.event;
      if ('resource' in action || action.verb === 'event') done(world.carryOut(action));
      else
        await this.#controller.apply?.(action, {
          client: world.client,
          key,
          causes: [],
          signal: new AbortController().signal,
        });
      if (event) this.events.push(`${event.reason} ${event.about.metadata.name}: ${event.message}`);
    }
    if (plan.status && !sameJson(plan.status, observation.desired['status'] ?? {})) {
      const object = { ...observation.desired, status: plan.status };
      done(world.carryOut({ verb: 'update', resource: this.#controller.resource, object, because: 'status' }));
    }
  }
}
