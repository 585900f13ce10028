/**
 * The real kubectl against the faces of the server alone: discovery, OpenAPI, protobuf, admission and tables over a map in memory, so that what fails here is one of them. kubectl sends protobuf for most of its
 * `create` commands and reads it when it describes.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { loadRegistry } from '../../../api-schemas/registry.ts';
import type { ApiObject } from '../../../api-schemas/schema.ts';
import { applyDefaults } from '../../../api-server/admission/defaults.ts';
import { pruneUnknown } from '../../../api-server/admission/prune.ts';
import { validate } from '../../../api-server/admission/validate.ts';
import { parseJson } from '../../../api-server/codec/json.ts';
import { negotiate } from '../../../api-server/codec/negotiate.ts';
import { decodeProtobuf, encodeProtobuf } from '../../../api-server/codec/protobuf.ts';
import { ApiDocuments } from '../../../api-server/documents.ts';
import { strategicMergePatch } from '../../../api-server/patch/strategic-merge.ts';
import { parseResourceRequest } from '../../../api-server/request.ts';
import { toTable } from '../../../api-server/table/table.ts';

const run = promisify(execFile);
const registry = loadRegistry();
const documents = new ApiDocuments(registry);
const PROTOBUF = 'application/vnd.kubernetes.protobuf';

type Json = Record<string, any>;

/** What was sent, newest last. */
const sent: { type: string; object: Json }[] = [];
const stored = new Map<string, ApiObject>();

function answer(response: ServerResponse, code: number, object: unknown, accept: string | undefined): void {
  const { as, format } = negotiate(accept) ?? { as: 'Object', format: 'json' };
  const bytes = as === 'Object' && format === 'protobuf' ? encodeProtobuf(object, registry) : undefined;
  response.writeHead(code, { 'Content-Type': bytes ? PROTOBUF : 'application/json' });
  response.end(bytes ?? JSON.stringify(object));
}

const missing = (name: string) => ({
  kind: 'Status',
  apiVersion: 'v1',
  status: 'Failure',
  reason: 'NotFound',
  message: `"${name}" not found`,
  code: 404,
});

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const url = new URL(request.url ?? '/', 'http://x');
  const { accept, 'content-type': type = '' } = request.headers;
  const target = parseResourceRequest(request.method ?? '', url);
  const definition = target && registry.byResource(target.group, target.version, target.resource);
  if (!target || !definition) {
    const document = documents.get(url.pathname, accept);
    if (!document) return answer(response, 404, missing(url.pathname), undefined);
    response.writeHead(200, { 'Content-Type': document.contentType });
    response.end(document.body);
    return;
  }
  const under = `${definition.group}/${definition.resource}/`;
  const table = (objects: ApiObject[]) =>
    toTable(definition, objects, { resourceVersion: '1', includeObject: 'Metadata', nowMs: Date.now(), version: 'v1' });
  const asTable = negotiate(accept)?.as === 'Table';
  const old = stored.get(under + target.name);
  if (target.verb === 'list') {
    const items = [...stored].filter(([key]) => key.startsWith(under)).map(([, object]) => object);
    const apiVersion = definition.group === '' ? definition.version : `${definition.group}/${definition.version}`;
    return answer(
      response,
      200,
      asTable ? table(items) : { kind: definition.listKind, apiVersion, metadata: {}, items },
      accept,
    );
  }
  if (target.verb !== 'create' && !old) return answer(response, 404, missing(target.name), accept);
  if (target.verb === 'get') return answer(response, 200, asTable ? table([old as ApiObject]) : old, accept);
  const given = type === PROTOBUF ? decodeProtobuf(body, registry) : parseJson(body, { duplicates: true }).value;
  sent.push({ type, object: structuredClone(given) as Json });
  const object = (
    old ? strategicMergePatch(structuredClone(old), given as Json, definition.schema) : given
  ) as ApiObject;
  const { unknown, mistyped } = pruneUnknown(object, definition.schema);
  if (definition.namespaced) object.metadata.namespace = target.namespace;
  applyDefaults(object, definition.schema);
  const faults = [...unknown, ...mistyped, ...validate(object, old, definition)];
  if (faults.length > 0)
    return answer(
      response,
      422,
      { ...missing(''), code: 422, reason: 'Invalid', message: JSON.stringify(faults) },
      accept,
    );
  object.metadata.creationTimestamp ??= `${new Date().toISOString().slice(0, 19)}Z`;
  object.metadata.uid ??= 'u';
  stored.set(under + object.metadata.name, object);
  answer(response, old ? 200 : 201, object, accept);
}

