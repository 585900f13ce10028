/**
 * Publishes Events (https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/, in the core/v1 form that kubectl describes): in the background, never holding a plan up;
 * the same thing said again about the same object counts up one Event instead of making another. One per process, fed by plans.
 */
import { createHash } from 'node:crypto';
import type { ApiObject } from '../api-schemas/schema.ts';
import { timestamp } from '../api-schemas/timestamps.ts';
import { ApiError, type Client } from './client.ts';
import type { ActionEvent, EventSource, ResourceRef } from './controller.ts';
import type { Logger } from './logger.ts';

export const EVENTS: ResourceRef = { group: '', version: 'v1', resource: 'events' };

const MAX_WAITING = 2000;
const MAX_REMEMBERED = 5000;
const IN_FLIGHT = 4;
const MAX_MESSAGE_LENGTH = 1024;

interface Waiting {
  readonly event: ActionEvent;
  readonly source: EventSource;
  readonly causes: readonly number[];
  readonly atMs: number;
}

export class EventRecorder {
  readonly #client: Client;
  readonly #logger: Logger;
  #waiting: Waiting[] = [];
  #inFlight = 0;
  /** Counts of what was published lately, by event name; the oldest is forgotten first. */
  readonly #counts = new Map<string, number>();
  #drained: (() => void)[] = [];

  constructor(client: Client, logger: Logger) {
    this.#client = client;
    this.#logger = logger;
  }

  record(event: ActionEvent, source: EventSource, causes: readonly number[]): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.#logger.warn(
        { reason: event.reason, about: event.about.metadata.name },
        'too many events are waiting; one is dropped',
      );
      return;
    }
    this.#waiting.push({ event, source, causes, atMs: Date.now() });
    this.#pump();
  }

  /** Resolves when nothing waits any more. */
  async drain(): Promise<void> {
    if (this.#inFlight > 0 || this.#waiting.length > 0)
      await new Promise<void>((resolve) => this.#drained.push(resolve));
  }

  #pump(): void {
    while (this.#inFlight < IN_FLIGHT && this.#waiting.length > 0) {
      const next = this.#waiting.shift();
      if (!next) return;
      this.#inFlight++;
      void this.#publish(next)
        .catch((error: unknown) =>
          this.#logger.warn(
            { reason: next.event.reason, about: next.event.about.metadata.name, err: error },
            'an event could not be published',
          ),
        )
        .finally(() => {
          this.#inFlight--;
          this.#pump();
          if (this.#inFlight === 0 && this.#waiting.length === 0)
            for (const resolve of this.#drained.splice(0)) resolve();
        });
    }
  }

  async #publish({ event, source, causes, atMs }: Waiting): Promise<void> {
    const { about, type, reason } = event;
    const message = event.message.slice(0, MAX_MESSAGE_LENGTH);
    const namespace = about.metadata.namespace ?? 'default';
    const name = eventName(about, [type, reason, message, source.component]);
    const time = timestamp(atMs);
    const target = { resource: EVENTS, namespace, name };
    const options = { causes, fieldManager: source.component };
    let count = this.#counts.get(name);
    try {
      if (count === undefined) {
        this.#remember(name, 1);
        await this.#client.create(
          EVENTS,
          newEvent({ about, type, reason, message, source, namespace, name, time }),
          options,
        );
        return;
      }
      this.#remember(name, count + 1);
      await this.#client.patch(target, { count: count + 1, lastTimestamp: time }, options);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.is('AlreadyExists')) {
        // Published by a predecessor of this process.
        const standing = await this.#client.get<ApiObject & { count?: number }>(target);
        count = (standing.count ?? 1) + 1;
        this.#remember(name, count);
        await this.#client.patch(target, { count, lastTimestamp: time }, options);
      } else if (error.is('NotFound') && count !== undefined) {
        // The Event that was counted up has expired.
        this.#remember(name, 1);
        await this.#client.create(
          EVENTS,
          newEvent({ about, type, reason, message, source, namespace, name, time }),
          options,
        );
      } else if (isNamespaceGoing(error)) {
        this.#logger.debug(
          { reason, about: about.metadata.name },
          'an event about an object of a namespace that goes is dropped',
        );
      } else throw error;
    }
  }

  #remember(name: string, count: number): void {
    this.#counts.delete(name);
    this.#counts.set(name, count);
    if (this.#counts.size > MAX_REMEMBERED)
      for (const oldest of this.#counts.keys()) return void this.#counts.delete(oldest);
  }
}

/** Kubernetes' form: the object's name, a dot and sixteen hexadecimal digits. */
function eventName(about: ApiObject, parts: readonly string[]): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([about.metadata.uid, about.kind, ...parts]))
    .digest('hex');
  return `${about.metadata.name.slice(0, 236)}.${digest.slice(0, 16)}`;
}

const isNamespaceGoing = (error: ApiError): boolean => error.is('NotFound') || error.is('Forbidden');

function newEvent(parts: {
  about: ApiObject;
  type: string;
  reason: string;
  message: string;
  source: EventSource;
  namespace: string;
  name: string;
  time: string;
}): ApiObject {
  const { about, source, namespace, name, time, type, reason, message } = parts;
  const { metadata } = about;
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name, namespace },
    involvedObject: {
      apiVersion: about.apiVersion,
      kind: about.kind,
      name: metadata.name,
      ...(metadata.namespace && { namespace: metadata.namespace }),
      ...(metadata.uid && { uid: metadata.uid }),
      ...(metadata.resourceVersion && { resourceVersion: metadata.resourceVersion }),
    },
    type,
    reason,
    message,
    source,
    reportingComponent: source.component,
    reportingInstance: source.host ?? '',
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}
