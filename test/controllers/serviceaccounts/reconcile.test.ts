/** What every living namespace has: its default ServiceAccount and the authority's certificate, made again when somebody takes or spoils them. */
import t from 'tap';
import type { ConfigMap, Namespace } from '../../../api-schemas/types/core-v1.ts';
import { makeController } from '../../../controllers/serviceaccounts/index.ts';
import type { ApiObject } from '../../../sdk/index.ts';
import { SmallWorld } from '../small-world.ts';

const core = (resource: string) => ({ group: '', version: 'v1', resource });
const KINDS = {
  Namespace: core('namespaces'),
  ServiceAccount: core('serviceaccounts'),
  ConfigMap: core('configmaps'),
};
const namespaceOf = (name: string, extra: object = {}) =>
  ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, ...extra } }) as unknown as Namespace & ApiObject;

t.test('every living namespace has what its pods need', async (t) => {
  const world = new SmallWorld(KINDS);
  world.create(namespaceOf('shop'));
  world.create(namespaceOf('going', { deletionTimestamp: '2030-01-01T00:00:00Z', finalizers: ['x'] }));
  world.deliver();
  world.run(makeController('a certificate'));
  await world.settle();
  const there = () =>
    [...world.all('ServiceAccount'), ...world.all('ConfigMap')].map(
      ({ metadata }) => `${metadata.namespace}/${metadata.name}`,
    );
  t.strictSame(there(), ['shop/default', 'shop/kube-root-ca.crt'], 'none that is going');

  const published = () => world.all<ConfigMap & ApiObject>('ConfigMap')[0] as ConfigMap & ApiObject;
  world.edit(published(), (map) => void (map.data = { 'ca.crt': 'forged' }));
  world.delete(world.all('ServiceAccount')[0] as ApiObject);
  await world.settle();
  t.strictSame(there().sort(), ['shop/default', 'shop/kube-root-ca.crt'], 'made again');
  t.strictSame(published().data, { 'ca.crt': 'a certificate' }, 'put right');

  const writes = world.log.length;
  world.edit(published(), ({ metadata }) => void (metadata.labels = { mine: 'yes' }));
  world.create({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'other', namespace: 'shop' } });
  await world.settle();
  t.equal(world.log.length, writes, 'anything else is left alone');
  world.create(namespaceOf('late'));
  await world.settle();
  t.ok(there().includes('late/default'));
});
