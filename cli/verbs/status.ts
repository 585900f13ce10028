/** `reckon status`: how far each follower of the log has come. */
import { columns } from './terminal.ts';
import type { Verb } from './verb.ts';

interface ClusterStatus {
  readonly revision: number;
  readonly followers: readonly {
    readonly name: string;
    readonly position?: number;
    readonly lag?: number;
    readonly fault?: string;
  }[];
}

export const status: Verb = {
  summary: 'how far each follower of the log has come',
  usage: 'reckon status [-o json]',
  examples: ['reckon status'],
  flags: {},
  async run({ words, connection, screen }) {
    const { body } = await connection.get('/apis/log.reckon.dev/v1/status');
    if (words.text('output') === 'json') return screen.write(JSON.stringify(body, undefined, 2));
    const { followers, revision } = body as ClusterStatus;
    screen.write(`The log stands at revision ${revision}.`);
    const rows = followers.map(({ name, position, lag, fault }) => [
      name,
      position === undefined ? '-' : String(position),
      lag === undefined ? '-' : String(lag),
      fault ?? (lag === 0 ? 'up to date' : 'behind'),
    ]);
    for (const line of columns([['FOLLOWER', 'POSITION', 'LAG', 'STATE'], ...rows])) screen.write(line);
  },
};
