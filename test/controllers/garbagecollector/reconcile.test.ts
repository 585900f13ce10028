/** Who goes when an owner goes, and in which order; and that whatever is owned by whom, nothing with a living owner goes, and nothing without one stays. */
import fc from 'fast-check';
import t from 'tap';
import { makeController } from '../../../controllers/garbagecollector/index.ts';
import type { ApiObject, OwnerReference } from '../../../sdk/index.ts';
import { Killed, SmallWorld } from '../small-world.ts';

const KINDS = {
  ConfigMap: { group: '', version: 'v1', resource: 'configmaps' },
  Node: { group: '', version: 'v1', resource: 'nodes' },
};
const collector = () => makeController((_apiVersion, kind) => kind === 'ConfigMap');

const objectOf = (name: string, owners: readonly string[] = [], extra: object = {}): ApiObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: {
    name,
    namespace: 'shop',
    uid: name,
    ...(owners.length > 0 && { ownerReferences: owners.map((owner) => reference(owner)) }),
    ...extra,
  },
});
const reference = (owner: string, extra: object = {}): OwnerReference => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  name: owner,
  uid: owner,
  blockOwnerDeletion: true,
  ...extra,
});

async function worldOf(...objects: ApiObject[]): Promise<SmallWorld> {
  const world = new SmallWorld(KINDS);
  for (const object of objects) world.create(object);
  world.deliver();
  world.run(collector());
  await world.settle();
  return world;
}
const names = (world: SmallWorld) =>
  [...world.all('ConfigMap'), ...world.all('Node')].map(({ metadata }) => metadata.name).sort();

t.test('who goes', async (t) => {
  const cases: [string, ApiObject[], [string, string?], string[]][] = [
    [
      'background: first the owner, then what it owned',
      [objectOf('a'), objectOf('b', ['a']), objectOf('c', ['b'])],
      ['a'],
      [],
    ],
    [
      'foreground: the owner last',
      [objectOf('a'), objectOf('b', ['a']), objectOf('c', ['b'])],
      ['a', 'Foreground'],
      [],
    ],
    [
      'orphan: the dependents stay',
      [objectOf('a'), objectOf('b', ['a']), objectOf('c', ['b'])],
      ['a', 'Orphan'],
      ['b', 'c'],
    ],
    ['another owner keeps it', [objectOf('a'), objectOf('z'), objectOf('b', ['a', 'z'])], ['a'], ['b', 'z']],
    ['a ring of owners', [objectOf('a', ['b']), objectOf('b', ['a'])], ['a', 'Foreground'], []],
    ['an object that owns itself', [objectOf('a', ['a'])], ['a', 'Foreground'], []],
  ];
  for (const [what, objects, [name, propagationPolicy], left] of cases) {
    const world = await worldOf(...objects);
    world.delete(objectOf(name), propagationPolicy ? { propagationPolicy } : {});
    await world.settle();
    t.strictSame(names(world), left, what);
    t.ok(
      world.all('ConfigMap').every(({ metadata }) => !metadata.ownerReferences?.some(({ uid }) => uid === name)),
      `${what}: no reference is left`,
    );
  }
});

t.test('foreground: the owner waits for those that block it, and for no others', async (t) => {
  const held = { finalizers: ['test/held'] };
  const loose = { ...objectOf('loose', ['a'], held) };
  loose.metadata.ownerReferences = [reference('a', { blockOwnerDeletion: false })];
  const world = await worldOf(objectOf('a'), objectOf('b', ['a'], held), loose);
  world.delete(objectOf('a'), { propagationPolicy: 'Foreground' });
  await world.settle();
  t.strictSame(names(world), ['a', 'b', 'loose']);
  t.ok(
    world.all('ConfigMap').every(({ metadata }) => metadata.deletionTimestamp),
    'all are on their way',
  );
  world.edit(objectOf('b'), ({ metadata }) => void delete metadata.finalizers);
  await world.settle();
  t.strictSame(names(world), ['loose'], 'the owner does not wait for the loose one');
});

t.test('orphaning more dependents than one plan holds', async (t) => {
  const world = await worldOf(
    objectOf('a'),
    ...Array.from({ length: 450 }, (_, index) => objectOf(`d${index}`, ['a'])),
  );
  world.delete(objectOf('a'), { propagationPolicy: 'Orphan' });
  await world.settle({ maxSteps: 20_000 });
  t.equal(names(world).length, 450);
  t.ok(world.all('ConfigMap').every(({ metadata }) => !metadata.ownerReferences));
});

