/**
 * An API server in this process, on a prefix of its own in a real NATS, and the ways to talk to it: HTTPS with client certificates, watches, and the real kubectl. Used by the tests of this folder.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect, type NatsConnection } from 'nats';
import pino from 'pino';
import type { Limits } from '../../api-server/fairness/levels.ts';
import { startApiServer } from '../../api-server/main.ts';
import { createAuthority, issueCertificate, type KeyAndCertificate } from '../../cli/instance/certificates.ts';
import { writeKubeconfig } from '../../cli/instance/kubeconfig.ts';
import { runCommand, type CommandResult } from '../../cli/set-up/command.ts';
import { openLogReader } from '../../event-log/jetstream.ts';
import { serverAddresses, uniqueName, type Teardown } from '../harness/servers.ts';

/** An object as the API gives it; tests reach into it freely. */
export type Json = any;

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON; undefined when it is none. */
  readonly body: Json;
}

export interface RequestOptions {
  /** Anything but a string or bytes is sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Shorthand for the Content-Type header. */
  readonly type?: string;
  /** Shorthand for the Accept header. */
  readonly accept?: string;
  /** Null: no certificate. With its groups as `jane|developers,testers`; without, those of a controller. Default `admin`. */
  readonly user?: string | null;
  readonly timeoutMs?: number;
}

export interface WatchEvent {
  readonly type: string;
  readonly object: Json;
}

export interface Watch {
  readonly events: WatchEvent[];
  readonly status: number;
  /** Resolves with the events so far once there are `count` of them that are no bookmarks; rejects after some seconds. */
  until(count: number, timeoutMs?: number): Promise<readonly WatchEvent[]>;
  /** Resolves when the server has ended it. */
  readonly ended: Promise<void>;
  pause(): void;
  resume(): void;
  stop(): void;
}

export interface Api {
  readonly port: number;
  readonly prefix: string;
  readonly natsUrl: string;
  readonly kubeconfig: string;
  /** The path of kubectl. */
  readonly kubectlProgram: string;
  readonly folder: string;
  request(method: string, path: string, options?: RequestOptions): Promise<Answer>;
  get(path: string, options?: RequestOptions): Promise<Answer>;
  post(path: string, body: unknown, options?: RequestOptions): Promise<Answer>;
  put(path: string, body: unknown, options?: RequestOptions): Promise<Answer>;
  patch(
    path: string,
    form: 'json' | 'merge' | 'strategic' | 'apply',
    body: unknown,
    options?: RequestOptions,
  ): Promise<Answer>;
  delete(path: string, options?: RequestOptions): Promise<Answer>;
  watch(path: string, options?: RequestOptions): Promise<Watch>;
  /** Rejects, with what kubectl said, when it fails. */
  kubectl(
    words: string | readonly string[],
    options?: { input?: unknown; environment?: Record<string, string> },
  ): Promise<string>;
  tryKubectl(
    words: string | readonly string[],
    options?: { input?: unknown; environment?: Record<string, string> },
  ): Promise<CommandResult>;
  /** The newest sequence of the event log. */
  lastSequence(): Promise<number>;
  credentials(user: string): KeyAndCertificate;
  /** Other keys for tokens, from now on. */
  useTokenKeys(keys: string): void;
  /** Another API server on the same log; with `own`, the prefix and authority of this one. */
  another(): Promise<Api>;
  stop(): Promise<void>;
}

export const SECRETS_KEY = Buffer.alloc(32, 7);
const nowMs = Date.now();
export const authority = createAuthority('reckon test', nowMs);
/** PEM. */
export const authorityCertificate = authority.cert;
const issued = new Map<string, KeyAndCertificate>();

const credentialsOf = (user: string): KeyAndCertificate => {
  let pair = issued.get(user);
  if (!pair) {
    const [commonName = '', groups = user === 'admin' ? 'system:masters' : 'system:controllers'] = user.split('|');
    const organizations = groups.split(',').filter(Boolean);
    issued.set(user, (pair = issueCertificate(authority, { commonName, organizations, hosts: [] }, nowMs)));
  }
  return pair;
};

const PATCH_TYPES = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
};

