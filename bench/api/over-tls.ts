/**
 * The API server over TLS, as `wrk` loads it: durable creates and gets of 1 KB ConfigMaps at 1, 32 and 128 connections, a consistent list of 10,000, and the way from a create to the last of 50 watchers; beside a bare Node
 * HTTPS server that answers the same bytes, turn by turn in the same run. Server, log and load share this machine's cores. What kube-apiserver does on two shared cores is quoted beside it, not measured.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, createServer, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import pino from 'pino';
import { newTokenKey } from '../../api-server/authentication/token-keys.ts';
import { startApiServer } from '../../api-server/main.ts';
import { createAuthority, issueCertificate } from '../../cli/instance/certificates.ts';
import { runOrThrow } from '../../cli/set-up/command.ts';
import { bring, cacheFolder } from '../../cli/set-up/set-up.ts';
import { wrk, type Wrk } from '../../cli/set-up/wrk.ts';
import { isWorker, runWorkers } from '../../cli/workers.ts';
import { startNatsChild } from '../../test/event-log/nats-child.ts';

/** Of the API server. */
const PROCESSES = Number(process.env['RECKON_BENCH_PROCESSES'] ?? 1);
const SECONDS = 2;
const ROUNDS = 3;
const CONNECTIONS = [1, 32, 128];
const LISTED = 10_000;
const GOTTEN = 1_000;
const WATCHERS = 50;
const OBJECT_BYTES = 1024;
/** kube-apiserver 1.28 with etcd 3.5 on two shared cores, by the same load. */
const REFERENCE = { create: [310, 1_100, 1_260], get: [370, 2_600, 2_900], listMs: 206, lastWatcherMs: '4 to 10' };
const AIM = { create: [930, 3_300, 3_780], get: 7_000, listMs: 206 / 3 };

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';

/** The process that is measured says this, in one line, once it listens. */
interface Listening {
  readonly port: number;
  readonly ca: string;
  readonly credentials: { readonly cert: string; readonly key: string };
}

type Tls = { readonly ca: string; readonly cert: string; readonly key: string };

const sayListening = (listening: Listening): void => void process.stdout.write(`${JSON.stringify(listening)}\n`);

function newTls(): { tls: Tls; credentials: Listening['credentials'] } {
  const nowMs = Date.now();
  const authority = createAuthority('reckon bench', nowMs);
  const organizations = ['system:masters'];
  const server = issueCertificate(authority, { commonName: 'server', organizations, hosts: ['127.0.0.1'] }, nowMs);
  const credentials = issueCertificate(authority, { commonName: 'admin', organizations, hosts: [] }, nowMs);
  return { tls: { ca: authority.cert, ...server }, credentials };
}

async function serve(start: (tls: Tls) => Promise<number>): Promise<void> {
  const { tls, credentials } = newTls();
  sayListening({ port: await start(tls), ca: tls.ca, credentials });
  process.once('SIGTERM', () => process.exit(0));
}

/** So many processes of the API server, on one address. */
async function serveTogether(url: string): Promise<void> {
  const logger = pino({ level: 'warn' }, pino.destination(2));
  if (isWorker()) {
    const { tls, tokenKeys } = JSON.parse(process.env['RECKON_BENCH_SHARED'] ?? '{}') as {
      tls: Tls;
      tokenKeys: string;
    };
    await apiServer(tls, url, tokenKeys);
    return;
  }
  const { tls, credentials } = newTls();
  process.env['RECKON_BENCH_SHARED'] = JSON.stringify({ tls, tokenKeys: newTokenKey() });
  const listening = (port: number) => sayListening({ port, ca: tls.ca, credentials });
  await runWorkers({ count: PROCESSES, logger, listening });
}

