/**
 * The Client as one attempt at one key uses it: every write is checked to be allowed still, names the attempt's causes, and is remembered so that the key is not observed again before the
 * World holds it. Made by `controller-loop.ts`.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import type { Client, DeleteOptions, Target, WriteOptions } from './client.ts';
import type { ResourceRef } from './controller.ts';

export interface AttemptOptions {
  readonly client: Client;
  readonly causes: readonly number[];
  readonly fieldManager: string;
  readonly signal: AbortSignal;
  readonly onWritten: (resource: ResourceRef, sequence: number) => void;
  /** Under which the attempt acts. */
  readonly lease: WriteOptions['lease'] | undefined;
  /** Throws where nothing may be written any more. */
  readonly mayWrite: () => void;
  /** How long a write may take, so that it is not on its way when another replica leads. */
  readonly writeTimeoutMs: () => number | undefined;
}

export class KeyClient implements Client {
  readonly #options: AttemptOptions;

  constructor(options: AttemptOptions) {
    this.#options = options;
  }

  get<T extends ApiObject = ApiObject>(target: Target, options: { signal?: AbortSignal } = {}): Promise<T> {
    return this.#options.client.get<T>(target, { signal: this.#options.signal, ...options });
  }

  list<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    options?: Parameters<Client['list']>[1],
  ): Promise<{ items: T[]; resourceVersion: string }> {
    return this.#options.client.list<T>(resource, options);
  }

  async create<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    object: ApiObject,
    options?: WriteOptions,
  ): Promise<T> {
    return this.#options.client.create<T>(resource, object, this.#write(options));
  }

  async update<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    object: ApiObject,
    options?: WriteOptions & { subresource?: string },
  ): Promise<T> {
    return this.#options.client.update<T>(resource, object, this.#write(options));
  }

  async patch<T extends ApiObject = ApiObject>(
    target: Target,
    patch: Record<string, unknown>,
    options?: WriteOptions,
  ): Promise<T> {
    return this.#options.client.patch<T>(target, patch, this.#write(options));
  }

  async apply<T extends ApiObject = ApiObject>(
    resource: ResourceRef,
    object: ApiObject,
    options: WriteOptions & { fieldManager: string; force?: boolean },
  ): Promise<T> {
    return this.#options.client.apply<T>(resource, object, this.#write(options));
  }

  async delete(target: Target, options?: DeleteOptions): Promise<void> {
    return this.#options.client.delete(target, this.#write(options));
  }

  async post(
    target: Target & { subresource: string },
    body: Record<string, unknown>,
    options?: WriteOptions,
  ): Promise<Record<string, unknown>> {
    return this.#options.client.post(target, body, this.#write(options));
  }

  #write<Options extends WriteOptions>(
    options: Options | undefined,
  ): Options & Required<Pick<WriteOptions, 'fieldManager'>> {
    const { mayWrite, causes, fieldManager, signal, lease, onWritten } = this.#options;
    mayWrite();
    const timeoutMs = this.#options.writeTimeoutMs();
    return {
      causes,
      fieldManager,
      signal,
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(lease && { lease }),
      ...(options as Options),
      onWritten,
    };
  }
}