export interface ApiOptions {
  readonly natsUrl?: string;
  readonly prefix?: string;
  readonly serviceCidr?: string;
  /** Where it listens beside 127.0.0.1, and stands behind the Service `kubernetes`. */
  readonly podAddress?: string;
  /** Default false: nobody makes ServiceAccounts here. */
  readonly demandsServiceAccounts?: boolean;
  readonly nodePortRange?: readonly [number, number];
  readonly eventTtlSeconds?: number;
  readonly limits?: Partial<Limits>;
  readonly webhookTimeoutMs?: number;
  /** PEM; absent: one of its own. */
  readonly tokenKeys?: string;
  /** Absent: without the past. */
  readonly databaseUrl?: string;
}

export async function startApi(t: Teardown, options: ApiOptions = {}): Promise<Api> {
  const addresses = options.natsUrl ? undefined : await serverAddresses();
  const natsUrl = options.natsUrl ?? addresses?.natsUrl ?? '';
  const kubectlProgram = addresses?.kubectl ?? 'kubectl';
  const prefix = options.prefix ?? uniqueName();
  const logger = pino({ level: process.env['RECKON_TEST_LOG'] ?? 'silent' }, pino.destination(2));
  const serverPair = issueCertificate(
    authority,
    { commonName: 'system:apiserver', organizations: ['system:masters'], hosts: ['127.0.0.1', 'localhost'] },
    nowMs,
  );
  const server = await startApiServer({
    natsUrl,
    prefix,
    tls: { ca: authority.cert, ...serverPair },
    host: '127.0.0.1',
    port: 0,
    secretsKey: SECRETS_KEY,
    serviceCidr: options.serviceCidr ?? '10.97.0.0/20',
    nodePortRange: options.nodePortRange ?? [30000, 32767],
    ...(options.eventTtlSeconds !== undefined && { eventTtlSeconds: options.eventTtlSeconds }),
    ...(options.limits !== undefined && { limits: options.limits }),
    ...(options.webhookTimeoutMs !== undefined && { webhookTimeoutMs: options.webhookTimeoutMs }),
    ...(options.tokenKeys !== undefined && { tokenKeys: options.tokenKeys }),
    ...(options.databaseUrl !== undefined && { databaseUrl: options.databaseUrl }),
    demandsServiceAccounts: options.demandsServiceAccounts ?? false,
    ...(options.podAddress !== undefined && { podAddress: options.podAddress }),
    logger,
  });
  const reader = await openLogReader({ url: natsUrl, prefix, stream: 'log', logger });
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-api-'));
  const kubeconfig = path.join(folder, 'kubeconfig');
  await writeKubeconfig(kubeconfig, {
    server: `https://127.0.0.1:${server.port}`,
    ca: authority.cert,
    user: 'admin',
    credentials: credentialsOf('admin'),
  });
  const agents = new Map<string, Agent>();
  let stopped = false;
  const stop = async () => {
    if (stopped) return;
    stopped = true;
    for (const agent of agents.values()) agent.destroy();
    await server.stop();
    await reader.close();
    await rm(folder, { recursive: true, force: true });
  };
  t.teardown(stop);

  const agentOf = (user: string | null): Agent => {
    const id = user ?? '';
    let agent = agents.get(id);
    if (!agent) {
      agent = new Agent({ keepAlive: true, ca: authority.cert, ...(user !== null && credentialsOf(user)) });
      agents.set(id, agent);
    }
    return agent;
  };
  const open = (method: string, target: string, given: RequestOptions) => {
    const { body, user = 'admin' } = given;
    const bytes =
      body === undefined || typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body);
    const type = given.type ?? (bytes === undefined ? undefined : 'application/json');
    const outgoing = httpsRequest({
      host: '127.0.0.1',
      port: server.port,
      method,
      path: target,
      agent: agentOf(user),
      headers: {
        ...(type !== undefined && { 'content-type': type }),
        ...(given.accept !== undefined && { accept: given.accept }),
        ...(bytes !== undefined && { 'content-length': Buffer.byteLength(bytes) }),
        ...given.headers,
      },
    });
    outgoing.end(bytes);
    return outgoing;
  };
  const request: Api['request'] = (method, target, given = {}) =>
    new Promise((resolve, reject) => {
      const outgoing = open(method, target, given);
      outgoing.setTimeout(given.timeoutMs ?? 30_000, () =>
        outgoing.destroy(new Error(`${method} ${target}: no answer`)),
      );
      outgoing.on('error', reject);
      outgoing.on('response', (response) => {
        void collect(response).then((bytes) => {
          const text = bytes.toString();
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text, body: tryParse(text) });
        }, reject);
      });
    });
  const tryKubectl: Api['tryKubectl'] = (words, { input, environment = {} } = {}) => {
    const args = typeof words === 'string' ? words.split(/\s+/).filter(Boolean) : words;
    const given = input === undefined ? {} : { input: typeof input === 'string' ? input : JSON.stringify(input) };
    const common = ['--kubeconfig', kubeconfig, '--cache-dir', path.join(folder, 'cache')];
    return runCommand(kubectlProgram, [...common, ...args], { timeoutMs: 60_000, environment, cwd: folder, ...given });
  };
  return {
    port: server.port,
    prefix,
    natsUrl,
    kubeconfig,
    kubectlProgram,
    folder,
    request,
    get: (target, given) => request('GET', target, given),
    post: (target, body, given) => request('POST', target, { ...given, body }),
    put: (target, body, given) => request('PUT', target, { ...given, body }),
    patch: (target, form, body, given) => request('PATCH', target, { type: PATCH_TYPES[form], ...given, body }),
    delete: (target, given) => request('DELETE', target, given),
    watch: (target, given = {}) => openWatch(open('GET', target, { ...given })),
    tryKubectl,
    async kubectl(words, given) {
      const { code, stdout, stderr } = await tryKubectl(words, given);
      if (code !== 0) throw new Error(`kubectl ${String(words)}: ${stderr}${stdout}`);
      return stdout;
    },
    lastSequence: () => reader.lastSequence(),
    credentials: credentialsOf,
    useTokenKeys: (keys) => server.useTokenKeys(keys),
    another: () => startApi(t, { ...options, natsUrl, prefix }),
    stop,
  };
}

