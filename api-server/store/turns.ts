/**
 * Writers of this process that would refuse each other take turns: those that allocate numbers, and those that were overtaken on an object and compute their change again. Only a courtesy, the log's
 * guards alone are what keeps writers apart; so nobody waits long for one that hangs.
 */

/** One after the other. */
export class Queue {
  static readonly PATIENCE_MS = 1_000;
  #last: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const mine = atMost(this.#last, Queue.PATIENCE_MS).then(work);
    this.#last = mine.catch(() => undefined);
    return mine;
  }
}

function atMost(promise: Promise<unknown>, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    void promise.then(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** A queue for each object that somebody waits for. */
export class Turns {
  readonly #queues = new Map<string, { queue: Queue; users: number }>();

  async run<T>(id: string, work: () => Promise<T>): Promise<T> {
    let turn = this.#queues.get(id);
    if (!turn) this.#queues.set(id, (turn = { queue: new Queue(), users: 0 }));
    turn.users++;
    try {
      return await turn.queue.run(work);
    } finally {
      if (--turn.users === 0) this.#queues.delete(id);
    }
  }
}
