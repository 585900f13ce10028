/** How a process that dies comes back: sooner or later by how often it died, and soon again once it has run well. Real processes, whose lives are a line of shell. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { natsProcess } from '../../cli/servers/nats.ts';
import { SupervisedProcess, type RestartPolicy } from '../../cli/start/supervised-process.ts';

/** Runs it until it has died so often; says how long each death was waited over. */
async function deaths(
  script: string,
  count: number,
  restart: RestartPolicy | undefined,
  onDeath: (deaths: number) => Promise<void> = async () => undefined,
): Promise<readonly number[]> {
  const waits: number[] = [];
  const observer = {
    started: () => undefined,
    output: () => undefined,
    ended: (_name: string, _how: string, again: { readonly inMs: number } | undefined) => {
      if (again !== undefined) waits.push(again.inMs);
    },
  };
  const spec = { name: 'mayfly', command: 'sh', args: ['-c', script], stopSignal: 'SIGTERM' as const };
  const process = new SupervisedProcess({ ...spec, ...(restart && { restart }) }, observer);
  await process.start(new AbortController().signal);
  for (let seen = 0; seen < count; await sleep(10)) {
    if (waits.length === seen) continue;
    seen = waits.length;
    await onDeath(seen);
  }
  await process.stop();
  return waits.slice(0, count);
}

t.test('what everything waits for comes back within a second, however often it was killed', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-nats-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const server = { program: 'nats-server', folder, host: '127.0.0.1', port: 1, serverName: 'none', users: [] };
  const { restart } = await natsProcess(server);
  t.same(await deaths('exit 1', 6, restart), [100, 200, 400, 800, 1000, 1000]);
});

t.test('any other waits longer each time; after a good run it is as new', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-mayfly-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const well = path.join(folder, 'well');
  const policy = { lastBackoffMs: 10_000, settledMs: 700 };
  const waits = await deaths(`test -e ${well} && sleep 1; exit 1`, 5, policy, async (seen) => {
    if (seen === 3) await writeFile(well, '');
  });
  t.same(waits, [100, 200, 400, 100, 100], 'three deaths in a row, then two after a run of a second');
});
