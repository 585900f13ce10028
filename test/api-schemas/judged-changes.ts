/** Judges whole objects as the API server does: a table of one change each to an object that is right, and all that is said of it. For the tests of rules beside it. */
import t from 'tap';
import { loadRegistry } from '../../api-schemas/registry.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { applyDefaults } from '../../api-server/admission/defaults.ts';
import { pruneUnknown } from '../../api-server/admission/prune.ts';
import { validate } from '../../api-server/admission/validate.ts';

export type Json = Record<string, unknown>;

const registry = loadRegistry();

/** `field: message` of everything that is wrong. */
function faultsOf(object: Json, old?: Json): string[] {
  const [apiVersion, kind] = [String(object['apiVersion']), String(object['kind'])];
  const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
  const definition = registry.byKind(group ?? '', version ?? '', kind);
  if (!definition) throw new Error(`no kind ${kind}`);
  for (const each of old ? [object, old] : [object]) {
    const { unknown, mistyped } = pruneUnknown(each, definition.schema);
    if (unknown.length + mistyped.length > 0) throw new Error([...unknown.map(({ path }) => path), ...mistyped].join());
    applyDefaults(each, definition.schema);
  }
  return validate(object as unknown as ApiObject, old as unknown as ApiObject | undefined, definition).map(
    ({ field, message }) => `${field}: ${message}`,
  );
}

/** Writes a value at a path such as `spec ports 0 name`; undefined removes what is there. */
function change(object: Json, path: string, value: unknown): Json {
  const copy = structuredClone(object);
  const steps = path.split(' ');
  const last = steps.pop() ?? '';
  const parent = steps.reduce<Json>((node, step) => (node[step] ??= {}) as Json, copy);
  if (value === undefined) delete parent[last];
  else parent[last] = value;
  return copy;
}

/** What is changed, and all that is then wrong. */
export type Case = readonly [kind: string, path: string, value: unknown, ...expected: string[]];

/** The objects, by kind, are all right; the cases each change one. */
export function judgeChanges(
  good: Readonly<Record<string, Json>>,
  cases: readonly Case[],
  updates: readonly Case[] = [],
): void {
  const of = (kind: string): Json => ({ kind, ...structuredClone(good[kind]) });

  t.test('what is right is created, and updated to the same', async (t) => {
    for (const kind of Object.keys(good)) {
      t.same(faultsOf(of(kind)), [], kind);
      t.same(faultsOf(of(kind), of(kind)), [], kind);
    }
  });

  t.test('what is wrong is told in full', async (t) => {
    for (const [kind, path, value, ...expected] of cases)
      t.same(
        faultsOf(change(of(kind), path, value)).sort(),
        [...expected].sort(),
        `${kind} ${path} = ${JSON.stringify(value)}`,
      );
  });

  t.test('what may not change does not change', async (t) => {
    for (const [kind, path, value, ...expected] of updates)
      t.same(
        faultsOf(change(of(kind), path, value), of(kind)).sort(),
        [...expected].sort(),
        `${kind} ${path} = ${JSON.stringify(value)}`,
      );
  });
}
