/** The real kubectl, command by command, against the API server alone: what a user types, and what a user then sees. */
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { stringify } from 'yaml';
import { configMap, deployment, startApi, type Api, type Json } from './api.ts';

let api: Api;
t.before(async () => {
  api = await startApi(t);
  await api.post('/api/v1/namespaces', { metadata: { name: 'other' } });
});

const lines = (text: string): string[] => text.trimEnd().split('\n');
/** The words of each line: columns are separated by three spaces or more. */
const cells = (text: string): string[][] => lines(text).map((line) => line.trim().split(/\s{2,}/));
const service = (name: string): Json => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec: { selector: { app: name }, ports: [{ port: 80 }] },
});

t.test('apply: JSON, YAML, folders, several documents, again, changed, pruned', async (t) => {
  t.equal(await api.kubectl('apply -f -', { input: configMap('json') }), 'configmap/json created\n');
  t.equal(await api.kubectl('apply -f -', { input: configMap('json') }), 'configmap/json unchanged\n');
  t.equal(await api.kubectl('apply -f -', { input: configMap('json', { b: '2' }) }), 'configmap/json configured\n');
  t.strictSame(
    (await api.get('/api/v1/namespaces/default/configmaps/json')).body.data,
    { b: '2' },
    'what was applied before and is no more is gone',
  );
  const documents = `${stringify(deployment('yaml'))}---\n${stringify(service('yaml'))}`;
  t.strictSame(lines(await api.kubectl('apply -f -', { input: documents })), [
    'deployment.apps/yaml created',
    'service/yaml created',
  ]);
  t.strictSame(lines(await api.kubectl('apply -f -', { input: documents })), [
    'deployment.apps/yaml unchanged',
    'service/yaml unchanged',
  ]);
  const folder = path.join(api.folder, 'manifests');
  await mkdir(folder);
  await writeFile(path.join(folder, 'a.json'), JSON.stringify(configMap('one', {}, { labels: { set: 'x' } })));
  await writeFile(path.join(folder, 'b.yaml'), stringify(configMap('two', {}, { labels: { set: 'x' } })));
  t.strictSame(lines(await api.kubectl('apply -f manifests')), ['configmap/one created', 'configmap/two created']);
  const pruned = await api.kubectl([
    'apply',
    '-f',
    'manifests/a.json',
    '--prune',
    '-l',
    'set=x',
    '--prune-allowlist=core/v1/ConfigMap',
  ]);
  t.strictSame(lines(pruned), ['configmap/one unchanged', 'configmap/two pruned']);
  const wrong = await api.tryKubectl('apply -f -', {
    input: { ...deployment('wrong'), spec: { ...deployment('wrong').spec, replicaz: 1 } },
  });
  t.not(wrong.code, 0);
  t.match(wrong.stderr, /strict decoding error: unknown field "spec.replicaz"/);
  t.match(
    (await api.tryKubectl('apply -f - --dry-run=server', { input: configMap('dry') })).stdout,
    'configmap/dry created (server dry run)',
  );
  t.match(
    (await api.tryKubectl('get configmap dry')).stderr,
    'Error from server (NotFound): configmaps "dry" not found',
  );
});

t.test('server-side apply', async (t) => {
  t.equal(
    await api.kubectl('apply --server-side -f -', { input: configMap('ssa') }),
    'configmap/ssa serverside-applied\n',
  );
  const refused = await api.tryKubectl('apply --server-side --field-manager=rival -f -', {
    input: configMap('ssa', { a: '2' }),
  });
  t.match(refused.stderr, /Apply failed with 1 conflict: conflict with "kubectl": \.data\.a/);
  t.equal(
    await api.kubectl('apply --server-side --force-conflicts --field-manager=rival -f -', {
      input: configMap('ssa', { a: '2' }),
    }),
    'configmap/ssa serverside-applied\n',
  );
  t.equal(
    await api.kubectl('apply --server-side --force-conflicts -f -', { input: configMap('json', { c: '3' }) }),
    'configmap/json serverside-applied\n',
    'from client-side apply',
  );
  t.strictSame((await api.get('/api/v1/namespaces/default/configmaps/json')).body.data, { c: '3' });
});

