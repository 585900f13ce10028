import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import type { ApiObject, Schema } from '../../../api-schemas/schema.ts';
import { applyPatch, type Apply, type Applied } from '../../../api-server/patch/apply.ts';
import { fieldsNamed, trackUpdate, type ManagedFieldsEntry } from '../../../api-server/patch/managed-fields.ts';
import { fromFieldsV1, paths, printPath } from '../../../api-server/patch/field-set.ts';
import { LAST_APPLIED } from '../../../api-server/patch/last-applied.ts';
import { mergeBySchema, mergedOrder } from '../../../api-server/patch/typed-merge.ts';
import { configMap, deployment, frozen, plain, schemaOf, service } from './kinds.ts';
import { runs } from '../../harness/runs.ts';

const DEPLOYMENT = schemaOf('apps', 'Deployment');
const CONFIG_MAP = schemaOf('', 'ConfigMap');
const SERVICE = schemaOf('', 'Service');
const T0 = '2030-01-01T00:00:00Z';
const T1 = '2030-01-01T00:00:01Z';

const stored = (object: ApiObject, managedFields: readonly ManagedFieldsEntry[]): ApiObject =>
  frozen({ ...object, metadata: { ...object.metadata, uid: 'u-1', managedFields: [...managedFields] } });

type Step = Partial<Apply> & Pick<Apply, 'config' | 'manager'>;

/** Applies, and answers the object as it would be stored; fails on conflicts. */
function applied(schema: Schema, live: ApiObject | undefined, step: Step): ApiObject {
  const result = applyPatch({ live, force: false, schema, time: T0, ...step });
  if (result.kind !== 'applied') throw new Error(result.message);
  return stored(result.object, result.managedFields);
}

function refused(schema: Schema, live: ApiObject | undefined, step: Step): Extract<Applied, { kind: 'conflicts' }> {
  const result = applyPatch({ live, force: false, schema, time: T1, ...step });
  if (result.kind !== 'conflicts') throw new Error('expected conflicts');
  return result;
}

/** An object that somebody created or updated without apply. */
const written = (schema: Schema, object: ApiObject, manager: string, before?: ApiObject): ApiObject =>
  stored(
    object,
    trackUpdate({
      before,
      after: stored(object, (before?.metadata.managedFields ?? []) as ManagedFieldsEntry[]),
      manager,
      schema,
      time: T0,
    }),
  );

const owners = (object: ApiObject) =>
  Object.fromEntries(
    (object.metadata.managedFields as ManagedFieldsEntry[]).map((entry) => [
      entry.manager,
      [...paths(fromFieldsV1(entry.fieldsV1))].map(printPath),
    ]),
  );

const bare = ({ metadata: { managedFields: _fields, uid: _uid, ...metadata }, ...object }: ApiObject) => ({
  ...object,
  metadata,
});

t.test('create by apply: the applier owns what it names', async (t) => {
  const config = configMap({ key: 'v' }, { labels: { team: 'a' } });
  const result = applyPatch({
    live: undefined,
    config,
    manager: 'ci',
    force: false,
    schema: CONFIG_MAP,
    time: '2030-01-01T00:00:00.5Z',
  });
  t.strictSame(result, {
    kind: 'applied',
    object: config,
    managedFields: [
      {
        manager: 'ci',
        operation: 'Apply',
        apiVersion: 'v1',
        time: T0,
        fieldsType: 'FieldsV1',
        fieldsV1: { 'f:data': { 'f:key': {} }, 'f:metadata': { 'f:labels': { 'f:team': {} } } },
      },
    ],
  });
});