async function apiServer(tls: Tls, url: string, tokenKeys = newTokenKey()): Promise<number> {
  const { port } = await startApiServer({
    natsUrl: url,
    tls,
    host: '127.0.0.1',
    port: 0,
    tokenKeys,
    secretsKey: Buffer.alloc(32, 7),
    serviceCidr: '10.97.0.0/20',
    nodePortRange: [30000, 32767],
    logger: pino({ level: 'warn' }, pino.destination(2)),
  });
  return port;
}

/** Reads what it is sent, and answers 1 KB whatever was asked; or, asked for `/bytes/<count>`, that many. */
async function bareServer(tls: Tls): Promise<number> {
  const object = Buffer.from(JSON.stringify(configMap('same')));
  const answers = new Map<string, Buffer>();
  const server = createServer({ ...tls, requestCert: true, rejectUnauthorized: false }, (request, response) => {
    request.resume();
    request.on('end', () => {
      const count = /^\/bytes\/(\d+)$/.exec(request.url ?? '')?.[1];
      const answer = count === undefined ? object : (answers.get(count) ?? Buffer.alloc(Number(count), 0x20));
      if (count !== undefined) answers.set(count, answer);
      response.writeHead(request.method === 'POST' ? 201 : 200, {
        'Content-Type': 'application/json',
        'Content-Length': answer.length,
      });
      response.end(answer);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as { port: number }).port;
}

function configMap(name: string): object {
  const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' }, data: { text: '' } };
  object.data.text = 'x'.repeat(OBJECT_BYTES - JSON.stringify(object).length);
  return object;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;

class Peer {
  readonly #child: ChildProcess;
  readonly #agent: Agent;
  readonly port: number;

  private constructor(child: ChildProcess, { port, ca, credentials }: Listening) {
    this.#child = child;
    this.port = port;
    this.#agent = new Agent({ ca, ...credentials, keepAlive: true, maxSockets: 512 });
  }

  /** Node's own options, such as those of its profiler, come from RECKON_BENCH_NODE. */
  static async start(as: 'api-server' | 'bare', url: string): Promise<Peer> {
    const options = as === 'api-server' ? (process.env['RECKON_BENCH_NODE'] ?? '').split(' ').filter(Boolean) : [];
    const child = spawn(process.execPath, [...options, import.meta.filename, as, url], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout ?? child, 'data')) as [Buffer];
    return new Peer(child, JSON.parse(line.toString()) as Listening);
  }

  open(method: string, target: string, body?: object): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json' };
      const outgoing = httpsRequest({
        host: '127.0.0.1',
        port: this.port,
        method,
        path: target,
        agent: this.#agent,
        headers,
      });
      outgoing.on('error', reject).on('response', resolve);
      outgoing.end(body && JSON.stringify(body));
    });
  }

  async call(method: string, target: string, body?: object): Promise<Buffer> {
    const response = await this.open(method, target, body);
    const chunks: Buffer[] = [];
    for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    if ((response.statusCode ?? 0) >= 300) throw new Error(`${method} ${target}: ${bytes.toString()}`);
    return bytes;
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await gone;
  }
}

/** A service account that may do everything: wrk has no client certificates. */
async function tokenFrom(peer: Peer): Promise<string> {
  await peer.call('POST', '/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'bench' } });
  await peer.call('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    metadata: { name: 'bench' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'ServiceAccount', name: 'bench', namespace: 'default' }],
  });
  const answer = await peer.call('POST', '/api/v1/namespaces/default/serviceaccounts/bench/token', {
    spec: { expirationSeconds: 3600 },
  });
  return (JSON.parse(answer.toString()) as { status: { token: string } }).status.token;
}

interface Load {
  readonly tool: Wrk;
  readonly folder: string;
  readonly token: string;
}

let loads = 0;

