/**
 * The log away for a while, and several API servers on one log: what was acknowledged stands, once, wherever it is read; everything else is refused in a way that a client can act upon.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { startNatsChild, type NatsChild } from '../event-log/nats-child.ts';
import { configMap, startApi, type Answer, type Api, type Json } from './api.ts';

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';

let nats: NatsChild;
let one: Api;
let two: Api;
t.before(async () => {
  nats = await startNatsChild();
  one = await startApi(t, { natsUrl: nats.url });
  two = await one.another();
});
t.after(async () => {
  await two.stop();
  await one.stop();
  await nats.remove();
});

interface Outcome {
  readonly name: string;
  readonly answer: Answer;
}

/** Creates, some at a time, until told to stop; each name once, so that a doubled write would show. */
function creating(api: Api, prefix: string): { stop(): Promise<readonly Outcome[]> } {
  const outcomes: Outcome[] = [];
  let running = true;
  const work = async (worker: number) => {
    for (let index = 0; running; index++) {
      const name = `${prefix}-${worker}-${index}`;
      outcomes.push({ name, answer: await api.post(CONFIG_MAPS, configMap(name), { timeoutMs: 60_000 }) });
      await sleep(5);
    }
  };
  const workers = [0, 1, 2, 3].map(work);
  return {
    async stop() {
      running = false;
      await Promise.all(workers);
      return outcomes;
    },
  };
}

async function untilWritable(api: Api): Promise<void> {
  for (let index = 0; index < 60; index++) {
    if ((await api.post(`${CONFIG_MAPS}`, { metadata: { generateName: 'probe-' } })).status === 201) return;
    await sleep(250);
  }
  throw new Error('writes do not come back');
}

for (const [says, outage] of [
  [
    'killed for some seconds',
    async () => {
      await nats.kill();
      await sleep(4_000);
      await nats.start();
    },
  ],
  [
    'stopped for longer than a write waits',
    async () => {
      await nats.pause();
      await sleep(13_000);
      nats.resume();
    },
  ],
  [
    'killed and back at once, twice',
    async () => {
      for (let round = 0; round < 2; round++) {
        await nats.kill();
        await nats.start();
        await sleep(300);
      }
    },
  ],
] as const) {
  t.test(`NATS ${says}, under writes`, { timeout: 120_000 }, async (t) => {
    const prefix = says.replace(/[^a-z]/g, '').slice(0, 20);
    const watch = await two.watch(`${CONFIG_MAPS}?watch=1`);
    const writers = [creating(one, `${prefix}-a`), creating(two, `${prefix}-b`)];
    await sleep(500);
    await outage();
    await untilWritable(one);
    await untilWritable(two);
    await sleep(500);
    const outcomes = (await Promise.all(writers.map((writer) => writer.stop()))).flat();
    const acknowledged = outcomes.filter(({ answer }) => answer.status === 201);
    const refused = outcomes.filter(({ answer }) => answer.status !== 201);
    t.ok(acknowledged.length > 20, `${acknowledged.length} acknowledged, ${refused.length} refused`);
    for (const { answer } of refused)
      if (answer.status !== 503 || !answer.headers['retry-after'] || answer.body?.reason !== 'ServiceUnavailable')
        t.fail(`refused with ${answer.status} ${answer.text.slice(0, 300)}`);
    for (const api of [one, two]) {
      const { status, body } = await api.get(CONFIG_MAPS);
      t.equal(status, 200);
      const there = new Map<string, Json>(body.items.map((item: Json) => [item.metadata.name, item]));
      const lost = acknowledged.filter(
        ({ name, answer }) => there.get(name)?.metadata.uid !== answer.body.metadata.uid,
      );
      t.strictSame(
        lost.map(({ name }) => name),
        [],
        'nothing that was acknowledged is lost',
      );
    }
    await sleep(1_000);
    const seen = new Map<string, number>();
    for (const { type, object } of watch.events)
      if (type === 'ADDED') seen.set(object.metadata.name, (seen.get(object.metadata.name) ?? 0) + 1);
    t.strictSame(
      acknowledged.filter(({ name }) => seen.get(name) !== 1).map(({ name }) => name),
      [],
      'a watch that was open all the time has seen each once',
    );
    watch.stop();
  });
}

