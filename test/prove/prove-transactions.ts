/**
 * Thousands of transactions, a third of them with a member that must be refused, while the API server and NATS are killed again and again. Lists, a controller's view of the log and reads of the past must never see a part of one,
 * nothing of a refused one may ever stand, and nothing that was acknowledged may be gone. Part of `npm run prove`; alone: `node dist/test/prove/prove-transactions.js [transactions] [seed]`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { natsUrl } from '../../cli/instance.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { LogRecord } from '../../event-log/event-log.ts';
import { openLogReader } from '../../event-log/jetstream.ts';
import { ApiError } from '../../sdk/client.ts';
import { Transport } from '../../sdk/http-transport.ts';
import { readKubeconfig } from '../../sdk/kubeconfig.ts';
import { LogWorld } from '../../sdk/log-world.ts';
import { startReckon } from '../harness/start-reckon.ts';
import { around } from './alone.ts';
import { generator } from './generator.ts';

const total = Number(process.argv[2] ?? 10_000);
const seed = Number(process.argv[3] ?? 1);
const writers = 4;
const parts = 8;
const kills = Math.max(2, Math.round(total / 250));
const momentsOfThePast = 200;
const namespace = 'prove';
const collection = `/api/v1/namespaces/${namespace}/configmaps`;
const configMaps = { group: '', resource: 'configmaps' };

interface Part {
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly data: { readonly round: string };
}

const faults: string[] = [];
const complain = (fault: string): void => {
  if (faults.length < 20) faults.push(fault);
};

/** Of every writer all parts, of one round, or none. `least`: what was acknowledged before the look. */
function look(who: string, objects: readonly Part[], least: readonly number[] = []): void {
  const byWriter = grouped(objects, ({ metadata }) => metadata.labels?.['writer'] ?? '');
  for (const [writer, mine] of byWriter) {
    const rounds = [...new Set(mine.map(({ data }) => Number(data.round)))];
    if (mine.length !== parts || rounds.length !== 1)
      complain(`${who}: ${mine.length} parts of writer ${writer}, of rounds ${rounds.join(', ')}`);
    if ((rounds[0] ?? 0) < (least[Number(writer)] ?? 0))
      complain(`${who}: round ${rounds[0]} of writer ${writer}, though ${least[Number(writer)]} was acknowledged`);
  }
}

