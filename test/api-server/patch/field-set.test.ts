import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import type { Schema } from '../../../api-schemas/schema.ts';
import {
  difference,
  EMPTY,
  ensureNamedFieldsAreMembers,
  equalSets,
  fromFieldsV1,
  has,
  intersection,
  isEmpty,
  leaves,
  paths,
  printPath,
  recursiveDifference,
  setOf,
  toFieldsV1,
  union,
  type FieldSet,
} from '../../../api-server/patch/field-set.ts';
import { compareFields, fieldsOf, removeFields } from '../../../api-server/patch/field-walk.ts';
import { configMap, deployment, frozen, pod, schemaOf, service } from './kinds.ts';

const CONFIG_MAP = schemaOf('', 'ConfigMap');
const POD = schemaOf('', 'Pod');
const SERVICE = schemaOf('', 'Service');
const DEPLOYMENT = schemaOf('apps', 'Deployment');

const printed = (set: FieldSet): string[] => [...paths(set)].map(printPath);

t.test('the fields of an object, as its schema splits them up', async (t) => {
  t.same(
    toFieldsV1(fieldsOf(configMap({ a: '1' }, { labels: { app: 'x' } }), CONFIG_MAP)),
    {
      'f:apiVersion': {},
      'f:data': { 'f:a': {} },
      'f:kind': {},
      'f:metadata': { 'f:labels': { 'f:app': {} }, 'f:name': {}, 'f:namespace': {} },
    },
    'map keys are members, the maps are not',
  );
  const spec = {
    selector: { app: 'web' },
    clusterIPs: ['10.0.0.1'],
    ports: [{ port: 80 }, { port: 53, protocol: 'UDP', name: 'dns' }],
    sessionAffinityConfig: {},
    externalName: null,
  };
  t.same(
    printed(fieldsOf(service(spec), SERVICE)).filter((path) => path.startsWith('.spec')),
    [
      '.spec.clusterIPs',
      '.spec.externalName',
      '.spec.selector',
      '.spec.sessionAffinityConfig',
      '.spec.ports[port=53,protocol="UDP"]',
      '.spec.ports[port=80,protocol="TCP"]',
      '.spec.ports[port=53,protocol="UDP"].name',
      '.spec.ports[port=53,protocol="UDP"].port',
      '.spec.ports[port=53,protocol="UDP"].protocol',
      '.spec.ports[port=80,protocol="TCP"].port',
    ],
    'atomic maps and lists are one field, keys take their default, numbers are ordered by value, empty structs and nulls are fields',
  );
  const finalizers = fieldsOf(pod({}, { finalizers: ['b', 'a'], ownerReferences: [{ uid: 'u1', name: 'n' }] }), POD);
  t.same(printed(finalizers), [
    '.apiVersion',
    '.kind',
    '.spec',
    '.metadata.name',
    '.metadata.namespace',
    '.metadata.finalizers[="a"]',
    '.metadata.finalizers[="b"]',
    '.metadata.ownerReferences[uid="u1"]',
  ]);
});

t.test('fieldsV1 is written in one order and read in any', async (t) => {
  const written =
    '{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\\"name\\":\\"web\\"}":{".":{},"f:image":{}}}}}';
  t.equal(JSON.stringify(toFieldsV1(fromFieldsV1(JSON.parse(written)))), written);
  const other =
    '{"f:spec":{"f:containers":{"k:{ \\"name\\" : \\"web\\" }":{"f:image":{},".":{}}}},"f:metadata":{"f:labels":{"f:app":{},".":{}}}}';
  t.equal(JSON.stringify(toFieldsV1(fromFieldsV1(JSON.parse(other)))), written);
  const ports =
    '{"f:p":{"k:{\\"port\\":443,\\"protocol\\":\\"TCP\\"}":{},"k:{\\"protocol\\":\\"TCP\\",\\"port\\":80}":{},"v:10":{},"v:9":{},"i:10":{},"i:9":{},"f:z":{}}}';
  t.same(Object.keys(toFieldsV1(fromFieldsV1(JSON.parse(ports)))['f:p'] as object), [
    'f:z',
    'k:{"port":80,"protocol":"TCP"}',
    'k:{"port":443,"protocol":"TCP"}',
    'v:9',
    'v:10',
    'i:9',
    'i:10',
  ]);
  for (const bad of ['{"x:a":{}}', '{"f":{}}', '{"k:[1]":{}}', '{"v:{":{}}', '{"i:x":{}}', '{"f:a":1}', '[]', 'null']) {
    t.throws(() => fromFieldsV1(JSON.parse(bad)), { reason: 'BadRequest', message: /fieldsV1/ }, bad);
  }
});

