/**
 * Writes ConfigMaps all the time that faults are made, as a careful client would, and keeps what was acknowledged: none of it may be missing afterwards. Speaks HTTPS itself, without the SDK's
 * retries, so that every answer is seen as it came. Used by faults.test.ts and by prove-faults.ts.
 */
import https from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { readKubeconfig } from '../../sdk/index.ts';
import { until, type Json, type Space } from './stage.ts';

export interface Answer {
  readonly code: number;
  readonly retryAfter: string | undefined;
  readonly body: Json;
  readonly tookMs: number;
}

export interface WriterReport {
  readonly acknowledged: number;
  /** Answered 503 (or 429), with a Retry-After. */
  readonly turnedAway: number;
  /** No answer at all: the connection broke, or was refused. */
  readonly unanswered: number;
  /** An end of time that the server named: what was written may stand or not. */
  readonly unknown: number;
  readonly slowestMs: number;
  /** Sentences; empty when everything held. */
  readonly faults: readonly string[];
}

const REQUEST_LIMIT_MS = 60_000;
/** Each write makes a connection of its own, which costs both sides some 10 ms of processor time. */
const PAUSE_MS = 150;

/** By the kubeconfig's file. Each call has a connection of its own all the same. */
const accesses = new Map<string, { server: string; agent: https.Agent }>();

function accessOf(kubeconfig: string): { server: string; agent: https.Agent } {
  const known = accesses.get(kubeconfig);
  if (known !== undefined) return known;
  const { server, ca, cert, key } = readKubeconfig(kubeconfig);
  const agent = new https.Agent({ keepAlive: false, ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) });
  const access = { server, agent };
  accesses.set(kubeconfig, access);
  return access;
}

export function request(
  kubeconfig: string,
  options: { method: string; path: string; body?: unknown; timeoutMs?: number },
): Promise<Answer> {
  const { server, agent } = accessOf(kubeconfig);
  const startedMs = Date.now();
  return new Promise((resolve, reject) => {
    const call = https.request(
      `${server}${options.path}`,
      {
        method: options.method,
        agent,
        headers: { 'content-type': 'application/json' },
        timeout: options.timeoutMs ?? REQUEST_LIMIT_MS,
      },
      (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('error', reject);
        response.on('end', () => {
          let body: Json;
          try {
            body = JSON.parse(text);
          } catch {
            body = text;
          }
          const retryAfter = response.headers['retry-after'];
          resolve({ code: response.statusCode ?? 0, retryAfter, body, tookMs: Date.now() - startedMs });
        });
      },
    );
    call.on('timeout', () => call.destroy(new Error('no answer within the limit')));
    call.on('error', reject);
    call.end(options.body === undefined ? undefined : JSON.stringify(options.body));
  });
}

/** Several of these may write at once, each its own objects. */
export class Writer {
  readonly #space: Space;
  /** The last value that was acknowledged, by object; then every value after it whose fate is unknown. */
  readonly #known = new Map<string, { acknowledged: number; tried: number; version: string | undefined }>();
  readonly #faults: string[] = [];
  readonly #work: Promise<void>;
  #ending = false;
  #count = { acknowledged: 0, turnedAway: 0, unanswered: 0, unknown: 0, slowestMs: 0 };

  constructor(space: Space, name: string, objects = 5) {
    this.#space = space;
    for (let index = 0; index < objects; index++)
      this.#known.set(`${name}-${index}`, { acknowledged: 0, tried: 0, version: undefined });
    this.#work = this.#write();
  }

  /** Ends the writing, and holds what is there against what was acknowledged. */
  async end(): Promise<WriterReport> {
    this.#ending = true;
    await this.#work;
    for (const [name, { acknowledged, tried }] of this.#known) {
      const found = await until(`${name} to be read`, async () => ({
        object: await this.#space.get('configmaps', name),
      }));
      const value = Number(found.object?.data?.value ?? 0);
      if (value < acknowledged) this.#faults.push(`${name} has ${value}, and ${acknowledged} was acknowledged`);
      if (value > tried) this.#faults.push(`${name} has ${value}, which nobody wrote`);
    }
    return { ...this.#count, faults: this.#faults };
  }

  async #write(): Promise<void> {
    const names = [...this.#known.keys()];
    for (let turn = 0; !this.#ending; turn++) {
      await this.#writeOne(names[turn % names.length] ?? '');
      await sleep(PAUSE_MS);
    }
  }

  async #writeOne(name: string): Promise<void> {
    const known = this.#known.get(name);
    if (known === undefined) return;
    const value = known.tried + 1;
    const { namespace } = this.#space;
    const object = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace, ...(known.version === undefined ? {} : { resourceVersion: known.version }) },
      data: { value: String(value) },
    };
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const call =
      known.version === undefined
        ? { method: 'POST', path, body: object }
        : { method: 'PUT', path: `${path}/${name}`, body: object };
    known.tried = value;
    let answer: Answer;
    try {
      answer = await request(this.#space.stage.reckon.kubeconfig, call);
    } catch {
      this.#count.unanswered++;
      await this.#lookAgain(name, known);
      return;
    }
    this.#count.slowestMs = Math.max(this.#count.slowestMs, answer.tookMs);
    if (answer.code === 200 || answer.code === 201) {
      this.#count.acknowledged++;
      known.acknowledged = value;
      known.version = answer.body.metadata.resourceVersion;
    } else if (answer.code === 503 || answer.code === 429) {
      this.#count.turnedAway++;
      if (answer.retryAfter === undefined)
        this.#faults.push(`a ${answer.code} without Retry-After: ${JSON.stringify(answer.body)}`);
      if (answer.body?.kind !== 'Status' || !answer.body.message)
        this.#faults.push(`a ${answer.code} without a reason: ${JSON.stringify(answer.body)}`);
      await this.#lookAgain(name, known);
    } else if (answer.code === 504) {
      this.#count.unknown++;
      await this.#lookAgain(name, known);
    } else if (answer.code === 409) {
      // Only a write of our own, whose answer was lost, can have come between.
      await this.#lookAgain(name, known);
    } else this.#faults.push(`an answer that nobody can use: ${answer.code} ${JSON.stringify(answer.body)}`);
  }

  /** Reads what stands, once that can be read. */
  async #lookAgain(name: string, known: { version: string | undefined }): Promise<void> {
    for (;;) {
      const path = `/api/v1/namespaces/${this.#space.namespace}/configmaps/${name}`;
      const found = await request(this.#space.stage.reckon.kubeconfig, { method: 'GET', path }).catch(() => undefined);
      if (found?.code === 200) {
        known.version = found.body.metadata.resourceVersion;
        return;
      }
      if (found?.code === 404) {
        known.version = undefined;
        return;
      }
      if (this.#ending) return;
      await sleep(PAUSE_MS);
    }
  }
}