const random = generator(seed);
process.stdout.write(`seed ${seed}, ${total} transactions of ${parts} members, ${kills} kills\n`);
const t = await around();
try {
  const reckon = await startReckon(t, { runtime: 'simulated', controllers: ['projection'] });
  const logger = pino({ level: 'silent' });
  const log = await openLogReader({ url: natsUrl(reckon.instance, 'reader'), stream: 'log', logger });
  t.teardown(() => log.close());
  const transport = new Transport({ access: readKubeconfig(reckon.kubeconfig), userAgent: 'proof', timeoutMs: 20_000 });
  t.teardown(() => transport.close());
  await reckon.kubectl(`create namespace ${namespace}`);
  const world = new LogWorld({ log, resources: [configMaps], logger });
  t.teardown(() => world.close());
  await world.filled();
  let deliveries = 0;
  world.onChanges(() => {
    deliveries++;
    look('a controller', world.list(configMaps, { namespace }).flatMap(partOf));
  });

  const count = { begun: 0, acknowledged: 0, refused: 0, unknown: 0, lists: 0, killed: 0 };
  const acknowledged = Array.from({ length: writers }, () => 0);
  const refusedRounds = new Set<string>();
  const write = async (writer: number): Promise<void> => {
    for (let round = 1; count.begun < total; round++) {
      count.begun++;
      const removes = random() < 0.1;
      const isSpoilt = random() < 0.33;
      const operations: unknown[] = Array.from({ length: parts }, (_, part) => operation(writer, part, round, removes));
      if (isSpoilt) operations.splice(Math.floor(random() * (parts + 1)), 0, spoilt(writer, round, random()));
      try {
        await transport.call({
          method: 'POST',
          path: '/apis/log.reckon.dev/v1/transactions?fieldManager=proof&force=true',
          body: { operations },
        });
        count.acknowledged++;
        if (isSpoilt) complain(`writer ${writer}, round ${round}: a spoilt transaction was acknowledged`);
        if (!removes) acknowledged[writer] = round;
      } catch (error) {
        if (error instanceof ApiError && error.code < 500) {
          count.refused++;
          refusedRounds.add(`${writer}/${round}`);
          // What is gone cannot be removed again: that is refused too.
          if (!isSpoilt && !(removes && error.is('NotFound')))
            complain(`writer ${writer}, round ${round} was refused: ${error.message}`);
        } else {
          count.unknown++;
          await sleep(400);
        }
      }
    }
  };
  let writing = true;
  const read = async (): Promise<void> => {
    while (writing) {
      const least = [...acknowledged];
      const path = `${collection}?labelSelector=writer`;
      const answer = await transport.call({ method: 'GET', path }).catch(() => undefined);
      if (!answer) {
        await sleep(100);
        continue;
      }
      look('a list', (answer.body as { items: Part[] }).items, least);
      count.lists++;
    }
  };
  const kill = async (): Promise<void> => {
    for (let done = 0; done < kills && writing;) {
      if (count.begun < ((done + 0.5) * total) / kills) {
        await sleep(20);
        continue;
      }
      done++;
      const name = random() < 0.75 ? 'api-server' : 'nats';
      const pid = await reckon.kill(name, 'SIGKILL').catch(() => undefined);
      if (pid === undefined) continue;
      count.killed++;
      await reckon.restarted(name, pid, 60_000);
    }
  };
  const startedMs = Date.now();
  const others = [read(), read(), kill()];
  await Promise.all(Array.from({ length: writers }, (_, writer) => write(writer)));
  writing = false;
  await Promise.all(others);
  const last = await log.lastSequence();
  if (!(await world.waitFor(configMaps, last, 30_000))) complain('the controller did not come to the end of the log');

  let transactions = 0;
  const checkOne = (members: readonly LogRecord[]): void => {
    transactions++;
    const [first] = members;
    const whole = members.every(
      ({ sequence, transaction }, index) =>
        transaction?.place === index + 1 && sequence === (first?.sequence ?? 0) + index,
    );
    if (!whole || members.length !== first?.transaction?.count)
      complain(`the transaction at ${first?.sequence} is torn`);
    const rounds = members.flatMap(({ object }) => partOf(JSON.parse(Buffer.from(object).toString()) as ApiObject));
    for (const { metadata, data } of rounds)
      if (members[0]?.verb !== 'delete' && refusedRounds.has(`${metadata.labels?.['writer']}/${data.round}`))
        complain(`${metadata.name} of the refused round ${data.round} stands in the log`);
  };
  const ending = new AbortController();
  for await (const { records, position } of log.follow({ from: { after: 0 }, signal: ending.signal })) {
    const inTransactions = records.filter(({ transaction }) => transaction !== undefined);
    for (const members of grouped(inTransactions, ({ transaction }) => transaction?.id ?? '').values())
      checkOne(members);
    if (position >= last) break;
  }
  ending.abort();
  if (transactions < count.acknowledged) complain(`${count.acknowledged} were acknowledged, ${transactions} stand`);
  for (let index = 0; index < momentsOfThePast; index++) {
    const at = 100 + Math.floor(random() * (last - 100));
    const { body } = await transport.call({ method: 'GET', path: `${collection}?labelSelector=writer&at=${at}` });
    look(`the past at ${at}`, (body as { items: Part[] }).items);
  }
  process.stdout.write(
    `${count.acknowledged} acknowledged, ${count.refused} refused, ${count.unknown} cut off, ${count.killed} kills in ${Math.round((Date.now() - startedMs) / 1000)} s; ` +
      `${transactions} stand; looked at by ${count.lists} lists, ${deliveries} deliveries to a controller, ${momentsOfThePast} reads of the past\n`,
  );
} finally {
  await t.end();
}
for (const fault of faults) process.stdout.write(`FAILED  ${fault}\n`);
process.exit(faults.length === 0 ? 0 : 1);

function partOf(object: ApiObject): Part[] {
  return object.metadata.labels?.['writer'] === undefined ? [] : [object as unknown as Part];
}

function grouped<T>(items: readonly T[], by: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(by(item), [...(groups.get(by(item)) ?? []), item]);
  return groups;
}

function operation(writer: number, part: number, round: number, removes: boolean): unknown {
  const name = `writer-${writer}-part-${part}`;
  if (removes) return { verb: 'delete', target: { apiVersion: 'v1', kind: 'ConfigMap', namespace, name } };
  const metadata = { name, namespace, labels: { writer: String(writer) } };
  return { verb: 'apply', object: { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { round: String(round) } } };
}

/** A member that cannot be: each for another reason. */
function spoilt(writer: number, round: number, which: number): unknown {
  const metadata = { name: `spoilt-${writer}-${round}`, namespace };
  const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata };
  if (which < 0.25) return { verb: 'create', object: { ...object, metadata: { ...metadata, name: 'Not A Name' } } };
  if (which < 0.5) return { verb: 'update', object };
  if (which < 0.75) return { verb: 'create', object: { ...object, metadata: { ...metadata, namespace: 'nowhere' } } };
  return { verb: 'apply', object, preconditions: { resourceVersion: '1' } };
}
