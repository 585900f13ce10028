/** What stays and what goes: trimming behind a floor, expiry in the ephemeral stream, and keys that are gone for good once destroyed. */
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import type { EventLog, LogRecord } from '../../event-log/event-log.ts';
import { GuardError } from '../../event-log/event-log.ts';
import { openEventLog } from '../../event-log/jetstream.ts';
import { openSecretKeys } from '../../event-log/keys.ts';
import { trim } from '../../event-log/trim.ts';
import { startNatsChild } from './nats-child.ts';
import { Watcher, eventually, keyOf, readFrom, stateOf, writeOf } from './writes.ts';

const server = await startNatsChild();
t.teardown(() => server.remove());
let count = 0;

interface Owner {
  teardown(handler: () => Promise<void>): unknown;
}

async function fresh(t: Owner, stream: 'log' | 'ephemeral' = 'log') {
  const prefix = `retention${(count += 1)}`;
  const log = await openEventLog({ url: server.url, prefix, stream });
  t.teardown(() => log.close());
  return { prefix, log };
}

function watch(t: Owner, ...[log, options]: ConstructorParameters<typeof Watcher>): Watcher {
  const watcher = new Watcher(log, options);
  t.teardown(() => watcher.stop());
  return watcher;
}

const trimNow = (prefix: string, keepAfter: number, retentionMs = 0) =>
  trim({ url: server.url, prefix, keepAfter, retentionMs, unsafeWindow: true });

t.test('superseded records go, the newest of a live object stays, a tombstone goes one run later', async (t) => {
  const { prefix, log } = await fresh(t);
  await log.append(writeOf('live', 0)); // 1
  await log.append(writeOf('live', 1)); // 2
  await log.append(writeOf('live', 2, { plane: 'observed' })); // 3: the object; 2 is superseded though it is the newest of its plane
  await log.append(writeOf('gone', 0)); // 4
  await log.append(writeOf('gone', 4, { plane: 'observed' })); // 5
  await log.append(writeOf('gone', 5, { verb: 'delete' })); // 6
  await log.append(writeOf('back', 0)); // 7
  await log.append(writeOf('back', 7, { verb: 'delete' })); // 8
  await log.append(writeOf('back', 8)); // 9
  const state = stateOf(await readFrom(log, 'snapshot'));
  t.same(await trimNow(prefix, 0), { floor: 1, superseded: 0, tombstones: 0 }, 'nothing above keepAfter');
  t.same(
    await trimNow(prefix, 9, 3_600_000),
    { floor: 1, superseded: 0, tombstones: 0 },
    'nothing younger than the window',
  );
  t.same(await trimNow(prefix, 4), { floor: 5, superseded: 3, tombstones: 0 });
  t.same(await sequences(log), [3, 5, 6, 7, 8, 9]);
  t.same(await trimNow(prefix, 9), { floor: 10, superseded: 3, tombstones: 0 });
  t.same(await sequences(log), [3, 6, 9], 'the tombstone of a deleted object is still there');
  await t.rejects(log.append(writeOf('gone', 0)), GuardError);
  await log.append(writeOf('later', 0));
  t.match(await trimNow(prefix, await log.lastSequence()), { tombstones: 1 });
  t.equal((await log.newest(keyOf('gone')))?.sequence, undefined);
  t.same(
    stateOf((await readFrom(log, 'snapshot')).filter(({ key }) => key.name !== 'later')),
    state,
    'the present is what it was',
  );
  t.type(await log.append(writeOf('gone', 0)), 'object', 'after the tombstone is trimmed the guard is 0');
  t.ok((await log.floor()) >= 10);
});

