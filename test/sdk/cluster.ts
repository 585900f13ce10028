/**
 * A cluster for tests of controllers: a real nats-server and a real API server, and an identity for whoever asks for one. No node agent: tests play the node's part with `setPodReady`.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import { startApiServer } from '../../api-server/main.ts';
import { createAuthority, issueCertificate } from '../../cli/instance/certificates.ts';
import { writeKubeconfig } from '../../cli/instance/kubeconfig.ts';
import { type AnyController } from '../../sdk/controller-loop.ts';
import {
  createLogger,
  HttpClient,
  type Logger,
  readKubeconfig,
  runControllers,
  type RunningControllers,
  type RunOptions,
  timestamp,
} from '../../sdk/index.ts';
import { type NatsChild, startNatsChild } from '../event-log/nats-child.ts';

export const PODS = { group: '', version: 'v1', resource: 'pods' };

export interface TestCluster {
  readonly nats: NatsChild;
  readonly logger: Logger;
  readonly admin: HttpClient;
  readonly folder: string;
  kubeconfig(identity: string): Promise<string>;
  run(controllers: readonly AnyController[], options?: Partial<RunOptions>): Promise<RunningControllers>;
  stopApiServer(): Promise<void>;
  startApiServer(): Promise<void>;
  remove(): Promise<void>;
}

/** They have roles of their own; a controller that only a test knows may do everything. */
const BUILT_IN = new Set(['deployments', 'replicasets'].map((name) => `system:controller:${name}`));

export async function startCluster(): Promise<TestCluster> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'reckon-sdk-'));
  const nats = await startNatsChild();
  const logger = createLogger({ name: 'test', level: process.env['RECKON_LOG_LEVEL'] ?? 'silent' });
  const authority = createAuthority('test', Date.now());
  const serving = issueCertificate(
    authority,
    { commonName: 'reckon-api-server', organizations: [], hosts: ['127.0.0.1', 'localhost'] },
    Date.now(),
  );
  const secretsKey = randomBytes(32);
  const serve = (port: number) =>
    startApiServer({
      natsUrl: nats.url,
      tls: { ca: authority.cert, ...serving },
      host: '127.0.0.1',
      port,
      secretsKey,
      serviceCidr: '10.96.0.0/20',
      nodePortRange: [30000, 32767],
      demandsServiceAccounts: false,
      logger,
    });
  let server: Awaited<ReturnType<typeof startApiServer>> | undefined = await serve(0);
  const port = server.port;
  const kubeconfig = async (identity: string): Promise<string> => {
    const file = path.join(folder, identity.replaceAll(':', '-'));
    const organizations = BUILT_IN.has(identity) ? ['system:controllers'] : ['system:masters'];
    const credentials = issueCertificate(authority, { commonName: identity, organizations, hosts: [] }, Date.now());
    await writeKubeconfig(file, {
      server: `https://127.0.0.1:${port}`,
      ca: authority.cert,
      user: identity,
      credentials,
    });
    return file;
  };
  const admin = new HttpClient({ access: readKubeconfig(await kubeconfig('admin')), userAgent: 'test' });
  const running: RunningControllers[] = [];
  return {
    nats,
    logger,
    admin,
    folder,
    kubeconfig,
    async run(controllers, options = {}) {
      const files = new Map<string, string>();
      for (const { name } of controllers) files.set(name, await kubeconfig(`system:controller:${name}`));
      const started = await runControllers(controllers, {
        kubeconfig: (name) => files.get(name) ?? '',
        natsUrl: nats.url,
        logger,
        leaderElection: false,
        ...options,
      });
      running.push(started);
      return started;
    },
    async stopApiServer() {
      await server?.stop();
      server = undefined;
    },
    async startApiServer() {
      server = await serve(port);
    },
    async remove() {
      await Promise.all(running.map((each) => each.stop()));
      admin.close();
      await server?.stop();
      await nats.remove();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Asks until the answer satisfies; throws with the last answer when that takes too long. */
export async function eventually<T>(
  ask: () => Promise<T> | T,
  satisfies: (answer: T) => boolean,
  timeoutMs = 15_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (satisfies(answer)) return answer;
    if (Date.now() > deadline)
      throw new Error(`not within ${timeoutMs} ms; last seen: ${JSON.stringify(answer, undefined, 1)?.slice(0, 3000)}`);
    await sleep(20);
  }
}

/** The node's part: the pod runs and is ready, or not. */
export async function setPodReady(admin: HttpClient, pod: Pod, ready = true): Promise<void> {
  const condition = { type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: timestamp(Date.now()) };
  const { name, namespace = '' } = pod.metadata;
  await admin.patch(
    { resource: PODS, namespace, name, subresource: 'status' },
    { status: { phase: 'Running', conditions: [condition] } },
  );
}
