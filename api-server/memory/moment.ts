/**
 * Which revision somebody means by a moment: a revision, an RFC 3339 time, a time of day, how long ago, or `now`. Asked by the verbs for `?at=` and by the questions of this folder for `?from=` and `?to=`.
 */
import type { Call } from '../call.ts';
import { badRequest, expired, type StatusError, unavailable } from '../errors.ts';
import type { Past } from '../store/past.ts';

/** A moment as it was written: a revision of the log, or a time. */
export type Moment = { readonly revision: number } | { readonly timeMs: number } | 'now';

/** Where a read of the past stands. */
export interface Standpoint {
  /** Never in the middle of a transaction. */
  readonly revision: number;
  /** What the clock said: ages are told from here. */
  readonly timeMs: number;
}

const EXPECTED =
  'expected a revision (1234), an RFC 3339 time (2026-03-01T10:42:00Z), a time of day in UTC (10:42), how long ago (90s, 2h, 1d12h), or now';

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const DAY_MS = 86_400_000;
const MAX_LENGTH = 64;

const REVISION = /^\d{1,15}$/;
const TIME_OF_DAY = /^([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?$/;
const DURATION = /^(?:\d{1,9}(?:\.\d{1,3})?(?:ms|s|m|h|d|w))+$/;
const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/;

/** Undefined when it is none of them. A time of day is its last occurrence, in UTC. */
export function parseMoment(text: string, nowMs: number): Moment | undefined {
  // A plus sign that was not escaped arrives as a space.
  const clean = text.trim().replace(/ (\d\d:\d\d)$/, '+$1');
  if (clean.length > MAX_LENGTH) return undefined;
  if (clean === 'now') return 'now';
  if (REVISION.test(clean)) return { revision: Number(clean) };
  const ofDay = TIME_OF_DAY.exec(clean);
  if (ofDay) return { timeMs: lastOccurrence(ofDay, nowMs) };
  const duration = clean.replace(/\s+ago$/, '');
  if (DURATION.test(duration)) return { timeMs: nowMs - durationMs(duration) };
  if (!RFC_3339.test(clean)) return undefined;
  const timeMs = Date.parse(clean.replace(' ', 'T').toUpperCase());
  return Number.isNaN(timeMs) ? undefined : { timeMs };
}

function lastOccurrence([, hours, minutes, seconds = '0']: RegExpExecArray, nowMs: number): number {
  const ofDayMs = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1_000;
  const todayMs = nowMs - (nowMs % DAY_MS) + ofDayMs;
  return todayMs <= nowMs ? todayMs : todayMs - DAY_MS;
}

function durationMs(text: string): number {
  let sum = 0;
  for (const [, amount, unit] of text.matchAll(/([\d.]+)(ms|[smhdw])/g)) sum += Number(amount) * (UNIT_MS[unit!] ?? 0);
  return sum;
}

/**
 * The revision at which a read stands that asks for a moment. Throws BadRequest for what is no moment or lies in the future, Expired (410) for what lies before all that is recorded, and 503 when the
 * history cannot be read now. `field` is the query's parameter.
 */
export async function standpoint(
  call: Pick<Call, 'services' | 'definition'>,
  text: string,
  field: string,
): Promise<Standpoint> {
  const { definition, services } = call;
  const nowMs = Date.now();
  const moment = parseMoment(text, nowMs);
  if (moment === undefined) throw refused(field, text, EXPECTED);
  if (definition.storage !== 'log') throw expired(`${definition.resource} are not kept in the history`);
  const { past } = services;
  if (!past) throw unavailable('this API server runs without a database, and so without the past');
  await services.store.current(definition);
  const newest = services.store.stream(definition).position;
  if (moment === 'now') return { revision: await past.momentAt(newest), timeMs: nowMs };
  if ('timeMs' in moment) {
    const { timeMs } = moment;
    if (timeMs > nowMs) throw refused(field, text, `it is ${new Date(nowMs).toISOString()}: the future is not known`);
    // Before 1970 no record can be; before some 270,000 years ago no clock can say when.
    if (timeMs < 0) throw beforeAll(text);
    return { revision: await recorded(past, await past.sequenceAt(new Date(timeMs), newest), text), timeMs };
  }
  if (moment.revision > newest) throw refused(field, text, `the newest revision is ${newest}`);
  const revision = await recorded(past, moment.revision, text);
  return { revision, timeMs: (await past.timeOf(revision)) ?? nowMs };
}

async function recorded(past: Past, revision: number, asked: string): Promise<number> {
  if (revision < 1) throw beforeAll(asked);
  return past.momentAt(revision);
}

const beforeAll = (asked: string): StatusError =>
  expired(`nothing is recorded of ${JSON.stringify(asked)}: it lies before the first record`);

const refused = (field: string, value: string, why: string): StatusError =>
  badRequest(`${field}: Invalid value: ${JSON.stringify(value.slice(0, 2 * MAX_LENGTH))}: ${why}`);
