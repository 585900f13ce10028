/**
 * The queue of keys: what stands in it once, runs once, comes back when, and with which triggers.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { type Outcome, type Work, WorkQueue } from '../../sdk/work-queue.ts';

/** As long as a busy machine needs. */
async function untilTrue(holds: () => boolean): Promise<void> {
  for (let waitedMs = 0; !holds() && waitedMs < 8_000; waitedMs += 10) await sleep(10);
}

const key = (name: string) => ({ group: '', resource: 'things', namespace: 'a', name });

function recorder(outcomes: (work: Work, attempt: number) => Promise<Outcome> | Outcome, concurrency = 2) {
  const done: { name: string; triggers: readonly number[]; failures: number; atMs: number }[] = [];
  let running = 0;
  let mostRunning = 0;
  const runningKeys = new Set<string>();
  const overlaps: string[] = [];
  const queue = new WorkQueue({
    concurrency,
    random: () => 0.999,
    work: async (work) => {
      if (runningKeys.has(work.key.name)) overlaps.push(work.key.name);
      runningKeys.add(work.key.name);
      mostRunning = Math.max(mostRunning, ++running);
      done.push({ name: work.key.name, triggers: work.triggers, failures: work.failures, atMs: performance.now() });
      const outcome = await outcomes(work, done.filter((each) => each.name === work.key.name).length);
      running--;
      runningKeys.delete(work.key.name);
      return outcome;
    },
  });
  return { queue, done, overlaps, most: () => mostRunning };
}

t.test('a key waits once and runs once at a time; workers are bounded', async (t) => {
  const { queue, done, overlaps, most } = recorder(async () => {
    await sleep(20);
    return { kind: 'done' };
  });
  for (let round = 0; round < 5; round++) for (const name of ['a', 'b', 'c']) queue.add(key(name), round);
  await untilTrue(() => done.some((each) => each.name === 'a'));
  queue.add(key('a'), 99);
  await untilTrue(() => done.length === 4 && queue.size === 0);
  t.same(done.filter((each) => each.name === 'c').length, 1, 'five additions, one run');
  t.same(
    done.filter((each) => each.name === 'a').map((each) => each.triggers),
    [[0], [1, 2, 3, 4, 99]],
    'what came while it ran is run once more',
  );
  t.same(overlaps, []);
  t.equal(most(), 2);
  t.equal(queue.size, 0);
  await queue.stop();
});

t.test('triggers are bounded, the newest are kept, and a failed attempt keeps them', async (t) => {
  const { queue, done } = recorder((_work, attempt) => (attempt === 1 ? { kind: 'failed' } : { kind: 'done' }), 1);
  for (let sequence = 1; sequence <= 20; sequence++) queue.add(key('b'), sequence);
  await untilTrue(() => done.length === 2);
  t.same(done[0]?.triggers, [1], 'the first addition ran at once');
  t.equal(done[1]?.triggers.length, 8);
  t.same(done[1]?.triggers.at(-1), 20);
  await queue.stop();
});

t.test('what brought a key is owed until the key has been worked on since, with success', async (t) => {
  let end: (outcome: Outcome) => void = () => undefined;
  const { queue, done } = recorder(() => new Promise<Outcome>((resolve) => (end = resolve)), 1);
  const began = (count: number): Promise<void> => untilTrue(() => done.length === count);
  queue.add(key('a'), 7);
  queue.add(key('b'), 9);
  t.strictSame(queue.progress(), { owes: 7, failing: 0 }, 'at work');
  queue.add(key('a'), 11);
  end({ kind: 'done' });
  await began(2);
  t.strictSame(queue.progress(), { owes: 9, failing: 0 }, 'what came while it ran is owed, but 9 is older');
  end({ kind: 'failed' });
  await began(3);
  t.strictSame(queue.progress(), { owes: 9, failing: 1 }, 'a failure answers nothing');
  end({ kind: 'again' });
  await began(4);
  t.strictSame(queue.progress(), { owes: 9, failing: 1 });
  end({ kind: 'done' });
  await began(5);
  t.strictSame(queue.progress(), { owes: 11, failing: 0 });
  end({ kind: 'done', requeueAfterMs: 60_000 });
  await untilTrue(() => queue.size === 0);
  t.strictSame(queue.progress(), { failing: 0 }, 'who comes again later owes nothing');
  queue.add(key('b'));
  t.strictSame(queue.progress(), { failing: 0 }, 'nor does what no record brought');
  queue.addUnknown(key('b'));
  t.strictSame(queue.progress(), { owes: 1, failing: 0 });
  end({ kind: 'done' });
  await began(7);
  end({ kind: 'done' });
  await queue.stop();
});

t.test('failures back off further each time up to the cap; success forgets them; a change does not wait', async (t) => {
  const { queue, done } = recorder((_work, attempt) =>
    attempt <= 6 ? { kind: 'failed', maxBackOffMs: 40 } : { kind: 'done' },
  );
  queue.add(key('a'));
  await untilTrue(() => done.length === 7);
  const gaps = done.slice(1).map((each, index) => each.atMs - (done[index]?.atMs ?? 0));
  t.same(
    done.map((each) => each.failures),
    [0, 1, 2, 3, 4, 5, 6],
  );
  for (const [index, leastMs] of [4, 8, 16, 34, 34, 34].entries())
    t.ok((gaps[index] ?? 0) >= leastMs, `back-off ${index + 1} is at least ${leastMs} ms: ${gaps[index]}`);
  queue.add(key('a'));
  await untilTrue(() => done.length === 8);
  t.equal(done.at(-1)?.failures, 0);
  await queue.stop();

  const stuck = recorder(() => ({ kind: 'failed', maxBackOffMs: 60_000 }));
  stuck.queue.add(key('a'));
  await untilTrue(() => stuck.done.length === 8);
  stuck.queue.add(key('a'));
  t.equal(stuck.done.length, 9, 'a changed key is tried at once, whatever its back-off');
  await stuck.queue.stop();
});

t.test('who waited out an outage in short steps does not wait long over the first failure after it', async (t) => {
  const { queue, done } = recorder((_work, attempt) => {
    if (attempt <= 12) return { kind: 'failed', maxBackOffMs: 10 };
    return attempt === 13 ? { kind: 'failed' } : { kind: 'done' };
  });
  queue.add(key('a'));
  await untilTrue(() => done.length === 14);
  t.same(
    done.map((each) => each.failures),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    'twelve short waits and one twice as long, where counting failures would have made it twenty seconds',
  );
  await queue.stop();
});

t.test('requeueAfterMs comes back; stop waits for what runs and starts nothing more', async (t) => {
  const { queue, done } = recorder(async (_work, attempt) => {
    await sleep(30);
    return attempt === 1 ? { kind: 'done', requeueAfterMs: 50 } : { kind: 'done' };
  });
  queue.add(key('a'));
  await untilTrue(() => done.length === 2);
  t.ok((done[1]?.atMs ?? 0) - (done[0]?.atMs ?? 0) >= 79);
  queue.add(key('b'));
  queue.add(key('c'));
  queue.add(key('d'));
  await queue.stop();
  const count = done.length;
  await sleep(60);
  t.equal(done.length, count);
  t.notOk(done.some((each) => each.name === 'd'));
});