t.test('create, in the ways that send protobuf too', async (t) => {
  t.equal(await api.kubectl('create namespace made'), 'namespace/made created\n');
  t.equal(
    await api.kubectl('create deployment made -n made --image=busybox --replicas=2'),
    'deployment.apps/made created\n',
  );
  t.equal(await api.kubectl('create configmap made -n made --from-literal=a=1'), 'configmap/made created\n');
  t.equal(await api.kubectl('create secret generic made -n made --from-literal=a=1'), 'secret/made created\n');
  t.equal(await api.kubectl('create service clusterip made -n made --tcp=80:8080'), 'service/made created\n');
  t.equal(await api.kubectl('create serviceaccount made -n made'), 'serviceaccount/made created\n');
  t.equal(await api.kubectl('run made -n made --image=busybox --labels=app=made -- sleep 100'), 'pod/made created\n');
  t.equal(
    await api.kubectl('expose deployment made -n made --name=exposed --port=80 --type=NodePort'),
    'service/exposed exposed\n',
  );
  t.match(
    (await api.tryKubectl('create namespace made')).stderr,
    'Error from server (AlreadyExists): namespaces "made" already exists',
  );
  t.equal(await api.kubectl('create -f -', { input: configMap('created') }), 'configmap/created created\n');
  t.match(
    (await api.tryKubectl('create -f -', { input: configMap('Bad_Name') })).stderr,
    /is invalid: metadata\.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must consist of/,
  );
  const { body } = await api.get('/apis/apps/v1/namespaces/made/deployments/made');
  t.match(body.spec, { replicas: 2, selector: { matchLabels: { app: 'made' } } });
  t.equal(
    await api.kubectl('replace -f -', { input: configMap('created', { z: '1' }) }),
    'configmap/created replaced\n',
  );
});

t.test('get: tables with the columns that Kubernetes prints', async (t) => {
  const header = async (words: string) => cells(await api.kubectl(`get ${words}`))[0];
  t.strictSame(await header('deployments -n made'), ['NAME', 'READY', 'UP-TO-DATE', 'AVAILABLE', 'AGE']);
  t.strictSame(await header('deployments -n made -o wide'), [
    'NAME',
    'READY',
    'UP-TO-DATE',
    'AVAILABLE',
    'AGE',
    'CONTAINERS',
    'IMAGES',
    'SELECTOR',
  ]);
  t.strictSame(await header('pods -n made'), ['NAME', 'READY', 'STATUS', 'RESTARTS', 'AGE']);
  t.strictSame(await header('pods -n made -o wide'), [
    'NAME',
    'READY',
    'STATUS',
    'RESTARTS',
    'AGE',
    'IP',
    'NODE',
    'NOMINATED NODE',
    'READINESS GATES',
  ]);
  t.strictSame(await header('services -n made'), ['NAME', 'TYPE', 'CLUSTER-IP', 'EXTERNAL-IP', 'PORT(S)', 'AGE']);
  t.strictSame(await header('configmaps'), ['NAME', 'DATA', 'AGE']);
  t.strictSame(await header('secrets -n made'), ['NAME', 'TYPE', 'DATA', 'AGE']);
  t.strictSame(await header('namespaces'), ['NAME', 'STATUS', 'AGE']);
  t.strictSame(await header('storageclass'), [
    'NAME',
    'PROVISIONER',
    'RECLAIMPOLICY',
    'VOLUMEBINDINGMODE',
    'ALLOWVOLUMEEXPANSION',
    'AGE',
  ]);
  const [, row] = cells(await api.kubectl('get deploy made -n made'));
  t.strictSame(row?.slice(0, 4), ['made', '0/2', '0', '0']);
  t.strictSame(cells(await api.kubectl('get pod made -n made'))[1]?.slice(0, 4), ['made', '0/1', 'Pending', '0']);
  t.match(cells(await api.kubectl('get svc exposed -n made'))[1], [
    'exposed',
    'NodePort',
    /^10\.97\./,
    '<none>',
    /^80:3\d{4}\/TCP$/,
  ]);
  t.strictSame(await header('configmaps -A'), ['NAMESPACE', 'NAME', 'DATA', 'AGE']);
  t.strictSame(await header('pods -n made --show-labels'), ['NAME', 'READY', 'STATUS', 'RESTARTS', 'AGE', 'LABELS']);
  t.strictSame(await header('pods -n made -L app'), ['NAME', 'READY', 'STATUS', 'RESTARTS', 'AGE', 'APP']);
  t.match((await api.tryKubectl('get pods -n other')).stderr, 'No resources found in other namespace.');
  t.match(await api.kubectl('get all -n made'), /pod\/made[\s\S]*service\/exposed[\s\S]*deployment\.apps\/made/);
  t.match((await api.tryKubectl('get nothings')).stderr, `error: the server doesn't have a resource type "nothings"`);
});

