import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import type { Schema } from '../../../api-schemas/schema.ts';
import { fieldSchema } from '../../../api-server/patch/field-set.ts';
import { equalJson, isObject, type JsonObject } from '../../../api-server/patch/json.ts';
import { strategicMergePatch } from '../../../api-server/patch/strategic-merge.ts';
import { frozen, plain, schemaOf } from './kinds.ts';
import { runs } from '../../harness/runs.ts';

const DEPLOYMENT = schemaOf('apps', 'Deployment');
const POD = schemaOf('', 'Pod');
const SERVICE = schemaOf('', 'Service');

t.test('what the patch of a Pod spec does', async (t) => {
  const web = {
    name: 'web',
    image: 'shop:1',
    args: ['-v'],
    env: [
      { name: 'A', value: '1' },
      { name: 'B', value: '2' },
    ],
  };
  const log = { name: 'log', image: 'log:1' };
  const spec = {
    containers: [web, log],
    volumes: [{ name: 'data', emptyDir: {} }],
    tolerations: [{ key: 'x' }],
    nodeSelector: { disk: 'ssd' },
  };
  const cases: [name: string, patch: JsonObject, expected: JsonObject][] = [
    [
      'items merge by name and the others stay',
      { containers: [{ name: 'log', image: 'log:2' }] },
      { ...spec, containers: [web, { ...log, image: 'log:2' }] },
    ],
    [
      'a new item goes in front, as Kubernetes has it',
      { containers: [{ name: 'new', image: 'n' }] },
      { ...spec, containers: [{ name: 'new', image: 'n' }, web, log] },
    ],
    [
      'an item is deleted by its key',
      { containers: [{ name: 'web', $patch: 'delete' }] },
      { ...spec, containers: [log] },
    ],
    ['deleting an item that is not there does nothing', { containers: [{ name: 'x', $patch: 'delete' }] }, spec],
    [
      'the list is replaced',
      { containers: [{ $patch: 'replace' }, { name: 'one', image: 'o' }] },
      { ...spec, containers: [{ name: 'one', image: 'o' }] },
    ],
    [
      'a nested keyed list merges too',
      { containers: [{ name: 'web', env: [{ name: 'B', value: '3' }] }] },
      {
        ...spec,
        containers: [
          {
            ...web,
            env: [
              { name: 'A', value: '1' },
              { name: 'B', value: '3' },
            ],
          },
          log,
        ],
      },
    ],
    [
      'lists without a strategy are replaced',
      { tolerations: [{ key: 'y' }] },
      { ...spec, tolerations: [{ key: 'y' }] },
    ],
    [
      'lists of scalars without a strategy are replaced',
      { containers: [{ name: 'web', args: ['-q'] }] },
      { ...spec, containers: [{ ...web, args: ['-q'] }, log] },
    ],
    [
      'null removes a field',
      { nodeSelector: null },
      { containers: spec.containers, volumes: spec.volumes, tolerations: spec.tolerations },
    ],
    ['null removes a map key', { nodeSelector: { disk: null, zone: 'a' } }, { ...spec, nodeSelector: { zone: 'a' } }],
    [
      '$patch replace on a map',
      { nodeSelector: { $patch: 'replace', zone: 'a' } },
      { ...spec, nodeSelector: { zone: 'a' } },
    ],
    ['$patch delete on a map empties it', { nodeSelector: { $patch: 'delete' } }, { ...spec, nodeSelector: {} }],
    [
      '$patch merge is what happens anyway',
      { nodeSelector: { $patch: 'merge', zone: 'a' } },
      { ...spec, nodeSelector: { disk: 'ssd', zone: 'a' } },
    ],
    [
      '$setElementOrder alone reorders',
      { '$setElementOrder/containers': [{ name: 'log' }, { name: 'web' }] },
      { ...spec, containers: [log, web] },
    ],
    [
      '$setElementOrder puts a new item in front',
      {
        '$setElementOrder/containers': [{ name: 'new' }, { name: 'web' }, { name: 'log' }],
        containers: [{ name: 'new', image: 'n' }],
      },
      { ...spec, containers: [{ name: 'new', image: 'n' }, web, log] },
    ],
    [
      'items that the order does not name keep their place before those that followed them',
      { '$setElementOrder/containers': [{ name: 'log' }, { name: 'new' }], containers: [{ name: 'new', image: 'n' }] },
      { ...spec, containers: [web, log, { name: 'new', image: 'n' }] },
    ],
    [
      '$retainKeys clears what it does not name',
      { volumes: [{ name: 'data', $retainKeys: ['name', 'hostPath'], hostPath: { path: '/d' } }] },
      { ...spec, volumes: [{ name: 'data', hostPath: { path: '/d' } }] },
    ],
    [
      'nulls and directives in what is new are dropped',
      { securityContext: { runAsUser: 1, fsGroup: null, seLinuxOptions: { $patch: 'delete' } } },
      { ...spec, securityContext: { runAsUser: 1 } },
    ],
    ['unknown maps merge, unknown lists are replaced', { mystery: { a: [1] } }, { ...spec, mystery: { a: [1] } }],
  ];
  for (const [name, patch, expected] of cases) {
    t.same(strategicMergePatch(frozen({ spec }), frozen({ spec: patch }), POD), { spec: expected }, name);
  }
});

