/**
 * The heartbeats of all nodes, read from PostgreSQL. A node is silent for as long as its heartbeat has been *seen* to stand still: while the database is away nobody is judged.
 */
import { openRuntimeState, type Logger } from '../../sdk/index.ts';

const POLL_MS = 5_000;

interface Pulse {
  readonly heartbeat: string;
  /** When it was first seen, on the monotonic clock. */
  readonly sinceMs: number;
}

export class Heartbeats {
  readonly #pulses = new Map<string, Pulse>();
  readonly #logger: Logger;
  #away = false;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Undefined while nobody can tell. */
  silentMs(node: string): number | undefined {
    const pulse = this.#pulses.get(node);
    return this.#away || !pulse ? undefined : performance.now() - pulse.sinceMs;
  }

  /** Reads from time to time; `changed` is called with the names of all nodes after each reading. */
  start(options: { databaseUrl: string; signal: AbortSignal; changed: () => void }): void {
    const state = openRuntimeState(options.databaseUrl, { applicationName: 'reckon nodes', maxConnections: 1 });
    const poll = async (): Promise<void> => {
      try {
        const nodes = await state.nodes();
        // After an absence every node gets a whole grace period to be heard again.
        if (this.#away) this.#pulses.clear();
        this.#away = false;
        for (const { name, heartbeatAt } of nodes) {
          const heartbeat = String(heartbeatAt);
          if (this.#pulses.get(name)?.heartbeat !== heartbeat)
            this.#pulses.set(name, { heartbeat, sinceMs: performance.now() });
        }
        options.changed();
      } catch (error) {
        if (!this.#away) this.#logger.warn({ err: error }, 'heartbeats cannot be read; no node is judged meanwhile');
        this.#away = true;
      }
    };
    const timer = setInterval(() => void poll(), POLL_MS);
    void poll();
    options.signal.addEventListener('abort', () => {
      clearInterval(timer);
      void state.close();
    });
  }
}
