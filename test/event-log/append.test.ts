/** What a writer can rely on: guards, planes, tombstones, transactions, contention, limits, and a bound on every wait. */
import { connect } from 'nats';
import t from 'tap';
import { EMBEDDED_MAX_TRANSACTION } from '../../cli/servers/nats.ts';
import { GuardError, LogUnavailableError, TooLargeError } from '../../event-log/event-log.ts';
import { atLeast } from '../../event-log/connection-settings.ts';
import { openEventLog, openLogReader } from '../../event-log/jetstream.ts';
import { serverAddresses, uniqueName } from '../harness/servers.ts';
import { startNatsChild } from './nats-child.ts';
import { Watcher, keyOf, readFrom, writeOf } from './writes.ts';

const server = await startNatsChild();
t.teardown(() => server.remove());
let count = 0;

async function fresh(
  t: { teardown(handler: () => Promise<void>): unknown },
  more: { timeoutMs?: number; maxTransaction?: number } = {},
) {
  const prefix = `append${(count += 1)}`;
  const log = await openEventLog({ url: server.url, prefix, stream: 'log', ...more });
  t.teardown(() => log.close());
  return { prefix, log };
}

t.test('the guard is the sequence of the newest record of the object, in whichever plane', async (t) => {
  const { log } = await fresh(t);
  t.same(await log.append(writeOf('web', 0)), { sequence: 1 });
  await t.rejects(log.append(writeOf('web', 0)), { name: 'GuardError', key: keyOf('web'), place: 1 });
  t.same(await log.append(writeOf('web', 1, { plane: 'observed' })), { sequence: 2 }, 'a status write follows');
  await t.rejects(log.append(writeOf('web', 1)), GuardError, 'it has moved the guard of wanted state');
  t.same(await log.append(writeOf('web', 2)), { sequence: 3 });
  await t.rejects(log.append(writeOf('web', 2, { plane: 'observed' })), GuardError);
  await t.rejects(log.append(writeOf('web', 99)), GuardError, 'a sequence that never was');
  const newest = await log.newest(keyOf('web'));
  t.match(newest, {
    sequence: 3,
    plane: 'desired',
    verb: 'update',
    uid: 'uid-web',
    actor: 'admin',
    requestId: 'request-web',
    time: '2026-01-02T03:04:05.678Z',
  });
  t.equal(Buffer.from(newest?.object ?? []).toString(), JSON.stringify({ metadata: { name: 'web' }, guard: 2 }));
  t.equal(await log.newest(keyOf('nobody')), undefined);
  t.equal((await log.recordAt(2))?.plane, 'observed');
  t.equal(await log.recordAt(4), undefined);
  t.equal(await log.recordAt(0), undefined);
  t.equal(await log.lastSequence(), 3);
  t.equal(await log.floor(), 1);
});

t.test('an object that was deleted is created again after its tombstone', async (t) => {
  const { log } = await fresh(t);
  await log.append(writeOf('web', 0));
  const { sequence: tombstone } = await log.append(writeOf('web', 1, { verb: 'delete' }));
  await t.rejects(log.append(writeOf('web', 0)), GuardError, 'who has not seen the tombstone is refused');
  t.same(await log.append(writeOf('web', tombstone)), { sequence: 3 });
});

t.test('names that differ only in odd characters are different objects', async (t) => {
  const { log } = await fresh(t);
  const names = ['a.b', 'a%2Eb', 'a-b', 'a_b', 'a', 'a.b.c', 'é', 'system:x'];
  for (const name of names) await log.append(writeOf(name, 0));
  for (const name of names) t.equal((await log.newest(keyOf(name)))?.key.name, name);
  await log.append(writeOf('a', 0, { key: keyOf('a', { namespace: 'other' }) }));
  await log.append(writeOf('a', 0, { key: keyOf('a', { namespace: '' }) }));
  t.equal((await readFrom(log, 'snapshot')).length, names.length + 2);
});

t.test(
  'of 200 writers at once on 5 objects exactly one wins per guard, and the log holds what was acknowledged',
  async (t) => {
    const { log, prefix } = await fresh(t);
    const other = await openEventLog({ url: server.url, prefix, stream: 'log' });
    t.teardown(() => other.close());
    const acknowledged: number[] = [];
    const guards = [0, 0, 0, 0, 0];
    for (let round = 0; round < 6; round += 1) {
      const winners = await Promise.all(
        guards.map(async (guard, object) => {
          const outcomes = await Promise.allSettled(
            Array.from({ length: 40 }, (_, writer) =>
              (writer % 2 === 0 ? log : other).append(
                writeOf(`object-${object}`, guard, {
                  plane: writer % 3 === 0 ? 'observed' : 'desired',
                  requestId: `${round}-${writer}`,
                }),
              ),
            ),
          );
          const won = outcomes
            .filter((outcome) => outcome.status === 'fulfilled')
            .map((outcome) => outcome.value.sequence);
          const lost = outcomes.filter(
            (outcome) => outcome.status === 'rejected' && outcome.reason instanceof GuardError,
          );
          t.equal(won.length, 1, 'one winner');
          t.equal(lost.length, 39, 'the others are told of the conflict');
          return won[0] ?? 0;
        }),
      );
      acknowledged.push(...winners);
      for (const [object, sequence] of winners.entries()) guards[object] = sequence;
    }
    const records = await readFrom(log, { after: 0 });
    t.same(
      records.map(({ sequence }) => sequence),
      acknowledged.sort((left, right) => left - right),
    );
  },
);

