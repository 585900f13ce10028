/**
 * Carries out the actions of one plan against the API: in order, creates and deletes that stand next to each other in parallel, each only while the plan still stands. Called by
 * `controller-loop.ts`.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import { ApiError, ApiUnreachableError, type Client, type WriteOptions } from './client.ts';
import type { ActionEvent, ApiAction, ApplyContext, ResourceRef } from './controller.ts';
import type { Logger } from './logger.ts';

/** The object that the plan was made for has changed since: the rest of the plan is void. Not a failure. */
export class SupersededError extends Error {
  override readonly name = 'SupersededError';
}

/** Another replica leads, or may by now. */
export class NotLeadingError extends Error {
  override readonly name = 'NotLeadingError';
}

/** `routine`: part of the usual course, such as a probe; logged at debug level only. */
export type AnyAction = { readonly because: string; readonly verb?: string; readonly routine?: boolean };

export interface CarryOutOptions {
  /** Its client refuses writes that may not be made any more, and remembers those that were made. */
  readonly context: ApplyContext;
  readonly logger: Logger;
  /** Throws SupersededError or NotLeadingError where an action may not be begun any more. */
  readonly mayBegin: () => void;
  readonly record: (event: ActionEvent) => void;
  readonly onFound: (resource: ResourceRef, sequence: number) => void;
  /** A create whose outcome is not known. */
  readonly onUnsettled: (action: CreateAction) => void;
  readonly onFailed: (action: AnyAction, error: unknown) => void;
  /** How the controller carries out actions of its own. */
  readonly apply: ((action: never, context: ApplyContext) => Promise<void>) | undefined;
  /** After a failure the first action goes alone, then twice as many at a time, as Kubernetes starts slowly. */
  readonly cautious: boolean;
}

export type CreateAction = Extract<ApiAction, { verb: 'create' }>;

const PARALLEL = 16;
const API_VERBS: ReadonlySet<string> = new Set([
  'create',
  'update',
  'patch',
  'delete',
  'post',
  'event',
] satisfies ApiAction['verb'][]);

export const isApiAction = (action: AnyAction): action is ApiAction =>
  typeof action.verb === 'string' && API_VERBS.has(action.verb) && ('resource' in action || 'about' in action);

/** Rejects with the first error; what was begun has ended by then. */
export async function carryOut(actions: readonly AnyAction[], options: CarryOutOptions): Promise<void> {
  let width = options.cautious ? 1 : PARALLEL;
  for (let next = 0; next < actions.length;) {
    const together = actions.slice(next, next + sameKindFrom(actions, next, width));
    next += together.length;
    const results = await Promise.allSettled(together.map((action) => carryOutOne(action, options)));
    for (const [index, result] of results.entries()) {
      const action = together[index];
      if (result.status === 'fulfilled' || !action) continue;
      const error: unknown = result.reason;
      if (!(error instanceof SupersededError || error instanceof NotLeadingError)) options.onFailed(action, error);
      throw error;
    }
    width = Math.min(width * 2, PARALLEL);
  }
}

function sameKindFrom(actions: readonly AnyAction[], start: number, width: number): number {
  const verb = actions[start]?.verb;
  if (verb !== 'create' && verb !== 'delete') return 1;
  let count = 1;
  while (count < width && actions[start + count]?.verb === verb) count++;
  return count;
}

async function carryOutOne(action: AnyAction, options: CarryOutOptions): Promise<void> {
  options.mayBegin();
  const { context, logger } = options;
  const started = performance.now();
  if (isApiAction(action)) {
    await writeToApi(action, options);
    const event = action.verb === 'event' ? action : 'event' in action ? action.event : undefined;
    if (event) options.record(event);
  } else {
    if (!options.apply)
      throw new Error(
        `the plan holds an action '${action.verb ?? ''}' that is not of the API, and the controller has no apply`,
      );
    await options.apply(action as never, context);
  }
  const level = action.verb === 'event' || action.routine ? 'debug' : 'info';
  logger[level](
    {
      ...describe(action),
      because: action.because,
      causes: context.causes,
      tookMs: Math.round(performance.now() - started),
    },
    'action',
  );
}

function describe(action: AnyAction): Record<string, unknown> {
  if (!isApiAction(action)) return { verb: action.verb };
  if (action.verb === 'event') return { verb: 'event', reason: action.reason };
  const object = action.verb === 'create' || action.verb === 'update' ? action.object.metadata : action;
  return {
    verb: action.verb,
    resource: action.resource.resource,
    namespace: object.namespace,
    name: object.name,
    ...('subresource' in action && { subresource: action.subresource }),
  };
}

async function writeToApi(action: ApiAction, options: CarryOutOptions): Promise<void> {
  const { client } = options.context;
  const write: WriteOptions = { because: action.because };
  switch (action.verb) {
    case 'create':
      try {
        await createOrFind(action, client, options.onFound);
      } catch (error) {
        if (isOutcomeUnknown(error)) options.onUnsettled(action);
        throw error;
      }
      return;
    case 'update':
      await client.update(action.resource, action.object, {
        ...write,
        ...(action.subresource && { subresource: action.subresource }),
      });
      return;
    case 'patch': {
      const { resource, namespace, name, subresource } = action;
      await client.patch(
        { resource, name, ...(namespace && { namespace }), ...(subresource && { subresource }) },
        action.patch,
        write,
      );
      return;
    }
    case 'delete':
      await deleteOrMiss(action, client, write);
      return;
    case 'post': {
      const { resource, namespace, name, subresource } = action;
      await client.post({ resource, name, subresource, ...(namespace && { namespace }) }, action.body, write);
      return;
    }
    case 'event':
      return;
    default:
      action satisfies never;
  }
}

/** Whether a write may stand though it failed. */
export const isOutcomeUnknown = (error: unknown): boolean =>
  error instanceof ApiUnreachableError || (error instanceof ApiError && error.code >= 500);

/** A namesake with the same controller is what this create made when its answer was lost. */
export async function createOrFind(
  action: CreateAction,
  client: Client,
  onFound: CarryOutOptions['onFound'],
): Promise<void> {
  const { resource, object } = action;
  try {
    await client.create(resource, object, { because: action.because });
  } catch (error) {
    if (!(error instanceof ApiError && error.is('AlreadyExists'))) throw error;
    const { name, namespace } = object.metadata;
    const standing = await client.get({ resource, name, ...(namespace && { namespace }) });
    const owner = controllerUid(object);
    if (owner === undefined || controllerUid(standing) !== owner || standing.metadata.deletionTimestamp) throw error;
    onFound(resource, Number(standing.metadata.resourceVersion));
  }
}

async function deleteOrMiss(
  action: Extract<ApiAction, { verb: 'delete' }>,
  client: Client,
  write: WriteOptions,
): Promise<void> {
  const { resource, namespace, name, uid, resourceVersion, gracePeriodSeconds, propagationPolicy } = action;
  try {
    await client.delete(
      { resource, name, ...(namespace && { namespace }) },
      {
        ...write,
        uid,
        ...(resourceVersion && { resourceVersion }),
        ...(gracePeriodSeconds !== undefined && { gracePeriodSeconds }),
        ...(propagationPolicy && { propagationPolicy }),
      },
    );
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    // Gone already, or a namesake stands there, which is to stay.
    const isNamesake = error.is('Conflict') && error.message.includes('UID in precondition');
    if (!error.is('NotFound') && !isNamesake) throw error;
  }
}

const controllerUid = (object: ApiObject): string | undefined =>
  object.metadata.ownerReferences?.find((owner) => owner.controller)?.uid;
