/** Who is given which names, what is said of it, and how a definition ends: case by case, and for any order in which definitions come and go. */
import fc from 'fast-check';
import t from 'tap';
import { controller } from '../../../controllers/customresourcedefinitions/index.ts';
import {
  CLEANUP_FINALIZER,
  reconcile,
  type Definition,
} from '../../../controllers/customresourcedefinitions/reconcile.ts';
import { naming } from '../../../controllers/customresourcedefinitions/names.ts';
import { CUSTOM_RESOURCE_DEFINITIONS, type ApiObject } from '../../../sdk/index.ts';
import { Killed, SmallWorld } from '../small-world.ts';

const GROUP = 'example.com';
const now = '2030-01-01T00:00:10Z';

interface Names {
  readonly plural: string;
  readonly kind: string;
  readonly singular?: string;
  readonly listKind?: string;
  readonly shortNames?: string[];
}

const definition = (names: Names, metadata: object = {}, status: object = {}): Definition =>
  ({
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${names.plural}.${GROUP}`,
      uid: names.plural,
      creationTimestamp: now,
      generation: 1,
      ...metadata,
    },
    spec: {
      group: GROUP,
      scope: 'Namespaced',
      names: { singular: names.kind.toLowerCase(), listKind: `${names.kind}List`, ...names },
      versions: [{ name: 'v1', served: true, storage: true }],
    },
    status: { storedVersions: ['v1'], ...status },
  }) as unknown as Definition;

const told = (status: Record<string, unknown> | undefined): string[] =>
  ((status?.['conditions'] ?? []) as { type: string; status: string; reason: string }[]).map(
    ({ type, status: holds, reason }) => `${type}=${holds} ${reason}`,
  );

t.test('names', async (t) => {
  const first = definition({ plural: 'apples', kind: 'Apple', shortNames: ['ap'] });
  const plan = reconcile(first, { others: [], contents: [], now });
  t.strictSame(told(plan.status), ['NamesAccepted=True NoConflicts', 'Established=True InitialNamesAccepted']);
  const accepted = { ...first, status: plan.status } as Definition;
  t.strictSame(
    reconcile(accepted, { others: [], contents: [], now: '2031-01-01T00:00:00Z' }).status,
    plan.status,
    'said again, it is the same',
  );
  const cases: [names: Names, reason: string][] = [
    [{ plural: 'apple', kind: 'Other' }, 'PluralConflict'],
    [{ plural: 'pears', kind: 'Pear', singular: 'ap' }, 'SingularConflict'],
    [{ plural: 'pears', kind: 'Pear', shortNames: ['p', 'apples'] }, 'ShortNamesConflict'],
    [{ plural: 'pears', kind: 'AppleList', singular: 'pear' }, 'KindConflict'],
    [{ plural: 'pears', kind: 'Pear', listKind: 'Apple' }, 'ListKindConflict'],
  ];
  for (const [names, reason] of cases) {
    const { status } = reconcile(definition(names), { others: [accepted], contents: [], now });
    t.strictSame(told(status), [`NamesAccepted=False ${reason}`, 'Established=False NotAccepted']);
  }
  const served = definition(
    { plural: 'pears', kind: 'Pear' },
    {},
    {
      conditions: [{ type: 'Established', status: 'True', reason: 'InitialNamesAccepted' }],
      acceptedNames: { plural: 'pears', kind: 'Pear', shortNames: ['p'] },
    },
  );
  served.spec.names.shortNames = ['ap'];
  const kept = reconcile(served, { others: [accepted], contents: [], now }).status;
  t.strictSame(
    told(kept),
    ['Established=True InitialNamesAccepted', 'NamesAccepted=False ShortNamesConflict'],
    'what is served stays so',
  );
  t.strictSame((kept?.['acceptedNames'] as Names | undefined)?.shortNames, ['p'], 'under the names that it has');
  t.equal(
    naming(definition({ plural: 'plums', kind: 'Plum' }), [definition({ plural: 'prunes', kind: 'Plum' })]).conflict
      ?.reason,
    'SingularConflict',
    'who asked before goes before',
  );
});

t.test('the end', async (t) => {
  const leaving = (deletionTimestamp: string) =>
    definition(
      { plural: 'apples', kind: 'Apple' },
      { deletionTimestamp, finalizers: [CLEANUP_FINALIZER, 'test/other'] },
      { conditions: [{ type: 'Established', status: 'True' }] },
    );
  const key = { group: GROUP, resource: 'apples', namespace: 'default', name: 'a' };
  const content = (metadata: object = {}) => ({
    key,
    object: { apiVersion: `${GROUP}/v1`, kind: 'Apple', metadata: { name: 'a', uid: 'u', ...metadata } },
    resource: { group: GROUP, version: 'v1', resource: 'apples' },
  });
  const first = reconcile(leaving(now), { others: [], contents: [content()], now });
  t.match(first.actions, [{ verb: 'delete', name: 'a', namespace: 'default', uid: 'u' }]);
  t.match(told(first.status), [/^Established/, 'Terminating=True InstanceDeletionInProgress']);
  const held = reconcile(leaving(now), { others: [], contents: [content({ deletionTimestamp: now })], now });
  t.strictSame(held.actions, [], 'what is on its way is waited for');
  const empty = reconcile(leaving(now), { others: [], contents: [], now });
  t.strictSame(
    [empty.actions, empty.requeueAfterMs],
    [[], 2_000],
    'an API server that has not heard may still make one',
  );
  const done = reconcile(leaving('2030-01-01T00:00:08Z'), { others: [], contents: [], now });
  t.match(
    done.actions,
    [{ verb: 'patch', patch: { metadata: { finalizers: ['test/other'] } } }],
    'the finalizers of others stay',
  );
  t.strictSame(
    reconcile(definition({ plural: 'apples', kind: 'Apple' }, { deletionTimestamp: now, finalizers: ['test/other'] }), {
      others: [],
      contents: [],
      now,
    }),
    { actions: [] },
  );
});

t.test(
  'whoever comes and goes, whenever the controller dies: no name is given twice, and none is kept from who could have it',
  async (t) => {
    const NAMES: Names[] = [
      { plural: 'apples', kind: 'Fruit' },
      { plural: 'pears', kind: 'Fruit' },
      { plural: 'plums', kind: 'Plum', shortNames: ['fruit'] },
      { plural: 'figs', kind: 'Fig', shortNames: ['fi'] },
      { plural: 'dates', kind: 'Date', shortNames: ['fi'] },
    ];
    const step = fc.record({
      index: fc.nat(NAMES.length - 1),
      remove: fc.boolean(),
      kill: fc.boolean(),
      settle: fc.boolean(),
    });
    const proof = fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const world = new SmallWorld({ CustomResourceDefinition: CUSTOM_RESOURCE_DEFINITIONS });
        world.run(controller);
        const all = () => world.all('CustomResourceDefinition') as Definition[];
        for (const { index, remove, kill, settle } of steps) {
          const names = NAMES[index] as Names;
          const name = `${names.plural}.${GROUP}`;
          const standing = all().find(({ metadata }) => metadata.name === name);
          if (!standing && !remove)
            world.create(definition(names, { uid: `${name}-${world.sequence}`, finalizers: [] }) as ApiObject);
          else if (standing && remove) world.delete(standing);
          let doomed = kill;
          world.beforeWrite = () => {
            if (!doomed) return;
            doomed = false;
            throw new Killed();
          };
          world.deliver();
          if (settle) await world.settle();
        }
        world.deliver();
        await world.settle();
        const given = all().flatMap(({ status }) =>
          [status.acceptedNames?.kind, ...(status.acceptedNames?.shortNames ?? [])].filter(Boolean),
        );
        if (new Set(given).size !== given.length) throw new Error(`given twice: ${given.join(', ')}`);
        for (const one of all()) {
          const others = all().filter((other) => other !== one);
          const couldHave =
            naming(
              one,
              others.filter(({ status }) => status.acceptedNames !== undefined),
            ).conflict === undefined;
          const accepted = one.status.conditions?.find(({ type }) => type === 'NamesAccepted')?.status === 'True';
          if (couldHave !== accepted)
            throw new Error(`${one.metadata.name} ${accepted ? 'has' : 'could have'} its names`);
        }
      }),
      { numRuns: 60 },
    );
    await t.resolves(proof, 'in sixty histories');
  },
);