t.test('the other manager’s field is a conflict, in Kubernetes’ words', async (t) => {
  const live = written(DEPLOYMENT, deployment({ replicas: 1, paused: false }), 'kubectl-client-side-apply');
  const one = refused(DEPLOYMENT, live, { config: deployment({ replicas: 2 }), manager: 'hpa' });
  t.equal(
    one.message,
    'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas',
  );
  t.strictSame(one.causes, [
    {
      reason: 'FieldManagerConflict',
      message: 'conflict with "kubectl-client-side-apply" using apps/v1',
      field: '.spec.replicas',
    },
  ]);

  const template = { spec: { containers: [{ name: 'web', image: 'shop:1' }] } };
  const both = applied(DEPLOYMENT, live, { config: deployment({ template }), manager: 'ci' });
  const several = refused(DEPLOYMENT, both, {
    config: deployment({
      replicas: 2,
      paused: true,
      template: { spec: { containers: [{ name: 'web', image: 'shop:2' }] } },
    }),
    manager: 'hpa',
  });
  t.equal(
    several.message,
    [
      'Apply failed with 3 conflicts: conflicts with "ci":',
      '- .spec.template.spec.containers[name="web"].image',
      'conflicts with "kubectl-client-side-apply" using apps/v1:',
      '- .spec.paused',
      '- .spec.replicas',
    ].join('\n'),
  );
});

t.test('an entry of a subresource says so in the conflict', async (t) => {
  const base = written(DEPLOYMENT, deployment({ replicas: 1 }), 'm');
  const scaled = stored(
    deployment({ replicas: 5 }),
    trackUpdate({
      before: base,
      after: stored(deployment({ replicas: 5 }), []),
      manager: 'hpa',
      subresource: 'scale',
      schema: DEPLOYMENT,
      time: T0,
    }),
  );
  t.match(
    refused(DEPLOYMENT, scaled, { config: deployment({ replicas: 2 }), manager: 'ci' }).message,
    'conflict with "hpa" with subresource "scale" using apps/v1: .spec.replicas',
  );
});

t.test('the same value is shared ownership; force takes the field', async (t) => {
  const live = written(CONFIG_MAP, configMap({ a: '1', b: '1' }), 'm');
  const shared = applied(CONFIG_MAP, live, { config: configMap({ a: '1' }), manager: 'ci' });
  t.same(owners(shared), { ci: ['.data.a'], m: ['.data', '.data.a', '.data.b'] });
  t.equal(
    refused(CONFIG_MAP, shared, { config: configMap({ a: '2' }), manager: 'ci' }).causes.length,
    1,
    'a shared field cannot be changed alone',
  );
  const forced = applied(CONFIG_MAP, shared, { config: configMap({ a: '2' }), manager: 'ci', force: true });
  t.same(owners(forced), { ci: ['.data.a'], m: ['.data', '.data.b'] });
  t.same(forced['data'], { a: '2', b: '1' });
});

t.test('handing a field over: the other applies it too, then the first lets go', async (t) => {
  let live = applied(DEPLOYMENT, undefined, { config: deployment({ replicas: 3, paused: true }), manager: 'team' });
  live = applied(DEPLOYMENT, live, { config: deployment({ replicas: 3 }), manager: 'autoscaler' });
  live = applied(DEPLOYMENT, live, { config: deployment({ paused: true }), manager: 'team' });
  t.same(live['spec'] as object, { replicas: 3, paused: true }, 'what another owns stays');
  live = applied(DEPLOYMENT, live, { config: deployment({ replicas: 9 }), manager: 'autoscaler' });
  t.same(owners(live), { autoscaler: ['.spec.replicas'], team: ['.spec.paused'] });
});

t.test('what is no longer applied goes, if nobody else owns it', async (t) => {
  const port = (containerPort: number) => ({ containerPort });
  const of = (containers: unknown[], labels: object = {}) =>
    deployment({ template: { metadata: { labels }, spec: { containers } } });
  let live = applied(DEPLOYMENT, undefined, {
    config: of(
      [
        { name: 'a', image: 'a:1', ports: [port(80), port(443)] },
        { name: 'b', image: 'b:1' },
      ],
      { x: '1', y: '1' },
    ),
    manager: 'm',
  });
  live = applied(DEPLOYMENT, live, {
    config: of([{ name: 'b', image: 'b:1', imagePullPolicy: 'Always' }]),
    manager: 'other',
  });
  live = applied(DEPLOYMENT, live, {
    config: of([{ name: 'a', image: 'a:1', ports: [port(443)] }], { x: '1' }),
    manager: 'm',
  });
  t.same(
    bare(live),
    of(
      [
        { name: 'a', image: 'a:1', ports: [port(443)] },
        { name: 'b', image: 'b:1', imagePullPolicy: 'Always' },
      ],
      { x: '1' },
    ),
  );
  live = applied(DEPLOYMENT, live, { config: deployment({}), manager: 'other' });
  t.same(
    bare(live),
    of([{ name: 'a', image: 'a:1', ports: [port(443)] }], { x: '1' }),
    'the item goes with its last owner',
  );
});

