/** What a follower can rely on: every record once and in order, over restarts too; snapshots that equal a full replay; whole transactions; no silent gap. */
import fc from 'fast-check';
import { connect, headers } from 'nats';
import t from 'tap';
import type { EventLog, LogRecord, Write } from '../../event-log/event-log.ts';
import { openEventLog, openLogReader } from '../../event-log/jetstream.ts';
import { TransactionAssembly } from '../../event-log/transaction-assembly.ts';
import { startNatsChild } from './nats-child.ts';
import { Watcher, eventually, keyOf, readFrom, stateOf, writeOf } from './writes.ts';

const server = await startNatsChild();
t.teardown(() => server.remove());
let count = 0;

interface Owner {
  teardown(handler: () => Promise<void>): unknown;
}

async function fresh(t: Owner) {
  const prefix = `follow${(count += 1)}`;
  const log = await openEventLog({ url: server.url, prefix, stream: 'log' });
  const reader = await openLogReader({ url: server.url, prefix, stream: 'log' });
  t.teardown(() => log.close());
  t.teardown(() => reader.close());
  return { prefix, log, reader };
}

function watch(t: Owner, ...[log, options]: ConstructorParameters<typeof Watcher>): Watcher {
  const watcher = new Watcher(log, options);
  t.teardown(() => watcher.stop());
  return watcher;
}

t.test('an empty log is caught up at once; a snapshot is complete at the first caughtUp', async (t) => {
  const { log, reader } = await fresh(t);
  const empty = watch(t, reader, { from: 'snapshot' });
  await eventually(() => empty.yields.length > 0, 'the first yield');
  t.match(empty.yields[0], { kind: 'records', records: [], position: 0, caughtUp: true });
  await Promise.all(Array.from({ length: 1_500 }, (_, index) => log.append(writeOf(`object-${index}`, 0))));
  const last = (
    await log.append(writeOf('object-0', (await log.newest(keyOf('object-0')))?.sequence ?? 0, { plane: 'observed' }))
  ).sequence;
  await empty.until(last);
  const late = await watch(t, reader, { from: 'snapshot' }).until(last);
  const complete = late.yields.findIndex(({ caughtUp }) => caughtUp);
  t.equal(
    late.yields.slice(0, complete + 1).flatMap(({ records }) => records).length,
    1_501,
    'both planes of object-0 are there',
  );
  t.ok(
    late.yields.every(({ records }) => records.length <= 1_500),
    'yields are bounded',
  );
  t.same(stateOf(late.records), stateOf(empty.records));
  const resumed = await watch(t, reader, { from: { after: last - 10 } }).until(last);
  t.equal(resumed.records.length, 10);
  t.match(resumed.records[0], { sequence: last - 9 });
});

t.test('filters: by kind, by namespace, by plane', async (t) => {
  const { log, reader } = await fresh(t);
  const pod = (name: string, namespace: string) => ({ key: { group: '', resource: 'pods', namespace, name } });
  await log.append(writeOf('web', 0));
  await log.append(writeOf('p1', 0, pod('p1', 'a')));
  await log.append(writeOf('p2', 0, pod('p2', 'b')));
  await log.append(writeOf('p1', 2, { ...pod('p1', 'a'), plane: 'observed' }));
  await log.append(writeOf('web', 1, { plane: 'observed' }));
  const pods = { group: '', resource: 'pods' };
  const seen = async (filters: Parameters<typeof readFrom>[2]) =>
    (await readFrom(reader, { after: 0 }, filters)).map(({ sequence }) => sequence);
  t.same(await seen([pods]), [2, 3, 4]);
  t.same(await seen([{ ...pods, namespace: 'a' }]), [2, 4]);
  t.same(await seen([{ ...pods, plane: 'desired' }]), [2, 3]);
  t.same(
    await seen([
      { ...pods, namespace: 'a', plane: 'observed' },
      { group: 'apps', resource: 'deployments' },
    ]),
    [1, 4, 5],
  );
  t.same(await seen([{ group: 'apps', resource: 'none' }]), []);
  const live = watch(t, reader, { from: { after: 2 }, filters: [{ ...pods, namespace: 'b' }] });
  await eventually(() => live.caughtUp, 'the filtered follower is caught up');
  t.equal(live.position, 5, 'the end of the stream is reached though nothing there matches');
  t.same(live.names(), ['3 p2']);
});

