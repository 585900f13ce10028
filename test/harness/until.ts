/** Waits for what comes by itself: asks again until the answer is neither undefined nor false, and rejects with what was seen last. */
import { setTimeout as sleep } from 'node:timers/promises';

const LIMIT_MS = 90_000;
const POLL_MS = 100;

export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  seen: () => unknown = () => undefined,
): Promise<T> {
  for (const untilMs = Date.now() + LIMIT_MS; ; await sleep(POLL_MS)) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > untilMs)
      throw new Error(`waited ${LIMIT_MS} ms for ${what}; last seen: ${JSON.stringify(seen())}`);
  }
}
