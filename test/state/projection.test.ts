/** The projection and the history read from it, against an independent model over random histories, on real servers: killed in the middle, doubled, rebuilt. */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { EventLog } from '../../event-log/event-log.ts';
import { openEventLog } from '../../event-log/jetstream.ts';
import type { Closable } from '../../event-log/jetstream.ts';
import { HistoryBehindError } from '../../state/errors.ts';
import { openHistory } from '../../state/history.ts';
import type { History, Version } from '../../state/history.ts';
import { migrate } from '../../state/migrate.ts';
import { runProjection } from '../../state/projection.ts';
import { rebuildProjection } from '../../state/rebuild.ts';
import { whileRecorded } from '../../state/trimming.ts';
import { contradictions, rowsUpTo } from './projected-rows.ts';
import { kinds, randomFrom, RandomWrites } from './random-writes.ts';
import type { Written } from './random-writes.ts';
import { query, startNats, startPostgres } from './servers.ts';

const seed = Number(process.env['SEED'] ?? randomInt(1e9));
const size = Number(process.env['SIZE'] ?? 1);
const postgres = await startPostgres();
const nats = await startNats();
t.teardown(async () => {
  await postgres.remove();
  await nats.remove();
});
t.comment(`SEED=${seed}`);

const logger = { info: () => undefined, warn: () => undefined };
type Test = Pick<typeof t, 'teardown'>;

interface Watching {
  readonly onPosition?: (position: number) => void;
  readonly warn?: (fields: Record<string, unknown>) => void;
}

let prefixes = 0;

async function fresh(t: Test): Promise<{ databaseUrl: string; log: EventLog & Closable; history: History }> {
  const databaseUrl = await postgres.createDatabase();
  await migrate(databaseUrl);
  const log = await openEventLog({ url: nats.url, stream: 'log', prefix: `t${++prefixes}` });
  const history = openHistory(databaseUrl);
  t.teardown(async () => {
    await history.close();
    await log.close();
  });
  return { databaseUrl, log, history };
}

function start(t: Test, databaseUrl: string, log: EventLog, watch: Watching = {}): { stop(): Promise<void> } {
  const ending = new AbortController();
  const { onPosition, warn = () => undefined } = watch;
  const running = runProjection({
    databaseUrl,
    log,
    signal: ending.signal,
    logger: { ...logger, warn },
    ...(onPosition ? { onPosition } : {}),
  });
  const stop = async (): Promise<void> => {
    ending.abort();
    await running;
  };
  t.teardown(stop);
  return { stop };
}

/** What a version must say for a write that was acknowledged. */
function expected(write: Written): Partial<Version> {
  const { sequence, key, plane, verb, uid, actor, requestId, time, causes, object } = write;
  return { sequence, key, plane, verb, uid, actor, requestId, time, causes, object };
}

function seen(version: Version | undefined): Partial<Version> | undefined {
  if (version === undefined) return undefined;
  const { sequence, key, plane, verb, uid, actor, requestId, time, causes, object } = version;
  return { sequence, key, plane, verb, uid, actor, requestId, time, causes, object };
}

async function rows(databaseUrl: string): Promise<string> {
  const parts = await Promise.all(
    ['records', 'lifetimes', 'gaps'].map((table) =>
      query(databaseUrl, `select x::text from (select * from ${table}) x order by 1`),
    ),
  );
  return JSON.stringify(parts);
}

