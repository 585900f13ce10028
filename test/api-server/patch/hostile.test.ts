/** Keys that try to reach prototypes, and nesting that tries to exhaust the stack, through every way into the room. */
import t from 'tap';
import type { ApiObject, Schema } from '../../../api-schemas/schema.ts';
import { applyPatch } from '../../../api-server/patch/apply.ts';
import { fromFieldsV1, toFieldsV1 } from '../../../api-server/patch/field-set.ts';
import { fieldsOf } from '../../../api-server/patch/field-walk.ts';
import { jsonPatch } from '../../../api-server/patch/json-patch.ts';
import type { JsonObject } from '../../../api-server/patch/json.ts';
import { trackUpdate } from '../../../api-server/patch/managed-fields.ts';
import { mergePatch } from '../../../api-server/patch/merge-patch.ts';
import { strategicMergePatch } from '../../../api-server/patch/strategic-merge.ts';
import { configMap, frozen, parse, schemaOf } from './kinds.ts';

const CONFIG_MAP = schemaOf('', 'ConfigMap');
const ANYTHING: Schema = { type: 'object' };
const HOSTILE = '{"__proto__":{"polluted":"yes"},"constructor":{"prototype":{"polluted":"yes"}},"toString":"x"}';
const hostile = frozen(
  parse(`{"apiVersion":"v1","kind":"X","metadata":{"name":"n","labels":${HOSTILE}},"data":${HOSTILE}}`),
);
const time = '2030-01-01T00:00:00Z';

const applyOf = (live: ApiObject | undefined, config: ApiObject) =>
  applyPatch({ live, config, manager: 'm', force: true, schema: ANYTHING, time });

const apply = (live: ApiObject, config: ApiObject): JsonObject => {
  const result = applyOf(live, config);
  if (result.kind !== 'applied') throw new Error(result.message);
  return result.object;
};

t.test('keys named like parts of prototypes are keys and nothing else', async (t) => {
  const plain = frozen(parse('{"apiVersion":"v1","kind":"X","metadata":{"name":"n","labels":{}},"data":{}}'));
  const results: Record<string, JsonObject> = {
    'merge patch': mergePatch(plain, hostile),
    'merge patch over itself': mergePatch(hostile, hostile),
    'strategic merge patch': strategicMergePatch(plain, hostile, ANYTHING),
    'strategic merge patch over itself': strategicMergePatch(hostile, hostile, ANYTHING),
    'strategic merge patch with a schema': strategicMergePatch(plain, hostile, CONFIG_MAP),
    'JSON patch': jsonPatch(plain, [
      { op: 'add', path: '/data', value: hostile['data'] },
      { op: 'copy', from: '/data', path: '/metadata/labels' },
    ]),
    apply: apply(plain, hostile),
    'apply over itself': apply(hostile, hostile),
  };
  for (const [name, result] of Object.entries(results)) {
    for (const part of [result['data'], (result['metadata'] as JsonObject)['labels']]) {
      t.equal(JSON.stringify(part), HOSTILE, name);
      t.equal(Object.getPrototypeOf(part), Object.prototype, name);
    }
  }
  const fields = JSON.stringify(toFieldsV1(fromFieldsV1(toFieldsV1(fieldsOf(hostile, ANYTHING)))));
  t.ok(fields.includes('"f:__proto__":{".":{},"f:polluted":{}},"f:constructor":{".":{}'), fields);
  const entries = trackUpdate({ before: undefined, after: hostile, manager: '__proto__', schema: ANYTHING, time });
  t.equal(entries[0]?.manager, '__proto__');
  for (const pointer of ['/__proto__/polluted', '/data/__proto__', '/constructor/prototype/polluted']) {
    t.throws(
      () => jsonPatch(plain, [{ op: 'add', path: pointer, value: 'yes' }]),
      /may not name __proto__|there is no/,
      pointer,
    );
  }
  t.equal(({} as JsonObject)['polluted'], undefined, 'no prototype was changed');
});