t.test('references that cannot be what they say', async (t) => {
  const node: ApiObject = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n', uid: 'n', ownerReferences: [reference('gone')] },
  };
  const stranger = objectOf('stranger', ['a'], { namespace: 'elsewhere' });
  const misnamed = objectOf('misnamed');
  misnamed.metadata.ownerReferences = [reference('a', { name: 'other' })];
  const leased = objectOf('leased');
  leased.metadata.ownerReferences = [reference('l', { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' })];
  const ofNode = objectOf('of-node');
  ofNode.metadata.ownerReferences = [reference('n', { kind: 'Node' })];
  const world = await worldOf(objectOf('a'), node, stranger, misnamed, leased, ofNode);
  t.strictSame(
    names(world),
    ['a', 'leased', 'n', 'of-node'],
    'an owner in another namespace or of another name is none; one that cannot be judged is taken to stand',
  );
});

t.test('somebody takes it over at the last moment', async (t) => {
  const world = await worldOf(objectOf('a'), objectOf('new'), objectOf('b', ['a']));
  world.delete(objectOf('a'));
  world.deliver();
  world.beforeWrite = () => {
    world.beforeWrite = () => undefined;
    world.edit(objectOf('b'), ({ metadata }) => void (metadata.ownerReferences = [reference('new')]));
  };
  await world.settle();
  t.strictSame(names(world), ['b', 'new']);
});

t.test('whatever owns whatever, in whatever order, whenever the collector dies', async () => {
  const size = 8;
  type Edge = [dependent: number, owner: number, blocks: boolean];
  type Deletion = [which: number, policy: 'Background' | 'Foreground' | 'Orphan'];
  const edges = fc.array(fc.tuple(fc.nat(size - 1), fc.nat(size - 1), fc.boolean()), { maxLength: 14 });
  const deletions = fc.array(
    fc.tuple(fc.nat(size - 1), fc.constantFrom<Deletion[1]>('Background', 'Foreground', 'Orphan')),
    { maxLength: 4 },
  );
  const graph = fc.record({ edges, deletions });
  // Seldom found by chance: each blocks the next, and every one is deleted in the foreground, so that none may wait for the whole way round.
  const ringed = fc
    .record({
      graph,
      members: fc.shuffledSubarray([...Array(size).keys()], { minLength: 2 }),
      order: fc.shuffledSubarray([...Array(size).keys()], { minLength: size }),
    })
    .map(({ graph: { edges, deletions }, members, order }) => ({
      edges: [...members.map((member, at): Edge => [member, members[(at + 1) % members.length] ?? 0, true]), ...edges],
      deletions: [
        ...order.filter((one) => members.includes(one)).map((one): Deletion => [one, 'Foreground']),
        ...deletions,
      ],
    }));
  const choices = fc.infiniteStream(fc.nat(1000));
  await fc.assert(
    fc.asyncProperty(fc.oneof(graph, ringed), choices, async ({ edges, deletions }, choices) => {
      const pick = (count: number) => (choices.next().value as number) % Math.max(1, count);
      const objects = Array.from({ length: size }, (_, index) => objectOf(`o${index}`));
      for (const [dependent, owner, blockOwnerDeletion] of edges) {
        const { metadata } = objects[dependent] as ApiObject;
        if (!metadata.ownerReferences?.some(({ uid }) => uid === `o${owner}`))
          metadata.ownerReferences = [
            ...(metadata.ownerReferences ?? []),
            reference(`o${owner}`, { blockOwnerDeletion }),
          ];
      }
      const world = await worldOf(...objects);
      let kills = 0;
      world.afterWrite = () => {
        if (kills < 5 && pick(6) === 0) throw (kills++, new Killed());
      };
      const deleted = new Set<string>();
      for (const [which, propagationPolicy] of deletions) {
        const object = objects[which] as ApiObject;
        if (deleted.has(object.metadata.name) || !world.standing(object)) continue;
        deleted.add(object.metadata.name);
        world.delete(object, { propagationPolicy });
        for (let steps = pick(4); steps > 0; steps--) world.deliver(world.position + 1);
      }
      await world.settle({ pick });
      for (const { metadata } of world.all('ConfigMap')) {
        if (metadata.deletionTimestamp) throw new Error(`${metadata.name} never ends`);
        for (const { uid } of metadata.ownerReferences ?? [])
          if (!world.all('ConfigMap').some((other) => other.metadata.uid === uid))
            throw new Error(`${metadata.name} names ${uid}, which is gone`);
      }
      // By the other way round: who must stand, since nobody deleted it and it is nobody's or is kept by somebody who stands.
      const orphaning = deletions.some(([, policy]) => policy === 'Orphan');
      const standing = new Set(world.all('ConfigMap').map(({ metadata }) => metadata.name));
      for (const { metadata } of objects) {
        const kept =
          metadata.ownerReferences === undefined || metadata.ownerReferences.some(({ name }) => standing.has(name));
        if (kept && !deleted.has(metadata.name) && !standing.has(metadata.name))
          throw new Error(`${metadata.name} was taken, though it was kept`);
        const lost = metadata.ownerReferences && !metadata.ownerReferences.some(({ name }) => standing.has(name));
        if (lost && !orphaning && standing.has(metadata.name))
          throw new Error(`${metadata.name} was left, though all its owners are gone`);
        if (deleted.has(metadata.name) && standing.has(metadata.name))
          throw new Error(`${metadata.name} stands, though it was deleted`);
      }
    }),
    { numRuns: 200 },
  );
});
