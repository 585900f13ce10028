/** An instance whose events somebody outside follows over NATS, with credentials that `reckon consumer` gave. Used by the tests of event consumers. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { connect, credsAuthenticator, type JsMsg, type NatsConnection } from 'nats';
import { runCommand, type CommandResult } from '../../cli/set-up/command.ts';
import type { Json } from '../api-server/api.ts';
import type { Teardown } from '../harness/servers.ts';
import type { RunningReckon } from '../harness/start-reckon.ts';

/** Long where all cores are busy. */
const CONNECT_MS = 60_000;
const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');

export interface Stage {
  readonly reckon: RunningReckon;
  /** Where NATS is. */
  readonly servers: string;
  /** `reckon …` as a user types it. */
  say(...words: string[]): Promise<CommandResult>;
  creds(name: string): string;
}

export interface Consumer {
  readonly nats: NatsConnection;
  readonly durable: string;
  /** Takes what is there, or as many of it, acknowledging. */
  drain(count?: number): Promise<JsMsg[]>;
  ask(subject: string, body?: string): Promise<string>;
}

export async function consumerOf(t: Teardown, stage: Stage, name: string, namespace = 'shop'): Promise<Consumer> {
  const { stdout, stderr } = await stage.say('consumer', 'get', name, '-n', namespace, '-o', 'json');
  if (stdout === '') throw new Error(stderr);
  const { durable } = JSON.parse(stdout).position;
  const credentials = await readFile(stage.creds(name));
  const nats = await connect({
    servers: stage.servers,
    authenticator: credsAuthenticator(credentials),
    inboxPrefix: `_INBOX_${durable}`,
    timeout: CONNECT_MS,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 200,
    noAsyncTraces: true,
  });
  t.teardown(() => nats.close());
  const consumer = await nats.jetstream({ apiPrefix: 'RECKON.API' }).consumers.get('RECKON', durable);
  return {
    nats,
    durable,
    async drain(count = 500) {
      const got: JsMsg[] = [];
      const { num_pending: there } = await consumer.info();
      if (there === 0) return got;
      for await (const message of await consumer.fetch({ max_messages: Math.min(count, there), expires: 5_000 })) {
        await message.ackAck();
        got.push(message);
      }
      return got;
    },
    ask: async (subject, body = '') => (await nats.request(subject, body, { timeout: 3_000 })).string(),
  };
}

/** `<resource>/<namespace>/<name>` of each. */
export const names = (messages: readonly JsMsg[]): string[] =>
  messages
    .map(({ subject }) => subject.split('.').slice(3).join('/'))
    .filter((name) => !name.startsWith('eventconsumers/'));

/** `servers`: absent, the embedded one. */
export function stageOf(reckon: RunningReckon, servers = `127.0.0.1:${reckon.instance.settings.ports.nats}`): Stage {
  const environment = { KUBECONFIG: reckon.kubeconfig };
  return {
    reckon,
    servers,
    creds: (name) => path.join(reckon.home, `${name}.creds`),
    say: (...words) =>
      runCommand(process.execPath, [main, ...words], { timeoutMs: 60_000, environment, cwd: reckon.home }),
  };
}

export const configMap = (name: string, value = '1'): Json => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name },
  data: { value },
});
