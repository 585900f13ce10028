/** The projection when its servers go away, when NATS comes back without its newest records, and when the log was trimmed past the cursor. Real servers, stopped and killed. */
import { randomInt } from 'node:crypto';
import { cp, rm } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import type { EventLog } from '../../event-log/event-log.ts';
import { openEventLog } from '../../event-log/jetstream.ts';
import type { Closable } from '../../event-log/jetstream.ts';
import { trim } from '../../event-log/trim.ts';
import { HistoryGoneError, StateUnavailableError } from '../../state/errors.ts';
import { openHistory } from '../../state/history.ts';
import type { History } from '../../state/history.ts';
import { migrate } from '../../state/migrate.ts';
import { runProjection } from '../../state/projection.ts';
import { rebuildProjection } from '../../state/rebuild.ts';
import { kinds, randomFrom, RandomWrites } from './random-writes.ts';
import { query, startNats, startPostgres } from './servers.ts';

const seed = Number(process.env['SEED'] ?? randomInt(1e9));
const postgres = await startPostgres();
const nats = await startNats();
t.teardown(async () => {
  await postgres.remove();
  await nats.remove();
});
t.comment(`SEED=${seed}`);

let prefixes = 0;
type Test = Pick<typeof t, 'teardown'>;

interface Scene {
  readonly databaseUrl: string;
  readonly log: EventLog & Closable;
  readonly history: History;
  readonly prefix: string;
  readonly warnings: string[];
  project(): () => Promise<void>;
}

async function scene(t: Test): Promise<Scene> {
  const databaseUrl = await postgres.createDatabase();
  await migrate(databaseUrl);
  const prefix = `o${++prefixes}`;
  const log = await openEventLog({ url: nats.url, stream: 'log', prefix });
  const history = openHistory(databaseUrl);
  const warnings: string[] = [];
  t.teardown(async () => {
    await history.close();
    await log.close();
  });
  const project = (): (() => Promise<void>) => {
    const ending = new AbortController();
    const logger = {
      info: () => undefined,
      warn: (fields: object, message: string) => warnings.push(`${message} ${JSON.stringify(fields)}`),
    };
    const running = runProjection({ databaseUrl, log, signal: ending.signal, logger });
    const stop = async (): Promise<void> => {
      ending.abort();
      await running;
    };
    t.teardown(stop);
    return stop;
  };
  return { databaseUrl, log, history, prefix, warnings, project };
}

async function sequences(databaseUrl: string): Promise<number[]> {
  const rows = await query<{ sequence: string }>(
    databaseUrl,
    'select h.sequence::text from history h order by h.sequence',
  );
  return rows.map((row) => Number(row.sequence));
}

async function objects(databaseUrl: string): Promise<[number, string][]> {
  const rows = await query<{ sequence: string; object: string }>(
    databaseUrl,
    'select o.sequence::text, o.object::text from objects o order by o.sequence',
  );
  return rows.map((row) => [Number(row.sequence), row.object]);
}

function living(writes: RandomWrites): [number, string][] {
  const all = kinds.flatMap((kind) => writes.aliveAt(kind, Number.MAX_SAFE_INTEGER));
  return all.map(({ sequence, object }): [number, string] => [sequence, object]).sort((a, b) => a[0] - b[0]);
}

await t.test(
  'PostgreSQL goes away in mid-follow: readers are told at once, and afterwards nothing is missing',
  async (t) => {
    const { databaseUrl, log, history, project } = await scene(t);
    const writes = new RandomWrites(log, randomFrom(seed));
    project();
    await writes.run(50);
    await postgres.kill();
    const startedMs = performance.now();
    await t.rejects(history.cursor(), StateUnavailableError);
    t.ok(performance.now() - startedMs < 10_000, 'in time');
    await writes.run(50);
    await postgres.start();
    await writes.run(20);
    await history.reach(writes.written.at(-1)!.sequence, 20_000);
    t.same(
      await sequences(databaseUrl),
      writes.written.map(({ sequence }) => sequence),
    );
    t.same(await objects(databaseUrl), living(writes));
  },
);

await t.test('NATS goes away in mid-follow, and afterwards nothing is missing', async (t) => {
  const { databaseUrl, log, history, project } = await scene(t);
  const writes = new RandomWrites(log, randomFrom(seed + 1));
  project();
  await writes.run(50);
  await nats.kill();
  await nats.start();
  await writes.run(50);
  await history.reach(writes.written.at(-1)!.sequence, 20_000);
  t.same(
    await sequences(databaseUrl),
    writes.written.map(({ sequence }) => sequence),
  );
});

for (const running of [false, true]) {
  await t.test(
    `NATS comes back without its newest records, the projection ${running ? 'running' : 'stopped'} meanwhile: it rewinds`,
    async (t) => {
      const { databaseUrl, log, history, project } = await scene(t);
      const writes = new RandomWrites(log, randomFrom(seed + 2), 4);
      let stop = project();
      await writes.run(40);
      const kept = writes.written.at(-1)!.sequence;
      // What a power cut does to records that were shown but not synced: the store is as it was before them.
      await nats.stop();
      const store = path.join(nats.folder, 'jetstream');
      await cp(store, `${store}.before`, { recursive: true });
      await nats.start();
      await writes.run(25);
      await history.reach(writes.written.at(-1)!.sequence, 20_000);
      const generation = (await history.cursor()).generation;
      if (!running) await stop();
      await nats.stop();
      await rm(store, { recursive: true });
      await cp(`${store}.before`, store, { recursive: true });
      await nats.start();
      writes.forgetAfter(kept);
      // The lost sequences go to other records; at the first, fewer than were lost.
      await writes.run(3);
      if (!running) stop = project();
      const reach = async (): Promise<void> => {
        const end = writes.written.at(-1)!.sequence;
        for (
          const untilMs = Date.now() + 20_000;
          Date.now() < untilMs;
          await new Promise((resolve) => setTimeout(resolve, 50))
        ) {
          const cursor = await history.cursor();
          if (cursor.generation > generation && cursor.sequence >= end) return;
        }
        t.fail('the projection did not rewind');
      };
      await reach();
      t.same(
        await sequences(databaseUrl),
        writes.written.map(({ sequence }) => sequence),
        'the lost records are forgotten',
      );
      t.same(await objects(databaseUrl), living(writes), 'and the objects are what the log says');
      await writes.run(60);
      await reach();
      t.same(await objects(databaseUrl), living(writes), 'also when the sequences are reached again');
      await stop();
    },
  );
}

