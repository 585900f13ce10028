import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { jsonPatch } from '../../../api-server/patch/json-patch.ts';
import { mergePatch } from '../../../api-server/patch/merge-patch.ts';
import type { JsonObject } from '../../../api-server/patch/json.ts';
import { frozen } from './kinds.ts';
import { runs } from '../../harness/runs.ts';

t.test('JSON patch: what operations do', async (t) => {
  const document = frozen({
    data: { a: '1', 'x/y~z': 'odd', constructor: 'plain' },
    list: ['p', 'q', 'r'],
    deep: { n: [{ k: 1 }] },
  });
  const cases: [name: string, patch: unknown[], expected: JsonObject][] = [
    ['add a field', [{ op: 'add', path: '/data/b', value: '2' }], { ...document, data: { ...document.data, b: '2' } }],
    [
      'add over a field replaces it',
      [{ op: 'add', path: '/data/a', value: '9' }],
      { ...document, data: { ...document.data, a: '9' } },
    ],
    ['insert into a list', [{ op: 'add', path: '/list/1', value: 'n' }], { ...document, list: ['p', 'n', 'q', 'r'] }],
    ['append with -', [{ op: 'add', path: '/list/-', value: 'n' }], { ...document, list: ['p', 'q', 'r', 'n'] }],
    ['append by length', [{ op: 'add', path: '/list/3', value: 'n' }], { ...document, list: ['p', 'q', 'r', 'n'] }],
    ['remove the last by a negative index', [{ op: 'remove', path: '/list/-1' }], { ...document, list: ['p', 'q'] }],
    [
      'replace inside a list',
      [{ op: 'replace', path: '/deep/n/0/k', value: 2 }],
      { ...document, deep: { n: [{ k: 2 }] } },
    ],
    [
      'escaped names',
      [{ op: 'remove', path: '/data/x~1y~0z' }],
      { ...document, data: { a: '1', constructor: 'plain' } },
    ],
    [
      'a key named constructor is a key',
      [{ op: 'remove', path: '/data/constructor' }],
      { ...document, data: { a: '1', 'x/y~z': 'odd' } },
    ],
    ['move', [{ op: 'move', from: '/list/0', path: '/list/2' }], { ...document, list: ['q', 'r', 'p'] }],
    [
      'copy',
      [{ op: 'copy', from: '/deep/n/0', path: '/deep/n/-' }],
      { ...document, deep: { n: [{ k: 1 }, { k: 1 }] } },
    ],
    ['a test that holds', [{ op: 'test', path: '/deep', value: { n: [{ k: 1 }] } }], document],
    [
      'replace sets an absent field, as in Kubernetes',
      [{ op: 'replace', path: '/new', value: 1 }],
      { ...document, new: 1 },
    ],
    ['a test for nothing against null', [{ op: 'test', path: '/data/none', value: null }], document],
  ];
  for (const [name, patch, expected] of cases) t.same(jsonPatch(document, frozen(patch)), expected, name);
});

