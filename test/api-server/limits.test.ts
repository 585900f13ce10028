/** What a noisy client can do to others (nothing), what it is told, how long a slow one is waited for; and what the server says of itself: health, check by check, and metrics. */
import { request as httpsRequest } from 'node:https';
import { connect as tlsConnect } from 'node:tls';
import { connect } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { FairQueue } from '../../api-server/fairness/fair-queue.ts';
import { configMap, startApi, type Answer, type Api } from './api.ts';

const PATH = '/api/v1/namespaces/default/configmaps';
const PLACES = 4;
const WAITING = 8;
const NOISY = 'noisy|developers';
const QUIET = 'quiet|developers';

let api: Api;
/** Begun first, and heard last: they take as long as the server's patience. */
let slow: Promise<string[]>;
t.before(async () => {
  const limits = {
    workload: { places: PLACES, waitingPerFlow: WAITING, waiting: 64 },
    longRunningPerUser: 3,
  };
  api = await startApi(t, { limits });
  const head = 'GET /api/v1/namespaces HTTP/1.1\r\nHost: x\r\n';
  slow = Promise.all([
    converse('', { secure: false }),
    converse(head, { secure: true }),
    converse(`${head}X: ${'x'.repeat(300_000)}\r\n\r\n`, { secure: true }),
  ]);
  await api.post('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    metadata: { name: 'developers' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'edit' },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'developers' }],
  });
});

/** Bytes on a connection, and what comes back until it is closed. */
function converse(bytes: string, given: { secure: boolean }): Promise<string> {
  return new Promise((resolve) => {
    const socket = given.secure
      ? tlsConnect({ port: api.port, host: '127.0.0.1', rejectUnauthorized: false })
      : connect(api.port, '127.0.0.1');
    let said = '';
    socket.on('data', (chunk: Buffer) => (said += chunk.toString()));
    socket.on('error', () => undefined).on('close', () => resolve(said));
    socket.write(bytes);
  });
}

interface Flood {
  readonly answered: () => number;
  readonly refused: () => Answer[];
  stop(): Promise<void>;
}

/** One user that writes as fast as it is answered, over many connections, and takes no notice of Retry-After. */
function flood(connections: number): Flood {
  let going = true;
  let answered = 0;
  let made = 0;
  const refused: Answer[] = [];
  const worker = async (): Promise<void> => {
    while (going) {
      const answer = await api.post(PATH, configMap(`flood-${made++}`), { user: NOISY });
      if (answer.status === 201) answered++;
      else if (answer.status === 429) refused.push(answer);
      else throw new Error(`${answer.status} ${answer.text}`);
    }
  };
  const workers = Promise.all(Array.from({ length: connections }, worker));
  return {
    answered: () => answered,
    refused: () => refused,
    async stop() {
      going = false;
      await workers;
    },
  };
}

t.test('a flood by one user', { timeout: 120_000 }, async (t) => {
  const noise = flood(40);
  while (noise.answered() < 20 || noise.refused().length < 20) await new Promise((resolve) => setTimeout(resolve, 10));

  const refusal = noise.refused()[0];
  t.equal(refusal?.headers['retry-after'], '1');
  t.match(refusal?.body, {
    kind: 'Status',
    reason: 'TooManyRequests',
    code: 429,
    message: 'Too many requests, please try again later.',
    details: { retryAfterSeconds: 1 },
  });

  // Another user is never refused, and passes by everything that waits: only what holds a place goes before.
  const overtaken: number[] = [];
  for (let index = 0; index < 25; index++) {
    const before = noise.answered();
    const answer = await api.post(PATH, configMap(`quiet-${index}`), { user: QUIET });
    t.equal(answer.status, 201);
    overtaken.push(noise.answered() - before);
  }
  overtaken.sort((a, b) => a - b);
  t.ok((overtaken[12] ?? NaN) <= 4 * PLACES, `answered to the noisy user meanwhile: ${overtaken.join(' ')}`);
  t.equal((await api.get(PATH, { user: 'admin' })).status, 200, 'administrators have places of their own');
  t.equal((await api.get('/readyz', { user: null })).text, 'ok', 'health waits for nobody');
  t.equal((await api.get('/api/v1/nodes/here', { user: 'system:node:here|system:nodes' })).status, 404, 'nor a node');

  const metrics = (await api.get('/metrics')).text;
  t.match(metrics, /apiserver_flowcontrol_current_executing_requests\{priority_level="workload"\} [1-4]\n/);
  t.match(
    metrics,
    /apiserver_flowcontrol_rejected_requests_total\{priority_level="workload",reason="queue-full"\} \d\d/,
  );

  // kubectl waits as it is told and tries again, though it is the noisy user's.
  const said = await api.kubectl([
    'get',
    'configmap',
    'quiet-0',
    '-o',
    'name',
    '--as',
    'noisy',
    '--as-group',
    'developers',
  ]);
  t.equal(said, 'configmap/quiet-0\n');
  await noise.stop();
  t.equal((await api.get(PATH, { user: NOISY })).status, 200, 'and when it is over it is over');
});

