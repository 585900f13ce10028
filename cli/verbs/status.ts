/** `reckon status`: how far each follower of the log has come. */
import type { Following } from '../../api-server/memory/status.ts';
import { columns } from './terminal.ts';
import type { Verb } from './verb.ts';

export interface ClusterStatus {
  readonly revision: number;
  readonly followers: readonly Following[];
}

export const STATUS = '/apis/log.reckon.dev/v1/status';
const HEADINGS = ['FOLLOWER', 'SEEN', 'DONE', 'LAG', 'STATE'];
const ROLES = { leads: 'leads', standby: 'waits to lead' };

export const status: Verb = {
  summary: 'how far each follower of the log has come: API servers, controllers, the projection',
  usage: 'reckon status [-o json]',
  examples: ['reckon status'],
  flags: {},
  async run({ words, connection, screen }) {
    const { body } = await connection.get(STATUS);
    if (words.text('output') === 'json') return screen.write(JSON.stringify(body, undefined, 2));
    const { followers, revision } = body as ClusterStatus;
    screen.write(`The log stands at revision ${revision}.`);
    const rows = followers.map((follower) => [
      follower.name,
      String(follower.seen),
      follower.done === undefined ? '-' : String(follower.done),
      String(follower.lag),
      stateOf(follower),
    ]);
    for (const line of columns([HEADINGS, ...rows])) screen.write(line);
  },
};

function stateOf({ role, lag, failing = 0, unreachable, fault }: Following): string {
  const states = [
    unreachable ? 'unreachable' : (fault ?? (failing > 0 ? keysFail(failing) : lag === 0 ? 'up to date' : 'at work')),
    ...(role ? [ROLES[role]] : []),
  ];
  return states.join(', ');
}

export const keysFail = (count: number): string => (count === 1 ? '1 key fails' : `${count} keys fail`);