t.test('lists of scalars that merge are sets', async (t) => {
  const current = frozen({ metadata: { finalizers: ['a', 'b', 'c'] } });
  const patched = (metadata: JsonObject) =>
    (strategicMergePatch(current, frozen({ metadata }), POD)['metadata'] as JsonObject)['finalizers'];
  t.same(patched({ finalizers: ['c', 'd'] }), ['a', 'b', 'c', 'd']);
  t.same(patched({ '$deleteFromPrimitiveList/finalizers': ['b', 'x'] }), ['a', 'c']);
  t.same(
    patched({
      '$deleteFromPrimitiveList/finalizers': ['a'],
      '$setElementOrder/finalizers': ['d', 'b', 'c'],
      finalizers: ['d'],
    }),
    ['d', 'b', 'c'],
  );
});

t.test('the merge key of Service ports is the port alone, of any type of scalar', async (t) => {
  const current = frozen({
    spec: {
      ports: [
        { name: 'http', port: 80 },
        { name: 'dns', port: 53 },
      ],
    },
  });
  const patch = frozen({ spec: { ports: [{ port: 53, targetPort: 5353 }] } });
  t.same(strategicMergePatch(current, patch, SERVICE), {
    spec: {
      ports: [
        { name: 'http', port: 80 },
        { name: 'dns', port: 53, targetPort: 5353 },
      ],
    },
  });
});

t.test('a Deployment changes its strategy as kubectl sends it', async (t) => {
  const current = frozen({ spec: { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } } } });
  t.same(
    strategicMergePatch(
      current,
      frozen({ spec: { strategy: { $retainKeys: ['type'], type: 'Recreate' } } }),
      DEPLOYMENT,
    ),
    {
      spec: { strategy: { type: 'Recreate' } },
    },
  );
});

t.test('patches that contradict themselves are refused by path', async (t) => {
  const current = frozen({ spec: { containers: [{ name: 'web' }, { name: 'log' }] } });
  const cases: [patch: JsonObject, message: RegExp][] = [
    [
      { spec: { containers: [{ image: 'x' }] } },
      /\.spec\.containers\[0\]: the item does not contain the declared merge key: name/,
    ],
    [{ spec: { containers: [{ $patch: 'delete' }] } }, /\.spec\.containers\[0\]: .*merge key: name/],
    [{ spec: { containers: [{ name: { odd: 1 } }] } }, /\.spec\.containers\[0\]\.name: must be a scalar, got object/],
    [{ spec: { containers: ['web'] } }, /\.spec\.containers\[0\]: .*expected an object, got string/],
    [
      { spec: { containers: [{ name: 'web', $patch: 'merge' }] } },
      /\.spec\.containers\[0\]\.\$patch: merging lists cannot yet/,
    ],
    [{ spec: { $patch: 'destroy' } }, /\.spec\.\$patch: must be "delete", "replace" or "merge", got "destroy"/],
    [
      { spec: { $retainKeys: ['a'], b: 1 } },
      /\.spec\.\$retainKeys: must name every field that the patch sets, and leaves out "b"/,
    ],
    [{ spec: { $retainKeys: 'a' } }, /\.spec\.\$retainKeys: must be a list of field names/],
    [{ spec: { '$setElementOrder/containers': {} } }, /must be a list, got object/],
    [
      { spec: { '$setElementOrder/containers': [{ name: 'web' }], containers: [{ name: 'new' }] } },
      /\.spec\.containers: the order in patch list doesn't match/,
    ],
  ];
  for (const [patch, message] of cases) {
    t.throws(
      () => strategicMergePatch(current, frozen(patch), POD),
      { reason: 'BadRequest', message },
      String(message),
    );
  }
});

