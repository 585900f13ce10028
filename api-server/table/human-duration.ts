/** Ages as kubectl writes them: fewer units the older a thing is. Used by the table's cells. Follows `HumanDuration` of apimachinery's `util/duration`. */

const MINUTE_S = 60;
const HOUR_S = 60 * MINUTE_S;
const DAY_S = 24 * HOUR_S;
const YEAR_S = 365 * DAY_S;

const joined = (big: number, bigUnit: string, small: number, smallUnit: string): string =>
  small === 0 ? `${big}${bigUnit}` : `${big}${bigUnit}${small}${smallUnit}`;

export function humanDuration(milliseconds: number): string {
  const seconds = Math.trunc(milliseconds / 1000);
  if (seconds < -1) return '<invalid>';
  if (seconds < 0) return '0s';
  if (seconds < 2 * MINUTE_S) return `${seconds}s`;
  const minutes = Math.floor(seconds / MINUTE_S);
  if (minutes < 10) return joined(minutes, 'm', seconds % MINUTE_S, 's');
  if (seconds < 3 * HOUR_S) return `${minutes}m`;
  const hours = Math.floor(seconds / HOUR_S);
  if (hours < 8) return joined(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(seconds / DAY_S);
  if (days < 8) return joined(days, 'd', hours % 24, 'h');
  if (seconds < 2 * YEAR_S) return `${days}d`;
  const years = Math.floor(seconds / YEAR_S);
  return seconds < 8 * YEAR_S ? joined(years, 'y', days % 365, 'd') : `${years}y`;
}

/** The age of an RFC 3339 time; `<unknown>` without one. */
export function ageOf(time: unknown, nowMs: number): string {
  const then = typeof time === 'string' ? Date.parse(time) : NaN;
  return Number.isNaN(then) ? '<unknown>' : humanDuration(nowMs - then);
}
