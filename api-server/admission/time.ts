/**
 * RFC 3339 times in the form that Kubernetes stores: UTC, whole seconds for Time, six digits for MicroTime. Used by decoding and by protobuf.
 */

const RFC3339 = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?(?:[Zz]|([+-])(\d{2}):(\d{2}))$/;

/** The instant and the digits of a text, or undefined when it is no RFC 3339 time. */
export function parseTime(text: string): { seconds: number; nanos: number } | undefined {
  const match = RFC3339.exec(text);
  if (!match) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59) return undefined;
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute, second);
  if (date.getUTCDate() !== day) return undefined;
  const offset =
    match[8] === undefined ? 0 : (Number(match[9]) * 3600 + Number(match[10]) * 60) * (match[8] === '-' ? -1 : 1);
  return { seconds: date.getTime() / 1000 - offset, nanos: Number((match[7] ?? '').slice(0, 9).padEnd(9, '0')) };
}

/** The instant as text with that many digits after the seconds. Undefined outside the years 0 to 9999. */
export function formatTime(seconds: number, nanos: number, digits: 0 | 6): string | undefined {
  if (!(seconds >= -62167219200 && seconds <= 253402300799)) return undefined;
  const iso = new Date(seconds * 1000).toISOString();
  const whole = iso.slice(0, iso.lastIndexOf('.'));
  return digits === 0 ? `${whole}Z` : `${whole}.${String(Math.floor(nanos / 1000)).padStart(6, '0')}Z`;
}

export function canonicalTime(text: string, digits: 0 | 6): string | undefined {
  const time = parseTime(text);
  return time && formatTime(time.seconds, time.nanos, digits);
}
