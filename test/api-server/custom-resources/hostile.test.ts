/**
 * Schemas and objects that mean ill, and kinds that come and go: neither costs much, and nothing is left of them.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { loadRegistry } from '../../../api-schemas/registry.ts';
import type { ApiObject } from '../../../api-schemas/schema.ts';
import { present } from '../../../api-server/custom-resources/presentation.ts';
import { ApiDocuments } from '../../../api-server/documents.ts';
import { decode, makeEntry, type Entry } from '../../../api-server/store/entry.ts';
import { toTable } from '../../../api-server/table/table.ts';
import type { Json } from '../api.ts';
import { crd, crontab, faultsOf, GROUP, kindOf, object, written } from './custom-kinds.ts';

t.test('what is hostile costs little', async (t) => {
  const within = (ms: number, name: string, work: () => void) => {
    const began = performance.now();
    work();
    t.ok(performance.now() - began < ms, `${name} took ${Math.round(performance.now() - began)} ms`);
  };
  const evil = kindOf({
    spec: object({
      text: { type: 'string', pattern: '^(a+)+$' },
      list: {
        type: 'array',
        items: { type: 'integer' },
        maxItems: 1_100,
        'x-kubernetes-validations': [{ rule: 'self.all(a, self.all(b, a + b >= 0))' }],
      },
      word: { type: 'string', 'x-kubernetes-validations': [{ rule: "self.matches('^(a|aa)+$')" }] },
    }),
  });
  within(5_000, 'a pattern that backtracking never ends on', () =>
    t.match(written(evil, crontab({ text: `${'a'.repeat(100_000)}b` })).faults, [/should match/]),
  );
  within(5_000, 'the same in a rule', () =>
    t.match(written(evil, crontab({ word: `${'a'.repeat(100_000)}b` })).faults, [/failed rule/]),
  );
  within(5_000, 'a rule in two loops', () =>
    t.match(written(evil, crontab({ list: Array.from({ length: 1_100 }, (_, index) => index) })).faults, [
      /running out of cost budget, no further validation rules will be run/,
    ]),
  );
  const wide = Object.fromEntries(
    Array.from({ length: 20_000 }, (_, index) => [`field${index}`, { type: 'string', pattern: '^a$', default: 'a' }]),
  );
  within(10_000, 'a definition of a megabyte', () => {
    const kind = kindOf({ spec: object(wide, { default: {} }) });
    t.equal(Object.keys(written(kind, crontab(undefined)).object.spec).length, 20_000);
  });
  let deep: Json = { type: 'string' };
  for (let depth = 0; depth < 120; depth++) deep = object({ a: deep });
  within(5_000, 'a deep one', () => t.same(faultsOf(crd({ spec: deep })), []));
  t.match(faultsOf(crd({ spec: { type: 'object', properties: JSON.parse('{"__proto__":{"type":"string"}}') } })), [
    /must not be the name of a field/,
  ]);
});

t.test('what is withdrawn leaves nothing behind', async (t) => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const own = loadRegistry();
  const documents = new ApiDocuments(own);
  /** Everything that a server does with a kind, until it is gone. */
  const live = (index: number): WeakRef<object> => {
    const [plural, kind] = [`things${index}`, `Thing${index}`];
    const spec = object(
      { a: { type: 'string', default: 'x', pattern: `^x(${index})?$` } },
      { 'x-kubernetes-validations': [{ rule: `self.a != 'b${index}'` }] },
    );
    const one = kindOf({ plural, kind, spec });
    own.add(one);
    documents.get(`/openapi/v3/apis/${GROUP}/v1`);
    documents.get('/openapi/v2');
    const entry = makeEntry({
      key: { group: GROUP, resource: plural, namespace: 'default', name: 'one' },
      sequence: index + 1,
      object: { ...crontab({}), kind } as ApiObject,
      selectableFields: [],
    });
    if (!(present(one, entry) as Entry).bytes.includes('"a":"x"')) throw new Error('the default is missing');
    if (written(one, { ...crontab({}), kind }).faults.length > 0) throw new Error('it should be in order');
    toTable(one, [decode(entry)], { resourceVersion: '1', includeObject: 'None', nowMs: 0, version: 'v1' });
    own.remove(GROUP, 'v1', plural);
    return new WeakRef(one.schema);
  };
  const schemas = Array.from({ length: 20 }, (_, index) => live(index));
  documents.get('/openapi/v3');
  for (let turn = 0; turn < 5; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
  }
  const left = schemas.filter((schema) => schema.deref() !== undefined).length;
  t.ok(left <= 1, `${left} schemas are still held`);
});
