/** `reckon status`: how far each follower of the log has come. */
import { columns } from './terminal.ts';
import type { Verb } from './verb.ts';

export interface ClusterStatus {
  readonly revision: number;
  readonly followers: readonly Following[];
}

export interface Following {
  readonly name: string;
  readonly process?: string;
  readonly position?: number;
  readonly lag?: number;
  readonly leading?: true;
  readonly fault?: string;
}

export const STATUS = '/apis/log.reckon.dev/v1/status';

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
      follower.position === undefined ? '-' : String(follower.position),
      follower.lag === undefined ? '-' : String(follower.lag),
      stateOf(follower),
    ]);
    for (const line of columns([['FOLLOWER', 'POSITION', 'LAG', 'STATE'], ...rows])) screen.write(line);
  },
};

function stateOf({ fault, lag, leading }: Following): string {
  return `${fault ?? (lag === 0 ? 'up to date' : 'behind')}${leading ? ', leads' : ''}`;
}
