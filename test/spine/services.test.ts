/** Services as a process on the node and as a container sees them: addresses, names, who answers, and who does not any more. */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { deployment, idle, pod, readiness, serve, service } from './manifests.ts';
import { isReady, startStage, until, type Json, type Space } from './stage.ts';

const stage = await startStage(t);
t.jobs = 4;
/** tap keeps its notes in the options: each test needs its own. */
const aside = () => ({ buffered: true });

const requestLimitMs = 3_000;

/** What answers there; every request is a connection of its own, and so chooses again. */
async function ask(url: string): Promise<string> {
  const response = await fetch(url, { headers: { connection: 'close' }, signal: AbortSignal.timeout(requestLimitMs) });
  return (await response.text()).trim();
}

async function answers(url: string, times: number): Promise<Set<string>> {
  const heard = new Set<string>();
  for (let i = 0; i < times; i++) heard.add(await ask(url));
  return heard;
}

const fromPod = (space: Space, name: string, url: string): Promise<string> =>
  space.exec(name, `timeout 5 wget -q -O - ${url}`).then((text) => text.trim());

const web = (name: string, options: Json = {}): Json =>
  deployment(name, { script: serve(), container: { readinessProbe: readiness }, ...options });

async function podNames(space: Space, app: string): Promise<string[]> {
  const pods = await space.list('pods', `app=${app}`);
  return pods.filter((one) => !one.metadata.deletionTimestamp).map(({ metadata }) => metadata.name as string);
}

/** Resolves to `connected`, or to how the connection failed. */
function knock(port: number, host: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ port, host, timeout: requestLimitMs });
    const end = (how: string): void => {
      socket.destroy();
      resolve(how);
    };
    socket.once('connect', () => end('connected'));
    socket.once('timeout', () => end('silence'));
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
}

t.test(
  'a cluster address, from the node and from a container, spread over the pods that are ready',
  aside(),
  async (t) => {
    const space = await stage.space('spread');
    await space.apply(web('web', { replicas: 3 }), service('web'), pod('client'));
    await space.untilRolledOut('web');
    await space.untilReady('client');
    const { spec } = await space.until('services', 'web', (one) => one.spec?.clusterIP !== undefined);
    const names = await podNames(space, 'web');
    const url = `http://${spec.clusterIP}/`;
    await until('all to be reachable', async () => (await answers(url, 20).catch(() => new Set())).size === 3);
    t.same([...(await answers(url, 60))].sort(), names.sort(), 'each of the pods answers');
    t.ok(names.includes(await fromPod(space, 'client', url)), 'from a container');
    for (const host of [
      'web',
      `web.${space.namespace}`,
      `web.${space.namespace}.svc`,
      `web.${space.namespace}.svc.cluster.local`,
    ])
      t.ok(names.includes(await fromPod(space, 'client', `http://${host}/`)), `as ${host}`);
    const slices = await space.list('endpointslices', 'kubernetes.io/service-name=web');
    const listed = slices.flatMap(({ endpoints }) => endpoints).map((one: Json) => one.targetRef.name);
    t.same(listed.sort(), names);
    t.match(await space.kubectl('get endpoints web'), /web\s+(\d+\.\d+\.\d+\.\d+:8080,?){3}/);
    t.match(await space.kubectl('describe service web'), /Endpoints:\s+\d+\.\d+\.\d+\.\d+:8080/);

    await space.kubectl('scale deployment web --replicas 1');
    await until('two pods to go', async () => (await podNames(space, 'web')).length === 1);
    const [left = ''] = await podNames(space, 'web');
    await until('the slice to follow', async () => {
      const [slice] = await space.list('endpointslices', 'kubernetes.io/service-name=web');
      return slice.endpoints.filter(({ conditions }: Json) => conditions.ready !== false).length === 1;
    });
    // Who was chosen by the old rules may find nobody there any more.
    await until('the rules to follow', async () => (await answers(url, 20).catch(() => new Set())).size === 1);
    t.same([...(await answers(url, 40))], [left], 'those that were removed get nothing more');
    await space.kubectl('delete service web');
    const someone = (): Promise<string> => ask(url).catch(() => '');
    await until('the address to be let go', async () => !(await someone()).startsWith('web-'));
  },
);

