/** `reckon wait`: until followers of the log have dealt with everything up to a revision, such as the one that a write was answered with. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Following } from '../../api-server/memory/status.ts';
import { keysFail, STATUS, type ClusterStatus } from './status.ts';
import type { Verb } from './verb.ts';
import { UsageError } from './words.ts';

const POLL_MS = 200;
const DEFAULT_TIMEOUT = '60s';
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

export const wait: Verb = {
  summary: 'until controllers, API servers or the projection have dealt with a revision',
  usage: 'reckon wait --revision <number> [--seen-by <follower>,…] [--timeout 60s] [-o json]',
  examples: [
    'reckon wait --revision 1234                             all that `reckon status` lists',
    'reckon wait --revision 1234 --seen-by deployments,projection',
  ],
  flags: { revision: { type: 'string' }, 'seen-by': { type: 'string' }, timeout: { type: 'string' } },
  async run({ words, connection, screen }) {
    const revision = Number(words.text('revision') ?? Number.NaN);
    if (!Number.isSafeInteger(revision) || revision < 1)
      throw new UsageError('--revision says which, a number that a write was answered with, such as --revision 1234.');
    const wanted = words.text('seen-by')?.split(',').filter(Boolean);
    const timeoutMs = durationOf(words.text('timeout') ?? DEFAULT_TIMEOUT);
    const endMs = Date.now() + timeoutMs;
    for (;;) {
      const { followers, revision: newest } = (await connection.get(STATUS)).body as ClusterStatus;
      const names = wanted ?? [...new Set(followers.map(({ name }) => name))];
      const missing = names.flatMap((name) => whyNot(name, followers, revision) ?? []);
      if (missing.length === 0) {
        if (words.text('output') === 'json') screen.write(JSON.stringify({ revision, seenBy: names }, undefined, 2));
        else screen.write(`Revision ${revision} has been dealt with by ${names.join(', ')}.`);
        return;
      }
      if (Date.now() >= endMs) {
        const beyond = revision > newest ? `; the newest revision is ${newest}` : '';
        throw new Error(`Revision ${revision} has not been dealt with by all: ${missing.join(', ')}${beyond}.`);
      }
      await sleep(POLL_MS);
    }
  },
};

/** Who waits to lead does not count; undefined when all that count have come so far. */
function whyNot(name: string, followers: readonly Following[], revision: number): string | undefined {
  const named = followers.filter((follower) => follower.name === name);
  if (named.length === 0) return `nobody follows as ${name}`;
  const acting = named.filter(({ role }) => role !== 'standby');
  if (acting.length === 0)
    return `nobody leads ${name}${named.flatMap(({ fault }) => (fault ? ` (${fault})` : [])).join('')}`;
  const behind = acting.find(({ done = 0 }) => done < revision);
  if (behind?.done === undefined) return behind && `${name} is unreachable`;
  const why = behind.fault ?? (behind.failing === undefined ? undefined : keysFail(behind.failing));
  return `${name} is at ${behind.done}${why === undefined ? '' : ` (${why})`}`;
}

function durationOf(text: string): number {
  const match = /^(\d+)(ms|s|m|h)$/.exec(text);
  if (!match) throw new UsageError(`--timeout is a duration such as 30s or 5m, not '${text}'.`);
  return Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0);
}
