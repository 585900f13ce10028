import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import type { ApiObject, Schema } from '../../../api-schemas/schema.ts';
import {
  difference,
  fromFieldsV1,
  has,
  leaves,
  paths,
  printPath,
  type FieldSet,
} from '../../../api-server/patch/field-set.ts';
import { fieldsOf } from '../../../api-server/patch/field-walk.ts';
import {
  fieldsNamed,
  managerName,
  NEVER_MANAGED,
  sameButForTimes,
  trackUpdate,
  type ManagedFieldsEntry,
  type Update,
} from '../../../api-server/patch/managed-fields.ts';
import { configMap, deployment, frozen, schemaOf } from './kinds.ts';
import { runs } from '../../harness/runs.ts';

const CONFIG_MAP = schemaOf('', 'ConfigMap');
const DEPLOYMENT = schemaOf('apps', 'Deployment');
const at = (second: number) => new Date(Date.UTC(2030, 0, 1, 0, 0, second, 250)).toISOString();

/** The object as it would be stored: with its entries, and an identity. */
function stored(object: ApiObject, managedFields: readonly ManagedFieldsEntry[]): ApiObject {
  return frozen({ ...object, metadata: { ...object.metadata, uid: 'u-1', managedFields: [...managedFields] } });
}

const track = (update: Partial<Update> & Pick<Update, 'after' | 'manager'>) =>
  trackUpdate({ before: undefined, schema: CONFIG_MAP, time: at(0), ...update });

const owners = (entries: readonly ManagedFieldsEntry[]) =>
  Object.fromEntries(entries.map((entry) => [entry.manager, [...paths(fromFieldsV1(entry.fieldsV1))].map(printPath)]));

t.test('a create owns what it brings, defaults included, but never what the server gives', async (t) => {
  const after = configMap(
    { a: '1' },
    { labels: { app: 'x' }, uid: 'u', creationTimestamp: at(0), generation: 1, resourceVersion: '4' },
  );
  t.strictSame(track({ after, manager: 'kubectl-create', time: at(7) }), [
    {
      manager: 'kubectl-create',
      operation: 'Update',
      apiVersion: 'v1',
      time: '2030-01-01T00:00:07Z',
      fieldsType: 'FieldsV1',
      fieldsV1: { 'f:data': { '.': {}, 'f:a': {} }, 'f:metadata': { 'f:labels': { '.': {}, 'f:app': {} } } },
    },
  ]);
});

t.test('who changes a field takes it, who removes one leaves it to nobody', async (t) => {
  const first = configMap({ a: '1', b: '1', c: '1' });
  const before = stored(first, track({ after: first, manager: 'one' }));
  const after = stored(configMap({ a: '1', b: '2', d: '1' }), before.metadata.managedFields as ManagedFieldsEntry[]);
  const entries = track({ before, after, manager: 'two', time: at(5) });
  t.same(owners(entries), { one: ['.data', '.data.a'], two: ['.data.b', '.data.d'] });
  t.same(
    entries.map((entry) => entry.time),
    ['2030-01-01T00:00:00Z', '2030-01-01T00:00:05Z'],
    'losing fields does not move the time',
  );
  const gone = track({
    before: stored(after, entries),
    after: stored(configMap({ b: '3' }), entries),
    manager: 'two',
    time: at(9),
  });
  t.same(owners(gone), { one: ['.data'], two: ['.data.b'] });
  t.equal(gone[1]?.time, '2030-01-01T00:00:09Z', 'a new value moves the time, though the same fields are owned');
});

t.test('a write that changes nothing moves nothing; managers that own nothing are dropped', async (t) => {
  const first = configMap({ a: '1' });
  const entries = track({ after: first, manager: 'one' });
  const before = stored(first, entries);
  t.strictSame(track({ before, after: before, manager: 'two', time: at(9) }), entries);
  const taken = track({ before, after: stored(configMap({ a: '2' }), entries), manager: 'two' });
  t.same(owners(taken), { one: ['.data'], two: ['.data.a'] });
  t.same(
    track({
      before: stored(configMap({ a: '2' }), taken),
      after: stored(configMap(undefined), taken),
      manager: 'three',
    }),
    [],
  );
});