t.test('defaulted and foreign fields inside what stays are not removed', async (t) => {
  const first = applied(SERVICE, undefined, { config: service({ ports: [{ port: 80 }] }), manager: 'm' });
  const defaulted = stored(
    service({ ports: [{ port: 80, protocol: 'TCP', targetPort: 80 }], type: 'ClusterIP' }),
    first.metadata.managedFields as ManagedFieldsEntry[],
  );
  const again = applied(SERVICE, defaulted, { config: service({ ports: [{ port: 80, name: 'web' }] }), manager: 'm' });
  t.same(again['spec'], { ports: [{ port: 80, protocol: 'TCP', targetPort: 80, name: 'web' }], type: 'ClusterIP' });
  const moved = applied(SERVICE, again, { config: service({ ports: [{ port: 81 }] }), manager: 'm' });
  t.same(
    moved['spec'],
    { ports: [{ port: 81 }], type: 'ClusterIP' },
    'an item goes as a whole, with what defaulting put into it',
  );
});

t.test('an empty map that is applied again stays, with what defaulting put into it', async (t) => {
  const schema: Schema = {
    type: 'object',
    'x-kubernetes-preserve-unknown-fields': true,
    properties: {
      spec: {
        type: 'object',
        properties: {
          k: { type: 'string' },
          storage: { type: 'object', properties: { size: { type: 'string' } } },
        },
      },
    },
  };
  const config = { ...configMap({}), spec: { k: 'v', storage: {} } } as unknown as ApiObject;
  let live = applied(schema, undefined, { config, manager: 'm' });
  const defaulted = { k: 'v', storage: { size: '1Gi' } };
  for (let turn = 0; turn < 3; turn++) {
    live = stored({ ...live, spec: defaulted }, live.metadata.managedFields as ManagedFieldsEntry[]);
    live = applied(schema, live, { config, manager: 'm' });
    t.same(live['spec'], defaulted);
  }
  const filled = { ...config, spec: { k: 'v', storage: { size: '2Gi' } } };
  live = applied(schema, live, { config: filled, manager: 'm' });
  live = applied(schema, live, { config, manager: 'm' });
  t.same(live['spec'], { k: 'v', storage: {} }, 'what was applied into it goes');
});

t.test('lists: atomic ones are replaced, sets join, keyed ones merge', async (t) => {
  const live = written(
    DEPLOYMENT,
    deployment(
      { template: { spec: { containers: [{ name: 'a', args: ['x'] }], tolerations: [{ key: 'k' }] } } },
      { finalizers: ['f1'] },
    ),
    'm',
  );
  const next = applied(DEPLOYMENT, live, {
    config: deployment(
      { template: { spec: { containers: [{ name: 'z', args: ['y'] }], tolerations: [{ key: 'l' }] } } },
      { finalizers: ['f2', 'f1'] },
    ),
    manager: 'ci',
    force: true,
  });
  t.same(
    bare(next),
    deployment(
      {
        template: {
          spec: {
            containers: [
              { name: 'a', args: ['x'] },
              { name: 'z', args: ['y'] },
            ],
            tolerations: [{ key: 'l' }],
          },
        },
      },
      { finalizers: ['f2', 'f1'] },
    ),
  );
});

t.test('the order of merged lists', async (t) => {
  const cases: [live: string, config: string, merged: string][] = [
    ['abc', 'cb', 'acb'],
    ['abc', 'd', 'abcd'],
    ['abc', 'dc', 'abdc'],
    ['abc', 'bd', 'abcd'],
    ['', 'ba', 'ba'],
    ['ab', '', 'ab'],
    ['abcd', 'dxa', 'bcdxa'],
  ];
  for (const [live, config, merged] of cases)
    t.equal(mergedOrder([...live], [...config]).join(''), merged, `${live} + ${config}`);
});

