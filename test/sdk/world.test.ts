/**
 * The World on a real log: current over both planes, indexed, and told apart from what it does not follow; and what it does when the log says that it must start afresh.
 */
import t from 'tap';
import type { Followed, FollowOptions, LogReader, LogRecord, ObjectKey, Write } from '../../event-log/event-log.ts';
import { openEventLog, openLogReader } from '../../event-log/jetstream.ts';
import { createLogger, EVERY_RESOURCE } from '../../sdk/index.ts';
import { type Change, LogWorld } from '../../sdk/log-world.ts';
import { startNatsChild } from '../event-log/nats-child.ts';
import { eventually } from './cluster.ts';

const THINGS = { group: 'test.example', version: 'v1', resource: 'things' };
const OTHERS = { group: 'test.example', version: 'v1', resource: 'others' };
const LEASES = { group: 'coordination.k8s.io', version: 'v1', resource: 'leases' };
const logger = createLogger({ name: 'test', level: 'silent' });
const keyOf = (resource: { group: string; resource: string }, name: string, namespace = 'a'): ObjectKey => ({
  group: resource.group,
  resource: resource.resource,
  namespace,
  name,
});

const write = (
  key: ObjectKey,
  options: Partial<Omit<Write, 'object'>> & { object?: Record<string, unknown> } = {},
): Write => {
  const { object = {}, ...rest } = options;
  const { metadata, ...fields } = object as { metadata?: object };
  const uid = options.uid ?? `uid-${key.name}`;
  const whole = {
    apiVersion: 'test.example/v1',
    kind: 'Thing',
    metadata: { name: key.name, namespace: key.namespace, uid, ...metadata },
    ...fields,
  };
  return {
    key,
    plane: 'desired',
    verb: 'create',
    uid,
    guard: 0,
    actor: 'test',
    requestId: 'r',
    time: new Date().toISOString(),
    causes: [],
    ...rest,
    object: JSON.stringify(whole),
  };
};

t.test('on a real log', async (t) => {
  const nats = await startNatsChild();
  const log = await openEventLog({ url: nats.url, stream: 'log' });
  const ephemeral = await openEventLog({ url: nats.url, stream: 'ephemeral' });
  const reader = await openLogReader({ url: nats.url, stream: 'log' });
  const first = await log.append(
    write(keyOf(THINGS, 'old'), { object: { metadata: { labels: { app: 'x' } }, spec: 1 } }),
  );
  const status = await log.append(
    write(keyOf(THINGS, 'old'), {
      plane: 'observed',
      verb: 'update',
      guard: first.sequence,
      object: { metadata: { labels: { app: 'x' } }, spec: 1, status: 'fine' },
    }),
  );
  const gone = await log.append(write(keyOf(THINGS, 'gone')));
  await log.append(write(keyOf(THINGS, 'gone'), { verb: 'delete', guard: gone.sequence }));
  await ephemeral.append(write(keyOf(LEASES, 'lease')));
  const world = new LogWorld({ log: reader, ephemeralLog: ephemeral, resources: [THINGS, LEASES], logger });
  t.teardown(async () => {
    await world.close();
    await Promise.all([log.close(), ephemeral.close(), reader.close()]);
    await nats.remove();
  });
  await world.filled();

  const old = world.get(THINGS, 'a', 'old');
  t.match(
    old,
    { status: 'fine', metadata: { resourceVersion: String(status.sequence) } },
    'the greater sequence of the two planes is the object',
  );
  t.equal(old && world.desiredSequence(old), first.sequence, 'its cause is the newest wish, not the newest status');
  t.same(
    world.list(THINGS).map((thing) => thing.metadata.name),
    ['old'],
    'a tombstone is no object',
  );
  t.equal(world.get(LEASES, 'a', 'lease')?.metadata.name, 'lease', 'the ephemeral stream is followed too');
  t.throws(() => world.list(OTHERS), /no controller of this process follows others/);

  const changes: Change[] = [];
  world.onChanges((some) => void changes.push(...some));
  const child = await log.append(
    write(keyOf(THINGS, 'child'), {
      object: {
        metadata: {
          labels: { app: 'y', tier: 'web' },
          ownerReferences: [{ apiVersion: 'v1', kind: 'Thing', name: 'old', uid: 'uid-old', controller: true }],
        },
      },
    }),
  );
  await log.append(write(keyOf(OTHERS, 'other')));
  t.ok(await world.waitFor(THINGS, child.sequence, 5000));
  t.same(
    world.list(THINGS, { ownerUid: 'uid-old' }).map((thing) => thing.metadata.name),
    ['child'],
  );
  t.same(
    world.list(THINGS, {
      namespace: 'a',
      selector: {
        matchLabels: { app: 'y' },
        matchExpressions: [
          { key: 'tier', operator: 'In', values: ['web', 'db'] },
          { key: 'old', operator: 'DoesNotExist' },
        ],
      },
    }).length,
    1,
  );
  t.same(world.list(THINGS, { namespace: 'b' }), []);
  t.equal(world.byUid('uid-child')?.metadata.name, 'child');
  const tombstone = await log.append(write(keyOf(THINGS, 'child'), { verb: 'delete', guard: child.sequence }));
  await log.append(write(keyOf(THINGS, 'child'), { guard: tombstone.sequence, uid: 'uid-second' }));
  await eventually(() => world.byUid('uid-second'), Boolean);
  t.same(world.list(THINGS, { ownerUid: 'uid-old' }), [], 'a namesake is not the owned one');
  t.same(
    changes.map(({ key, deleted, previous }) => [key.name, deleted, previous?.metadata.uid]),
    [
      ['child', false, undefined],
      ['child', true, 'uid-child'],
      ['child', false, undefined],
    ],
  );
  t.notOk(await world.waitFor(THINGS, 1_000_000, 50), 'waiting is bounded');

  const everything = new LogWorld({ log: reader, resources: [EVERY_RESOURCE], logger });
  await everything.filled();
  t.same(
    everything
      .list(EVERY_RESOURCE)
      .map((object) => object.metadata.name)
      .sort(),
    ['child', 'old', 'other'],
  );
  const [other] = everything.list(OTHERS);
  t.same(other && everything.keyOf(other), keyOf(OTHERS, 'other'));
  await everything.close();

  await nats.kill();
  await nats.start();
  const after = await log.append(write(keyOf(THINGS, 'after')));
  t.ok(await world.waitFor(THINGS, after.sequence, 10_000), 'it goes on after the server was killed');
});