/** Every object and list in a value. */
function nodesOf(value: unknown): unknown[] {
  return typeof value === 'object' && value !== null ? [value, ...Object.values(value).flatMap(nodesOf)] : [];
}

t.test('no result shares anything with its patch: what becomes of the one leaves the other as it was', async (t) => {
  const content = { a: [{ b: ['c'] }], d: { e: { f: [1] } } };
  const results: [patch: unknown, result: unknown][] = [
    [content, mergePatch({}, content)],
    [content, strategicMergePatch({}, content, ANYTHING)],
    [content, apply(parse('{"metadata":{}}'), content as never)],
    [
      content,
      jsonPatch({}, [
        { op: 'add', path: '/x', value: content },
        { op: 'copy', from: '/x', path: '/y' },
      ]),
    ],
  ];
  for (const [patch, result] of results) {
    const theirs = new Set(nodesOf(patch));
    t.same(
      nodesOf(result).filter((node) => theirs.has(node)),
      [],
    );
    t.equal(nodesOf(result).length, new Set(nodesOf(result)).size, 'nor is anything in it twice');
  }
});

t.test('a merge patch cannot delete what an object inherits, nor be fooled by it', async (t) => {
  t.same(mergePatch({}, { toString: null, valueOf: { a: 1 } }), { valueOf: { a: 1 } });
});

t.test('ten thousand levels are refused in a sentence', async (t) => {
  const depth = 10_000;
  const deepText = `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
  const deepLists = `${'['.repeat(depth)}1${']'.repeat(depth)}`;
  const objectWith = (value: string) => parse(`{"apiVersion":"v1","kind":"X","metadata":{"name":"n"},"data":${value}}`);
  const shallow = objectWith('{}');
  for (const text of [deepText, deepLists]) {
    const [deep, twin] = [objectWith(text), objectWith(text)];
    const ways: Record<string, () => unknown> = {
      'strategic merge patch': () => strategicMergePatch(shallow, deep, ANYTHING),
      'merge patch': () => mergePatch(shallow, deep),
      'JSON patch add': () => jsonPatch(shallow, [{ op: 'add', path: '/more', value: deep['data'] }]),
      'JSON patch test': () => jsonPatch(deep, [{ op: 'test', path: '', value: twin }]),
      'JSON patch copy': () => jsonPatch(deep, [{ op: 'copy', from: '/data', path: '/more' }]),
      'apply on create': () => applyOf(undefined, deep),
      'apply on update': () => applyOf(shallow, deep),
      'update, object compared': () => trackUpdate({ before: deep, after: twin, manager: 'm', schema: ANYTHING, time }),
      // A list without a schema is one field, however deep: the walks that go into it are the other ones.
      ...(text === deepText && {
        'update, object added': () =>
          trackUpdate({ before: undefined, after: deep, manager: 'm', schema: ANYTHING, time }),
        fieldsV1: () => fromFieldsV1(JSON.parse(deepText.replaceAll('"a"', '"f:a"').replace('1', '{}'))),
        'JSON pointer': () => jsonPatch(shallow, [{ op: 'add', path: '/a'.repeat(depth), value: 1 }]),
      }),
    };
    for (const [name, way] of Object.entries(ways))
      t.throws(way, { reason: 'BadRequest', message: /nested more than 256 levels deep/ }, name);
  }
});

t.test('managedFields that are not, are refused by apply and ignored by updates', async (t) => {
  const live = configMap(
    { a: '1' },
    { uid: 'u', managedFields: [{ manager: 'm', operation: 'Steal', apiVersion: 'v1', fieldsType: 'FieldsV1' }] },
  );
  t.throws(() => applyPatch({ live, config: configMap({}), manager: 'm', force: false, schema: CONFIG_MAP, time }), {
    reason: 'BadRequest',
    message: /managedFields\[0\]\.operation/,
  });
  t.same(trackUpdate({ before: live, after: live, manager: 'm', schema: CONFIG_MAP, time }), []);
});
