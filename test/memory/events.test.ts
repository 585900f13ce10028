/** The events of the log as server-sent events: in order and with their authors, resumed by id, selected, as CloudEvents, and only for whoever may watch. Against one API server. */
import { type ClientRequest, type IncomingMessage } from 'node:http';
import https from 'node:https';
import t, { type Test } from 'tap';
import { trim } from '../../event-log/trim.ts';
import { configMap, startApi, type Api, type Json } from '../api-server/api.ts';

t.setTimeout(600_000);

interface Sent {
  readonly event: string;
  readonly id: string;
  readonly data: Json;
}

interface Reader {
  readonly status: number;
  readonly headers: Json;
  readonly body: () => string;
  /** What has come so far, once there are so many; rejects after some seconds. */
  until(count: number): Promise<readonly Sent[]>;
  readonly sent: Sent[];
  readonly response: IncomingMessage;
  close(): void;
}

/** As an EventSource reads: blocks between empty lines. */
function read(
  t: Test,
  api: Api,
  query: string,
  options: { user?: string; headers?: Record<string, string>; place?: string } = {},
): Promise<Reader> {
  const { user = 'admin', headers = {}, place = '/namespaces/shop' } = options;
  const { cert, key } = api.credentials(user);
  return new Promise((resolve, reject) => {
    const outgoing: ClientRequest = https.get({
      host: '127.0.0.1',
      port: api.port,
      path: `/apis/log.reckon.dev/v1${place}/events${query}`,
      cert,
      key,
      rejectUnauthorized: false,
      agent: false,
      headers: { accept: 'text/event-stream', ...headers },
    });
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      const sent: Sent[] = [];
      let text = '';
      let all = '';
      response.setEncoding('utf8');
      response.on('error', () => undefined);
      response.on('data', (chunk: string) => {
        all += chunk;
        const blocks = (text + chunk).split('\n\n');
        text = blocks.pop() ?? '';
        for (const block of blocks) {
          const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1] ?? '';
          if (field('data') !== '')
            sent.push({ event: field('event'), id: field('id'), data: JSON.parse(field('data')) });
        }
      });
      const close = (): void => void outgoing.destroy();
      t.teardown(close);
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        body: () => all,
        sent,
        response,
        close,
        async until(count) {
          const endMs = Date.now() + 10_000;
          while (sent.length < count) {
            if (Date.now() > endMs)
              throw new Error(`${sent.length} instead of ${count}: ${JSON.stringify(sent).slice(0, 1000)}`);
            await new Promise((go) => setTimeout(go, 20));
          }
          return sent;
        },
      });
    });
  });
}

const short = (sent: readonly Sent[]): string[] =>
  sent.map(({ event, data }) => (event === 'SYNCED' || event === 'RESET' ? event : `${event} ${data.name}`));

