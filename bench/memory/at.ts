/**
 * What a read of the past costs beside the same read of the present, with 1,000 and 100,000 records in the history (a million: `npm run bench -- memory/at`, with RECKON_BENCH_RECORDS=1000000), and how many bytes a
 * version takes in the log and in PostgreSQL, which is what an object costs a day. Real servers; PostgreSQL as the tests have it (without fsync: only reads are timed).
 */
import pg from 'pg';
import { openEventLog } from '../../event-log/jetstream.ts';
import { openHistory } from '../../state/history.ts';
import { startWithPast } from '../../test/memory/stage.ts';
import { around, type Around } from '../../test/prove/alone.ts';
import { generator } from '../../test/prove/generator.ts';

const SIZES = (process.env['RECKON_BENCH_RECORDS'] ?? '1000,100000').split(',').map(Number);
const OBJECTS = 500;
const READS = 200;
const LISTS = 20;
const WRITES_A_DAY = 24;
/** A million records are projected in some minutes. */
const REACH_LIMIT_MS = 1_800_000;

async function measure(t: Around, records: number): Promise<void> {
  const { api, servers } = await startWithPast(t);
  await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  const before = await bytes(servers.databaseUrl);
  const streamBefore = await streamBytes(servers.natsUrl, servers.prefix);
  const first = (await api.lastSequence()) + 1;
  const writtenMs = await write(servers, records);
  const last = await api.lastSequence();
  const history = openHistory(servers.databaseUrlAs('reckon_reader'));
  await history.reach(last, REACH_LIMIT_MS);
  await history.close();
  await analyse(servers.databaseUrl);
  const random = generator(1);
  const revision = (): number => first + Math.floor(random() * (last - first));
  const one = (): string => `/api/v1/namespaces/shop/configmaps/thing-${Math.floor(random() * OBJECTS)}`;
  const list = '/api/v1/namespaces/shop/configmaps';
  // A revision at which all the objects are there.
  const full = (): number => Math.max(first + Math.min(records, OBJECTS), revision());
  const [get, getAt, listLive, listAt] = [
    await median(READS, () => api.get(one())),
    await median(READS, () => api.get(`${one()}?at=${full()}`)),
    await median(LISTS, () => api.get(list)),
    await median(LISTS, () => api.get(`${list}?at=${full()}`)),
  ];
  const perVersion = ((await bytes(servers.databaseUrl)) - before) / records;
  const inLog = ((await streamBytes(servers.natsUrl, servers.prefix)) - streamBefore) / records;
  const show = (live: number, past: number): string =>
    `${live.toFixed(1)} ms now, ${past.toFixed(1)} ms then: ${(past / live).toFixed(1)}x`;
  console.log(`${records} records of ${OBJECTS} objects (written in ${(writtenMs / 1000).toFixed(0)} s), medians:`);
  console.log(`  one object         ${show(get, getAt)}`);
  console.log(`  a list of ${OBJECTS}      ${show(listLive, listAt)}`);
  console.log(
    `  bytes a version    ${inLog.toFixed(0)} in the log, ${perVersion.toFixed(0)} in PostgreSQL, of a payload of ${PAYLOAD}`,
  );
  console.log(
    `  an object that is written ${WRITES_A_DAY} times a day   ${((WRITES_A_DAY * perVersion) / 1024).toFixed(0)} KiB a day in PostgreSQL for good, ${((WRITES_A_DAY * inLog) / 1024).toFixed(0)} KiB a day in the log for 7 days`,
  );
}

const objectOf = (name: string, count: number): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: 'shop', uid: name, creationTimestamp: '2026-01-01T00:00:00Z' },
    data: { count: String(count), text: 'abcdefghij'.repeat(100) },
  });
const PAYLOAD = objectOf('thing-100', 1000).length;

async function write(servers: { natsUrl: string; prefix: string }, records: number): Promise<number> {
  const startedMs = performance.now();
  const log = await openEventLog({ url: servers.natsUrl, prefix: servers.prefix, stream: 'log' });
  const each = Math.ceil(records / OBJECTS);
  await Promise.all(
    Array.from({ length: OBJECTS }, async (_, index) => {
      const name = `thing-${index}`;
      let guard = 0;
      for (let count = 0; count < each; count++) {
        const appended = await log.append({
          key: { group: '', resource: 'configmaps', namespace: 'shop', name },
          plane: 'desired',
          verb: count === 0 ? 'create' : 'update',
          uid: name,
          guard,
          object: objectOf(name, count),
          actor: 'bench',
          requestId: 'bench',
          time: new Date().toISOString(),
          causes: [],
        });
        guard = appended.sequence;
      }
    }),
  );
  await log.close();
  return performance.now() - startedMs;
}

async function median(times: number, once: () => Promise<{ status: number; text: string }>): Promise<number> {
  const took: number[] = [];
  for (let count = 0; count < times; count++) {
    const startedMs = performance.now();
    const { status, text } = await once();
    if (status !== 200) throw new Error(text);
    took.push(performance.now() - startedMs);
  }
  return took.toSorted((a, b) => a - b)[Math.floor(times / 2)] ?? 0;
}

async function inDatabase<T>(databaseUrl: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const bytes = (databaseUrl: string): Promise<number> =>
  inDatabase(databaseUrl, async (client) =>
    Number(
      (await client.query("select pg_total_relation_size('records') + pg_total_relation_size('lifetimes') as bytes"))
        .rows[0].bytes,
    ),
  );

const analyse = (databaseUrl: string): Promise<unknown> =>
  inDatabase(databaseUrl, (client) => client.query('analyze records, lifetimes'));

async function streamBytes(natsUrl: string, prefix: string): Promise<number> {
  const { connect } = await import('nats');
  const { host, username, password } = new URL(natsUrl);
  const connection = await connect({ servers: host, user: username, pass: password });
  const info = (await connection.request(`$JS.API.STREAM.INFO.${prefix.toUpperCase()}`)).json<{
    state: { bytes: number };
  }>();
  await connection.close();
  return info.state.bytes;
}

const t = await around();
try {
  for (const size of SIZES) await measure(t, size);
} finally {
  await t.end();
}
process.exit();