t.test('a follower below the floor is told to begin afresh, one at or above it is not', async (t) => {
  const { prefix, log } = await fresh(t);
  let guard = 0;
  for (let index = 0; index < 20; index += 1) guard = (await log.append(writeOf('a', guard))).sequence;
  await log.append(writeOf('b', 0));
  const live = await watch(t, log, { from: { after: 0 } }).until(21);
  await trimNow(prefix, 15);
  const floor = await log.floor();
  t.equal(floor, 16);
  const above = await watch(t, log, { from: { after: floor - 1 } }).until(21);
  t.same(
    above.records.map(({ sequence }) => sequence),
    [16, 17, 18, 19, 20, 21],
  );
  t.equal(above.resets, 0);
  for (const after of [0, 7, floor - 2]) {
    const below = await watch(t, log, { from: { after } }).until(21);
    t.equal(below.yields[0]?.kind, 'reset', `after ${after}`);
    t.same(below.names(), ['20 a', '21 b']);
  }
  await log.append(writeOf('c', 0));
  await live.until(23);
  t.same([live.resets, live.records.length], [0, 22], 'who had seen it all goes on, and the floor record is no record');
});

t.test('a cursor that is overtaken by the trimmer while its owner is busy gets a reset, no gap', async (t) => {
  const { prefix, log } = await fresh(t);
  // One object, many records: more than a follower asks for in advance.
  let guard = 0;
  for (let index = 0; index < 2_500; index += 1) guard = (await log.append(writeOf('a', guard))).sequence;
  const abort = new AbortController();
  const seen: LogRecord[] = [];
  let resets = 0;
  for await (const followed of log.follow({ from: { after: 0 }, signal: abort.signal })) {
    if (followed.kind === 'reset') {
      resets += 1;
      seen.length = 0;
    }
    if (seen.length === 0 && resets === 0) await trimNow(prefix, 2_400);
    seen.push(...followed.records);
    if (followed.caughtUp) abort.abort();
  }
  t.equal(resets, 1);
  t.same(
    seen.map(({ sequence }) => sequence),
    [2_500],
  );
});

t.test('whatever the history and the moment, trimming never changes the present', async (t) => {
  const step = fc.record({
    object: fc.nat(4),
    change: fc.constantFrom('desired' as const, 'observed' as const, 'delete' as const),
    trim: fc.boolean(),
  });
  let trims = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), fc.nat(5), async (steps, lag) => {
      const { prefix, log } = await fresh({ teardown: () => undefined });
      const live = new Watcher(log, { from: { after: 0 } });
      try {
        const guards = new Map<string, number>();
        const everything: LogRecord[] = [];
        for (const { object, change, trim: now } of steps) {
          const name = `o${object}`;
          const { sequence } = await log.append(
            writeOf(
              name,
              guards.get(name) ?? 0,
              change === 'delete' ? { verb: 'delete' } : { plane: change, verb: 'update' },
            ),
          );
          guards.set(name, sequence);
          everything.push((await log.recordAt(sequence)) as LogRecord);
          if (!now) continue;
          trims += 1;
          const keepAfter = Math.max(0, sequence - lag);
          const { floor } = await trimNow(prefix, keepAfter);
          const standing = await readFrom(log, 'snapshot');
          if (JSON.stringify(stateOf(standing)) !== JSON.stringify(stateOf(everything))) return false;
          const sequencesAbove = everything.filter((record) => record.sequence >= floor);
          for (const record of sequencesAbove) if (!(await log.recordAt(record.sequence))) return false;
          // A tombstone that was trimmed leaves the guard at 0.
          for (const each of guards.keys()) guards.set(each, (await log.newest(keyOf(each)))?.sequence ?? 0);
        }
        await live.until(await log.lastSequence());
        return JSON.stringify(stateOf(live.records)) === JSON.stringify(stateOf(everything));
      } finally {
        await live.stop();
        await log.close();
      }
    }),
    { numRuns: 15 },
  );
  t.ok(trims > 20, `${trims} runs of the trimmer`);
});