/** Requests a second. Throws when one was not answered with success. */
async function load(
  peer: Peer,
  kind: 'create' | 'get',
  connections: number,
  { tool, folder, token }: Load,
): Promise<number> {
  const prefix = `${kind}-${(loads += 1)}-`;
  const name = kind === 'create' ? `"${prefix}" .. n` : `"listed-" .. (n % ${GOTTEN})`;
  const [before = '', after = ''] = JSON.stringify(configMap('NAME')).split('NAME');
  const request =
    kind === 'create'
      ? `wrk.format("POST", "${CONFIG_MAPS}", headers, '${before}' .. ${name} .. '${after}')`
      : `wrk.format("GET", "${CONFIG_MAPS}/" .. ${name}, headers)`;
  const script = path.join(folder, `${prefix}.lua`);
  await writeFile(
    script,
    `local n = 0
local headers = { ["Authorization"] = "Bearer ${token}", ["Content-Type"] = "application/json" }
request = function() n = n + 1; return ${request} end
done = function(summary) io.write(string.format("RESULT %f %d\\n", summary.requests / summary.duration * 1e6, summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout)) end
`,
  );
  const url = `https://127.0.0.1:${peer.port}`;
  const said = await runOrThrow(tool.path, ['-t1', `-c${connections}`, `-d${SECONDS}s`, '-s', script, url], {
    environment: tool.environment,
  });
  const [, rate, failed] = /RESULT (\S+) (\d+)/.exec(said) ?? [];
  if (rate === undefined || Number(failed) > 0) throw new Error(`${kind} at ${connections} connections: ${said}`);
  return Number(rate);
}

async function fill(peer: Peer): Promise<void> {
  const left = Array.from({ length: GOTTEN + LISTED }, (_, index) => index);
  await peer.call('POST', '/api/v1/namespaces', { metadata: { name: 'listed' } });
  const worker = async (): Promise<void> => {
    for (let index = left.pop(); index !== undefined; index = left.pop()) {
      const object = configMap(`listed-${index}`) as { metadata: { namespace: string } };
      const namespace = index < GOTTEN ? 'default' : 'listed';
      object.metadata.namespace = namespace;
      await peer.call('POST', `/api/v1/namespaces/${namespace}/configmaps`, object);
    }
  };
  await Promise.all(Array.from({ length: 64 }, worker));
}

/** Milliseconds. */
async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

interface Watching {
  seen: number;
  closed: boolean;
}

async function openWatchers(peer: Peer, onEvent: () => void): Promise<Watching[]> {
  const target = `/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan`;
  return Promise.all(
    Array.from({ length: WATCHERS }, async () => {
      const watching: Watching = { seen: 0, closed: false };
      const response = await peer.open('GET', target);
      response.on('data', (chunk: Buffer) => {
        for (const byte of chunk) if (byte === 10) watching.seen++;
        onEvent();
      });
      response.on('error', () => (watching.closed = true)).on('close', () => (watching.closed = true));
      return watching;
    }),
  );
}

/** From sending a create to the last of the watchers, then a burst: how many of its events each watcher got, and how many were closed. */
async function watchers(
  peer: Peer,
  given: Load,
): Promise<{ lastMs: number; closed: number; lost: number; rate: number }> {
  let wake = (): void => undefined;
  const watching = await openWatchers(peer, () => wake());
  const base = watching.map(({ seen }) => seen);
  const all = (count: number): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        if (watching.every(({ seen, closed }, index) => closed || seen >= (base[index] ?? 0) + count)) resolve();
      };
      wake = check;
      check();
    });
  const times: number[] = [];
  for (let index = 1; index <= 40; index++) {
    times.push(
      await timed(() =>
        Promise.all([
          all(index),
          peer.call('POST', CONFIG_MAPS, configMap(`watched-${Math.random().toString(36).slice(2)}`)),
        ]),
      ),
    );
  }
  const rate = await load(peer, 'create', 32, given);
  await peer.call('POST', CONFIG_MAPS, configMap('the-end'));
  // Whoever is open gets everything, however long it takes.
  let most = -1;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    const now = Math.max(...watching.map(({ seen }) => seen));
    if (now === most && watching.every(({ seen, closed }) => closed || seen === now)) break;
    most = now;
  }
  const closed = watching.filter((each) => each.closed).length;
  const lost = watching.filter(({ seen, closed: ended }) => !ended && seen !== most).length;
  return { lastMs: median(times), closed, lost, rate };
}

