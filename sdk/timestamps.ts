/**
 * Kubernetes' timestamps (RFC 3339, whole seconds, UTC) as milliseconds and back. Planners work with milliseconds that they are given; nothing here reads a clock.
 */

export const timestamp = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** Undefined for an absent or malformed time. */
export function milliseconds(time: string | undefined): number | undefined {
  if (time === undefined) return undefined;
  const ms = Date.parse(time);
  return Number.isNaN(ms) ? undefined : ms;
}
