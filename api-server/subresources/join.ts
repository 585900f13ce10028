/** Joins the two ends of a connection that passes through this server. Used for streams to agents and for the proxy. */
import type { Duplex } from 'node:stream';

/** So long an end may take to say its last when the other has closed. */
const LINGER_MS = 5_000;

/**
 * What one end says the other hears, in its own time, and each may end before the other. One that has closed ends the other once that has been told everything; one that breaks breaks the other. Resolves when both are
 * closed.
 */
export async function join(left: Duplex, right: Duplex): Promise<void> {
  await Promise.all([oneWay(left, right), oneWay(right, left)]);
}

function oneWay(from: Duplex, to: Duplex): Promise<void> {
  from.pipe(to);
  return new Promise((resolve) => {
    const closed = (): void => {
      resolve();
      if (!from.readableEnded || from.errored) return void to.destroy();
      to.end();
      to.resume();
      const timer = setTimeout(() => to.destroy(), LINGER_MS);
      to.once('close', () => clearTimeout(timer));
    };
    from.on('error', () => from.destroy());
    if (from.closed) closed();
    else from.once('close', closed);
  });
}
