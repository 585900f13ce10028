/**
 * Finds the field that a misspelt one was probably meant to be: `contianers` → `containers`. Called by `decode.ts` for every unknown field, so
 * that a refusal can say what to write instead.
 */

/** A name this many edits away is no longer the same word. */
const MAX_EDITS = 3;
/** A name longer than this is no typing slip; comparing it would only cost time. */
const MAX_NAME_LENGTH = 64;

/** The candidate nearest to `name`, if one is near enough: case apart, or within a third of its length (at most 3 edits). */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  if (name.length > MAX_NAME_LENGTH) return undefined;
  const wanted = name.toLowerCase();
  let best: string | undefined;
  let bestDistance = Math.min(MAX_EDITS, Math.ceil(name.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = isPlural(wanted, candidate.toLowerCase())
      ? 0.5
      : editDistance(wanted, candidate.toLowerCase(), bestDistance);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

const isPlural = (a: string, b: string): boolean => a === `${b}s` || b === `${a}s`;

/** Edits from `a` to `b`, a swap of two neighbours counting as one (optimal string alignment); gives up at `limit`. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, (beforeLast[j - 2] ?? 0) + 1);
      row.push(cost);
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length] ?? limit;
}
