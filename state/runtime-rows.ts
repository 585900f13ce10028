/**
 * Rows of the runtime tables are the facts of `runtime-facts.ts` with their names in snake case and null for what is absent: this translates both ways, for `runtime-state.ts`. Only the outermost names
 * change; labels and details keep theirs.
 */

export function toRow(facts: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value ?? null,
    ]),
  );
}

/** The caller names the facts that the table's columns make. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
export function toFacts<Facts>(row: object): Facts {
  const named = Object.entries(row)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => [name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()), value as unknown]);
  return Object.fromEntries(named) as Facts;
}
