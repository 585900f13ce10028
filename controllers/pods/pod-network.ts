/**
 * The network of the node's pods, in the engine: made when the agent starts, looked for again whenever it may be gone, and waited for before a container is made in it. Made by agent.ts; used by start-container.ts.
 */
import type { ContainerRuntime } from '../../runtime/container-runtime.ts';

export interface NetworkOptions {
  readonly name: string;
  readonly subnet: string;
  readonly bridge: string;
  readonly labels: Readonly<Record<string, string>>;
}

export class PodNetwork {
  readonly #runtime: ContainerRuntime;
  readonly #options: NetworkOptions;
  #made: Promise<unknown> | undefined;

  constructor(runtime: ContainerRuntime, options: NetworkOptions) {
    this.#runtime = runtime;
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  /** Resolves when it is there. */
  async ensure(): Promise<void> {
    const made = (this.#made ??= this.#runtime.ensureNetwork(this.#options));
    try {
      await made;
    } catch (error) {
      if (this.#made === made) this.#made = undefined;
      throw error;
    }
  }

  /** Somebody may have removed it. */
  doubt(): void {
    this.#made = undefined;
  }
}