t.test('a refused write takes none of those with it that were sent in the same batch', async (t) => {
  const { log } = await fresh(t);
  const stale = new Set([3, 77, 78, 250, 499]);
  const outcomes = await Promise.allSettled(
    Array.from({ length: 500 }, (_, index) => log.append(writeOf(`object-${index}`, stale.has(index) ? 4_000 : 0))),
  );
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.status === (stale.has(index) ? 'fulfilled' : 'rejected')) t.fail(`object-${index}: ${outcome.status}`);
  }
  const records = await readFrom(log, { after: 0 });
  t.equal(records.length, 495);
  for (const record of records) {
    const outcome = outcomes[Number(record.key.name.slice('object-'.length))];
    if (outcome?.status !== 'fulfilled' || outcome.value.sequence !== record.sequence)
      t.fail(`${record.key.name} was not told ${record.sequence}`);
  }
});

t.test('writes of one object that wait together go one after the other, in their order', async (t) => {
  const { log } = await fresh(t);
  const outcomes = await Promise.allSettled([
    log.append(writeOf('a', 0)),
    log.append(writeOf('a', 1)),
    log.append(writeOf('a', 2)),
    log.append(writeOf('b', 0)),
  ]);
  t.same(
    outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value.sequence : outcome.reason.name)),
    [1, 3, 'GuardError', 2],
  );
});

t.test('a transaction stands whole, in its order and contiguous, or not at all', async (t) => {
  const { log } = await fresh(t);
  await log.append(writeOf('old', 0));
  const members = Array.from({ length: 200 }, (_, index) => writeOf(`member-${index}`, 0));
  const [appended] = await Promise.all([
    log.transaction(members),
    ...Array.from({ length: 50 }, (_, index) => log.append(writeOf(`single-${index}`, 0))),
  ]);
  const first = appended[0]?.sequence ?? 0;
  t.same(
    appended.map(({ sequence }) => sequence),
    members.map((_, index) => first + index),
  );
  t.match((await log.recordAt(first + 5))?.transaction, { place: 6, count: 200 });
  const before = await log.lastSequence();
  await t.rejects(
    log.transaction([writeOf('new-1', 0), writeOf('new-2', 0), writeOf('old', 0), writeOf('member-3', 0)]),
    { name: 'GuardError', place: 3, key: keyOf('old') },
  );
  t.equal(await log.lastSequence(), before, 'nothing was appended');
  await t.rejects(log.transaction([writeOf('twice', 0), writeOf('twice', 0)]), /only once/);
  await t.rejects(
    log.transaction(Array.from({ length: 1_001 }, (_, index) => writeOf(`many-${index}`, 0))),
    TooLargeError,
  );
  t.same(await log.transaction([]), []);
  t.equal(
    (await log.transaction(Array.from({ length: 1_000 }, (_, index) => writeOf(`many-${index}`, 0)))).length,
    1_000,
    'the limit itself is taken',
  );
  const [single] = await log.transaction([writeOf('alone', 0)]);
  t.equal((await log.recordAt(single?.sequence ?? 0))?.transaction, undefined, 'one write alone needs no transaction');
});

t.test(
  'a server that is configured for more takes more, and has the last word where it was told wrongly',
  async (t) => {
    const members = (count: number) => Array.from({ length: count }, (_, index) => writeOf(`many-${index}`, 0));
    const { log } = await fresh(t, { maxTransaction: 1_010 });
    await t.rejects(
      log.transaction(members(1_001)),
      TooLargeError,
      'this one has the limit that JetStream has by itself',
    );
    t.equal(await log.lastSequence(), 0, 'nothing was appended');
    // Configured as the one that `npm start` brings.
    const { natsUrl } = await serverAddresses();
    const maxTransaction = EMBEDDED_MAX_TRANSACTION;
    const more = await openEventLog({
      url: natsUrl,
      prefix: uniqueName(),
      stream: 'log',
      maxTransaction,
      timeoutMs: 60_000,
    });
    t.teardown(() => more.close());
    t.equal((await more.transaction(members(maxTransaction))).at(-1)?.sequence, maxTransaction);
    await t.rejects(more.transaction(members(maxTransaction + 1)), TooLargeError);
  },
);

