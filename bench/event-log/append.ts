/**
 * How fast the log appends 1.5 KB records, one, 32 and 256 in flight, as a ratio to a bare sequential JetStream publish (same server, synchronous persistence, same
 * run), and what group commit is worth. Run by hand: `node dist/bench/event-log/append.js [seconds]`; the tuning of group-commit.ts was chosen by it.
 */
import { connect } from 'nats';
import { openEventLog } from '../../event-log/jetstream.ts';
import type { GroupCommitTuning } from '../../event-log/group-commit.ts';
import type { Write } from '../../event-log/event-log.ts';
import { startNatsChild } from '../../test/event-log/nats-child.ts';

const RECORD_BYTES = 1_500;
const IN_FLIGHT = [1, 32, 256];
const TUNINGS: readonly (readonly [string, GroupCommitTuning])[] = [
  ['singles only, 256 under way', { singles: 256, inFlight: 256 }],
  ['batches from 2, one under way', { singles: 1, inFlight: 1 }],
  ['batches from 2, two under way', { singles: 1, inFlight: 2 }],
  ['batches from 5, one under way', { singles: 4, inFlight: 1 }],
  ['batches from 5, four under way', { singles: 4, inFlight: 4 }],
];

const measureMs = Number(process.argv[2] ?? 3) * 1_000;
const server = await startNatsChild();
try {
  const bare = await barePublishes(server.url);
  console.log(`bare sequential publish: ${bare.toFixed(0)} a second`);
  for (const [label, tuning] of TUNINGS) {
    const rates: string[] = [];
    for (const inFlight of IN_FLIGHT) {
      const rate = await appends(server.url, { tuning, inFlight });
      rates.push(
        `${String(inFlight).padStart(3)} in flight ${rate.toFixed(0).padStart(6)}/s = ${(rate / bare).toFixed(2)}x`,
      );
    }
    console.log(`${label.padEnd(30)} ${rates.join('   ')}`);
  }
} finally {
  await server.remove();
}

async function barePublishes(url: string): Promise<number> {
  const connection = await connect({ servers: url });
  const manager = await connection.jetstreamManager();
  await manager.streams.add({ name: 'BARE', subjects: ['bare.>'] });
  const stream = connection.jetstream();
  const payload = 'x'.repeat(RECORD_BYTES);
  const rate = await perSecond(1, (index) => stream.publish(`bare.${index}`, payload));
  await manager.streams.delete('BARE');
  await connection.close();
  return rate;
}

async function appends(url: string, options: { tuning: GroupCommitTuning; inFlight: number }): Promise<number> {
  const prefix = `bench${Date.now().toString(36)}`;
  const log = await openEventLog({ url, prefix, stream: 'log', tuning: options.tuning });
  const rate = await perSecond(options.inFlight, (index) => log.append(write(index)));
  await log.close();
  return rate;
}

async function perSecond(inFlight: number, once: (index: number) => Promise<unknown>): Promise<number> {
  let index = 0;
  for (; index < 50; index += 1) await once(index);
  const begun = performance.now();
  const before = index;
  const worker = async (): Promise<void> => {
    while (performance.now() - begun < measureMs) await once((index += 1));
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return ((index - before) * 1_000) / (performance.now() - begun);
}

function write(index: number): Write {
  const name = `object-${index}`;
  return {
    key: { group: 'apps', resource: 'deployments', namespace: 'default', name },
    plane: 'desired',
    verb: 'create',
    uid: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
    guard: 0,
    object: JSON.stringify({ metadata: { name }, data: 'x'.repeat(RECORD_BYTES - 300) }),
    actor: 'system:controller:deployments',
    requestId: '6ff9f0c6-5b9e-4a8e-8a53-0e5a2c1c8d11',
    time: '2026-01-01T00:00:00.000Z',
    causes: [index],
  };
}
