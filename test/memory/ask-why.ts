/** Plays one scripted fault in a namespace of its own, takes all Events away, and holds what `reckon why` says against what it must say. Used by why.test.ts and test/prove/prove-why.ts. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runCommand } from '../../cli/set-up/command.ts';
import type { Json } from '../api-server/api.ts';
import { uniqueName } from '../harness/servers.ts';
import type { RunningReckon } from '../harness/start-reckon.ts';
import type { Fault, Scene } from './scripted-faults.ts';

const main = path.join(import.meta.dirname, '..', '..', 'cli', 'main.js');
const LIMIT_MS = 90_000;

/** What is wrong with the answer; empty when it is as it must be. */
export async function askWhy(reckon: RunningReckon, fault: Fault): Promise<string[]> {
  const endMs = Date.now() + LIMIT_MS;
  let last: string[] = [];
  try {
    const scene = await sceneOf(reckon);
    for (const object of fault.objects) await scene.kubectl('apply -f -', object);
    const about = await within(actAndName(scene, fault), fault.what);
    await scene.kubectl('delete events --all').catch(() => undefined);
    do {
      last = await complaintsOf(reckon, scene, about, fault);
      if (last.length === 0) return [];
      await sleep(500);
    } while (Date.now() < endMs);
    return last;
  } catch (error) {
    return [...last, error instanceof Error ? error.message : String(error)];
  }
}

const actAndName = async (scene: Scene, fault: Fault): Promise<string> =>
  (await fault.act?.(scene)) ?? (await onlyPod(scene));

/** What an act waits for may never come. */
async function within(act: Promise<string>, what: string): Promise<string> {
  const timeUp = new AbortController();
  const limit = sleep(LIMIT_MS, undefined, { signal: timeUp.signal }).then(() => {
    throw new Error(`${what}: it did not happen within ${LIMIT_MS / 1000} s`);
  });
  try {
    return await Promise.race([act, limit]);
  } finally {
    timeUp.abort();
    await limit.catch(() => undefined);
  }
}

async function sceneOf(reckon: RunningReckon): Promise<Scene> {
  const namespace = `why-${uniqueName().slice(-6)}`;
  const kubectl: Scene['kubectl'] = (words, input) =>
    reckon.kubectl(`-n ${namespace} ${words}`, input === undefined ? {} : { input });
  const pods: Scene['pods'] = async () =>
    (JSON.parse(await kubectl('get pods -o json')).items as Json[]).filter(
      ({ metadata }) => !metadata.deletionTimestamp,
    );
  await kubectl(`create namespace ${namespace}`);
  while ((await reckon.tryKubectl(`-n ${namespace} get serviceaccount default`)).code !== 0) await sleep(100);
  return {
    reckon,
    namespace,
    kubectl,
    pods,
    async running(name) {
      for (;;) {
        const found = (await pods()).find(
          ({ metadata, status }) =>
            (metadata.name === name || (metadata.name as string).startsWith(`${name}-`)) &&
            status.containerStatuses?.some(({ state }: Json) => state.running),
        );
        if (found) return found;
        await sleep(200);
      }
    },
    async docker(words) {
      const { code, stdout, stderr } = await runCommand('docker', words.split(' '), {
        timeoutMs: 30_000,
        environment: { DOCKER_HOST: reckon.dockerHost },
      });
      if (code !== 0) throw new Error(`docker ${words}: ${stderr}`);
      return stdout;
    },
  };
}

async function onlyPod({ pods, kubectl }: Scene): Promise<string> {
  for (;;) {
    const [first] = await pods();
    if (first) return `pod/${first.metadata.name}`;
    const { items } = JSON.parse(await kubectl('get pods -o json')) as { items: Json[] };
    if (items[0]) return `pod/${items[0].metadata.name}`;
    await sleep(200);
  }
}

async function complaintsOf(reckon: RunningReckon, scene: Scene, about: string, fault: Fault): Promise<string[]> {
  const say = (...more: string[]) =>
    runCommand(process.execPath, [main, 'why', about, '-n', scene.namespace, ...more], {
      timeoutMs: 30_000,
      environment: { KUBECONFIG: reckon.kubeconfig },
    });
  const told = await say();
  if (told.code !== 0) return [told.stderr];
  const unsaid = fault.says.filter((line) => !line.test(told.stdout));
  if (unsaid.length > 0) return unsaid.map((line) => `${String(line)} is not said in:\n${told.stdout}`);
  const why = JSON.parse((await say('-o', 'json')).stdout) as Json;
  const { actor, verb, object } = (why.end ?? why.chain).at(-1) as Json;
  const first = object ? `${actor} ${verb} ${object.kind} ${object.name}` : 'withheld or not kept';
  return fault.first.test(first) ? [] : [`the first cause is '${first}', expected ${String(fault.first)}`];
}