t.test('get: forms and selections', async (t) => {
  t.equal(await api.kubectl('get configmap ssa -o name'), 'configmap/ssa\n');
  t.match(JSON.parse(await api.kubectl('get configmap ssa -o json')), { kind: 'ConfigMap', data: { a: '2' } });
  t.match(await api.kubectl('get configmap ssa -o yaml'), /^apiVersion: v1\ndata:\n {2}a: "2"\nkind: ConfigMap\n/);
  t.equal(await api.kubectl(['get', 'configmap', 'ssa', '-o', 'jsonpath={.data.a}']), '2');
  t.equal(
    await api.kubectl(['get', 'configmaps', '-o', 'custom-columns=N:.metadata.name', '--no-headers', '-l', 'set=x']),
    'one\n',
  );
  t.equal(await api.kubectl('get configmap -l set=x -o name'), 'configmap/one\n');
  t.equal(await api.kubectl('get cm --field-selector metadata.name=ssa -o name'), 'configmap/ssa\n');
  t.strictSame(lines(await api.kubectl('get ns --sort-by=.metadata.name -o name')).includes('namespace/made'), true);
  t.equal(await api.kubectl('get cm/one cm/ssa -o name'), 'configmap/one\nconfigmap/ssa\n');
  t.equal(await api.kubectl('get --raw /healthz'), 'ok');
  t.ok(JSON.parse(await api.kubectl('get configmaps --chunk-size=2 -o json')).items.length >= 4);
});