t.test('events over HTTP', async (t) => {
  const api = await startApi(t);
  const maps = '/api/v1/namespaces/shop/configmaps';
  await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'bank' } });
  await api.post(maps, configMap('old', { a: '1' }, { labels: { tier: 'web' } }));
  await api.post('/api/v1/namespaces/bank/configmaps', configMap('hidden'));

  await t.test('begins with what there is, then tells what happens, and goes on after the last id', async (t) => {
    const reader = await read(t, api, '?resources=core/configmaps,core/secrets');
    t.equal(reader.status, 200);
    t.match(reader.headers['content-type'], 'text/event-stream');
    const [added, synced] = await reader.until(2);
    t.strictSame(
      [added?.event, added?.id, added?.data.name],
      ['ADDED', '', 'old'],
      'a snapshot has no id before its end',
    );
    t.strictSame([synced?.event, Number(synced?.id)], ['SYNCED', synced?.data.revision]);
    await api.post(maps, configMap('new'));
    await api.patch(`${maps}/new`, 'merge', { data: { a: '2' } }, { user: 'ann|system:masters' });
    await api.post('/api/v1/namespaces/bank/configmaps', configMap('also-hidden'));
    await api.post('/api/v1/namespaces/shop/secrets', {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'pass' },
      stringData: { word: 'hush' },
    });
    await api.delete(`${maps}/old`);
    const sent = await reader.until(6);
    t.strictSame(short(sent.slice(2)), ['ADDED new', 'MODIFIED new', 'ADDED pass', 'DELETED old']);
    t.match(sent[3]?.data, {
      actor: 'ann',
      verb: 'patch',
      plane: 'desired',
      group: '',
      resource: 'configmaps',
      object: { data: { a: '2' } },
    });
    t.equal(sent[3]?.id, sent[3]?.data.object.metadata.resourceVersion);
    t.equal(sent[4]?.data.object.data.word, 'aHVzaA==', 'as a watch of Secrets would show it');
    reader.close();

    const later = await read(t, api, '?resources=core/configmaps,core/secrets', {
      headers: { 'last-event-id': sent[3]?.id ?? '' },
    });
    t.strictSame(short(await later.until(2)), ['ADDED pass', 'DELETED old'], 'without a snapshot, nothing twice');
    const other = await api.another();
    const elsewhere = await read(t, other, `?resources=core/configmaps&after=${sent[2]?.id}`);
    t.strictSame(short(await elsewhere.until(2)), ['MODIFIED new', 'DELETED old'], 'from any API server');
    await other.stop();
  });

  await t.test('selects by label and name: what leaves the selection is deleted', async (t) => {
    const reader = await read(t, api, '?resources=core/configmaps&labelSelector=tier%3Dweb');
    const one = await read(t, api, '?name=moving&after=now');
    await reader.until(1);
    await api.post(maps, configMap('moving', {}, { labels: { tier: 'web' } }));
    await api.post(maps, configMap('still', {}, { labels: { tier: 'data' } }));
    await api.patch(`${maps}/moving`, 'merge', { data: { a: '2' } });
    await api.patch(`${maps}/moving`, 'merge', { metadata: { labels: { tier: 'data' } } });
    await api.patch(`${maps}/moving`, 'merge', { data: { a: '3' } });
    await api.patch(`${maps}/still`, 'merge', { metadata: { labels: { tier: 'web' } } });
    const sent = await reader.until(5);
    t.strictSame(short(sent), ['SYNCED', 'ADDED moving', 'MODIFIED moving', 'DELETED moving', 'ADDED still']);
    t.strictSame(short(await one.until(4)), ['ADDED moving', 'MODIFIED moving', 'MODIFIED moving', 'MODIFIED moving']);
    const back = await read(t, api, `?resources=core/configmaps&labelSelector=tier%3Dweb&after=${sent[2]?.id}`);
    t.strictSame(short(await back.until(2)), ['DELETED moving', 'MODIFIED still']);
  });

  await t.test('as CloudEvents', async (t) => {
    const reader = await read(t, api, '?resources=core/configmaps&after=now', {
      headers: { accept: 'application/cloudevents+json' },
    });
    await api.post(maps, configMap('cloud'));
    const [{ data, id }] = (await reader.until(1)) as [Sent];
    t.match(data, {
      specversion: '1.0',
      id,
      source: '/apis/log.reckon.dev/v1/events',
      type: 'dev.reckon.object.added',
      subject: 'core/configmaps/shop/cloud',
      datacontenttype: 'application/json',
      actor: 'admin',
      verb: 'create',
      data: { kind: 'ConfigMap', metadata: { name: 'cloud' } },
    });
    t.ok(
      Object.keys(data).every((name) => /^[a-z0-9]+$/.test(name)),
      'attribute names as the specification has them',
    );
    t.ok(!Number.isNaN(Date.parse(data.time)));
  });

  await t.test('only for whoever may watch', async (t) => {
    const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/shop';
    const metadata = { name: 'watching' };
    await api.post(`${rbac}/roles`, {
      metadata,
      rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['watch'] }],
    });
    await api.post(`${rbac}/rolebindings`, {
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'watching' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'ann' }],
    });
    const user = 'ann|developers';
    t.equal((await read(t, api, '?resources=core/configmaps', { user })).status, 200);
    const refusals: [string, string][] = [
      ['?resources=core/secrets', '/namespaces/shop'],
      ['?resources=core/configmaps,core/secrets', '/namespaces/shop'],
      ['', '/namespaces/shop'],
      ['?resources=core/configmaps', '/namespaces/bank'],
      ['?resources=core/configmaps', ''],
    ];
    for (const [query, place] of refusals)
      t.equal((await read(t, api, query, { user, place })).status, 403, `${place}${query}`);
    for (const query of [
      '?resources=pods',
      '?resources=core/events',
      '?after=yesterday',
      '?format=xml',
      '?labelSelector=a%3D%3D%3Db',
    ])
      t.equal((await read(t, api, query)).status, 400, query);
  });

  await t.test('a reader that takes nothing holds nobody up; one that retention has passed is told', async (t) => {
    const slow = await read(t, api, '?resources=core/configmaps&after=now');
    slow.response.pause();
    const from = await api.lastSequence();
    const data = { blob: 'x'.repeat(200_000) };
    for (let count = 0; count < 60; count++) await api.post(maps, configMap(`big-${count}`, data));
    slow.response.resume();
    t.strictSame(
      short(await slow.until(60)),
      Array.from({ length: 60 }, (_, count) => `ADDED big-${count}`),
      'in order, none missing',
    );
    await api.delete(maps);
    await trim({
      url: api.natsUrl,
      prefix: api.prefix,
      keepAfter: Number.MAX_SAFE_INTEGER,
      retentionMs: 0,
      unsafeWindow: true,
    });
    const late = await read(t, api, '?resources=core/configmaps', { headers: { 'last-event-id': String(from) } });
    t.strictSame(short(await late.until(2)), ['RESET', 'SYNCED'], 'all of it is gone');
    const ahead = await read(t, api, '?resources=core/configmaps&after=999999999');
    t.strictSame(short(await ahead.until(2)), ['RESET', 'SYNCED']);
  });
});