t.test('set operations on parents and children', async (t) => {
  const parent = setOf(['f:a']);
  const child = setOf(['f:a', 'f:b']);
  const both = union(parent, child);
  t.same(printed(both), ['.a', '.a.b']);
  t.same(printed(difference(parent, child)), ['.a']);
  t.same(printed(difference(child, parent)), ['.a.b']);
  t.ok(isEmpty(recursiveDifference(child, parent)), 'a parent takes its children along');
  t.ok(isEmpty(intersection(parent, child)));
  t.same(printed(leaves(both)), ['.a.b']);
  t.ok(has(both, ['f:a', 'f:b']) && !has(child, ['f:a']) && !has(both, []));
  const named = ensureNamedFieldsAreMembers(
    setOf(
      ['f:spec', 'f:template', 'f:spec', 'f:containers', 'k:{"name":"x"}', 'f:image'],
      ['f:metadata', 'f:labels', 'f:app'],
    ),
    DEPLOYMENT,
  );
  t.same(
    printed(named),
    [
      '.metadata',
      '.spec',
      '.metadata.labels',
      '.metadata.labels.app',
      '.spec.template',
      '.spec.template.spec',
      '.spec.template.spec.containers',
      '.spec.template.spec.containers[name="x"].image',
    ],
    'declared fields become members, items of lists do not',
  );
});

const element = fc.oneof(
  fc.constantFrom('a', 'b', 'c', '__proto__').map((name) => `f:${name}`),
  fc.constantFrom('k:{"name":"x"}', 'v:1', 'v:"s"', 'i:0'),
);
const set = fc.array(fc.array(element, { minLength: 1, maxLength: 4 }), { maxLength: 8 }).map((all) => setOf(...all));

t.test('sets obey the laws of sets, and survive being written', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(set, set, (a, b) => {
        const asText = (s: FieldSet) => new Set(printed(s));
        assert.deepEqual(asText(union(a, b)), new Set([...asText(a), ...asText(b)]));
        assert.deepEqual(asText(intersection(a, b)), new Set([...asText(a)].filter((path) => asText(b).has(path))));
        assert.deepEqual(asText(difference(a, b)), new Set([...asText(a)].filter((path) => !asText(b).has(path))));
        assert.ok(equalSets(union(difference(a, b), intersection(a, b)), a));
        assert.ok(equalSets(union(a, EMPTY), a) && isEmpty(difference(a, a)));
        assert.ok(equalSets(fromFieldsV1(JSON.parse(JSON.stringify(toFieldsV1(a)))), a));
      }),
      { numRuns: 300 },
    ),
  );
});

t.test('what a change changed', async (t) => {
  const changes = (before: object, after: object, schema: Schema) => {
    const { changed, removed } = compareFields(frozen(before) as never, frozen(after) as never, schema);
    return { changed: printed(changed), removed: printed(removed) };
  };
  t.same(changes(configMap({ a: '1', b: '2' }), configMap({ a: '1', b: '3', c: '4' }), CONFIG_MAP), {
    changed: ['.data.b', '.data.c'],
    removed: [],
  });
  t.same(changes(configMap({ a: '1' }), configMap(undefined), CONFIG_MAP), {
    changed: [],
    removed: ['.data', '.data.a'],
  });
  t.same(changes(service({ selector: { a: 'b' } }), service({ selector: { a: 'c' } }), SERVICE), {
    changed: ['.spec.selector'],
    removed: [],
  });
  t.same(
    changes(
      service({ ports: [{ port: 80 }] }),
      service({ ports: [{ port: 80, protocol: 'TCP' }, { port: 81 }] }),
      SERVICE,
    ),
    {
      changed: [
        '.spec.ports[port=81,protocol="TCP"]',
        '.spec.ports[port=80,protocol="TCP"].protocol',
        '.spec.ports[port=81,protocol="TCP"].port',
      ],
      removed: [],
    },
  );
  t.same(
    changes(
      pod({ containers: [{ name: 'a' }, { name: 'b' }] }),
      pod({ containers: [{ name: 'b' }, { name: 'a' }] }),
      POD,
    ),
    { changed: [], removed: [] },
    'order in a keyed list is no field',
  );
  t.same(
    changes(
      deployment({}),
      deployment({ strategy: { rollingUpdate: { maxSurge: 1 } }, template: { spec: { nodeName: 'n' } } }),
      DEPLOYMENT,
    ).changed,
    ['.spec.strategy.rollingUpdate', '.spec.strategy.rollingUpdate.maxSurge', '.spec.template.spec.nodeName'],
    'structs that are always there in Kubernetes are nobody’s, others come with their fields',
  );
  const replaced = changes({ x: { y: { z: 1 } } }, { x: { y: [1] } }, { type: 'object' });
  t.same(replaced, { changed: ['.x.y'], removed: ['.x.y.z'] }, 'a field that changed its kind');
});

t.test('removing fields leaves what is emptied empty', async (t) => {
  const object = pod({ containers: [{ name: 'a', image: 'i' }, { name: 'b' }], securityContext: { runAsUser: 1 } });
  t.same(
    removeFields(
      object,
      setOf(['f:spec', 'f:securityContext', 'f:runAsUser'], ['f:spec', 'f:containers', 'k:{"name":"a"}', 'f:image']),
      POD,
    ),
    pod({ containers: [{ name: 'a' }, { name: 'b' }], securityContext: {} }),
  );
  t.same(
    removeFields(object, setOf(['f:spec', 'f:containers', 'k:{"name":"b"}']), POD),
    pod({ containers: [{ name: 'a', image: 'i' }], securityContext: { runAsUser: 1 } }),
  );
});