t.test('JSON patch: what is refused, and how', async (t) => {
  const document = frozen({ data: { a: '1' }, list: ['p'] });
  const cases: [patch: unknown, reason: string, message: RegExp][] = [
    [{ op: 'add' }, 'BadRequest', /an array of operations, got object/],
    [
      [
        { op: 'add', path: '/data/b', value: 1 },
        { op: 'delete', path: '/data/a' },
      ],
      'BadRequest',
      /^operation 1 \(delete \/data\/a\).*op must be one of/,
    ],
    [[{ op: 'add', path: '/data/b' }], 'BadRequest', /operation 0 \(add \/data\/b\).*value is missing/],
    [[{ op: 'add', path: 'data', value: 1 }], 'BadRequest', /must begin with \//],
    [[{ op: 'add', path: '/a~2', value: 1 }], 'BadRequest', /neither ~0 nor ~1/],
    [[{ op: 'copy', path: '/a' }], 'BadRequest', /from must be a JSON pointer, got nothing/],
    [[{ op: 'move', from: '/data', path: '/data/a/b' }], 'BadRequest', /cannot be moved into itself/],
    [[{ op: 'add', path: '/__proto__/polluted', value: 1 }], 'BadRequest', /may not name __proto__/],
    [[null], 'BadRequest', /operation 0 of the JSON patch: must be an object, got null/],
    [[{ op: 'remove', path: '/data/b' }], 'Invalid', /operation 0 \(remove \/data\/b\).*there is no "b"/],
    [[{ op: 'remove', path: '/data/constructor' }], 'Invalid', /there is no "constructor"/],
    [[{ op: 'add', path: '/none/b', value: 1 }], 'Invalid', /there is no "none"/],
    [[{ op: 'add', path: '/list/2', value: 1 }], 'Invalid', /not an index from 0 to 1/],
    [[{ op: 'add', path: '/list/01', value: 1 }], 'Invalid', /not an index/],
    [[{ op: 'test', path: '/data/a', value: 1 }], 'Invalid', /the test failed/],
    [[{ op: 'replace', path: '', value: [] }], 'Invalid', /turns the object into array/],
    [[{ op: 'remove', path: '' }], 'Invalid', /cannot be removed/],
    [
      Array.from({ length: 10_001 }, () => ({ op: 'test', path: '', value: 0 })),
      'RequestEntityTooLarge',
      /10000, got 10001/,
    ],
    [
      Array.from({ length: 40 }, (_, index) => ({ op: 'copy', from: '', path: `/copy${index}` })),
      'RequestEntityTooLarge',
      /copies of one patch/,
    ],
  ];
  for (const [patch, reason, message] of cases)
    t.throws(() => jsonPatch(document, patch), { reason, message }, String(message));
});

t.test('JSON patch: a failing operation leaves nothing behind', async (t) => {
  const document = frozen({ data: { a: '1' } });
  t.throws(() =>
    jsonPatch(document, [
      { op: 'add', path: '/data/b', value: 1 },
      { op: 'remove', path: '/nope' },
    ]),
  );
  t.same(document, { data: { a: '1' } });
});

t.test('merge patch: the cases of RFC 7396 for objects', async (t) => {
  const cases: [current: JsonObject, patch: JsonObject, expected: JsonObject][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [current, patch, expected] of cases)
    t.same(mergePatch(frozen(current), frozen(patch)), expected, JSON.stringify(patch));
});

/** The merge patch that turns one object into another. */
function mergeDiff(from: JsonObject, to: JsonObject): JsonObject {
  const isMap = (value: unknown): value is JsonObject =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  const entries: [string, unknown][] = Object.keys(from)
    .filter((key) => !Object.hasOwn(to, key))
    .map((key) => [key, null]);
  for (const [key, value] of Object.entries(to)) {
    const before = Object.hasOwn(from, key) ? from[key] : undefined;
    entries.push([key, isMap(before) && isMap(value) ? mergeDiff(before, value) : value]);
  }
  return Object.fromEntries(entries);
}

const name = fc.oneof(
  fc.constantFrom('a', 'b', 'c', '__proto__', 'constructor', 'toString', 'length'),
  fc.string({ maxLength: 3 }),
);
const { tree } = fc.letrec<{ tree: JsonObject; value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom<unknown>('', 'x', 0, 1, true, false),
    fc.array(fc.constantFrom('p', 'q'), { maxLength: 3 }),
    tie('tree'),
  ),
  tree: fc
    .array(fc.tuple(name, tie('value')), { maxLength: 4 })
    .map((entries) => Object.fromEntries(entries) as JsonObject),
}));

t.test('merge patch: a patch made from the difference of two objects turns one into the other', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(tree, tree, (from, to) => {
        assert.equal(
          JSON.stringify(sorted(mergePatch(frozen(from), frozen(mergeDiff(from, to))))),
          JSON.stringify(sorted(to)),
        );
      }),
      { numRuns: runs(500) },
    ),
  );
});

/** Keys in order, so that texts can be compared: deep equality of the test library looks past own keys named __proto__. */
const sorted = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(sorted)
    : typeof value === 'object' && value !== null
      ? Object.fromEntries(
          Object.entries(value)
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([key, item]) => [key, sorted(item)]),
        )
      : value;
