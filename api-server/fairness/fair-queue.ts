/**
 * So many at once, and the others in turn: who holds the fewest places gets the next one. A flow (a user) that sends without end fills its own line and waits behind itself; another's request goes to the head as soon as one place
 * falls free. Pure but for the clock of those who wait; one for each level of `levels.ts`.
 */

export interface QueueLimits {
  /** Requests that are answered at once. */
  readonly places: number;
  /** That may wait, of one flow and of all. */
  readonly waitingPerFlow: number;
  readonly waiting: number;
}

export type Refusal = 'queue-full' | 'time-out';

export interface Entering {
  /** Resolves with the release of a place. Rejects with the refusal. */
  readonly place: Promise<() => void>;
  /** The client has gone: it no longer waits. */
  leave(): void;
}

interface Waiting {
  readonly admit: () => void;
  readonly timer: NodeJS.Timeout;
}

class Flow {
  held = 0;
  readonly waiting = new Set<Waiting>();
}

/** Longer than this nobody waits: the client is better off trying again. */
const PATIENCE_MS = 30_000;

export class FairQueue {
  readonly #limits: QueueLimits;
  /** Those that hold a place or wait for one; among equals whoever was served longest ago comes first. */
  readonly #flows = new Map<string, Flow>();
  #held = 0;
  #waiting = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get held(): number {
    return this.#held;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** The release of a place where one is free, a wait for one, or the refusal of both. */
  enter(name: string): (() => void) | Entering | Refusal {
    let flow = this.#flows.get(name);
    if (this.#held < this.#limits.places && this.#waiting === 0) {
      if (!flow) this.#flows.set(name, (flow = new Flow()));
      return this.#take(name, flow);
    }
    if (this.#waiting >= this.#limits.waiting || (flow?.waiting.size ?? 0) >= this.#limits.waitingPerFlow)
      return 'queue-full';
    if (!flow) this.#flows.set(name, (flow = new Flow()));
    return this.#wait(name, flow);
  }

  #take(name: string, flow: Flow): () => void {
    flow.held++;
    this.#held++;
    let released = false;
    return () => {
      if (released) return;
      released = true;
      flow.held--;
      this.#held--;
      this.#tidy(name, flow);
      this.#next();
    };
  }

  #wait(name: string, flow: Flow): Entering {
    let leave = (): void => undefined;
    const place = new Promise<() => void>((resolve, reject: (refusal: Refusal) => void) => {
      const timer = setTimeout(() => {
        leave();
        reject('time-out');
      }, PATIENCE_MS);
      const waiting: Waiting = { timer, admit: () => resolve(this.#take(name, flow)) };
      flow.waiting.add(waiting);
      this.#waiting++;
      leave = () => {
        clearTimeout(timer);
        if (flow.waiting.delete(waiting)) this.#waiting--;
        this.#tidy(name, flow);
      };
    });
    return { place, leave: () => leave() };
  }

  #next(): void {
    if (this.#waiting === 0 || this.#held >= this.#limits.places) return;
    let chosen: [string, Flow] | undefined;
    for (const each of this.#flows)
      if (each[1].waiting.size > 0 && (!chosen || each[1].held < chosen[1].held)) chosen = each;
    if (!chosen) return;
    const [name, flow] = chosen;
    const [first] = flow.waiting;
    if (!first) return;
    flow.waiting.delete(first);
    this.#waiting--;
    clearTimeout(first.timer);
    // Served last: to the end.
    this.#flows.delete(name);
    this.#flows.set(name, flow);
    first.admit();
  }

  #tidy(name: string, flow: Flow): void {
    if (flow.held === 0 && flow.waiting.size === 0) this.#flows.delete(name);
  }
}