/** The strategic merge patch that turns one object into another, written as kubectl's apply would send it. */
function diff(from: JsonObject, to: JsonObject, schema: Schema | undefined, retainKeys = false): JsonObject {
  const patch: Record<string, unknown> = {};
  for (const key of Object.keys(from)) if (!(key in to)) patch[key] = null;
  for (const [key, value] of Object.entries(to)) {
    const before = from[key];
    const child = fieldSchema(schema, key);
    const strategies = child?.['x-kubernetes-patch-strategy']?.split(',') ?? [];
    if (equalJson(before, value)) continue;
    if (isObject(before) && isObject(value)) patch[key] = diff(before, value, child, strategies.includes('retainKeys'));
    else if (Array.isArray(before) && Array.isArray(value) && strategies.includes('merge'))
      Object.assign(patch, diffLists(key, before, value, child, strategies));
    else patch[key] = value;
  }
  if (retainKeys && Object.keys(patch).length > 0) patch['$retainKeys'] = Object.keys(to);
  return patch;
}

function diffLists(
  key: string,
  from: unknown[],
  to: unknown[],
  list: Schema | undefined,
  strategies: string[],
): JsonObject {
  const mergeKey = list?.['x-kubernetes-patch-merge-key'];
  if (mergeKey === undefined) {
    return {
      [key]: to.filter((item) => !from.includes(item)),
      [`$deleteFromPrimitiveList/${key}`]: from.filter((item) => !to.includes(item)),
      [`$setElementOrder/${key}`]: to,
    };
  }
  const [before, after] = [from as JsonObject[], to as JsonObject[]];
  const find = (items: JsonObject[], item: JsonObject) => items.find((other) => other[mergeKey] === item[mergeKey]);
  const changes = after.flatMap((item) => {
    const old = find(before, item);
    if (old === undefined) return [item];
    const change = diff(old, item, list?.items, strategies.includes('retainKeys'));
    return Object.keys(change).length > 0 ? [{ ...change, [mergeKey]: item[mergeKey] }] : [];
  });
  const deletions = before
    .filter((item) => !find(after, item))
    .map((item) => ({ $patch: 'delete', [mergeKey]: item[mergeKey] }));
  return {
    [key]: [...changes, ...deletions],
    [`$setElementOrder/${key}`]: after.map((item) => ({ [mergeKey]: item[mergeKey] })),
  };
}

const word = fc.constantFrom('a', 'b', 'c', 'd');
const keyed = (key: string, fields: Record<string, fc.Arbitrary<unknown>>) =>
  fc.uniqueArray(fc.record({ [key]: word, ...fields }, { requiredKeys: [key] }), {
    selector: (item) => item[key],
    maxLength: 4,
  });
const podSpec = fc.record(
  {
    containers: keyed('name', {
      image: word,
      args: fc.array(word, { maxLength: 2 }),
      env: keyed('name', { value: word }),
      volumeMounts: keyed('mountPath', { name: word }),
    }),
    volumes: keyed('name', {
      emptyDir: fc.constant({}),
      hostPath: fc.record({ path: word }),
      configMap: fc.record({ name: word }),
    }),
    tolerations: fc.array(fc.record({ key: word }), { maxLength: 2 }),
    nodeSelector: fc.dictionary(word, word, { maxKeys: 3 }),
    securityContext: fc.record(
      { runAsUser: fc.nat(3), supplementalGroups: fc.array(fc.nat(3), { maxLength: 2 }) },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: [] },
);
const podObject = fc.record({
  metadata: fc.record({ labels: fc.dictionary(word, word), finalizers: fc.uniqueArray(word) }, { requiredKeys: [] }),
  spec: podSpec,
});

t.test('a patch made from the difference of two Pods turns one into the other', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(podObject.map(plain), podObject.map(plain), (from, to) => {
        assert.deepEqual(strategicMergePatch(frozen(from), frozen(diff(from, to, POD)), POD), to);
      }),
      { numRuns: runs(500) },
    ),
  );
});