async function measure(): Promise<void> {
  const say = (line: string): void => void process.stdout.write(`  ${line}\n`);
  const context = { cacheFolder: cacheFolder(), say: (line: string) => process.stderr.write(`set-up: ${line}\n`) };
  await mkdir(context.cacheFolder, { recursive: true });
  const tool = await bring(wrk, context);
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-bench-'));
  const nats = await startNatsChild();
  const peers: Peer[] = [];
  try {
    const ours = await Peer.start('api-server', nats.url);
    const bare = await Peer.start('bare', '');
    peers.push(ours, bare);
    const given = { tool, folder, token: await tokenFrom(ours) };
    say(
      `${availableParallelism()} cores for ${PROCESSES === 1 ? 'server' : `${PROCESSES} processes of the server`}, log and load; medians of ${ROUNDS} rounds of ${SECONDS} s; 1 KB ConfigMaps, TLS, keep-alive, bearer token, every create synced to disk`,
    );
    await fill(ours);
    // Warm: compilers and caches.
    for (const peer of peers) for (const kind of ['create', 'get'] as const) await load(peer, kind, 32, given);
    for (const kind of ['create', 'get'] as const) {
      for (const [place, connections] of CONNECTIONS.entries()) {
        const [mine, its]: [number[], number[]] = [[], []];
        for (let round = 0; round < ROUNDS; round++) {
          mine.push(await load(ours, kind, connections, given));
          its.push(await load(bare, kind, connections, given));
        }
        const aim = kind === 'create' ? AIM.create[place] : connections === 1 ? undefined : AIM.get;
        say(
          `${kind} at ${String(connections).padStart(3)} connections: ${median(mine).toFixed(0).padStart(5)}/s = ${(median(mine) / median(its)).toFixed(2)} x a bare server (${median(its).toFixed(0)}/s); kube-apiserver elsewhere ${REFERENCE[kind][place]}${aim === undefined ? '' : `, aim ${aim}`}`,
        );
      }
    }
    const { lastMs, closed, lost, rate } = await watchers(ours, given);
    say(
      `create to the last of ${WATCHERS} watchers: ${lastMs.toFixed(1)} ms; kube-apiserver elsewhere ${REFERENCE.lastWatcherMs} ms`,
    );
    say(
      `a burst at 32 connections with ${WATCHERS} watchers: ${rate.toFixed(0)} creates/s, ${closed} watchers closed, ${lost} with a gap`,
    );
    const [lists, plain]: [number[], number[]] = [[], []];
    let bytes = 0;
    for (let index = 0; index < 15; index++) {
      lists.push(
        await timed(async () => (bytes = (await ours.call('GET', '/api/v1/namespaces/listed/configmaps')).length)),
      );
      plain.push(await timed(() => bare.call('GET', `/bytes/${bytes}`)));
    }
    say(
      `consistent list of ${LISTED} (${(bytes / 1e6).toFixed(1)} MB): ${median(lists).toFixed(0)} ms = ${(median(lists) / median(plain)).toFixed(2)} x a bare server (${median(plain).toFixed(0)} ms); kube-apiserver elsewhere ${REFERENCE.listMs} ms, aim ${AIM.listMs.toFixed(0)}`,
    );
  } finally {
    for (const peer of peers) await peer.stop();
    await nats.remove();
    await rm(folder, { recursive: true, force: true });
  }
}

const [, , role, natsUrl = ''] = process.argv;
if (role === 'api-server') await (PROCESSES > 1 ? serveTogether(natsUrl) : serve((tls) => apiServer(tls, natsUrl)));
else if (role === 'bare') await serve(bareServer);
else await measure();