t.test('endpoints follow readiness, and a Service that nobody serves refuses at once', aside(), async (t) => {
  const space = await stage.space('ready');
  const gate = {
    exec: { command: ['test', '-e', '/tmp/ready'] },
    periodSeconds: 1,
    timeoutSeconds: 10,
    failureThreshold: 1,
  };
  await space.apply(
    pod('only', { script: serve(), container: { readinessProbe: gate } }),
    service('only', { type: 'NodePort' }),
    service('eager', { selector: { app: 'only' }, publishNotReadyAddresses: true }),
    pod('client'),
  );
  const { spec } = (await space.get('services', 'only')) as Json;
  const eager = (await space.get('services', 'eager')) as Json;
  await space.until('pods', 'only', (one) => one.status?.phase === 'Running');
  await space.untilReady('client');
  await until('the refusal', async () => (await knock(80, spec.clusterIP)) === 'ECONNREFUSED');
  t.equal(await knock(80, spec.clusterIP), 'ECONNREFUSED');
  t.equal(await knock(spec.ports[0].nodePort, '127.0.0.1'), 'ECONNREFUSED');
  const refused = await space.tryKubectl([
    'exec',
    'client',
    '--',
    'sh',
    '-c',
    `timeout 4 wget -q -O - http://${spec.clusterIP}/`,
  ]);
  t.match(refused.stderr, /Connection refused/, 'in containers, too');
  await until(
    'one that publishes what is not ready',
    async () => (await knock(80, eager.spec.clusterIP)) === 'connected',
  );
  await space.exec('only', 'touch /tmp/ready');
  await until('an answer', async () => (await knock(80, spec.clusterIP)) === 'connected', { timeoutMs: 15_000 });
  t.equal(await ask(`http://${spec.clusterIP}/`), 'only');
  await space.exec('only', 'rm /tmp/ready');
  await until('the refusal again', async () => (await knock(80, spec.clusterIP)) === 'ECONNREFUSED', {
    timeoutMs: 15_000,
  });
});

t.test('a node port, on the address of the node and on localhost', aside(), async (t) => {
  const space = await stage.space('nodeport');
  await space.apply(web('web'), service('web', { type: 'NodePort' }));
  await space.untilRolledOut('web');
  const { spec } = (await space.get('services', 'web')) as Json;
  const { nodePort } = spec.ports[0];
  t.ok(nodePort >= 30_000 && nodePort <= 32_767);
  const node = (await space.get('nodes', stage.reckon.instance.settings.nodeName)) as Json;
  const nodeAddress = node.status.addresses.find(({ type }: Json) => type === 'InternalIP').address;
  const names = await podNames(space, 'web');
  for (const host of [nodeAddress, '127.0.0.1']) {
    await until(`an answer at ${host}`, () => ask(`http://${host}:${nodePort}/`).catch(() => undefined));
    t.same([...(await answers(`http://${host}:${nodePort}/`, 30))].sort(), names.sort(), host);
  }
});

t.test('a pod reaches itself through its Service', aside(), async (t) => {
  const space = await stage.space('self');
  await space.apply(
    pod('self', { script: serve(), container: { readinessProbe: readiness } }),
    service('me', { selector: { app: 'self' } }),
  );
  await space.untilReady('self');
  const { spec } = (await space.get('services', 'me')) as Json;
  await until('the Service to answer', () => ask(`http://${spec.clusterIP}/`).catch(() => undefined));
  for (let i = 0; i < 3; i++) t.equal(await fromPod(space, 'self', 'http://me/'), 'self');
});

t.test('headless: names lead to the pods themselves, A and SRV', aside(), async (t) => {
  const space = await stage.space('headless');
  await space.apply(web('db', { replicas: 2 }), service('db', { clusterIP: 'None' }), pod('client'), {
    ...pod('named', { script: serve(), container: { readinessProbe: readiness } }),
  });
  await space.untilRolledOut('db');
  await space.untilReady('client');
  const domain = `db.${space.namespace}.svc.cluster.local`;
  const addresses = (await space.list('pods', 'app=db')).map(({ status }) => status.podIP as string);
  const lookUp = (type: string, name: string): Promise<string> =>
    space.tryKubectl(['exec', 'client', '--', 'nslookup', `-type=${type}`, `${name}.`]).then(({ stdout }) => stdout);
  const found = await until('both addresses', async () => {
    const text = (await lookUp('a', domain)).split('Name:').slice(1).join();
    return addresses.every((address) => text.includes(address)) ? text : undefined;
  });
  t.ok(found);
  const services = await lookUp('srv', `_http._tcp.${domain}`);
  t.equal(services.match(/service = 0 \d+ 8080 \S+\.db\.headless-\w+\.svc\.cluster\.local/g)?.length, 2, services);
  const [, target = ''] = /service = 0 \d+ 8080 (\S+)/.exec(services) ?? [];
  t.ok(
    addresses.some((address) => services.includes(address)) ||
      (await lookUp('a', target.replace(/\.$/, ''))).includes('Address'),
  );
  t.match(await fromPod(space, 'client', 'http://db:8080/'), /^db-/);
  t.match(await lookUp('a', `nosuch.${space.namespace}.svc.cluster.local`), /NXDOMAIN/);
});