/** The server as any NATS client sees it; closed when the test ends. */
export async function natsOf(t: Teardown, { natsUrl }: Pick<Api, 'natsUrl'>): Promise<NatsConnection> {
  const { host, username, password } = new URL(natsUrl);
  const login = username === '' ? {} : { user: decodeURIComponent(username), pass: decodeURIComponent(password) };
  const connection = await connect({ servers: host, ...login });
  t.teardown(() => connection.close());
  return connection;
}

async function collect(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function tryParse(text: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function openWatch(outgoing: ReturnType<typeof httpsRequest>): Promise<Watch> {
  return new Promise((resolve, reject) => {
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      const events: WatchEvent[] = [];
      let wake = () => undefined as void;
      let rest: string[] = [];
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        const lines = chunk.split('\n');
        const last = lines.pop() ?? '';
        for (const line of lines) {
          events.push(JSON.parse(rest.join('') + line) as WatchEvent);
          rest = [];
        }
        rest.push(last);
        wake();
      });
      const ended = new Promise<void>((done) => {
        response.once('close', done);
        response.once('end', done);
        response.on('error', () => done());
      });
      const real = () => events.filter(({ type }) => type !== 'BOOKMARK');
      resolve({
        events,
        status: response.statusCode ?? 0,
        ended,
        async until(count, timeoutMs = 8_000) {
          const deadline = Date.now() + timeoutMs;
          while (real().length < count) {
            if (Date.now() > deadline)
              throw new Error(`${real().length} events instead of ${count}: ${JSON.stringify(real()).slice(0, 2000)}`);
            await new Promise<void>((go) => {
              wake = go;
              setTimeout(go, 100);
            });
          }
          return real();
        },
        pause: () => response.pause(),
        resume: () => response.resume(),
        stop: () => outgoing.destroy(),
      });
    });
  });
}

export const configMap = (name: string, data: Record<string, string> = { a: '1' }, metadata: object = {}): Json => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, ...metadata },
  data,
});

export const pod = (name: string, spec: object = {}, metadata: object = {}): Json => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, ...metadata },
  spec: { containers: [{ name: 'main', image: 'busybox' }], ...spec },
});

export const deployment = (name: string, spec: object = {}, metadata: object = {}): Json => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, ...metadata },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: 'main', image: 'busybox:1' }] },
    },
    ...spec,
  },
});