await t.test('what is read at any moment is what the writes add up to', async (t) => {
  const { databaseUrl, log, history } = await fresh(t);
  const random = randomFrom(seed);
  const writes = new RandomWrites(log, random);
  const positions: number[] = [];
  let projection = start(t, databaseUrl, log, { onPosition: (position) => positions.push(position) });
  for (let round = 0; round < 4 * size; round++) {
    await writes.run(60);
    // Ended in the middle of whatever it is doing; the next one has to resume exactly there.
    await projection.stop();
    projection = start(t, databaseUrl, log, { onPosition: (position) => positions.push(position) });
  }
  const end = writes.written.at(-1)!.sequence;
  await history.reach(end, 20_000);

  const all = await query<{ sequence: string; object: string }>(
    databaseUrl,
    'select sequence::text, object::text from history h order by h.sequence',
  );
  t.same(
    all.map((row) => [Number(row.sequence), row.object]),
    writes.written.map((write) => [write.sequence, write.object]),
    'every record once, byte for byte',
  );
  t.ok(
    positions.every((position) => writes.settled(position) === position),
    'no position was ever in the middle of a transaction',
  );

  for (let check = 0; check < 40 * size; check++) {
    const sequence = Math.floor(random() * (end + 1));
    const moment = writes.settled(sequence);
    const kind = kinds[check % kinds.length]!;
    const namespace = check % 3 === 0 ? 'shop' : undefined;
    const items: Version[] = [];
    for (let after: { namespace: string; name: string } | undefined; ;) {
      const page = await history.listAt({ ...kind, ...(namespace ? { namespace } : {}) }, sequence, {
        limit: 5,
        ...(after ? { after } : {}),
      });
      t.equal(page.sequence, moment, 'stands at the end of a transaction');
      items.push(...page.items);
      if (page.next === undefined) break;
      after = page.next;
    }
    t.same(
      items.map(seen),
      writes.aliveAt(kind, moment, namespace).map(expected),
      `all ${kind.resource} at ${sequence}`,
    );

    const { key } = writes.written[Math.floor(random() * writes.written.length)]!;
    const object = writes
      .aliveAt(key, moment)
      .find((write) => write.key.namespace === key.namespace && write.key.name === key.name);
    t.same(seen(await history.objectAt(key, sequence)), object && expected(object), `${key.name} at ${sequence}`);
  }

  const { key } = writes.written[0]!;
  const newestFirst = writes.versionsOf(key).reverse().map(expected);
  t.same(
    (await history.versions(key, { limit: 1000 })).map(seen),
    newestFirst,
    'every version under a name, over its lives',
  );
  const before = newestFirst[Math.floor(newestFirst.length / 2)]!.sequence!;
  t.same(
    (await history.versions(key, { before, limit: 2 })).map(seen),
    newestFirst.filter((version) => version.sequence! < before).slice(0, 2),
    'a page of them',
  );

  const cause = writes.written.find((write) => write.causes.length > 0)!.causes[0]!;
  t.same(
    (await history.causedBy(cause, { limit: 1000 })).map(seen),
    writes.written.filter((write) => write.causes.includes(cause)).map(expected),
    'what a record caused',
  );
  const transaction = writes.written.find((write) => write.transaction?.place === 2)!;
  const member = await history.recordAt(transaction.sequence);
  t.match(member?.transaction, { place: 2, count: transaction.transaction!.count }, 'a member knows its transaction');
  t.equal(
    (await history.recordAt(transaction.sequence - 1))?.transaction?.id,
    member?.transaction?.id,
    'and the one before it is of the same',
  );

  const last = writes.written.at(-1)!;
  t.equal((await history.sequenceAt(new Date(Date.parse(last.time) + 1))).sequence, end, 'the sequence at a time: now');
  t.equal(
    (await history.sequenceAt(new Date(Date.parse(writes.written[0]!.time) - 1))).sequence,
    0,
    'before everything',
  );
  const some = writes.written[Math.floor(writes.written.length / 2)]!;
  const then = writes.settled(writes.written.filter((write) => write.time <= some.time).at(-1)!.sequence);
  t.equal((await history.sequenceAt(new Date(some.time))).sequence, then, 'in between');

  await t.rejects(history.objectAt(key, end + 1), HistoryBehindError, 'the future is not answered');
});

await t.test('changes come in order, paged, each with the version before it', async (t) => {
  const { databaseUrl, log, history } = await fresh(t);
  const writes = new RandomWrites(log, randomFrom(seed + 1));
  await writes.run(150);
  start(t, databaseUrl, log);
  const end = writes.written.at(-1)!.sequence;
  await history.reach(end, 20_000);
  const kind = kinds[1]!;
  for (const namespace of [undefined, 'shop']) {
    const from = Math.floor(end / 3);
    const changes: { sequence: number; previous: string | undefined }[] = [];
    for (let after = from, complete = false; !complete;) {
      const page = await history.changes({ ...kind, ...(namespace ? { namespace } : {}) }, after, end - 5, 7);
      changes.push(...page.changes.map(({ sequence, previous }) => ({ sequence, previous })));
      ({ position: after, complete } = page);
    }
    const wanted = writes.written.filter(
      ({ sequence, key }) =>
        sequence > from &&
        sequence <= end - 5 &&
        key.resource === kind.resource &&
        (namespace === undefined || key.namespace === namespace),
    );
    const previous = (write: Written): string | undefined =>
      write.verb === 'create'
        ? undefined
        : writes
            .versionsOf(write.key)
            .filter(({ sequence }) => sequence < write.sequence)
            .at(-1)?.object;
    t.same(
      changes,
      wanted.map((write) => ({ sequence: write.sequence, previous: previous(write) })),
      namespace ?? 'all namespaces',
    );
  }
});