t.test('watches of one user', async (t) => {
  const path = `${PATH}?watch=1&fieldSelector=metadata.name=none`;
  const watches = [];
  for (let index = 0; index < 3; index++) watches.push(await api.watch(path, { user: QUIET }));
  t.same(
    watches.map(({ status }) => status),
    [200, 200, 200],
  );
  const refused = await api.get(path, { user: QUIET });
  t.equal(refused.status, 429);
  t.equal(refused.headers['retry-after'], '1');
  const other = await api.watch(path, { user: NOISY });
  t.equal(other.status, 200);
  t.match((await api.get('/metrics')).text, /apiserver_longrunning_requests 4\n/);
  for (const watch of [...watches, other]) watch.stop();
  let again = 429;
  for (let attempt = 0; attempt < 200 && again === 429; attempt++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const watch = await api.watch(path, { user: QUIET });
    again = watch.status;
    watch.stop();
  }
  t.equal(again, 200, 'a watch that has ended makes room');
});

/** A watch that reads only when it is told to; says at its end whether it was ended or cut off. */
function slowWatch(path: string): Promise<{ read(): Promise<{ names: string[]; last: string; whole: boolean }> }> {
  return new Promise((resolve, reject) => {
    const { port } = api;
    const options = { host: '127.0.0.1', port, path, rejectUnauthorized: false, ...api.credentials('admin') };
    const outgoing = httpsRequest(options, (response) => {
      response.pause();
      const chunks: Buffer[] = [];
      const ended = new Promise<void>((done) => response.on('close', done).on('error', () => undefined));
      resolve({
        async read() {
          response.on('data', (chunk: Buffer) => chunks.push(chunk)).resume();
          await ended;
          const lines = Buffer.concat(chunks).toString().split('\n').filter(Boolean);
          const objects = lines.map(
            (line) => (JSON.parse(line) as { object: { metadata: Record<string, string> } }).object,
          );
          const [names, versions] = [
            objects.map(({ metadata }) => metadata['name'] ?? ''),
            objects.map(({ metadata }) => metadata['resourceVersion'] ?? ''),
          ];
          return { names, last: versions.at(-1) ?? '', whole: response.complete };
        },
      });
    });
    outgoing.on('error', reject).end();
  });
}

t.test('a watcher that does not keep up gets what was sent to it, whole, and goes on from there', async (t) => {
  await api.post('/api/v1/namespaces', { metadata: { name: 'slow' } });
  const path = '/api/v1/namespaces/slow/configmaps';
  const { body } = await api.get(path);
  const from = (version: string): string => `${path}?watch=1&resourceVersion=${version}&timeoutSeconds=60`;
  const slow = await slowWatch(from(body.metadata.resourceVersion));
  const filler = 'x'.repeat(1_000_000);
  const made: string[] = [];
  // More than a socket and the server together hold for one watcher.
  for (let index = 0; index < 48; index++) {
    await api.post(path, configMap(`big-${index}`, { filler }));
    made.push(`big-${index}`);
  }
  const first = await slow.read();
  t.ok(first.whole, 'ended, and not cut off');
  t.ok(first.names.length > 0 && first.names.length < made.length, `${first.names.length} of ${made.length}`);
  t.same(first.names, made.slice(0, first.names.length), 'in order, without a gap');
  const rest = await api.watch(from(first.last));
  t.same(
    (await rest.until(made.length - first.names.length)).map(({ object }) => object.metadata.name),
    made.slice(first.names.length),
  );
  rest.stop();
});