t.test(
  'when the log says reset, the new snapshot takes the place of the old at once, and what differs is told',
  async (t) => {
    const feed: ((followed: Followed | undefined) => void)[] = [];
    const queue: Followed[] = [];
    const record = (sequence: number, name: string, options: Partial<LogRecord> = {}): LogRecord => {
      const { key, plane, verb, uid, object } = write(keyOf(THINGS, name), { object: { spec: sequence } });
      return {
        sequence,
        key,
        plane,
        verb,
        uid,
        writeId: '',
        actor: '',
        requestId: '',
        time: '',
        causes: [],
        object: Buffer.from(object),
        ...options,
      };
    };
    const give = (followed: Followed): void => {
      const waiting = feed.shift();
      if (waiting) waiting(followed);
      else queue.push(followed);
    };
    const scripted = {
      async *follow({ signal }: FollowOptions) {
        while (!signal.aborted) {
          const next =
            queue.shift() ??
            (await new Promise<Followed | undefined>((resolve) => {
              feed.push(resolve);
              signal.addEventListener('abort', () => resolve(undefined));
            }));
          if (next) yield next;
        }
      },
    } as unknown as LogReader;
    const world = new LogWorld({ log: scripted, resources: [THINGS], logger });
    const changes: string[] = [];
    world.onChanges((some) => some.forEach(({ key, deleted }) => changes.push(`${key.name}${deleted ? ' gone' : ''}`)));
    give({
      kind: 'records',
      records: [record(1, 'same'), record(2, 'lost'), record(3, 'changed')],
      position: 3,
      caughtUp: true,
    });
    await world.filled();
    give({
      kind: 'records',
      records: [record(4, 'half', { transaction: { id: 't', place: 1, count: 2 } })],
      position: 3,
      caughtUp: false,
    });
    await new Promise(setImmediate);
    t.equal(world.get(THINGS, 'a', 'half'), undefined, 'half a transaction is not shown');
    give({
      kind: 'records',
      records: [record(5, 'other-half', { transaction: { id: 't', place: 2, count: 2 } })],
      position: 5,
      caughtUp: true,
    });
    await eventually(
      () => world.position,
      (position) => position === 5,
    );
    t.ok(world.get(THINGS, 'a', 'half') && world.get(THINGS, 'a', 'other-half'));
    t.same(changes.splice(0), ['half', 'other-half']);

    give({ kind: 'reset', records: [record(1, 'same'), record(4, 'half')], position: 4, caughtUp: false });
    await new Promise(setImmediate);
    t.ok(world.get(THINGS, 'a', 'lost'), 'the old snapshot stands while the new one fills');
    give({
      kind: 'records',
      records: [record(5, 'other-half'), record(90, 'changed'), record(91, 'new')],
      position: 95,
      caughtUp: true,
    });
    await eventually(
      () => world.position,
      (position) => position === 95,
    );
    t.same(changes.sort(), ['changed', 'lost gone', 'new']);
    t.equal(world.get(THINGS, 'a', 'lost'), undefined);
    await world.close();
  },
);