await t.test('of two projections one writes, and the other takes over when it ends', async (t) => {
  const { databaseUrl, log, history } = await fresh(t);
  const writes = new RandomWrites(log, randomFrom(seed + 2));
  const first = start(t, databaseUrl, log);
  start(t, databaseUrl, log);
  await writes.run(80);
  await first.stop();
  await writes.run(80);
  await history.reach(writes.written.at(-1)!.sequence, 20_000);
  const all = await query<{ sequence: string }>(
    databaseUrl,
    'select r.sequence::text from records r order by r.sequence',
  );
  t.same(
    all.map((row) => Number(row.sequence)),
    writes.written.map((write) => write.sequence),
  );
});

await t.test('a rebuild gives the same rows, whether a projection runs or not', async (t) => {
  const { databaseUrl, log, history } = await fresh(t);
  const writes = new RandomWrites(log, randomFrom(seed + 3));
  await writes.run(200);
  const rebuild = async (): Promise<void> => {
    const progress: number[] = [];
    await rebuildProjection({
      databaseUrl,
      log,
      signal: AbortSignal.timeout(60_000),
      logger,
      onProgress: ({ position }) => progress.push(position),
    });
    t.ok(progress.at(-1)! >= writes.written.at(-1)!.sequence, 'is done when it says so');
  };
  await rebuild();
  const before = await rows(databaseUrl);
  t.equal(JSON.parse(before)[0].length, writes.written.length, 'an empty projection is filled');
  await query(
    databaseUrl,
    `delete from records where sequence % 7 = 0; update lifetimes set namespace = 'wrong', name = first_sequence where first_sequence % 5 = 0`,
  );
  await rebuild();
  t.equal(await rows(databaseUrl), before, 'alone');
  start(t, databaseUrl, log);
  await sleep(300);
  await rebuild();
  t.equal(await rows(databaseUrl), before, 'beside a running projection');
  await writes.run(10);
  await history.reach(writes.written.at(-1)!.sequence, 20_000);
  t.equal(JSON.parse(await rows(databaseUrl))[0].length, writes.written.length, 'which goes on afterwards');
});