t.test('a follower sees every record once and in order while the server dies and comes back', async (t) => {
  const { log, reader } = await fresh(t);
  const live = watch(t, reader, { from: 'snapshot' });
  const own = watch(t, log, { from: { after: 0 } });
  const filtered = watch(t, reader, {
    from: { after: 0 },
    filters: [{ group: 'apps', resource: 'deployments', plane: 'observed' }],
  });
  const guards = new Map<string, number>();
  let written = 0;
  const write = async (amount: number) => {
    for (let done = 0; done < amount; done += 20) {
      await Promise.all(
        Array.from({ length: 20 }, async (_, index) => {
          const name = `object-${index}`;
          const plane = (written += 1) % 2 === 0 ? 'observed' : 'desired';
          guards.set(name, (await log.append(writeOf(name, guards.get(name) ?? 0, { plane }))).sequence);
        }),
      );
    }
  };
  // A snapshot that begins later rightly lacks what has been superseded by then.
  await eventually(() => live.yields.length > 0, 'the snapshot of the empty log');
  await write(200);
  for (const how of ['kill', 'stop', 'kill'] as const) {
    const writing = write(200);
    await server[how]();
    await server.start();
    await writing;
  }
  const last = await log.lastSequence();
  const wanted = (await readFrom(reader, { after: 0 })).map(({ sequence, key }) => `${sequence} ${key.name}`);
  t.ok(wanted.length >= 800);
  t.same((await own.until(last)).names(), wanted);
  t.same((await live.until(last)).names(), wanted);
  await eventually(() => filtered.records.length >= wanted.length / 2, 'the filtered follower has its half');
  t.same(
    filtered.names(),
    live.records.filter(({ plane }) => plane === 'observed').map(({ sequence, key }) => `${sequence} ${key.name}`),
  );
  t.equal(live.resets + own.resets + filtered.resets, 0);
  for (const watcher of [live, own, filtered])
    t.ok(isAscending(watcher.yields.map(({ position }) => position)), 'positions never go back');
});

t.test('a consumer that is deleted behind our back is made again without a gap', async (t) => {
  const { prefix, log, reader } = await fresh(t);
  const live = watch(t, reader, { from: 'snapshot' });
  await log.append(writeOf('a', 0));
  await live.until(1);
  const connection = await connect({ servers: server.url });
  t.teardown(() => connection.close());
  const manager = await connection.jetstreamManager();
  for await (const consumer of manager.consumers.list(prefix.toUpperCase()))
    await manager.consumers.delete(prefix.toUpperCase(), consumer.name);
  await log.append(writeOf('b', 0));
  t.same((await live.until(2)).names(), ['1 a', '2 b']);
});

t.test('snapshot and live from any moment on equal a full replay', async () => {
  // Each step: object, plane or delete; the follower joins before one of the steps.
  const step = fc.record({
    object: fc.nat(5),
    change: fc.constantFrom('desired' as const, 'observed' as const, 'delete' as const),
    transaction: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), fc.nat(39), async (steps, joinAt) => {
      const prefix = `history${(count += 1)}`;
      const log = await openEventLog({ url: server.url, prefix, stream: 'log' });
      try {
        const guards = new Map<string, number>();
        let snapshot: Watcher | undefined;
        for (const [index, { object, change, transaction }] of steps.entries()) {
          if (index === joinAt) snapshot = new Watcher(log, { from: 'snapshot' });
          await perform(log, guards, {
            names: transaction ? [`o${object}`, `o${(object + 1) % 6}`] : [`o${object}`],
            change,
          });
        }
        snapshot ??= new Watcher(log, { from: 'snapshot' });
        const last = await log.lastSequence();
        await snapshot.until(last);
        await snapshot.stop();
        const replay = await readFrom(log, { after: 0 });
        return (
          replay.length === last &&
          JSON.stringify(stateOf(snapshot.records)) === JSON.stringify(stateOf(replay)) &&
          isAscending(snapshot.records.map(({ sequence }) => sequence))
        );
      } finally {
        await log.close();
      }
    }),
    { numRuns: 25 },
  );
});