t.test('a record beyond the limit is refused before it is sent, one just below is taken', async (t) => {
  const { log } = await fresh(t);
  const limit = 8 * 1024 * 1024;
  await t.rejects(log.append(writeOf('big', 0, { object: `{"x":"${'x'.repeat(limit)}"}` })), {
    name: 'TooLargeError',
    message: /the log takes 8388608 at most/,
  });
  t.same(await log.append(writeOf('big', 0, { object: `{"x":"${'x'.repeat(limit - 2_000)}"}` })), { sequence: 1 });
  t.equal((await readFrom(log, 'snapshot'))[0]?.object.byteLength, limit - 2_000 + 8);
  await t.rejects(log.append(writeOf('odd', 0, { object: ' {}' })), /must be a JSON object/);
  await t.rejects(log.append(writeOf('odd', -1)), /is no sequence/);
});

/** Beyond the bound of 1.5 s, on a machine that has much else to do. */
const LATE_MS = 8_000;

t.test('a log that cannot be reached says so within the bound, and goes on by itself', async (t) => {
  const { log } = await fresh(t, { timeoutMs: 1_500 });
  const watcher = new Watcher(log, { from: 'snapshot' });
  t.teardown(() => watcher.stop());
  await log.append(writeOf('before', 0));
  await server.pause();
  const begun = performance.now();
  const paused = await Promise.allSettled([
    log.append(writeOf('paused', 0)),
    log.transaction([writeOf('t-1', 0), writeOf('t-2', 0)]),
  ]);
  t.ok(performance.now() - begun < LATE_MS, 'while the server does not answer');
  for (const outcome of paused)
    t.equal(outcome.status === 'rejected' && outcome.reason instanceof LogUnavailableError, true);
  server.resume();
  await server.kill();
  const down = performance.now();
  await t.rejects(log.append(writeOf('down', 0)), LogUnavailableError);
  t.ok(performance.now() - down < LATE_MS, 'while there is no server');
  await t.rejects(log.lastSequence(), LogUnavailableError);
  t.equal(log.connected, false);
  await server.start();
  const { sequence } = await retried(() => log.append(writeOf('after', 0)));
  t.equal(log.connected, true);
  await watcher.until(sequence);
  const names = (await readFrom(log, { after: 0 })).map(({ key }) => key.name);
  t.equal(names[0], 'before');
  t.equal(names.at(-1), 'after');
  t.equal(new Set(names).size, names.length, 'nothing stands twice');
  t.equal(names.includes('t-1'), names.includes('t-2'));
  t.same(
    watcher.records.map(({ key }) => key.name),
    names,
  );
});

t.test('nobody is written for after close, and opening says what is wrong', async (t) => {
  const { log } = await fresh(t);
  await log.close();
  await t.rejects(log.append(writeOf('late', 0)), LogUnavailableError);
  await t.rejects(openEventLog({ url: 'nats://127.0.0.1:1', stream: 'log', openTimeoutMs: 300 }), LogUnavailableError);
  await t.rejects(
    openLogReader({ url: server.url, prefix: 'nowhere', stream: 'log', openTimeoutMs: 300 }),
    LogUnavailableError,
    'a reader creates nothing',
  );
  t.same(
    [
      atLeast('2.15.1', [2, 15, 1]),
      atLeast('2.16.0-RC.1', [2, 15, 1]),
      atLeast('2.15.0', [2, 15, 1]),
      atLeast('2.9.10', [2, 15, 1]),
      atLeast('3.0.0', [2, 15, 1]),
    ],
    [true, true, false, false, true],
  );
});

t.test('streams are as the design wants them, also when somebody has changed one', async (t) => {
  const { prefix } = await fresh(t);
  const connection = await connect({ servers: server.url });
  t.teardown(() => connection.close());
  const manager = await connection.jetstreamManager();
  const name = prefix.toUpperCase();
  await manager.streams.update(name, { max_age: 3_600_000_000_000 });
  t.equal((await manager.streams.info(name)).config.max_age, 3_600_000_000_000);
  const again = await openEventLog({ url: server.url, prefix, stream: 'log' });
  t.teardown(() => again.close());
  const { config } = await manager.streams.info(name);
  t.match(config, {
    max_age: 0,
    max_msgs_per_subject: -1,
    retention: 'limits',
    discard: 'new',
    deny_purge: true,
    allow_direct: false,
  });
  await t.rejects(manager.streams.purge(name, { filter: `${prefix}.>` }), 'a purge is refused by the server itself');
});

async function retried<Value>(attempt: () => Promise<Value>): Promise<Value> {
  for (let left = 10; ; left -= 1) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 0 || !(error instanceof LogUnavailableError)) throw error;
    }
  }
}