t.test('UDP, and two ports on one Service', aside(), async (t) => {
  const space = await stage.space('udp');
  const ports = [
    { name: 'http', port: 80, targetPort: 'web' },
    { name: 'echo', port: 7, targetPort: 7777, protocol: 'UDP' },
  ];
  // The image has no UDP server: the node's own Node serves, in the pod's network.
  const echo = `const s = require("dgram").createSocket("udp4"); s.on("message", (m, f) => s.send(m, f.port, f.address)); s.bind(7777)`;
  await space.apply(
    pod('echo', {
      script: `chroot /node ${process.execPath} -e '${echo}' & ${serve()}`,
      container: {
        ports: [{ name: 'web', containerPort: 8080 }],
        readinessProbe: readiness,
        volumeMounts: [{ name: 'node', mountPath: '/node', readOnly: true }],
      },
      spec: { volumes: [{ name: 'node', hostPath: { path: '/' } }] },
    }),
    service('echo', { ports }),
  );
  await space.untilReady('echo');
  const { spec } = (await space.get('services', 'echo')) as Json;
  await until('the port by its name', () => ask(`http://${spec.clusterIP}/`).catch(() => undefined));
  const socket = createSocket('udp4');
  t.teardown(() => socket.close());
  let heard = '';
  socket.on('message', (message) => (heard = message.toString()));
  socket.on('error', () => undefined);
  await until('the echo', async () => {
    socket.send('over and back', 7, spec.clusterIP);
    await sleep(200);
    return heard === 'over and back';
  });
  t.equal(heard, 'over and back');
});

t.test('an ExternalName is an alias', aside(), async (t) => {
  const space = await stage.space('alias');
  await space.apply(
    web('web', { replicas: 1 }),
    service('web'),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'elsewhere' },
      spec: { type: 'ExternalName', externalName: `web.${space.namespace}.svc.cluster.local` },
    },
    pod('client', { script: idle }),
  );
  await space.untilRolledOut('web');
  await space.untilReady('client');
  await until('the Service to answer', async () => {
    const { code, stdout } = await space.tryKubectl([
      'exec',
      'client',
      '--',
      'sh',
      '-c',
      'timeout 3 wget -q -O - http://elsewhere/',
    ]);
    return code === 0 && stdout.startsWith('web-');
  });
  const { stdout } = await space.tryKubectl([
    'exec',
    'client',
    '--',
    'nslookup',
    '-type=cname',
    `elsewhere.${space.namespace}.svc.cluster.local.`,
  ]);
  t.match(stdout, new RegExp(`canonical name = web.${space.namespace}.svc.cluster.local`));
  t.match(await space.kubectl('get service elsewhere'), /ExternalName\s+<none>/);
});

t.test('no request fails while a Deployment rolls behind its Service', aside(), async (t) => {
  const space = await stage.space('smooth');
  // It answers a little longer than it is asked to end, as any server behind a load balancer must.
  const script = `mkdir -p /tmp/www; hostname > /tmp/www/index.html; trap 'sleep 2; exit 0' TERM; httpd -f -p 8080 -h /tmp/www & wait; wait`;
  const rollout = { strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } } };
  await space.apply(
    deployment('web', {
      replicas: 2,
      script,
      container: { readinessProbe: readiness },
      spec: { terminationGracePeriodSeconds: 10 },
      rollout,
    }),
    service('web'),
  );
  await space.untilRolledOut('web');
  const { spec } = (await space.get('services', 'web')) as Json;
  const url = `http://${spec.clusterIP}/`;
  await until('the Service to answer', () => ask(url).catch(() => undefined));
  const before = await podNames(space, 'web');
  let asked = 0;
  const failures: string[] = [];
  let rolling = true;
  const asking = (async (): Promise<void> => {
    while (rolling) {
      asked++;
      await ask(url).catch((error: unknown) =>
        failures.push(`${new Date().toISOString()} ${String((error as Error).cause ?? error)}`),
      );
      await sleep(20);
    }
  })();
  await space.kubectl('rollout restart deployment web');
  await space.kubectl('rollout status deployment web --timeout=60s');
  await sleep(2_500);
  rolling = false;
  await asking;
  t.same(failures, [], `of ${asked} requests`);
  t.ok(asked > 20);
  const staying = (await space.list('pods', 'app=web')).filter(
    (one) => isReady(one) && !one.metadata.deletionTimestamp,
  );
  t.equal(staying.length, 2);
  t.notOk(staying.some(({ metadata }) => before.includes(metadata.name)));
});

