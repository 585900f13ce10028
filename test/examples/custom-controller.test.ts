/**
 * The example of docs/writing-a-controller.md: its planner as a table, and the whole of it on a real log and API server.
 */
import t from 'tap';
import type { Deployment } from '../../api-schemas/types/apps-v1.ts';
import type { ConfigMap } from '../../api-schemas/types/core-v1.ts';
import { controller, reconcile } from '../../examples/custom-controller/index.ts';
import type { ApiObject } from '../../sdk/index.ts';
import { eventually, startCluster } from '../sdk/cluster.ts';

t.setTimeout(600_000);

const DEPLOYMENTS = { group: 'apps', version: 'v1', resource: 'deployments' };
const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps' };
const namespace = 'default';
const HASH = 'example.com/config-hash';

const deployment = (name: string, labels: Record<string, string>, configMap: string): ApiObject => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, namespace, labels },
  spec: {
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: 'web', image: 'web', envFrom: [{ configMapRef: { name: configMap } }] }] },
    },
  },
});
const configMap = (name: string, data: Record<string, string>): ApiObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace },
  data,
});

t.test('the planner', async (t) => {
  const web = deployment('web', {}, 'settings') as unknown as Deployment;
  const look = (data: Record<string, string> | undefined) => ({
    configMaps: new Map([['settings', data && (configMap('settings', data) as unknown as ConfigMap)]]),
  });
  const [action] = reconcile(web, look({ colour: 'red' })).actions;
  if (action?.verb !== 'patch') throw new Error('no patch was planned');
  const template = (action.patch['spec'] as { template: { metadata: { annotations: Record<string, string> } } })
    .template;
  const hash = template.metadata.annotations[HASH] ?? '';
  t.match(action.because, /made with another state of settings/);
  const rolled = { ...web, spec: { ...web.spec, template: { ...web.spec.template, ...template } } };
  t.same(reconcile(rolled, look({ colour: 'red' })).actions, [], 'converged means no actions');
  t.equal(reconcile(rolled, look({ colour: 'blue' })).actions.length, 1, 'another colour is another state');
  t.equal(reconcile(rolled, look(undefined)).actions.length, 1, 'none is another state, too');
  t.same(reconcile(web, { configMaps: new Map() }).actions, [], 'who uses none is left alone');
  t.match(hash, /^[a-z0-9]{10}$/);
});

t.test('on a cluster', async (t) => {
  const cluster = await startCluster();
  t.teardown(() => cluster.remove());
  const { admin } = cluster;
  await admin.create(CONFIG_MAPS, configMap('settings', { colour: 'red' }));
  await admin.create(DEPLOYMENTS, deployment('follows', { reload: 'on-config-change' }, 'settings'));
  await admin.create(DEPLOYMENTS, deployment('stays', {}, 'settings'));
  await cluster.run([controller]);
  const hashOf = async (name: string) =>
    (await admin.get<Deployment>({ resource: DEPLOYMENTS, namespace, name })).spec.template.metadata?.annotations?.[
      HASH
    ];
  const red = await eventually(() => hashOf('follows'), Boolean);
  await admin.patch({ resource: CONFIG_MAPS, namespace, name: 'settings' }, { data: { colour: 'blue' } });
  const blue = await eventually(
    () => hashOf('follows'),
    (hash) => hash !== red,
  );
  t.not(blue, red);
  await admin.patch({ resource: CONFIG_MAPS, namespace, name: 'settings' }, { data: { colour: 'red' } });
  await eventually(
    () => hashOf('follows'),
    (hash) => hash === red,
  );
  t.equal(await hashOf('stays'), undefined, 'who did not ask is left alone');
});