await t.test('trimmed past the cursor: older history stays, the present is right, and the gap says so', async (t) => {
  const { databaseUrl, log, history, prefix, project } = await scene(t);
  const writes = new RandomWrites(log, randomFrom(seed + 4));
  const stop = project();
  await writes.run(120);
  const cursor = writes.written.at(-1)!.sequence;
  await history.reach(cursor, 20_000);
  await stop();
  const before = await sequences(databaseUrl);
  await writes.run(120);
  const { floor } = await trim({
    url: nats.url,
    prefix,
    retentionMs: 0,
    unsafeWindow: true,
    keepAfter: writes.written.at(-1)!.sequence,
  });
  t.ok(floor > cursor + 1, 'there is a gap');
  await writes.run(30);
  project();
  const end = writes.written.at(-1)!.sequence;
  await history.reach(end, 20_000);
  t.same(await objects(databaseUrl), living(writes), 'the objects are what the log says');
  const after = await sequences(databaseUrl);
  t.same(after.slice(0, before.length), before, 'nothing that was recorded is lost');
  t.same(
    after.filter((sequence) => sequence >= floor),
    writes.written.map(({ sequence }) => sequence).filter((sequence) => sequence >= floor),
    'from the floor on everything is there',
  );
  for (const kind of kinds) {
    const page = await history.listAt(kind, cursor, { limit: 1000 });
    t.same(
      page.items.map(({ sequence }) => sequence),
      writes.aliveAt(kind, cursor).map(({ sequence }) => sequence),
      'before the gap history is exact',
    );
    t.same(
      (await history.listAt(kind, end, { limit: 1000 })).items.map(({ sequence }) => sequence),
      writes.aliveAt(kind, end).map(({ sequence }) => sequence),
      'and after it',
    );
    await t.rejects(history.listAt(kind, cursor + 1, { limit: 10 }), HistoryGoneError, 'in the gap it is not answered');
    await t.rejects(history.changes(kind, cursor - 5, end, 10), HistoryGoneError, 'nor are changes across it');
    const changes = await history.changes(kind, floor - 1, end, 1000);
    const wanted = writes.written.filter(({ sequence, key }) => sequence >= floor && key.resource === kind.resource);
    t.same(
      changes.changes.map(({ sequence }) => sequence),
      wanted.map(({ sequence }) => sequence),
      'from the floor on changes are',
    );
  }
  const tables = async (): Promise<string> =>
    JSON.stringify(
      await Promise.all(
        ['records', 'lifetimes', 'gaps'].map((table) =>
          query(databaseUrl, `select x::text from (select * from ${table}) x order by 1`),
        ),
      ),
    );
  const rows = await tables();
  await rebuildProjection({
    databaseUrl,
    log,
    signal: AbortSignal.timeout(30_000),
    logger: { info: () => undefined, warn: () => undefined },
  });
  t.equal(await tables(), rows, 'a rebuild from the floor gives the same rows');
});

await t.test('a database that begins when the log was already trimmed has the whole present', async (t) => {
  const { databaseUrl, log, history, prefix, project } = await scene(t);
  const writes = new RandomWrites(log, randomFrom(seed + 5));
  await writes.run(100);
  await trim({ url: nats.url, prefix, retentionMs: 0, unsafeWindow: true, keepAfter: writes.written.at(-1)!.sequence });
  await writes.run(20);
  project();
  await history.reach(writes.written.at(-1)!.sequence, 20_000);
  t.same(await objects(databaseUrl), living(writes));
  await t.rejects(history.listAt(kinds[0]!, 3, { limit: 10 }), HistoryGoneError);
});

await t.test(
  'another log is not taken for this one: history is kept, and the log of the projection says what is wrong',
  async (t) => {
    const { databaseUrl, log, history, project, warnings } = await scene(t);
    await query(databaseUrl, `insert into resources ("group", resource) values ('', 'configmaps')`);
    await query(
      databaseUrl,
      `insert into records (sequence, lifetime, time, plane, verb, resource, actor, request_id, write_id, object)
     select n, 1, now(), 'desired', 'update', 1, 'a', 'r', 'of another log ' || n, '{}' from generate_series(1, 10500) n`,
    );
    await query(
      databaseUrl,
      `update projection set sequence = 10500, record_sequence = 10500, write_id = 'of another log 10500'`,
    );
    await new RandomWrites(log, randomFrom(seed + 6)).run(5);
    const stop = project();
    for (const untilMs = Date.now() + 60_000; Date.now() < untilMs && warnings.length === 0;)
      await new Promise((resolve) => setTimeout(resolve, 100));
    t.match(warnings[0], /not the log that was projected/);
    t.equal((await history.cursor()).sequence, 10_500);
    await stop();
  },
);
