/**
 * Who follows the log, and how far each has come. Followers are asked, over core NATS, and answer from memory, so nobody publishes his position and nothing is written. Who ought to answer is known from the metadata of their
 * consumers, which the server keeps: a process that is there and does not answer is told of too, with what the server has sent it. Used by `follow.ts` (to say who one is) and `jetstream.ts` (to answer, and to ask).
 */
import { randomBytes } from 'node:crypto';
import { LogUnavailableError } from './event-log.ts';
import type { Follower, FollowerName, FollowerReport } from './event-log.ts';
import type { StreamReader } from './reader.ts';
import { DEFAULT_PREFIX } from './subjects.ts';

/** The first is what is asked; every question names a subject under the second to answer to. Neither is a subject of the log's. */
export const followerSubjects = (prefix: string = DEFAULT_PREFIX): { question: string; answers: string } => ({
  question: `${prefix}-followers.question`,
  answers: `${prefix}-followers.answer`,
});

const NAMES = 'reckon.follows-as';
const PROCESS = 'reckon.process';
/** As many as the server answers with at once, and how often it is asked for more. */
const MAX_PAGES = 40;
/** Who says nothing for so long does not answer. */
const ANSWER_WITHIN_MS = 2_000;

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

/** What the server knows of one name of one process; of several consumers, as after a reconnect, the newest comes last. */
interface Known {
  readonly name: string;
  readonly process: string;
  readonly consumers: ConsumerInfo[];
}

interface Answer {
  readonly process: string;
  readonly followers: readonly FollowerReport[];
}

type Report = FollowerReport & Pick<Answer, 'process'>;

const NOTHING: Answer = { process: '', followers: [] };

export const followerMetadata = ({ names, process }: FollowerName): Record<string, string> => ({
  [NAMES]: names.join(','),
  [PROCESS]: process,
});

/** Returns how to stop. */
export function answerFollowers(
  { connection, names }: StreamReader,
  process: string,
  reports: () => readonly FollowerReport[],
): () => void {
  return connection.serve(followerSubjects(names.prefix).question, {
    callback: (error, message) => {
      if (error) return;
      message.respond(JSON.stringify({ process, followers: reports() } satisfies Answer));
    },
  });
}

/** Rejects with LogUnavailableError. */
export async function askFollowers(reader: StreamReader): Promise<Follower[]> {
  const { connection, names } = reader;
  // Read first: of whatever concerns a follower up to here, the server knows afterwards whether it was sent.
  const last = await reader.lastSequence();
  const { question, answers } = followerSubjects(names.prefix);
  const subject = `${answers}.${randomBytes(12).toString('hex')}`;
  const reports = new Map<string, Report>();
  let heard: () => void = () => undefined;
  const { epoch } = connection;
  const stop = connection.serve(subject, {
    callback: (error, message) => {
      const { process, followers } = (!error && readAnswer(message.data)) || NOTHING;
      for (const report of followers) reports.set(idOf(process, report.name), { process, ...report });
      heard();
    },
  });
  try {
    connection.publish(question, '', { reply: subject });
    const known = await readKnown(reader);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ANSWER_WITHIN_MS);
      heard = () => {
        if (!allHaveAnswered(known, reports)) return;
        clearTimeout(timer);
        resolve();
      };
      heard();
    });
    // Answers may have been lost with the connection, and silence would say nothing.
    if (connection.epoch !== epoch) throw new LogUnavailableError('the connection was lost while followers were asked');
    return merge({ known, reports, last });
  } finally {
    stop();
  }
}

const idOf = (process: string, name: string): string => `${process}\n${name}`;

function readAnswer(data: Uint8Array): Answer | undefined {
  try {
    return JSON.parse(Buffer.from(data).toString('utf8')) as Answer;
  } catch {
    return undefined;
  }
}

async function readKnown({ connection, stream }: StreamReader): Promise<ReadonlyMap<string, Known>> {
  const known = new Map<string, Known>();
  for (let seen = 0, page = 0; page < MAX_PAGES; page++) {
    const answer = await connection.read<ConsumersPage>(`CONSUMER.LIST.${stream}`, { offset: seen });
    const consumers = answer.consumers ?? [];
    seen += consumers.length;
    for (const info of consumers) {
      const { [NAMES]: names = '', [PROCESS]: process } = info.config.metadata ?? {};
      for (const name of process === undefined ? [] : names.split(',').filter(Boolean)) {
        const one = known.get(idOf(process ?? '', name)) ?? { name, process: process ?? '', consumers: [] };
        known.set(idOf(one.process, name), one);
        one.consumers.push(info);
      }
    }
    if (consumers.length === 0 || seen >= answer.total) break;
  }
  return known;
}

const isListening = ({ consumers }: Known): boolean => consumers.some(({ num_waiting: waiting }) => waiting > 0);

/** The server remembers those that have ended for a while; they are not waited for where somebody else answers under their name. */
function allHaveAnswered(known: ReadonlyMap<string, Known>, reports: ReadonlyMap<string, Report>): boolean {
  const named = new Set([...reports.values()].map(({ name }) => name));
  return [...known].every(([id, one]) => reports.has(id) || (!isListening(one) && named.has(one.name)));
}

function merge(of: {
  known: ReadonlyMap<string, Known>;
  reports: ReadonlyMap<string, Report>;
  last: number;
}): Follower[] {
  const { known, reports, last } = of;
  const silent = [...known].flatMap(([id, one]) => (reports.has(id) ? [] : [asSent(one, last)]));
  const answering = [...reports].map(([id, report]) => asSaid(report, known.get(id)?.consumers ?? [], last));
  return [...silent, ...answering];
}

function asSent(one: Known, last: number): Follower {
  const seen = one.consumers.map(({ num_pending: pending, delivered }) =>
    pending === 0 ? Math.max(last, delivered.stream_seq) : delivered.stream_seq,
  );
  return {
    name: one.name,
    process: one.process,
    seen: Math.max(...seen),
    failing: 0,
    answers: false,
    isListening: isListening(one),
  };
}

function asSaid(report: Report, consumers: Known['consumers'], last: number): Follower {
  const { name, process, role, owes, failing = 0, fault } = report;
  // What a follower holds reaches only as far as the last record that concerned it. Where it has all that it was ever sent, and nothing more is to be sent, there is nothing for it up to the end.
  const hasAll = consumers.some(
    ({ num_pending: pending, delivered }) => pending === 0 && delivered.stream_seq <= report.seen,
  );
  const seen = hasAll ? Math.max(last, report.seen) : report.seen;
  return {
    name,
    process,
    ...(role && { role }),
    seen,
    ...(role !== 'standby' && { done: owes === undefined ? seen : Math.min(seen, owes - 1) }),
    failing,
    answers: true,
    isListening: true,
    ...(fault !== undefined && { fault }),
  };
}
