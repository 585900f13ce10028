/**
 * A namespace of 200 objects, with Deployments that run, deleted and brought back: every object asks for what it asked for, every container is healthy again, and the same moment restored once more changes nothing. Part of
 * `npm run prove`; alone: `node dist/test/prove/prove-restore.js [seed]`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { ensureHelloImage } from '../../cli/start/hello-image.ts';
import { DockerRuntime } from '../../runtime/docker/docker-runtime.ts';
import { Transport } from '../../sdk/http-transport.ts';
import { readKubeconfig } from '../../sdk/kubeconfig.ts';
import { startReckon } from '../harness/start-reckon.ts';
import { claim, configMap, deployment, readiness, serve, service } from '../spine/manifests.ts';
import { IMAGE, type Json } from '../spine/stage.ts';
import { around } from './alone.ts';
import { generator } from './generator.ts';

const seed = Number(process.argv[2] ?? 1);
const namespace = 'shop';
const deployments = 12;
const others = 200 - 2 * deployments - 1;
const limitMs = 180_000;
const kinds = [
  ...[
    'api/v1/configmaps',
    'api/v1/secrets',
    'api/v1/services',
    'api/v1/serviceaccounts',
    'api/v1/persistentvolumeclaims',
  ],
  ...['apis/apps/v1/deployments', 'apis/rbac.authorization.k8s.io/v1/roles'],
];

const random = generator(seed);
const t = await around();
const faults: string[] = [];
try {
  const reckon = await startReckon(t);
  await ensureHelloImage(new DockerRuntime({ socketPath: new URL(reckon.dockerHost).pathname }), IMAGE);
  const transport = new Transport({ access: readKubeconfig(reckon.kubeconfig), userAgent: 'proof', timeoutMs: 60_000 });
  t.teardown(() => transport.close());
  const call = async (method: string, path: string, body?: unknown): Promise<Json> =>
    (await transport.call({ method, path, ...(body !== undefined && { body }) })).body;
  const listOf = async (kind: string): Promise<ApiObject[]> => {
    const [, root = '', resource = ''] = /^(.*)\/([^/]+)$/.exec(kind) ?? [];
    return (await call('GET', `/${root}/namespaces/${namespace}/${resource}`)).items as ApiObject[];
  };
  const asked = async (): Promise<Map<string, unknown>> => {
    const all = new Map<string, unknown>();
    for (const kind of kinds)
      for (const object of await listOf(kind)) all.set(`${object.kind}/${object.metadata.name}`, specOf(object));
    return all;
  };
  const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
    const endMs = Date.now() + limitMs;
    while (!(await holds())) {
      if (Date.now() > endMs) throw new Error(`waited ${limitMs / 1000} s for ${what}`);
      await sleep(500);
    }
  };
  const healthy = async (): Promise<boolean> =>
    (await listOf('apis/apps/v1/deployments')).filter(({ status }: Json) => status?.readyReplicas === 1).length ===
    deployments;

  await reckon.kubectl(`create namespace ${namespace}`);
  const operations = objects().map((object) => ({
    verb: 'create',
    object: { ...object, metadata: { ...object.metadata, namespace, labels: { seed: String(seed) } } },
  }));
  await call('POST', '/apis/log.reckon.dev/v1/transactions', { operations });
  await until('every Deployment to be ready', healthy);
  const before = await asked();
  const { revision } = await call('GET', '/apis/log.reckon.dev/v1/status');
  await reckon.kubectl(`delete namespace ${namespace} --timeout=150s`);
  const startedMs = Date.now();
  const restored = await call('POST', '/apis/log.reckon.dev/v1/restores', { to: String(revision), namespace });
  const tookMs = Date.now() - startedMs;
  await until('every Deployment to be ready again', healthy);
  const after = await asked();
  for (const [name, spec] of before)
    if (!isDeepStrictEqual(after.get(name), spec))
      faults.push(`${name}: ${JSON.stringify(after.get(name))}, was ${JSON.stringify(spec)}`);
  const pods = await listOf('api/v1/pods');
  for (const { metadata, status } of pods as Json[])
    if (!status.containerStatuses?.every(({ ready }: Json) => ready)) faults.push(`${metadata.name} is not ready`);
  const again = await call('POST', '/apis/log.reckon.dev/v1/restores', { to: String(revision), namespace });
  if (again.items.length > 0)
    faults.push(`restored again, it would write ${JSON.stringify(again.items).slice(0, 500)}`);
  process.stdout.write(
    `seed ${seed}: ${operations.length} objects; ${restored.items.length} writes in one transaction in ${tookMs} ms, ${pods.length} pods ready ${Math.round((Date.now() - startedMs) / 1000)} s after\n`,
  );
} catch (error) {
  faults.push(error instanceof Error ? error.message : String(error));
} finally {
  await t.end();
}
for (const fault of faults.slice(0, 20)) process.stdout.write(`FAILED  ${fault}\n`);
process.exit(faults.length === 0 ? 0 : 1);

/** Without what is new by nature. */
function specOf({ metadata, ...object }: ApiObject): unknown {
  const { status: _, ...content } = object as Json;
  if (object.kind === 'PersistentVolumeClaim') delete content.spec.volumeName;
  const annotations = Object.entries(metadata.annotations ?? {}).filter(
    ([name]) => !/^(deployment|pv|volume)\./.test(name),
  );
  return { ...content, labels: metadata.labels, annotations };
}

function objects(): Json[] {
  const served = Array.from({ length: deployments }, (_, index) => [
    deployment(`web-${index}`, { replicas: 1, script: serve(), container: { readinessProbe: readiness } }),
    service(`web-${index}`),
  ]);
  const more = Array.from({ length: others }, (_, index) => {
    const name = `object-${index}`;
    const which = random();
    if (which < 0.5) return configMap(name, { value: String(random()) });
    if (which < 0.75)
      return { apiVersion: 'v1', kind: 'Secret', metadata: { name }, stringData: { value: String(random()) } };
    if (which < 0.85) return { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } };
    if (which < 0.95) return service(name, random() < 0.5 ? { type: 'NodePort' } : {});
    return {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name },
      rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }],
    };
  });
  return [...served.flat(), ...more, claim('data')];
}
