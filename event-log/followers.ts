/**
 * Who follows the log, and how far each has come: followers say who they are in the metadata of their consumers, which the server keeps and counts for. So nobody has to publish his position, and asking costs nobody
 * but who asks. Used by `follow.ts` (to say) and `jetstream.ts` (to ask).
 */
import type { Follower, FollowerName } from './event-log.ts';
import type { StreamReader } from './reader.ts';

const NAMES = 'reckon.follows-as';
const PROCESS = 'reckon.process';
/** As many as the server answers with at once, and how often it is asked for more. */
const MAX_PAGES = 40;

interface ConsumerInfo {
  readonly config: { readonly metadata?: Readonly<Record<string, string>> };
  readonly delivered: { readonly stream_seq: number };
  readonly num_pending: number;
  readonly num_waiting: number;
}

interface ConsumersPage {
  readonly total: number;
  readonly consumers: readonly ConsumerInfo[] | null;
}

export const followerMetadata = ({ names, process }: FollowerName): Record<string, string> => ({
  [NAMES]: names.join(','),
  [PROCESS]: process,
});

/** Rejects with LogUnavailableError. */
export async function readFollowers(reader: StreamReader): Promise<Follower[]> {
  const { connection, stream } = reader;
  // Read first: who has nothing pending afterwards has at least come so far.
  const last = await reader.lastSequence();
  const found: Follower[] = [];
  for (let seen = 0, page = 0; page < MAX_PAGES; page++) {
    const answer = await connection.read<ConsumersPage>(`CONSUMER.LIST.${stream}`, { offset: seen });
    const consumers = answer.consumers ?? [];
    seen += consumers.length;
    found.push(...consumers.flatMap((info) => toFollower(info, last) ?? []));
    if (consumers.length === 0 || seen >= answer.total) break;
  }
  return found;
}

function toFollower(info: ConsumerInfo, last: number): Follower | undefined {
  const { [NAMES]: names = '', [PROCESS]: process } = info.config.metadata ?? {};
  if (names === '' || process === undefined) return undefined;
  const pending = info.num_pending;
  const position = pending === 0 ? Math.max(last, info.delivered.stream_seq) : info.delivered.stream_seq;
  return { names: names.split(','), process, position, pending, isListening: info.num_waiting > 0 };
}
