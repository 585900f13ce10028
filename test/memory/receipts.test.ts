/**
 * Whoever waits for a revision waits until it has been dealt with: a controller that is paused, or that fails at a key, has not, and is named. The controller is a custom one, its replicas are processes.
 */
import { fork, type ChildProcess } from 'node:child_process';
import path from 'node:path';
import t from 'tap';
import { runCommand, type CommandResult } from '../../cli/set-up/command.ts';
import { Connection } from '../../cli/verbs/connection.ts';
import type { Following } from '../../api-server/memory/status.ts';
import { STATUS, type ClusterStatus } from '../../cli/verbs/status.ts';
import type { ApiObject } from '../../sdk/index.ts';
import { pauseProcess } from '../harness/pausing.ts';
import { until } from '../harness/until.ts';
import { startCluster } from '../sdk/cluster.ts';

t.setTimeout(600_000);

const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');
const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps' };

t.test('receipts', async (t) => {
  const cluster = await startCluster();
  t.teardown(() => cluster.remove());
  const kubeconfig = await cluster.kubeconfig('admin');
  const connection = new Connection({ kubeconfig });
  t.teardown(() => connection.close());
  const say = (...words: string[]): Promise<CommandResult> =>
    runCommand(process.execPath, [main, ...words, '--kubeconfig', kubeconfig], { timeoutMs: 60_000 });
  const wait = (revision: number, who: string, timeout = '20s'): Promise<CommandResult> =>
    say('wait', '--revision', String(revision), '--seen-by', who, '--timeout', timeout);
  const replicas = async (): Promise<Following[]> => {
    const { followers } = (await connection.get(STATUS)).body as ClusterStatus;
    return followers.filter(({ name }) => name === 'picky');
  };
  const untilSome = (what: string, like: Partial<Following>): Promise<Following> =>
    until(what, async () =>
      (await replicas()).find((one) => Object.entries(like).every(([field, value]) => one[field as 'seen'] === value)),
    );
  /** Resolves to the revision at which it stands. */
  const put = async (name: string, data: Record<string, string>): Promise<number> => {
    const metadata = { name, namespace: 'default' };
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data } as ApiObject;
    const written = await cluster.admin.apply(CONFIG_MAPS, object, { fieldManager: 'test', force: true });
    return Number(written.metadata.resourceVersion);
  };
  const access = await cluster.kubeconfig('system:controller:picky');
  const replica = (): ChildProcess => {
    const child = fork(path.join(import.meta.dirname, 'picky-replica.js'), [access, cluster.nats.url]);
    t.teardown(() => child.kill('SIGKILL'));
    return child;
  };

  const first = replica();
  await untilSome('the controller to lead', { role: 'leads', lag: 0 });

  await t.test('a controller that is paused has not dealt with what came since', async (t) => {
    const before = await put('good', {});
    t.match(await wait(before, 'picky,api-server'), {
      code: 0,
      stdout: `Revision ${before} has been dealt with by picky, api-server.\n`,
    });
    await pauseProcess(first.pid ?? 0);
    const revision = await put('good', { a: '1' });
    t.match(await wait(revision, 'picky,api-server', '1s'), {
      code: 1,
      stderr: /has not been dealt with by all: picky is unreachable\./,
    });
    t.match((await say('status')).stdout, /^picky +\d+ +- +\d+ +unreachable, leads$/m);
    first.kill('SIGCONT');
    t.match(await wait(revision, 'picky'), { code: 0 });
    t.match((await say('status')).stdout, /^picky +(\d+) +\1 +0 +up to date, leads$/m);
  });

  await t.test('a key that fails keeps its controller from having dealt with it, and nobody else', async (t) => {
    const bad = await put('bad', { refuse: 'yes' });
    const after = await put('good', { a: '2' });
    t.match(await wait(after, 'api-server,picky', '1s'), {
      code: 1,
      stderr: new RegExp(`by all: picky is at ${bad - 1} \\(1 key fails\\)\\.`),
    });
    t.match(await replicas(), [{ role: 'leads', done: bad - 1, failing: 1 }]);
    t.ok((await replicas())[0]!.seen >= after, 'it has seen what came after');
    t.match((await say('status')).stdout, /^picky +\d+ +\d+ +\d+ +1 key fails, leads$/m);
    t.match(await wait(await put('bad', { refuse: 'no' }), 'picky'), { code: 0 });
    t.match(await replicas(), [{ failing: undefined, lag: 0 }]);
  });

  await t.test('of several replicas the one that leads counts, and its successor owes everything', async (t) => {
    replica();
    const second = await untilSome('the other to wait', { role: 'standby', lag: 0 });
    t.equal(second.done, undefined);
    const revision = await put('good', { a: '3' });
    t.match(await wait(revision, 'picky'), { code: 0 });
    await put('bad', { refuse: 'yes' });
    await untilSome('the key to fail', { role: 'leads', failing: 1 });
    first.kill('SIGKILL');
    await untilSome('the other to lead', { role: 'leads', failing: 1, process: second.process });
    t.match(await replicas(), [{ done: 0 }], 'nobody can say what the first had dealt with, and it is told of no more');
    await put('bad', { refuse: 'no' });
    t.match(await wait(revision, 'picky'), { code: 0 });
  });
});