t.test('positions never lie inside a transaction, whatever the filter', async (t) => {
  const { log, reader } = await fresh(t);
  const all = watch(t, reader, { from: { after: 0 } });
  const own = watch(t, log, { from: { after: 0 } });
  // Of each transaction only the first member matches: its end must be found without being delivered.
  const some = watch(t, reader, { from: { after: 0 }, filters: [{ group: '', resource: 'configmaps' }] });
  const ends = new Set<number>();
  for (let round = 0; round < 40; round += 1) {
    const size = 2 + (round % 7) * 40;
    const members = Array.from({ length: size }, (_, index) =>
      writeOf(`m-${round}-${index}`, 0, {
        key: {
          group: index === 0 ? '' : 'apps',
          resource: index === 0 ? 'configmaps' : 'deployments',
          namespace: 'x',
          name: `m-${round}-${index}`,
        },
      }),
    );
    const [appended] = await Promise.all([
      log.transaction(members),
      ...Array.from({ length: round % 5 }, (_, index) => log.append(writeOf(`s-${round}-${index}`, 0))),
    ]);
    ends.add(appended.at(-1)?.sequence ?? 0);
  }
  const last = await log.lastSequence();
  await Promise.all([
    all.until(last),
    own.until(last),
    eventually(() => some.records.length === 40, 'every first member'),
  ]);
  const bounds = transactionBounds(all.records);
  t.equal(bounds.length, 40);
  t.same(
    bounds.map(({ end }) => end),
    [...ends].sort((left, right) => left - right),
  );
  for (const [name, watcher] of Object.entries({ all, own, some })) {
    const inside = watcher.yields.filter(({ position }) =>
      bounds.some(({ start, end }) => position >= start && position < end),
    );
    t.same(
      inside.map(({ position }) => position),
      [],
      `${name}: no position inside`,
    );
  }
  t.same(all.names(), own.names());
});

t.test('a follower of the writing process sees nothing of a batch before it is acknowledged', async (t) => {
  const { log } = await fresh(t);
  const acknowledged = new Set<number>();
  const early: number[] = [];
  let seen = 0;
  const abort = new AbortController();
  const following = (async () => {
    for await (const { records } of log.follow({ from: 'snapshot', signal: abort.signal })) {
      await new Promise((resolve) => setImmediate(resolve));
      early.push(...records.map(({ sequence }) => sequence).filter((sequence) => !acknowledged.has(sequence)));
      seen += records.length;
    }
  })();
  for (let round = 0; round < 20; round += 1) {
    await Promise.all(
      Array.from({ length: 300 }, async (_, index) =>
        acknowledged.add((await log.append(writeOf(`o-${round}-${index}`, 0))).sequence),
      ),
    );
  }
  await eventually(() => seen === 6_000, 'everything is seen');
  abort.abort();
  await following;
  t.same(early, []);
});

t.test('the assembly of transactions, by itself', async (t) => {
  const faults: string[] = [];
  const record = (sequence: number, id?: string, place = 1, members = 1) =>
    ({ sequence, ...(id && { transaction: { id, place, count: members } }) }) as LogRecord;
  const assembly = new TransactionAssembly((sequence, reason) => faults.push(`${sequence}: ${reason}`));
  const take = () => [assembly.take().map(({ sequence }) => sequence), assembly.through];
  assembly.add(1, record(1));
  assembly.add(2, record(2, 'a', 1, 3));
  t.same(take(), [[1], 1], 'a beginning is held back');
  assembly.add(3, record(3, 'a', 2, 3));
  assembly.add(4, record(4, 'a', 3, 3));
  t.same(take(), [[2, 3, 4], 4]);
  assembly.add(7, record(7, 'b', 2, 4));
  t.same(take(), [[], 4], 'a middle alone too');
  assembly.closeAt(8);
  t.same(take(), [[], 4], 'its end is 9');
  assembly.add(12, record(12));
  t.same(take(), [[7, 12], 12], 'something later has come');
  assembly.add(13, record(13, 'c', 1, 2));
  assembly.add(14, undefined);
  t.same(take(), [[13], 14], 'its last member cannot be read');
  assembly.add(15, record(15, 'd', 1, 3));
  assembly.add(16, record(16));
  t.same(take(), [[15, 16], 16]);
  t.match(faults, [/^16: a transaction was torn/]);
});

t.test('a record that cannot be read is reported and passed over, never a standstill', async (t) => {
  const { prefix, log, reader } = await fresh(t);
  const live = watch(t, reader, { from: 'snapshot' });
  await log.append(writeOf('a', 0));
  const connection = await connect({ servers: server.url });
  t.teardown(() => connection.close());
  const strange = headers();
  strange.set('Reckon-Verb', 'explode');
  await connection.jetstream().publish(`${prefix}.desired.apps.deployments.x.y`, '{}', { headers: strange });
  await connection.jetstream().publish(`${prefix}.desired.nothing`, 'hello');
  await log.append(writeOf('b', 0));
  t.same((await live.until(4)).names(), ['1 a', '4 b']);
  t.same(
    live.unreadable.map(({ sequence }) => sequence),
    [2, 3],
  );
  t.match(live.unreadable[0]?.reason, /explode/);
  t.equal(await reader.recordAt(2), undefined);
});