t.test('subresources are managers of their own, and cannot set managedFields', async (t) => {
  const first = deployment({ replicas: 1 });
  const before = stored(first, track({ after: first, manager: 'm', schema: DEPLOYMENT }));
  const after = { ...stored(first, []), status: { replicas: 1 } };
  const entries = track({ before, after, manager: 'm', schema: DEPLOYMENT, subresource: 'status' });
  t.same(
    entries.map(({ subresource, fieldsV1 }) => ({ subresource, fieldsV1 })),
    [
      { subresource: undefined, fieldsV1: { 'f:spec': { 'f:replicas': {} } } },
      { subresource: 'status', fieldsV1: { 'f:status': { 'f:replicas': {} } } },
    ],
  );
});

t.test('fields that the endpoint resets are not owned through it', async (t) => {
  const after = { ...deployment({ replicas: 1 }), status: { replicas: 3 } };
  t.same(owners(track({ after, manager: 'm', schema: DEPLOYMENT, resetFields: fieldsNamed([['status']]) })), {
    m: ['.spec.replicas'],
  });
});

t.test(
  'managedFields in a request: [] and [{}] clear them, garbage and nothing are ignored, the rest is taken',
  async (t) => {
    const first = configMap({ a: '1' });
    const entries = track({ after: first, manager: 'one' });
    const before = stored(first, entries);
    const request = (managedFields: unknown) => ({
      ...first,
      metadata: { ...first.metadata, uid: 'u-1', managedFields: managedFields as unknown[] },
    });
    t.same(track({ before, after: request([]), manager: 'm' }), []);
    t.same(track({ before, after: request([{}]), manager: 'm' }), []);
    t.strictSame(track({ before, after: request([{ manager: 'x' }]), manager: 'm' }), entries);
    t.strictSame(track({ before, after: request(undefined), manager: 'm' }), entries);
    t.same(owners(track({ before, after: request([{ ...entries[0], manager: 'renamed' }]), manager: 'm' })), {
      renamed: ['.data', '.data.a'],
    });
    const untracked = { ...first, metadata: { ...first.metadata, uid: 'u-1' } };
    t.same(
      track({ before: untracked, after: configMap({ a: '2' }, { uid: 'u-1' }), manager: 'm' }),
      [],
      'once cleared, updates do not start the account anew',
    );
  },
);

t.test('entries that a request brings are stored in the one canonical form', async (t) => {
  const first = configMap({ a: '1' }, { labels: { x: '1' } });
  const entries = track({ after: first, manager: 'one' });
  const { 'f:data': data, 'f:metadata': metadata } = (entries[0] as ManagedFieldsEntry).fieldsV1;
  const shuffled = [{ ...entries[0], fieldsV1: { 'f:metadata': metadata, 'f:data': data } }];
  const after = { ...first, metadata: { ...first.metadata, managedFields: shuffled } };
  t.equal(JSON.stringify(track({ before: stored(first, entries), after, manager: 'm' })), JSON.stringify(entries));
});

t.test('custom resources own what they bring: their spec is not there of itself', async (t) => {
  const schema: Schema = {
    type: 'object',
    properties: {
      metadata: { type: 'object' },
      spec: {
        type: 'object',
        properties: { size: { type: 'integer' }, tags: { type: 'array', items: { type: 'string' } } },
      },
    },
  };
  const after: ApiObject = {
    apiVersion: 'x.io/v1',
    kind: 'X',
    metadata: { name: 'n' },
    spec: { size: 1, tags: ['a'] },
  };
  t.same(owners(track({ after, manager: 'm', schema })), { m: ['.spec', '.spec.size', '.spec.tags'] });
});

