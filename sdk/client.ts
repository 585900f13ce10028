/**
 * The API as a controller calls it: HTTPS with the controller's own identity, causes attached. Implemented by `http-client.ts`.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import type { ResourceRef } from './controller.ts';

export interface Target {
  readonly resource: ResourceRef;
  readonly namespace?: string;
  readonly name: string;
  readonly subresource?: string;
}

export interface WriteOptions {
  /** Sequences that this write answers to. */
  readonly causes?: readonly number[];
  readonly because?: string;
  readonly fieldManager?: string;
  readonly signal?: AbortSignal;
  /** Given up after this long, where that is sooner than usual. */
  readonly timeoutMs?: number;
  /** The Lease of kube-system under which the writer acts, and the name it holds it by: the API server refuses the write once another holds it. */
  readonly lease?: { readonly name: string; readonly holder: string };
  /** Told the sequence at which a write stands, as soon as the server has answered. */
  readonly onWritten?: (resource: ResourceRef, sequence: number) => void;
}

export interface DeleteOptions extends WriteOptions {
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
}

/** Every method rejects with ApiError for a Status answer, and with ApiUnreachableError when the outcome is unknown. Writes resolve to the object with its new resourceVersion. */
export interface Client {
  get<T extends ApiObject = ApiObject>(target: Target, options?: { signal?: AbortSignal }): Promise<T>;
  list<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    options?: { namespace?: string; labelSelector?: string; fieldSelector?: string },
  ): Promise<{ items: T[]; resourceVersion: string }>;
  create<T extends ApiObject = ApiObject>(resource: ResourceRef, object: ApiObject, options?: WriteOptions): Promise<T>;
  update<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    object: ApiObject,
    options?: WriteOptions & { subresource?: string },
  ): Promise<T>;
  /** JSON merge patch. */
  patch<T extends ApiObject = ApiObject>(
    target: Target,
    patch: Record<string, unknown>,
    options?: WriteOptions,
  ): Promise<T>;
  /** Server-side apply. */
  apply<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    object: ApiObject,
    options: WriteOptions & { fieldManager: string; force?: boolean },
  ): Promise<T>;
  delete(target: Target, options?: DeleteOptions): Promise<void>;
  /** POST to a subresource with a body of its own kind. */
  post(
    target: Target & { subresource: string },
    body: Record<string, unknown>,
    options?: WriteOptions,
  ): Promise<Record<string, unknown>>;
}

/** A `Status` failure from the API server. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly code: number;
  readonly reason: string;
  readonly details: Record<string, unknown> | undefined;
  /** How long the server asks to be left alone, where it said so. */
  readonly retryAfterMs: number | undefined;
  constructor(status: {
    code: number;
    reason: string;
    message: string;
    details?: Record<string, unknown>;
    retryAfterMs?: number;
  }) {
    super(status.message);
    this.code = status.code;
    this.reason = status.reason;
    this.details = status.details;
    this.retryAfterMs = status.retryAfterMs;
  }
  is(
    reason:
      'NotFound' | 'AlreadyExists' | 'Conflict' | 'Invalid' | 'Forbidden' | 'TooManyRequests' | 'ServiceUnavailable',
  ): boolean {
    return this.reason === reason;
  }
}

/** No answer came: the write may or may not stand. */
export class ApiUnreachableError extends Error {
  override readonly name = 'ApiUnreachableError';
}

/** The API server, or what it needs, is not there just now: the same may be had in a moment. */
export const isAway = (error: unknown): error is Error =>
  error instanceof ApiUnreachableError || (error instanceof ApiError && [429, 503, 504].includes(error.code));