t.test(
  'while the log is away, reads that may be old go on and those that must not say so',
  { timeout: 60_000 },
  async (t) => {
    await one.post(CONFIG_MAPS, configMap('old'));
    await nats.kill();
    t.equal((await one.get(`${CONFIG_MAPS}/old?resourceVersion=0`)).status, 200);
    t.equal((await one.get(`${CONFIG_MAPS}?resourceVersion=0`)).status, 200);
    const fresh = await one.get(`${CONFIG_MAPS}/old`);
    t.match(fresh.body, { code: 503, reason: 'ServiceUnavailable' });
    t.ok(fresh.headers['retry-after']);
    const ready = await one.get('/readyz', { user: null });
    t.equal(ready.status, 500);
    t.match(ready.text, /\[-\]log failed/);
    t.equal((await one.get('/livez', { user: null })).status, 200, 'it is alive all the same');
    await nats.start();
    await untilWritable(one);
    await untilWritable(two);
    t.equal((await one.get(`${CONFIG_MAPS}/old`)).status, 200);
    t.equal((await one.get('/readyz', { user: null })).text, 'ok');
  },
);

t.test('two API servers: what one has answered, the other knows', async (t) => {
  const path = `${CONFIG_MAPS}/shared`;
  let last = await one.post(CONFIG_MAPS, configMap('shared', { n: '0' }));
  for (let round = 1; round <= 40; round++) {
    const [writer, reader] = round % 2 ? [two, one] : [one, two];
    last = await writer.put(path, { ...last.body, data: { n: String(round) } });
    t.equal(last.status, 200, 'a version from the other server is known here');
    t.equal((await reader.get(path)).body.data.n, String(round));
  }
  for (let round = 0; round < 20; round++) {
    const [first, second] = round % 2 ? [two, one] : [one, two];
    t.equal((await first.delete(path)).status, 200);
    t.equal((await second.get(path)).status, 404);
    t.equal(
      (await second.post(CONFIG_MAPS, configMap('shared', { n: 'x' }))).status,
      201,
      'a name that was let go over there is free here',
    );
    const patched = await first.patch(path, 'merge', { data: { n: 'y' } });
    t.equal(patched.status, 200);
    t.equal(
      (await second.patch(path, 'merge', { data: { n: 'y' } })).body.metadata.resourceVersion,
      patched.body.metadata.resourceVersion,
    );
    const back = await first.patch(path, 'merge', { data: { n: 'z' } });
    t.equal(
      (await second.patch(path, 'merge', { data: { n: 'y' } })).body.data.n,
      'y',
      '"nothing to change" is not believed of an old object',
    );
    t.equal((await first.get(path)).body.data.n, 'y');
    t.equal(
      (
        await second.delete(path, {
          body: { preconditions: { resourceVersion: (await first.get(path)).body.metadata.resourceVersion } },
        })
      ).status,
      200,
    );
    t.equal(back.status, 200);
    t.equal((await first.post(CONFIG_MAPS, configMap('shared'))).status, 201);
  }
});

t.test('races have one winner', async (t) => {
  for (let round = 0; round < 10; round++) {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        (index % 2 ? one : two).post(CONFIG_MAPS, configMap(`race-${round}`, { by: String(index) })),
      ),
    );
    const winners = answers.filter(({ status }) => status === 201);
    t.equal(winners.length, 1);
    t.ok(answers.every(({ status, body }) => status === 201 || (status === 409 && body.reason === 'AlreadyExists')));
    const { body } = await two.get(`${CONFIG_MAPS}/race-${round}`);
    t.equal(body.metadata.uid, winners[0]?.body.metadata.uid);
    const updates = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        (index % 2 ? one : two).put(`${CONFIG_MAPS}/race-${round}`, { ...body, data: { by: `u${index}` } }),
      ),
    );
    t.equal(updates.filter(({ status }) => status === 200).length, 1);
    t.ok(
      updates.every(({ status, body: answer }) => status === 200 || (status === 409 && answer.reason === 'Conflict')),
    );
  }
  const counters = Array.from({ length: 24 }, (_, index) => `k${index}`);
  await one.post(CONFIG_MAPS, configMap('counted', {}));
  const merged = await Promise.all(
    counters.map((key, index) =>
      (index % 2 ? one : two).patch(`${CONFIG_MAPS}/counted`, 'merge', { data: { [key]: 'x' } }),
    ),
  );
  const stood = counters.filter((_, index) => merged[index]?.status === 200);
  t.ok(merged.every(({ status }) => status === 200 || status === 409));
  const { body } = await one.get(`${CONFIG_MAPS}/counted`);
  t.strictSame(Object.keys(body.data).sort(), [...stood].sort(), 'patches that do not touch each other all stand');
  t.ok(stood.length >= 20, `${stood.length} of 24 without a conflict`);
  const gone = await Promise.all(
    Array.from({ length: 6 }, (_, index) => (index % 2 ? one : two).delete(`${CONFIG_MAPS}/counted`)),
  );
  t.equal(gone.filter(({ status }) => status === 200).length, 1);
  t.ok(gone.every(({ status }) => status === 200 || status === 404));
});