t.test('a stream that lost its end, or is another one, is told as a reset', async (t) => {
  const { prefix, log, reader } = await fresh(t);
  await log.append(writeOf('a', 0));
  await log.append(writeOf('b', 0));
  const beyond = watch(t, reader, { from: { after: 900 } });
  await eventually(() => beyond.caughtUp, 'it has begun afresh');
  t.equal(beyond.yields[0]?.kind, 'reset');
  t.same(beyond.names(), ['1 a', '2 b']);
  const live = await watch(t, reader, { from: { after: 0 } }).until(2);
  const connection = await connect({ servers: server.url });
  t.teardown(() => connection.close());
  await (await connection.jetstreamManager()).streams.delete(prefix.toUpperCase());
  const again = await openEventLog({ url: server.url, prefix, stream: 'log' });
  t.teardown(() => again.close());
  await again.append(writeOf('x', 0));
  await eventually(
    () => live.resets === 1 && live.caughtUp && live.records.length === 1,
    'the follower has the new stream',
  );
  t.same(live.names(), ['1 x']);
});

t.test('a slow taker holds the server back: it is sent little more than it takes', async (t) => {
  const { prefix, log, reader } = await fresh(t);
  const padding = 'x'.repeat(20_000);
  await Promise.all(
    Array.from({ length: 3_000 }, (_, index) =>
      log.append(writeOf(`o-${index}`, 0, { object: JSON.stringify({ padding }) })),
    ),
  );
  const connection = await connect({ servers: server.url });
  t.teardown(() => connection.close());
  const manager = await connection.jetstreamManager();
  const abort = new AbortController();
  let taken = 0;
  let mostAhead = 0;
  for await (const { records, caughtUp } of reader.follow({ from: 'snapshot', signal: abort.signal })) {
    taken += records.length;
    if (records.reduce((sum, record) => sum + record.object.byteLength, 0) > 5_000_000)
      t.fail('a yield is bounded in bytes');
    await new Promise((resolve) => setTimeout(resolve, 50));
    for await (const consumer of manager.consumers.list(prefix.toUpperCase()))
      mostAhead = Math.max(mostAhead, consumer.delivered.consumer_seq - taken);
    if (caughtUp) abort.abort();
  }
  t.equal(taken, 3_000);
  t.ok(mostAhead > 0 && mostAhead <= 1_000, `at most ${mostAhead} records were sent ahead`);
});

async function perform(
  log: EventLog,
  guards: Map<string, number>,
  { names, change }: { names: string[]; change: 'desired' | 'observed' | 'delete' },
): Promise<void> {
  const writes = names.map((name): Write =>
    writeOf(name, guards.get(name) ?? 0, change === 'delete' ? { verb: 'delete' } : { plane: change, verb: 'update' }),
  );
  const appended = await log.transaction(writes);
  for (const [index, name] of names.entries()) guards.set(name, appended[index]?.sequence ?? 0);
}

function transactionBounds(records: readonly LogRecord[]): { start: number; end: number }[] {
  return records.flatMap(({ sequence, transaction }) =>
    transaction?.place === 1 ? [{ start: sequence, end: sequence + transaction.count - 1 }] : [],
  );
}

function isAscending(numbers: readonly number[]): boolean {
  return numbers.every((number, index) => index === 0 || number >= (numbers[index - 1] ?? 0));
}

t.test(
  "a follower's position comes to the stream's end, though what stands there is not for it or is gone",
  async (t) => {
    const { prefix, log, reader } = await fresh(t);
    const pods = [{ group: '', resource: 'pods' }];
    const filtered = watch(t, reader, { from: 'snapshot', filters: pods });
    const whole = watch(t, reader, { from: 'snapshot' });
    await eventually(() => filtered.yields.length > 0 && whole.yields.length > 0, 'both follow');
    for (let index = 0; index < 5; index++) await log.append(writeOf(`other-${index}`, 0));
    const { sequence } = await log.append(writeOf('last', 0));
    const nats = await connect({ servers: server.url });
    t.teardown(() => nats.close());
    await (await nats.jetstreamManager()).streams.deleteMessage(prefix.toUpperCase(), sequence);
    await filtered.until(sequence);
    t.same(filtered.records, []);
    await whole.until(sequence);
    const late = watch(t, reader, { from: 'snapshot' });
    await late.until(sequence);
    t.equal(late.records.length, 5);
  },
);
