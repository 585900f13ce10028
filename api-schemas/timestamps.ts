/**
 * Kubernetes' timestamps (RFC 3339 in UTC: `Time` in whole seconds, `MicroTime`) as milliseconds and back. Planners work with milliseconds that they are given; nothing here reads a clock. Used wherever an
 * object says when something was.
 */

export const timestamp = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

export const microTimestamp = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z');

/** Undefined for an absent or malformed time. */
export function milliseconds(time: string | undefined): number | undefined {
  if (time === undefined) return undefined;
  const ms = Date.parse(time);
  return Number.isNaN(ms) ? undefined : ms;
}
