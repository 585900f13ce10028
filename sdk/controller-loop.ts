/**
 * Drives one controller while it leads: changes become keys, and each key is observed, reconciled and its plan carried out, over and over until nothing differs. Made by `run.ts`, one for
 * each controller and each time it leads.
 */
import { setMaxListeners } from 'node:events';
import type { ApiObject, ObjectMetadata } from '../api-schemas/schema.ts';
import { MAX_CAUSES, type ObjectKey } from '../event-log/event-log.ts';
import {
  type CreateAction,
  createOrFind,
  carryOut,
  isOutcomeUnknown,
  NotLeadingError,
  SupersededError,
  type AnyAction,
} from './carry-out.ts';
import type { Client, WriteOptions } from './client.ts';
import {
  TerminalError,
  type ActionFailure,
  type ApplyContext,
  type Controller,
  type Observation,
  type Plan,
  type ResourceRef,
} from './controller.ts';
import type { EventRecorder } from './events.ts';
import { AWAY_BACK_OFF_MS, describeKey, failureOf, judge } from './judge.ts';
import { KeyClient } from './key-client.ts';
import { countReconcile, type ReconcileResult } from './metrics.ts';
import type { Change, LogWorld } from './log-world.ts';
import { isEphemeral } from './log-world.ts';
import type { Logger } from './logger.ts';
import { keyText } from './object-store.ts';
import { sameJson } from './same-json.ts';
import { FIRST_SEQUENCE, type Outcome, type Progress, type Work, WorkQueue } from './work-queue.ts';
import { EVERY_RESOURCE } from './world.ts';

/** A controller of any desired and observed type. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AnyController = Controller<any, any, any>;

export interface ControllerLoopOptions {
  readonly controller: AnyController;
  readonly world: LogWorld;
  readonly client: Client;
  readonly recorder: EventRecorder;
  readonly logger: Logger;
  /** The Lease that the controller leads by; absent where nobody leads. */
  readonly lease?: WriteOptions['lease'] | undefined;
  /** Asked right before each write. */
  readonly mayAct: () => boolean;
  /** How long a write may be under way; undefined without leader election. */
  readonly leaseLeftMs?: (() => number) | undefined;
  /** Ends everything at once, writes in flight included: the lead is lost. */
  readonly signal: AbortSignal;
}

/** What is remembered about a key between attempts; forgotten once it is all empty. */
interface KeyMemory {
  /** The newest sequence that this controller wrote for the key, per stream. */
  readonly written: Map<'main' | 'ephemeral', { readonly resource: ResourceRef; readonly sequence: number }>;
  unsettled: {
    readonly action: CreateAction;
    readonly uid: string | undefined;
    readonly generation: number | undefined;
  }[];
  lastFailure: ActionFailure | undefined;
}

const DEFAULT_CONCURRENCY = 4;
const WAIT_FOR_WORLD_MS = 5_000;
const STOP_GRACE_MS = 5_000;

export class ControllerLoop {
  readonly #options: ControllerLoopOptions;
  readonly #queue: WorkQueue;
  readonly #memories = new Map<string, KeyMemory>();
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;
  #unsubscribe: (() => void) | undefined;