/** What a client in the cluster does, with nothing but what every pod has; run by the node's own Node.js on the pod's network. */
const IN_CLUSTER_CLIENT = `
const { request } = require('node:https');
const [ca, token, path, servername] = process.argv.slice(1);
const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = process.env;
const headers = token === '' ? {} : { authorization: 'Bearer ' + token };
request({ host, port, path, ca, headers, ...(servername && { servername }) }, (response) => {
  let text = '';
  response.on('data', (chunk) => (text += chunk));
  response.on('end', () => console.log(JSON.stringify({ status: response.statusCode, body: JSON.parse(text) })));
}).end();`;

t.test('a pod reaches the API server, as its ServiceAccount and no more', aside(), async (t) => {
  const space = await stage.space('inside');
  const folder = '/var/run/secrets/kubernetes.io/serviceaccount';
  const token = (audience: string): Json => ({
    serviceAccountToken: { path: 'token', audience, expirationSeconds: 600 },
  });
  const spec = {
    serviceAccountName: 'reader',
    enableServiceLinks: false,
    volumes: [
      { name: 'host', hostPath: { path: '/' } },
      {
        name: 'vault',
        projected: {
          sources: [
            token('vault'),
            { downwardAPI: { items: [{ path: 'name', fieldRef: { fieldPath: 'metadata.name' } }] } },
          ],
        },
      },
    ],
  };
  const volumeMounts = [
    { name: 'host', mountPath: '/host', readOnly: true },
    { name: 'vault', mountPath: '/vault' },
  ];
  await space.kubectl('create serviceaccount reader');
  await space.kubectl('create rolebinding reader --clusterrole view --serviceaccount ' + `${space.namespace}:reader`);
  await space.apply(pod('inside', { spec, container: { volumeMounts } }));
  await space.untilReady('inside');
  t.equal(await space.exec('inside', `cat ${folder}/namespace`), space.namespace);
  t.match(await space.exec('inside', `cat ${folder}/ca.crt`), /^-----BEGIN CERTIFICATE-----/);
  t.equal((await space.exec('inside', 'cat /vault/name')).trim(), 'inside');
  const ask = async (path: string, credential: string, name = ''): Promise<Json> => {
    const words = [`"$(cat ${folder}/ca.crt)"`, credential, path, `'${name}'`].join(' ');
    return JSON.parse(
      await space.exec(
        'inside',
        `chroot /host ${process.execPath} -e "$0" -- ${words}`.replace(
          '"$0"',
          `'${IN_CLUSTER_CLIENT.replaceAll("'", '"')}'`,
        ),
      ),
    );
  };
  const own = `"$(cat ${folder}/token)"`;
  const mine = `/api/v1/namespaces/${space.namespace}/pods`;
  const pods = await ask(mine, own);
  t.equal(pods.status, 200);
  t.strictSame(
    pods.body.items.map(({ metadata }: Json) => metadata.name),
    ['inside'],
  );
  t.equal((await ask(mine, own, 'kubernetes.default.svc')).status, 200, 'the certificate says the name too');
  t.match(await ask('/api/v1/nodes', own), {
    status: 403,
    body: { message: new RegExp(`User "system:serviceaccount:${space.namespace}:reader" cannot list`) },
  });
  t.match(await ask(mine, '"$(cat /vault/token)"'), { status: 401 }, 'a token for somebody else');
  t.match(
    await space.exec('inside', 'nslookup kubernetes.default.svc.cluster.local'),
    new RegExp(String((await space.exec('inside', 'echo $KUBERNETES_SERVICE_HOST')).trim())),
  );
});