t.test('in the ephemeral stream each object has its newest record only, and the guard holds', async (t) => {
  const { log } = await fresh(t, 'ephemeral');
  const live = watch(t, log, { from: 'snapshot' });
  t.same(await log.append(writeOf('lease', 0)), { sequence: 1 });
  await t.rejects(log.append(writeOf('lease', 0)), GuardError);
  t.same(await log.append(writeOf('lease', 1)), { sequence: 2 });
  await t.rejects(log.append(writeOf('lease', 1)), GuardError);
  t.equal(await log.recordAt(1), undefined);
  t.match(await log.newest(keyOf('lease')), { sequence: 2, plane: 'desired' });
  await live.until(2);
  const { sequence } = await log.append(writeOf('lease', 2, { verb: 'delete' }));
  await live.until(sequence);
  t.match(live.records.at(-1), { verb: 'delete', uid: 'uid-lease', sequence });
  t.same(await log.append(writeOf('lease', sequence, { verb: 'create' })), { sequence: 4 });
  await Promise.all(
    Array.from({ length: 100 }, (_, index) => log.append(writeOf(`event-${index}`, 0, { ttlSeconds: 3_600 }))),
  );
  t.equal((await readFrom(log, 'snapshot')).length, 101);
});

t.test('an expired record reaches followers as a deletion, once; an expired tombstone says nothing', async (t) => {
  const { log } = await fresh(t, 'ephemeral');
  const live = watch(t, log, { from: 'snapshot' });
  await log.append(writeOf('event', 0, { ttlSeconds: 1 }));
  await log.append(writeOf('kept', 0));
  const { sequence } = await log.append(writeOf('deleted', 0));
  await log.append(writeOf('deleted', sequence, { verb: 'delete', ttlSeconds: 1 }));
  await eventually(() => live.records.length === 5, 'the expiry is seen');
  t.match(live.records[4], { key: keyOf('event'), verb: 'delete', uid: '', actor: 'system:expired', plane: 'desired' });
  t.equal(live.records[4]?.object.byteLength, 0);
  await eventually(async () => (await log.newest(keyOf('deleted'))) === undefined, 'the tombstone has expired');
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  t.equal(live.records.length, 5);
  t.equal(live.position, await log.lastSequence());
  t.same(stateOf(await readFrom(log, 'snapshot')), ['apps/deployments/default/kept 2']);
  const late = await watch(t, log, { from: 'snapshot' }).until(await log.lastSequence());
  t.ok(late.caughtUp, 'the last sequence is a position that can be reached');
});

t.test('keys are put once, found again after a restart, and overwritten on disk when destroyed', async (t) => {
  const prefix = `retention${(count += 1)}`;
  const keys = await openSecretKeys({ url: server.url, prefix });
  t.teardown(() => keys.close());
  const wrapped = Buffer.from('wrapped-key-of-uid-1-which-nobody-must-find');
  t.same(Buffer.from(await keys.put('uid-1', wrapped)), wrapped);
  t.same(Buffer.from(await keys.put('uid-1', Buffer.from('another'))), wrapped, 'the first one stands');
  await keys.put('uid.2', Buffer.from('two'));
  t.ok((await onDisk(server.folder)).includes(wrapped), 'the test would find it');
  await server.kill();
  const [found] = await Promise.all([keys.get('uid-1'), server.start()]);
  t.same(Buffer.from(found ?? []), wrapped);
  t.same([...(await keys.all())].map(([uid, value]) => `${uid}=${Buffer.from(value).toString()}`).sort(), [
    `uid-1=${wrapped.toString()}`,
    'uid.2=two',
  ]);
  await keys.destroy('uid-1');
  await keys.destroy('uid-1');
  t.equal(await keys.get('uid-1'), undefined);
  t.equal((await onDisk(server.folder)).includes(wrapped), false, 'no byte of it is left');
  t.same([...(await keys.all()).keys()], ['uid.2']);
});

async function onDisk(folder: string): Promise<Buffer> {
  const files = await readdir(folder, { recursive: true, withFileTypes: true });
  return Buffer.concat(
    await Promise.all(
      files
        .filter((file) => file.isFile())
        .map((file) => readFile(path.join(file.parentPath, file.name)).catch(() => Buffer.alloc(0))),
    ),
  );
}

async function sequences(log: EventLog): Promise<number[]> {
  const found: number[] = [];
  for (let sequence = 1, last = await log.lastSequence(); sequence <= last; sequence += 1)
    if (await log.recordAt(sequence)) found.push(sequence);
  return found;
}