  constructor(options: ControllerLoopOptions) {
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#abort.signal]);
    // Each request under way listens to it.
    setMaxListeners(0, this.#signal);
    this.#queue = new WorkQueue({
      name: options.controller.name,
      concurrency: options.controller.concurrency ?? DEFAULT_CONCURRENCY,
      work: (work) => this.#attempt(work),
    });
  }

  /** The World must be filled. Every key is looked at once, whatever has happened before. */
  start(): void {
    const { controller, world } = this.#options;
    this.#unsubscribe = world.onChanges((changes) => this.#onChanges(changes));
    for (const object of world.list(controller.resource)) this.#queue.addUnknown(world.keyOf(object));
    for (const watch of controller.watches) {
      for (const object of world.list(watch.resource))
        for (const key of this.#keysFor(watch, object, undefined)) this.#queue.addUnknown(key);
    }
  }

  /** Of what has come up to the World's position. */
  progress(): Progress {
    return this.#unsubscribe ? this.#queue.progress() : { owes: FIRST_SEQUENCE, failing: 0 };
  }

  /** One of the controller's own sources says that there may be work. */
  enqueue(key: ObjectKey): void {
    this.#queue.add(key);
  }

  /** Takes no more work, lets what runs end, and cuts it off if that takes long. */
  async stop(): Promise<void> {
    this.#unsubscribe?.();
    const timer = setTimeout(() => this.#abort.abort(), STOP_GRACE_MS);
    await this.#queue.stop();
    clearTimeout(timer);
  }

  #onChanges(changes: readonly Change[]): void {
    const { controller } = this.#options;
    for (const { key, object, previous, sequence } of changes) {
      // The two streams count on their own, and causes name the main log's sequences.
      const trigger = isEphemeral(key) ? undefined : sequence;
      if (concerns(controller.resource, key)) this.#queue.add(key, trigger);
      for (const watch of controller.watches) {
        if (concerns(watch.resource, key))
          for (const concerned of this.#keysFor(watch, object, previous)) this.#queue.add(concerned, trigger);
      }
    }
  }

  #keysFor(watch: AnyController['watches'][number], object: ApiObject, previous: ApiObject | undefined): ObjectKey[] {
    try {
      return [...watch.keysFor(object, previous, this.#options.world)];
    } catch (error) {
      this.#options.logger.error(
        { resource: watch.resource.resource, object: object.metadata.name, err: error },
        'keysFor failed',
      );
      return [];
    }
  }

  async #attempt(work: Work): Promise<Outcome> {
    const id = keyText(work.key);
    const memory = this.#memories.get(id) ?? { written: new Map(), unsettled: [], lastFailure: undefined };
    this.#memories.set(id, memory);
    let outcome: Outcome;
    let failure: unknown;
    const beganMs = performance.now();
    try {
      outcome = await this.#reconcileOnce(work, memory);
    } catch (error) {
      failure = error;
      outcome = this.#signal.aborted ? { kind: 'done' } : judge(error, work, { logger: this.#options.logger, memory });
    }
    if (!this.#signal.aborted)
      countReconcile(this.#options.controller.name, resultOf(outcome, failure), (performance.now() - beganMs) / 1000);
    for (const [stream, { resource, sequence }] of memory.written)
      if (this.#options.world.positionOf(resource) >= sequence) memory.written.delete(stream);
    if (memory.written.size === 0 && memory.unsettled.length === 0 && !memory.lastFailure) this.#memories.delete(id);
    return outcome;
  }

  async #reconcileOnce(work: Work, memory: KeyMemory): Promise<Outcome> {
    const { controller, world } = this.#options;
    const { key } = work;
    await this.#settle(work, memory);
    for (const { resource, sequence } of memory.written.values()) {
      if (await world.waitFor(resource, sequence, WAIT_FOR_WORLD_MS)) continue;
      this.#options.logger.warn(
        { key: describeKey(key), sequence },
        'the log has not yet brought what was written; waiting',
      );
      return { kind: 'failed', maxBackOffMs: AWAY_BACK_OFF_MS };
    }
    const seen = world.get(key, key.namespace, key.name)?.metadata;
    const observation: Observation<ApiObject, unknown> | undefined = await controller.observe(
      key,
      world,
      Date.now(),
      memory.lastFailure,
    );
    if (!observation) {
      memory.lastFailure = undefined;
      return { kind: 'done' };
    }
    const { desired } = observation;
    const plan: Plan<AnyAction> = controller.reconcile(desired, observation.observed);
    const causes = [...new Set([world.desiredSequence(desired), ...work.triggers])]
      .filter((sequence) => sequence > 0)
      .slice(0, MAX_CAUSES);
    const context = this.#contextFor({ key, seen, causes, memory });
    let failure: unknown;
    try {
      await this.#carryOut(plan, { context, memory, work, seen });
      memory.lastFailure = undefined;
    } catch (error) {
      if (error instanceof SupersededError || error instanceof NotLeadingError || this.#signal.aborted) throw error;
      failure = error;
    }
    await this.#writeStatus(plan, desired, context);
    if (failure !== undefined) throw failure;
    return { kind: 'done', requeueAfterMs: plan.requeueAfterMs };
  }

  #carryOut(
    plan: Plan<AnyAction>,
    attempt: { context: ApplyContext; memory: KeyMemory; work: Work; seen: ObjectMetadata | undefined },
  ): Promise<void> {
    const { controller, recorder, logger } = this.#options;
    const { context, memory, work, seen } = attempt;
    return carryOut(plan.actions, {
      context,
      logger: logger.child({ key: describeKey(work.key) }),
      mayBegin: () => this.#mayBegin(work.key, seen),
      record: (event) =>
        recorder.record(
          event,
          controller.eventSource ?? { component: `${controller.name}-controller` },
          context.causes,
        ),
      onFound: (resource, sequence) => this.#remember(memory, resource, sequence),
      onUnsettled: (action) => memory.unsettled.push({ action, uid: seen?.uid, generation: seen?.generation }),
      onFailed: (action, error) => (memory.lastFailure = failureOf(error, action)),
      apply: controller.apply?.bind(controller) as never,
      cautious: work.failures > 0,
    });
  }

  #contextFor(attempt: {
    key: ObjectKey;
    seen: ObjectMetadata | undefined;
    causes: readonly number[];
    memory: KeyMemory;
  }): ApplyContext {
    const { key, seen, causes, memory } = attempt;
    const client = new KeyClient({
      client: this.#options.client,
      causes,
      fieldManager: this.#options.controller.name,
      signal: this.#signal,
      onWritten: (resource, sequence) => this.#remember(memory, resource, sequence),
      mayWrite: () => this.#mayBegin(key, seen),
      writeTimeoutMs: () => this.#options.leaseLeftMs?.(),
      lease: this.#options.lease,
    });
    return { client, key, causes, signal: this.#signal };
  }

  /** Refuses once the object that the plan was made for is another one or wants something else. */
  #mayBegin(key: ObjectKey, seen: ObjectMetadata | undefined): void {
    const { world, mayAct } = this.#options;
    if (this.#signal.aborted || !mayAct()) throw new NotLeadingError('another replica may lead by now');
    const now = world.get(key, key.namespace, key.name)?.metadata;
    if (
      now?.uid !== seen?.uid ||
      now?.generation !== seen?.generation ||
      now?.deletionTimestamp !== seen?.deletionTimestamp
    ) {
      throw new SupersededError('the object has changed since it was observed');
    }
  }

  async #writeStatus(plan: Plan<AnyAction>, desired: ApiObject, context: ApplyContext): Promise<void> {
    if (!plan.status || sameJson(plan.status, desired['status'] ?? {})) return;
    await context.client.update(
      this.#options.controller.resource,
      { ...desired, status: plan.status },
      { subresource: 'status', because: 'what was observed differs from what the status said' },
    );
  }

  /** Finds out what became of creates whose answer was lost: repeats them where they are still wanted, and only looks where they are not. */
  async #settle(work: Work, memory: KeyMemory): Promise<void> {
    if (memory.unsettled.length === 0) return;
    const { world, client, controller } = this.#options;
    const present = world.get(work.key, work.key.namespace, work.key.name)?.metadata;
    for (const { action, uid, generation } of [...memory.unsettled]) {
      const { name, namespace } = action.object.metadata;
      try {
        if (present && present.uid === uid && present.generation === generation && !present.deletionTimestamp) {
          const context = this.#contextFor({ key: work.key, seen: present, causes: work.triggers, memory });
          await createOrFind(action, context.client, (resource, sequence) =>
            this.#remember(memory, resource, sequence),
          );
        } else {
          const found = await client.get({ resource: action.resource, name, ...(namespace && { namespace }) });
          this.#remember(memory, action.resource, Number(found.metadata.resourceVersion));
        }
      } catch (error) {
        if (isOutcomeUnknown(error) || error instanceof NotLeadingError || error instanceof SupersededError)
          throw error;
        this.#options.logger.debug(
          { controller: controller.name, name, err: error },
          'a create whose answer was lost does not stand',
        );
      }
      memory.unsettled = memory.unsettled.filter((other) => other.action !== action);
    }
  }

  #remember(memory: KeyMemory, resource: ResourceRef, sequence: number): void {
    if (!this.#options.world.follows(resource)) return;
    const stream = isEphemeral(resource) ? 'ephemeral' : 'main';
    if (sequence > (memory.written.get(stream)?.sequence ?? 0)) memory.written.set(stream, { resource, sequence });
  }
}

/** That the world moved on, or the lead is in doubt, is no error. */
function resultOf(outcome: Outcome, failure: unknown): ReconcileResult {
  if (failure instanceof TerminalError) return 'terminal';
  const isError = failure !== undefined && !(failure instanceof SupersededError || failure instanceof NotLeadingError);
  if (outcome.kind !== 'done') return isError ? 'error' : 'requeue';
  return outcome.requeueAfterMs === undefined ? 'success' : 'requeue_after';
}

const concerns = (resource: ResourceRef, key: ObjectKey): boolean =>
  resource === EVERY_RESOURCE || resource.resource === '*'
    ? !isEphemeral(key)
    : resource.resource === key.resource && resource.group === key.group;