t.test('the queue: never too many at once, nobody starves, nobody is forgotten', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ flow: fc.constantFrom('a', 'a', 'a', 'b', 'c'), leaves: fc.boolean() }), { maxLength: 60 }),
      fc.integer({ min: 1, max: 4 }),
      async (arrivals, places) => {
        const queue = new FairQueue({ places, waitingPerFlow: 5, waiting: 9 });
        const held: (() => void)[] = [];
        let [waiting, most] = [0, 0];
        const pending: Promise<void>[] = [];
        for (const { flow, leaves } of arrivals) {
          const entered = queue.enter(flow);
          if (typeof entered === 'function') held.push(entered);
          else if (typeof entered === 'object') {
            if (leaves) {
              entered.leave();
              continue;
            }
            waiting++;
            pending.push(
              entered.place.then((release) => {
                waiting--;
                held.push(release);
              }),
            );
          }
          most = Math.max(most, queue.held);
        }
        if (most > places || queue.waiting !== waiting) throw new Error(`${most} at once, ${queue.waiting} wait`);
        while (held.length > 0) {
          held.shift()?.();
          await Promise.resolve();
          await Promise.resolve();
          if (queue.held > places) throw new Error('too many');
        }
        await Promise.all(pending);
        if (queue.held !== 0 || queue.waiting !== 0) throw new Error('somebody was forgotten');
      },
    ),
    { numRuns: 300 },
  );
  // One with a full line of its own, and one that comes last: the next free place is his.
  const queue = new FairQueue({ places: 2, waitingPerFlow: 10, waiting: 20 });
  const order: string[] = [];
  const releases: (() => void)[] = [];
  const enter = (flow: string): void => {
    const entered = queue.enter(flow);
    if (typeof entered === 'function') releases.push(entered);
    else if (typeof entered === 'object')
      void entered.place.then((release) => {
        order.push(flow);
        releases.push(release);
      });
    else order.push(`${flow} ${entered}`);
  };
  for (let index = 0; index < 12; index++) enter('noisy');
  enter('quiet');
  enter('noisy');
  for (let index = 0; index < 3; index++) {
    releases.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.same(order, ['noisy queue-full', 'quiet', 'noisy', 'noisy']);
  while (queue.held > 0) {
    releases.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.equal(order.length, 12);
});

t.test('health, check by check', async (t) => {
  const text = async (path: string) => (await api.get(path, { user: 'admin' })).text;
  for (const path of ['/healthz', '/livez', '/readyz', '/livez/ping', '/readyz/log', '/readyz/cache'])
    t.equal(await text(path), 'ok', path);
  t.equal(await text('/livez?verbose'), '[+]ping ok\nlivez check passed\n');
  t.equal(
    await text('/readyz?verbose&exclude=log'),
    '[+]ping ok\n[+]log excluded: ok\n[+]cache ok\n[+]shutdown ok\nreadyz check passed\n',
  );
  t.match(
    await text('/readyz?verbose=true&exclude=etcd'),
    /warn: some health checks cannot be excluded: no matches for "etcd"\n/,
  );
  t.equal((await api.get('/readyz/nonsense')).status, 404);
  t.equal((await api.get('/livez', { user: null })).text, 'ok');
  t.match(await api.kubectl(['get', '--raw', '/readyz?verbose']), /\[\+\]ping ok\n\[\+\]log ok/);
});

t.test('metrics', async (t) => {
  t.equal((await api.get('/metrics', { user: null })).status, 403);
  t.equal((await api.get('/metrics', { user: QUIET })).status, 403);
  await api.get(`${PATH}/missing`);
  await api.post(PATH, configMap('measured'));
  const answer = await api.get('/metrics');
  t.match(answer.headers['content-type'], /^text\/plain; version=0.0.4/);
  const labels = 'verb="GET",group="",version="v1",resource="configmaps",subresource="",scope="resource"';
  for (const line of [
    `apiserver_request_total{${labels},code="404"} 1`,
    `apiserver_request_duration_seconds_bucket{le="0.001",${labels}}`,
    'apiserver_storage_objects{resource="configmaps"}',
    'apiserver_storage_objects{resource="clusterroles.rbac.authorization.k8s.io"}',
    'apiserver_current_inflight_requests{request_kind="readOnly"}',
    'reckon_log_append_duration_seconds_count',
    'reckon_log_position{stream="log"}',
    'reckon_log_lag{stream="log"} 0',
    'process_resident_memory_bytes',
    'nodejs_eventloop_lag_seconds',
  ])
    t.ok(answer.text.includes(line), line);
  await api.kubectl('create serviceaccount scraper');
  await api.kubectl(
    'create clusterrolebinding scraper --clusterrole=system:monitoring --serviceaccount=default:scraper',
  );
  const token = (await api.kubectl('create token scraper --duration=24h')).trim();
  const scraped = await api.get('/metrics', { user: null, headers: { authorization: `Bearer ${token}` } });
  t.match(scraped.text, /nodejs_eventloop_lag_p99_seconds/);
  await api.get('/apis/made-up/v1/anything');
  t.notMatch((await api.get('/metrics')).text, /made-up/, 'no client makes up labels');
});

t.test('connections that take their time are closed', { timeout: 120_000 }, async (t) => {
  const [silent, unfinished, long] = await slow;
  t.equal(silent, '', 'no handshake');
  t.match(unfinished, /^HTTP\/1.1 408 /, 'a head that never ends');
  t.match(long, /^HTTP\/1.1 431 /, 'a head without measure');
  t.equal((await api.get('/livez')).text, 'ok');
});
