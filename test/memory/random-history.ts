/**
 * A random history, written through the API, with what its answers said after each write: the record that reads of the past are held against. Used by at.test.ts and test/prove/prove-at.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer, Json } from '../api-server/api.ts';
import type { Stage } from './stage.ts';

/** mulberry32 */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

export const NAMESPACES = ['blue', 'green'];
export const KINDS = [
  { root: '/api/v1', resource: 'configmaps', kind: 'ConfigMap', apiVersion: 'v1' },
  { root: '/api/v1', resource: 'secrets', kind: 'Secret', apiVersion: 'v1' },
  { root: '/apis/apps/v1', resource: 'deployments', kind: 'Deployment', apiVersion: 'apps/v1' },
] as const;
export type Kind = (typeof KINDS)[number];

/** What stood after each write, as the answers told it. */
export interface Step {
  readonly revision: number;
  /** Between this write and the next. */
  readonly time: string;
  readonly alive: ReadonlyMap<string, Json>;
}

function objectOf(kind: Kind, name: string, value: string): Json {
  const base = { apiVersion: kind.apiVersion, kind: kind.kind, metadata: { name } };
  if (kind.kind === 'ConfigMap') return { ...base, data: { value } };
  if (kind.kind === 'Secret') return { ...base, stringData: { value } };
  const labels = { app: name };
  const template = { metadata: { labels }, spec: { containers: [{ name: 'main', image: `app:${value}` }] } };
  return { ...base, spec: { replicas: value.length, selector: { matchLabels: labels }, template } };
}

export async function writeHistory({ api }: Pick<Stage, 'api'>, writes: number, seed: number): Promise<Step[]> {
  const random = randomFrom(seed);
  const alive = new Map<string, Json>();
  const steps: Step[] = [];
  for (let count = 0; count < writes; count++) {
    const kind = KINDS[random(KINDS.length)]!;
    const namespace = NAMESPACES[random(2)]!;
    const name = `thing-${random(6)}`;
    const id = `${kind.resource}/${namespace}/${name}`;
    const collection = `${kind.root}/namespaces/${namespace}/${kind.resource}`;
    const known = alive.get(id);
    let answer: Answer;
    if (known === undefined) answer = await api.post(collection, objectOf(kind, name, `v${count}`));
    else if (random(4) === 0) answer = await api.delete(`${collection}/${name}?propagationPolicy=Background`);
    else if (kind.kind === 'Deployment' && random(2) === 0)
      answer = await api.patch(`${collection}/${name}/status`, 'merge', { status: { replicas: count } });
    else answer = await api.patch(`${collection}/${name}`, 'merge', { metadata: { labels: { step: `s${count}` } } });
    if (answer.status >= 300) throw new Error(answer.text);
    if (answer.body.kind === 'Status') alive.delete(id);
    else alive.set(id, answer.body);
    await sleep(3);
    steps.push({
      revision: Number(answer.headers['reckon-revision']),
      time: new Date().toISOString(),
      alive: new Map(alive),
    });
    await sleep(3);
  }
  return steps;
}

export const expectedList = (step: Step, kind: Kind, namespace: string): Json[] =>
  [...step.alive]
    .filter(([id]) => id.startsWith(`${kind.resource}/${namespace}/`))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, object]) => object);