const home = await mkdtemp(join(tmpdir(), 'reckon-kubectl-'));
const server = createServer((request, response) => {
  serve(request, response).catch((error: unknown) =>
    answer(response, 500, { ...missing(''), code: 500, message: String(error) }, undefined),
  );
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address() as AddressInfo;
t.teardown(async () => {
  server.closeAllConnections();
  server.close();
  await rm(home, { recursive: true });
});

async function kubectl(command: string, input?: string): Promise<string> {
  const child = run('kubectl', ['--server', `http://127.0.0.1:${port}`, '--cache-dir', home, ...command.split(' ')], {
    env: { PATH: process.env['PATH'], HOME: home },
  });
  child.child.stdin?.end(input);
  return (await child).stdout;
}

t.test('what kubectl creates arrives whole, and nothing in it is unknown', async (t) => {
  const commands: readonly [command: string, says: string, expected: Json][] = [
    ['create namespace a', 'namespace/a created', { metadata: { name: 'a' } }],
    [
      'create deployment d --image=nginx:1 --port=80 --replicas=0',
      'deployment.apps/d created',
      {
        spec: {
          replicas: 0,
          template: { spec: { containers: [{ image: 'nginx:1', ports: [{ containerPort: 80 }] }] } },
        },
      },
    ],
    ['create configmap c --from-literal=a=b', 'configmap/c created', { data: { a: 'b' } }],
    ['create secret generic s --from-literal=a=b', 'secret/s created', { data: { a: 'Yg==' } }],
    ['create serviceaccount x', 'serviceaccount/x created', { kind: 'ServiceAccount' }],
    [
      'create job j --image=x -- a b',
      'job.batch/j created',
      { spec: { template: { spec: { restartPolicy: 'Never', containers: [{ command: ['a', 'b'] }] } } } },
    ],
    ['create cronjob cj --image=x --schedule=@hourly', 'cronjob.batch/cj created', { spec: { schedule: '@hourly' } }],
    [
      'create service nodeport np --tcp=80:http --node-port=30001',
      'service/np created',
      { spec: { type: 'NodePort', ports: [{ port: 80, targetPort: 'http', nodePort: 30001 }] } },
    ],
    [
      'create service externalname en --external-name=example.com',
      'service/en created',
      { spec: { externalName: 'example.com' } },
    ],
    [
      'create ingress i --rule=h.com/p=np:80',
      'ingress.networking.k8s.io/i created',
      {
        spec: {
          rules: [
            {
              host: 'h.com',
              http: { paths: [{ path: '/p', backend: { service: { name: 'np', port: { number: 80 } } } }] },
            },
          ],
        },
      },
    ],
    [
      'create role r --verb=get --resource=pods',
      'role.rbac.authorization.k8s.io/r created',
      { rules: [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }] },
    ],
    [
      'create rolebinding rb --role=r --user=u',
      'rolebinding.rbac.authorization.k8s.io/rb created',
      { roleRef: { name: 'r' }, subjects: [{ kind: 'User', name: 'u' }] },
    ],
    [
      'create poddisruptionbudget p --selector=a=b --min-available=0',
      'poddisruptionbudget.policy/p created',
      { spec: { minAvailable: 0 } },
    ],
    ['create priorityclass pc --value=0', 'priorityclass.scheduling.k8s.io/pc created', { value: 0 }],
    ['create quota q --hard=cpu=1', 'resourcequota/q created', { spec: { hard: { cpu: '1' } } }],
  ];
  for (const [command, says, expected] of commands) {
    t.equal(await kubectl(command), `${says}\n`);
    t.match(sent.at(-1), { type: PROTOBUF, object: expected }, command);
  }
  t.equal(await kubectl('run web --image=nginx'), 'pod/web created\n');
});

t.test('what it prints', async (t) => {
  t.match(
    await kubectl('get deployments -o wide'),
    /^NAME\s+READY\s+UP-TO-DATE\s+AVAILABLE\s+AGE\s+CONTAINERS\s+IMAGES\s+SELECTOR\nd\s+0\/0\s+0\s+0\s+\d+s\s+nginx\s+nginx:1\s+app=d\n$/,
  );
  t.match(await kubectl('get service'), /np\s+NodePort\s+<none>\s+<none>\s+80:30001\/TCP\s+\d+s/);
  t.match(await kubectl('get namespaces -o name'), /^namespace\/a\n$/);
  t.match(
    await kubectl('describe deployment d'),
    /Replicas:\s+0 desired \| 0 updated[\s\S]*StrategyType:\s+RollingUpdate[\s\S]*Image:\s+nginx:1/,
  );
  t.match(await kubectl('explain deployment.spec.replicas'), /FIELD: replicas <integer>/);
  t.match(await kubectl('explain pod.spec --recursive'), /livenessProbe\s+<Probe>[\s\S]*httpGet\s+<HTTPGetAction>/);
  t.match(await kubectl('explain deployment.spec.strategy --output=plaintext-openapiv2'), /rollingUpdate/);
  t.match(await kubectl('api-resources -o wide'), /deployments\s+deploy\s+apps\/v1\s+true\s+Deployment/);
  t.match(await kubectl('version'), /Server Version: v1\.32\./);
});

t.test('apply patches as the schema says: a strategy is replaced whole, containers are merged by name', async (t) => {
  const manifest = (strategy: string, image: string): string =>
    JSON.stringify({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'm' },
      spec: {
        selector: { matchLabels: { app: 'm' } },
        strategy: { type: strategy },
        template: { metadata: { labels: { app: 'm' } }, spec: { containers: [{ name: 'c', image }] } },
      },
    });
  t.equal(await kubectl('apply -f -', manifest('RollingUpdate', 'x:1')), 'deployment.apps/m created\n');
  t.equal(await kubectl('apply -f -', manifest('Recreate', 'x:2')), 'deployment.apps/m configured\n');
  t.match(sent.at(-1), {
    type: 'application/strategic-merge-patch+json',
    object: { spec: { strategy: { $retainKeys: ['type'] } } },
  });
  t.match(stored.get('apps/deployments/m'), {
    spec: { strategy: { type: 'Recreate' }, template: { spec: { containers: [{ name: 'c', image: 'x:2' }] } } },
  });
  t.equal(await kubectl('apply -f -', manifest('Recreate', 'x:2')), 'deployment.apps/m unchanged\n');
  const refusal = await kubectl('apply -f -', manifest('Sideways', 'x:2')).catch((error: unknown) => error);
  t.match((refusal as { stderr?: string }).stderr, /Unsupported value: .*Sideways/);
});
