/**
 * The faults that a whole instance is to outlive, as steps that a test takes few of and a proof many: processes killed in mid-rollout, servers stopped and killed, an engine that goes away. Each
 * returns what went wrong, as sentences. Used by faults.test.ts and by test/prove/prove-faults.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { deployment, idle, serve } from './manifests.ts';
import { isReady, until, type Space } from './stage.ts';
import { leftovers, Witness, type Testimony, type WitnessOptions } from './witness.ts';
import { Writer, type WriterReport } from './writers.ts';

/** Every process of an instance but the supervisor. */
export const PROCESSES = [
  'nats',
  'postgres',
  'api-server',
  'projection',
  'deployments',
  'services',
  'volumes',
  'pods',
  'controllers',
] as const;

export const REPLICAS = 3;
export const MINIMUM = 2;
export const CONVERGE_MS = 90_000;

/** A Deployment that must keep two of three pods available while it rolls. Asked by exec whether it is ready, or by HTTP: dockerd 20.10 hangs for 20 s over a container in which an exec was under way as it ended. */
export async function applyRolling(space: Space, { asked = 'exec' }: { asked?: 'exec' | 'http' } = {}): Promise<void> {
  const rollout = { strategy: { rollingUpdate: { maxUnavailable: REPLICAS - MINIMUM, maxSurge: 1 } } };
  const how = asked === 'exec' ? { exec: { command: ['true'] } } : { httpGet: { port: 8080 } };
  const container = { readinessProbe: { ...how, periodSeconds: 1, timeoutSeconds: 20 } };
  const script = asked === 'exec' ? idle : serve();
  await space.apply(deployment('web', { replicas: REPLICAS, script, container, rollout }));
  await space.untilRolledOut('web', { timeoutMs: CONVERGE_MS });
}

export interface FaultReport {
  readonly faults: readonly string[];
  readonly testimony: Testimony;
  readonly writing: WriterReport;
}

/** Makes the disturbance while the Deployment rolls and clients write, waits until all is well again by itself, and tells what went wrong. */
export async function disturbRollout(
  space: Space,
  disturb: () => Promise<void>,
  options: Partial<Pick<WitnessOptions, 'containersDie' | 'engineForgets' | 'minimum'>> = {},
): Promise<FaultReport> {
  const witness = new Witness({ space, app: 'web', minimum: MINIMUM, ...options });
  const writer = new Writer(space, `written-${Date.now()}`);
  await sleep(300);
  await space.kubectl('rollout restart deployment web');
  const faults: string[] = [];
  try {
    await disturb();
    await space.untilRolledOut('web', { timeoutMs: CONVERGE_MS });
    await untilTidy(space);
  } catch (error) {
    faults.push(error instanceof Error ? error.message : String(error));
    faults.push(...(await leftovers(space).catch((failure: unknown) => [String(failure)])));
    faults.push(...(await unready(space).catch((failure: unknown) => [String(failure)])));
  }
  const testimony = await witness.end();
  const writing = await writer.end();
  return { faults: [...faults, ...testimony.faults, ...writing.faults], testimony, writing };
}

/** What is known of pods that are not ready. */
async function unready(space: Space): Promise<string[]> {
  const pods = (await space.list('pods')).filter((pod) => !isReady(pod));
  return Promise.all(
    pods.map(async ({ metadata, status }) => {
      const events = await space.events(metadata.name);
      return `pod ${metadata.name} is not ready: ${JSON.stringify({ ...status, conditions: undefined, events })}`;
    }),
  );
}

/** Nothing in the engine but one running container a pod. */
export async function untilTidy(space: Space): Promise<void> {
  let left: string[] = [];
  const ask = async (): Promise<boolean> => {
    left = await leftovers(space);
    return left.length === 0;
  };
  await until('the engine to hold what the API says', ask, { timeoutMs: CONVERGE_MS, seen: () => left });
}

/** `kill -9`, each as near to the others as can be; they come back by themselves. */
export async function killProcesses(space: Space, names: readonly string[]): Promise<void> {
  const { reckon } = space.stage;
  const killed: [string, number][] = [];
  for (const name of names) {
    const pid = await reckon.pid(name);
    if (pid === undefined) continue;
    process.kill(pid, 'SIGKILL');
    killed.push([name, pid]);
  }
  for (const [name, pid] of killed) await reckon.restarted(name, pid, CONVERGE_MS);
}

/** Everything at once, the supervisor first, as when the machine's memory runs out; then `npm start` again. */
export async function killEverything(space: Space): Promise<void> {
  const { reckon } = space.stage;
  for (const name of ['supervisor', ...PROCESSES]) {
    const pid = await reckon.pid(name);
    if (pid !== undefined)
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It went with the supervisor.
      }
  }
  await sleep(500);
  await reckon.start();
}

/** A server that hangs: it holds its connections and says nothing. */
export async function hang(space: Space, name: string, timeMs: number): Promise<void> {
  const pid = await space.stage.reckon.kill(name, 'SIGSTOP');
  await sleep(timeMs);
  process.kill(pid, 'SIGCONT');
}

/** A server that is killed again as soon as it has come back, for so long. */
export async function keepDown(space: Space, name: string, timeMs: number): Promise<void> {
  const untilMs = Date.now() + timeMs;
  while (Date.now() < untilMs) {
    const pid = await space.stage.reckon.pid(name);
    if (pid !== undefined)
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Gone already.
      }
    await sleep(50);
  }
}
