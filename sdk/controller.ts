/**
 * What a controller is. A controller names the resource that it reconciles and the other resources that concern it; `observe` reads the present,
 * `reconcile` turns it into a plan without any I/O, and the plan's actions are carried out one by one. Built-in and custom controllers are written
 * against exactly this file; `run.ts` beside it drives them.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import type { ObjectKey } from '../event-log/event-log.ts';
import type { Client } from './client.ts';
import type { World } from './world.ts';

/** A resource by group, version and plural. */
export interface ResourceRef {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
}

/** Which keys of the controller's own resource an object of another resource concerns. `previous` is the object before the change, if it was known. */
export interface Watch {
  readonly resource: ResourceRef;
  keysFor(object: ApiObject, previous: ApiObject | undefined, world: World): Iterable<ObjectKey>;
}

/** An Event about what an action did, published once it has been done. */
export interface ActionEvent {
  readonly about: ApiObject;
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

/** Who says what an Event tells, as kubectl shows it under `From`. */
export interface EventSource {
  readonly component: string;
  /** The node, where it speaks for one. */
  readonly host?: string;
}

/** An action against the API. Every action says why, in a sentence that a person can read; it is logged and kept with the write. */
export type ApiAction =
  | {
      readonly verb: 'create';
      readonly resource: ResourceRef;
      readonly object: ApiObject;
      readonly because: string;
      readonly event?: ActionEvent;
    }
  | {
      readonly verb: 'update';
      readonly resource: ResourceRef;
      readonly object: ApiObject;
      readonly subresource?: string;
      readonly because: string;
      readonly event?: ActionEvent;
    }
  | {
      readonly verb: 'patch';
      readonly resource: ResourceRef;
      readonly namespace?: string;
      readonly name: string;
      readonly subresource?: string;
      /** A JSON merge patch. Put `metadata.uid` or `metadata.resourceVersion` in it as a precondition. */
      readonly patch: Record<string, unknown>;
      readonly because: string;
      readonly event?: ActionEvent;
    }
  | {
      readonly verb: 'delete';
      readonly resource: ResourceRef;
      readonly namespace?: string;
      readonly name: string;
      /** The uid that must match: a namesake is never deleted by mistake. */
      readonly uid: string;
      /** The version that must match, where the decision hangs on something that may change. */
      readonly resourceVersion?: string;
      readonly gracePeriodSeconds?: number;
      readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
      readonly because: string;
      readonly event?: ActionEvent;
    }
  /** A subresource that takes a body of its own, such as `pods/binding`. */
  | {
      readonly verb: 'post';
      readonly resource: ResourceRef;
      readonly namespace?: string;
      readonly name: string;
      readonly subresource: string;
      readonly body: Record<string, unknown>;
      readonly because: string;
    }
  /** Published in the background, counted where it repeats itself; never holds the plan up. */
  | ({ readonly verb: 'event'; readonly because: string } & ActionEvent);

/** Why the last plan for this key was not carried out to its end. Kept in memory only. */
export interface ActionFailure {
  readonly verb: string;
  readonly resource?: ResourceRef;
  /** The reason of the API server's Status, or the error's name. */
  readonly reason: string;
  readonly message: string;
}

/**
 * What `reconcile` returns: data only, so it can be tested as a table, logged, explained and replayed. Actions are carried out first, in order (creates, and deletes, that stand next to each
 * other go in parallel); then the status is written, which tells what was observed. Whatever happens, the key is observed again afterwards, never an old plan resumed.
 */
export interface Plan<Action> {
  readonly actions: readonly Action[];
  /** The whole new `status` of the reconciled object; written (to the status subresource) only when it differs from what stands. */
  readonly status?: Record<string, unknown>;
  /** Reconcile again after this long, though nothing changed. Waiting is not an error. */
  readonly requeueAfterMs?: number;
}

/** What `observe` found. `now` is data: milliseconds since the epoch. */
export interface Observation<Desired, Observed> {
  readonly desired: Desired;
  readonly observed: Observed;
}

export interface Controller<
  Desired extends ApiObject = ApiObject,
  Observed = unknown,
  Action extends { readonly because: string } = ApiAction,
> {
  /** The plural of the resource, and the name of the folder, process and Lease: `deployments`. */
  readonly name: string;
  readonly resource: ResourceRef;
  readonly watches: readonly Watch[];
  /** One replica leads (default), or every process reconciles its own share (`node`, for agents). */
  readonly scope?: 'leader' | 'node';
  /** Default: the component `<name>-controller`. */
  readonly eventSource?: EventSource;
  /** How many keys are reconciled at once. Default 4. */
  readonly concurrency?: number;
  /**
   * Reads the present; undefined when the object is gone and nothing is left to do. Read from `world` (the log, as far as it has been followed, this controller's own writes for the key
   * always included) and from the controller's own sources. `lastFailure` is there when the plan before this one failed.
   */
  observe(
    key: ObjectKey,
    world: World,
    nowMs: number,
    lastFailure?: ActionFailure,
  ): Promise<Observation<Desired, Observed> | undefined> | Observation<Desired, Observed> | undefined;
  /** Pure and synchronous: no clock, no randomness, no I/O. */
  reconcile(desired: Desired, observed: Observed): Plan<Action>;
  /** Only for actions that are not API actions. Idempotent. A thrown error is retried with back-off; a TerminalError is not. */
  apply?(action: Exclude<Action, ApiAction>, context: ApplyContext): Promise<void>;
  /** Called when `world` has caught up and this replica begins to lead (for scope `node`: once), before the first key is observed: starts the controller's own sources (a container engine, a device). Rejecting ends the process. */
  start?(context: StartContext): Promise<void>;
}

export interface StartContext {
  readonly client: Client;
  readonly world: World;
  /** Has a key observed again because one of the controller's own sources says so. */
  enqueue(key: ObjectKey): void;
  /** Aborted when the process stops. */
  readonly signal: AbortSignal;
}

export interface ApplyContext {
  readonly client: Client;
  readonly key: ObjectKey;
  /** Sequences that led to the plan: pass them on as causes. */
  readonly causes: readonly number[];
  readonly signal: AbortSignal;
}

/** An error that trying again cannot mend; it is logged and the key rests until it changes. */
export class TerminalError extends Error {
  override readonly name = 'TerminalError';
}
