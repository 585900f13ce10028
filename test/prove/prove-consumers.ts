/**
 * An event consumer that stops and is cut off again and again, while the log grows and its server is killed: of what was acknowledged to the writers, nothing is lost to it, and nothing of another namespace reaches it. Part of
 * `npm run prove`; alone: `node dist/test/prove/prove-consumers.js [events] [seed]`.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, credsAuthenticator } from 'nats';
import { natsUrl } from '../../cli/instance.ts';
import { runCommand } from '../../cli/set-up/command.ts';
import { LogUnavailableError } from '../../event-log/event-log.ts';
import { openEventLog } from '../../event-log/jetstream.ts';
import { startReckon, type RunningReckon } from '../harness/start-reckon.ts';
import { around } from './alone.ts';
import { generator } from './generator.ts';

const EVENTS = Number(process.argv[2] ?? 100_000);
const SEED = Number(process.argv[3] ?? 1);
const NAMES = 200;
const MAX_RUN_MS = 1_500;
const MAX_PAUSE_MS = 1_500;
const KILL_CHANCE = 0.5;
const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');

const random = generator(SEED);
const t = await around();
let failed = true;
try {
  process.stdout.write(`seed ${SEED}, ${EVENTS} events\n`);
  const reckon = await startReckon(t, { runtime: 'simulated', controllers: [] });
  failed = !(await prove(reckon));
} finally {
  await t.end();
}
process.exit(failed ? 1 : 0);

async function prove(reckon: RunningReckon): Promise<boolean> {
  const say = (...words: string[]) =>
    runCommand(process.execPath, [main, 'consumer', ...words, '-n', 'shop', '-o', 'json'], {
      timeoutMs: 30_000,
      environment: { KUBECONFIG: reckon.kubeconfig },
      cwd: reckon.home,
    });
  for (const namespace of ['shop', 'bank']) await reckon.kubectl(`create namespace ${namespace}`);
  const { credentials, durable } = JSON.parse((await say('create', 'prover')).stdout).status as {
    credentials: string;
    durable: string;
  };
  const written = new Set<number>();
  const seen = new Map<number, number>();
  let foreign = 0;
  const writing = new AbortController();
  const writers = write(reckon, written).finally(() => writing.abort());
  const servers = `127.0.0.1:${reckon.instance.settings.ports.nats}`;
  const open = () =>
    connect({
      servers,
      authenticator: credsAuthenticator(Buffer.from(credentials)),
      inboxPrefix: `_INBOX_${durable}`,
      reconnect: false,
      timeout: 3_000,
    });
  /** Reads for a while, and is cut off in the middle of whatever it does. Resolves to how many came. */
  const consume = async (forMs: number): Promise<number> => {
    let count = 0;
    const nats = await open();
    const cut = setTimeout(() => void nats.close(), forMs);
    try {
      const consumer = await nats.jetstream({ apiPrefix: 'RECKON.API' }).consumers.get('RECKON', durable);
      while (!nats.isClosed()) {
        for await (const message of await consumer.fetch({ max_messages: 1_000, expires: 1_000 })) {
          count++;
          if (message.subject.split('.')[4] !== 'shop') foreign++;
          seen.set(message.seq, (seen.get(message.seq) ?? 0) + 1);
          message.ack();
        }
      }
    } finally {
      clearTimeout(cut);
      await nats.close();
    }
    return count;
  };
  let [cuts, kills] = [0, 0];
  while (!writing.signal.aborted) {
    await consume(random() * MAX_RUN_MS).catch(() => undefined);
    cuts++;
    await sleep(random() * MAX_PAUSE_MS);
    if (random() > KILL_CHANCE || writing.signal.aborted) continue;
    const pid = await reckon.kill('nats', 'SIGKILL').catch(() => undefined);
    kills++;
    if (pid !== undefined) await reckon.restarted('nats', pid);
  }
  await writers;
  const endMs = Date.now() + 180_000;
  const missing = (): number[] => [...written].filter((sequence) => !seen.has(sequence));
  // What was cut off unacknowledged comes again after a minute.
  while (missing().length > 0 && Date.now() < endMs) await consume(10_000).catch(() => sleep(500));
  const lost = missing();
  const again = [...seen.values()].filter((count) => count > 1).length;
  process.stdout.write(
    `${lost.length === 0 && foreign === 0 ? 'held' : 'FAILED'}  ${written.size} acknowledged writes, ${lost.length} lost, ${again} seen again, ${foreign} of another namespace; cut off ${cuts} times, server killed ${kills} times\n`,
  );
  return lost.length === 0 && foreign === 0;
}

/** Writes of other names side by side, each name's one after the other. */
async function write(reckon: RunningReckon, written: Set<number>): Promise<void> {
  const log = await openEventLog({ url: natsUrl(reckon.instance, 'apiServer'), stream: 'log' });
  const each = Math.ceil(EVENTS / NAMES);
  await Promise.all(
    Array.from({ length: NAMES }, async (_, index) => {
      const namespace = index % 10 === 0 ? 'bank' : 'shop';
      const key = { group: '', resource: 'configmaps', namespace, name: `thing-${index}` };
      let guard = 0;
      for (let count = 0; count < each;) {
        try {
          const { sequence } = await log.append({
            key,
            plane: 'desired',
            verb: guard === 0 ? 'create' : 'update',
            uid: key.name,
            guard,
            object: JSON.stringify({
              apiVersion: 'v1',
              kind: 'ConfigMap',
              metadata: { name: key.name, namespace, uid: key.name },
              data: { count: String(count) },
            }),
            actor: 'prover',
            requestId: 'prove',
            time: new Date().toISOString(),
            causes: [],
          });
          guard = sequence;
          if (namespace === 'shop') written.add(sequence);
          count++;
          // Spread over some time, so that there is something to be cut off from.
          if (count % 5 === 0) await sleep(200 + random() * 600);
        } catch (error) {
          if (!(error instanceof LogUnavailableError) && (error as Error).name !== 'GuardError') throw error;
          await sleep(200);
          guard = (await log.newest(key).catch(() => undefined))?.sequence ?? guard;
        }
      }
    }),
  );
  await log.close();
}
