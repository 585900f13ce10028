/**
 * What a newcomer sees at the end of `npm start`: the example is applied with kubectl, waited for, requested through its Service, and the five commands to try next are printed.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DockerRuntime } from '../../runtime/docker/docker-runtime.ts';
import { adminIdentity, kubeconfigFile, type Instance } from '../instance.ts';
import { runCommand, runOrThrow } from '../set-up/command.ts';
import type { SetUp } from '../set-up/set-up.ts';
import { ensureHelloImage, helloImage } from './hello-image.ts';

export interface HelloOptions {
  readonly instance: Instance;
  readonly found: SetUp;
  readonly runtime: 'docker' | 'simulated';
  say(line: string): void;
  readonly signal: AbortSignal;
}

const example = path.join('examples', 'hello');
const rolloutSeconds = 120;
const nodeTimeout = '--timeout=30s';
const requestLimitMs = 20_000;

/** Never fails the start: what goes wrong with the example is said, and the instance runs on. */
export async function showHello(options: HelloOptions): Promise<void> {
  const { say, signal } = options;
  try {
    await hello(options);
  } catch (error) {
    if (signal.aborted) return;
    say(
      `\nThe example did not come up: ${error instanceof Error ? error.message : String(error)}\nReckon itself runs; \`kubectl describe deployment hello\` and the log tell more.\n`,
    );
  }
}

async function hello(options: HelloOptions): Promise<void> {
  const { instance, found, say, signal } = options;
  const kubeconfig = kubeconfigFile(instance.home, adminIdentity);
  const kubectl = [found.kubectl.path, '--kubeconfig', kubeconfig] as const;
  if (found.docker !== undefined && found.busybox !== undefined) {
    const { imported } = await ensureHelloImage(dockerRuntime(found.docker.host), found.busybox);
    if (imported) say(`hello: image ${helloImage} made`);
  }
  const [program, ...flags] = kubectl;
  // Where the node is not there yet the pods would begin with a warning that there is none.
  for (const what of ['create', 'condition=Ready'])
    await runCommand(program, [...flags, 'wait', `--for=${what}`, `node/${instance.settings.nodeName}`, nodeTimeout]);
  const root = process.env['RECKON_ROOT'] ?? process.cwd();
  const applied = await runOrThrow(program, [...flags, 'apply', '-f', path.join(root, example)]);
  for (const line of applied.trim().split('\n')) say(`hello: ${line}`);
  await showRollout(kubectl, options);
  signal.throwIfAborted();
  const address = await serviceAddress(kubectl);
  const answer = options.runtime === 'docker' && address !== undefined ? await request(address, signal) : undefined;
  summary({ options, kubeconfig, address, answer });
}

function dockerRuntime(host: string): DockerRuntime {
  const url = new URL(host);
  return url.protocol === 'unix:'
    ? new DockerRuntime({ socketPath: url.pathname })
    : new DockerRuntime({ host: url.hostname, port: url.port || 2375 });
}

/** kubectl's own words, line by line. */
async function showRollout(kubectl: readonly [string, ...string[]], options: HelloOptions): Promise<void> {
  const [program, ...flags] = kubectl;
  const child = spawn(program, [...flags, 'rollout', 'status', 'deployment/hello', `--timeout=${rolloutSeconds}s`], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: options.signal,
  });
  let said = '';
  const show = (chunk: Buffer): void => {
    said = chunk.toString().trim();
    for (const line of said.split('\n')) options.say(`hello: ${line}`);
  };
  child.stdout.on('data', show);
  child.stderr.on('data', show);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(said);
}

async function serviceAddress(kubectl: readonly [string, ...string[]]): Promise<string | undefined> {
  const [program, ...flags] = kubectl;
  const result = await runCommand(program, [
    ...flags,
    'get',
    'service',
    'hello',
    '--output=jsonpath={.spec.clusterIP}:{.spec.ports[0].port}',
  ]);
  return /^\d+\.\d+\.\d+\.\d+:\d+$/.test(result.stdout) ? `http://${result.stdout.replace(/:80$/, '')}/` : undefined;
}

/** The Service's addresses reach the kernel a moment after its pods are ready. */
async function request(url: string, signal: AbortSignal): Promise<string> {
  const untilMs = Date.now() + requestLimitMs;
  for (;;) {
    try {
      const response = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(2000)]) });
      if (response.ok) return (await response.text()).trim();
      throw new Error(`HTTP status ${response.status}`);
    } catch (error) {
      signal.throwIfAborted();
      if (Date.now() > untilMs) throw new Error(`its Service at ${url} did not answer`, { cause: error });
      await sleep(200);
    }
  }
}

function summary(parts: {
  options: HelloOptions;
  kubeconfig: string;
  address: string | undefined;
  answer: string | undefined;
}): void {
  const { options, address, answer } = parts;
  const { instance, say } = options;
  const shown = path.relative(process.cwd(), parts.kubeconfig);
  const kubeconfig = shown.startsWith('..') ? parts.kubeconfig : shown;
  const lines = [
    '',
    `Reckon runs: API server https://127.0.0.1:${instance.settings.ports.api}, node ${instance.settings.nodeName}, state in ${instance.home}`,
    ...(answer === undefined || address === undefined
      ? []
      : [`The example answers at ${address}`, ...answer.split('\n').map((line) => `    ${line}`)]),
    '',
    'Try next, in another terminal:',
    '',
    `    export KUBECONFIG=${kubeconfig} PATH="${path.join(path.dirname(kubeconfig), 'bin')}:$PATH"`,
    '    kubectl get all -o wide',
    '    kubectl scale deployment hello --replicas 5',
    '    kubectl logs -l app=hello --prefix',
    '    kubectl history deployment/hello            (and kubectl why pod/…; `reckon help` has the rest)',
    ...(address === undefined ? ['    kubectl get events'] : [`    curl ${address}`]),
    '',
    'Ctrl-C stops Reckon; the containers run on, and `npm start` finds them again.',
    '',
  ];
  for (const line of lines) say(line);
}