await t.test(
  'while it is rebuilt, and killed in the middle, nothing wrong is answered; then every row is what it was',
  async (t) => {
    const { databaseUrl, log, history } = await fresh(t);
    const writes = new RandomWrites(log, randomFrom(seed + 4));
    let projection = start(t, databaseUrl, log);
    await writes.run(60);
    const end = writes.settled(writes.written.at(-1)!.sequence);
    await history.reach(end, 20_000);
    const before = await rowsUpTo(databaseUrl, end);

    const kind = kinds[0]!;
    const { key, uid, time } = writes.written.find((write) => write.key.resource === kind.resource)!;
    const oldest = { before: end + 1, limit: 1000 };
    const questions = [
      async () => (await history.listAt(kind, end, { limit: 1000 })).items.map(({ sequence }) => sequence),
      async () => (await history.versions(key, oldest)).map(({ sequence }) => sequence),
      async () => (await history.recordAt(end))?.sequence,
      async () => (await history.byUid(uid)).map(({ uid: found }) => found),
      async () => (await history.newestLife(key)) !== undefined,
      async () => (await history.differences({ from: 1, to: end, limit: 1000 })).length,
      async () => (await history.changes(kind, 0, end, 1000)).changes.length,
      async () => {
        const { sequence, recordedUpTo } = await history.sequenceAt(new Date(time));
        return sequence < recordedUpTo ? sequence : 'not yet';
      },
    ];
    const right = await Promise.all(questions.map((ask) => ask()));
    let over = false;
    let answers = 0;
    const reasons = new Set<string>();
    const asking = questions.map(async (ask, index) => {
      while (!over) {
        try {
          const answer = await ask();
          answers += 1;
          if (answer !== 'not yet') t.strictSame(answer, right[index], `question ${index}`);
        } catch (error) {
          if (!(error instanceof HistoryBehindError)) throw error;
          reasons.add(error.message.replaceAll(/\d+/g, 'N'));
          await sleep(1);
        }
      }
    });
    for (let round = 0; round < 3 * size; round++) {
      const ending = new AbortController();
      const rebuilding = rebuildProjection({
        databaseUrl,
        log,
        signal: ending.signal,
        logger,
        onPosition: () => ending.abort(),
      }).catch(() => undefined);
      await writes.run(5);
      if (round % 2 === 0) {
        // Whoever projects ends in the middle, and so does the one who asked for it; another goes on.
        await projection.stop();
        await rebuilding;
        projection = start(t, databaseUrl, log);
      }
      await rebuilding;
    }
    await history.reach(writes.written.at(-1)!.sequence, 20_000);
    over = true;
    await Promise.all(asking);
    t.ok(answers > 0);
    t.ok(
      reasons.has('the projection is being rebuilt from the log, and has come to sequence N of N'),
      [...reasons].join(),
    );
    t.strictSame(await rowsUpTo(databaseUrl, end), before, 'row for row');
    t.strictSame(await contradictions(databaseUrl), []);
    t.equal((await history.cursor()).rebuildingTo, undefined, 'and nothing says any more that rows are missing');
  },
);

await t.test('a rebuild waits for who trims the log and for long queries, and turns nobody away', async (t) => {
  const { databaseUrl, log, history } = await fresh(t);
  const writes = new RandomWrites(log, randomFrom(seed + 5));
  start(t, databaseUrl, log);
  await writes.run(20);
  await history.reach(writes.written.at(-1)!.sequence, 20_000);
  const { generation } = await history.cursor();
  let rebuilding: Promise<void> | undefined;
  const { signal } = new AbortController();
  const reader = query(
    databaseUrl,
    'select pg_sleep(1.2) from (select count(*) from records) r, lateral (select count(*) from lifetimes) l',
  );
  await whileRecorded({ databaseUrl, signal }, async (recordedUpTo) => {
    t.equal(recordedUpTo, writes.written.at(-1)!.sequence);
    rebuilding = rebuildProjection({ databaseUrl, log, signal, logger });
    await sleep(700);
    t.equal((await history.cursor()).generation, generation, 'what was promised to be recorded stays');
    t.equal(
      (await history.listAt(kinds[0]!, recordedUpTo, { limit: 1 })).sequence,
      recordedUpTo,
      'others go on reading',
    );
  });
  await reader;
  await rebuilding;
  t.equal((await history.cursor()).generation, generation + 1);
});

await t.test('a record that cannot be stored is reported and passed over, and its neighbours stay', async (t) => {
  const { databaseUrl, log, history } = await fresh(t);
  const key = (name: string) => ({ group: '', resource: 'configmaps', namespace: 'default', name });
  const put = (name: string, object: string) =>
    log.append({
      key: key(name),
      plane: 'desired',
      verb: 'create',
      uid: `uid-${name}`,
      guard: 0,
      object,
      actor: 'a',
      requestId: 'r',
      time: new Date().toISOString(),
      causes: [],
    });
  const good = await put('good', '{"n":1}');
  const bad = await put('bad', '{"n":}');
  const last = await put('last', '{"n":2}');
  const reports: unknown[] = [];
  start(t, databaseUrl, log, { warn: (fields) => reports.push(fields) });
  await history.reach(last.sequence, 20_000);
  t.ok(await history.objectAt(key('good'), last.sequence));
  t.ok(await history.objectAt(key('last'), last.sequence));
  t.equal(await history.objectAt(key('bad'), last.sequence), undefined);
  t.ok(
    reports.some((fields) => (fields as { sequence?: number }).sequence === bad.sequence),
    'the report names the sequence',
  );
  t.ok(good.sequence < bad.sequence);
});
