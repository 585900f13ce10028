/**
 * The writers and followers of prove-kills.ts on a JetStream cluster of three servers, every stream on all of them, of which one after the other is killed (every other time the one that leads the log's stream) and comes back.
 * `npm run prove -- cluster [rounds] [seed]`, or alone: `node dist/test/event-log/prove-cluster.js [rounds] [seed]`.
 */
import { connect } from 'nats';
import { openEventLog } from '../../event-log/jetstream.ts';
import { freePort, startNatsChild, type NatsChild } from './nats-child.ts';
import { PREFIX, proveKills, type Disturbed } from './prove-kills.ts';

const SERVERS = ['a', 'b', 'c'];
const HEALTHY_MS = 60_000;

interface StreamInfo {
  readonly cluster?: {
    readonly leader?: string;
    readonly replicas?: readonly { readonly current?: boolean }[];
  };
}

async function threeServers(): Promise<Disturbed> {
  const routes = await Promise.all(SERVERS.map(async (name) => ({ name, port: await freePort() })));
  const servers = new Map<string, NatsChild>();
  for (const { name, port } of routes) {
    const others = routes.filter((route) => route.name !== name).map((route) => `nats://127.0.0.1:${route.port}`);
    const cluster = { name: 'three', listen: `127.0.0.1:${port}`, routes: others };
    servers.set(name, await startNatsChild({ server_name: name, cluster }));
  }
  const url = [...servers.values()].map((server) => server.url).join(',');
  const info = async (): Promise<StreamInfo> => {
    const nats = await connect({ servers: url.split(','), timeout: 5_000, reconnect: false, noAsyncTraces: true });
    try {
      return (
        await nats.request(`$JS.API.STREAM.INFO.${PREFIX.toUpperCase()}`, '', { timeout: 5_000 })
      ).json<StreamInfo>();
    } finally {
      await nats.close();
    }
  };
  return {
    url,
    replicas: SERVERS.length,
    async disturb(random) {
      const leader = (await untilHealthy(info)).cluster?.leader ?? '';
      // Who does not say how many replicas there are to be takes none away.
      await (await openEventLog({ url, prefix: PREFIX, stream: 'log' })).close();
      const name = random() < 0.5 ? leader : (SERVERS[Math.floor(random() * SERVERS.length)] ?? leader);
      const server = servers.get(name);
      if (!server) throw new Error(`there is no server ${name}`);
      await server.kill();
      const awayMs = random() * 4_000;
      await sleep(awayMs);
      await server.start();
      return `killed ${name}${name === leader ? ', which led,' : ''} for ${(awayMs / 1000).toFixed(1)} s`;
    },
    remove: async () => void (await Promise.all([...servers.values()].map((server) => server.remove()))),
  };
}

/** Until there is a leader and both others have all that it has: with two of three gone, nobody could write. */
async function untilHealthy(info: () => Promise<StreamInfo>): Promise<StreamInfo> {
  for (const deadline = Date.now() + HEALTHY_MS; ; await sleep(100)) {
    const answer = await info().catch(() => ({}) as StreamInfo);
    const { leader, replicas = [] } = answer.cluster ?? {};
    if (leader && replicas.length === SERVERS.length - 1 && replicas.every(({ current }) => current)) return answer;
    if (Date.now() > deadline) throw new Error(`the cluster is not whole again: ${JSON.stringify(answer.cluster)}`);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const seed = Number(process.argv[3] ?? 1);
const report = await proveKills({
  rounds: Number(process.argv[2] ?? 20),
  seed,
  start: threeServers,
  say: console.log,
});
console.log(JSON.stringify({ seed, ...report }, undefined, 2));
if (report.faults.length > 0) process.exitCode = 1;
