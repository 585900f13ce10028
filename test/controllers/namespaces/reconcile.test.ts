/** A namespace that is deleted takes everything along, whatever holds it up, and every living one has its default ServiceAccount. */
import fc from 'fast-check';
import t from 'tap';
import { controller as namespaces } from '../../../controllers/namespaces/index.ts';
import type { NamespaceObject } from '../../../controllers/namespaces/reconcile.ts';
import { ApiError, type ApiObject, type Client } from '../../../sdk/index.ts';
import { Killed, SmallWorld } from '../small-world.ts';

const core = (resource: string) => ({ group: '', version: 'v1', resource });
const KINDS = { Namespace: core('namespaces'), ConfigMap: core('configmaps'), Secret: core('secrets') };
const namespaceOf = (name: string) =>
  ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, uid: name },
    spec: { finalizers: ['kubernetes'] },
    status: { phase: 'Active' },
  }) as unknown as NamespaceObject;
const objectOf = (kind: string, name: string, namespace: string, finalizers: string[] = []): ApiObject => ({
  apiVersion: 'v1',
  kind,
  metadata: { name, namespace, ...(finalizers.length > 0 && { finalizers }) },
});

/** Events and Leases, which no World holds. */
class Ephemeral {
  readonly names = new Map<string, Set<string>>();
  readonly client = {
    list: async ({ resource }: { resource: string }, { namespace = '' }) => ({
      items:
        resource === 'events'
          ? [...(this.names.get(namespace) ?? [])].map((name) => ({ metadata: { name, uid: name } }))
          : [],
      resourceVersion: '1',
    }),
    delete: async ({ namespace = '', name }: { namespace?: string; name: string }) => {
      if (!this.names.get(namespace)?.delete(name))
        throw new ApiError({ code: 404, reason: 'NotFound', message: 'gone' });
    },
  } as unknown as Client;
}

async function worldOf(...objects: ApiObject[]) {
  const world = new SmallWorld(KINDS);
  const ephemeral = new Ephemeral();
  world.client = ephemeral.client;
  for (const object of objects) world.create(object);
  world.deliver();
  const [driver] = world.run(namespaces);
  await world.settle();
  return { world, ephemeral, driver };
}

t.test('a namespace that is deleted', async (t) => {
  const held = objectOf('Secret', 'held', 'shop', ['test/hold']);
  const { world, ephemeral, driver } = await worldOf(
    namespaceOf('shop'),
    namespaceOf('other'),
    objectOf('ConfigMap', 'a', 'shop'),
    objectOf('ConfigMap', 'a', 'other'),
    held,
  );
  ephemeral.names.set('shop', new Set(['e1', 'e2']));
  ephemeral.names.set('other', new Set(['e3']));
  world.delete(namespaceOf('shop'));
  await world.settle();
  const shop = () => world.standing<NamespaceObject>(namespaceOf('shop'));
  t.strictSame(
    world.all('ConfigMap').map(({ metadata }) => metadata.namespace),
    ['other'],
  );
  t.ok(world.standing(held)?.metadata.deletionTimestamp);
  t.notOk(shop()?.status?.conditions, 'nothing is said of what ends in a moment');
  world.nowMs += 10_000;
  driver?.restart();
  await world.settle();
  t.match(shop()?.status, {
    phase: 'Terminating',
    conditions: [
      {},
      {},
      {},
      {
        type: 'NamespaceContentRemaining',
        status: 'True',
        reason: 'SomeResourcesRemain',
        message: 'Some resources are remaining: secrets. has 1 resource instances',
      },
      {
        type: 'NamespaceFinalizersRemaining',
        status: 'True',
        reason: 'SomeFinalizersRemain',
        message: 'Some content in the namespace has finalizers remaining: test/hold in 1 resource instances',
      },
    ],
  });
  world.edit(held, ({ metadata }) => void delete metadata.finalizers);
  await world.settle();
  t.equal(shop(), undefined);
  t.strictSame(
    [...ephemeral.names].map(([name, events]) => [name, events.size]),
    [
      ['shop', 0],
      ['other', 1],
    ],
  );
  t.ok(world.standing(namespaceOf('other')));
});

t.test('five hundred objects go without a word for each', async (t) => {
  const { world } = await worldOf(
    namespaceOf('shop'),
    ...Array.from({ length: 500 }, (_, index) => objectOf('ConfigMap', `c${index}`, 'shop')),
  );
  world.delete(namespaceOf('shop'));
  await world.settle();
  t.equal(world.all('ConfigMap').length + world.all('Namespace').length, 0);
  t.equal(world.log.filter((line) => !line.startsWith('delete')).length, 1, 'one write beside the deletions');
});

t.test('whatever is in it, whenever the controller dies', async () => {
  const content = fc.array(
    fc.record({
      kind: fc.constantFrom('ConfigMap', 'Secret'),
      namespace: fc.constantFrom('shop', 'other'),
      held: fc.boolean(),
    }),
    { maxLength: 12 },
  );
  await fc.assert(
    fc.asyncProperty(content, fc.infiniteStream(fc.nat(1000)), async (content, choices) => {
      const pick = (count: number) => (choices.next().value as number) % Math.max(1, count);
      const objects = content.map(({ kind, namespace, held }, index) =>
        objectOf(kind, `o${index}`, namespace, held ? ['test/hold'] : []),
      );
      const { world } = await worldOf(namespaceOf('shop'), namespaceOf('other'), ...objects);
      let kills = 0;
      world.afterWrite = () => {
        if (kills < 4 && pick(3) === 0) throw (kills++, new Killed());
      };
      world.delete(namespaceOf('shop'));
      await world.settle({ pick });
      const holds = objects.filter(({ metadata }) => metadata.finalizers && metadata.namespace === 'shop');
      if (holds.length > 0 && !world.standing(namespaceOf('shop')))
        throw new Error('the namespace went before its content');
      for (const object of holds) world.edit(object, ({ metadata }) => void delete metadata.finalizers);
      await world.settle({ pick });
      if (world.standing(namespaceOf('shop'))) throw new Error('the namespace stays');
      const left = [...world.all('ConfigMap'), ...world.all('Secret')];
      if (left.length !== objects.filter(({ metadata }) => metadata.namespace === 'other').length)
        throw new Error('the wrong things went');
    }),
    { numRuns: 100 },
  );
});
