/**
 * The second example of docs/writing-a-controller.md: a kind of one's own and its controller, on a real log and API server, from the definition to the garbage that is collected when the kind ends.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { schemaFolder } from '../../api-schemas/registry.ts';
import type { Deployment } from '../../api-schemas/types/apps-v1.ts';
import type { ConfigMap } from '../../api-schemas/types/core-v1.ts';
import { controller as definitions } from '../../controllers/customresourcedefinitions/index.ts';
import { controller as garbageCollector } from '../../controllers/garbagecollector/index.ts';
import { controller, reconcile, type Website } from '../../examples/custom-kind/index.ts';
import { CUSTOM_RESOURCE_DEFINITIONS, type ApiObject, type ApiextensionsV1 } from '../../sdk/index.ts';
import { eventually, startCluster } from '../sdk/cluster.ts';

t.setTimeout(600_000);

const exampleOf = (file: string): ApiObject =>
  parse(readFileSync(join(schemaFolder(), '../examples/custom-kind', file), 'utf8')) as ApiObject;

const WEBSITES = { group: 'example.com', version: 'v1', resource: 'websites' };
const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps' };
const DEPLOYMENTS = { group: 'apps', version: 'v1', resource: 'deployments' };
const namespace = 'default';

const home = (html: string, replicas = 1): Website => ({
  ...(exampleOf('website.yaml') as Website),
  metadata: { name: 'home', namespace, uid: 'u', generation: 2 },
  spec: { html, replicas },
});

t.test('the planner', async (t) => {
  const first = reconcile(home('<p>a'), { page: undefined, server: undefined });
  t.strictSame(
    first.actions.map(({ verb, because }) => `${verb}: ${because}`),
    ['create: Website home has no page yet', 'create: Website home has no servers yet'],
  );
  t.strictSame(first.status, { observedGeneration: 2, replicas: 0, selector: 'website=website-home' });
  const [page, server] = first.actions.map((action) => (action as { object: ApiObject }).object) as [
    ApiObject,
    ApiObject,
  ];
  const standing = { page: page as unknown as ConfigMap, server: server as unknown as Deployment };
  t.strictSame(reconcile(home('<p>a'), standing).actions, [], 'converged means no actions');
  t.equal(reconcile(home('<p>b'), standing).actions.length, 2, 'another page is rolled out');
  t.equal(reconcile(home('<p>a', 3), standing).actions.length, 1);
});

t.test('on a cluster', async (t) => {
  const cluster = await startCluster();
  t.teardown(() => cluster.remove());
  const { admin } = cluster;
  await cluster.run([definitions, garbageCollector, controller]);
  const made = await admin.create(CUSTOM_RESOURCE_DEFINITIONS, exampleOf('definition.yaml'));
  const name = made.metadata.name;
  await eventually(
    () => admin.get<ApiextensionsV1.CustomResourceDefinition>({ resource: CUSTOM_RESOURCE_DEFINITIONS, name }),
    ({ status }) =>
      status.conditions?.some(({ type, status: holds }) => type === 'Established' && holds === 'True') ?? false,
  );
  const example = exampleOf('website.yaml');
  await admin.create(WEBSITES, { ...example, metadata: { ...example.metadata, namespace } });
  const website = { resource: WEBSITES, namespace, name: 'home' };
  const server = { resource: DEPLOYMENTS, namespace, name: 'website-home' };
  const found = await eventually(
    () => admin.get<Website>(website),
    ({ status }) => status?.observedGeneration === 1,
  );
  t.equal(found.spec.replicas, 1, "the schema's default");
  const deployment = await admin.get<Deployment>(server);
  t.equal(deployment.spec.replicas, 1);
  await admin.patch({ ...server, subresource: 'status' }, { status: { replicas: 1, readyReplicas: 1 } });
  await eventually(
    () => admin.get<Website>(website),
    ({ status }) => status?.replicas === 1,
  );
  await admin.patch({ ...website, subresource: 'scale' }, { spec: { replicas: 3 } });
  await eventually(
    () => admin.get<Deployment>(server),
    ({ spec }) => spec.replicas === 3,
  );
  await t.rejects(admin.patch(website, { spec: { html: 'plain' } }), /spec.html: .*must be HTML/);

  await admin.delete({ resource: CUSTOM_RESOURCE_DEFINITIONS, name });
  const isGone = (target: Parameters<typeof admin.get>[0]) => () =>
    admin.get(target).then(
      () => false,
      (error: { reason?: string }) => error.reason === 'NotFound',
    );
  await eventually(isGone({ resource: CUSTOM_RESOURCE_DEFINITIONS, name }), Boolean);
  await eventually(isGone(server), Boolean);
  await eventually(isGone({ resource: CONFIG_MAPS, namespace, name: 'website-home' }), Boolean);
});