t.test('applying the same again changes nothing, times included; a new value moves the time', async (t) => {
  const config = configMap({ a: '1' });
  const live = applied(CONFIG_MAP, undefined, { config, manager: 'm' });
  t.strictSame(applied(CONFIG_MAP, live, { config, manager: 'm', time: T1 }), live);
  const changed = applied(CONFIG_MAP, live, { config: configMap({ a: '2' }), manager: 'm', time: T1 });
  t.same(
    (changed.metadata.managedFields as ManagedFieldsEntry[]).map((entry) => entry.time),
    [T1],
  );
});

t.test('a null gives a field up to its default, and is a conflict where another owns it', async (t) => {
  const live = written(DEPLOYMENT, deployment({ replicas: 3 }), 'm');
  t.match(
    refused(DEPLOYMENT, live, { config: deployment({ replicas: null }), manager: 'ci' }).message,
    '.spec.replicas',
  );
  const next = applied(DEPLOYMENT, live, { config: deployment({ replicas: null }), manager: 'ci', force: true });
  t.same(next['spec'], {});
  t.same(owners(next), { ci: ['.spec.replicas'] });
});

t.test('an object that was never tracked belongs to whoever was there before the first apply', async (t) => {
  const live = stored(configMap({ a: '1' }), []);
  t.equal(
    refused(CONFIG_MAP, live, { config: configMap({ a: '2' }), manager: 'ci' }).message,
    'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a',
  );
});

t.test('fields that the endpoint resets are neither owned nor conflicts', async (t) => {
  const live = written(DEPLOYMENT, { ...deployment({}), status: { replicas: 1 } }, 'agent');
  const next = applied(DEPLOYMENT, live, {
    config: { ...deployment({ paused: true }), status: { replicas: 9 } },
    manager: 'ci',
    resetFields: fieldsNamed([['status']]),
  });
  t.same(owners(next), { ci: ['.spec.paused'], agent: ['.status.replicas'] });
});

t.test('what cannot be applied is refused before anything is merged', async (t) => {
  const cases: [config: ApiObject, message: RegExp | string][] = [
    [configMap({}, { managedFields: [] }), 'metadata.managedFields must be nil'],
    [
      configMap({ a: ['x'] }),
      'failed to create typed patch object (shop/settings; v1, Kind=ConfigMap): .data.a: expected string, got array',
    ],
    [
      configMap({ a: 1 }, { lables: {} }),
      /errors:\n {2}\.metadata\.lables: field not declared in schema \(did you mean "labels"\?\)\n {2}\.data\.a: expected string, got number/,
    ],
  ];
  for (const [config, message] of cases)
    t.throws(
      () => applied(CONFIG_MAP, undefined, { config, manager: 'm' }),
      { reason: 'BadRequest', message },
      String(message),
    );
  const dup = (ports: unknown[]) => () => applied(SERVICE, undefined, { config: service({ ports }), manager: 'm' });
  t.throws(dup([{ port: 80 }, { port: 80, protocol: 'TCP' }]), {
    message: /\.spec\.ports: duplicate entries for key \[port=80,protocol="TCP"\]/,
  });
  t.throws(dup([{ name: 'x' }]), { message: /\.spec\.ports: element 0: .*omits key field "port"/ });
});