t.test('get -w follows', async (t) => {
  const child = spawn(
    api.kubectlProgram,
    ['--kubeconfig', api.kubeconfig, 'get', 'configmaps', '-n', 'other', '-w', '--output-watch-events'],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  t.teardown(() => child.kill());
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const until = async (pattern: RegExp) => {
    for (let tries = 0; tries < 100 && !pattern.test(said); tries++) await sleep(100);
    t.match(said, pattern);
  };
  await api.kubectl('create configmap w1 -n other');
  await until(/ADDED +w1 +0/);
  await api.kubectl(['patch', 'configmap', 'w1', '-n', 'other', '-p', '{"data":{"a":"1"}}']);
  await until(/MODIFIED +w1 +1/);
  await api.kubectl('delete configmap w1 -n other');
  await until(/DELETED +w1 +1/);
  t.match(lines(said)[0], /^EVENT +NAME +DATA +AGE$/);
});

t.test('change: label, annotate, patch, scale, set image, edit', async (t) => {
  t.equal(await api.kubectl('label configmap ssa a=b'), 'configmap/ssa labeled\n');
  t.match((await api.tryKubectl('label configmap ssa a=c')).stderr, /already has a value/);
  t.equal(await api.kubectl('label configmap ssa a=c --overwrite'), 'configmap/ssa labeled\n');
  t.equal(await api.kubectl('label configmap ssa a-'), 'configmap/ssa unlabeled\n');
  t.equal(await api.kubectl('annotate configmap ssa why=because'), 'configmap/ssa annotated\n');
  for (const [type, patch] of [
    ['strategic', '{"data":{"s":"1"}}'],
    ['merge', '{"data":{"m":"1"}}'],
    ['json', '[{"op":"add","path":"/data/j","value":"1"}]'],
  ] as const)
    t.equal(await api.kubectl(['patch', 'configmap', 'ssa', `--type=${type}`, '-p', patch]), 'configmap/ssa patched\n');
  t.match((await api.get('/api/v1/namespaces/default/configmaps/ssa')).body, {
    data: { s: '1', m: '1', j: '1' },
    metadata: { annotations: { why: 'because' } },
  });
  t.equal(await api.kubectl('patch configmap ssa -p {}'), 'configmap/ssa patched (no change)\n');
  t.equal(await api.kubectl('scale deployment/made -n made --replicas=5'), 'deployment.apps/made scaled\n');
  t.match(
    (await api.tryKubectl('scale deployment/made -n made --replicas=6 --current-replicas=4')).stderr,
    /Expected replicas to be 4, was 5/,
  );
  t.equal(
    await api.kubectl('set image deployment/made -n made busybox=busybox:2'),
    'deployment.apps/made image updated\n',
  );
  t.equal(await api.kubectl('set env deployment/made -n made A=1'), 'deployment.apps/made env updated\n');
  t.equal(
    await api.kubectl('set resources deployment/made -n made --limits=cpu=100m'),
    'deployment.apps/made resource requirements updated\n',
  );
  t.match((await api.get('/apis/apps/v1/namespaces/made/deployments/made')).body.spec, {
    replicas: 5,
    template: {
      spec: {
        containers: [{ image: 'busybox:2', env: [{ name: 'A', value: '1' }], resources: { limits: { cpu: '100m' } } }],
      },
    },
  });
  t.equal(
    await api.kubectl('edit configmap ssa', { environment: { EDITOR: 'sed -i s/because/edited/' } }),
    'configmap/ssa edited\n',
  );
  t.equal((await api.get('/api/v1/namespaces/default/configmaps/ssa')).body.metadata.annotations.why, 'edited');
  t.equal(await api.kubectl('rollout pause deployment/made -n made'), 'deployment.apps/made paused\n');
  t.equal(await api.kubectl('rollout resume deployment/made -n made'), 'deployment.apps/made resumed\n');
  t.equal(await api.kubectl('rollout restart deployment/made -n made'), 'deployment.apps/made restarted\n');
});

t.test('diff', async (t) => {
  const same = await api.tryKubectl('diff -f -', { input: configMap('json', { c: '3' }) });
  t.equal(same.code, 0, same.stdout);
  const changed = await api.tryKubectl('diff -f -', { input: configMap('json', { c: '4' }) });
  t.equal(changed.code, 1);
  t.match(changed.stdout, /-  c: "3"\n\+  c: "4"/);
});

t.test('describe', async (t) => {
  t.match(
    await api.kubectl('describe deployment made -n made'),
    /Name: +made\nNamespace: +made[\s\S]*Selector: +app=made\nReplicas: +5 desired[\s\S]*Image: +busybox:2/,
  );
  t.match(await api.kubectl('describe configmap ssa'), /Name: +ssa[\s\S]*BinaryData/);
  t.match(await api.kubectl('describe pod made -n made'), /Status: +Pending[\s\S]*QoS Class: +BestEffort/);
  t.match(await api.kubectl('describe service exposed -n made'), /Type: +NodePort/);
  t.match(await api.kubectl('describe namespace made'), /Status: +Active/);
  t.match(await api.kubectl('describe secret made -n made'), /Type: +Opaque/);
});

t.test('explain', async (t) => {
  t.match(await api.kubectl('explain deployment'), /GROUP: +apps\nKIND: +Deployment\nVERSION: +v1/);
  t.match(
    await api.kubectl('explain deployment.spec.strategy.rollingUpdate'),
    /FIELD: rollingUpdate[\s\S]*maxSurge\s+<IntOrString>/,
  );
  t.match(
    await api.kubectl('explain pod --recursive'),
    /containers\s+<\[\]Container> -required-[\s\S]*livenessProbe\s+<Probe>[\s\S]*exec\s+<ExecAction>/,
  );
  t.match((await api.tryKubectl('explain pod.spec.nothing')).stderr, /field "nothing" does not exist/);
});

t.test('what there is', async (t) => {
  const resources = await api.kubectl('api-resources');
  t.match(resources, /^NAME +SHORTNAMES +APIVERSION +NAMESPACED +KIND\n/);
  t.match(resources, /\nconfigmaps +cm +v1 +true +ConfigMap\n/);
  t.match(resources, /\ndeployments +deploy +apps\/v1 +true +Deployment\n/);
  t.match(await api.kubectl('api-resources --namespaced=false -o name'), /(^|\n)nodes\n/);
  for (const version of ['v1', 'apps/v1', 'discovery.k8s.io/v1', 'coordination.k8s.io/v1'])
    t.ok(lines(await api.kubectl('api-versions')).includes(version), version);
  t.match(await api.kubectl('version'), /Server Version: v1\.32/);
  t.match(await api.kubectl('cluster-info'), /control plane.* is running at .*https:\/\/127\.0\.0\.1/);
  t.match(await api.kubectl('auth whoami'), /Username +admin\nGroups +\[system:masters system:authenticated\]/);
  t.equal(await api.kubectl('auth can-i create deployments'), 'yes\n');
  t.match(await api.kubectl('auth can-i --list'), /\*\.\* +\[\] +\[\] +\[\*\]/);
});

t.test('wait and delete', async (t) => {
  const waiting = api.kubectl(['wait', 'configmap/one', '--for=jsonpath={.data.ready}=yes', '--timeout=20s']);
  await sleep(500);
  await api.kubectl(['patch', 'configmap', 'one', '-p', '{"data":{"ready":"yes"}}']);
  t.equal(await waiting, 'configmap/one condition met\n');
  t.equal(await api.kubectl('delete configmap one'), 'configmap "one" deleted\n');
  t.equal(await api.kubectl('delete pod made -n made'), 'pod "made" deleted\n');
  t.equal(
    await api.kubectl('delete deployment,service --all -n made'),
    'deployment.apps "made" deleted\nservice "exposed" deleted\nservice "made" deleted\n',
  );
  t.equal(await api.kubectl('delete configmap absent --ignore-not-found'), '');
  t.match(
    (await api.tryKubectl('delete configmap absent')).stderr,
    'Error from server (NotFound): configmaps "absent" not found',
  );
  t.equal(await api.kubectl('delete -f -', { input: configMap('json') }), 'configmap "json" deleted\n');
  t.equal(await api.kubectl('delete configmap -l nothing=here'), 'No resources found\n');
  await api.post('/api/v1/namespaces/default/configmaps', configMap('held', {}, { finalizers: ['example.com/hold'] }));
  const deleting = api.kubectl('delete configmap held');
  await sleep(1_000);
  await api.patch('/api/v1/namespaces/default/configmaps/held', 'merge', { metadata: { finalizers: [] } });
  t.equal(await deleting, 'configmap "held" deleted\n', 'it waits until the object is gone');
  t.match((await api.tryKubectl('delete namespace default')).stderr, /this namespace may not be deleted/);
});
