/** Tries a probe once, or runs a hook: exec in the container, HTTP, TCP or gRPC to the pod's address. Called by the agent's operations. */
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import type { Readable } from 'node:stream';
import type {
  Container as PodContainer,
  GRPCAction,
  HTTPGetAction,
  LifecycleHandler,
  Probe,
} from '../../api-schemas/types/core-v1.ts';
import { RuntimeUnavailableError, type ContainerRuntime } from '../../runtime/container-runtime.ts';

export interface ProbeOutcome {
  readonly success: boolean;
  readonly message: string;
}

export interface ProbeTarget {
  readonly runtime: ContainerRuntime;
  readonly containerId: string;
  readonly container: PodContainer;
  readonly address: string;
  readonly timeoutMs: number;
}

/** What is kept of a probe's output. */
const MAX_OUTPUT_BYTES = 10 * 1024;
const MAX_BODY_BYTES = 10 * 1024;

/** `unknown` where the engine is away or hangs: that says nothing of the container, and counts for nothing, as in Kubernetes. */
export async function tryProbe(
  probe: Probe | LifecycleHandler,
  target: ProbeTarget,
): Promise<ProbeOutcome | 'unknown'> {
  // A simulated engine has nothing to ask.
  if (target.runtime.kind === 'simulated') return { success: true, message: '' };
  try {
    if (probe.exec !== undefined) return await tryExec(probe.exec.command ?? [], target);
    if (probe.httpGet !== undefined) return await tryHttp(probe.httpGet, target);
    if (probe.tcpSocket !== undefined)
      return await tryTcp(
        probe.tcpSocket.host || target.address,
        portOf(probe.tcpSocket.port, target.container),
        target.timeoutMs,
      );
    if ('grpc' in probe && probe.grpc !== undefined) return await tryGrpc(probe.grpc, target);
    return { success: true, message: '' };
  } catch (error) {
    if (error instanceof RuntimeUnavailableError) return 'unknown';
    return { success: false, message: error instanceof Error ? error.message : String(error) };
  }
}

function portOf(port: number | string, container: PodContainer): number {
  if (typeof port === 'number') return port;
  const named = container.ports?.find(({ name }) => name === port)?.containerPort ?? Number(port);
  if (Number.isNaN(named)) throw new Error(`the container has no port named "${port}"`);
  return named;
}

async function tryExec(command: readonly string[], target: ProbeTarget): Promise<ProbeOutcome> {
  const session = await target.runtime.exec(target.containerId, { command });
  let output = '';
  const collect = (stream: Readable): void => {
    stream.on('data', (chunk: Buffer) => {
      if (output.length < MAX_OUTPUT_BYTES) output += chunk.toString('utf8').slice(0, MAX_OUTPUT_BYTES - output.length);
    });
  };
  collect(session.stdout);
  collect(session.stderr);
  let timer: NodeJS.Timeout | undefined;
  const timedOut = new Promise<'timeout'>(
    (resolve) => (timer = setTimeout(() => resolve('timeout'), target.timeoutMs)),
  );
  session.exitCode.catch(() => undefined);
  try {
    const exitCode = await Promise.race([session.exitCode, timedOut]);
    if (exitCode === 'timeout') return { success: false, message: `command ${JSON.stringify(command)} timed out` };
    return { success: exitCode === 0, message: output.trim() };
  } finally {
    clearTimeout(timer);
    session.close();
  }
}

function tryHttp(action: HTTPGetAction, target: ProbeTarget): Promise<ProbeOutcome> {
  const secure = action.scheme === 'HTTPS';
  const host = action.host || target.address;
  const port = portOf(action.port, target.container);
  const path =
    action.path === undefined || action.path === ''
      ? '/'
      : action.path.startsWith('/')
        ? action.path
        : `/${action.path}`;
  const headers: Record<string, string> = { 'user-agent': 'kube-probe/1.32', accept: '*/*', connection: 'close' };
  for (const { name, value } of action.httpHeaders ?? []) headers[name.toLowerCase()] = value;
  const url = `${secure ? 'https' : 'http'}://${host}:${port}${path}`;
  return new Promise((resolve, reject) => {
    const options = { host, port, path, headers, agent: false, signal: AbortSignal.timeout(target.timeoutMs) } as const;
    const onResponse = (response: http.IncomingMessage): void => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        if (body.length < MAX_BODY_BYTES) body += chunk.toString('utf8');
      });
      response.on('error', reject);
      response.on('end', () => {
        const status = response.statusCode ?? 0;
        const success = status >= 200 && status < 400;
        resolve({ success, message: success ? body : `HTTP probe failed with statuscode: ${status}` });
      });
    };
    const request = secure
      ? https.get({ ...options, rejectUnauthorized: false }, onResponse)
      : http.get(options, onResponse);
    request.on('error', (error) =>
      reject(new Error(`Get "${url}": ${error.name === 'AbortError' ? 'context deadline exceeded' : error.message}`)),
    );
  });
}

function tryTcp(host: string, port: number, timeoutMs: number): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port, timeout: timeoutMs });
    const end = (outcome: ProbeOutcome): void => {
      socket.destroy();
      resolve(outcome);
    };
    socket.on('connect', () => end({ success: true, message: '' }));
    socket.on('timeout', () => end({ success: false, message: `dial tcp ${host}:${port}: i/o timeout` }));
    socket.on('error', (error) => end({ success: false, message: `dial tcp ${host}:${port}: ${error.message}` }));
  });
}

/** `grpc.health.v1.Health/Check`: one string in field 1 asks, one enum in field 1 answers; 1 is SERVING. */
function tryGrpc(action: GRPCAction, target: ProbeTarget): Promise<ProbeOutcome> {
  return new Promise((resolve, reject) => {
    const session = http2.connect(`http://${target.address}:${action.port}`);
    const timer = setTimeout(
      () => session.destroy(new Error('timeout: health rpc did not complete')),
      target.timeoutMs,
    );
    session.on('error', reject);
    session.on('close', () => clearTimeout(timer));
    const service = Buffer.from(action.service ?? '', 'utf8');
    const message = service.length === 0 ? service : Buffer.concat([Buffer.from([0x0a, service.length]), service]);
    const frame = Buffer.alloc(5 + message.length);
    frame.writeUInt32BE(message.length, 1);
    message.copy(frame, 5);
    const stream = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    stream.on('end', () => {
      session.close();
      const answer = Buffer.concat(chunks);
      const serving = answer.length >= 7 && answer[5] === 0x08 && answer[6] === 1;
      resolve({ success: serving, message: serving ? '' : 'service unhealthy (responded with other than "SERVING")' });
    });
    stream.end(frame);
  });
}
