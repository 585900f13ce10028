/**
 * `?at=`: a random history is written through the API, and what its answers said is kept; then every kind, at many moments, by revision and by time, must be as it was.
 */
import t from 'tap';
import { parseMoment } from '../../api-server/memory/moment.ts';
import { startApi, type Json } from '../api-server/api.ts';
import { expectedList, KINDS, NAMESPACES, randomFrom, writeHistory, type Step } from './random-history.ts';
import { until } from '../harness/until.ts';
import { projectBeside, startWithPast } from './stage.ts';

const WRITES = 200;
const MOMENTS = 40;
const SEED = Number(process.env['RECKON_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

t.test('the past, by revision and by time, is as it was', async (t) => {
  t.comment(`seed ${SEED}`);
  const stage = await startWithPast(t);
  const { api } = stage;
  for (const name of NAMESPACES)
    await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  const steps = await writeHistory(stage, WRITES, SEED);
  const random = randomFrom(SEED + 1);

  await t.test('lists and objects at many moments', async (t) => {
    for (let moment = 0; moment < MOMENTS; moment++) {
      const step = steps[random(steps.length)]!;
      const kind = KINDS[random(KINDS.length)]!;
      const namespace = NAMESPACES[random(2)]!;
      const collection = `${kind.root}/namespaces/${namespace}/${kind.resource}`;
      const at = moment % 2 === 0 ? String(step.revision) : step.time;
      const list = await api.get(`${collection}?at=${at}`);
      t.equal(list.status, 200, list.text);
      t.equal(list.headers['reckon-revision'], String(step.revision));
      t.equal(list.body.metadata.resourceVersion, String(step.revision));
      const expected = expectedList(step, kind, namespace);
      t.strictSame(list.body.items, expected, `${collection} at ${at}`);
      const [one] = expected;
      if (one) t.strictSame((await api.get(`${collection}/${one.metadata.name}?at=${at}`)).body, one);
    }
  });

  await t.test('an object that did not live then is not found', async (t) => {
    const first = steps[0]!;
    const later = [...steps.at(-1)!.alive.values()].find((object) => !aliveAt(first, object));
    const where = KINDS.find(({ kind }) => kind === later.kind)!;
    const target = `${where.root}/namespaces/${later.metadata.namespace}/${where.resource}/${later.metadata.name}`;
    t.equal((await api.get(target)).status, 200);
    const { status, body } = await api.get(`${target}?at=${first.revision}`);
    t.equal(status, 404);
    t.equal(body.reason, 'NotFound');
  });

  await t.test('pages of one moment fit together, and selectors select', async (t) => {
    const step = steps.at(-20)!;
    const names: string[] = [];
    const other = await api.another();
    let token = '';
    do {
      // Each page of the server that did not send the one before.
      const asked = names.length % 4 === 0 ? api : other;
      const page = await asked.get(`/api/v1/configmaps?at=${step.revision}&limit=2&continue=${token}`);
      t.equal(page.headers['reckon-revision'], String(step.revision));
      for (const { metadata } of page.body.items) names.push(`${metadata.namespace}/${metadata.name}`);
      token = page.body.metadata.continue ?? '';
    } while (token);
    const all = NAMESPACES.flatMap((namespace) => expectedList(step, KINDS[0], namespace));
    t.strictSame(
      names.filter((name) => !name.endsWith('kube-root-ca.crt')),
      all.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`),
    );
    const selected = all.find(({ metadata }) => metadata.labels?.step);
    if (!selected) return;
    const { step: label } = selected.metadata.labels;
    const answer = await api.get(`/api/v1/configmaps?at=${step.revision}&labelSelector=step%3D${label}`);
    t.strictSame(answer.body.items, [selected]);
  });

  await t.test('the scale of then', async (t) => {
    const step = steps.findLast(({ alive }) => [...alive.keys()].some((id) => id.startsWith('deployments/')))!;
    const [one] = expectedList(step, KINDS[2], 'blue').concat(expectedList(step, KINDS[2], 'green'));
    const { namespace, name } = one.metadata;
    const scale = await api.get(
      `/apis/apps/v1/namespaces/${namespace as string}/deployments/${name as string}/scale?at=${step.revision}`,
    );
    t.equal(scale.body.spec.replicas, one.spec.replicas);
    t.equal(scale.body.metadata.resourceVersion, one.metadata.resourceVersion);
  });

  await t.test('kubectl prints it as a table', async (t) => {
    const step = steps.at(-1)!;
    const raw = await api.kubectl(['get', '--raw', `/apis/apps/v1/namespaces/blue/deployments?at=${step.revision}`]);
    t.strictSame(JSON.parse(raw).items, expectedList(step, KINDS[2], 'blue'));
    const table = await api.get(`/apis/apps/v1/namespaces/blue/deployments?at=${step.revision}`, {
      accept: 'application/json;as=Table;v=v1;g=meta.k8s.io',
    });
    t.equal(table.body.kind, 'Table');
    t.equal(table.body.rows.length, expectedList(step, KINDS[2], 'blue').length);
  });

  await t.test('what cannot be answered says why', async (t) => {
    const maps = '/api/v1/namespaces/blue/configmaps';
    for (const at of ['soon', '', '25:00', '1.5', '2026-13-01T00:00:00Z', '99999999', '2999-01-01T00:00:00Z']) {
      const { status, body } = await api.get(`${maps}?at=${encodeURIComponent(at)}`);
      t.equal(status, 400, at);
      t.match(body.message, /^at: Invalid value: /);
    }
    t.match((await api.get(`${maps}?at=soon`)).body.message, /expected a revision .* time of day .* 2h/);
    t.equal((await api.get(`${maps}?at=5w`)).status, 410, 'before the first record');
    for (const at of ['0', '99999999w', '999999999w', '0000-01-01T00:00:00Z', '1969-12-31T23:59:59Z'])
      t.equal((await api.get(`${maps}?at=${at}`)).status, 410, at);
    t.equal((await api.get('/api/v1/namespaces/blue/events?at=1s')).status, 410, 'Events are not in the history');
    t.equal((await api.get(`${maps}?at=3&resourceVersion=3`)).status, 400);
    t.equal((await api.get(`${maps}?at=3&watch=true`)).status, 400);
    const asked = await api.get('/api/v1/namespaces/blue/secrets?at=1s', { user: 'nobody-in-particular' });
    t.equal(asked.status, 403, 'the past of a thing is for those who may see it now');
  });
});

const aliveAt = (step: Step, { kind, metadata }: Json): boolean =>
  [...step.alive.values()].some(
    (other) =>
      other.kind === kind && other.metadata.name === metadata.name && other.metadata.namespace === metadata.namespace,
  );

t.test('without a database the past is unavailable, and says so', async (t) => {
  const api = await startApi(t);
  const { status, body, headers } = await api.get('/api/v1/namespaces/default?at=now');
  t.equal(status, 503);
  t.match(body.message, /past/);
  t.ok(headers['retry-after']);
});

t.test('while PostgreSQL is down the present is answered, and the past is 503', async (t) => {
  const databaseUrl = 'postgres://nobody:nothing@127.0.0.1:1/none';
  const api = await startApi(t, { databaseUrl });
  t.equal((await api.get('/api/v1/namespaces/default')).status, 200);
  for (const at of ['now', '1', '1s']) t.equal((await api.get(`/api/v1/namespaces/default?at=${at}`)).status, 503, at);
  const root = '/apis/log.reckon.dev/v1';
  t.equal((await api.get(`${root}/history/core/namespaces/default`)).status, 503);
  const status = await api.get(`${root}/status`);
  t.equal(status.status, 200);
  t.strictSame(
    status.body.followers.map(({ name }: Json) => name),
    ['api-server'],
    'who is not there does not follow',
  );
  await projectBeside(t, api, databaseUrl);
  await until('the projection to say why it does not go on', async () => {
    const { followers } = (await api.get(`${root}/status`)).body;
    return followers.some(({ name, role, fault }: Json) => name === 'projection' && role === 'standby' && fault);
  });
});

t.test('a moment is read as it was written', async (t) => {
  const nowMs = Date.parse('2026-03-02T09:00:00Z');
  const timeOf = (text: string): string | undefined => {
    const moment = parseMoment(text, nowMs);
    return moment !== undefined && moment !== 'now' && 'timeMs' in moment
      ? new Date(moment.timeMs).toISOString()
      : undefined;
  };
  t.equal(timeOf('08:30'), '2026-03-02T08:30:00.000Z');
  t.equal(timeOf('10:42'), '2026-03-01T10:42:00.000Z', 'yesterday, when today it is not yet');
  t.equal(timeOf('2h'), '2026-03-02T07:00:00.000Z');
  t.equal(timeOf('1d12h ago'), '2026-02-28T21:00:00.000Z');
  t.equal(timeOf('2026-03-02T09:30:00+01:00'), '2026-03-02T08:30:00.000Z');
  t.equal(timeOf('2026-03-02T09:30:00 01:00'), '2026-03-02T08:30:00.000Z', 'a plus sign that was not escaped');
  t.strictSame(parseMoment('17', nowMs), { revision: 17 });
  t.equal(parseMoment('now', nowMs), 'now');
  for (const wrong of ['', '-1', '2x', '24:00', '2026-03-02', '1e9', 'h'])
    t.equal(parseMoment(wrong, nowMs), undefined);
});