t.test('no more than ten updaters: the oldest become ancient changes', async (t) => {
  let object = configMap({});
  let entries: ManagedFieldsEntry[] = [];
  for (let i = 0; i < 14; i++) {
    const after = stored(configMap({ ...(object['data'] as object), [`k${i}`]: 'v' }), entries);
    entries = track({
      before: i === 0 ? undefined : object,
      after,
      manager: `m${String(i).padStart(2, '0')}`,
      time: at(i),
    });
    object = stored(after, entries);
  }
  t.equal(entries.length, 10);
  t.same(owners(entries)['ancient-changes'], ['.data', '.data.k0', '.data.k1', '.data.k2', '.data.k3', '.data.k4']);
  t.same(
    Object.values(owners(entries))
      .flat()
      .filter((path) => path.startsWith('.data.')).length,
    14,
    'no field lost its owner',
  );
  t.same(
    entries.map((entry) => entry.manager),
    ['ancient-changes', 'm05', 'm06', 'm07', 'm08', 'm09', 'm10', 'm11', 'm12', 'm13'],
  );
});

t.test('names of managers', async (t) => {
  t.equal(managerName('mine', 'kubectl/v1.32'), 'mine');
  t.equal(managerName(undefined, 'kubectl/v1.32 (linux)'), 'kubectl');
  t.equal(managerName('', undefined), 'unknown');
  t.equal(managerName(undefined, 'x'.repeat(300)).length, 128);
});

t.test('entries that differ in times alone are the same', async (t) => {
  const entries = track({ after: configMap({ a: '1' }), manager: 'one' });
  t.ok(
    sameButForTimes(
      entries,
      entries.map((entry) => ({ ...entry, time: at(59) })),
    ),
  );
  t.notOk(sameButForTimes(entries, track({ after: configMap({ b: '1' }), manager: 'one' })));
});

const word = fc.constantFrom('a', 'b', 'c');
const spec = fc.record(
  {
    replicas: fc.nat(2),
    paused: fc.boolean(),
    selector: fc.record({ matchLabels: fc.dictionary(word, word, { minKeys: 1 }) }),
    template: fc.record({
      spec: fc.record({
        containers: fc.uniqueArray(
          fc.record({
            name: word,
            image: word,
            env: fc.uniqueArray(fc.record({ name: word, value: word }), {
              selector: (item) => item.name,
              minLength: 1,
            }),
          }),
          {
            selector: (item) => item.name,
            minLength: 1,
          },
        ),
      }),
    }),
  },
  { requiredKeys: [] },
);
/** Whether there is anything at a path: a field, or a struct or list with fields in it. */
const leadsSomewhere = (present: FieldSet, path: readonly string[]): boolean =>
  path.reduce<FieldSet | undefined>((set, element) => set?.children.get(element), present) !== undefined;

const write = fc.record({ manager: fc.constantFrom('x', 'y', 'z'), spec, labels: fc.dictionary(word, word) });

t.test('after any writes every value has exactly one owner, and nothing that is gone has one', async (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(write, { minLength: 1, maxLength: 6 }), (writes) => {
        let live: ApiObject | undefined;
        for (const [index, { manager, spec, labels }] of writes.entries()) {
          const after = stored(
            deployment(spec, { labels }),
            (live?.metadata.managedFields ?? []) as ManagedFieldsEntry[],
          );
          const entries = track({ before: live, after, manager, time: at(index), schema: DEPLOYMENT });
          live = stored(after, entries);
          const present = fieldsOf(deployment(spec, { labels }), DEPLOYMENT);
          const sets = entries.map((entry) => fromFieldsV1(entry.fieldsV1));
          for (const path of paths(leaves(difference(present, NEVER_MANAGED)))) {
            // An empty spec is what Kubernetes has there anyway: nobody's.
            if (printPath(path) === '.spec') continue;
            assert.equal(sets.filter((set) => has(set, path)).length, 1, printPath(path));
          }
          const gone = sets.flatMap((set) => [...paths(set)]).filter((path) => !leadsSomewhere(present, path));
          assert.deepEqual(gone.map(printPath), []);
        }
      }),
      { numRuns: runs(100) },
    ),
  );
});