t.test('from client-side to server-side apply: kubectl takes along what it had applied', async (t) => {
  const before = deployment({ replicas: 1 });
  const annotated = deployment(
    { replicas: 1, paused: true },
    { annotations: { [LAST_APPLIED]: `${JSON.stringify(before)}\n`, note: 'n' } },
  );
  const live = written(DEPLOYMENT, annotated, 'kubectl-client-side-apply');
  t.match(
    refused(DEPLOYMENT, live, { config: deployment({ replicas: 2 }), manager: 'another' }).message,
    '.spec.replicas',
  );
  t.match(
    refused(DEPLOYMENT, live, { config: deployment({ replicas: 2, paused: false }), manager: 'kubectl' }).message,
    'using apps/v1: .spec.paused',
    'only what was applied',
  );
  const next = applied(DEPLOYMENT, live, { config: deployment({ replicas: 2 }), manager: 'kubectl' });
  t.same(next['spec'], { replicas: 2, paused: true });
  t.same(
    JSON.parse(String(next.metadata.annotations?.[LAST_APPLIED])),
    deployment({ replicas: 2 }),
    'the annotation follows',
  );
  t.same(owners(next)['kubectl'], ['.spec.replicas']);
  // The other half is kubectl's own: it hands the entry over by a JSON patch, and the server takes managedFields as they come.
  const migrated = (live.metadata.managedFields as ManagedFieldsEntry[]).map((entry) => ({
    ...entry,
    manager: 'kubectl',
    operation: 'Apply' as const,
  }));
  const entries = trackUpdate({
    before: live,
    after: stored(annotated, migrated),
    manager: 'kubectl',
    schema: DEPLOYMENT,
    time: T1,
  });
  t.strictSame(entries, migrated);
});

const word = fc.constantFrom('a', 'b', 'c');
/** A configuration that names only items and keys of its own letters, so that two of different letters never meet. */
const configOf = (letters: string, least = 0) => {
  const own = fc.constantFrom(...letters);
  const container = fc.record(
    {
      name: own,
      image: word,
      env: fc.uniqueArray(fc.record({ name: own, value: word }), { selector: (item) => item.name, minLength: least }),
    },
    { requiredKeys: ['name'] },
  );
  return fc
    .record({
      labels: fc.dictionary(own, word, { minKeys: least }),
      finalizers: fc.uniqueArray(own, { minLength: least }),
      containers: fc.uniqueArray(container, { selector: (item) => item.name, minLength: least }),
    })
    .map(plain)
    .map(({ labels, finalizers, containers }) =>
      deployment({ template: { spec: { containers } } }, { labels, finalizers }),
    );
};
const base = configOf('abc');
const { spec: _spec, ...nothing } = deployment({});

/** Keyed lists in the order of their keys: the order in which appliers came is the one thing that may differ. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value))
    return value.map(canonical).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, canonical(item)]),
  );
}

t.test('laws of apply', async (t) => {
  const laws: [name: string, property: fc.IRawProperty<unknown>][] = [
    [
      'applied twice is applied once',
      fc.property(base, base, (before, config) => {
        const once = applied(DEPLOYMENT, written(DEPLOYMENT, before, 'm'), { config, manager: 'ci', force: true });
        assert.deepEqual(applied(DEPLOYMENT, once, { config, manager: 'ci', time: T1 }), once);
      }),
    ],
    [
      'the result has every value of the configuration',
      fc.property(base, base, (before, config) => {
        const merged = mergeBySchema(before, config, DEPLOYMENT);
        assert.deepEqual(mergeBySchema(merged, config, DEPLOYMENT), merged);
        assert.deepEqual(mergeBySchema(config, config, DEPLOYMENT), config);
      }),
    ],
    [
      'independent managers may come in any order',
      fc.property(configOf('ab'), configOf('yz'), (left, right) => {
        const inOrder = (...steps: Step[]) =>
          steps.reduce<ApiObject | undefined>((live, step) => applied(DEPLOYMENT, live, step), undefined);
        const [a, b] = [
          { config: left, manager: 'a' },
          { config: right, manager: 'b' },
        ];
        assert.deepEqual(canonical(inOrder(a, b)), canonical(inOrder(b, a)));
      }),
    ],
    [
      'a manager that applies and then applies nothing leaves no trace among the others',
      fc.property(configOf('ab', 1), configOf('yz', 1), (others, config) => {
        const live = applied(DEPLOYMENT, undefined, { config: others, manager: 'others' });
        const gone = applied(DEPLOYMENT, applied(DEPLOYMENT, live, { config, manager: 'guest' }), {
          config: nothing,
          manager: 'guest',
        });
        assert.deepEqual(canonical(bare(gone)), canonical(bare(live)));
        assert.deepEqual(owners(gone), owners(live));
      }),
    ],
  ];
  for (const [name, property] of laws) t.doesNotThrow(() => fc.assert(property, { numRuns: runs(200) }), name);
});
