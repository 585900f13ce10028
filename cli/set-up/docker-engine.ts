/**
 * The container engine: whatever answers at DOCKER_HOST or /var/run/docker.sock, else Debian's docker.io, started by the machine's init or, where none runs, by
 * hand, detached: containers must go on running when Reckon's control plane stops.
 */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { existsSync } from 'node:fs';
import { findProgram, runCommand } from './command.ts';
import { containerdAddress, ensureContainerd, startDetached } from './containerd.ts';
import { asRoot, requireRoot } from './privilege.ts';
import { SetUpError, type Requirement, type SetUpContext } from './requirement.ts';

export interface DockerEngine {
  /** As DOCKER_HOST has it: `unix:///var/run/docker.sock`. */
  readonly host: string;
  readonly version: string;
}

const defaultHost = 'unix:///var/run/docker.sock';
const logFile = '/var/log/reckon-dockerd.log';
const startLimitMs = 60_000;

export const dockerEngine: Requirement<DockerEngine> = {
  name: 'Docker engine',
  async find() {
    const host = process.env['DOCKER_HOST'] || defaultHost;
    const version = await engineVersion(host);
    return version === undefined ? undefined : { host, version };
  },
  describe: (found) => `${found.version} (${found.host})`,
  async install(context) {
    if (process.env['DOCKER_HOST'])
      throw new SetUpError(
        `No Docker engine answers at DOCKER_HOST=${process.env['DOCKER_HOST']}: start it there, or unset DOCKER_HOST to use this machine's own.`,
      );
    if ((await findProgram('dockerd')) === undefined) throw new SetUpError(dockerEngine.otherwise);
    await startEngine(context);
  },
  otherwise:
    'No Docker engine answers and none could be brought: install one (Debian: apt-get install docker.io), or point DOCKER_HOST at one, or start with --runtime simulated, which runs everything but containers.',
};

/** The packages are wanted only where neither an engine answers nor its program is there. */
export async function enginePackages(): Promise<readonly string[]> {
  if (process.env['DOCKER_HOST'] || (await engineVersion(defaultHost)) !== undefined) return [];
  return (await findProgram('dockerd')) === undefined ? ['docker.io', 'iptables'] : [];
}

async function startEngine(context: SetUpContext): Promise<void> {
  const prefix = await requireRoot('sudo service docker start && sudo usermod -aG docker "$USER" && newgrp docker');
  context.say('Docker engine: starting …');
  if (existsSync('/run/systemd/system')) {
    const [command = '', ...args] = [...prefix, 'systemctl', 'start', 'docker'];
    await runCommand(command, args);
  } else {
    await startByHand(prefix);
  }
  const untilMs = Date.now() + startLimitMs;
  while ((await engineVersion(defaultHost)) === undefined) {
    if (Date.now() > untilMs)
      throw new SetUpError(
        `dockerd was started but does not answer at ${defaultHost}; its log is ${logFile}. Mend it, or start with --runtime simulated.`,
      );
    await sleep(200);
  }
  if ((await asRoot()) === undefined) throw new SetUpError(dockerEngine.otherwise);
}

/** `--live-restore`: containers go on while dockerd itself restarts; the containerd of its own keeps them in sight when it is killed. */
async function startByHand(prefix: readonly string[]): Promise<void> {
  await ensureContainerd(prefix);
  await startDetached([...prefix, 'dockerd', '--live-restore', `--containerd=${containerdAddress}`], logFile);
}

async function engineVersion(host: string): Promise<string | undefined> {
  const answer = await dockerRequest({ host, method: 'GET', path: '/version' }).catch(() => undefined);
  if (answer?.status !== 200) return undefined;
  return (JSON.parse(answer.body) as { Version?: string }).Version;
}

export interface DockerRequest {
  readonly host: string;
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: Uint8Array;
  readonly contentType?: string;
}

/** One plain request to the engine: enough to see whether it is there and to load an image; everything else goes through `runtime/`. */
export function dockerRequest(options: DockerRequest): Promise<{ status: number; body: string }> {
  const url = new URL(options.host);
  const place =
    url.protocol === 'unix:' ? { socketPath: url.pathname } : { host: url.hostname, port: url.port || '2375' };
  return new Promise((resolve, reject) => {
    const request = http.request(
      {
        ...place,
        method: options.method,
        path: options.path,
        timeout: 30_000,
        headers: options.contentType === undefined ? {} : { 'Content-Type': options.contentType },
      },
      (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
        response.on('error', reject);
      },
    );
    request.on('timeout', () => request.destroy(new Error('the Docker engine did not answer in time')));
    request.on('error', reject);
    request.end(options.body);
  });
}
